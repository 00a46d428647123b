//! The decoders on this machine.

use std::time::{Duration, Instant};

use anyhow::{anyhow, ensure};
use bytes::BytesMut;
use keyslot_bench_peer::decode::{CHUNK, Replies};
use redis_protocol::resp3::decode::complete::decode_bytes_mut;

use super::Contestant;
use crate::rows::Task;

/// Decodes all replies and says how many they were.
type Decode = fn(&Replies) -> Result<usize, String>;

/// One of the decoders.
pub(super) struct Native {
    decode: Decode,
    replies: Replies,
}

impl Native {
    pub(super) fn new(decode: Decode, replies: Replies) -> Self {
        Self { decode, replies }
    }
}

impl Contestant for Native {
    fn run(&mut self, _: Task, calls: usize) -> anyhow::Result<Duration> {
        let started = Instant::now();
        for _ in 0..calls {
            let count = (self.decode)(&self.replies).map_err(|error| anyhow!(error))?;
            ensure!(count == self.replies.count, "the decoder found {count} replies");
        }
        Ok(started.elapsed())
    }
}

/// Decodes with redis-protocol as its codec for tokio does: what arrives is put behind what is
/// left, and each frame is split off and shares that memory.
pub(super) fn redis_protocol(replies: &Replies) -> Result<usize, String> {
    let mut buffer = BytesMut::new();
    let mut count = 0;
    for chunk in replies.bytes.chunks(CHUNK) {
        buffer.extend_from_slice(chunk);
        while decode_bytes_mut(&mut buffer).map_err(|error| error.to_string())?.is_some() {
            count += 1;
        }
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redis_protocol_finds_all_replies() {
        let replies = Replies::mixed();
        assert_eq!(redis_protocol(&replies), Ok(replies.count));
    }
}
