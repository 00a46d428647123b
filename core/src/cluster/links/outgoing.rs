//! What is queued for a connection's socket: a list of pieces, each of whole commands.
//!
//! Small commands are gathered, so that one write carries many of them. A large one is a piece of
//! its own and shares its memory with its request: it is copied nowhere. So a connection never
//! keeps more room than a few writes need, however large what went over it was.

use alloc::collections::VecDeque;
use core::mem;

use bytes::{Bytes, BytesMut};

use crate::resp::encode_command;

/// With so many bytes a piece is worth a write of its own. It is a little less than a socket takes
/// at once (64 KiB), so that there are no more writes for it.
pub(super) const PIECE: usize = 60 << 10;

/// The commands that the driver has not taken yet.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    /// Those that are complete, in order.
    pieces: VecDeque<Piece<Bytes>>,
    /// The last one, to which small commands are put.
    gathered: Piece<BytesMut>,
    /// How many bytes all have.
    length: usize,
    /// How many replies all have.
    replies: usize,
}

/// Whole commands.
#[derive(Debug, Default)]
struct Piece<B> {
    bytes: B,
    /// How many replies they have.
    replies: usize,
}

impl Outgoing {
    /// How many bytes are queued.
    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// How many replies there will be to what is queued.
    pub(super) fn replies(&self) -> usize {
        self.replies
    }

    /// Queues an encoded command, or several.
    pub(super) fn push(&mut self, frame: &Bytes) {
        let is_large = frame.len() >= PIECE;
        self.complete(is_large);
        self.length += frame.len();
        match is_large {
            true => self.pieces.push_back(Piece { bytes: frame.clone(), replies: 0 }),
            false => self.gathered.bytes.extend_from_slice(frame),
        }
    }

    /// Encodes and queues a command.
    pub(super) fn push_words<A: AsRef<[u8]>>(&mut self, words: &[A]) {
        self.complete(false);
        let before = self.gathered.bytes.len();
        encode_command(words, &mut self.gathered.bytes);
        self.length += self.gathered.bytes.len() - before;
    }

    /// Counts a reply to what was queued last.
    pub(super) fn expect_reply(&mut self) {
        self.replies += 1;
        match self.pieces.back_mut().filter(|_| self.gathered.bytes.is_empty()) {
            Some(piece) => piece.replies += 1,
            None => self.gathered.replies += 1,
        }
    }

    /// Takes the next piece.
    pub(super) fn take(&mut self) -> Option<Bytes> {
        if self.pieces.is_empty() {
            self.complete(true);
        }
        let piece = self.pieces.pop_front()?;
        self.length -= piece.bytes.len();
        self.replies -= piece.replies;
        Some(piece.bytes)
    }

    /// Completes the last piece, if it is large enough or has to be.
    fn complete(&mut self, has_to_be: bool) {
        let length = self.gathered.bytes.len();
        if length >= PIECE || (has_to_be && length > 0) {
            let replies = mem::take(&mut self.gathered.replies);
            self.pieces.push_back(Piece { bytes: self.gathered.bytes.split().freeze(), replies });
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    #[test]
    fn small_commands_are_gathered_and_large_ones_shared() {
        let mut out = Outgoing::default();
        assert_eq!(out.take(), None);
        let large = Bytes::from(vec![b'x'; 1 << 20]);
        out.push(&Bytes::from_static(b"first"));
        out.expect_reply();
        out.push_words(&["PING"]);
        out.expect_reply();
        out.push(&large);
        out.expect_reply();
        out.expect_reply();
        out.push(&Bytes::from_static(b"last"));
        out.expect_reply();
        assert_eq!((out.length(), out.replies()), (5 + 14 + (1 << 20) + 4, 5));
        assert_eq!(out.take().unwrap(), &b"first*1\r\n$4\r\nPING\r\n"[..]);
        assert_eq!(out.replies(), 3);
        let shared = out.take().unwrap();
        assert_eq!((shared.as_ptr(), shared.len()), (large.as_ptr(), large.len()));
        assert_eq!(out.replies(), 1);
        assert_eq!(out.take().unwrap(), &b"last"[..]);
        assert_eq!((out.take(), out.length(), out.replies()), (None, 0, 0));
    }

    #[test]
    fn what_has_waited_for_long_goes_in_pieces_and_leaves_no_room_behind() {
        let mut out = Outgoing::default();
        let frame = Bytes::from(vec![b'x'; 1_000]);
        for _ in 0..10_000 {
            out.push(&frame);
            out.expect_reply();
        }
        let mut sent = 0;
        while let Some(piece) = out.take() {
            assert!(piece.len() < 2 * PIECE);
            sent += piece.len();
            assert_eq!(out.replies(), 10_000 - sent / 1_000);
        }
        assert_eq!(sent, 10_000_000);
        assert!(out.gathered.bytes.capacity() < 4 * PIECE);
    }
}
