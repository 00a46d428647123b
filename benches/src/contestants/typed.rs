//! The component's typed interface, called from a plain wasmtime host.

use std::time::{Duration, Instant};

use anyhow::{anyhow, ensure};
use keyslot_bench_peer::work::{Shape, Verb};

use super::component::bindings::exports::keyslot::redis::types::ReplyNode;
use super::component::{Component, command};
use super::wasm::Plain;
use super::{Contestant, work};
use crate::rows::Task;

pub(super) struct Typed(pub(super) Component);

impl Contestant for Typed {
    fn run(&mut self, task: Task, calls: usize) -> anyhow::Result<Duration> {
        let work = work(task)?;
        let Component { host: Plain { store, runtime, .. }, bindings, client, data } = &mut self.0;
        let guest = bindings.keyslot_redis_redis_cluster().client();
        let value = data.value();
        runtime.block_on(async {
            let started = Instant::now();
            for call in 0..calls {
                let keys = data.keys_of(call, work.keys);
                if work.shape == Shape::Pipeline {
                    let commands: Vec<Vec<Vec<u8>>> =
                        keys.iter().map(|key| command(work, std::slice::from_ref(key), value)).collect();
                    let replies = guest.call_pipeline(&mut *store, *client, &commands).await?;
                    ensure!(replies.len() == commands.len(), "a reply is missing");
                    for reply in replies {
                        let reply = reply.map_err(|error| anyhow!("{error:?}"))?;
                        ensure!(is_right(work.verb, &reply, value), "unexpected: {reply:?}");
                    }
                } else {
                    let command = command(work, keys, value);
                    let reply = guest.call_execute(&mut *store, *client, &command).await?;
                    let reply = reply.map_err(|error| anyhow!("{error:?}"))?;
                    let is_right = match work.shape {
                        Shape::Many => are_right(work.verb, &reply, keys.len(), value),
                        Shape::One | Shape::Pipeline => is_right(work.verb, &reply, value),
                    };
                    ensure!(is_right, "unexpected: {reply:?}");
                }
            }
            Ok(started.elapsed())
        })
    }
}

/// Whether it is the reply to a command of one key.
fn is_right(verb: Verb, reply: &[ReplyNode], value: &[u8]) -> bool {
    match (verb, reply) {
        (Verb::Set, [ReplyNode::SimpleString(status)]) => status == "OK",
        (Verb::Get, [ReplyNode::BulkString(bytes)]) => bytes == value,
        _ => false,
    }
}

/// Whether it is the reply to a command of many keys.
fn are_right(verb: Verb, reply: &[ReplyNode], count: usize, value: &[u8]) -> bool {
    match (verb, reply) {
        (Verb::Get, [ReplyNode::Array(_), nodes @ ..]) => {
            nodes.len() == count && nodes.iter().all(|node| is_right(verb, std::slice::from_ref(node), value))
        }
        _ => is_right(verb, reply, value),
    }
}
