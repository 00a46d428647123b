//! A plain wasmtime host, as any program is that runs components: WASI as wasmtime has it, with the
//! network of the machine.

use std::path::Path;

use anyhow::Context as _;
use tokio::runtime::Runtime;
use wasmtime::component::{Component, Linker, ResourceTable};
use wasmtime::{Config, Engine, OptLevel, ProfilingStrategy, Store};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

/// What a component is run with.
pub(super) struct Plain {
    pub(super) component: Component,
    pub(super) linker: Linker<State>,
    pub(super) store: Store<State>,
    /// On the thread of the caller: while the component waits, this is what waits for its sockets.
    pub(super) runtime: Runtime,
}

pub(super) struct State {
    context: WasiCtx,
    table: ResourceTable,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.context, table: &mut self.table }
    }
}

impl Plain {
    /// Compiles the component of a file.
    pub(super) fn load(file: &Path, perf_map: bool) -> anyhow::Result<Self> {
        let bytes = std::fs::read(file).with_context(|| {
            format!("cannot read the component {} (cargo xtask bench builds it)", file.display())
        })?;
        let mut config = Config::new();
        config.cranelift_opt_level(OptLevel::Speed).concurrency_support(false);
        if perf_map {
            config.profiler(ProfilingStrategy::PerfMap);
        }
        let engine = Engine::new(&config)?;
        let component = Component::from_binary(&engine, &bytes)?;
        let mut linker = Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
        let context = WasiCtx::builder().inherit_network().allow_tcp(true).build();
        let store = Store::new(&engine, State { context, table: ResourceTable::new() });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { component, linker, store, runtime })
    }
}
