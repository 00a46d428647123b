//! The order of commands for one key.
//!
//! Commands for one slot go over one connection, in the order in which they were taken in; so they
//! are executed in that order, for as long as the slot stays where it is and nothing is sent again.
//! Two things could turn it around:
//!
//! - The slot's owner changes while commands for it are under way to the old one. Then all later
//!   commands for the slot are held until those have ended.
//! - A command has to wait for its retry. Then later commands *for its keys* are held until it has
//!   ended; the slot's other keys are served meanwhile, for a slot may be on the move for long.
//!
//! ```text
//!   new, redirected, to be sent again ── the slot has just moved, or an earlier ──→ held
//!     │                                  command for one of its keys waits           │
//!     ↓ otherwise                                                                    │
//!   sent ←── in order, when what it waited for has ended ────────────────────────────┘
//! ```
//!
//! While a slot is asked for (ASK), few of its commands are under way at a time, and the others are
//! held. An ASK holds for the moment: were thousands of commands that follow one to wait in a
//! socket, the slot could have gone there, back, and there again before the last is read, which
//! would then find its key missing, and write a new one. Each command that ends lets two more go,
//! up to a bound; when the slot has its new owner, until none is held.
//!
//! A read that was already under way and is answered while an earlier command for its key waits has
//! read too early: its answer is dropped, and it is held, too. A write cannot be taken back: its
//! answer stands.
//!
//! The parts of a command over several slots have the whole's place in the order. What a replica
//! serves, what the caller sends to a node of his choice, and what waits on a connection that has
//! stopped answering have no place in it.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;

use litemap::LiteMap;

use crate::cluster::ids::RequestId;
use crate::command::find;
use crate::command::prepared::Command;
use crate::resp::take_request;
use crate::slot::{SLOT_COUNT, Slot};

/// With so many that wait for one slot their keys are not told apart any more: looking would cost
/// more than it is worth.
const TOLD_APART_MAX: usize = 256;

/// So many commands of a slot that is asked for are under way at first.
const ASKED_MAX: u32 = 64;

/// So many at most, while it is asked for. Then it is as any other.
const WIDE: u32 = 1_024;

/// What is known of the order of commands.
#[derive(Debug)]
pub(super) struct Order {
    /// The next request's number.
    next: u64,
    /// How many commands for each slot are on their way to a node or back.
    under_way: Vec<u32>,
    /// The slots for which something is held, or has to be.
    /// Each in a box: they are moved when one comes before them.
    holds: LiteMap<Slot, Box<Hold>>,
    /// Slots whose held commands may go on.
    releasable: Vec<Slot>,
}

/// What is held for one slot, and why.
#[derive(Debug, Default)]
struct Hold {
    /// All are held until those under way have ended: its owner has changed, or it is asked for.
    drains: bool,
    /// It is, or was of late, asked for: not many of its commands may be under way.
    window: Option<Window>,
    /// The commands that wait, or have waited, for a retry.
    waiting: Vec<Entry>,
    /// In order.
    held: VecDeque<Entry>,
}

/// Which commands of a slot may be under way.
#[derive(Debug)]
struct Window {
    size: u32,
    /// These are.
    let_through: Vec<RequestId>,
    /// The slot has its new owner.
    is_settled: bool,
}

/// A request, and the keys that it is about.
#[derive(Debug)]
pub(super) struct Entry {
    serial: u64,
    id: RequestId,
    keys: Vec<u64>,
}

impl Default for Order {
    fn default() -> Self {
        Self::new()
    }
}

impl Order {
    fn new() -> Self {
        Self {
            next: 0,
            under_way: vec![0; usize::from(SLOT_COUNT)],
            holds: LiteMap::new(),
            releasable: Vec::new(),
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

    /// Takes note that one more command for a slot is under way.
    pub(super) fn begin(&mut self, slot: Slot) {
        if let Some(count) = self.under_way.get_mut(slot.index()) {
            *count += 1;
        }
    }

    /// Takes note that one command for a slot is under way no more.
    pub(super) fn leave(&mut self, slot: Slot) {
        if let Some(count) = self.under_way.get_mut(slot.index()) {
            *count -= 1;
            if *count == 0 && self.holds.contains_key(&slot) {
                self.releasable.push(slot);
            }
        }
    }

    /// The slot has another owner: its later commands are held from now on, if any is under way.
    pub(super) fn hold(&mut self, slot: Slot) {
        if !self.is_idle(slot) {
            let hold = self.hold_of(slot);
            hold.drains = true;
            if let Some(window) = &mut hold.window {
                window.is_settled = true;
            }
        }
    }

    /// A request has ended: what was held behind it may go on.
    pub(super) fn end(&mut self, id: RequestId, slot: Option<Slot>, is_held: bool) {
        let Some((slot, hold)) = slot.and_then(|slot| Some((slot, self.holds.get_mut(&slot)?))) else {
            return;
        };
        let before = hold.len();
        hold.let_go(id, true);
        // It is mostly the first: requests time out in the order they came.
        if is_held && let Some(index) = hold.held.iter().position(|entry| entry.id == id) {
            hold.held.remove(index);
        }
        if hold.len() < before {
            self.releasable.push(slot);
        }
    }

    /// Whether nothing is held for any slot, nor has to be.
    pub(super) fn is_free(&self) -> bool {
        self.holds.is_empty()
    }

    /// Whether a command for a slot may have to wait for others, unless they wait for it.
    pub(super) fn may_hold(&self, id: RequestId, slot: Slot) -> bool {
        self.holds.get(&slot).is_some_and(|hold| hold.waiting.iter().all(|entry| entry.id != id))
    }

    /// Whether a command that is about to be sent to its slot's owner waits for others; then it is
    /// held.
    pub(super) fn hold_new(&mut self, slot: Slot, entry: Entry) -> bool {
        let Some(hold) = self.holds.get_mut(&slot) else {
            return false;
        };
        let waits = hold.drains || hold.is_behind(&entry) || !hold.admits(entry.id);
        self.hold_if(waits, slot, entry)
    }

    /// Whether a command that is to follow an ASK waits, since as many do as may; then it is held.
    pub(super) fn hold_asked(&mut self, slot: Slot, entry: Entry) -> bool {
        let is_crowded = self.under_way.get(slot.index()).is_some_and(|count| *count > ASKED_MAX);
        let hold = self.hold_of(slot);
        hold.shrink_window();
        // They may be in the socket that this one would go to.
        hold.drains |= is_crowded;
        let waits = hold.drains || !hold.admits(entry.id);
        self.hold_if(waits, slot, entry)
    }

    /// Whether a command that is to be sent again, or has read too early, is behind an earlier one;
    /// then it is held.
    pub(super) fn hold_behind(&mut self, slot: Slot, entry: Entry) -> bool {
        let waits = self.holds.get(&slot).is_some_and(|hold| hold.is_behind(&entry));
        self.hold_if(waits, slot, entry)
    }

    fn hold_if(&mut self, waits: bool, slot: Slot, entry: Entry) -> bool {
        if waits {
            let hold = self.hold_of(slot);
            hold.let_go(entry.id, false);
            hold.insert(entry);
            // When there is nothing that it could wait for.
            self.releasable.push(slot);
        }
        waits
    }

    /// A command begins to wait for its retry: those behind it are held.
    pub(super) fn block_later(&mut self, slot: Slot, entry: Entry) {
        let id = entry.id;
        let hold = self.hold_of(slot);
        if hold.waiting.iter().all(|other| other.id != id) {
            hold.waiting.push(entry);
        }
        // Others may go meanwhile.
        hold.leave_window(id);
        self.releasable.push(slot);
    }

    /// The next commands that nothing holds any more, in order, and their slot.
    pub(super) fn next_released(&mut self) -> Option<(Slot, Vec<RequestId>)> {
        while let Some(slot) = self.releasable.pop() {
            let is_idle = self.is_idle(slot);
            let Some(hold) = self.holds.get_mut(&slot) else {
                continue;
            };
            hold.drains &= !is_idle;
            if hold.drains {
                continue;
            }
            let released = hold.release();
            if hold.len() == 0 {
                self.holds.remove(&slot);
            }
            return Some((slot, released.into_iter().map(|entry| entry.id).collect()));
        }
        None
    }

    fn hold_of(&mut self, slot: Slot) -> &mut Hold {
        if !self.holds.contains_key(&slot) {
            self.holds.insert(slot, Box::default());
        }
        self.holds.entry(slot).or_default()
    }

    fn is_idle(&self, slot: Slot) -> bool {
        self.under_way.get(slot.index()) == Some(&0)
    }

    /// The slots for which commands are under way.
    pub(super) fn busy_slots(&self) -> impl Iterator<Item = Slot> {
        let busy = self.under_way.iter().enumerate().filter(|(_, count)| **count > 0);
        busy.filter_map(|(slot, _)| Slot::new(u16::try_from(slot).ok()?))
    }
}

impl Hold {
    fn len(&self) -> usize {
        self.waiting.len()
            + self.held.len()
            + self.window.as_ref().map_or(0, |window| window.let_through.len())
    }

    /// A request has ended, or is held itself.
    fn let_go(&mut self, id: RequestId, has_ended: bool) {
        self.waiting.retain(|entry| entry.id != id);
        let is_one_of_them = self.leave_window(id);
        if let Some(window) = &mut self.window {
            let may_grow = window.is_settled || window.size < WIDE;
            window.size += u32::from(is_one_of_them && has_ended && may_grow);
        }
        self.window.take_if(|window| window.size > WIDE);
    }

    /// A request is not under way any more. Whether it was.
    fn leave_window(&mut self, id: RequestId) -> bool {
        let Some(window) = &mut self.window else {
            return false;
        };
        let before = window.let_through.len();
        window.let_through.retain(|other| *other != id);
        window.let_through.len() < before
    }

    /// The slot is asked for.
    fn shrink_window(&mut self) {
        let window = self.window.get_or_insert(Window { size: 0, let_through: Vec::new(), is_settled: true });
        if core::mem::replace(&mut window.is_settled, false) {
            window.size = ASKED_MAX;
        }
    }

    /// Whether a request may be under way, as far as the slot is asked for; then it counts.
    fn admits(&mut self, id: RequestId) -> bool {
        let is_full = self.is_full();
        let Some(window) = self.window.as_mut().filter(|window| !window.let_through.contains(&id)) else {
            return true;
        };
        if !is_full {
            window.let_through.push(id);
        }
        !is_full
    }

    /// Whether as many of its commands are under way as may be.
    fn is_full(&self) -> bool {
        self.window.as_ref().is_some_and(|window| window.let_through.len() >= window.size as usize)
    }

    /// Whether an earlier command for one of its keys waits or is held.
    fn is_behind(&self, entry: &Entry) -> bool {
        let all = self.waiting.len() + self.held.len();
        let held = self.held.iter().take_while(|other| other.serial < entry.serial);
        let mut earlier = self.waiting.iter().filter(|other| other.serial < entry.serial).chain(held);
        if all > TOLD_APART_MAX {
            earlier.next().is_some()
        } else {
            earlier.any(|other| other.shares_key(entry))
        }
    }

    fn insert(&mut self, entry: Entry) {
        let place = self.held.partition_point(|other| other.serial < entry.serial);
        self.held.insert(place, entry);
    }

    /// Takes those out that nothing holds any more, in order.
    fn release(&mut self) -> Vec<Entry> {
        let mut released = Vec::new();
        let mut place = 0;
        while !self.is_full()
            && let Some(entry) = self.held.get(place)
        {
            if self.is_behind(entry) {
                // Where keys are not told apart, all that follow are behind it.
                if self.waiting.len() + self.held.len() > TOLD_APART_MAX {
                    break;
                }
                place += 1;
            } else if let Some(entry) = self.held.remove(place) {
                self.admits(entry.id);
                released.push(entry);
            }
        }
        released
    }
}

impl Entry {
    pub(super) fn new(id: RequestId, serial: u64, command: &Command) -> Self {
        Self { serial, id, keys: keys_of(command) }
    }

    /// Those whose keys are not known share all.
    fn shares_key(&self, other: &Self) -> bool {
        let is_unknown = self.keys.is_empty() || other.keys.is_empty();
        is_unknown || self.keys.iter().any(|key| other.keys.contains(key))
    }
}

/// A number for each key of a command. That two keys have the same one is unlikely, and does no
/// harm.
fn keys_of(command: &Command) -> Vec<u64> {
    let mut keys = Vec::new();
    let mut args = Vec::new();
    let mut rest: &[u8] = &command.frame;
    // One command, or those of a transaction.
    while let Ok(Some(_)) = take_request(&mut rest, &mut args) {
        put_keys(&args, &mut keys);
    }
    keys
}

fn put_keys(args: &[&[u8]], keys: &mut Vec<u64>) {
    let mut positions = Vec::new();
    match find(args) {
        Some(spec) => drop(spec.routing_positions(args, &mut positions)),
        // As they are routed.
        None => positions.push(1),
    }
    // FNV-1a.
    let hash = |key: &&[u8]| {
        key.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        })
    };
    keys.extend(positions.iter().filter_map(|position| args.get(*position)).map(hash));
}

#[cfg(test)]
mod tests;
