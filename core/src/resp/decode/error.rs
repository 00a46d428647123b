//! Why bytes are no reply.

use alloc::string::String;
use core::fmt::{self, Write as _};

/// Why bytes are no reply, or none that is accepted. Each is one line and quotes what is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// No type begins with this byte.
    #[error("unknown reply type byte {}", Byte(*.byte))]
    UnknownType {
        /// What stands where a type byte should.
        byte: u8,
    },
    /// A line's text is not what its type byte asks for.
    #[error("invalid {what} \"{text}\"")]
    InvalidText {
        /// What was asked for.
        what: &'static str,
        /// The beginning of the line, escaped.
        text: String,
    },
    /// LF without a CR before it.
    #[error("a line holds a line feed without a carriage return")]
    BareLineFeed,
    /// CR without an LF behind it.
    #[error("a line holds a carriage return followed by {} instead of a line feed", Byte(*.next))]
    BareCarriageReturn {
        /// What follows it.
        next: u8,
    },
    /// A payload is longer or shorter than its header says.
    #[error("a payload of {length} bytes is followed by {} instead of CR LF", Byte(*.found))]
    PayloadEnd {
        /// What its header says.
        length: usize,
        /// The first byte that is not part of CR LF.
        found: u8,
    },
    /// A verbatim string without `txt:` or the like.
    #[error("verbatim string without a three-letter format and colon: \"{text}\"")]
    VerbatimFormat {
        /// Its beginning, escaped.
        text: String,
    },
    /// A push within an aggregate: its place is between replies.
    #[error("push inside a reply, at depth {depth}")]
    NestedPush {
        /// How many aggregates are open around it.
        depth: usize,
    },
    /// `;` without a streamed string.
    #[error("string chunk (';') outside a streamed string")]
    UnexpectedChunk,
    /// A streamed string that something else interrupts.
    #[error("streamed string goes on with {} instead of ';'", Byte(*.byte))]
    ExpectedChunk {
        /// What stands in the place of `;`.
        byte: u8,
    },
    /// `.` without a streamed aggregate.
    #[error("end of stream ('.') outside a streamed aggregate")]
    UnexpectedEnd,
    /// `.` behind an attribute.
    #[error("an attribute is followed by the end of its aggregate instead of what it describes")]
    DanglingAttribute,
    /// A streamed map or attribute whose last key has no value.
    #[error("a streamed map ends after {children} keys and values, an odd number")]
    OddMap {
        /// How many nodes it has.
        children: u32,
    },
    /// A line is longer than [`LINE_LENGTH_MAX`](super::LINE_LENGTH_MAX).
    #[error("a line exceeds the limit of {limit} bytes")]
    LineLength {
        /// The limit.
        limit: usize,
    },
    /// A string is longer than [`Limits::bulk_length`](super::Limits::bulk_length), or an error
    /// text longer than [`LINE_LENGTH_MAX`](super::LINE_LENGTH_MAX).
    #[error("a string of {length} bytes exceeds the limit of {limit} bytes")]
    BulkLength {
        /// How long it says it is, or has become.
        length: u64,
        /// The limit.
        limit: u64,
    },
    /// Aggregates lie deeper within each other than [`Limits::depth`](super::Limits::depth). The
    /// frame was read to its end and dropped: the decoder goes on behind it.
    #[error("a reply exceeds the limit of {limit} nested aggregates")]
    Dropped {
        /// The limit.
        limit: u32,
        /// Whether it was a push.
        is_push: bool,
    },
    /// Aggregates lie deeper within each other than [`Limits::depth`](super::Limits::depth), and
    /// than [`DEPTH_READ_MAX`](super::DEPTH_READ_MAX).
    #[error("a reply exceeds the limit of {limit} nested aggregates")]
    Depth {
        /// The limit.
        limit: u32,
    },
    /// A reply has more nodes than [`Limits::elements`](super::Limits::elements), or says that it
    /// will.
    #[error("a reply of {elements} or more elements exceeds the limit of {limit} elements")]
    Elements {
        /// How many it has at least.
        elements: u64,
        /// The limit.
        limit: u32,
    },
    /// A reply is larger than [`Limits::reply_size`](super::Limits::reply_size), or says that it
    /// will be.
    #[error("a reply exceeds the size limit of {limit} bytes")]
    ReplySize {
        /// The limit.
        limit: u64,
    },
    /// Together with all else that is held, the reply would be more than the limit of the
    /// [`Meter`](super::Meter).
    #[error(
        "{held} bytes of replies are held, this one would pass the limit of {limit} bytes (limit-received-bytes)"
    )]
    Received {
        /// How many bytes are held.
        held: u64,
        /// The limit.
        limit: u64,
    },
}

impl DecodeError {
    /// Whether the bytes are RESP, as far as they were read, but more than
    /// [`Limits`](super::Limits) accept.
    pub fn is_limit(&self) -> bool {
        match self {
            Self::LineLength { .. }
            | Self::BulkLength { .. }
            | Self::Dropped { .. }
            | Self::Depth { .. }
            | Self::Elements { .. }
            | Self::ReplySize { .. }
            | Self::Received { .. } => true,
            Self::UnknownType { .. }
            | Self::InvalidText { .. }
            | Self::BareLineFeed
            | Self::BareCarriageReturn { .. }
            | Self::PayloadEnd { .. }
            | Self::VerbatimFormat { .. }
            | Self::NestedPush { .. }
            | Self::UnexpectedChunk
            | Self::ExpectedChunk { .. }
            | Self::UnexpectedEnd
            | Self::DanglingAttribute
            | Self::OddMap { .. } => false,
        }
    }

    pub(super) fn invalid(what: &'static str, text: &[u8]) -> Self {
        Self::InvalidText { what, text: excerpt(text) }
    }
}

/// The first bytes of `text`, readable.
pub(super) fn excerpt(text: &[u8]) -> String {
    const LENGTH_MAX: usize = 32;

    let mut excerpt = String::new();
    let shown = text.get(..LENGTH_MAX).unwrap_or(text);
    // Writing to a string does not fail.
    let _ = write!(excerpt, "{}", shown.escape_ascii());
    if shown.len() < text.len() {
        excerpt.push('…');
    }
    excerpt
}

/// A byte as people look for it: its code and, when it has one, its character.
struct Byte(u8);

impl fmt::Display for Byte {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#04x}", self.0)?;
        if self.0.is_ascii_graphic() { write!(f, " ('{}')", char::from(self.0)) } else { Ok(()) }
    }
}
