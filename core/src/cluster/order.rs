//! The order of commands for one key.
//!
//! Commands for one slot go over one connection, in the order in which they were taken in; so they are executed in that
//! order, for as long as the slot stays where it is and nothing is sent again. Two things could turn it around:
//!
//! - The slot's owner changes while commands for it are under way to the old one. Then all later commands for the slot are held
//!   until those have ended.
//! - A command has to wait for its retry. Then later commands *for its keys* are held until it has ended; the slot's other
//!   keys are served meanwhile, for a slot may be on the move for long.
//!
//! ```text
//!   new, redirected, to be sent again ── an earlier one for a key of it waits, or the slot has just moved ──→ held
//!                                                                                                              │
//!   sent ←── in order, when what it waited for has ended ──────────────────────────────────────────────────────┘
//! ```
//!
//! A read that was already under way and is answered while an earlier command for its key waits has read too early: its answer
//! is dropped, and it is held, too. A write cannot be taken back: its answer stands.
//!
//! The parts of a command over several slots have the whole's place in the order. What a replica serves, what the caller
//! sends to a node of his choice, and what waits on a connection that has stopped answering have no place in it.

use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;

use litemap::LiteMap;

use super::request::{Command, Place, Request, Target};
use super::{Cluster, NodeKey, RequestId};
use crate::command::find;
use crate::slot::{SLOT_COUNT, Slot};

/// With so many that wait for one slot their keys are not told apart any more: looking would cost more than it is worth.
const TOLD_APART_MAX: usize = 256;

/// What is known of the order of commands.
#[derive(Debug)]
pub(super) struct Order {
    /// The next request's number.
    next: u64,
    /// How many commands for each slot are on their way to a node or back.
    under_way: Vec<u32>,
    /// The slots for which something is held, or has to be.
    holds: LiteMap<Slot, Hold>,
    /// Slots whose held commands may go on.
    loosened: Vec<Slot>,
}

/// What is held for one slot, and why.
#[derive(Debug, Default)]
struct Hold {
    /// Its owner has changed, and commands to the old one are under way.
    moved: bool,
    /// The commands that wait, or have waited, for a retry.
    waiting: Vec<Entry>,
    /// In order.
    held: VecDeque<Entry>,
}

/// A request, and the keys that it is about.
#[derive(Debug)]
struct Entry {
    serial: u64,
    id: RequestId,
    keys: Vec<u64>,
}

impl Order {
    pub(super) fn new() -> Self {
        Self {
            next: 0,
            under_way: vec![0; usize::from(SLOT_COUNT)],
            holds: LiteMap::new(),
            loosened: Vec::new(),
        }
    }

    /// The place in the order of a request that comes now.
    pub(super) fn next(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// How many commands are held.
    pub(super) fn held(&self) -> usize {
        self.holds.values().map(|hold| hold.held.len()).sum()
    }

    /// Counts a request that has come under way, or is so no more.
    pub(super) fn count(&mut self, request: &mut Request, is_under_way: bool) {
        let slot = request.ordered_slot().filter(|_| is_under_way);
        if request.counted == slot {
            return;
        }
        if let Some(count) = slot.and_then(|slot| self.under_way.get_mut(slot.index())) {
            *count += 1;
        }
        if let Some(left) = core::mem::replace(&mut request.counted, slot)
            && let Some(count) = self.under_way.get_mut(left.index())
        {
            *count -= 1;
            if *count == 0 && self.holds.contains_key(&left) {
                self.loosened.push(left);
            }
        }
    }

    /// The slot has another owner: its later commands are held from now on, if any is under way.
    pub(super) fn hold(&mut self, slot: Slot) {
        if !self.is_idle(slot) {
            self.hold_of(slot).moved = true;
        }
    }

    /// A request has ended: what was held behind it may go on.
    pub(super) fn end(&mut self, id: RequestId, request: &Request) {
        let slot = request.command.route.slot();
        let Some((slot, hold)) = slot.and_then(|slot| Some((slot, self.holds.get_mut(&slot)?))) else {
            return;
        };
        let before = hold.waiting.len() + hold.held.len();
        hold.waiting.retain(|entry| entry.id != id);
        // It is mostly the first: requests time out in the order they came.
        if matches!(request.place, Place::InOrder(_))
            && let Some(index) = hold.held.iter().position(|entry| entry.id == id)
        {
            hold.held.remove(index);
        }
        if hold.waiting.len() + hold.held.len() < before {
            self.loosened.push(slot);
        }
    }

    fn hold_of(&mut self, slot: Slot) -> &mut Hold {
        if !self.holds.contains_key(&slot) {
            self.holds.insert(slot, Hold::default());
        }
        self.holds.entry(slot).or_default()
    }

    fn is_idle(&self, slot: Slot) -> bool {
        self.under_way.get(slot.index()) == Some(&0)
    }

    /// The slots for which commands are under way.
    fn busy_slots(&self) -> impl Iterator<Item = Slot> {
        let busy = self.under_way.iter().enumerate().filter(|(_, count)| **count > 0);
        busy.filter_map(|(slot, _)| Slot::new(u16::try_from(slot).ok()?))
    }
}

impl Hold {
    /// Whether an earlier command for one of its keys waits or is held.
    fn is_behind(&self, entry: &Entry) -> bool {
        let all = self.waiting.len() + self.held.len();
        let mut earlier = self.waiting.iter().chain(&self.held).filter(|other| other.serial < entry.serial);
        if all > TOLD_APART_MAX {
            earlier.next().is_some()
        } else {
            earlier.any(|other| other.shares_key(entry))
        }
    }

    fn insert(&mut self, entry: Entry) {
        let later = self.held.iter().rev().take_while(|other| other.serial > entry.serial).count();
        self.held.insert(self.held.len() - later, entry);
    }

    /// Takes those out that nothing holds any more, in order.
    fn release(&mut self) -> Vec<Entry> {
        let mut released = Vec::new();
        let held = core::mem::take(&mut self.held);
        for entry in held {
            // Those before it that stay are in `self.held` again.
            if self.is_behind(&entry) {
                self.held.push_back(entry);
            } else {
                released.push(entry);
            }
        }
        released
    }
}

impl Entry {
    fn new(id: RequestId, request: &Request) -> Self {
        Self { serial: request.serial, id, keys: keys_of(&request.command) }
    }

    /// Those whose keys are not known share all.
    fn shares_key(&self, other: &Self) -> bool {
        let is_unknown = self.keys.is_empty() || other.keys.is_empty();
        is_unknown || self.keys.iter().any(|key| other.keys.contains(key))
    }
}

/// A number for each key of a command. That two keys have the same one is unlikely, and does no harm.
fn keys_of(command: &Command) -> Vec<u64> {
    let args = command.args();
    let mut positions = Vec::new();
    match find(&args) {
        Some(spec) => drop(spec.routing_positions(&args, &mut positions)),
        // As they are routed.
        None => positions.push(1),
    }
    // FNV-1a.
    let hash = |key: &&[u8]| {
        key.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        })
    };
    positions.iter().filter_map(|position| args.get(*position)).map(hash).collect()
}

impl Request {
    /// The slot whose order it keeps.
    pub(super) fn ordered_slot(&self) -> Option<Slot> {
        let is_fixed = self.target.as_ref().is_some_and(Target::is_fixed);
        self.command.route.slot().filter(|_| !is_fixed && !self.at_replica)
    }
}

impl Cluster {
    /// Holds a request that is about to be sent to its slot's owner, if it has to wait for others.
    pub(super) fn hold_in_order(&mut self, id: RequestId, slot: Slot) -> bool {
        let (Some(hold), Some(request)) = (self.order.holds.get(&slot), self.requests.get(id)) else {
            return false;
        };
        // The others wait for it.
        if hold.waiting.iter().any(|entry| entry.id == id) {
            return false;
        }
        let entry = Entry::new(id, request);
        let waits = hold.moved || hold.is_behind(&entry);
        if waits {
            self.enqueue(entry, slot);
        }
        waits
    }

    /// Holds a request that is to be sent again, or that has read too early, if an earlier one for one of its keys waits or is
    /// held.
    pub(super) fn hold_behind_earlier(&mut self, id: RequestId) -> bool {
        if self.order.holds.is_empty() {
            return false;
        }
        let request = self.requests.get(id);
        let Some((slot, request)) = request.and_then(|request| Some((request.ordered_slot()?, request)))
        else {
            return false;
        };
        let Some(hold) = self.order.holds.get(&slot) else {
            return false;
        };
        let entry = Entry::new(id, request);
        let waits = hold.is_behind(&entry);
        if waits {
            self.enqueue(entry, slot);
        }
        waits
    }

    /// A request begins to wait for its retry: those behind it are held.
    pub(super) fn lead(&mut self, id: RequestId) {
        let request = self.requests.get(id);
        if let Some((slot, request)) = request.and_then(|request| Some((request.ordered_slot()?, request))) {
            let entry = Entry::new(id, request);
            let hold = self.order.hold_of(slot);
            if hold.waiting.iter().all(|other| other.id != id) {
                hold.waiting.push(entry);
            }
        }
    }

    fn enqueue(&mut self, entry: Entry, slot: Slot) {
        let id = entry.id;
        if let Some(request) = self.requests.get_mut(id) {
            // By where it belongs once its turn has come.
            request.target = None;
        }
        let hold = self.order.hold_of(slot);
        hold.waiting.retain(|other| other.id != id);
        hold.insert(entry);
        self.place(id, Place::InOrder(slot));
        // When there is nothing that it could wait for.
        self.order.loosened.push(slot);
    }

    /// Sends what nothing holds any more.
    pub(super) fn release_held(&mut self) {
        while let Some(slot) = self.order.loosened.pop() {
            let is_idle = self.order.is_idle(slot);
            let Some(hold) = self.order.holds.get_mut(&slot) else {
                continue;
            };
            hold.moved &= !is_idle;
            if hold.moved {
                continue;
            }
            let released = hold.release();
            if hold.waiting.is_empty() && hold.held.is_empty() {
                self.order.holds.remove(&slot);
            }
            for Entry { id, .. } in released {
                if self.requests.get(id).is_some_and(|request| request.place == Place::InOrder(slot)) {
                    self.place(id, Place::Nowhere);
                    self.dispatch(id);
                }
            }
        }
    }

    /// Who serves the slots for which commands are under way.
    pub(super) fn owners_of_busy_slots(&self) -> Vec<(Slot, Option<NodeKey>)> {
        self.order.busy_slots().map(|slot| (slot, self.slots.owner(slot))).collect()
    }

    /// Holds the later commands for those slots that somebody else serves now.
    pub(super) fn hold_moved(&mut self, owners: &[(Slot, Option<NodeKey>)]) {
        for (slot, owner) in owners {
            if self.slots.owner(*slot) != *owner {
                self.order.hold(*slot);
            }
        }
    }

    /// What a connection that has stopped answering still owes is not waited for.
    pub(super) fn leave_behind(&mut self, requests: &[RequestId], conn: super::ConnId) {
        for id in requests {
            if let Some(request) = self.requests.get_mut(*id)
                && request.place == Place::OnConnection(conn)
            {
                self.order.count(request, false);
                self.order.end(*id, request);
            }
        }
    }
}
