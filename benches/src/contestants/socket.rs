//! The bare socket: the least that any client's calls take. Requests are made in advance and
//! replies are only compared.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bytes::BytesMut;
use keyslot_bench_peer::work::{Data, Verb, Work};
use keyslot_core::resp::encode_command;

use super::{Contestant, work};
use crate::rows::Task;

pub(super) struct Socket {
    stream: TcpStream,
    /// The keys of its node.
    data: Data,
}

impl Socket {
    pub(super) fn connect(address: &str, data: Data) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, data })
    }
}

impl Contestant for Socket {
    fn run(&mut self, task: Task, calls: usize) -> anyhow::Result<Duration> {
        let (request, expected) = exchange(work(task)?, &self.data);
        let mut received = vec![0; expected.len()];
        let started = Instant::now();
        for _ in 0..calls {
            self.stream.write_all(&request)?;
            self.stream.read_exact(&mut received)?;
            ensure!(received == expected, "unexpected: {}", received.escape_ascii());
        }
        Ok(started.elapsed())
    }
}

/// The bytes of a call and of its replies.
fn exchange(work: Work, data: &Data) -> (BytesMut, Vec<u8>) {
    let (mut request, mut expected) = (BytesMut::new(), Vec::new());
    let (command, value) = (work.command().as_bytes(), data.value());
    for key in data.keys_of(0, work.keys) {
        match work.verb {
            Verb::Set => {
                encode_command(&[command, key, value], &mut request);
                expected.extend_from_slice(b"+OK\r\n");
            }
            Verb::Get => {
                encode_command(&[command, key], &mut request);
                expected.extend_from_slice(format!("${}\r\n", value.len()).as_bytes());
                expected.extend_from_slice(value);
                expected.extend_from_slice(b"\r\n");
            }
        }
    }
    (request, expected)
}
