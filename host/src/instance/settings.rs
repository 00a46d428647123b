//! The component's `options` and `scan-options`, made of ours. What is not set has the component's
//! default.

use wasmtime::Store;
use wasmtime::component::ResourceAny;

use crate::Options;
use crate::bindings::exports::keyslot::redis::redis_cluster::{Guest, GuestScanOptions};
use crate::descriptors;
use crate::scan_options::ScanOptions;
use crate::state::State;

/// Makes the component's `options`.
pub(super) async fn of_client(
    guest: &Guest,
    store: &mut Store<State>,
    options: &Options,
) -> wasmtime::Result<ResourceAny> {
    let setter = guest.options();
    let made = setter.call_constructor(&mut *store, &options.urls).await?;
    if let Some(username) = &options.username {
        setter.call_set_username(&mut *store, made, username).await?;
    }
    if let Some(password) = &options.password {
        setter.call_set_password(&mut *store, made, password).await?;
    }
    if let Some(database) = options.database {
        setter.call_set_database(&mut *store, made, database).await?;
    }
    if let Some(shards) = &options.topology {
        setter.call_set_topology(&mut *store, made, shards).await?;
    }
    for (name, value) in own_defaults(options).iter().chain(&options.settings) {
        setter.call_set(&mut *store, made, name, value).await?;
    }
    Ok(made)
}

/// The defaults that this host knows better than the component: what its memory and the process's
/// descriptors allow.
fn own_defaults(options: &Options) -> Vec<(String, String)> {
    let received_bytes = ("limit-received-bytes", Some(options.memory_limit as u64 / 8 * 3));
    let connections = ("limit-connections", descriptors::connections_max());
    [received_bytes, connections]
        .into_iter()
        .filter(|(name, _)| !options.is_set(name))
        .filter_map(|(name, value)| Some((name.to_owned(), value?.to_string())))
        .collect()
}

/// Makes the component's `scan-options`.
pub(super) async fn of_scan(
    guest: &Guest,
    store: &mut Store<State>,
    options: &ScanOptions,
) -> wasmtime::Result<ResourceAny> {
    let setter: GuestScanOptions<'_> = guest.scan_options();
    let settings = setter.call_constructor(&mut *store).await?;
    if let Some(pattern) = &options.pattern {
        setter.call_set_match(&mut *store, settings, pattern).await?;
    }
    if let Some(count) = options.count {
        setter.call_set_count(&mut *store, settings, count).await?;
    }
    if let Some(kind) = &options.kind {
        setter.call_set_type(&mut *store, settings, kind).await?;
    }
    if let Some(node) = &options.node {
        setter.call_set_node(&mut *store, settings, node).await?;
    }
    if let Some(parallel) = options.parallel {
        setter.call_set_parallel(&mut *store, settings, parallel).await?;
    }
    if let Some(token) = &options.token {
        setter.call_set_token(&mut *store, settings, token).await?;
    }
    Ok(settings)
}
