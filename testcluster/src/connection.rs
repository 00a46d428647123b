//! A small blocking connection to one node.

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use keyslot_core::error::ServerError;
use keyslot_core::resp::{DecodeError, Decoder, Frame, Limits, Reply, ReplyNode, encode_command};

/// How long a connect, a write and each read may take, unless
/// [`set_timeout`](Connection::set_timeout) says otherwise.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How much is asked of the socket at a time.
const READ_LENGTH: usize = 64 * 1024;

/// One connection to one server. It knows nothing of clusters: what a node answers, MOVED included,
/// is what the caller gets.
///
/// After an error that is not the server's ([`CallError::Server`]) nobody knows which reply comes
/// next, and every later call fails.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    decoder: Decoder,
    pushes: VecDeque<Reply>,
    broken: bool,
}

/// Why a call has no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The connection could not be made, broke or timed out.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The server closed the connection.
    #[error("the server closed the connection")]
    Closed,
    /// The server's bytes are no reply.
    #[error("the server's bytes are no reply: {0}")]
    Decode(#[from] DecodeError),
    /// The server answered with an error.
    #[error("{0}")]
    Server(ServerError),
    /// The server answered with another type than the one asked for.
    #[error("unexpected reply: {0:?}")]
    Unexpected(Reply),
}

impl Connection {
    /// Connects to `port` on 127.0.0.1.
    ///
    /// # Errors
    ///
    /// When nobody listens there.
    pub fn connect(port: u16) -> Result<Self, CallError> {
        Self::connect_addr((Ipv4Addr::LOCALHOST, port).into())
    }

    /// Connects to an address.
    ///
    /// # Errors
    ///
    /// When nobody listens there.
    pub fn connect_addr(address: SocketAddr) -> Result<Self, CallError> {
        let stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
        stream.set_nodelay(true)?;
        let mut connection =
            Self { stream, decoder: Decoder::new(Limits::default()), pushes: VecDeque::new(), broken: false };
        connection.set_timeout(TIMEOUT)?;
        Ok(connection)
    }

    /// Sets how long a write and each read may take.
    ///
    /// # Errors
    ///
    /// When the time is zero.
    pub fn set_timeout(&mut self, timeout: Duration) -> Result<(), CallError> {
        self.stream.set_read_timeout(Some(timeout))?;
        self.stream.set_write_timeout(Some(timeout))?;
        Ok(())
    }

    /// Switches to RESP3.
    ///
    /// # Errors
    ///
    /// When the server does not know RESP3, or the connection breaks.
    pub fn hello3(&mut self) -> Result<(), CallError> {
        successful(self.call(&["HELLO", "3"])?).map(drop)
    }

    /// Sends one command and waits for its reply, which may be an error reply.
    ///
    /// # Errors
    ///
    /// When no reply comes.
    pub fn call<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Result<Reply, CallError> {
        self.send(args)?;
        self.receive()
    }

    /// Sends all commands in one write and waits for all replies, which may be error replies.
    ///
    /// # Errors
    ///
    /// When one of the replies does not come.
    pub fn pipeline<A: AsRef<[u8]>>(&mut self, commands: &[Vec<A>]) -> Result<Vec<Reply>, CallError> {
        let mut buffer = BytesMut::new();
        for command in commands {
            encode_command(command, &mut buffer);
        }
        self.write(&buffer)?;
        commands.iter().map(|_| self.receive()).collect()
    }

    /// Sends one command and expects a string, `OK` included.
    ///
    /// # Errors
    ///
    /// When the reply is an error, null or of another type, or does not come.
    pub fn string<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Result<String, CallError> {
        let reply = successful(self.call(args)?)?;
        match reply.nodes.first().and_then(string_of) {
            Some(text) => Ok(text),
            None => Err(CallError::Unexpected(reply)),
        }
    }

    /// Sends one command and expects an array or a set of strings.
    ///
    /// # Errors
    ///
    /// When the reply is an error or of another type, or does not come.
    pub fn strings<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Result<Vec<Bytes>, CallError> {
        let reply = successful(self.call(args)?)?;
        if !matches!(reply.nodes.first(), Some(ReplyNode::Array(_) | ReplyNode::Set(_))) {
            return Err(CallError::Unexpected(reply));
        }
        let items: Option<Vec<_>> = reply.nodes[1..].iter().map(bytes_of).collect();
        items.ok_or(CallError::Unexpected(reply))
    }

    /// Sends one command and expects an integer.
    ///
    /// # Errors
    ///
    /// When the reply is an error or of another type, or does not come.
    pub fn integer<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Result<i64, CallError> {
        let reply = successful(self.call(args)?)?;
        match reply.nodes.first() {
            Some(ReplyNode::Integer(number)) => Ok(*number),
            _ => Err(CallError::Unexpected(reply)),
        }
    }

    /// Sends one command and expects `OK`.
    ///
    /// # Errors
    ///
    /// When the reply is anything else, or does not come.
    pub fn ok<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Result<(), CallError> {
        expect_ok(self.call(args)?)
    }

    /// Sends all commands in one write and expects `OK` from each.
    ///
    /// # Errors
    ///
    /// When a reply is anything else, or does not come; the first of them is told.
    pub fn all_ok<A: AsRef<[u8]>>(&mut self, commands: &[Vec<A>]) -> Result<(), CallError> {
        self.pipeline(commands)?.into_iter().try_for_each(expect_ok)
    }

    /// Sends one command and does not wait for its reply.
    ///
    /// # Errors
    ///
    /// When the connection breaks.
    pub fn send<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Result<(), CallError> {
        let mut buffer = BytesMut::new();
        encode_command(args, &mut buffer);
        self.write(&buffer)
    }

    /// Waits for the next reply. Pushes that come before it are kept for
    /// [`receive_push`](Self::receive_push).
    ///
    /// # Errors
    ///
    /// When none comes.
    pub fn receive(&mut self) -> Result<Reply, CallError> {
        loop {
            match self.receive_frame()? {
                Frame::Reply(reply) => return Ok(reply),
                Frame::Push(push) => self.pushes.push_back(push),
            }
        }
    }

    /// The next push (RESP3): one that was kept, or the next that comes.
    ///
    /// # Errors
    ///
    /// When none comes, or a reply comes instead.
    pub fn receive_push(&mut self) -> Result<Reply, CallError> {
        if let Some(push) = self.pushes.pop_front() {
            return Ok(push);
        }
        match self.receive_frame()? {
            Frame::Push(push) => Ok(push),
            Frame::Reply(reply) => {
                self.broken = true;
                Err(CallError::Unexpected(reply))
            }
        }
    }

    fn receive_frame(&mut self) -> Result<Frame, CallError> {
        if self.broken {
            return Err(CallError::Closed);
        }
        let frame = self.read_frame();
        self.broken = frame.is_err();
        frame
    }

    fn read_frame(&mut self) -> Result<Frame, CallError> {
        loop {
            if let Some(frame) = self.decoder.poll()? {
                return Ok(frame);
            }
            let mut buffer = BytesMut::zeroed(READ_LENGTH);
            let length = self.stream.read(&mut buffer)?;
            if length == 0 {
                return Err(CallError::Closed);
            }
            buffer.truncate(length);
            self.decoder.feed(buffer.freeze());
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), CallError> {
        if self.broken {
            return Err(CallError::Closed);
        }
        let written = self.stream.write_all(bytes);
        self.broken = written.is_err();
        Ok(written?)
    }
}

/// The reply, unless it is an error reply.
fn successful(reply: Reply) -> Result<Reply, CallError> {
    match reply.nodes.first() {
        Some(ReplyNode::Error(error)) => Err(CallError::Server(error.clone())),
        _ => Ok(reply),
    }
}

/// Nothing, when the reply is `OK`.
fn expect_ok(reply: Reply) -> Result<(), CallError> {
    let reply = successful(reply)?;
    if reply.nodes.first().and_then(bytes_of).is_some_and(|text| text == "OK") {
        Ok(())
    } else {
        Err(CallError::Unexpected(reply))
    }
}

fn string_of(node: &ReplyNode) -> Option<String> {
    bytes_of(node).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

fn bytes_of(node: &ReplyNode) -> Option<Bytes> {
    match node {
        ReplyNode::SimpleString(bytes)
        | ReplyNode::BulkString(bytes)
        | ReplyNode::Verbatim { text: bytes, .. } => Some(bytes.clone()),
        _ => None,
    }
}
