//! What is different between two topologies.

use alloc::vec;
use alloc::vec::Vec;

use crate::address::NodeAddr;
use crate::slot::{SLOT_COUNT, Slot, SlotRange};

use super::index::{Index, in_order};
use super::{Role, Shard, Topology};

/// What is different from the topology before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopologyChange {
    /// Slots with another primary, or none, in ascending order.
    pub moved: Vec<MovedSlots>,
    /// Nodes that were not there.
    pub joined: Vec<NodeAddr>,
    /// Nodes that are not there any more.
    pub left: Vec<NodeAddr>,
}

impl TopologyChange {
    /// Whether nothing is different.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.moved.is_empty() && self.joined.is_empty() && self.left.is_empty()
    }
}

/// Consecutive slots that went from one primary to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MovedSlots {
    /// The slots.
    pub slots: SlotRange,
    /// Who served them; `None` when nobody did.
    pub from: Option<NodeAddr>,
    /// Who serves them; `None` when nobody does.
    pub to: Option<NodeAddr>,
}

impl Topology {
    /// What is different from an older topology.
    #[must_use]
    pub fn changes_since(&self, older: &Self) -> TopologyChange {
        let mut change = TopologyChange::default();
        if !self.agrees_with(older) {
            change.moved = moved(&older.primaries(), &self.primaries());
        }
        change.joined = self.without(older);
        change.left = older.without(self);
        change
    }

    /// The addresses that `other` does not have.
    fn without(&self, other: &Self) -> Vec<NodeAddr> {
        let known = in_order(other.addresses().collect(), |address: &&NodeAddr| *address);
        let is_new = |address: &&NodeAddr| known.binary_search(address).is_err();
        self.addresses().filter(is_new).cloned().collect()
    }

    fn addresses(&self) -> impl Iterator<Item = &NodeAddr> {
        self.shards.iter().flat_map(|shard| &shard.nodes).map(|member| &member.address)
    }

    /// Replicas of the older topology that are primaries in this one, each with its primary then. A
    /// node is told by its id, where it has one: nodes may share an address.
    #[must_use]
    pub fn failovers_since(&self, older: &Self) -> Vec<(NodeAddr, NodeAddr)> {
        let known = Index::of(older);
        let serving = self.shards.iter().filter(|shard| !shard.slots.is_empty());
        let promoted = serving.filter_map(Shard::primary).filter_map(|primary| {
            let place = known.find(older, primary)?;
            let was_replica = older.member(place)?.role == Role::Replica;
            let before = older.shards.get(place.shard)?.primary().filter(|_| was_replica)?;
            Some((before.address.clone(), primary.address.clone()))
        });
        promoted.collect()
    }

    /// The primary of each slot.
    fn primaries(&self) -> Vec<Option<&NodeAddr>> {
        let mut primaries = vec![None; usize::from(SLOT_COUNT)];
        for shard in &self.shards {
            for slot in shard.slots.iter().flat_map(|range| range.slots()) {
                if let Some(entry) = primaries.get_mut(slot.index()) {
                    *entry = shard.primary().map(|primary| &primary.address);
                }
            }
        }
        primaries
    }
}

/// The slots whose primary differs, in ranges as long as they can be.
fn moved(before: &[Option<&NodeAddr>], now: &[Option<&NodeAddr>]) -> Vec<MovedSlots> {
    let mut moved: Vec<MovedSlots> = Vec::new();
    for (number, (from, to)) in (0..).zip(before.iter().zip(now)) {
        let Some(slot) = Slot::new(number).filter(|_| from != to) else {
            continue;
        };
        let next = moved.last_mut().filter(|last| {
            let follows = last.slots.last().number() + 1 == number;
            follows && last.from.as_ref() == *from && last.to.as_ref() == *to
        });
        match (next, SlotRange::new(slot, slot)) {
            (Some(last), _) => last.slots = SlotRange::new(last.slots.first(), slot).unwrap_or(last.slots),
            (None, Some(slots)) => moved.push(MovedSlots { slots, from: from.cloned(), to: to.cloned() }),
            (None, None) => {}
        }
    }
    moved
}
