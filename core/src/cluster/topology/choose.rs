//! Which node is asked: for a read of a slot, for a command without keys, for one that its caller
//! sends to a node.
//!
//! A replica is asked only when it can be expected to answer: the topology says it is well, its
//! last connection did not fail or there is a new one, and it has not just refused. Whatever goes
//! wrong with a read at a replica, the primary gets it next, at once.
//!
//! While a slot moves, a replica of its old primary does not know where the keys went and answers
//! as if they did not exist. As soon as an ASK tells that a slot moves, its reads go to the
//! primary.

use crate::address::NodeAddr;
use crate::cluster::ids::NodeKey;
use crate::cluster::machine::Cluster;
use crate::cluster::nodes::node::Node;
use crate::config::ReplicaReads;
use crate::slot::Slot;

impl Cluster {
    /// Whom a read of this slot is sent to; `owner` is its primary.
    pub(in crate::cluster) fn reader(&mut self, slot: Slot, owner: NodeKey) -> NodeKey {
        let strategy = self.cx.config.replica_reads;
        if strategy == ReplicaReads::Primary || self.map.slots.is_moving(slot, self.cx.now) {
            return owner;
        }
        let replicas = self.nodes.get(owner).map(Node::replicas).unwrap_or_default();
        let can_serve = |key: &NodeKey| {
            let node = self.nodes.get(*key).filter(|node| node.may_read(self.cx.now));
            node.is_some_and(|node| !self.links.is_out_of_reach(node))
        };
        let mut able: alloc::vec::Vec<_> = replicas.iter().copied().filter(can_serve).collect();
        let chosen = match strategy {
            ReplicaReads::Primary => None,
            ReplicaReads::PreferReplica => self.cx.random.choose(&able).copied(),
            ReplicaReads::RoundRobin => {
                let turn = self.nodes.get_mut(owner).map_or(0, Node::next_turn);
                turn.checked_rem(able.len()).and_then(|index| able.get(index)).copied()
            }
            ReplicaReads::Random => {
                able.push(owner);
                self.cx.random.choose(&able).copied()
            }
            ReplicaReads::LowestLatency => {
                able.push(owner);
                self.nodes.fastest(&mut self.cx, &able)
            }
            ReplicaReads::SameZone => {
                let is_near =
                    |key: &NodeKey| self.nodes.zone_of(*key) == self.cx.config.availability_zone.as_deref();
                let near: alloc::vec::Vec<_> = able.iter().copied().filter(is_near).collect();
                match self.cx.random.choose(&near) {
                    Some(near) => Some(*near),
                    None if self.nodes.zone_of(owner) == self.cx.config.availability_zone.as_deref() => {
                        Some(owner)
                    }
                    None => self.cx.random.choose(&able).copied(),
                }
            }
        };
        chosen.unwrap_or(owner)
    }

    pub(in crate::cluster) fn is_primary(&self, key: NodeKey) -> bool {
        self.map.is_owner(key)
            || matches!(self.phase, crate::cluster::machine::Phase::Standalone(node) if node == key)
    }

    /// A primary for a command without keys: by chance, but none that cannot be reached while
    /// others can.
    pub(in crate::cluster) fn any_primary(&mut self) -> Option<NodeKey> {
        let owners = self.map.owners();
        let first = self.cx.random.below(owners.len());
        let (before, after) = owners.split_at_checked(first)?;
        let mut in_turn = after.iter().chain(before);
        let reachable =
            |node: &NodeKey| self.nodes.get(*node).is_some_and(|node| !self.links.is_out_of_reach(node));
        in_turn.clone().find(|node| reachable(node)).or_else(|| in_turn.next()).copied()
    }

    /// A node that the caller names is dialled at once, whatever happened before.
    pub(in crate::cluster) fn node_for_caller(&mut self, address: &NodeAddr) -> Option<NodeKey> {
        let key = self.nodes.redirect_target(&self.cx, address)?;
        if let Some(node) = self.nodes.get_mut(key) {
            node.dial_at_once(self.cx.now);
        }
        self.nodes.look_after(&self.cx, key);
        Some(key)
    }
}
