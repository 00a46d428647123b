//! The incremental decoder: received chunks in, whole frames out.
//!
//! A server's bytes are untrusted and come cut anywhere, so three things hold for every input:
//!
//! - Progress is kept. The half-read line or payload, the open aggregates and the nodes so far stay
//!   in the decoder; no byte is looked at again when more arrive, and the total work is linear in
//!   the bytes.
//! - What a header promises is not believed. Memory grows with the bytes that have arrived, up to
//!   [`Limits`].
//! - How the bytes are cut changes nothing: frames and errors are a function of the bytes alone.
//!
//! The parts: [`input`] reads bytes, lines and payloads across chunks and keeps the frame,
//! [`marker`] names the type bytes, [`leaf`] is the short way for most nodes, [`validate`] checks
//! them and knows when a frame is whole, [`limits`] and [`error`] are the vocabulary. What comes
//! out is the frame as it was sent, and valid: [`RawReply`] reads it without asking again.

mod error;
mod input;
mod leaf;
mod limits;
mod marker;
mod meter;
mod validate;

use bytes::Bytes;

pub use self::error::DecodeError;
pub use self::limits::{DEPTH_READ_MAX, LINE_LENGTH_MAX, Limits, NODE_COST};
pub(crate) use self::meter::Held;
pub use self::meter::Meter;

use self::input::Input;
use self::leaf::Leaf;
use self::marker::{Aggregate, Blob, Marker};
use self::validate::{Next, Validator};
use super::{RawReply, Reply};

/// A whole thing that a server sent: as it was sent, or as a [`Reply`].
#[derive(Clone, Debug, PartialEq)]
pub enum Frame<R = Reply> {
    /// The answer to a request, in the order of the requests.
    Reply(R),
    /// RESP3 `>`: out-of-band data, which answers no request. Its first node, after possible
    /// attributes, is [`ReplyNode::Push`](super::ReplyNode::Push).
    Push(R),
}

impl Frame<RawReply> {
    fn decode(&self) -> Frame {
        match self {
            Self::Reply(raw) => Frame::Reply(raw.decode()),
            Self::Push(raw) => Frame::Push(raw.decode()),
        }
    }
}

/// What a frame is of which not all has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begun {
    /// A reply.
    Reply,
    /// A push.
    Push,
}

/// Decodes the bytes of one connection.
///
/// [`feed`](Self::feed) it what the socket gave, then [`poll`](Self::poll) until it says
/// `Ok(None)`:
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
/// A frame that lies whole in one chunk shares its memory: whoever keeps such a reply for long
/// keeps the chunk.
///
/// After an error the position in the stream is lost. The decoder drops what it holds and answers
/// every later poll with the same error; the connection has to be closed. Only
/// [`DecodeError::Dropped`] stands in the place of one frame: the next poll gives what is behind
/// it.
#[derive(Debug)]
pub struct Decoder {
    input: Input,
    state: State,
    validator: Validator,
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
        Self::metered(limits, Meter::default())
    }

    /// The same, whose bytes are counted by a meter that others may have too.
    pub fn metered(limits: Limits, meter: Meter) -> Self {
        Self {
            input: Input::new(meter),
            state: State::Type,
            validator: Validator::new(limits),
            failure: None,
        }
    }

    /// How large the next reply may be, or the one that has begun, instead of
    /// [`Limits::reply_size`]. It holds until the next call.
    pub fn limit_reply(&mut self, size: u64) {
        self.validator.limit_reply(size);
    }

    /// What the frame is that has begun; `None` between two frames. Behind attributes that are all
    /// there is so far, it is taken for a reply.
    pub fn begun(&self) -> Option<Begun> {
        let is_push =
            self.validator.is_push() || matches!(self.state, State::Line(Marker::Aggregate(Aggregate::Push)));
        let begun = if is_push { Begun::Push } else { Begun::Reply };
        (self.buffered() > 0).then_some(begun)
    }

    /// Takes the next bytes of the connection. Chunks that come before earlier ones are drained
    /// wait their turn.
    pub fn feed(&mut self, bytes: Bytes) {
        if self.failure.is_none() {
            self.input.feed(bytes);
        }
    }

    /// The next whole frame, or `None` when it takes more bytes.
    pub fn poll(&mut self) -> Result<Option<Frame>, DecodeError> {
        Ok(self.poll_raw()?.map(|frame| frame.decode()))
    }

    /// As [`poll`](Self::poll), with the frame as it was sent.
    pub fn poll_raw(&mut self) -> Result<Option<Frame<RawReply>>, DecodeError> {
        if let Some(error) = &self.failure {
            return Err(error.clone());
        }
        self.advance().inspect_err(|error| {
            if matches!(error, DecodeError::Dropped { .. }) {
                return;
            }
            let limits = self.validator.limits();
            *self = Self { failure: Some(error.clone()), ..Self::new(limits) };
        })
    }

    /// How many bytes the unfinished frame holds: its bytes so far as they were sent, the end of
    /// its last line ahead, and [`NODE_COST`] for each node. At most [`Limits::reply_size`],
    /// and zero only between two frames. Of one that is to be dropped, so much has been read.
    /// Chunks that are fed and not yet read do not count.
    pub fn buffered(&self) -> usize {
        // The line end counts from the type byte on.
        let ends_in_cr = self.input.unfinished() > 0 && self.input.last_byte() == Some(b'\r');
        let line_end = usize::from(matches!(self.state, State::Line(_)) && ends_in_cr);
        let partial = self.input.unfinished() - line_end;
        usize::try_from(self.validator.size()).unwrap_or(usize::MAX).saturating_add(partial)
    }

    fn advance(&mut self) -> Result<Option<Frame<RawReply>>, DecodeError> {
        loop {
            let next = match self.state {
                State::Type => {
                    if self.validator.is_too_deep() {
                        self.input.forget();
                    }
                    if let Some(next) = self.whole_leaf() {
                        if let Next::Frame = next {
                            return Ok(Some(self.take_frame()?));
                        }
                        continue;
                    }
                    let Some(byte) = self.input.byte()? else {
                        return Ok(None);
                    };
                    self.state = State::Line(self.validator.begin(byte)?);
                    continue;
                }
                State::Line(marker) => {
                    let Some(length) = self.input.line(self.validator.line_limit())? else {
                        return Ok(None);
                    };
                    self.validator.line(marker, self.input.text(length)?)?
                }
                State::Payload(blob, length) => {
                    let is_unread = matches!(blob, Blob::String | Blob::Chunk);
                    self.input.discard(is_unread && self.validator.is_too_deep());
                    if !self.input.payload(length)? {
                        return Ok(None);
                    }
                    self.input.discard(false);
                    self.validator.payload(blob, length, &mut self.input)?
                }
            };
            self.state = match next {
                Next::Node => State::Type,
                Next::Payload(blob, length) => State::Payload(blob, length),
                Next::Frame => {
                    self.state = State::Type;
                    return Ok(Some(self.take_frame()?));
                }
            };
        }
    }

    /// Reads a node without children that lies whole in the chunk, and with which nothing is wrong:
    /// nearly all do. Of any other it reads nothing.
    #[inline]
    fn whole_leaf(&mut self) -> Option<Next> {
        let leaf = Leaf::at(self.input.rest())?;
        let next = self.validator.whole_leaf(&leaf)?;
        self.input.skip(leaf.length);
        Some(next)
    }

    fn take_frame(&mut self) -> Result<Frame<RawReply>, DecodeError> {
        let is_too_deep = self.validator.is_too_deep();
        let (nodes, is_push) = self.validator.take_frame();
        if is_too_deep {
            self.input.forget();
            return Err(DecodeError::Dropped { limit: self.validator.limits().depth, is_push });
        }
        let (bytes, held) = self.input.take_frame()?;
        let raw = RawReply::counted(bytes, nodes, held);
        Ok(if is_push { Frame::Push(raw) } else { Frame::Reply(raw) })
    }
}

#[cfg(test)]
mod tests;
