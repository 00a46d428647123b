//! Which slots are done, and what a pass does.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use litemap::LiteMap;

use super::view::node_of;
use super::{NodeView, Peer, SlotSet};
use crate::address::NodeAddr;
use crate::slot::{SLOT_COUNT, Slot};

/// Which slots are done, half done and to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SlotCoverage {
    pub(super) done: SlotSet,
    /// By slot.
    pub(super) halves: LiteMap<Slot, Half>,
}

/// A slot of which one node's keys were returned, while it moved to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Half {
    /// The slot.
    pub slot: Slot,
    /// The id of the node that has what was not returned.
    pub to: String,
    /// Where that is reached, as the other node said.
    pub address: Option<NodeAddr>,
    /// The id of the node that it moves away from, …
    pub from: String,
    /// … and its configuration epoch. With a higher one that has had it back meanwhile.
    pub epoch: u64,
}

/// What a pass is to do, as its node said when it began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// The node's id.
    pub id: String,
    /// Its configuration epoch.
    pub epoch: u64,
    /// The slots that it owns and that are to do.
    pub fresh: SlotSet,
    /// Those of them that are moving away, with the id of the node that they move to: by slot, each
    /// once.
    pub leaving: Vec<(Slot, String)>,
    /// The slots that are half done and move here.
    pub rest: SlotSet,
}

impl Claim {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fresh.is_empty() && self.rest.is_empty()
    }
}

impl SlotCoverage {
    /// Whether nothing is left to do.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.done.len() == usize::from(SLOT_COUNT)
    }

    /// Whether the slot is done.
    #[must_use]
    pub fn is_done(&self, slot: Slot) -> bool {
        self.done.contains(slot)
    }

    /// How many slots are done.
    #[must_use]
    pub fn done_count(&self) -> usize {
        self.done.len()
    }

    /// The slots that are neither done nor half done.
    pub fn to_do(&self) -> impl Iterator<Item = Slot> {
        let is_open = |slot: &Slot| !self.done.contains(*slot) && self.half(*slot).is_none();
        (0..SLOT_COUNT).filter_map(Slot::new).filter(is_open)
    }

    /// What is half done.
    pub fn halves(&self) -> impl Iterator<Item = &Half> {
        self.halves.values()
    }

    fn half(&self, slot: Slot) -> Option<&Half> {
        self.halves.get(&slot)
    }

    /// Whether a node gets keys of slots that another one is still to be passed over for: better to
    /// wait for that one.
    #[must_use]
    pub fn is_early(&self, view: &NodeView) -> bool {
        view.coming.iter().any(|(slot, _)| !self.done.contains(*slot) && self.half(*slot).is_none())
    }

    /// Whether a node may return keys of slots that are done.
    #[must_use]
    pub fn repeats(&self, view: &NodeView) -> bool {
        self.done.meets(&view.owned) || view.coming.iter().any(|(slot, _)| self.done.contains(*slot))
    }

    /// What a pass can do that begins with this view. Slots that were half done and do not move to
    /// the node as they did are to do again.
    pub fn claim(&mut self, view: &NodeView) -> Claim {
        let mut claim = Claim { id: view.id.clone(), epoch: view.epoch, ..Claim::default() };
        self.halves.retain(|slot, half| {
            let is_here = half.to == view.id;
            let still_comes = is_here && view.is_primary && still_comes(half, view);
            if still_comes {
                claim.rest.insert(*slot);
            }
            still_comes || !is_here
        });
        if view.is_primary {
            claim.fresh = self.to_do().filter(|slot| view.owned.contains(*slot)).collect();
            claim.leaving.clone_from(&view.leaving);
        }
        claim
    }

    /// The node with this id takes part no more, or cannot be reached: what it was to do the rest
    /// of is to do again.
    pub fn reopen(&mut self, id: &str) {
        self.halves.retain(|_, half| half.to != id);
    }

    /// Takes in that a pass has returned all that its node has. `end` is what the node says now.
    /// Gives whether anything has come of it.
    pub fn conclude(&mut self, claim: &Claim, end: &NodeView) -> bool {
        let same = end.is_primary && end.id == claim.id && end.epoch == claim.epoch;
        let mut gained = false;
        for slot in claim.rest.iter() {
            // No other pass changes what is half done to this node.
            let Some(half) = self.halves.remove(&slot) else {
                continue;
            };
            if same && still_comes(&half, end) {
                self.done.insert(slot);
                gained = true;
            } else if same && end.owned.contains(slot) {
                gained |= self.settle(slot, None, end);
            }
        }
        for slot in claim.fresh.iter().filter(|slot| same && end.owned.contains(*slot)) {
            gained |= self.settle(slot, node_of(&claim.leaving, slot), end);
        }
        gained
    }

    /// A node has owned the slot throughout, and all its keys that were there throughout were
    /// returned. At the start they were moving to `left_to`.
    fn settle(&mut self, slot: Slot, left_to: Option<&str>, end: &NodeView) -> bool {
        match (left_to, end.leaves_to(slot)) {
            (None, None) => self.done.insert(slot),
            (before, Some(to)) if before.is_none_or(|before| before == to) => {
                let half = Half {
                    slot,
                    to: to.to_string(),
                    address: end.peer(to).and_then(|peer| peer.address.clone()),
                    from: end.id.clone(),
                    epoch: end.epoch,
                };
                self.halves.insert(slot, half);
            }
            // Where the keys are that had left is not known.
            _ => return false,
        }
        true
    }
}

/// Whether the slot still comes to the node with this view, and was not back since where it comes
/// from.
fn still_comes(half: &Half, view: &NodeView) -> bool {
    let has_epoch = |peer: &Peer| peer.epoch <= half.epoch;
    view.comes_from(half.slot) == Some(&half.from) && view.peer(&half.from).is_some_and(has_epoch)
}

#[cfg(test)]
mod tests;
