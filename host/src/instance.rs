//! One running component with its connected client, and the calls that it takes.

mod settings;

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use wasmtime::Store;
use wasmtime::component::ResourceAny;

use crate::bindings::Redis;
use crate::bindings::exports::keyslot::redis::redis_cluster::{
    Counter, EventList, NodeStatistics, Route, ScanSubject, Shard, TicketRange,
};
#[cfg(all(test, keyslot_embedded))]
use crate::bindings::exports::keyslot::redis::types::{self, ReplyNode};
use crate::bindings::exports::keyslot::redis::wire::Completions;
use crate::engine::Runtime;
use crate::scan_options::ScanOptions;
use crate::state::State;
use crate::watchdog::{GRACE, Overdue, Watchdog, watch};
use crate::{Error, Options};

/// A node of a reply is 24 bytes in the component and 56 here: what an instance hands over at once
/// is bounded by this many times its memory.
const HOST_TO_GUEST_SIZE: usize = 3;

/// The component failed in the middle of a call, in one line. The instance cannot be called again.
#[derive(Debug)]
pub(crate) struct Trap(pub(crate) String);

/// A component's instance with its `client` resource.
pub(crate) struct Instance {
    runtime: &'static Runtime,
    store: Store<State>,
    bindings: Redis,
    client: ResourceAny,
    /// What the times of the component's events count from.
    started_at: SystemTime,
}

/// A connection of one caller's.
#[derive(Clone, Copy)]
pub(crate) struct Connection(ResourceAny);

/// A scan of the component's.
#[derive(Clone, Copy)]
pub(crate) struct Scanner(ResourceAny);

/// A script that the component knows.
#[derive(Clone, Copy)]
pub(crate) struct Script(ResourceAny);

/// Something of the component's that can be released.
pub(crate) struct Resource(ResourceAny);

impl From<Connection> for Resource {
    fn from(connection: Connection) -> Self {
        Self(connection.0)
    }
}

impl From<Script> for Resource {
    fn from(script: Script) -> Self {
        Self(script.0)
    }
}

impl From<Scanner> for Resource {
    fn from(scanner: Scanner) -> Self {
        Self(scanner.0)
    }
}

/// Makes one call of the component. A macro, because each call borrows the bindings and the store
/// at once and has a type of its own.
macro_rules! call {
    ($instance:expr, |$guest:ident, $store:ident| $call:expr) => {
        call!($instance, keyslot_redis_redis_cluster, |$guest, $store| $call)
    };
    ($instance:expr, $interface:ident, |$guest:ident, $store:ident| $call:expr) => {{
        let _ticking = $instance.runtime.ticking();
        let $guest = $instance.bindings.$interface();
        $instance.store.data_mut().limiter.reset();
        $instance.store.data_mut().watchdog.reset();
        let $store = &mut $instance.store;
        $call.await.map_err(|error| describe_trap(&error, $instance.store.data()))
    }};
}

/// The same for the interface `wire`.
macro_rules! wire_call {
    ($instance:expr, |$guest:ident, $store:ident| $call:expr) => {
        call!($instance, keyslot_redis_wire, |$guest, $store| $call)
    };
}

impl Instance {
    /// Instantiates the component and connects its client.
    pub(crate) async fn start(options: &Options) -> Result<Self, Error> {
        let runtime = Runtime::get()?;
        let component = runtime.component(options.component.clone()).await?;
        let timeout = options.in_effect().request_timeout;
        let computing_max = options.computing_max.unwrap_or(timeout.saturating_add(GRACE));
        let watchdog = Watchdog::new(computing_max);
        let state = State::new(options.network.clone(), options.memory_limit, watchdog);
        let mut store = Store::new(component.engine(), state);
        store.limiter(|state| &mut state.limiter);
        store.set_hostcall_fuel(options.memory_limit.saturating_mul(HOST_TO_GUEST_SIZE));
        watch(&mut store, |state| &mut state.watchdog);

        let _ticking = runtime.ticking();
        let started = async {
            let bindings = component.instantiate_async(&mut store).await?;
            let guest = bindings.keyslot_redis_redis_cluster();
            let settings = settings::of_client(guest, &mut store, options).await?;
            let started_at = SystemTime::now();
            let client = guest.client().call_connect(&mut store, settings).await?;
            settings.resource_drop_async(&mut store).await?;
            wasmtime::error::Ok((bindings, client, started_at))
        };
        let started = Box::pin(started).await;
        let (bindings, client, started_at) = started.map_err(|error| {
            let Trap(message) = describe_trap(&error, store.data());
            Error::Host(message)
        })?;
        Ok(Self { runtime, store, bindings, client: client?, started_at })
    }

    /// What the times of the component's events count from.
    pub(crate) fn started_at(&self) -> SystemTime {
        self.started_at
    }

    /// How much linear memory the component has, in bytes.
    pub(crate) fn memory(&self) -> u64 {
        self.store.data().limiter.memory() as u64
    }

    /// Hands commands in, encoded. The first one's ticket is returned, the others' follow it one by
    /// one.
    pub(crate) async fn submit(&mut self, requests: &[u8]) -> Result<Result<u64, Error>, Trap> {
        let ticket = wire_call!(self, |wire, store| wire.call_submit(store, self.client, requests))?;
        Ok(ticket.map_err(Error::from))
    }

    /// As `submit`, for one node.
    pub(crate) async fn submit_to(
        &mut self,
        node: &str,
        requests: &[u8],
    ) -> Result<Result<u64, Error>, Trap> {
        let ticket = wire_call!(self, |wire, store| wire.call_submit_to(store, self.client, node, requests))?;
        Ok(ticket.map_err(Error::from))
    }

    /// As `submit`, on one caller's connection.
    pub(crate) async fn submit_on(
        &mut self,
        connection: Connection,
        requests: &[u8],
    ) -> Result<Result<u64, Error>, Trap> {
        let ticket = wire_call!(self, |wire, store| wire.call_submit_on(store, connection.0, requests))?;
        Ok(ticket.map_err(Error::from))
    }

    /// Lends a connection, which may still have to be opened.
    pub(crate) async fn lend(&mut self, key: Option<&[u8]>) -> Result<Connection, Trap> {
        call!(self, |guest, store| guest.client().call_lend(store, self.client, key)).map(Connection)
    }

    /// Releases something, for others or for good.
    pub(crate) async fn release(&mut self, resource: Resource) -> Result<(), Trap> {
        call!(self, |_guest, store| resource.0.resource_drop_async(store))
    }

    /// Makes a script known. Gives the SHA-1 of its text, too.
    pub(crate) async fn add_script(&mut self, source: &[u8]) -> Result<(Script, String), Trap> {
        let script = call!(self, |guest, store| guest.script().call_constructor(store, self.client, source))?;
        let sha1 = call!(self, |guest, store| guest.script().call_sha1(store, script))?;
        Ok((Script(script), sha1))
    }

    /// As `submit`, of commands that are one transaction.
    pub(crate) async fn submit_transaction(&mut self, requests: &[u8]) -> Result<Result<u64, Error>, Trap> {
        let ticket =
            wire_call!(self, |wire, store| wire.call_submit_transaction(store, self.client, requests))?;
        Ok(ticket.map_err(Error::from))
    }

    /// As `submit_on`, of commands that are one transaction.
    pub(crate) async fn submit_transaction_on(
        &mut self,
        connection: Connection,
        requests: &[u8],
    ) -> Result<Result<u64, Error>, Trap> {
        let ticket =
            wire_call!(self, |wire, store| wire.call_submit_transaction_on(store, connection.0, requests))?;
        Ok(ticket.map_err(Error::from))
    }

    /// Cancels commands that were submitted. Gives the tickets of those that were under way.
    pub(crate) async fn cancel(&mut self, tickets: &[TicketRange]) -> Result<Vec<u64>, Trap> {
        call!(self, |guest, store| guest.client().call_cancel(store, self.client, tickets))
    }

    /// Begins a scan.
    pub(crate) async fn scan(
        &mut self,
        subject: &ScanSubject,
        options: &ScanOptions,
    ) -> Result<Result<Scanner, Error>, Trap> {
        let client = self.client;
        let opened = call!(self, |guest, store| async {
            let settings = settings::of_scan(guest, &mut *store, options).await?;
            let opened = guest.client().call_scan(&mut *store, client, subject, settings).await?;
            settings.resource_drop_async(&mut *store).await?;
            wasmtime::error::Ok(opened)
        })?;
        Ok(opened.map(Scanner).map_err(Error::from))
    }

    /// Asks for a scan's next batch. Gives the ticket.
    pub(crate) async fn submit_next(&mut self, scanner: Scanner) -> Result<u64, Trap> {
        call!(self, |guest, store| guest.scanner().call_submit_next(store, scanner.0))
    }

    /// How far a scan has come.
    pub(crate) async fn scan_token(&mut self, scanner: Scanner) -> Result<Option<Vec<u8>>, Trap> {
        call!(self, |guest, store| guest.scanner().call_token(store, scanner.0))
    }

    /// Waits until commands have ended, the time is up or `interrupt` has ended; what it does until
    /// then, it does.
    pub(crate) async fn wait(
        &mut self,
        timeout_ms: u32,
        interrupt: impl Future<Output = ()>,
    ) -> Result<Completions, Trap> {
        let interrupted = Arc::clone(&self.store.data().interrupted);
        let waiting =
            async { wire_call!(self, |wire, store| wire.call_wait(store, self.client, timeout_ms)) };
        interruptible(waiting, &interrupted, interrupt).await
    }

    pub(crate) async fn node_for_key(&mut self, key: &[u8]) -> Result<Result<String, Error>, Trap> {
        let result = call!(self, |guest, store| guest.client().call_node_for_key(store, self.client, key))?;
        Ok(result.map_err(Error::from))
    }

    pub(crate) async fn nodes(&mut self, route: &Route) -> Result<Result<Vec<String>, Error>, Trap> {
        let result = call!(self, |guest, store| guest.client().call_nodes(store, self.client, route))?;
        Ok(result.map_err(Error::from))
    }

    pub(crate) async fn keyslot(&mut self, key: &[u8]) -> Result<u16, Trap> {
        call!(self, |guest, store| guest.call_keyslot(store, key))
    }

    pub(crate) async fn topology(&mut self) -> Result<Vec<Shard>, Trap> {
        call!(self, |guest, store| guest.client().call_topology(store, self.client))
    }

    pub(crate) async fn counters(&mut self) -> Result<Vec<Counter>, Trap> {
        call!(self, |guest, store| guest.client().call_counters(store, self.client))
    }

    pub(crate) async fn statistics(&mut self) -> Result<Vec<NodeStatistics>, Trap> {
        call!(self, |guest, store| guest.client().call_statistics(store, self.client))
    }

    pub(crate) async fn take_events(&mut self) -> Result<EventList, Trap> {
        call!(self, |guest, store| guest.client().call_take_events(store, self.client))
    }

    pub(crate) async fn close(&mut self) -> Result<(), Trap> {
        call!(self, |guest, store| guest.client().call_close(store, self.client))
    }
}

/// Runs a call of the component, and has it end its `poll` when `interrupt` has ended.
async fn interruptible<T>(
    call: impl Future<Output = T>,
    interrupted: &AtomicBool,
    interrupt: impl Future<Output = ()>,
) -> T {
    let mut call = pin!(call);
    let mut interrupt = pin!(interrupt);
    let mut ended = false;
    let outcome = poll_fn(|context| {
        // The component's `poll` looks at the flag each time it is polled, which is now.
        if !ended && interrupt.as_mut().poll(context).is_ready() {
            ended = true;
            interrupted.store(true, Ordering::Relaxed);
        }
        call.as_mut().poll(context)
    });
    let outcome = outcome.await;
    interrupted.store(false, Ordering::Relaxed);
    outcome
}

/// What this host does by `wire`; for tests.
#[cfg(all(test, keyslot_embedded))]
impl Instance {
    pub(crate) async fn execute(
        &mut self,
        command: &Vec<Vec<u8>>,
    ) -> Result<Result<crate::Reply, Error>, Trap> {
        let result = call!(self, |guest, store| guest.client().call_execute(store, self.client, command))?;
        Ok(result.map(crate::Reply::new).map_err(Error::from))
    }

    pub(crate) async fn transaction(
        &mut self,
        commands: &[Vec<Vec<u8>>],
    ) -> Result<Result<Vec<Result<Vec<ReplyNode>, types::Error>>, types::Error>, Trap> {
        call!(self, |guest, store| guest.client().call_transaction(store, self.client, commands))
    }

    pub(crate) async fn watch(
        &mut self,
        keys: &[Vec<u8>],
    ) -> Result<Result<ResourceAny, types::Error>, Trap> {
        call!(self, |guest, store| guest.client().call_watch(store, self.client, keys))
    }

    /// Queues one command for what is watched, and runs it.
    #[allow(clippy::type_complexity, reason = "it is what the interface returns")]
    pub(crate) async fn exec(
        &mut self,
        watched: ResourceAny,
        command: &Vec<Vec<u8>>,
    ) -> Result<Result<Option<Vec<Result<Vec<ReplyNode>, types::Error>>>, types::Error>, Trap> {
        call!(self, |guest, store| guest.watched().call_queue(store, watched, command))?;
        call!(self, |guest, store| guest.watched().call_exec(store, watched))
    }

    pub(crate) async fn submit_typed(&mut self, commands: &[Vec<Vec<u8>>]) -> Result<u64, Trap> {
        call!(self, |guest, store| guest.client().call_submit(store, self.client, commands))
    }

    pub(crate) async fn wait_typed(
        &mut self,
        timeout_ms: u32,
        interrupt: impl Future<Output = ()>,
    ) -> Result<Vec<crate::bindings::exports::keyslot::redis::redis_cluster::Completion>, Trap> {
        let interrupted = Arc::clone(&self.store.data().interrupted);
        let waiting =
            async { call!(self, |guest, store| guest.client().call_wait(store, self.client, timeout_ms)) };
        interruptible(waiting, &interrupted, interrupt).await
    }

    pub(crate) async fn exchange(&mut self, requests: &[u8]) -> Result<Result<Vec<u8>, Error>, Trap> {
        let replies = wire_call!(self, |wire, store| wire.call_exchange(store, self.client, requests))?;
        Ok(replies.map_err(Error::from))
    }
}

/// Why the component failed, in one line. The backtrace goes to the log.
fn describe_trap(error: &wasmtime::Error, state: &State) -> Trap {
    tracing::debug!("the component failed: {error:?}");
    if let Some(bytes) = state.limiter.refused() {
        return Trap(format!("the component reached its memory limit of {bytes} bytes"));
    }
    if let Some(overdue) = error.downcast_ref::<Overdue>() {
        return Trap(overdue.to_string());
    }
    let cause = error.root_cause().to_string();
    let first = cause.lines().next().unwrap_or_default();
    Trap(format!("the component failed: {first}"))
}
