//! What can end the command, in which words and with which exit code.

use std::io;
use std::process::ExitCode;

use keyslot::Error;

/// The server answered with an error, or refused the user or the password.
pub(crate) const REFUSED: u8 = 1;
/// The command line or a setting is wrong.
pub(crate) const USAGE: u8 = 2;
/// Nothing gave a usable answer.
pub(crate) const UNREACHABLE: u8 = 3;
/// Ctrl-C, as shells number it.
const INTERRUPTED: u8 = 130;

/// Why the command ends early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The library gave no reply.
    #[error(transparent)]
    Client(#[from] Error),
    /// The command line is wrong.
    #[error("{0}")]
    Usage(String),
    /// Standard input or output failed.
    #[error(transparent)]
    Output(#[from] io::Error),
    /// The demonstration could not start its servers, or did not show what it is for.
    #[error("{0}")]
    Demo(String),
    /// Ctrl-C or SIGTERM.
    #[error("interrupted")]
    Interrupted,
}

impl Failure {
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Client(error) => ExitCode::from(exit_code(error)),
            Self::Usage(_) => ExitCode::from(USAGE),
            Self::Output(_) if self.is_closed_pipe() => ExitCode::SUCCESS,
            Self::Output(_) | Self::Demo(_) => ExitCode::FAILURE,
            Self::Interrupted => ExitCode::from(INTERRUPTED),
        }
    }

    /// Whether the reader of standard output has gone away, as in `keyslot … | head -1`.
    pub(crate) fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// The exit code for a command that has no reply.
pub(crate) fn exit_code(error: &Error) -> u8 {
    match error {
        Error::InvalidArgument(_) | Error::Tls(_) => USAGE,
        Error::CrossSlot(_) | Error::Server(_) | Error::PartlyExecuted(_) | Error::Authentication(_) => {
            REFUSED
        }
        _ => UNREACHABLE,
    }
}

/// The code of an error: the server's, or that of the interface `wire` for the client's own.
pub(crate) fn code(error: &Error) -> &str {
    match error {
        Error::Server(error) => &error.code,
        Error::CrossSlot(_) => "KEYSLOT.CROSS-SLOT",
        Error::InvalidArgument(_) => "KEYSLOT.INVALID-ARGUMENT",
        Error::RedirectLimit(_) => "KEYSLOT.REDIRECT-LIMIT",
        Error::ClusterDown(_) => "KEYSLOT.CLUSTER-DOWN",
        Error::Connect(_) => "KEYSLOT.CONNECT",
        Error::ConnectionLost(_) => "KEYSLOT.CONNECTION-LOST",
        Error::Timeout(_) => "KEYSLOT.TIMEOUT",
        Error::PartlyExecuted(_) => "KEYSLOT.PARTLY-EXECUTED",
        Error::Authentication(_) => "KEYSLOT.AUTHENTICATION",
        Error::Tls(_) => "KEYSLOT.TLS",
        Error::Protocol(_) => "KEYSLOT.PROTOCOL",
        Error::LimitExceeded(_) => "KEYSLOT.LIMIT-EXCEEDED",
        Error::Closed => "KEYSLOT.CLOSED",
        Error::Host(_) => "KEYSLOT.HOST",
        _ => "KEYSLOT.OTHER",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_pipe_is_no_failure() {
        let failure = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert!(failure.is_closed_pipe());
        assert_eq!(failure.exit_code(), ExitCode::SUCCESS);
    }
}
