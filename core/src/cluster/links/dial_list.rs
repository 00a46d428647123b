//! What is to be dialled and looked up once there is room.

use alloc::collections::VecDeque;

use super::shortage::Shortage;
use crate::cluster::ids::{ConnId, NodeKey};

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
}
