//! redis-rs in a component, and the decoders there: benches/peer, in the same plain host as the
//! component of Keyslot.

use std::time::Duration;

use anyhow::anyhow;
use keyslot_bench_peer::decode::Replies;
use keyslot_bench_peer::work::{self, Data};

use self::bindings::Peer;
pub(super) use self::bindings::exports::keyslot::bench_peer::measured::Decoder;
use self::bindings::exports::keyslot::bench_peer::measured::{Shape, Verb};
use super::Contestant;
use super::wasm::Plain;
use crate::rows::Task;

mod bindings {
    wasmtime::component::bindgen!({
        path: "peer/wit",
        world: "peer",
        exports: { default: async },
    });
}

/// An instance of the component.
struct Instance {
    host: Plain,
    peer: Peer,
}

impl Instance {
    fn start(mut host: Plain) -> anyhow::Result<Self> {
        let Plain { component, linker, store, runtime } = &mut host;
        let peer = runtime.block_on(Peer::instantiate_async(store, component, linker))?;
        Ok(Self { host, peer })
    }
}

/// redis-rs's synchronous cluster client.
pub(super) struct RedisWasm(Instance);

impl RedisWasm {
    pub(super) fn connect(host: Plain, urls: &[String], data: &Data) -> anyhow::Result<Self> {
        let mut instance = Instance::start(host)?;
        let Instance { host, peer } = &mut instance;
        let connecting =
            peer.keyslot_bench_peer_measured().call_connect(&mut host.store, urls, data.keys(), data.value());
        host.runtime.block_on(connecting)?.map_err(|error| anyhow!(error))?;
        Ok(Self(instance))
    }
}

impl Contestant for RedisWasm {
    fn run(&mut self, task: Task, calls: usize) -> anyhow::Result<Duration> {
        let work = super::work(task)?;
        let verb = match work.verb {
            work::Verb::Set => Verb::Set,
            work::Verb::Get => Verb::Get,
        };
        let shape = match work.shape {
            work::Shape::One => Shape::One,
            work::Shape::Pipeline => Shape::Pipeline,
            work::Shape::Many => Shape::Many,
        };
        let (keys, calls) = (u32::try_from(work.keys)?, u32::try_from(calls)?);
        let Instance { host, peer } = &mut self.0;
        let running = peer.keyslot_bench_peer_measured().call_run(&mut host.store, verb, shape, keys, calls);
        let nanoseconds = host.runtime.block_on(running)?.map_err(|error| anyhow!(error))?;
        Ok(Duration::from_nanos(nanoseconds))
    }
}

/// A decoder.
pub(super) struct DecoderWasm {
    instance: Instance,
    decoder: Decoder,
    replies: Replies,
}

impl DecoderWasm {
    pub(super) fn start(host: Plain, decoder: Decoder, replies: Replies) -> anyhow::Result<Self> {
        Ok(Self { instance: Instance::start(host)?, decoder, replies })
    }
}

impl Contestant for DecoderWasm {
    fn run(&mut self, _: Task, calls: usize) -> anyhow::Result<Duration> {
        let (count, calls) = (u32::try_from(self.replies.count)?, u32::try_from(calls)?);
        let Instance { host, peer } = &mut self.instance;
        let running = peer.keyslot_bench_peer_measured().call_decode(
            &mut host.store,
            self.decoder,
            &self.replies.bytes,
            count,
            calls,
        );
        let nanoseconds = host.runtime.block_on(running)?.map_err(|error| anyhow!(error))?;
        Ok(Duration::from_nanos(nanoseconds))
    }
}
