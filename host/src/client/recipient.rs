//! Where results go.

use tokio::sync::oneshot;

use super::outcomes::Outcomes;
use crate::{Error, Reply};

/// Where the result of a call goes. The caller may have gone.
pub(super) type Responder<T> = oneshot::Sender<Result<T, Error>>;

/// Who waits for the results of commands.
pub(super) enum Recipient {
    One(Responder<Reply>),
    Many(Responder<Vec<Result<Reply, Error>>>),
    /// Somebody who does not read the replies.
    Outcomes(Outcomes),
    /// Nobody: a command of the worker's own.
    Nobody,
}

impl Recipient {
    /// Whether nobody waits any more.
    pub(super) fn is_gone(&self) -> bool {
        match self {
            Self::One(responder) => responder.is_closed(),
            Self::Many(responder) => responder.is_closed(),
            Self::Outcomes(outcomes) => outcomes.is_gone(),
            Self::Nobody => false,
        }
    }

    pub(super) fn fail(self, error: &Error) {
        match self {
            Self::One(responder) => drop(responder.send(Err(error.clone()))),
            Self::Many(responder) => drop(responder.send(Err(error.clone()))),
            Self::Outcomes(outcomes) => outcomes.fail(error),
            Self::Nobody => {}
        }
    }
}
