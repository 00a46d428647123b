//! One lease: who has, or waits for, a dedicated connection.
//!
//! ```text
//!   Waiting ─→ Opening ─→ Held ─→ given back
//!      ↑ ↑        │        │
//!      │ └─ failed┘        │ redirected, or to be tried again: Paused ─→ Waiting
//!      └───────────────────┘
//! ```

use alloc::string::{String, ToString};
use core::time::Duration;

use crate::cluster::ids::{ConnId, NodeKey};
use crate::cluster::queue::Queue;
use crate::error::{Error, Interrupted};
use crate::slot::Slot;
use crate::time::Instant;

/// Somebody who has, or waits for, a connection.
#[derive(Debug)]
pub(in crate::cluster) struct Lease {
    pub(super) state: LeaseState,
    /// Requests for when it is there, in order.
    pub(super) queue: Queue,
    pub(super) place: Lending,
    /// The node that an ASK has named, for as long as it has the connection: ASKING goes before
    /// each of its commands.
    pub(super) asked: Option<NodeKey>,
    /// When what was sent over it has stopped blocking, as it says itself.
    pub(super) blocks_until: Instant,
    /// How many requests have been put on its connection.
    pub(super) sent: u32,
    /// How long it waits for a connection, and until when.
    pub(super) patience: Duration,
    pub(super) deadline: Instant,
}

/// Whose connection is lent.
#[derive(Clone, Copy, Debug)]
pub(in crate::cluster) enum Lending {
    /// That of the primary of this slot.
    Owner(Slot),
    /// That of this node.
    At(NodeKey),
    /// Any primary's.
    Anywhere,
}

#[derive(Debug, PartialEq)]
pub(super) enum LeaseState {
    /// For a node's connection, or for a node.
    Waiting(Option<NodeKey>),
    /// For its first command's retry.
    Paused,
    /// For this connection to come up, or to answer its PING.
    Opening(ConnId),
    Held(ConnId),
    /// There is none, or it has ended under its holder: what every request is told from now on.
    Ended(Error),
}

impl Lease {
    pub(in crate::cluster) fn slot(&self) -> Option<Slot> {
        match self.place {
            Lending::Owner(slot) => Some(slot),
            Lending::At(_) | Lending::Anywhere => None,
        }
    }

    /// The connection that its holder has.
    pub(in crate::cluster) fn connection(&self) -> Option<ConnId> {
        match self.state {
            LeaseState::Held(conn) => Some(conn),
            _ => None,
        }
    }

    /// Whether its holder loses nothing when it moves, to where `slot` is if it is redirected: only
    /// one request was sent.
    pub(super) fn may_move(&self, slot: Option<Slot>) -> bool {
        let own = self.slot();
        let is_its_own = slot.is_none() || slot == own;
        let is_first = matches!(self.state, LeaseState::Held(_)) && self.sent <= 1 && self.queue.is_empty();
        own.is_some() && is_its_own && is_first
    }

    pub(super) fn is_waiting(&self) -> bool {
        matches!(self.state, LeaseState::Waiting(_) | LeaseState::Opening(_))
    }
}

/// What a request ends with whose holder has given the connection back.
pub(super) fn given_back(node: String, possibly_executed: bool) -> Error {
    let message = "the connection was given back before the reply".to_string();
    Error::ConnectionLost(Interrupted { node, message, possibly_executed })
}
