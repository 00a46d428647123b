//! TCP sockets for the component: `wasi:sockets/tcp` as far as a client needs it.
//!
//! They differ from those of wasmtime-wasi in what the component's poll loop depends on:
//!
//! | call | wasmtime-wasi | here |
//! |---|---|---|
//! | drop of an output-stream | waits until the write under way has ended | ends the write |
//! | `shutdown` of the sending side | takes effect after the write under way | ends the write |
//! | `read` of an input-stream | finds what tokio's reactor has heard of | asks the system |
//!
//! The write may be one that a stopped node never takes, and what the reactor has not heard of may
//! be the end of the connection. Nothing is lost by ending a write: the component closes a
//! connection only when it has given up what was sent over it.
//!
//! The types are our own. The table holds [`Socket`] where the generated traits say `TcpSocket`:
//! their resources are only typed numbers.

mod connection;
#[cfg(test)]
mod tests;

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use socket2::SockRef;
use tokio::net::{TcpSocket as Unconnected, TcpStream};
use wasmtime::component::{HasData, Resource};
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::bindings::sockets::network::{ErrorCode, IpAddressFamily, IpSocketAddress, Network};
use wasmtime_wasi::p2::bindings::sockets::tcp::{self, ShutdownType};
use wasmtime_wasi::p2::bindings::sockets::tcp_create_socket;
use wasmtime_wasi::p2::{
    DynInputStream, DynOutputStream, DynPollable, Pollable, SocketResult, TcpSocket, subscribe,
};
use wasmtime_wasi::sockets::SocketAddrUse;

use self::connection::{Connection, Input, Output};
use crate::state::State;

/// The sockets of an instance.
pub(crate) struct Tcp;

impl HasData for Tcp {
    type Data<'a> = &'a mut State;
}

/// A client's socket.
struct Socket {
    family: IpAddressFamily,
    progress: Progress,
}

enum Progress {
    Unconnected(Option<Unconnected>),
    Dialling(Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>),
    /// Until the streams are taken.
    Dialled(Option<io::Result<TcpStream>>),
    Open(Arc<Connection>),
}

impl Socket {
    /// Goes on with dialling.
    fn dial(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if let Progress::Dialling(dial) = &mut self.progress {
            let Poll::Ready(dialled) = dial.as_mut().poll(context) else {
                return Poll::Pending;
            };
            self.progress = Progress::Dialled(Some(dialled));
        }
        Poll::Ready(())
    }
}

#[async_trait]
impl Pollable for Socket {
    async fn ready(&mut self) {
        poll_fn(|context| self.dial(context)).await;
    }
}

/// The number of a socket, as ours and as that of the generated traits.
fn ours(socket: &Resource<TcpSocket>) -> Resource<Socket> {
    Resource::new_borrow(socket.rep())
}

impl tcp_create_socket::Host for State {
    fn create_tcp_socket(&mut self, family: IpAddressFamily) -> SocketResult<Resource<TcpSocket>> {
        let socket = match family {
            IpAddressFamily::Ipv4 => Unconnected::new_v4()?,
            IpAddressFamily::Ipv6 => Unconnected::new_v6()?,
        };
        if family == IpAddressFamily::Ipv6 {
            SockRef::from(&socket).set_only_v6(true)?;
        }
        let socket = Socket { family, progress: Progress::Unconnected(Some(socket)) };
        Ok(Resource::new_own(self.table.push(socket)?.rep()))
    }
}

impl tcp::Host for State {}

impl tcp::HostTcpSocket for State {
    fn start_connect(
        &mut self,
        this: Resource<TcpSocket>,
        network: Resource<Network>,
        remote_address: IpSocketAddress,
    ) -> SocketResult<()> {
        self.table.get(&network)?;
        let address = SocketAddr::from(remote_address);
        let socket = self.table.get_mut(&ours(&this))?;
        let Progress::Unconnected(unconnected) = &mut socket.progress else {
            return Err(ErrorCode::InvalidState.into());
        };
        if !may_be_dialled(address, socket.family) {
            return Err(ErrorCode::InvalidArgument.into());
        }
        if !self.gate.permits(address, SocketAddrUse::TcpConnect) {
            return Err(ErrorCode::AccessDenied.into());
        }
        let unconnected = unconnected.take().ok_or(ErrorCode::InvalidState)?;
        socket.progress = Progress::Dialling(Box::pin(unconnected.connect(address)));
        // The first packet goes out now. How it ends is asked for later.
        let _ = socket.dial(&mut Context::from_waker(Waker::noop()));
        Ok(())
    }

    fn finish_connect(
        &mut self,
        this: Resource<TcpSocket>,
    ) -> SocketResult<(Resource<DynInputStream>, Resource<DynOutputStream>)> {
        let this = ours(&this);
        let socket = self.table.get_mut(&this)?;
        if socket.dial(&mut Context::from_waker(Waker::noop())).is_pending() {
            return Err(ErrorCode::WouldBlock.into());
        }
        let Progress::Dialled(dialled) = &mut socket.progress else {
            return Err(ErrorCode::NotInProgress.into());
        };
        let stream = dialled.take().ok_or(ErrorCode::InvalidState)??;
        let connection = Arc::new(Connection::new(stream));
        socket.progress = Progress::Open(Arc::clone(&connection));
        let input: DynInputStream = Box::new(Input::new(Arc::clone(&connection)));
        let output: DynOutputStream = Box::new(Output::new(connection));
        Ok((self.table.push_child(input, &this)?, self.table.push_child(output, &this)?))
    }

    fn subscribe(&mut self, this: Resource<TcpSocket>) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(&mut self.table, ours(&this))
    }

    fn shutdown(&mut self, this: Resource<TcpSocket>, side: ShutdownType) -> SocketResult<()> {
        let socket = self.table.get(&ours(&this))?;
        let Progress::Open(connection) = &socket.progress else {
            return Err(ErrorCode::InvalidState.into());
        };
        if matches!(side, ShutdownType::Receive | ShutdownType::Both) {
            connection.end_receiving();
        }
        if matches!(side, ShutdownType::Send | ShutdownType::Both) {
            connection.end_sending();
        }
        Ok(())
    }

    /// Closing does not wait: sockets here do not linger.
    fn drop(&mut self, this: Resource<TcpSocket>) -> wasmtime::Result<()> {
        self.table.delete(Resource::<Socket>::new_own(this.rep()))?;
        Ok(())
    }

    fn address_family(&mut self, this: Resource<TcpSocket>) -> wasmtime::Result<IpAddressFamily> {
        Ok(self.table.get(&ours(&this))?.family)
    }

    fn is_listening(&mut self, _: Resource<TcpSocket>) -> wasmtime::Result<bool> {
        Ok(false)
    }

    fn local_address(&mut self, this: Resource<TcpSocket>) -> SocketResult<IpSocketAddress> {
        match &self.table.get(&ours(&this))?.progress {
            Progress::Open(connection) => Ok(connection.stream().local_addr()?.into()),
            _ => Err(ErrorCode::InvalidState.into()),
        }
    }

    fn remote_address(&mut self, this: Resource<TcpSocket>) -> SocketResult<IpSocketAddress> {
        match &self.table.get(&ours(&this))?.progress {
            Progress::Open(connection) => Ok(connection.stream().peer_addr()?.into()),
            _ => Err(ErrorCode::InvalidState.into()),
        }
    }

    // The component binds no socket, listens at none and sets no options.

    async fn start_bind(
        &mut self,
        _: Resource<TcpSocket>,
        _: Resource<Network>,
        _: IpSocketAddress,
    ) -> SocketResult<()> {
        unsupported()
    }

    fn finish_bind(&mut self, _: Resource<TcpSocket>) -> SocketResult<()> {
        unsupported()
    }

    async fn start_listen(&mut self, _: Resource<TcpSocket>) -> SocketResult<()> {
        unsupported()
    }

    fn finish_listen(&mut self, _: Resource<TcpSocket>) -> SocketResult<()> {
        unsupported()
    }

    fn accept(
        &mut self,
        _: Resource<TcpSocket>,
    ) -> SocketResult<(Resource<TcpSocket>, Resource<DynInputStream>, Resource<DynOutputStream>)> {
        unsupported()
    }

    fn set_listen_backlog_size(&mut self, _: Resource<TcpSocket>, _: u64) -> SocketResult<()> {
        unsupported()
    }

    fn keep_alive_enabled(&mut self, _: Resource<TcpSocket>) -> SocketResult<bool> {
        unsupported()
    }

    fn set_keep_alive_enabled(&mut self, _: Resource<TcpSocket>, _: bool) -> SocketResult<()> {
        unsupported()
    }

    fn keep_alive_idle_time(&mut self, _: Resource<TcpSocket>) -> SocketResult<u64> {
        unsupported()
    }

    fn set_keep_alive_idle_time(&mut self, _: Resource<TcpSocket>, _: u64) -> SocketResult<()> {
        unsupported()
    }

    fn keep_alive_interval(&mut self, _: Resource<TcpSocket>) -> SocketResult<u64> {
        unsupported()
    }

    fn set_keep_alive_interval(&mut self, _: Resource<TcpSocket>, _: u64) -> SocketResult<()> {
        unsupported()
    }

    fn keep_alive_count(&mut self, _: Resource<TcpSocket>) -> SocketResult<u32> {
        unsupported()
    }

    fn set_keep_alive_count(&mut self, _: Resource<TcpSocket>, _: u32) -> SocketResult<()> {
        unsupported()
    }

    fn hop_limit(&mut self, _: Resource<TcpSocket>) -> SocketResult<u8> {
        unsupported()
    }

    fn set_hop_limit(&mut self, _: Resource<TcpSocket>, _: u8) -> SocketResult<()> {
        unsupported()
    }

    fn receive_buffer_size(&mut self, _: Resource<TcpSocket>) -> SocketResult<u64> {
        unsupported()
    }

    fn set_receive_buffer_size(&mut self, _: Resource<TcpSocket>, _: u64) -> SocketResult<()> {
        unsupported()
    }

    fn send_buffer_size(&mut self, _: Resource<TcpSocket>) -> SocketResult<u64> {
        unsupported()
    }

    fn set_send_buffer_size(&mut self, _: Resource<TcpSocket>, _: u64) -> SocketResult<()> {
        unsupported()
    }
}

fn unsupported<T>() -> SocketResult<T> {
    Err(ErrorCode::NotSupported.into())
}

/// Whether the interface lets a socket of this family connect there: to one host, at a port.
fn may_be_dialled(address: SocketAddr, family: IpAddressFamily) -> bool {
    let is_host = match (address.ip(), family) {
        (IpAddr::V4(ip), IpAddressFamily::Ipv4) => !ip.is_multicast() && !ip.is_broadcast(),
        (IpAddr::V6(ip), IpAddressFamily::Ipv6) => !ip.is_multicast() && ip.to_ipv4_mapped().is_none(),
        _ => false,
    };
    is_host && !address.ip().is_unspecified() && address.port() != 0
}
