//! Nodes: the address book, who can be reached, and when to dial whom.

pub(in crate::cluster) mod failures;
pub(in crate::cluster) mod node;
pub(in crate::cluster) mod staleness;
mod tend;

use alloc::string::ToString;
use alloc::vec::Vec;

use litemap::LiteMap;
use slotmap::SlotMap as Arena;

use super::context::Context;
use super::events::Event;
use super::ids::NodeKey;
use super::timers::Timers;
use crate::address::NodeAddr;
use crate::error::ServerError;
use crate::time::Instant;
use crate::topology::NODES_MAX;
use failures::Failures;
use node::Listed;
use node::Node;

/// One of so many reads measures a node that is not the fastest: it may have become so.
const EXPLORE: usize = 32;

/// All nodes that the client knows, by their addresses.
#[derive(Debug, Default)]
pub(in crate::cluster) struct Nodes {
    all: Arena<NodeKey, Node>,
    by_address: LiteMap<NodeAddr, NodeKey>,
    alarms: Timers<NodeKey>,
    /// Of addresses whose nodes were forgotten.
    failures: Failures,
    /// Whether any connection would do, because there is none to ask for the topology.
    seeks_contact: bool,
}

impl Nodes {
    pub(in crate::cluster) fn get(&self, key: NodeKey) -> Option<&Node> {
        self.all.get(key)
    }

    pub(in crate::cluster) fn get_mut(&mut self, key: NodeKey) -> Option<&mut Node> {
        self.all.get_mut(key)
    }

    pub(in crate::cluster) fn iter(&self) -> impl Iterator<Item = (NodeKey, &Node)> {
        self.all.iter()
    }

    pub(in crate::cluster) fn keys(&self) -> impl Iterator<Item = NodeKey> {
        self.all.keys()
    }

    pub(in crate::cluster) fn values(&self) -> impl Iterator<Item = &Node> {
        self.all.values()
    }

    pub(in crate::cluster) fn values_mut(&mut self) -> impl Iterator<Item = &mut Node> {
        self.all.values_mut()
    }

    pub(in crate::cluster) fn len(&self) -> usize {
        self.all.len()
    }

    /// The node at this address, if it is known.
    pub(in crate::cluster) fn at(&self, address: &NodeAddr) -> Option<NodeKey> {
        self.by_address.get(address).copied()
    }

    /// All nodes in the order of their addresses.
    pub(in crate::cluster) fn in_order(&self) -> impl Iterator<Item = &Node> {
        self.by_address.values().filter_map(|key| self.all.get(*key))
    }

    /// What is known of the node at this address, from now on if nothing was.
    pub(in crate::cluster) fn find(&mut self, cx: &Context, address: &NodeAddr) -> NodeKey {
        if let Some(key) = self.at(address) {
            // It is asked for again: it stays until the next topology decides.
            if let Some(node) = self.all.get_mut(key) {
                node.retired = false;
            }
            return key;
        }
        let mut node = Node::new(address.clone());
        self.failures.recall(&mut node, cx.now);
        let key = self.all.insert(node);
        self.by_address.insert(address.clone(), key);
        self.look_after(cx, key);
        key
    }

    /// These nodes stay. The others go when nothing waits for them.
    pub(in crate::cluster) fn retire_all_but(&mut self, kept: &[NodeKey]) {
        self.all.values_mut().for_each(|node| node.retired = true);
        for key in kept {
            if let Some(node) = self.all.get_mut(*key) {
                node.retired = false;
            }
        }
    }

    /// Forgets a node, but not that it was not well.
    pub(in crate::cluster) fn forget(&mut self, cx: &Context, key: NodeKey) {
        if let Some(node) = self.all.remove(key) {
            self.by_address.remove(&node.address);
            self.failures.remember(&node, cx.now, cx.config.retry.reconnect_cap);
        }
    }

    /// Drops what was remembered long enough of nodes that were forgotten.
    pub(in crate::cluster) fn drop_old_failures(&mut self, cx: &Context) {
        self.failures.drop_old(cx.now);
    }

    /// Remembers that a node's connection has ended or failed, and when it may be dialled again.
    pub(in crate::cluster) fn fail(
        &mut self,
        cx: &mut Context,
        key: NodeKey,
        reason: &str,
        was_in_use: bool,
    ) {
        let (base, cap) = (cx.config.retry.reconnect_base, cx.config.retry.reconnect_cap);
        let Some(node) = self.all.get_mut(key) else {
            return;
        };
        node.last_error = reason.to_string();
        // The first time it is dialled again at once.
        if node.failures > 0 {
            node.redial_at = cx.now + cx.random.full_jitter(base, cap, node.failures - 1);
        } else {
            node.failed_at = cx.now;
        }
        node.failures = node.failures.saturating_add(1);
        node.told_up &= !was_in_use;
        let (address, attempts, reason) = (node.address.clone(), node.dials.max(1), reason.to_string());
        cx.tell(match was_in_use {
            true => Event::Disconnected { node: address, reason },
            false => Event::ConnectFailed { node: address, reason, attempts },
        });
    }

    /// A node that answers is well: it is dialled at once when its connection ends. Whether that is
    /// news.
    pub(in crate::cluster) fn mark_healthy(&mut self, key: NodeKey) -> bool {
        let node = self.all.get_mut(key).filter(|node| node.is_down());
        node.is_some_and(|node| {
            node.failures = 0;
            node.last_error.clear();
            true
        })
    }

    /// A node refuses one of the client's own commands: that is told once.
    pub(in crate::cluster) fn tell_refused(
        &mut self,
        cx: &mut Context,
        key: NodeKey,
        command: &'static str,
        error: &ServerError,
    ) {
        let node = self.all.get_mut(key).filter(|node| !node.told_refused.contains(&command));
        if let Some(node) = node {
            node.told_refused.push(command);
            cx.tell(Event::Refused { node: node.address.clone(), command, reason: error.to_string() });
        }
    }

    /// Whether anything waits for the connection to this node that all share.
    pub(in crate::cluster) fn wants_connection(&self, key: NodeKey) -> bool {
        self.all.get(key).is_some_and(|node| node.wants_connection(self.seeks_contact))
    }

    /// Sets a node's alarm: something may be due earlier than before.
    pub(in crate::cluster) fn look_after(&mut self, cx: &Context, key: NodeKey) {
        if let Some(node) = self.all.get_mut(key) {
            let due = node.due_at(cx.now, self.seeks_contact);
            node.alarm.set(due, key, &mut self.alarms);
        }
        let all = &self.all;
        self.alarms.sweep(all.len(), |at, key| all.get(key).is_some_and(|node| node.alarm.is_set_to(at)));
    }

    /// When a node wants attention. What has been done meanwhile, or is due later by now, is no
    /// reason to wake up.
    pub(in crate::cluster) fn next_deadline(&mut self, cx: &Context) -> Option<Instant> {
        while let Some((at, key)) = self.alarms.first() {
            let node = self.all.get(key).filter(|node| node.alarm.is_set_to(at));
            let due = node.and_then(|node| node.due_at(cx.now, self.seeks_contact));
            if due.is_some_and(|due| due <= at) {
                return Some(at);
            }
            self.alarms.pop_entry(at);
            if self.all.get_mut(key).is_some_and(|node| node.alarm.goes_off(at)) {
                self.look_after(cx, key);
            }
        }
        None
    }

    /// Takes out the nodes whose alarms go off.
    pub(in crate::cluster) fn due(&mut self, cx: &Context) -> Vec<NodeKey> {
        core::iter::from_fn(|| self.expire(cx)).collect()
    }

    fn expire(&mut self, cx: &Context) -> Option<NodeKey> {
        while let Some((at, key)) = self.alarms.pop_entry(cx.now) {
            if self.all.get_mut(key).is_some_and(|node| node.alarm.goes_off(at)) {
                return Some(key);
            }
        }
        None
    }

    /// How many things it holds, what waits at the nodes included.
    pub(in crate::cluster) fn footprint(&self) -> usize {
        let of_node = |node: &Node| node.queue.footprint() + node.line.footprint();
        self.all.len() + self.failures.len() + self.all.values().map(of_node).sum::<usize>()
    }

    /// How many entries its alarms have, which are swept now and then.
    pub(in crate::cluster) fn swept(&self) -> usize {
        self.alarms.len()
    }

    /// Forgets all.
    pub(in crate::cluster) fn shut_down(&mut self) {
        self.all.clear();
        let all = core::mem::take(&mut self.all);
        *self = Self { all, ..Self::default() };
    }

    /// The node that a redirect names, unless there are more than a cluster can have.
    pub(in crate::cluster) fn redirect_target(
        &mut self,
        cx: &Context,
        address: &NodeAddr,
    ) -> Option<NodeKey> {
        let known = self.at(address).is_some() || self.len() < NODES_MAX;
        known.then(|| self.find(cx, address))
    }

    /// Whether a node is not dialled because there are as many connections as there may be.
    pub(in crate::cluster) fn lacks_room(&self, key: NodeKey) -> bool {
        self.get(key).is_some_and(|node| node.listed == Listed::Next)
    }

    /// The node that has answered fastest of late. One that was never measured comes first.
    pub(in crate::cluster) fn fastest(&mut self, cx: &mut Context, nodes: &[NodeKey]) -> Option<NodeKey> {
        if cx.random.below(EXPLORE) == 0 {
            return cx.random.choose(nodes).copied();
        }
        let latency = |key: &&NodeKey| self.get(**key).and_then(|node| node.statistics.latency.smoothed());
        nodes.iter().min_by_key(latency).copied()
    }

    pub(in crate::cluster) fn zone_of(&self, key: NodeKey) -> Option<&str> {
        self.get(key)?.availability_zone.as_deref()
    }
}
