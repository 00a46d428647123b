//! How much of an untrusted server's bytes the decoder accepts.

use super::DecodeError;

/// The longest line, in bytes between the type byte and CR LF, and the longest error text (`!`).
///
/// Lines carry numbers and status texts, of which servers send a few dozen bytes. Errors are the
/// exception: a script's error quotes the script, and an unknown command's its arguments. One MiB
/// is far above both, and what is longer has no line structure at all.
pub const LINE_LENGTH_MAX: usize = 1 << 20;

/// What one node counts in [`Limits::reply_size`], in bytes, besides its bytes on the wire. No less
/// than the size of a [`ReplyNode`](crate::resp::ReplyNode).
pub const NODE_COST: u64 = 64;

/// How many aggregates may lie within each other in a reply that is nested deeper than
/// [`Limits::depth`], so that it is still read to its end.
///
/// Each costs the decoder a few bytes while the reply comes in. No server's reply and no script's
/// has more: Lua's nest a few hundred deep at most.
pub const DEPTH_READ_MAX: u32 = 1_024;

/// What the decoder accepts. The first reply beyond a limit fails the connection, since what
/// follows it cannot be found without reading it. Only of one that is nested too deep all is read,
/// and dropped as it comes, if it keeps to the other limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How many aggregates may lie within each other. Zero allows none at all. Default: 32;
    /// servers' own replies use up to about 8, scripts can make more. A reply with more, up to
    /// [`DEPTH_READ_MAX`], is dropped.
    pub depth: u32,
    /// The longest bulk or verbatim string, in bytes. Default: 512 MiB, as servers'
    /// `proto-max-bulk-len`.
    pub bulk_length: u64,
    /// The most nodes of one reply, attributes included. Default: 16,777,216.
    pub elements: u32,
    /// The largest reply, in bytes: as it is sent, plus [`NODE_COST`] for each node. Default: 256
    /// MiB, so that a reply, its parts and its copy for the caller fit into a component of 1
    /// GiB.
    pub reply_size: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { depth: 32, bulk_length: 512 << 20, elements: 16 << 20, reply_size: 256 << 20 }
    }
}

/// How long a line may get, and which limit says so.
#[derive(Clone, Copy, Debug)]
pub(super) struct LineLimit {
    length: usize,
    reply_size: Option<u64>,
}

impl LineLimit {
    /// The limit of a line in a reply that has `left` of `limits.reply_size` to go.
    pub(super) fn new(left: u64, limits: &Limits) -> Self {
        match usize::try_from(left) {
            Ok(left) if left < LINE_LENGTH_MAX => Self { length: left, reply_size: Some(limits.reply_size) },
            _ => Self { length: LINE_LENGTH_MAX, reply_size: None },
        }
    }

    pub(super) fn length(self) -> usize {
        self.length
    }

    pub(super) fn exceeded(self) -> DecodeError {
        match self.reply_size {
            Some(limit) => DecodeError::ReplySize { limit },
            None => DecodeError::LineLength { limit: self.length },
        }
    }
}
