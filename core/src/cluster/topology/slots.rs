//! Which node serves which slot, as the client believes now.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use litemap::LiteMap;
use slotmap::SecondaryMap;

use crate::cluster::ids::NodeKey;
use crate::slot::{SLOT_COUNT, Slot};
use crate::time::Instant;

/// The slot map: from a topology, and from each MOVED since.
#[derive(Debug)]
pub(super) struct SlotMap {
    /// The owner of every slot.
    table: Box<[Option<NodeKey>]>,
    /// The nodes that serve at least one slot, and how many each.
    owners: Vec<NodeKey>,
    counts: SecondaryMap<NodeKey, u32>,
    /// What MOVED said. A topology that is older must not undo it.
    patches: LiteMap<Slot, Patch>,
    /// Slots that are being moved: when ASK last said so.
    moving: LiteMap<Slot, Instant>,
    /// When those that are over were last dropped.
    swept_at: Instant,
    /// The configuration epoch of the latest topology, where the servers told it.
    epoch: Option<u64>,
}

/// One MOVED.
#[derive(Clone, Copy, Debug)]
struct Patch {
    node: NodeKey,
    at: Instant,
    /// The epoch of the topology that it corrected.
    epoch: Option<u64>,
}

/// For so long a MOVED is believed rather than a topology of the same epoch: the news of a slot's
/// move spreads among the nodes for a while, and a target that has the highest epoch already takes
/// the slot without a new one.
const PATCH_LIFE: Duration = Duration::from_secs(5);

/// For so long after an ASK a slot is taken to be on the move.
const MOVE_MEMORY: Duration = Duration::from_secs(30);

impl Default for SlotMap {
    fn default() -> Self {
        Self::new()
    }
}

impl SlotMap {
    fn new() -> Self {
        Self {
            table: vec![None; usize::from(SLOT_COUNT)].into(),
            owners: Vec::new(),
            counts: SecondaryMap::new(),
            patches: LiteMap::new(),
            moving: LiteMap::new(),
            swept_at: Instant::default(),
            epoch: None,
        }
    }

    /// The primary that serves the slot.
    pub(super) fn owner(&self, slot: Slot) -> Option<NodeKey> {
        *self.table.get(slot.index())?
    }

    /// The nodes that serve at least one slot, each with its first.
    pub(super) fn first_slots(&self) -> Vec<(NodeKey, Slot)> {
        let mut firsts: SecondaryMap<NodeKey, Slot> = SecondaryMap::new();
        for (number, owner) in (0..SLOT_COUNT).zip(&self.table) {
            if let (Some(slot), Some(owner)) = (Slot::new(number), *owner)
                && !firsts.contains_key(owner)
            {
                firsts.insert(owner, slot);
            }
        }
        self.owners.iter().filter_map(|owner| Some((*owner, *firsts.get(*owner)?))).collect()
    }

    /// Whether a node serves a slot.
    pub(super) fn is_owner(&self, node: NodeKey) -> bool {
        self.counts.contains_key(node)
    }

    /// The nodes that serve at least one slot.
    pub(super) fn owners(&self) -> &[NodeKey] {
        &self.owners
    }

    /// Takes an ASK in.
    pub(super) fn note_move(&mut self, slot: Slot, now: Instant) {
        if now.saturating_since(self.swept_at) >= MOVE_MEMORY / 8 {
            self.swept_at = now;
            self.moving.retain(|_, at| now.saturating_since(*at) < MOVE_MEMORY);
        }
        self.moving.insert(slot, now);
    }

    /// Whether the slot is being moved, as far as the client has seen.
    pub(super) fn is_moving(&self, slot: Slot, now: Instant) -> bool {
        self.moving.get(&slot).is_some_and(|at| now.saturating_since(*at) < MOVE_MEMORY)
    }

    /// Takes a MOVED in.
    pub(super) fn patch(&mut self, slot: Slot, node: NodeKey, now: Instant) {
        self.patches.insert(slot, Patch { node, at: now, epoch: self.epoch });
        if self.owner(slot) == Some(node) {
            return;
        }
        self.assign(slot, node);
    }

    /// Forgets what MOVED said of nodes that cannot be reached.
    pub(super) fn forget_patches(&mut self, is_down: impl Fn(NodeKey) -> bool) {
        self.patches.retain(|_, patch| !is_down(patch.node));
    }

    /// Takes a topology in that was asked for at `asked_at`. What a MOVED has said since is kept,
    /// and what one has said a little earlier unless the topology has a higher epoch.
    pub(super) fn replace(
        &mut self,
        shards: impl Iterator<Item = (NodeKey, Vec<Slot>)>,
        asked_at: Instant,
        epoch: Option<u64>,
    ) {
        self.table.fill(None);
        self.owners.clear();
        self.counts.clear();
        for (node, slots) in shards {
            for slot in slots {
                self.assign(slot, node);
            }
        }
        self.epoch = epoch;
        let is_newer = |patch: &Patch| {
            let not_outvoted = epoch.is_some() && epoch <= patch.epoch;
            patch.at >= asked_at || (not_outvoted && asked_at.saturating_since(patch.at) < PATCH_LIFE)
        };
        self.patches.retain(|_, patch| is_newer(patch));
        let patches: Vec<_> = self.patches.iter().map(|(slot, patch)| (*slot, patch.node)).collect();
        for (slot, node) in patches {
            self.assign(slot, node);
        }
    }

    fn assign(&mut self, slot: Slot, node: NodeKey) {
        let Some(entry) = self.table.get_mut(slot.index()) else {
            return;
        };
        let before = entry.replace(node);
        if before == Some(node) {
            return;
        }
        match self.counts.get_mut(node) {
            Some(count) => *count += 1,
            None => {
                self.counts.insert(node, 1);
                self.owners.push(node);
            }
        }
        // One that has lost its last slot goes, so that no keyless command is sent there.
        if let Some(before) = before
            && let Some(count) = self.counts.get_mut(before)
        {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(before);
                self.owners.retain(|owner| *owner != before);
            }
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
        map.replace([(a, vec![slot(1), slot(2)])].into_iter(), at(10), None);
        map.patch(slot(1), b, at(20));
        map.replace([(a, vec![slot(1), slot(2)])].into_iter(), at(15), None);
        assert_eq!((map.owner(slot(1)), map.owner(slot(2)), map.owner(slot(3))), (Some(b), Some(a), None));
        map.replace([(a, vec![slot(1), slot(2)])].into_iter(), at(25), None);
        assert_eq!(map.owner(slot(1)), Some(a));
        assert_eq!(map.owners(), [a]);
    }

    #[test]
    fn a_node_that_lost_its_last_slot_is_no_owner() {
        let mut nodes: Arena<NodeKey, ()> = Arena::with_key();
        let (a, b, c) = (nodes.insert(()), nodes.insert(()), nodes.insert(()));
        let mut map = SlotMap::new();
        let now = Instant::default();
        map.replace([(a, vec![slot(0)]), (b, vec![slot(1)]), (c, vec![slot(2)])].into_iter(), now, None);
        map.patch(slot(0), b, now);
        assert_eq!(map.owners(), [b, c]);
        assert_eq!((map.owner(slot(0)), map.owner(slot(1)), map.owner(slot(2))), (Some(b), Some(b), Some(c)));
    }

    #[test]
    fn a_topology_of_the_same_epoch_does_not_undo_a_fresh_moved() {
        let mut nodes: Arena<NodeKey, ()> = Arena::with_key();
        let (a, b) = (nodes.insert(()), nodes.insert(()));
        let seconds = |seconds: u64| Instant::from_nanoseconds(seconds * 1_000_000_000);
        let mut map = SlotMap::new();
        let all_at_a = || [(a, vec![slot(1), slot(2)])].into_iter();
        map.replace(all_at_a(), seconds(10), Some(7));
        map.patch(slot(1), b, seconds(11));
        map.replace(all_at_a(), seconds(12), Some(7));
        assert_eq!(map.owner(slot(1)), Some(b));
        map.replace(all_at_a(), seconds(13), Some(8));
        assert_eq!(map.owner(slot(1)), Some(a));
        map.patch(slot(1), b, seconds(14));
        map.replace(all_at_a(), seconds(20), Some(8));
        assert_eq!(map.owner(slot(1)), Some(a));
    }
}
