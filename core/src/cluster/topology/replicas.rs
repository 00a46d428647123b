//! Which node of a shard serves a read.
//!
//! A replica is asked only when it can be expected to answer: the topology says it is well, its
//! last connection did not fail or there is a new one, and it has not just refused. Whatever goes
//! wrong with a read at a replica, the primary gets it next, at once.
//!
//! While a slot moves, a replica of its old primary does not know where the keys went and answers
//! as if they did not exist. As soon as an ASK tells that a slot moves, its reads go to the
//! primary.

use core::time::Duration;

use crate::cluster::Cluster;
use crate::cluster::ids::{NodeKey, RequestId};
use crate::cluster::requests::request::Stage;
use crate::config::ReplicaReads;
use crate::error::ServerError;
use crate::slot::Slot;

/// So long a replica that could not serve a read gets no other.
const AVOID: Duration = Duration::from_secs(1);

impl Cluster {
    /// Whom a read of this slot is sent to; `owner` is its primary.
    pub(in crate::cluster) fn reader(&mut self, slot: Slot, owner: NodeKey) -> NodeKey {
        let strategy = self.cx.config.replica_reads;
        if strategy == ReplicaReads::Primary || self.map.slots.is_moving(slot, self.cx.now) {
            return owner;
        }
        let replicas = self.nodes.get(owner).map(|node| node.replicas.as_slice()).unwrap_or_default();
        let can_serve = |key: &NodeKey| {
            let node = self.nodes.get(*key).filter(|node| node.avoid_until <= self.cx.now);
            node.is_some_and(|node| !self.links.is_out_of_reach(node))
        };
        let mut able: alloc::vec::Vec<_> = replicas.iter().copied().filter(can_serve).collect();
        let chosen = match strategy {
            ReplicaReads::Primary => None,
            ReplicaReads::PreferReplica => self.cx.random.choose(&able).copied(),
            ReplicaReads::RoundRobin => {
                let turn = self.nodes.get_mut(owner).map_or(0, |node| {
                    node.turn = node.turn.wrapping_add(1);
                    node.turn
                });
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
        self.map.is_owner(key) || matches!(self.phase, crate::cluster::Phase::Standalone(node) if node == key)
    }

    /// Sends a read to the primary that a replica could not serve.
    pub(in crate::cluster) fn fall_back(&mut self, id: RequestId, key: NodeKey, error: &ServerError) {
        if let Some(node) = self.nodes.get_mut(key) {
            node.avoid_until = self.cx.now + AVOID;
        }
        self.map.want_refresh();
        self.send_again(id, Some(key), &alloc::string::ToString::to_string(error));
        if let Some(request) = self.requests.get_mut(id) {
            request.primary_only = true;
        }
        self.requests.set_stage(id, Stage::Nowhere);
        self.dispatch(id);
    }
}
