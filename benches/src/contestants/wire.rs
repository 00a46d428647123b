//! The component's interface `wire`, called from a plain wasmtime host: requests are encoded and
//! replies are taken apart as a user of the interface would.

use std::time::{Duration, Instant};

use anyhow::{anyhow, ensure};
use bytes::{Bytes, BytesMut};
use keyslot_bench_peer::work::{Shape, Verb, Work};
use keyslot_core::resp::{Decoder, Frame, Item, Limits, encode_command};

use super::component::Component;
use super::wasm::Plain;
use super::{Contestant, work};
use crate::rows::Task;

pub(super) struct Wire(pub(super) Component);

impl Contestant for Wire {
    fn run(&mut self, task: Task, calls: usize) -> anyhow::Result<Duration> {
        let work = work(task)?;
        let Component { host, bindings, client, data } = &mut self.0;
        let Plain { store, runtime, .. } = host;
        let wire = bindings.keyslot_redis_wire();
        runtime.block_on(async {
            let started = Instant::now();
            for call in 0..calls {
                let keys = data.keys_of(call, work.keys);
                let requests = requests(work, keys, data.value());
                let replies = wire.call_exchange(&mut *store, *client, &requests).await?;
                let replies = replies.map_err(|error| anyhow!("{error:?}"))?;
                check(work, replies, keys.len(), data.value())?;
            }
            Ok(started.elapsed())
        })
    }
}

fn requests(work: Work, keys: &[Vec<u8>], value: &[u8]) -> BytesMut {
    let mut requests = BytesMut::new();
    let name = work.command().as_bytes();
    match (work.shape, work.verb) {
        (Shape::Many, _) => {
            let mut words = vec![name];
            for key in keys {
                words.push(key);
                words.extend((work.verb == Verb::Set).then_some(value));
            }
            encode_command(&words, &mut requests);
        }
        (_, Verb::Set) => keys.iter().for_each(|key| encode_command(&[name, key, value], &mut requests)),
        (_, Verb::Get) => keys.iter().for_each(|key| encode_command(&[name, key], &mut requests)),
    }
    requests
}

/// Whether all replies are there and right.
fn check(work: Work, replies: Vec<u8>, count: usize, value: &[u8]) -> anyhow::Result<()> {
    let mut decoder = Decoder::new(Limits::default());
    decoder.feed(Bytes::from(replies));
    let mut found = 0;
    while let Some(Frame::Reply(reply)) = decoder.poll_raw()? {
        for item in reply.items() {
            match (work.verb, item) {
                (Verb::Set, Item::SimpleString(b"OK")) => found += 1,
                (Verb::Get, Item::BulkString(bytes)) if bytes == value => found += 1,
                (Verb::Get, Item::Array(_)) if work.shape == Shape::Many => {}
                (_, other) => anyhow::bail!("unexpected: {other:?}"),
            }
        }
    }
    let expected = if work.shape == Shape::Many && work.verb == Verb::Set { 1 } else { count };
    ensure!(found == expected, "{found} of {expected} replies");
    Ok(())
}
