//! Who serves what, and how the client learns it.
//!
//! | file | what is there |
//! |---|---|
//! | `slots.rs`, `choose.rs` | which node serves a slot; who is asked: for a read, without a key |
//! | `round.rs`, `ask.rs`, `refresh.rs` | rounds and which view counts; the questions; when they are asked |
//! | `adopt.rs` | what becomes of the machine when another topology counts |
//! | `start.rs`, `discovery.rs`, `identity.rs` | the start; who is at an address |

mod adopt;
mod ask;
mod choose;
mod discovery;
mod identity;
mod refresh;
mod round;
mod slots;
pub(in crate::cluster) mod start;

use alloc::vec::Vec;

use super::context::Context;
use super::ids::{ConnId, NodeKey};
use crate::address::NodeAddr;
use crate::slot::Slot;
use crate::time::Instant;
use crate::topology::{Health, Index, Member, Place, Topology};
use round::{Conclusion, Refresh};
use slots::SlotMap;

/// What is known of the cluster: the topology, who serves which slot since, and whether that is in
/// doubt.
#[derive(Debug, Default)]
pub(in crate::cluster) struct ClusterMap {
    topology: Topology,
    /// Where the topology's nodes stand in it.
    index: Index,
    slots: SlotMap,
    refresh: Refresh,
}

impl ClusterMap {
    pub(in crate::cluster) fn topology(&self) -> &Topology {
        &self.topology
    }

    /// This topology counts from now on.
    fn set(&mut self, topology: Topology) {
        self.index = Index::of(&topology);
        self.topology = topology;
    }

    /// The topology's nodes at this address: several, where one balancer is in front of all.
    pub(in crate::cluster) fn members_at<'a>(
        &'a self,
        address: &'a NodeAddr,
    ) -> impl Iterator<Item = (Place, &'a Member)> {
        self.index.at(&self.topology, address)
    }

    /// The topology's node with this id.
    pub(in crate::cluster) fn member_with_id(&self, id: &str) -> Option<&Member> {
        self.index.with_id(&self.topology, id).and_then(|place| self.topology.member(place))
    }

    /// Whether a view is of the same cluster as the present topology.
    fn is_kin(&self, view: &Topology) -> bool {
        self.index.is_kin(&self.topology, view)
    }

    /// The node at this address has told its availability zone.
    pub(in crate::cluster) fn name_zone(&mut self, address: &NodeAddr, zone: &str) {
        let place = self.index.at(&self.topology, address).next();
        if let Some((place, _)) = place {
            self.topology.name_zone(place, zone);
        }
    }

    /// The primary that serves the slot.
    pub(in crate::cluster) fn owner(&self, slot: Slot) -> Option<NodeKey> {
        self.slots.owner(slot)
    }

    /// The nodes that serve at least one slot.
    pub(in crate::cluster) fn owners(&self) -> &[NodeKey] {
        self.slots.owners()
    }

    /// The same, each with its first slot.
    pub(in crate::cluster) fn first_slots(&self) -> Vec<(NodeKey, Slot)> {
        self.slots.first_slots()
    }

    /// Whether a node serves a slot.
    pub(in crate::cluster) fn is_owner(&self, node: NodeKey) -> bool {
        self.slots.is_owner(node)
    }

    /// Takes a MOVED in. The topology is in doubt.
    pub(in crate::cluster) fn patch(&mut self, slot: Slot, node: NodeKey, now: Instant) {
        self.slots.patch(slot, node, now);
    }

    /// Takes an ASK in.
    pub(in crate::cluster) fn note_move(&mut self, slot: Slot, now: Instant) {
        self.slots.note_move(slot, now);
    }

    /// Forgets what MOVED said of some nodes.
    pub(in crate::cluster) fn forget_patches(&mut self, of: impl Fn(NodeKey) -> bool) {
        self.slots.forget_patches(of);
    }

    /// Remembers that the topology is in doubt. It is asked for when that may be.
    pub(in crate::cluster) fn want_refresh(&mut self) {
        self.refresh.wanted = true;
    }

    /// Whether the topology is in doubt, and nobody is being asked.
    pub(in crate::cluster) fn has_open_doubt(&self) -> bool {
        self.refresh.wanted && self.refresh.queries.is_empty()
    }

    /// The client was given its topology: it is asked for as soon as a node is connected.
    pub(in crate::cluster) fn refresh_when_connected(&mut self, now: Instant) {
        self.refresh.due_at = now;
    }

    /// A connection is gone: its answer does not come.
    pub(in crate::cluster) fn forget_connection(&mut self, conn: ConnId) {
        self.refresh.forget_connection(conn);
    }

    /// A question's connection has ended, or its answer was of no use.
    pub(in crate::cluster) fn abandon_query(&mut self, number: u64) {
        self.refresh.abandon(number);
    }

    /// How many answers are to come.
    pub(in crate::cluster) fn footprint(&self) -> usize {
        self.refresh.queries.len()
    }

    /// Nobody is asked any more, and no slot is served.
    pub(in crate::cluster) fn shut_down(&mut self) {
        (self.refresh, self.slots) = (Refresh::default(), SlotMap::default());
    }

    fn conclude(&mut self, now: Instant) -> Conclusion {
        self.refresh.conclude(&self.topology, now)
    }

    /// Sets when the topology is asked for next although nobody doubts it.
    fn schedule(&mut self, cx: &mut Context) {
        let is_ailing = |member: &Member| matches!(member.health, Health::Failed | Health::Loading);
        let is_ailing = self.topology.members().any(|(_, member)| is_ailing(member));
        self.refresh.schedule(cx, is_ailing);
    }
}
