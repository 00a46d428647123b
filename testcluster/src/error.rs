//! What can go wrong while a server or a cluster is started or changed.

use std::fmt;
use std::io;
use std::time::Duration;

use crate::connection::CallError;

/// Why a server could not be started, or a cluster not be changed.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The server program does not exist.
    #[error(
        "there is no {0} here: install it (Debian: apt-get install redis-server, macOS: brew install redis) \
         or name one in KEYSLOT_REDIS_SERVER"
    )]
    NotInstalled(String),
    /// The operating system refused a process, a folder or a port.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// The server process ended instead of answering.
    #[error("the server on port {port} ended at once ({status}); its log ends with:\n{log}")]
    Ended {
        /// The port it was to listen on.
        port: u16,
        /// Its exit status.
        status: String,
        /// The last lines of its log.
        log: String,
    },
    /// A condition did not come true in time.
    #[error("after {waited:?} still waiting until {what}: {last}")]
    Deadline {
        /// The condition.
        what: String,
        /// How long it was waited for.
        waited: Duration,
        /// What was missing the last time it was looked at.
        last: String,
    },
    /// A node did not answer, or answered with an error.
    #[error("the node on port {port}: {source}")]
    Call {
        /// The node's port.
        port: u16,
        /// What happened.
        source: CallError,
    },
    /// The cluster cannot do what was asked for as it is now.
    #[error("{0}")]
    Unfit(String),
}

impl fmt::Debug for Error {
    /// The same text as for people: it is what a test that unwraps shows.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    pub(crate) fn call(port: u16) -> impl FnOnce(CallError) -> Self {
        move |source| Self::Call { port, source }
    }
}
