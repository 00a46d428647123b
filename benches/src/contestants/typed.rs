//! The component's typed interface, called from a plain wasmtime host.

use std::time::{Duration, Instant};

use anyhow::{anyhow, ensure};
use keyslot_bench_peer::work::{Data, Shape, Verb, Work};
use wasmtime::component::ResourceAny;

use self::bindings::Redis;
use self::bindings::exports::keyslot::redis::types::ReplyNode;
use super::wasm::Plain;
use super::{Contestant, work};
use crate::rows::Task;

mod bindings {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "redis",
        exports: { default: async },
    });
}

pub(super) struct Typed {
    host: Plain,
    bindings: Redis,
    client: ResourceAny,
    data: Data,
}

impl Typed {
    pub(super) fn connect(mut host: Plain, urls: &[String], data: Data) -> anyhow::Result<Self> {
        let Plain { component, linker, store, runtime } = &mut host;
        let (bindings, client) = runtime.block_on(async {
            let bindings = Redis::instantiate_async(&mut *store, component, linker).await?;
            let guest = bindings.keyslot_redis_redis_cluster();
            let options = guest.options().call_constructor(&mut *store, urls).await?;
            let client = guest.client().call_connect(&mut *store, options).await?;
            let client = client.map_err(|error| anyhow!("{error:?}"))?;
            options.resource_drop_async(&mut *store).await?;
            anyhow::Ok((bindings, client))
        })?;
        Ok(Self { host, bindings, client, data })
    }
}

impl Contestant for Typed {
    fn run(&mut self, task: Task, calls: usize) -> anyhow::Result<Duration> {
        let work = work(task)?;
        let Plain { store, runtime, .. } = &mut self.host;
        let guest = self.bindings.keyslot_redis_redis_cluster().client();
        let value = self.data.value();
        runtime.block_on(async {
            let started = Instant::now();
            for call in 0..calls {
                let keys = self.data.keys_of(call, work.keys);
                if work.shape == Shape::Pipeline {
                    let commands: Vec<Vec<Vec<u8>>> =
                        keys.iter().map(|key| command(work, std::slice::from_ref(key), value)).collect();
                    let replies = guest.call_pipeline(&mut *store, self.client, &commands).await?;
                    ensure!(replies.len() == commands.len(), "a reply is missing");
                    for reply in replies {
                        let reply = reply.map_err(|error| anyhow!("{error:?}"))?;
                        ensure!(is_right(work.verb, &reply, value), "unexpected: {reply:?}");
                    }
                } else {
                    let command = command(work, keys, value);
                    let reply = guest.call_execute(&mut *store, self.client, &command).await?;
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

/// The command as the interface takes it.
pub(super) fn command(work: Work, keys: &[Vec<u8>], value: &[u8]) -> Vec<Vec<u8>> {
    let mut command = Vec::with_capacity(1 + 2 * keys.len());
    command.push(work.command().as_bytes().to_vec());
    for key in keys {
        command.push(key.clone());
        if work.verb == Verb::Set {
            command.push(value.to_vec());
        }
    }
    command
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
