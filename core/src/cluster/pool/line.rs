//! The dedicated connections of one node: those that nobody has, how many there are, and who waits
//! for one.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::cluster::ids::{ConnId, LeaseId};
use crate::cluster::timers::Alarm;

/// Those who wait at a node, in order, and what there is for them.
#[derive(Debug, Default)]
pub(in crate::cluster) struct Line {
    /// Nobody has them; the one used last is the last.
    idle: Vec<ConnId>,
    waiters: VecDeque<LeaseId>,
    /// How many connections there are, those included that somebody has or that are coming up.
    open: u32,
    /// When they are looked through, with the one that all share.
    pub(super) alarm: Alarm,
}

/// What there is for the first who waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cluster) enum Acquired {
    /// Nobody waits.
    Nobody,
    /// This connection: both are taken out.
    Idle(LeaseId, ConnId),
    /// One may be opened: `opens` takes him out.
    MayOpen(LeaseId),
    /// Nothing, before somebody releases one.
    Full,
}

impl Line {
    /// Takes out the first who waits with a connection that nobody has, or says whether one may be
    /// opened.
    pub(super) fn acquire(&mut self, most: u32) -> Acquired {
        let Some(first) = self.waiters.front().copied() else {
            return Acquired::Nobody;
        };
        if let Some(conn) = self.idle.pop() {
            self.waiters.pop_front();
            return Acquired::Idle(first, conn);
        }
        if self.room(most) == 0 { Acquired::Full } else { Acquired::MayOpen(first) }
    }

    /// A connection is opened for the first who waits.
    pub(super) fn opens(&mut self) {
        self.waiters.pop_front();
    }

    /// Nobody has this connection any more.
    pub(super) fn release(&mut self, conn: ConnId) {
        self.idle.push(conn);
    }

    /// A connection that nobody had is gone, or is to go.
    pub(in crate::cluster) fn forget(&mut self, conn: ConnId) {
        self.idle.retain(|idle| *idle != conn);
    }

    /// Those that nobody has; the one used longest ago is the first.
    pub(super) fn idle(&self) -> &[ConnId] {
        &self.idle
    }

    /// There is one connection more.
    pub(in crate::cluster) fn note_open(&mut self) {
        self.open += 1;
    }

    /// There is one connection less.
    pub(in crate::cluster) fn note_closed(&mut self) {
        self.open -= 1;
    }

    /// How many more there may be.
    pub(super) fn room(&self, most: u32) -> u32 {
        most.saturating_sub(self.open)
    }

    /// Puts somebody at the end.
    pub(super) fn wait(&mut self, lease: LeaseId) {
        self.waiters.push_back(lease);
    }

    /// Puts somebody first who has lost what he was to have.
    pub(super) fn wait_first(&mut self, lease: LeaseId) {
        self.waiters.push_front(lease);
    }

    /// Somebody waits no more.
    pub(super) fn leave(&mut self, lease: LeaseId) {
        self.waiters.retain(|waiter| *waiter != lease);
    }

    /// Takes all out who wait.
    pub(super) fn take_waiters(&mut self) -> VecDeque<LeaseId> {
        core::mem::take(&mut self.waiters)
    }

    pub(in crate::cluster) fn has_waiters(&self) -> bool {
        !self.waiters.is_empty()
    }

    pub(in crate::cluster) fn footprint(&self) -> usize {
        self.waiters.len() + self.idle.len()
    }
}

#[cfg(test)]
mod tests {
    use slotmap::SlotMap as Arena;

    use super::*;

    #[test]
    fn who_came_first_gets_what_was_used_last() {
        let (mut leases, mut conns) = (Arena::<LeaseId, ()>::with_key(), Arena::<ConnId, ()>::with_key());
        let [a, b, c] = [(), (), ()].map(|unit| leases.insert(unit));
        let [one, two] = [(), ()].map(|unit| conns.insert(unit));
        let mut line = Line::default();
        assert_eq!(line.acquire(2), Acquired::Nobody);
        [a, b, c].into_iter().for_each(|lease| line.wait(lease));
        [one, two].into_iter().for_each(|conn| line.release(conn));
        line.leave(a);
        assert_eq!(line.acquire(2), Acquired::Idle(b, two));
        line.forget(one);
        assert_eq!(line.acquire(2), Acquired::MayOpen(c));
        line.wait_first(b);
        assert_eq!(line.acquire(2), Acquired::MayOpen(b), "who has lost a connection comes first");
        assert_eq!(line.take_waiters(), [b, c]);
        assert!(!line.has_waiters());
    }

    /// Random steps: there are never more connections than may be, nobody is served twice or left
    /// out, and nobody waits while a connection is free.
    #[test]
    fn connections_go_to_one_at_a_time_and_stay_within_their_limit() {
        const MOST: u32 = 3;
        let (mut leases, mut conns) = (Arena::<LeaseId, ()>::with_key(), Arena::<ConnId, ()>::with_key());
        let mut state = 7u32;
        let mut below = |bound: usize| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) as usize % bound
        };
        let mut line = Line::default();
        let (mut waiting, mut held): (Vec<LeaseId>, Vec<(LeaseId, ConnId)>) = (Vec::new(), Vec::new());
        for _ in 0..20_000 {
            match below(5) {
                0 | 1 => {
                    let lease = leases.insert(());
                    waiting.push(lease);
                    line.wait(lease);
                }
                2 if !held.is_empty() => {
                    let (_, conn) = held.swap_remove(below(held.len()));
                    line.release(conn);
                }
                3 if !held.is_empty() => {
                    // It is lost, and its holder waits again.
                    let (lease, _) = held.swap_remove(below(held.len()));
                    line.note_closed();
                    line.wait_first(lease);
                    waiting.insert(0, lease);
                }
                4 if !waiting.is_empty() => {
                    let lease = waiting.remove(below(waiting.len()));
                    line.leave(lease);
                }
                _ => {}
            }
            loop {
                let (lease, conn) = match line.acquire(MOST) {
                    Acquired::Nobody | Acquired::Full => break,
                    Acquired::Idle(lease, conn) => (lease, conn),
                    Acquired::MayOpen(lease) => {
                        line.note_open();
                        line.opens();
                        (lease, conns.insert(()))
                    }
                };
                assert_eq!(waiting.remove(0), lease, "in the order they came");
                assert!(held.iter().all(|(_, other)| *other != conn), "it is somebody else's");
                held.push((lease, conn));
            }
            let free = line.idle().len();
            assert_eq!(held.len() + free, (MOST - line.room(MOST)) as usize, "every connection is somewhere");
            assert!(waiting.is_empty() || (free == 0 && line.room(MOST) == 0), "nobody waits for nothing");
        }
    }
}
