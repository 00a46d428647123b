//! The wire protocol: RESP2 and RESP3, complete.
//!
//! Source: the RESP specification (redis.io, "Redis serialization protocol specification") and the RESP3
//! specification (antirez/RESP3). Requests go out as arrays of bulk strings ([`encode`]); replies come in
//! any pieces and leave the [`Decoder`] whole and flat ([`Reply`]).

mod decode;
mod encode;
mod reply;

pub use decode::{DecodeError, Decoder, Frame, Limits};
pub use encode::{encode_command, encoded_length};
pub use reply::{Reply, ReplyNode};
