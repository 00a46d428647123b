//! The incremental decoder: received chunks in, whole frames out.
//!
//! A server's bytes are untrusted and come cut anywhere, so three things hold for every input:
//!
//! - Progress is kept. The half-read line or payload, the open aggregates and the nodes so far stay in the
//!   decoder; no byte is looked at again when more arrive, and the total work is linear in the bytes.
//! - What a header promises is not believed. Memory grows with the bytes that have arrived, up to [`Limits`].
//! - How the bytes are cut changes nothing: frames and errors are a function of the bytes alone.
//!
//! The parts: [`input`] reads bytes, lines and payloads across chunks, [`marker`] names the type bytes,
//! [`assembly`] makes nodes of them and knows when a frame is whole, [`limits`] and [`error`] are the vocabulary.

mod assembly;
mod error;
mod input;
mod limits;
mod marker;

use bytes::Bytes;

pub use self::error::DecodeError;
pub use self::limits::{LINE_LENGTH_MAX, Limits, NODE_COST};

use self::assembly::{Assembly, Next};
use self::input::Input;
use self::marker::{Blob, Marker};
use super::Reply;

/// A whole thing that a server sent.
#[derive(Clone, Debug, PartialEq)]
pub enum Frame {
    /// The answer to a request, in the order of the requests.
    Reply(Reply),
    /// RESP3 `>`: out-of-band data, which answers no request. Its first node, after possible attributes, is
    /// [`ReplyNode::Push`](super::ReplyNode::Push).
    Push(Reply),
}

/// Decodes the bytes of one connection.
///
/// [`feed`](Self::feed) it what the socket gave, then [`poll`](Self::poll) until it says `Ok(None)`:
///
/// ```
/// use bytes::Bytes;
/// use keyslot_core::resp::{Decoder, Frame, Limits, Reply, ReplyNode};
///
/// let mut decoder = Decoder::new(Limits::default());
/// let mut frames = Vec::new();
/// for chunk in ["+OK\r\n:4", "2\r\n"] {
///     decoder.feed(Bytes::from_static(chunk.as_bytes()));
///     while let Some(frame) = decoder.poll()? {
///         frames.push(frame);
///     }
/// }
/// assert_eq!(frames, [
///     Frame::Reply(Reply::single(ReplyNode::SimpleString("OK".into()))),
///     Frame::Reply(Reply::single(ReplyNode::Integer(42))),
/// ]);
/// # Ok::<(), keyslot_core::resp::DecodeError>(())
/// ```
///
/// Strings that lie whole in one chunk share its memory: whoever keeps such a reply for long keeps the chunk.
///
/// After an error the position in the stream is lost. The decoder drops what it holds and answers every later
/// poll with the same error; the connection has to be closed.
#[derive(Debug)]
pub struct Decoder {
    input: Input,
    state: State,
    assembly: Assembly,
    failure: Option<DecodeError>,
}

/// What the next byte is.
///
/// ```text
///   Type ── type byte ──▶ Line ── length of a blob ──▶ Payload
///    ▲                     │                              │
///    └─────────────────────┴──────── node made ───────────┘
/// ```
#[derive(Clone, Copy, Debug)]
enum State {
    /// A type byte.
    Type,
    /// Part of the line that the type byte began.
    Line(Marker),
    /// Part of a blob of so many bytes, or of the line end behind it.
    Payload(Blob, usize),
}

impl Decoder {
    /// A decoder at the start of a connection.
    pub fn new(limits: Limits) -> Self {
        Self { input: Input::default(), state: State::Type, assembly: Assembly::new(limits), failure: None }
    }

    /// Takes the next bytes of the connection. Chunks that come before earlier ones are drained wait their turn.
    pub fn feed(&mut self, bytes: Bytes) {
        if self.failure.is_none() {
            self.input.feed(bytes);
        }
    }

    /// The next whole frame, or `None` when it takes more bytes.
    pub fn poll(&mut self) -> Result<Option<Frame>, DecodeError> {
        if let Some(error) = &self.failure {
            return Err(error.clone());
        }
        self.advance().inspect_err(|error| {
            let limits = self.assembly.limits();
            *self = Self { failure: Some(error.clone()), ..Self::new(limits) };
        })
    }

    /// How many bytes the unfinished frame holds: its bytes so far as they were sent, the end of its last line
    /// ahead, and [`NODE_COST`] for each node. At most [`Limits::reply_size`], and zero only between two frames.
    /// Chunks that are fed and not yet read do not count.
    pub fn buffered(&self) -> usize {
        // The line end counts from the type byte on.
        let line_end = usize::from(matches!(self.state, State::Line(_)) && self.input.partial_ends_in_cr());
        let partial = self.input.partial_length() - line_end;
        usize::try_from(self.assembly.size()).unwrap_or(usize::MAX).saturating_add(partial)
    }

    fn advance(&mut self) -> Result<Option<Frame>, DecodeError> {
        loop {
            let next = match self.state {
                State::Type => {
                    let Some(byte) = self.input.byte() else {
                        return Ok(None);
                    };
                    self.state = State::Line(self.assembly.begin(byte)?);
                    continue;
                }
                State::Line(marker) => {
                    let Some(line) = self.input.line(self.assembly.line_limit())? else {
                        return Ok(None);
                    };
                    self.assembly.line(marker, line)?
                }
                State::Payload(blob, length) => {
                    let Some(payload) = self.input.payload(length)? else {
                        return Ok(None);
                    };
                    self.assembly.payload(blob, payload)?
                }
            };
            self.state = match next {
                Next::Node => State::Type,
                Next::Payload(blob, length) => State::Payload(blob, length),
                Next::Frame => {
                    self.state = State::Type;
                    return Ok(Some(self.assembly.take_frame()));
                }
            };
        }
    }
}

#[cfg(test)]
mod tests;
