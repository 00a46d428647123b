//! When connections, nodes and waiters want attention without anything having happened.
//!
//! Each has one alarm among the machine's timers, which is set when something begins to be due and looked at when it goes off.
//! So an event costs what it is about, however many nodes and connections there are.

use alloc::vec::Vec;

use crate::cluster::links::dials::Listed;
use crate::cluster::links::liveness::REPLICA_PATIENCE;
use crate::cluster::{Cluster, Connection, Node, NodeKey};
use crate::time::Instant;

impl Cluster {
    /// When something falls due. What has been done meanwhile, or is due later by now, is no reason to wake up.
    pub(in crate::cluster) fn next_alarm(&mut self) -> Option<Instant> {
        while let Some((at, key)) = self.node_alarms.first() {
            let node = self.nodes.get(key).filter(|node| node.alarm.is_set_to(at));
            if node.and_then(|node| self.wakes_at(node)).is_some_and(|due| due <= at) {
                break;
            }
            self.node_alarms.pop_entry(at);
            if self.nodes.get_mut(key).is_some_and(|node| node.alarm.goes_off(at)) {
                self.look_after(key);
            }
        }
        let alarms =
            [self.links.next_deadline(&self.cx), self.node_alarms.next(), self.next_lease_deadline()];
        alarms.into_iter().flatten().min()
    }

    /// Ends connections that did not come up or did not answer their check in time, and looks at those on which answers are due.
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

    /// Sets a node's alarm: something may be due earlier than before.
    pub(in crate::cluster) fn look_after(&mut self, key: NodeKey) {
        let due = self.nodes.get(key).and_then(|node| self.wakes_at(node));
        if let Some(node) = self.nodes.get_mut(key) {
            node.alarm.set(due, key, &mut self.node_alarms);
        }
        let nodes = &self.nodes;
        self.node_alarms
            .sweep(nodes.len(), |at, key| nodes.get(key).is_some_and(|node| node.alarm.is_set_to(at)));
    }

    /// When a node is to be dialled again, or what waits for it has waited long enough.
    fn wakes_at(&self, node: &Node) -> Option<Instant> {
        let shared = node.connection.is_none() && node.listed == Listed::No && self.wants_connection(node);
        // When it is not the wait that keeps waiters waiting, somebody has to give a connection back.
        let lends = !node.waiters.is_empty() && node.redial_at > self.cx.now;
        let redial = (shared || lends).then_some(node.redial_at);
        redial.into_iter().chain(node.reads_since.map(|since| since + REPLICA_PATIENCE)).min()
    }

    /// Does for nodes what has fallen due.
    pub(in crate::cluster) fn check_nodes(&mut self) {
        let mut due = Vec::new();
        while let Some((at, key)) = self.node_alarms.pop_entry(self.cx.now) {
            if self.nodes.get_mut(key).is_some_and(|node| node.alarm.goes_off(at)) {
                due.push(key);
            }
        }
        for key in due {
            self.tend_node(key);
        }
    }

    /// Dials a node whose wait is over, and lets the primary serve what has waited too long for a replica's connection.
    pub(in crate::cluster) fn tend_node(&mut self, key: NodeKey) {
        let is_over = |since: Instant| since + REPLICA_PATIENCE <= self.cx.now;
        if self.nodes.get(key).is_some_and(|node| node.reads_since.is_some_and(is_over)) {
            self.release_queue(key, None);
        }
        if self.nodes.get(key).is_some_and(|node| self.wants_connection(node)) {
            self.ensure_connection(key);
        }
        if self.nodes.get(key).is_some_and(|node| node.redial_at <= self.cx.now) {
            self.serve_waiters(key);
        }
        self.look_after(key);
    }
}
