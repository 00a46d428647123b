//! Frames of requests that were handed in together.

use bytes::Bytes;

/// How much that is not its own a frame may keep in memory, in bytes.
const BLOCK: usize = 4 << 10;

/// Cuts bytes that hold many requests into their frames.
///
/// A request may stand for long, while those that were handed in with it have ended. So a frame
/// that is the larger part of all, or is one of few bytes, shares their memory; others have a copy
/// of their own, and small ones that follow each other one block together.
#[derive(Debug)]
pub struct Frames {
    all: Bytes,
    /// A copy of some of it, from this place on.
    block: Bytes,
    start: usize,
}

impl Frames {
    /// Of these bytes.
    #[must_use]
    pub fn new(all: Bytes) -> Self {
        Self { all, block: Bytes::new(), start: 0 }
    }

    /// The frame that has these bytes, which are a part of all.
    pub fn frame(&mut self, frame: &[u8]) -> Bytes {
        if self.all.len() <= frame.len().saturating_mul(2).max(BLOCK) {
            return self.all.slice_ref(frame);
        }
        if frame.len() >= BLOCK {
            return Bytes::copy_from_slice(frame);
        }
        let at = (frame.as_ptr() as usize).saturating_sub(self.all.as_ptr() as usize);
        let is_in_block = at >= self.start && at + frame.len() <= self.start + self.block.len();
        if !is_in_block {
            let rest = self.all.get(at..).unwrap_or_default();
            self.block = Bytes::copy_from_slice(rest.get(..BLOCK).unwrap_or(rest));
            self.start = at;
        }
        let begin = at - self.start;
        self.block.slice(begin..begin + frame.len())
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;
    use crate::resp::{encode_command, take_request};

    /// The frames of commands with values of these lengths.
    fn cut(lengths: &[usize]) -> (Bytes, Vec<Bytes>) {
        let mut all = bytes::BytesMut::new();
        for length in lengths {
            encode_command(&[&b"SET"[..], b"key", &alloc::vec![b'x'; *length]], &mut all);
        }
        let all = all.freeze();
        let (mut rest, mut args) = (&all[..], Vec::new());
        let mut frames = Frames::new(all.clone());
        let mut cut = Vec::new();
        while let Some(frame) = take_request(&mut rest, &mut args).unwrap() {
            let taken = frames.frame(frame);
            assert_eq!(taken, frame);
            cut.push(taken);
        }
        assert_eq!(cut.concat(), all);
        (all, cut)
    }

    fn is_shared(all: &Bytes, frame: &Bytes) -> bool {
        all.as_ptr_range().contains(&frame.as_ptr())
    }

    #[test]
    fn a_call_of_its_own_is_not_copied() {
        for lengths in [&[10][..], &[1 << 20], &[10, 20, 3_000], &[10, 1 << 20, 10]] {
            let (all, frames) = cut(lengths);
            let largest = frames.iter().max_by_key(|frame| frame.len()).unwrap();
            assert!(is_shared(&all, largest), "{lengths:?}");
        }
    }

    #[test]
    fn a_small_frame_keeps_no_large_one() {
        let (all, frames) = cut(&[10, 1 << 20, 5_000, 10]);
        let shared: Vec<_> = frames.iter().map(|frame| is_shared(&all, frame)).collect();
        assert_eq!(shared, [false, true, false, false]);
        let (all, frames) = cut(&[1 << 20, 1 << 20, 1 << 20]);
        assert!(frames.iter().all(|frame| !is_shared(&all, frame)));
    }

    #[test]
    fn small_frames_have_one_block_together() {
        let (all, frames) = cut(&[100; 1_000]);
        assert!(frames.iter().all(|frame| !is_shared(&all, frame)));
        // Each that does not follow the one before begins a block.
        let follows = |pair: &[Bytes]| pair[0].as_ptr_range().end == pair[1].as_ptr();
        let blocks = 1 + frames.windows(2).filter(|pair| !follows(pair)).count();
        assert!(blocks <= 2 * all.len() / BLOCK, "{blocks}");
    }
}
