//! A call with commands, until the component has all of them.

use super::lease::ResourceId;
use super::recipient::Recipient;
use super::requests::Requests;
use crate::Error;

/// Whose call it is: a clone of the client, a connection or a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct CallerId(u64);

impl CallerId {
    /// The worker itself.
    pub(super) const WORKER: Self = Self(u64::MAX);

    pub(super) const fn new(number: u64) -> Self {
        Self(number)
    }
}

/// A call of which the component has commands. No number is used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct CallId(pub(super) u64);

/// A call with commands, of which some may be in the component already.
pub(super) struct Submission {
    pub(super) caller: CallerId,
    pub(super) target: Target,
    /// Those that are still to be handed in.
    pub(super) requests: Requests,
    pub(super) progress: Progress,
}

/// How far a call has come that is not yet handed in as a whole.
pub(super) enum Progress {
    /// Nothing of it is.
    New(Recipient),
    /// It has this number, and so many of its commands are.
    Begun { call: CallId, commands: usize },
}

/// Where commands go.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// Where their keys are.
    Cluster,
    /// To this node and no other.
    Node(String),
    /// Over this connection of the caller's.
    Connection(ResourceId),
    /// As one transaction, where its keys are.
    Transaction,
    /// As one transaction, over this connection of the caller's.
    TransactionOn(ResourceId),
    /// To this scan, for its next batch.
    Scan(ResourceId),
}

impl Submission {
    pub(super) fn new(caller: CallerId, target: Target, requests: Requests, recipient: Recipient) -> Self {
        Self { caller, target, requests, progress: Progress::New(recipient) }
    }

    pub(super) fn fail(self, error: &Error) {
        if let Progress::New(recipient) = self.progress {
            recipient.fail(error);
        }
    }

    /// Whether it goes in in several pieces.
    pub(super) fn is_long(&self) -> bool {
        self.requests.pieces() > 1 || matches!(self.progress, Progress::Begun { .. })
    }
}

impl Target {
    /// Whether the commands of different calls may go together.
    pub(super) fn joins(&self, other: &Self) -> bool {
        self == other && !matches!(self, Self::Transaction | Self::TransactionOn(_))
    }
}
