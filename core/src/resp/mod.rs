//! The wire protocol: RESP2 and RESP3, complete.
//!
//! Source: the [RESP specification](https://redis.io/docs/latest/develop/reference/protocol-spec/) and the
//! [RESP3 specification](https://github.com/antirez/RESP3/blob/master/spec.md), which alone describes streamed
//! strings and streamed aggregates. Requests go out as arrays of bulk strings ([`encode_command`]); replies come
//! in any pieces and leave the [`Decoder`] whole and flat ([`Reply`]), to be read with [`ReplyRef`].

mod decode;
mod encode;
mod reply;

pub use decode::{DecodeError, Decoder, Frame, LINE_LENGTH_MAX, Limits, NODE_COST};
pub use encode::{decode_command, encode_command, encoded_length};
pub use reply::{Children, Entries, Reply, ReplyNode, ReplyRef, subtree_length};
