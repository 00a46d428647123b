//! When connections, nodes and waiters want attention without anything having happened.
//!
//! Each has one alarm among the machine's timers, which is set when something begins to be due and
//! looked at when it goes off. So an event costs what it is about, however many nodes and
//! connections there are.

use alloc::vec::Vec;

use crate::cluster::Cluster;
use crate::cluster::ids::NodeKey;
use crate::cluster::links::connection::Connection;
use crate::cluster::nodes::node::REPLICA_PATIENCE;
use crate::time::Instant;

impl Cluster {
    /// When something falls due. What has been done meanwhile, or is due later by now, is no reason
    /// to wake up.
    pub(in crate::cluster) fn next_alarm(&mut self) -> Option<Instant> {
        let alarms = [
            self.links.next_deadline(&self.cx),
            self.nodes.next_deadline(&self.cx),
            self.pool.next_deadline(),
        ];
        alarms.into_iter().flatten().min()
    }

    /// Ends connections that did not come up or did not answer their check in time, and looks at
    /// those on which answers are due.
    pub(in crate::cluster) fn check_connections(&mut self) {
        let due: Vec<_> = core::iter::from_fn(|| self.links.expire(&self.cx)).collect();
        for conn in due {
            let gives_up_at = self.links.get(conn).and_then(Connection::gives_up_at);
            if gives_up_at.is_some_and(|at| at <= self.cx.now) {
                self.give_up(conn);
            }
            self.stall_if_due(conn);
            self.links.watch(&self.cx, conn);
        }
    }

    /// Does for nodes what has fallen due.
    pub(in crate::cluster) fn check_nodes(&mut self) {
        let due: Vec<_> = core::iter::from_fn(|| self.nodes.expire(&self.cx)).collect();
        for key in due {
            self.tend_node(key);
        }
    }

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
}
