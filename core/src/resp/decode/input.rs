//! Received chunks, read as bytes, lines and payloads wherever they were cut.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::mem;

use bytes::Bytes;

use super::DecodeError;
use super::limits::LineLimit;

/// How much memory a payload gets ahead of its bytes while it is small; later it at most doubles.
const RESERVE_MAX: usize = 64 << 10;

const LINE_END: &[u8] = b"\r\n";

/// The bytes that are received and not yet decoded.
///
/// A line or payload that lies whole in a chunk is handed out in place. Of one that a chunk's end cuts, the
/// beginning waits in `partial`, where each byte is copied once.
#[derive(Debug, Default)]
pub(super) struct Input {
    /// The chunk that is being read, from `position` on.
    chunk: Bytes,
    position: usize,
    /// The chunks after it, none of them empty.
    later: VecDeque<Bytes>,
    /// The beginning of the line or payload that is being read. It may end with the CR of its line end.
    partial: Vec<u8>,
}

/// A line without its line end.
pub(super) enum Line<'a> {
    /// In the chunk, from the first position up to the second.
    Whole(&'a Bytes, usize, usize),
    /// Put together of several chunks.
    Joined(Vec<u8>),
}

impl Input {
    pub(super) fn feed(&mut self, bytes: Bytes) {
        if bytes.is_empty() {
            return;
        }
        if self.position >= self.chunk.len() && self.later.is_empty() {
            self.chunk = bytes;
            self.position = 0;
        } else {
            self.later.push_back(bytes);
        }
    }

    /// How many bytes wait for the rest of their line or payload.
    pub(super) fn partial_length(&self) -> usize {
        self.partial.len()
    }

    pub(super) fn partial_ends_in_cr(&self) -> bool {
        self.partial.last() == Some(&b'\r')
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        loop {
            if let Some(&byte) = self.chunk.get(self.position) {
                self.position += 1;
                return Some(byte);
            }
            if !self.next_chunk() {
                return None;
            }
        }
    }

    /// The bytes up to the next CR LF, once it is there.
    pub(super) fn line(&mut self, limit: LineLimit) -> Result<Option<Line<'_>>, DecodeError> {
        loop {
            let rest = self.chunk.get(self.position..).unwrap_or_default();
            let Some(&first) = rest.first() else {
                if self.next_chunk() {
                    continue;
                }
                return Ok(None);
            };
            if self.partial_ends_in_cr() {
                if first != b'\n' {
                    return Err(DecodeError::BareCarriageReturn { next: first });
                }
                self.position += 1;
                self.partial.pop();
                return Ok(Some(Line::Joined(mem::take(&mut self.partial))));
            }

            let allowed = limit.length().saturating_sub(self.partial.len());
            // One byte more than allowed: there the line end may begin.
            let end =
                rest.iter().take(allowed.saturating_add(1)).position(|byte| matches!(byte, b'\r' | b'\n'));
            match end.map(|end| (end, rest.get(end), rest.get(end + 1))) {
                None if rest.len() > allowed => return Err(limit.exceeded()),
                Some((_, Some(b'\n'), _)) => return Err(DecodeError::BareLineFeed),
                Some((end, _, Some(b'\n'))) => {
                    let start = self.position;
                    self.position += end + LINE_END.len();
                    if self.partial.is_empty() {
                        return Ok(Some(Line::Whole(&self.chunk, start, start + end)));
                    }
                    self.partial.extend_from_slice(rest.get(..end).unwrap_or_default());
                    return Ok(Some(Line::Joined(mem::take(&mut self.partial))));
                }
                Some((_, _, Some(&next))) => return Err(DecodeError::BareCarriageReturn { next }),
                // The chunk ends within the line, or between its CR and LF.
                None | Some((_, _, None)) => {
                    self.partial.extend_from_slice(rest);
                    self.position = self.chunk.len();
                }
            }
        }
    }

    /// The next `length` bytes, once they and the CR LF behind them are there.
    pub(super) fn payload(&mut self, length: usize) -> Result<Option<Bytes>, DecodeError> {
        let whole = length.saturating_add(LINE_END.len());
        loop {
            let rest = self.chunk.get(self.position..).unwrap_or_default();
            if self.partial.is_empty() && rest.len() >= whole {
                check_payload_end(rest, length)?;
                let payload = self.chunk.slice(self.position..self.position + length);
                self.position += whole;
                return Ok(Some(payload));
            }
            if rest.is_empty() {
                if self.next_chunk() {
                    continue;
                }
                return Ok(None);
            }

            let missing = whole.saturating_sub(self.partial.len());
            let piece = rest.get(..missing).unwrap_or(rest);
            if self.partial.capacity() - self.partial.len() < piece.len() {
                let ahead = self.partial.len().max(piece.len()).max(RESERVE_MAX);
                self.partial.reserve_exact(ahead.min(missing));
            }
            self.partial.extend_from_slice(piece);
            self.position += piece.len();
            if piece.len() == missing {
                check_payload_end(&self.partial, length)?;
                self.partial.truncate(length);
                return Ok(Some(mem::take(&mut self.partial).into()));
            }
        }
    }

    /// Goes on to the next chunk and lets go of the one that is read.
    fn next_chunk(&mut self) -> bool {
        let next = self.later.pop_front();
        let found = next.is_some();
        self.chunk = next.unwrap_or_default();
        self.position = 0;
        found
    }
}

impl Line<'_> {
    pub(super) fn as_slice(&self) -> &[u8] {
        match self {
            Self::Whole(chunk, start, end) => chunk.get(*start..*end).unwrap_or_default(),
            Self::Joined(bytes) => bytes,
        }
    }

    pub(super) fn into_bytes(self) -> Bytes {
        match self {
            // `line` has found both positions in this chunk.
            Self::Whole(chunk, start, end) => chunk.slice(start..end),
            Self::Joined(bytes) => bytes.into(),
        }
    }
}

fn check_payload_end(bytes: &[u8], length: usize) -> Result<(), DecodeError> {
    let end = bytes.get(length..).unwrap_or_default();
    match end.iter().zip(LINE_END).find(|(found, expected)| found != expected) {
        None => Ok(()),
        Some((&found, _)) => Err(DecodeError::PayloadEnd { length, found }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_gets_memory_as_its_bytes_arrive() {
        let length = 100 << 20;
        let mut input = Input::default();
        input.feed(Bytes::from_static(b"x"));
        assert_eq!(input.payload(length), Ok(None));
        assert!(input.partial.capacity() <= RESERVE_MAX);
        input.feed(Bytes::from(alloc::vec![b'x'; 1 << 20]));
        assert_eq!(input.payload(length), Ok(None));
        assert!(input.partial.capacity() <= 2 << 20);
    }

    #[test]
    fn a_joined_payload_never_has_more_memory_than_its_length() {
        let mut input = Input::default();
        for _ in 0..3 {
            input.feed(Bytes::from(alloc::vec![b'x'; 100_000]));
            assert_eq!(input.payload(400_000), Ok(None));
        }
        input.feed(Bytes::from(alloc::vec![b'x'; 100_000]));
        assert_eq!(input.payload(400_000), Ok(None));
        assert!(input.partial.capacity() <= 400_002);
        input.feed(Bytes::from_static(b"\r\n"));
        assert_eq!(input.payload(400_000).map(|payload| payload.map(|bytes| bytes.len())), Ok(Some(400_000)));
    }

    #[test]
    fn a_read_chunk_is_let_go() {
        let chunk = Bytes::from(alloc::vec![b'x'; 10]);
        let mut input = Input::default();
        input.feed(chunk.clone());
        while input.byte().is_some() {}
        assert!(chunk.is_unique());
    }
}
