//! Shows that no bytes make the decoder panic or hold more than its limits, and that how bytes are
//! cut changes neither frames nor errors.
//!
//! The first bytes of an input choose limits and cuts; the rest is what the server sends.

#![no_main]

use bytes::Bytes;
use keyslot_core::resp::{DecodeError, Decoder, Frame, Limits, NODE_COST, subtree_length};
use libfuzzer_sys::fuzz_target;

const CUTS: usize = 6;

fuzz_target!(|input: &[u8]| {
    let Some((&[tight, ref cuts @ ..], bytes)) = input.split_first_chunk::<{ 1 + CUTS }>() else { return };
    let limits = if tight & 1 == 0 {
        Limits::default()
    } else {
        Limits {
            depth: u32::from(tight >> 1 & 7),
            bulk_length: 1 << (tight >> 4 & 7),
            elements: 1 << (tight >> 2 & 7),
            reply_size: 64 << (tight >> 5),
        }
    };

    let bytes = Bytes::copy_from_slice(bytes);
    let whole = Run::new(limits, [bytes.clone()], false);
    for frame in &whole.frames {
        let (Frame::Reply(reply) | Frame::Push(reply)) = frame;
        let count = reply.nodes.len();
        assert!(count as u64 <= u64::from(limits.elements).min(limits.reply_size / NODE_COST));
        assert_eq!(subtree_length(&reply.nodes), count);
        assert!(reply.children().count() < count);
    }
    let whole = format!("{whole:?}");
    for ahead in [false, true] {
        assert_eq!(format!("{:?}", Run::new(limits, pieces(&bytes, cuts), ahead)), whole);
    }
});

/// What a decoder makes of a connection. Compared by its text, in which NaN is equal to itself.
#[derive(Debug, Default)]
struct Run {
    frames: Vec<Frame>,
    /// Behind how many frames each stood that was dropped.
    dropped: Vec<usize>,
    failure: Option<DecodeError>,
}

impl Run {
    /// Feeds each piece after the one before is drained, or all of them ahead.
    fn new(limits: Limits, pieces: impl IntoIterator<Item = Bytes>, ahead: bool) -> Self {
        let mut decoder = Decoder::new(limits);
        let mut run = Self::default();
        for piece in pieces {
            decoder.feed(piece);
            if !ahead {
                run.drain(&mut decoder);
                assert!(decoder.buffered() as u64 <= limits.reply_size);
            }
        }
        run.drain(&mut decoder);
        run
    }

    fn drain(&mut self, decoder: &mut Decoder) {
        while self.failure.is_none() {
            match decoder.poll() {
                Ok(Some(frame)) => self.frames.push(frame),
                Ok(None) => return,
                Err(DecodeError::Dropped { .. }) => self.dropped.push(self.frames.len()),
                Err(error) => self.failure = Some(error),
            }
        }
        assert_eq!(decoder.poll().err(), self.failure);
    }
}

/// The bytes in pieces as long as `cuts` say, again and again.
fn pieces(bytes: &Bytes, cuts: &[u8]) -> Vec<Bytes> {
    let mut rest = bytes.clone();
    let mut pieces = Vec::new();
    for &cut in cuts.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        pieces.push(rest.split_to(usize::from(cut).clamp(1, rest.len())));
    }
    pieces
}
