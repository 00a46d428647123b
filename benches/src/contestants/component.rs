//! The component of Keyslot in a plain wasmtime host, connected. Its interfaces are called through
//! it.

use anyhow::anyhow;
use keyslot_bench_peer::work::{Data, Verb, Work};
use wasmtime::component::ResourceAny;

use self::bindings::Redis;
use super::wasm::Plain;

pub(super) mod bindings {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "redis",
        exports: { default: async },
    });
}

/// An instance with a client. Each interface that is measured has a contestant of its own around
/// such an instance.
pub(super) struct Component {
    pub(super) host: Plain,
    pub(super) bindings: Redis,
    pub(super) client: ResourceAny,
    pub(super) data: Data,
}

impl Component {
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

/// A command's name and arguments, as Keyslot's interfaces take them.
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
