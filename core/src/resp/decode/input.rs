//! Received chunks, read as bytes, lines and payloads wherever they were cut, and kept as frames.

use alloc::collections::VecDeque;
use core::mem;

use bytes::Bytes;

use super::DecodeError;
use super::limits::LineLimit;
use super::meter::{Buffer, Held, Meter};

/// How much memory a frame that is cut gets ahead of its bytes while it is small.
const RESERVE_MAX: usize = 64 << 10;

/// Up to this size it doubles when it grows, from then on it grows by half, then by a step, at last
/// by an eighth: so each byte is copied a few times, and little memory is held for nothing.
const DOUBLED_MAX: usize = 1 << 20;
const STEP: usize = 32 << 20;

/// When half of a payload has come, the last of it gets its memory at once if it is no more than
/// this: the fewer copies, the less is held twice.
const REST_MAX: usize = 8 << 20;

const LINE_END: &[u8] = b"\r\n";

/// The bytes that are received and not yet handed out as frames.
///
/// ```text
///   earlier: what of the frame came in chunks that are gone
///   chunk:   [ frames that are handed out | the frame so far | not yet read ]
///                                         ^ start            ^ position
/// ```
///
/// A frame that lies whole in a chunk is handed out in place. Of one that a chunk's end cuts, each
/// byte is copied once, into `earlier`.
#[derive(Debug)]
pub(super) struct Input {
    chunk: Bytes,
    start: usize,
    position: usize,
    /// The chunks after it, none of them empty.
    later: VecDeque<Bytes>,
    earlier: Buffer,
    /// How many of the bytes read belong to the line or payload that is not yet whole.
    unfinished: usize,
    /// Whether what is read is let go of at a chunk's end.
    discards: bool,
    meter: Meter,
}

impl Input {
    pub(super) fn new(meter: Meter) -> Self {
        Self {
            chunk: Bytes::new(),
            start: 0,
            position: 0,
            later: VecDeque::new(),
            earlier: Buffer::new(&meter),
            unfinished: 0,
            discards: false,
            meter,
        }
    }

    pub(super) fn feed(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.later.push_back(self.meter.count(bytes));
        }
    }

    /// How many bytes wait for the rest of their line or payload. A line's may end with the CR of
    /// its line end.
    pub(super) fn unfinished(&self) -> usize {
        self.unfinished
    }

    /// The last byte that was read of the frame.
    pub(super) fn last_byte(&self) -> Option<u8> {
        let read = self.chunk.get(self.start..self.position).unwrap_or_default();
        read.last().or(self.earlier.bytes().last()).copied()
    }

    /// The bytes of the chunk that are not yet read.
    #[inline]
    pub(super) fn rest(&self) -> &[u8] {
        self.chunk.get(self.position..).unwrap_or_default()
    }

    /// Reads so many of them.
    #[inline]
    pub(super) fn skip(&mut self, length: usize) {
        self.position += length;
    }

    pub(super) fn byte(&mut self) -> Result<Option<u8>, DecodeError> {
        loop {
            if let Some(&byte) = self.chunk.get(self.position) {
                self.position += 1;
                return Ok(Some(byte));
            }
            if !self.next_chunk(0)? {
                return Ok(None);
            }
        }
    }

    /// Reads up to the next CR LF, once it is there. Gives the length of the line without it.
    pub(super) fn line(&mut self, limit: LineLimit) -> Result<Option<usize>, DecodeError> {
        loop {
            let rest = self.rest();
            let Some(&first) = rest.first() else {
                if self.next_chunk(0)? {
                    continue;
                }
                return Ok(None);
            };
            if self.unfinished > 0 && self.last_byte() == Some(b'\r') {
                if first != b'\n' {
                    return Err(DecodeError::BareCarriageReturn { next: first });
                }
                self.position += 1;
                return Ok(Some(mem::take(&mut self.unfinished) - 1));
            }

            let allowed = limit.length().saturating_sub(self.unfinished);
            // One byte more than allowed: there the line end may begin.
            let searched = rest.get(..allowed.saturating_add(1)).unwrap_or(rest);
            let end = searched.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
            match end.map(|end| (end, rest.get(end), rest.get(end + 1))) {
                None if rest.len() > allowed => return Err(limit.exceeded()),
                Some((_, Some(b'\n'), _)) => return Err(DecodeError::BareLineFeed),
                Some((end, _, Some(b'\n'))) => {
                    self.position += end + LINE_END.len();
                    return Ok(Some(mem::take(&mut self.unfinished) + end));
                }
                Some((_, _, Some(&next))) => return Err(DecodeError::BareCarriageReturn { next }),
                // The chunk ends within the line, or between its CR and LF.
                None | Some((_, _, None)) => {
                    self.unfinished += rest.len();
                    self.position = self.chunk.len();
                }
            }
        }
    }

    /// Reads the next `length` bytes and the CR LF behind them. False while they are not all there.
    pub(super) fn payload(&mut self, length: usize) -> Result<bool, DecodeError> {
        let whole = length.saturating_add(LINE_END.len());
        loop {
            let missing = whole.saturating_sub(self.unfinished);
            let rest = self.rest();
            let piece = rest.len().min(missing);
            // Where the line end begins, if it is in this piece.
            let end = length.saturating_sub(self.unfinished).min(piece);
            let expected = LINE_END.get(self.unfinished.saturating_sub(length)..).unwrap_or_default();
            let found = rest.get(end..piece).unwrap_or_default();
            if let Some((&found, _)) = found.iter().zip(expected).find(|(found, expected)| found != expected)
            {
                return Err(DecodeError::PayloadEnd { length, found });
            }
            self.position += piece;
            self.unfinished += piece;
            if piece == missing {
                self.unfinished = 0;
                return Ok(true);
            }
            if !self.next_chunk(missing - piece)? {
                return Ok(false);
            }
        }
    }

    /// The text, `length` bytes long, of the line or payload that was just read.
    pub(super) fn text(&mut self, length: usize) -> Result<&[u8], DecodeError> {
        let whole = length + LINE_END.len();
        if self.position - self.start < whole {
            self.keep(0)?;
            let earlier = self.earlier.bytes();
            let begin = earlier.len().saturating_sub(whole);
            return Ok(earlier.get(begin..begin + length).unwrap_or_default());
        }
        let begin = self.position - whole;
        Ok(self.chunk.get(begin..begin + length).unwrap_or_default())
    }

    /// Lets go of what was read of the frame.
    pub(super) fn forget(&mut self) {
        if self.earlier.capacity() > 0 {
            drop(self.earlier.take());
        }
        self.start = self.position;
    }

    /// Whether to let go of what is read from now on at each chunk's end: its text is not asked
    /// for.
    pub(super) fn discard(&mut self, discards: bool) {
        self.discards = discards;
    }

    /// The frame that was read.
    pub(super) fn take_frame(&mut self) -> Result<(Bytes, Held), DecodeError> {
        if self.earlier.bytes().is_empty() {
            let frame = self.chunk.slice(self.start..self.position);
            self.start = self.position;
            return Ok((frame, Held::default()));
        }
        self.keep(0)?;
        Ok(self.earlier.take())
    }

    /// Goes on to the next chunk and lets go of the one that is read. `missing`: so many bytes are
    /// known to follow.
    fn next_chunk(&mut self, missing: usize) -> Result<bool, DecodeError> {
        self.keep(missing)?;
        let next = self.later.pop_front();
        let found = next.is_some();
        self.chunk = next.unwrap_or_default();
        (self.start, self.position) = (0, 0);
        Ok(found)
    }

    /// Copies what of the frame is in the chunk.
    fn keep(&mut self, missing: usize) -> Result<(), DecodeError> {
        if self.discards {
            self.forget();
            return Ok(());
        }
        let piece = self.chunk.get(self.start..self.position).unwrap_or_default();
        let length = self.earlier.bytes().len();
        let room = self.earlier.capacity() - length;
        if room < piece.len() {
            let mut ahead =
                if length < DOUBLED_MAX { length } else { (length / 8).max(STEP).min(length / 2) };
            if missing > 0 {
                // One large payload gets no more than its length. Of many, each must not make all
                // before it be copied.
                let is_rest = missing <= length.min(REST_MAX);
                let wanted = if is_rest { missing } else { ahead.max(piece.len()).max(RESERVE_MAX) };
                ahead = missing.min(wanted).max(ahead / 2);
            }
            self.earlier.reserve(piece.len(), ahead)?;
        }
        self.earlier.extend(piece);
        self.start = self.position;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_gets_memory_as_its_bytes_arrive() {
        let length = 100 << 20;
        let mut input = Input::new(Meter::default());
        input.feed(Bytes::from_static(b"x"));
        assert_eq!(input.payload(length), Ok(false));
        assert!(input.earlier.capacity() <= RESERVE_MAX + 1);
        input.feed(Bytes::from(alloc::vec![b'x'; 1 << 20]));
        assert_eq!(input.payload(length), Ok(false));
        assert!(input.earlier.capacity() <= (2 << 20) + 1);
    }

    #[test]
    fn a_joined_payload_never_has_more_memory_than_its_length() {
        let mut input = Input::new(Meter::default());
        for _ in 0..3 {
            input.feed(Bytes::from(alloc::vec![b'x'; 100_000]));
            assert_eq!(input.payload(400_000), Ok(false));
        }
        input.feed(Bytes::from(alloc::vec![b'x'; 100_000]));
        assert_eq!(input.payload(400_000), Ok(false));
        assert!(input.earlier.capacity() <= 400_002);
        input.feed(Bytes::from_static(b"\r\n"));
        assert_eq!(input.payload(400_000), Ok(true));
        assert_eq!(input.take_frame().unwrap().0.len(), 400_002);
    }

    #[test]
    fn a_read_chunk_is_let_go() {
        let chunk = Bytes::from(alloc::vec![b'x'; 10]);
        let mut input = Input::new(Meter::default());
        input.feed(chunk.clone());
        while input.byte() != Ok(None) {}
        assert!(chunk.is_unique());
    }
}
