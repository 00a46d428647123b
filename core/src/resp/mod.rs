//! The wire protocol: RESP2 and RESP3, complete.
//!
//! Source: the [RESP specification](https://redis.io/docs/latest/develop/reference/protocol-spec/)
//! and the [RESP3 specification](https://github.com/antirez/RESP3/blob/master/spec.md), which alone
//! describes streamed strings and streamed aggregates. Requests go out as arrays of bulk strings
//! ([`encode_command`]); replies come in any pieces and leave the [`Decoder`] whole: as they were
//! sent ([`RawReply`]), or flat ([`Reply`]), to be read with [`ReplyRef`].

mod decode;
mod double;
mod encode;
mod frames;
mod raw;
mod reply;
mod request;

pub(crate) use decode::Held;
pub use decode::{
    Begun, DEPTH_READ_MAX, DecodeError, Decoder, Frame, LINE_LENGTH_MAX, Limits, Meter, NODE_COST,
};
pub(crate) use double::parse_double;
pub(crate) use encode::put_integer_line;
pub use encode::{decode_command, encode_command, encoded_length};
pub use frames::Frames;
pub use raw::{Item, RawReply, Token, Tokens, items};
pub use reply::{Children, Entries, Reply, ReplyNode, ReplyRef, subtree_length};
pub use request::{RequestError, take_request};
