//! The component's `options` and `scan-options`, made of ours. What is not set has the component's
//! default.

use wasmtime::Store;
use wasmtime::component::ResourceAny;

use crate::Options;
use crate::bindings::exports::keyslot::redis::redis_cluster::{Guest, GuestOptions, GuestScanOptions, Limit};
use crate::descriptors;
use crate::options::whole_milliseconds;
use crate::scan_options::ScanOptions;
use crate::state::State;

/// Makes the component's `options`.
pub(super) async fn of_client(
    guest: &Guest,
    store: &mut Store<State>,
    options: &Options,
) -> wasmtime::Result<ResourceAny> {
    let setter = guest.options();
    let settings = setter.call_constructor(&mut *store, &options.urls).await?;
    set_sessions(&setter, store, settings, options).await?;
    set_times(&setter, store, settings, options).await?;
    set_retries(&setter, store, settings, options).await?;
    set_routing(&setter, store, settings, options).await?;
    set_limits(&setter, store, settings, options).await?;
    Ok(settings)
}

/// Who logs in where, and in which protocol.
async fn set_sessions(
    setter: &GuestOptions<'_>,
    store: &mut Store<State>,
    settings: ResourceAny,
    options: &Options,
) -> wasmtime::Result<()> {
    if let Some(username) = &options.username {
        setter.call_set_username(&mut *store, settings, username).await?;
    }
    if let Some(password) = &options.password {
        setter.call_set_password(&mut *store, settings, password).await?;
    }
    if let Some(name) = &options.client_name {
        setter.call_set_client_name(&mut *store, settings, name).await?;
    }
    if let Some(tell) = options.library_info {
        setter.call_set_library_info(&mut *store, settings, tell).await?;
    }
    if let Some(database) = options.database {
        setter.call_set_database(&mut *store, settings, database).await?;
    }
    if let Some(mode) = options.mode {
        setter.call_set_mode(&mut *store, settings, mode).await?;
    }
    if let Some(protocol) = options.protocol {
        setter.call_set_protocol(&mut *store, settings, protocol).await?;
    }
    if let Some(decode) = options.decode_responses {
        setter.call_set_decode_responses(&mut *store, settings, decode).await?;
    }
    Ok(())
}

/// How long things may take, and how often they are done.
async fn set_times(
    setter: &GuestOptions<'_>,
    store: &mut Store<State>,
    settings: ResourceAny,
    options: &Options,
) -> wasmtime::Result<()> {
    if let Some(timeout) = options.connect_timeout {
        let milliseconds = whole_milliseconds(timeout);
        setter.call_set_connect_timeout_ms(&mut *store, settings, milliseconds).await?;
    }
    if let Some(timeout) = options.request_timeout {
        let milliseconds = whole_milliseconds(timeout);
        setter.call_set_request_timeout_ms(&mut *store, settings, milliseconds).await?;
    }
    if let Some(timeout) = options.attempt_timeout {
        let milliseconds = whole_milliseconds(timeout);
        setter.call_set_attempt_timeout_ms(&mut *store, settings, milliseconds).await?;
    }
    if let Some(interval) = options.refresh_interval {
        let milliseconds = whole_milliseconds(interval);
        setter.call_set_refresh_interval_ms(&mut *store, settings, milliseconds).await?;
    }
    if let Some(after) = options.health_check {
        let milliseconds = whole_milliseconds(after);
        setter.call_set_health_check_ms(&mut *store, settings, milliseconds).await?;
    }
    Ok(())
}

/// What is tried again, how often and after how long.
async fn set_retries(
    setter: &GuestOptions<'_>,
    store: &mut Store<State>,
    settings: ResourceAny,
    options: &Options,
) -> wasmtime::Result<()> {
    if let Some(redirects) = options.max_redirects {
        setter.call_set_max_redirects(&mut *store, settings, redirects).await?;
    }
    if let Some(retries) = options.max_retries {
        setter.call_set_max_retries(&mut *store, settings, retries).await?;
    }
    if let Some((base, cap)) = options.retry_backoff {
        let (base, cap) = (whole_milliseconds(base), whole_milliseconds(cap));
        setter.call_set_retry_backoff_ms(&mut *store, settings, base, cap).await?;
    }
    if let Some(retry) = options.retry_writes {
        setter.call_set_retry_writes(&mut *store, settings, retry).await?;
    }
    if let Some((base, cap)) = options.reconnect_backoff {
        let (base, cap) = (whole_milliseconds(base), whole_milliseconds(cap));
        setter.call_set_reconnect_backoff_ms(&mut *store, settings, base, cap).await?;
    }
    Ok(())
}

/// Which node a command goes to, and how nodes are found.
async fn set_routing(
    setter: &GuestOptions<'_>,
    store: &mut Store<State>,
    settings: ResourceAny,
    options: &Options,
) -> wasmtime::Result<()> {
    if let Some(split) = options.split_multi_key {
        setter.call_set_split_multi_key(&mut *store, settings, split).await?;
    }
    if let Some(strategy) = options.replica_reads {
        setter.call_set_replica_reads(&mut *store, settings, strategy).await?;
    }
    if let Some(zone) = &options.availability_zone {
        setter.call_set_availability_zone(&mut *store, settings, zone).await?;
    }
    for (announced, actual) in &options.address_map {
        setter.call_map_address(&mut *store, settings, announced, actual).await?;
    }
    if let Some(shards) = &options.topology {
        setter.call_set_topology(&mut *store, settings, shards).await?;
    }
    Ok(())
}

/// How much there may be of what.
async fn set_limits(
    setter: &GuestOptions<'_>,
    store: &mut Store<State>,
    settings: ResourceAny,
    options: &Options,
) -> wasmtime::Result<()> {
    for (setting, value) in &options.pool {
        setter.call_set_pool(&mut *store, settings, *setting, *value).await?;
    }
    let received_bytes = (Limit::ReceivedBytes, options.memory_limit as u64 / 8 * 3);
    let connections = descriptors::connections_max().map(|most| (Limit::Connections, most));
    for (limit, value) in [received_bytes].iter().chain(&connections).chain(&options.limits) {
        setter.call_set_limit(&mut *store, settings, *limit, *value).await?;
    }
    Ok(())
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
