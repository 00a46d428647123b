//! Which node serves which slot, as the client believes now.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use super::NodeKey;
use crate::slot::{SLOT_COUNT, Slot};
use crate::time::Instant;

/// The slot map: from a topology, and from each MOVED since.
#[derive(Debug)]
pub(super) struct SlotMap {
    /// Index into `owners`, for every slot.
    table: Box<[Option<u16>]>,
    owners: Vec<NodeKey>,
    /// What MOVED said, and when. A topology that was asked for earlier is older than that, and must
    /// not undo it.
    patches: BTreeMap<Slot, (NodeKey, Instant)>,
}

impl SlotMap {
    pub(super) fn new() -> Self {
        Self {
            table: vec![None; usize::from(SLOT_COUNT)].into(),
            owners: Vec::new(),
            patches: BTreeMap::new(),
        }
    }

    /// The primary that serves the slot.
    pub(super) fn owner(&self, slot: Slot) -> Option<NodeKey> {
        let owner = (*self.table.get(slot.index())?)?;
        self.owners.get(usize::from(owner)).copied()
    }

    /// The nodes that serve at least one slot.
    pub(super) fn owners(&self) -> &[NodeKey] {
        &self.owners
    }

    /// Takes a MOVED in.
    pub(super) fn patch(&mut self, slot: Slot, node: NodeKey, now: Instant) {
        self.patches.insert(slot, (node, now));
        if self.owner(slot) == Some(node) {
            return;
        }
        self.assign(slot, node);
        self.forget_idle_owners();
    }

    /// Takes a topology in that was asked for at `asked_at`. What a MOVED has said since is kept.
    pub(super) fn replace(&mut self, shards: impl Iterator<Item = (NodeKey, Vec<Slot>)>, asked_at: Instant) {
        self.table.fill(None);
        self.owners.clear();
        for (node, slots) in shards {
            for slot in slots {
                self.assign(slot, node);
            }
        }
        self.patches.retain(|_, (_, at)| *at >= asked_at);
        let patches: Vec<_> = self.patches.iter().map(|(slot, (node, _))| (*slot, *node)).collect();
        for (slot, node) in patches {
            self.assign(slot, node);
        }
        self.forget_idle_owners();
    }

    fn assign(&mut self, slot: Slot, node: NodeKey) {
        let owner = self.owners.iter().position(|owner| *owner == node).unwrap_or_else(|| {
            self.owners.push(node);
            self.owners.len() - 1
        });
        if let (Some(entry), Ok(owner)) = (self.table.get_mut(slot.index()), u16::try_from(owner)) {
            *entry = Some(owner);
        }
    }

    /// Drops owners that have lost their last slot, so that no keyless command goes to them.
    fn forget_idle_owners(&mut self) {
        let mut used = vec![false; self.owners.len()];
        for owner in self.table.iter().flatten() {
            if let Some(used) = used.get_mut(usize::from(*owner)) {
                *used = true;
            }
        }
        if used.iter().all(|used| *used) {
            return;
        }
        let mut renumbered = Vec::with_capacity(used.len());
        let mut kept = 0u16;
        for used in &used {
            renumbered.push(kept);
            kept += u16::from(*used);
        }
        let mut used = used.into_iter();
        self.owners.retain(|_| used.next().unwrap_or(false));
        for owner in self.table.iter_mut().flatten() {
            *owner = renumbered.get(usize::from(*owner)).copied().unwrap_or(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use slotmap::SlotMap as Arena;

    fn slot(number: u16) -> Slot {
        Slot::new(number).unwrap()
    }

    #[test]
    fn an_older_topology_does_not_undo_a_newer_moved() {
        let mut nodes: Arena<NodeKey, ()> = Arena::with_key();
        let (a, b) = (nodes.insert(()), nodes.insert(()));
        let at = Instant::from_nanoseconds;
        let mut map = SlotMap::new();
        map.replace([(a, vec![slot(1), slot(2)])].into_iter(), at(10));
        map.patch(slot(1), b, at(20));
        map.replace([(a, vec![slot(1), slot(2)])].into_iter(), at(15));
        assert_eq!((map.owner(slot(1)), map.owner(slot(2)), map.owner(slot(3))), (Some(b), Some(a), None));
        map.replace([(a, vec![slot(1), slot(2)])].into_iter(), at(25));
        assert_eq!(map.owner(slot(1)), Some(a));
        assert_eq!(map.owners(), [a]);
    }

    #[test]
    fn a_node_that_lost_its_last_slot_is_no_owner() {
        let mut nodes: Arena<NodeKey, ()> = Arena::with_key();
        let (a, b, c) = (nodes.insert(()), nodes.insert(()), nodes.insert(()));
        let mut map = SlotMap::new();
        let now = Instant::default();
        map.replace([(a, vec![slot(0)]), (b, vec![slot(1)]), (c, vec![slot(2)])].into_iter(), now);
        map.patch(slot(0), b, now);
        assert_eq!(map.owners(), [b, c]);
        assert_eq!((map.owner(slot(0)), map.owner(slot(1)), map.owner(slot(2))), (Some(b), Some(b), Some(c)));
    }
}
