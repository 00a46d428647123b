//! Nodes that want attention: dialled when their wait is over or there is room, relieved of what
//! need not wait for them.

use crate::cluster::ids::NodeKey;
use crate::cluster::machine::{Cluster, Phase};
use crate::cluster::nodes::node::{Listed, REPLICA_PATIENCE};
use crate::time::Instant;

impl Cluster {
    /// Dials a node whose wait is over, and lets the primary serve what has waited too long for a
    /// replica's connection.
    pub(in crate::cluster) fn tend_node(&mut self, key: NodeKey) {
        let is_over = |since: Instant| since + REPLICA_PATIENCE <= self.cx.now;
        if self.nodes.get(key).is_some_and(|node| node.reads_since.is_some_and(is_over)) {
            self.release_queue(key, None);
        }
        if self.nodes.wants_connection(key) {
            self.ensure_connection(key);
        }
        if self.nodes.get(key).is_some_and(|node| node.redial_at <= self.cx.now) {
            self.serve_waiters(key);
        }
        self.nodes.look_after(&self.cx, key);
    }

    /// Dials nodes that are listed, as far as there is room.
    pub(in crate::cluster) fn drive_dials(&mut self) {
        self.links.ease_shortage(&self.cx);
        while let Some(key) = self.next_listed() {
            if let Some(node) = self.nodes.get_mut(key) {
                node.listed = Listed::No;
            }
            self.tend_node(key);
        }
    }

    /// Dials all nodes, a few at a time, when the topology is in doubt and there is nobody to ask.
    pub(in crate::cluster) fn seek_contact(&mut self) {
        let seeks = self.refresh_wants_connections();
        let has_sought = core::mem::replace(&mut self.nodes.seeks_contact, seeks);
        if seeks && !has_sought {
            for key in self.nodes.keys().collect::<alloc::vec::Vec<_>>() {
                self.ensure_connection(key);
            }
        }
    }

    /// Whether any connection would do, because there is none to ask.
    pub(in crate::cluster) fn refresh_wants_connections(&self) -> bool {
        matches!(self.phase, Phase::Clustered) && self.map.has_open_doubt() && !self.links.has_contact()
    }
}
