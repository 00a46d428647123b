//! Why a call has no result: the component's `error`, case for case, and what only a host can tell.

use std::fmt;

use crate::bindings::exports::keyslot::redis::types::{Error as WitError, Interrupted, ServerError};

/// Why a call has no result.
///
/// Every case but the last is one of the WIT type `keyslot:redis/types.error`, whose documentation
/// says what to do about it. Displayed, each is one line, and never holds a password.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The input cannot be used as it is; the text quotes the part that is wrong. Nothing was sent.
    #[error("invalid argument: {}", one_line(.0))]
    InvalidArgument(String),
    /// The command's keys lie in different slots. Nothing was sent.
    #[error("the keys lie in different slots: {}", one_line(.0))]
    CrossSlot(String),
    /// The server answered with an error.
    #[error("{0}")]
    Server(ServerError),
    /// The request was redirected too often. Not executed.
    #[error("too many redirects: {}", one_line(.0))]
    RedirectLimit(String),
    /// No node is known to serve the slot. Not executed.
    #[error("the cluster is down: {}", one_line(.0))]
    ClusterDown(String),
    /// No connection could be made. Nothing was sent.
    #[error("cannot connect: {}", one_line(.0))]
    Connect(String),
    /// The connection ended between the request and its reply.
    #[error("connection lost: {0}")]
    ConnectionLost(Interrupted),
    /// The request's time ran out.
    #[error("timed out: {0}")]
    Timeout(Interrupted),
    /// A command that went to several nodes, or in several parts, was executed by some and not by
    /// others.
    #[error("partly executed: {0}")]
    PartlyExecuted(Interrupted),
    /// A server refused the user name or the password, or asked for one that was not given.
    #[error("authentication failed: {}", one_line(.0))]
    Authentication(String),
    /// TLS could not be set up.
    #[error("TLS: {}", one_line(.0))]
    Tls(String),
    /// What the server sent is not RESP, or not a reply to what was asked. A write may have been
    /// executed.
    #[error("protocol error: {}", one_line(.0))]
    Protocol(String),
    /// A limit of the client was reached; the text names it.
    #[error("limit exceeded: {}", one_line(.0))]
    LimitExceeded(String),
    /// The client was closed.
    #[error("the client is closed")]
    Closed,
    /// Anything else that the component tells.
    #[error("{}", one_line(.0))]
    Other(String),
    /// The component could not be loaded or had to be given up: it does not compile, needs an
    /// import that this host does not supply, reached the memory limit, or trapped. A command
    /// that was under way may have been executed. Where the component had been running, the
    /// next call starts a fresh instance and connects again.
    #[error("{}", one_line(.0))]
    Host(String),
}

impl Error {
    /// Whether a node that answers a PING so serves nobody for now, or has not answered at all.
    pub(crate) fn is_unwell(&self) -> bool {
        match self {
            Self::Server(error) => {
                keyslot_core::error::ServerError { code: error.code.clone(), message: String::new() }
                    .is_unwell()
            }
            _ => true,
        }
    }

    /// Whether a server may have executed the command that this is the result of. When false, it
    /// has certainly not been executed, or the server answered it with an error.
    #[must_use]
    pub fn possibly_executed(&self) -> bool {
        match self {
            Self::ConnectionLost(interrupted)
            | Self::Timeout(interrupted)
            | Self::PartlyExecuted(interrupted) => interrupted.possibly_executed,
            Self::Protocol(_) | Self::LimitExceeded(_) | Self::Other(_) | Self::Host(_) => true,
            Self::InvalidArgument(_)
            | Self::CrossSlot(_)
            | Self::Server(_)
            | Self::RedirectLimit(_)
            | Self::ClusterDown(_)
            | Self::Connect(_)
            | Self::Authentication(_)
            | Self::Tls(_)
            | Self::Closed => false,
        }
    }
}

impl From<WitError> for Error {
    fn from(error: WitError) -> Self {
        match error {
            WitError::InvalidArgument(text) => Self::InvalidArgument(text),
            WitError::CrossSlot(text) => Self::CrossSlot(text),
            WitError::Server(error) => Self::Server(error),
            WitError::RedirectLimit(text) => Self::RedirectLimit(text),
            WitError::ClusterDown(text) => Self::ClusterDown(text),
            WitError::Connect(text) => Self::Connect(text),
            WitError::ConnectionLost(interrupted) => Self::ConnectionLost(interrupted),
            WitError::Timeout(interrupted) => Self::Timeout(interrupted),
            WitError::PartlyExecuted(partly) => Self::PartlyExecuted(partly),
            WitError::Authentication(text) => Self::Authentication(text),
            WitError::Tls(text) => Self::Tls(text),
            WitError::Protocol(text) => Self::Protocol(text),
            WitError::LimitExceeded(text) => Self::LimitExceeded(text),
            WitError::Closed => Self::Closed,
            WitError::Other(text) => Self::Other(text),
        }
    }
}

impl From<keyslot_core::error::Error> for Error {
    fn from(error: keyslot_core::error::Error) -> Self {
        use keyslot_core::error::Error as Core;
        match error {
            Core::InvalidArgument(text) => Self::InvalidArgument(text),
            Core::CrossSlot(text) => Self::CrossSlot(text),
            Core::Server(error) => Self::Server(error.into()),
            Core::RedirectLimit(text) => Self::RedirectLimit(text),
            Core::ClusterDown(text) => Self::ClusterDown(text),
            Core::Connect(text) => Self::Connect(text),
            Core::ConnectionLost(lost) => Self::ConnectionLost(lost.into()),
            Core::Timeout(late) => Self::Timeout(late.into()),
            Core::PartlyExecuted(partly) => Self::PartlyExecuted(partly.into()),
            Core::Authentication(text) => Self::Authentication(text),
            Core::Tls(text) => Self::Tls(text),
            Core::Protocol(text) => Self::Protocol(text),
            Core::LimitExceeded(text) => Self::LimitExceeded(text),
            Core::Closed => Self::Closed,
        }
    }
}

impl From<keyslot_core::error::ServerError> for ServerError {
    fn from(error: keyslot_core::error::ServerError) -> Self {
        Self { code: error.code, message: error.message }
    }
}

impl From<keyslot_core::error::Interrupted> for Interrupted {
    fn from(interrupted: keyslot_core::error::Interrupted) -> Self {
        let keyslot_core::error::Interrupted { node, message, possibly_executed } = interrupted;
        Self { node, message, possibly_executed }
    }
}

/// As the server wrote it: the code, a space, the message.
impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.message.is_empty() {
            return f.write_str(&one_line(&self.code));
        }
        write!(f, "{} {}", one_line(&self.code), one_line(&self.message))
    }
}

/// What happened, where, and whether the server may have executed the request.
impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.node.is_empty() {
            write!(f, "{}: ", one_line(&self.node))?;
        }
        let fate = if self.possibly_executed { "it may have been executed" } else { "it was not executed" };
        write!(f, "{} ({fate})", one_line(&self.message))
    }
}

/// The text with line breaks and other control characters as spaces: much of it comes from servers.
pub(crate) fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_is_one_line() {
        let server = ServerError { code: "ERR".to_owned(), message: "first\r\nsecond".to_owned() };
        assert_eq!(Error::Server(server).to_string(), "ERR first  second");
        let bare = ServerError { code: "EXECABORT".to_owned(), message: String::new() };
        assert_eq!(Error::Server(bare).to_string(), "EXECABORT");
        let host = Error::Host("wasm trap:\n  unreachable".to_owned());
        assert!(!host.to_string().contains('\n'));
    }

    #[test]
    fn an_interrupted_request_says_where_and_whether_it_may_have_run() {
        let interrupted = |node: &str, possibly_executed| Interrupted {
            node: node.to_owned(),
            message: "no answer".to_owned(),
            possibly_executed,
        };
        let lost = Error::ConnectionLost(interrupted("10.0.0.1:6379", true));
        assert_eq!(lost.to_string(), "connection lost: 10.0.0.1:6379: no answer (it may have been executed)");
        assert!(lost.possibly_executed());
        let partly = Error::PartlyExecuted(interrupted("", true));
        assert_eq!(partly.to_string(), "partly executed: no answer (it may have been executed)");
        assert!(partly.possibly_executed());
        let late = Error::Timeout(interrupted("", false));
        assert_eq!(late.to_string(), "timed out: no answer (it was not executed)");
        assert!(!late.possibly_executed());
    }
}
