//! What a request can fail with. The WIT variant `error` has the same cases.

use alloc::string::String;
use core::fmt;
use core::time::Duration;

/// Why a request has no reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The caller's input cannot be sent as it is; the text quotes the part that is wrong.
    #[error("invalid argument: {0}")]
    InvalidArgument(String),
    /// The keys of one command lie in different slots.
    #[error("cross-slot: {0}")]
    CrossSlot(String),
    /// The server answered with an error.
    #[error("{0}")]
    Server(ServerError),
    /// More redirects than `max-redirects` were answered to one request.
    #[error("too many redirects: {0}")]
    RedirectLimit(String),
    /// No node serves the slot that the command needs.
    #[error("cluster down: {0}")]
    ClusterDown(String),
    /// No connection could be made; nothing was sent.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// The connection ended before the reply came.
    #[error("connection lost: {0}")]
    ConnectionLost(Interrupted),
    /// The request's time ran out before the reply came.
    #[error("timed out: {0}")]
    Timeout(Interrupted),
    /// The server refused the user name or the password.
    #[error("authentication failed: {0}")]
    Authentication(String),
    /// TLS could not be set up.
    #[error("TLS: {0}")]
    Tls(String),
    /// The server's bytes are not RESP, or not a reply that the request can have.
    #[error("protocol error: {0}")]
    Protocol(String),
    /// A limit of this client was reached.
    #[error("limit exceeded: {0}")]
    LimitExceeded(String),
    /// The client was closed.
    #[error("the client is closed")]
    Closed,
}

/// Text as an error quotes it: in quotes, and escaped where it is not printable ASCII.
///
/// `{:?}` would do much the same with tables of Unicode's properties, which are large for a component.
#[derive(Debug)]
pub struct Quoted<'a>(pub &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.as_bytes().escape_ascii())
    }
}

/// A time as an error tells it: `5s`, `1500ms`.
#[derive(Debug)]
pub(crate) struct Within(pub(crate) Duration);

impl fmt::Display for Within {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = self.0.as_millis() as u64;
        match (milliseconds / 1_000, milliseconds % 1_000) {
            (seconds @ 1.., 0) => write!(f, "{seconds}s"),
            _ => write!(f, "{milliseconds}ms"),
        }
    }
}

/// An error reply, taken apart at its first space: `code` is the upper-case word that tells errors apart
/// (`WRONGTYPE`, `MOVED`, `ERR`), `message` the rest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerError {
    /// The first word.
    pub code: String,
    /// What follows it.
    pub message: String,
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.code)?;
        if self.message.is_empty() { Ok(()) } else { write!(f, " {}", self.message) }
    }
}

/// A request whose reply did not come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interrupted {
    /// The node it was sent to, or was to be sent to; empty when none was chosen.
    pub node: String,
    /// What happened.
    pub message: String,
    /// Whether the server may have executed it. When false, it has certainly not been.
    pub possibly_executed: bool,
}

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let executed = if self.possibly_executed { "may have been executed" } else { "was not executed" };
        if self.node.is_empty() {
            write!(f, "{}; the command {executed}", self.message)
        } else {
            write!(f, "{}: {}; the command {executed}", self.node, self.message)
        }
    }
}
