//! What a component may use of this machine: sockets, a monotonic clock, randomness and streams.
//!
//! Only the interfaces that the component is known to import are linked. One that needs more, such
//! as files, does not load, and the error names the import.

use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Instant;

use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime_wasi::clocks::{WasiClocks, WasiClocksView};
use wasmtime_wasi::p2::bindings::sockets::ip_name_lookup::{self, ResolveAddressStream};
use wasmtime_wasi::p2::bindings::sockets::network::{self, ErrorCode, IpAddress, Network};
use wasmtime_wasi::p2::bindings::{clocks, io, random, sockets};
use wasmtime_wasi::p2::{DynPollable, IoError, SocketError, SocketResult};
use wasmtime_wasi::random::{WasiRandom, WasiRandomView};
use wasmtime_wasi::sockets::{WasiSockets, WasiSocketsView};

use crate::state::State;
use crate::tcp::Tcp;

/// Links what the component imports.
pub(crate) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    io::error::add_to_linker::<State, Table>(linker, |state| &mut state.table)?;
    io::poll::add_to_linker::<State, Interruptible>(linker, |state| state)?;
    io::streams::add_to_linker::<State, Table>(linker, |state| &mut state.table)?;
    clocks::monotonic_clock::add_to_linker::<State, WasiClocks>(linker, State::clocks)?;
    random::random::add_to_linker::<State, WasiRandom>(linker, State::random)?;
    random::insecure::add_to_linker::<State, WasiRandom>(linker, State::random)?;
    random::insecure_seed::add_to_linker::<State, WasiRandom>(linker, State::random)?;
    let no_options = sockets::network::LinkOptions::default();
    sockets::network::add_to_linker::<State, WasiSockets>(linker, &no_options, State::sockets)?;
    sockets::instance_network::add_to_linker::<State, WasiSockets>(linker, State::sockets)?;
    sockets::tcp_create_socket::add_to_linker::<State, Tcp>(linker, |state| state)?;
    sockets::tcp::add_to_linker::<State, Tcp>(linker, |state| state)?;
    ip_name_lookup::add_to_linker::<State, NameLookup>(linker, |state| state)
}

/// The resource table, for the interfaces of `wasi:io`.
struct Table;

impl HasData for Table {
    type Data<'a> = &'a mut ResourceTable;
}

/// `poll` as wasmtime does it, but it can be interrupted: it then returns an empty list.
struct Interruptible;

impl HasData for Interruptible {
    type Data<'a> = &'a mut State;
}

impl io::poll::Host for State {
    async fn poll(&mut self, pollables: Vec<Resource<DynPollable>>) -> wasmtime::Result<Vec<u32>> {
        let mut ready = pin!(io::poll::Host::poll(&mut self.table, pollables));
        // What is ready comes first: interruptions without end must not keep the component from its
        // sockets.
        let outcome = poll_fn(|context| match ready.as_mut().poll(context) {
            Poll::Pending if self.interrupted.load(Ordering::Relaxed) => Poll::Ready(Ok(Vec::new())),
            outcome => outcome,
        })
        .await;
        self.watchdog.reset();
        outcome
    }
}

impl io::poll::HostPollable for State {
    async fn ready(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<bool> {
        self.table.ready(pollable).await
    }

    async fn block(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        self.table.block(pollable).await
    }

    fn drop(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        io::poll::HostPollable::drop(&mut self.table, pollable)
    }
}

/// Name look-ups as wasmtime does them, but only of names that the policy allows. What they give is
/// then allowed, too.
struct NameLookup;

impl HasData for NameLookup {
    type Data<'a> = &'a mut State;
}

/// The look-ups' interface uses the errors of this one.
impl network::Host for State {
    fn convert_error_code(&mut self, error: SocketError) -> wasmtime::Result<ErrorCode> {
        self.sockets().convert_error_code(error)
    }

    fn network_error_code(&mut self, error: Resource<IoError>) -> wasmtime::Result<Option<ErrorCode>> {
        self.sockets().network_error_code(error)
    }
}

/// A `network` is a token without content; the policy stands in its place.
impl network::HostNetwork for State {
    fn drop(&mut self, network: Resource<Network>) -> wasmtime::Result<()> {
        network::HostNetwork::drop(&mut self.sockets(), network)
    }
}

impl ip_name_lookup::Host for State {
    fn resolve_addresses(
        &mut self,
        network: Resource<Network>,
        name: String,
    ) -> SocketResult<Resource<ResolveAddressStream>> {
        let Some(ports) = self.gate.name(&name) else {
            tracing::warn!(name, "the network policy refuses to look a name up");
            return Err(ErrorCode::AccessDenied.into());
        };
        if !self.look_ups.have_room(Instant::now()) {
            tracing::debug!(name, "too many names are looked up that nobody answers for");
            return Err(ErrorCode::TemporaryResolverFailure.into());
        }
        let stream = self.sockets().resolve_addresses(network, name)?;
        self.look_ups.begin(stream.rep(), ports);
        Ok(stream)
    }
}

impl ip_name_lookup::HostResolveAddressStream for State {
    fn resolve_next_address(
        &mut self,
        stream: Resource<ResolveAddressStream>,
    ) -> SocketResult<Option<IpAddress>> {
        let handle = stream.rep();
        let result = self.sockets().resolve_next_address(stream);
        if matches!(&result, Err(error) if matches!(error.downcast_ref(), Some(ErrorCode::WouldBlock))) {
            return result;
        }
        let ports = self.look_ups.has_ended(handle);
        if let (Ok(Some(address)), Some(ports)) = (&result, ports) {
            self.gate.learn(ip_address(*address), ports);
        }
        result
    }

    fn subscribe(
        &mut self,
        stream: Resource<ResolveAddressStream>,
    ) -> wasmtime::Result<Resource<DynPollable>> {
        self.sockets().subscribe(stream)
    }

    fn drop(&mut self, stream: Resource<ResolveAddressStream>) -> wasmtime::Result<()> {
        self.look_ups.drop(stream.rep(), Instant::now());
        ip_name_lookup::HostResolveAddressStream::drop(&mut self.sockets(), stream)
    }
}

/// An address as std has it.
fn ip_address(address: IpAddress) -> IpAddr {
    match address {
        IpAddress::Ipv4((a, b, c, d)) => IpAddr::from([a, b, c, d]),
        IpAddress::Ipv6((a, b, c, d, e, f, g, h)) => IpAddr::from([a, b, c, d, e, f, g, h]),
    }
}
