//! Sets of slots.

use alloc::vec;
use alloc::vec::Vec;

use crate::slot::{SLOT_COUNT, Slot};

const BITS: usize = u64::BITS as usize;

/// Some of the 16,384 slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotSet(Vec<u64>);

impl Default for SlotSet {
    fn default() -> Self {
        Self(vec![0; usize::from(SLOT_COUNT) / BITS])
    }
}

impl SlotSet {
    /// Adds a slot.
    pub fn insert(&mut self, slot: Slot) {
        if let Some(word) = self.0.get_mut(slot.index() / BITS) {
            *word |= 1 << (slot.index() % BITS);
        }
    }

    /// Adds a slot. Gives whether it is new.
    pub(super) fn add(&mut self, slot: Slot) -> bool {
        let is_new = !self.contains(slot);
        self.insert(slot);
        is_new
    }

    /// Whether the slot is in it.
    #[must_use]
    pub fn contains(&self, slot: Slot) -> bool {
        self.0.get(slot.index() / BITS).is_some_and(|word| word >> (slot.index() % BITS) & 1 == 1)
    }

    /// Whether no slot is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// How many slots are in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether a slot is in both.
    #[must_use]
    pub fn meets(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).any(|(mine, theirs)| mine & theirs != 0)
    }

    /// Its slots in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = Slot> {
        (0..SLOT_COUNT).filter_map(Slot::new).filter(|slot| self.contains(*slot))
    }
}

impl FromIterator<Slot> for SlotSet {
    fn from_iter<I: IntoIterator<Item = Slot>>(slots: I) -> Self {
        let mut set = Self::default();
        slots.into_iter().for_each(|slot| set.insert(slot));
        set
    }
}
