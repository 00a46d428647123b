//! The data of one instance, and its bounds.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use wasmtime::component::ResourceTable;
use wasmtime::{ResourceLimiter, StoreLimits, StoreLimitsBuilder};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use crate::NetworkPolicy;
use crate::lookups::LookUps;
use crate::network::Gate;
use crate::watchdog::Watchdog;

/// Bounds on what a component's instances may hold besides memory. The component is a handful of
/// core modules with one table of function pointers each.
const INSTANCES_MAX: usize = 64;
const TABLES_MAX: usize = 64;
const TABLE_ELEMENTS_MAX: usize = 65_536;

/// The data of one instance.
pub(crate) struct State {
    context: WasiCtx,
    pub(crate) table: ResourceTable,
    pub(crate) gate: Gate,
    pub(crate) look_ups: LookUps,
    /// While it is set, a `poll` does not wait. Whoever sets it polls the call that the instance is
    /// in.
    pub(crate) interrupted: Arc<AtomicBool>,
    pub(crate) limiter: Limiter,
    pub(crate) watchdog: Watchdog,
}

impl State {
    pub(crate) fn new(policy: NetworkPolicy, memory_limit: usize, watchdog: Watchdog) -> Self {
        let gate = Gate::new(policy);
        // TCP is our own; the gate stands in it.
        let context = WasiCtx::builder()
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(gate.has_names())
            .build();
        Self {
            context,
            table: ResourceTable::new(),
            gate,
            look_ups: LookUps::default(),
            interrupted: Arc::default(),
            limiter: Limiter::new(memory_limit),
            watchdog,
        }
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.context, table: &mut self.table }
    }
}

/// The bounds of an instance, and whether it has run into that of its memory.
pub(crate) struct Limiter {
    limits: StoreLimits,
    memory_limit: usize,
    memory_refused: bool,
    /// How much memory there is, in bytes.
    memory: usize,
}

impl Limiter {
    fn new(memory_limit: usize) -> Self {
        let limits = StoreLimitsBuilder::new()
            .memory_size(memory_limit)
            .table_elements(TABLE_ELEMENTS_MAX)
            .instances(INSTANCES_MAX)
            .tables(TABLES_MAX)
            .memories(1)
            .build();
        Self { limits, memory_limit, memory_refused: false, memory: 0 }
    }

    /// How much memory was granted, in bytes.
    pub(crate) fn memory(&self) -> usize {
        self.memory
    }

    /// The memory limit, if that is what the instance last ran into.
    pub(crate) fn refused(&self) -> Option<usize> {
        self.memory_refused.then_some(self.memory_limit)
    }

    /// Forgets an earlier refusal, which the component got over.
    pub(crate) fn reset(&mut self) {
        self.memory_refused = false;
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let allowed = self.limits.memory_growing(current, desired, maximum)?;
        self.memory_refused |= !allowed;
        if allowed {
            self.memory = desired;
        }
        Ok(allowed)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        self.limits.table_growing(current, desired, maximum)
    }

    fn instances(&self) -> usize {
        self.limits.instances()
    }

    fn tables(&self) -> usize {
        self.limits.tables()
    }

    fn memories(&self) -> usize {
        self.limits.memories()
    }
}
