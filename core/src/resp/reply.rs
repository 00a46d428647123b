//! Flat replies: the nodes of the tree in pre-order.

use alloc::string::String;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::error::ServerError;

/// One node of a reply. Aggregates carry how many children follow them (a map of `n` entries: `2n`).
#[derive(Clone, Debug, PartialEq)]
pub enum ReplyNode {
    /// RESP3 `_`, RESP2 `$-1` and `*-1`.
    Null,
    /// `#t`, `#f`.
    Boolean(bool),
    /// `:`.
    Integer(i64),
    /// `,`, with `inf`, `-inf` and `nan`.
    Double(f64),
    /// `(`: the digits as sent, with their sign.
    BigNumber(String),
    /// `+`.
    SimpleString(Bytes),
    /// `$`, streamed strings included.
    BulkString(Bytes),
    /// `=`: the three-letter format (`txt`, `mkd`) and the text.
    Verbatim { format: [u8; 3], text: Bytes },
    /// `-` and `!`.
    Error(ServerError),
    /// `*`.
    Array(u32),
    /// `~`.
    Set(u32),
    /// `%`: the number of entries; two children each.
    Map(u32),
    /// `>`: only as the root.
    Push(u32),
    /// `|`: the number of entries; two children each. Stands before the node that it describes, and does not
    /// count as a child of the aggregate around it.
    Attribute(u32),
}

/// A reply: its root, then its descendants, in pre-order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reply {
    /// The nodes. Never empty in a reply that the decoder made.
    pub nodes: Vec<ReplyNode>,
}
