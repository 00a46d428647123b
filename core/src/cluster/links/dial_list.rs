//! What is to be dialled and looked up once there is room.

use alloc::collections::VecDeque;
use core::time::Duration;

use crate::cluster::ids::{ConnId, NodeKey};
use crate::time::Instant;

/// What is to be dialled and looked up once there is room.
#[derive(Debug, Default)]
pub(super) struct Dials {
    pub(super) next: VecDeque<NodeKey>,
    pub(super) later: VecDeque<NodeKey>,
    /// Connections that are not in use yet.
    pub(super) coming_up: usize,
    /// Names that are being looked up, and connections whose name is to be.
    pub(super) look_ups: usize,
    pub(super) unresolved: VecDeque<ConnId>,
    /// All connections, for finding one to close; some may have ended.
    pub(super) ring: VecDeque<ConnId>,
    /// While the host has no socket for more.
    pub(super) shortage: Option<Shortage>,
}

impl Dials {
    pub(super) fn footprint(&self) -> usize {
        self.next.len() + self.later.len() + self.unresolved.len() + self.ring.len()
    }

    /// Whether a node is listed that somebody waits for. It may have been dialled since.
    pub(super) fn has_next(&self) -> bool {
        !self.next.is_empty()
    }
}

/// The host has refused a socket.
#[derive(Debug)]
pub(super) struct Shortage {
    /// How many connections there may be.
    pub(super) limit: usize,
    pub(super) pause: Duration,
    pub(super) grows_at: Instant,
    /// Whether it has grown since a socket was last refused.
    pub(super) has_grown: bool,
}
