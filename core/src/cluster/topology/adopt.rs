//! What becomes of the machine when another topology counts: new owners, changes that are told,
//! nodes that go.

use alloc::vec::Vec;

use crate::cluster::events::Event;
use crate::cluster::io::Output;
use crate::cluster::machine::{Cluster, Phase};
use crate::config::ReplicaReads;
use crate::time::Instant;
use crate::topology::{Health, Role, Topology};

/// So many replicas of a shard serve reads at most.
const REPLICAS_MAX: usize = 64;

impl Cluster {
    /// From now on this topology counts, apart from what MOVED has said since it was asked for.
    pub(in crate::cluster) fn adopt(&mut self, topology: &Topology, epoch: Option<u64>, asked_at: Instant) {
        let is_first = self.map.topology.shards.is_empty();
        let mut owners = Vec::with_capacity(topology.shards.len());
        self.nodes.values_mut().for_each(|node| node.set_replicas(Vec::new()));
        for shard in &topology.shards {
            let Some(primary) = shard.primary() else {
                continue;
            };
            let key = self.nodes.find(&self.cx, &primary.address);
            let slots = shard.slots.iter().flat_map(|range| range.slots()).collect();
            owners.push((key, slots));
            let fit = |health| matches!(health, Health::Online | Health::Unknown);
            let replicas = shard.nodes.iter().filter(|node| node.role == Role::Replica && fit(node.health));
            let replicas =
                replicas.take(REPLICAS_MAX).map(|node| self.nodes.find(&self.cx, &node.address)).collect();
            if let Some(node) = self.nodes.get_mut(key) {
                node.set_replicas(replicas);
            }
        }
        for member in topology.shards.iter().flat_map(|shard| &shard.nodes) {
            let node = self.nodes.at(&member.address).and_then(|key| self.nodes.get_mut(key));
            if let (Some(node), Some(zone)) = (node, &member.availability_zone) {
                node.set_availability_zone(zone);
            }
        }
        let nodes = &self.nodes;
        self.map.forget_patches(|key| nodes.get(key).is_none_or(crate::cluster::nodes::node::Node::is_down));
        let before = self.requests.owners_of_busy_slots(|slot| self.map.owner(slot));
        self.map.slots.replace(owners.iter().cloned(), asked_at, epoch);
        self.requests.hold_moved(&before, |slot| self.map.owner(slot));
        self.map.refresh.epoch = epoch;
        if !is_first {
            self.tell_changes(topology);
        }
        self.map.set(topology.clone());
        for node in self.nodes.values() {
            if let Some(zone) = node.availability_zone() {
                self.map.name_zone(node.address(), zone);
            }
        }
        if let Phase::Starting(_) = self.phase {
            self.phase = Phase::Clustered;
            self.links.forget_other_addresses();
            self.map.schedule(&mut self.cx);
            self.cx.output(Output::Ready(Ok(())));
        }
        self.recognise_anew();
        self.dispatch_waiting();
        self.place_waiting_leases();
        self.tend_all_soon();
        self.retire_strangers();
        // With a topology that nobody was asked for, nodes are dialled when they are first needed.
        let from_replicas =
            self.cx.config.replica_reads != ReplicaReads::Primary && self.map.refresh.serial > 0;
        let replicas: Vec<_> = self.nodes.values().flat_map(|node| node.replicas().iter().copied()).collect();
        self.nodes.values_mut().for_each(|node| node.set_serves_reads(false));
        for key in replicas.into_iter().filter(|_| from_replicas) {
            if let Some(node) = self.nodes.get_mut(key) {
                node.set_serves_reads(true);
            }
            self.ensure_connection(key);
        }
        self.seek_contact();
    }

    /// Says what is different now, and connects to primaries that are new.
    fn tell_changes(&mut self, topology: &Topology) {
        for (from, to) in topology.failovers_since(self.map.topology()) {
            self.cx.tell(Event::FailedOver { from, to });
        }
        let change = topology.changes_since(self.map.topology());
        if change.is_empty() {
            return;
        }
        self.map.refresh.changed = true;
        let takers = change.moved.iter().filter_map(|moved| self.nodes.at(moved.to.as_ref()?));
        let takers: Vec<_> = takers.collect();
        self.cx.tell(Event::TopologyChanged(change));
        for key in takers {
            if let Some(node) = self.nodes.get_mut(key) {
                // One that fails is not dialled again for this.
                node.note_new(self.cx.now);
            }
            self.ensure_connection(key);
        }
    }

    /// Nodes that are no part of the topology go, once nothing waits for them.
    pub(super) fn retire_strangers(&mut self) {
        let members = self.map.topology.shards.iter().flat_map(|shard| &shard.nodes);
        let members = members.filter_map(|member| self.nodes.at(&member.address));
        let kept: Vec<_> = members.chain(self.map.owners().iter().copied()).collect();
        self.nodes.retire_all_but(&kept);
        for key in self.nodes.keys().collect::<Vec<_>>() {
            self.drop_if_retired(key);
        }
    }
}
