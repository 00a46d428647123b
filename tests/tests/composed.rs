//! The example `counter` composed with the Keyslot component: one file that imports nothing but
//! WASI, and counts on a live cluster.
//!
//! It composes in the way of `wac plug`: the exports of one component are plugged into the imports
//! of the other. It runs in plain wasmtime with plain WASI, as the `wasmtime` command does it.

use anyhow::{Result, ensure};
use keyslot_testcluster::TestCluster;
use keyslot_tests::component::build;
use wac_graph::types::Package;
use wac_graph::{CompositionGraph, EncodeOptions};
use wasmtime::component::{Component, Linker, ResourceTable};
use wasmtime::{Config, Engine, Store};
use wasmtime_wasi::p2::bindings::Command as WasiCommand;
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

#[tokio::test(flavor = "multi_thread")]
async fn the_composed_example_counts_on_a_live_cluster() -> Result<()> {
    let composed =
        compose(&build("counter", "counter.wasm")?, &build("keyslot-guest", "keyslot_redis.wasm")?)?;
    let engine = Engine::new(&Config::new())?;
    let component = Component::new(&engine, &composed)?;
    for (name, _) in component.component_type().imports(&engine) {
        ensure!(name.starts_with("wasi:"), "the composed component imports {name}");
    }

    let cluster = TestCluster::start(3, 0)?;
    for run in 1..=3 {
        let output = run_component(&engine, &component, &cluster.urls()).await?;
        let mut lines = output.lines();
        let first = lines.next().unwrap_or_default();
        ensure!(first.starts_with(&format!("run {run}, counted in slot ")), "run {run} printed: {output}");
        ensure!(
            lines.next() == Some(&*format!("{} lines in all runs", run * 2)),
            "run {run} printed: {output}"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_composed_example_says_why_it_cannot_connect() -> Result<()> {
    let composed =
        compose(&build("counter", "counter.wasm")?, &build("keyslot-guest", "keyslot_redis.wasm")?)?;
    let engine = Engine::new(&Config::new())?;
    let component = Component::new(&engine, &composed)?;
    let error = run_component(&engine, &component, &["redis://127.0.0.1:1".to_owned()]).await;
    let error = error.expect_err("nothing listens on port 1").to_string();
    ensure!(error.contains("127.0.0.1:1: connection refused"), "it said: {error}");
    Ok(())
}

/// Plugs `plug`'s exports into `socket`'s imports.
fn compose(socket: &[u8], plug: &[u8]) -> Result<Vec<u8>> {
    let mut graph = CompositionGraph::new();
    let plug = Package::from_bytes("keyslot:redis", None, plug, graph.types_mut())?;
    let plug = graph.register_package(plug)?;
    let socket = Package::from_bytes("keyslot:counter", None, socket, graph.types_mut())?;
    let socket = graph.register_package(socket)?;
    wac_graph::plug(&mut graph, vec![plug], socket)?;
    Ok(graph.encode(EncodeOptions::default())?)
}

struct State {
    wasi: WasiCtx,
    table: ResourceTable,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// Runs a command component with these arguments. Gives what it printed; its standard error is the
/// error.
async fn run_component(engine: &Engine, component: &Component, arguments: &[String]) -> Result<String> {
    let mut linker: Linker<State> = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    let (stdout, stderr) = (MemoryOutputPipe::new(1 << 16), MemoryOutputPipe::new(1 << 16));
    let mut wasi = WasiCtx::builder();
    wasi.stdout(stdout.clone())
        .stderr(stderr.clone())
        .inherit_network()
        .allow_ip_name_lookup(true)
        .allow_tcp(true);
    wasi.arg("counter").args(arguments);
    let mut store = Store::new(engine, State { wasi: wasi.build(), table: ResourceTable::new() });
    let command = WasiCommand::instantiate_async(&mut store, component, &linker).await?;
    let ended = command.wasi_cli_run().call_run(&mut store).await;
    drop(store);
    let said = String::from_utf8_lossy(&stderr.contents()).into_owned();
    match ended {
        Ok(Ok(())) => Ok(String::from_utf8(stdout.contents().to_vec())?),
        _ => anyhow::bail!("{said}"),
    }
}
