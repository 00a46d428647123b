//! An open connection and its two streams.

use std::future::poll_fn;
use std::io::{self, ErrorKind, Read};
use std::net::Shutdown;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Buf, Bytes, BytesMut};
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::bindings::sockets::network::ErrorCode;
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};

/// How much one write takes and one read gives, in bytes. That of wasmtime-wasi.
pub(super) const STREAM_SIZE: usize = 64 << 10;

/// An open connection. It is closed when its socket and both streams have been dropped.
pub(super) struct Connection {
    stream: TcpStream,
    sending: Mutex<Sending>,
    /// Told when a write has ended.
    sent: Notify,
}

/// What becomes of the last write.
enum Sending {
    /// The system has taken it.
    Done,
    /// A task waits for the system to take the rest.
    UnderWay(AbortHandle),
    /// No more can be sent: it was ended here, or by an error.
    Ended(Option<ErrorCode>),
}

impl Connection {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, sending: Mutex::new(Sending::Done), sent: Notify::new() }
    }

    pub(super) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Ends what could still be received.
    pub(super) fn end_receiving(&self) {
        let _ = SockRef::from(&self.stream).shutdown(Shutdown::Read);
    }

    fn sending(&self) -> MutexGuard<'_, Sending> {
        self.sending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the write that is under way, and what could be sent after it.
    pub(super) fn end_sending(&self) {
        let mut sending = self.sending();
        if let Sending::UnderWay(task) = &*sending {
            task.abort();
        }
        if !matches!(*sending, Sending::Ended(_)) {
            *sending = Sending::Ended(None);
        }
        drop(sending);
        let _ = SockRef::from(&self.stream).shutdown(Shutdown::Write);
        self.sent.notify_waiters();
    }

    /// Sends the rest of a write as the system takes it.
    async fn send(self: Arc<Self>, mut rest: Bytes) {
        let result = loop {
            if let Err(error) = self.stream.writable().await {
                break Err(error);
            }
            if let Some(result) = send_now(&self.stream, &mut rest) {
                break result;
            }
        };
        let mut sending = self.sending();
        if matches!(*sending, Sending::UnderWay(_)) {
            *sending = after(result);
        }
        drop(sending);
        self.sent.notify_waiters();
    }
}

/// Sends what the system takes now. Gives nothing when that was not all.
fn send_now(stream: &TcpStream, rest: &mut Bytes) -> Option<io::Result<()>> {
    while !rest.is_empty() {
        match stream.try_write(rest) {
            Ok(length) => rest.advance(length),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
            Err(error) => return Some(Err(error)),
        }
    }
    Some(Ok(()))
}

/// What a write has come to.
fn after(result: io::Result<()>) -> Sending {
    match result {
        Ok(()) => Sending::Done,
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Sending::Ended(None),
        Err(error) => Sending::Ended(Some(error.into())),
    }
}

fn ended(reason: Option<ErrorCode>) -> StreamError {
    reason.map_or(StreamError::Closed, |code| StreamError::LastOperationFailed(code.into()))
}

/// What is sent over a connection.
pub(super) struct Output(Arc<Connection>);

impl Output {
    pub(super) fn new(connection: Arc<Connection>) -> Self {
        Self(connection)
    }
}

#[async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {
        loop {
            let sent = self.0.sent.notified();
            if !matches!(*self.0.sending(), Sending::UnderWay(_)) {
                return;
            }
            sent.await;
        }
    }
}

impl OutputStream for Output {
    fn write(&mut self, mut bytes: Bytes) -> StreamResult<()> {
        let mut sending = self.0.sending();
        match &*sending {
            Sending::Done => {}
            Sending::UnderWay(_) => return Err(StreamError::trap("a write without a permit")),
            Sending::Ended(reason) => return Err(ended(*reason)),
        }
        match send_now(&self.0.stream, &mut bytes) {
            Some(result) => *sending = after(result),
            None => {
                let task = tokio::spawn(Arc::clone(&self.0).send(bytes));
                *sending = Sending::UnderWay(task.abort_handle());
            }
        }
        match &*sending {
            Sending::Ended(reason) => Err(ended(*reason)),
            Sending::Done | Sending::UnderWay(_) => Ok(()),
        }
    }

    /// Whatever was written is on its way.
    fn flush(&mut self) -> StreamResult<()> {
        match &*self.0.sending() {
            Sending::Ended(reason) => Err(ended(*reason)),
            Sending::Done | Sending::UnderWay(_) => Ok(()),
        }
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        match &*self.0.sending() {
            Sending::Done => Ok(STREAM_SIZE),
            Sending::UnderWay(_) => Ok(0),
            Sending::Ended(reason) => Err(ended(*reason)),
        }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.0.end_sending();
    }
}

/// What comes in over a connection.
pub(super) struct Input {
    connection: Arc<Connection>,
    is_closed: bool,
}

impl Input {
    pub(super) fn new(connection: Arc<Connection>) -> Self {
        Self { connection, is_closed: false }
    }

    /// Reads what there is. Tokio's reactor is a thread that may not have run yet when something
    /// has come in, so the system is asked where tokio knows of nothing.
    fn read_now(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.connection.stream.try_read(buffer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                (&*SockRef::from(&self.connection.stream)).read(buffer)
            }
            outcome => outcome,
        }
    }
}

#[async_trait]
impl Pollable for Input {
    async fn ready(&mut self) {
        if !self.is_closed {
            let _ = poll_fn(|context| self.connection.stream.poll_read_ready(context)).await;
        }
    }
}

impl InputStream for Input {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        if self.is_closed {
            return Err(StreamError::Closed);
        }
        if size == 0 {
            return Ok(Bytes::new());
        }
        let mut buffer = BytesMut::zeroed(size.min(STREAM_SIZE));
        match self.read_now(&mut buffer) {
            Ok(0) => {
                self.is_closed = true;
                Err(StreamError::Closed)
            }
            Ok(length) => {
                buffer.truncate(length);
                Ok(buffer.freeze())
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                Ok(Bytes::new())
            }
            Err(error) => {
                self.is_closed = true;
                Err(StreamError::LastOperationFailed(ErrorCode::from(error).into()))
            }
        }
    }
}
