//! Lending whole connections, for what cannot share one: WATCH to EXEC, commands that block.
//!
//! ```text
//!   lend ─→ Waiting ─→ Opening ─→ Held ─→ give_back ─→ clean? ─ yes ─→ idle, for the next
//!            │ ↑          │        │                     └── no ────→ closed
//!            │ └─ failed ─┘        │
//!            └──── time is up ─────┴─ ended ─→ Ended
//! ```
//!
//! Lending takes no time: requests for a connection that is still to come wait for it.
//! A lease waits its turn in its node's queue. An idle connection that has not been used for a
//! while answers a PING first. One that comes back with a WATCH or an open MULTI is cleaned by
//! UNWATCH or DISCARD; one whose replies are not all there, or whose state was changed in another
//! way, is closed.

mod blocking;
mod lease;
mod lend;
pub(in crate::cluster) mod line;
mod redirect;
mod send;
mod tend;

use slotmap::SlotMap as Arena;

use super::context::Context;
use super::ids::{LeaseId, RequestId};
use super::timers::Timers;
use crate::time::Instant;
use lease::Lease;
pub(in crate::cluster) use lease::Lending;

/// All leases, and until when they wait for a connection.
#[derive(Debug, Default)]
pub(in crate::cluster) struct Pool {
    all: Arena<LeaseId, Lease>,
    deadlines: Timers<LeaseId>,
    /// When idle connections were last looked through.
    tended_at: Instant,
}

impl Pool {
    pub(in crate::cluster) fn new(now: Instant) -> Self {
        Self { tended_at: now, ..Self::default() }
    }

    fn get(&self, id: LeaseId) -> Option<&Lease> {
        self.all.get(id)
    }

    fn get_mut(&mut self, id: LeaseId) -> Option<&mut Lease> {
        self.all.get_mut(id)
    }

    /// Notes until when a lease waits.
    fn set_deadline(&mut self, cx: &Context, id: LeaseId) {
        if let Some(lease) = self.all.get_mut(id) {
            lease.deadline = cx.now + lease.patience;
            self.deadlines.insert(lease.deadline, id);
        }
        let all = &self.all;
        self.deadlines.sweep(all.len(), |at, id| {
            all.get(id).is_some_and(|lease| lease.is_waiting() && lease.deadline == at)
        });
    }

    /// A request that waited for a lease's connection is gone; `is_live` is false for it.
    pub(in crate::cluster) fn forget_waiting(
        &mut self,
        cx: &Context,
        lease: LeaseId,
        id: RequestId,
        is_live: impl Fn(RequestId) -> bool,
    ) {
        if let Some(lease) = self.all.get_mut(lease) {
            // It may have been the one that blocks.
            lease.blocks_until = cx.now;
            lease.queue.forget(id, is_live);
        }
    }

    /// When the next lease has waited long enough.
    pub(in crate::cluster) fn next_deadline(&mut self) -> Option<Instant> {
        while let Some((at, id)) = self.deadlines.first() {
            if self.all.get(id).is_some_and(|lease| lease.is_waiting() && lease.deadline == at) {
                return Some(at);
            }
            self.deadlines.pop_entry(at);
        }
        None
    }

    /// The next lease that has waited long enough.
    pub(in crate::cluster) fn expire(&mut self, cx: &Context) -> Option<LeaseId> {
        while let Some(id) = self.deadlines.pop_due(cx.now) {
            if self.all.get(id).is_some_and(|lease| lease.is_waiting() && lease.deadline <= cx.now) {
                return Some(id);
            }
        }
        None
    }

    pub(in crate::cluster) fn len(&self) -> usize {
        self.all.len()
    }

    /// How many entries its deadlines have, which are swept now and then.
    pub(in crate::cluster) fn swept(&self) -> usize {
        self.deadlines.len()
    }

    /// Forgets all leases.
    pub(in crate::cluster) fn shut_down(&mut self) {
        self.all.clear();
        self.deadlines = Timers::default();
    }
}
