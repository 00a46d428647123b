//! One TCP connection, never blocking.
//!
//! What WASI 0.2 asks for, and a trap or a delay punishes:
//! - `write` takes no more than `check-write` has just allowed, once; hence a new permit for each
//!   write;
//! - TCP_NODELAY cannot be set, so a request in two writes waits for a delayed ACK: all that is
//!   queued goes into one;
//! - an empty read means "nothing yet", the end is an error;
//! - the host allocates what `read` asks for, so it asks for little until much comes;
//! - a pollable has to be dropped before what it was made of: fields are dropped in their order;
//! - dropping an output-stream waits for the write under way, so [`Socket::close`] ends a
//!   connection.

use alloc::collections::VecDeque;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::SocketAddr;

use bytes::{Buf, Bytes};
use wasi::io::poll::Pollable;
use wasi::io::streams::{InputStream, OutputStream, StreamError};
use wasi::sockets::instance_network::instance_network;
use wasi::sockets::network::{
    ErrorCode, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress, Ipv6SocketAddress,
};
use wasi::sockets::tcp::{ShutdownType, TcpSocket};
use wasi::sockets::tcp_create_socket::create_tcp_socket;

/// What a read asks for at first.
pub(crate) const READ_SMALL: u64 = 16 << 10;
/// What a read asks for once a whole small one was filled; the host gives no more at a time.
pub(crate) const READ_LARGE: u64 = 64 << 10;

/// Not to be dropped once it is open, but closed.
pub(crate) struct Socket {
    /// While it is dialling: when that may have ended.
    dialled: Option<Pollable>,
    /// Once it is open.
    stream: Option<Stream>,
    socket: TcpSocket,
    address: SocketAddr,
}

/// The two directions of an open connection.
struct Stream {
    readable: Pollable,
    writable: Pollable,
    input: InputStream,
    output: OutputStream,
    /// Handed over, but not yet taken by the host.
    unwritten: VecDeque<Bytes>,
}

/// A closed connection whose last write the host has not ended yet. It can be dropped once it is
/// dead.
pub(crate) struct Dying {
    output: OutputStream,
    _input: InputStream,
    socket: TcpSocket,
    pub(crate) address: SocketAddr,
}

impl Dying {
    /// Whether dropping it waits for nothing.
    pub(crate) fn is_dead(&self) -> bool {
        has_no_write(&self.output)
    }
}

/// Whether the host has no write under way: it gives a permit for the next, or an error.
fn has_no_write(output: &OutputStream) -> bool {
    output.check_write().map_or(true, |permit| permit > 0)
}

/// Why a dial could not begin.
pub(crate) enum Refusal {
    /// The host has no socket left, whatever the address.
    NoSocket(String),
    /// It does not work for this address.
    Failed(String),
}

impl From<ErrorCode> for Refusal {
    fn from(error: ErrorCode) -> Self {
        match error {
            ErrorCode::NewSocketLimit => Self::NoSocket(describe(error)),
            error => Self::Failed(describe(error)),
        }
    }
}

impl Socket {
    /// Begins to dial.
    pub(crate) fn dial(address: SocketAddr) -> Result<Self, Refusal> {
        let family = if address.is_ipv4() { IpAddressFamily::Ipv4 } else { IpAddressFamily::Ipv6 };
        let socket = create_tcp_socket(family)?;
        socket.start_connect(&instance_network(), wit_address(address))?;
        Ok(Self { dialled: Some(socket.subscribe()), stream: None, socket, address })
    }

    /// Ends the connection, without waiting. What cannot be dropped yet is returned.
    pub(crate) fn close(self) -> Option<Dying> {
        let Self { dialled, stream, socket, address } = self;
        // Pollables go before what they were made of, and streams before their socket.
        drop(dialled);
        let Stream { readable, writable, input, output, unwritten: _ } = stream?;
        drop((readable, writable));
        let dying = Dying { output, _input: input, socket, address };
        if dying.is_dead() {
            return None;
        }
        // A host may end the write for that. Wasmtime's only takes note.
        let _ = dying.socket.shutdown(ShutdownType::Both);
        (!dying.is_dead()).then_some(dying)
    }

    /// Puts what this socket waits for on the list of a poll.
    pub(crate) fn subscribe<'a>(&'a self, mut add: impl FnMut(&'a Pollable)) {
        if let Some(dialled) = &self.dialled {
            add(dialled);
        }
        if let Some(stream) = &self.stream {
            add(&stream.readable);
            if !stream.unwritten.is_empty() {
                add(&stream.writable);
            }
        }
    }

    /// Whether it is still dialling.
    pub(crate) fn is_dialling(&self) -> bool {
        self.dialled.is_some()
    }

    /// Looks whether the dial has ended: true when the connection is open.
    pub(crate) fn finish_dial(&mut self) -> Result<bool, String> {
        let (input, output) = match self.socket.finish_connect() {
            Ok(streams) => streams,
            Err(ErrorCode::WouldBlock) => return Ok(false),
            Err(error) => return Err(describe(error)),
        };
        self.dialled = None;
        self.stream = Some(Stream {
            readable: input.subscribe(),
            writable: output.subscribe(),
            input,
            output,
            unwritten: VecDeque::new(),
        });
        Ok(true)
    }

    /// Takes bytes to send and writes as much as the host takes now. Gives the number of writes.
    pub(crate) fn send(&mut self, bytes: Bytes) -> Result<u64, String> {
        if let Some(stream) = &mut self.stream {
            stream.unwritten.push_back(bytes);
        }
        self.write()
    }

    /// Writes as much of what is still to be sent as the host takes now. Gives the number of
    /// writes.
    pub(crate) fn write(&mut self) -> Result<u64, String> {
        let Some(stream) = &mut self.stream else {
            return Ok(0);
        };
        let mut writes = 0;
        while let Some(bytes) = stream.unwritten.front_mut() {
            let permit = usize::try_from(stream.output.check_write().map_err(end)?).unwrap_or(usize::MAX);
            if permit == 0 {
                break;
            }
            let length = bytes.len().min(permit);
            stream.output.write(bytes.get(..length).unwrap_or_default()).map_err(end)?;
            writes += 1;
            bytes.advance(length);
            if bytes.is_empty() {
                stream.unwritten.pop_front();
            }
        }
        Ok(writes)
    }

    /// How many bytes wait for the host to take them.
    pub(crate) fn unwritten(&self) -> usize {
        self.stream.as_ref().map_or(0, |stream| stream.unwritten.iter().map(Bytes::len).sum())
    }

    /// Reads once; an empty list when nothing has come in. `much`: more of a long reply is on its
    /// way.
    pub(crate) fn read(&mut self, much: bool) -> Result<Vec<u8>, String> {
        match &mut self.stream {
            Some(stream) => stream.input.read(if much { READ_LARGE } else { READ_SMALL }).map_err(end),
            None => Ok(Vec::new()),
        }
    }
}

fn wit_address(address: SocketAddr) -> IpSocketAddress {
    match address {
        SocketAddr::V4(address) => {
            let [a, b, c, d] = address.ip().octets();
            IpSocketAddress::Ipv4(Ipv4SocketAddress { port: address.port(), address: (a, b, c, d) })
        }
        SocketAddr::V6(address) => {
            let [a, b, c, d, e, f, g, h] = address.ip().segments();
            IpSocketAddress::Ipv6(Ipv6SocketAddress {
                port: address.port(),
                flow_info: 0,
                address: (a, b, c, d, e, f, g, h),
                scope_id: 0,
            })
        }
    }
}

/// Why a stream has ended.
fn end(error: StreamError) -> String {
    match error {
        StreamError::Closed => "the connection was closed".to_string(),
        StreamError::LastOperationFailed(error) => {
            // WASI has only this for a broken stream, and each runtime words it in its own way.
            let reason = error.to_debug_string();
            let letters: Vec<u8> = reason.bytes().filter(u8::is_ascii_alphabetic).collect();
            let is =
                |what: &[u8]| letters.windows(what.len()).any(|letters| letters.eq_ignore_ascii_case(what));
            if is(b"connectionreset") {
                describe(ErrorCode::ConnectionReset)
            } else if is(b"brokenpipe") {
                "the connection was closed".to_string()
            } else {
                reason
            }
        }
    }
}

/// What a socket error means to the user of the client.
pub(crate) fn describe(error: ErrorCode) -> String {
    match error {
        ErrorCode::AccessDenied => "the host does not allow this connection".to_string(),
        ErrorCode::NotSupported => "the host does not support this kind of connection".to_string(),
        ErrorCode::Timeout => "the connection timed out".to_string(),
        // EMFILE, ENFILE.
        ErrorCode::NewSocketLimit => {
            "the host's process has no descriptor left for a socket: lower the limit \
                                      connections, or raise the process's limit (ulimit -n)"
                .to_string()
        }
        // What runtimes say of errors that they have no word for, of a look-up without a descriptor
        // for one.
        ErrorCode::Unknown => "the host reports an error without a name; it may have no descriptor left for \
                               a socket (limit-connections, ulimit -n)"
            .to_string(),
        ErrorCode::RemoteUnreachable => "no route to the address".to_string(),
        ErrorCode::ConnectionRefused => "connection refused: nothing listens there".to_string(),
        ErrorCode::ConnectionReset => "the connection was reset".to_string(),
        ErrorCode::ConnectionAborted => "the connection was aborted".to_string(),
        ErrorCode::TemporaryResolverFailure => "the name cannot be looked up now".to_string(),
        error => error.message().to_string(),
    }
}
