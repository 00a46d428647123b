//! Instants at which requests want attention.

use alloc::collections::{BinaryHeap, VecDeque};
use core::cmp::Reverse;

use super::RequestId;
use crate::time::Instant;

/// A queue by time; requests of one instant come in the order they were put in.
///
/// Most come in order of time, as deadlines do, and cost next to nothing. A request that ends does not take its entry
/// out: whoever pops it finds the request gone. `sweep` bounds what such entries cost.
#[derive(Debug, Default)]
pub(super) struct Timers {
    in_order: VecDeque<(Instant, RequestId)>,
    /// Those that came after a later one.
    others: BinaryHeap<Reverse<(Instant, u64, RequestId)>>,
    serial: u64,
}

impl Timers {
    /// Entries of ended requests are worth a sweep from here on.
    const SWEEP_FROM: usize = 64;

    pub(super) fn insert(&mut self, at: Instant, id: RequestId) {
        if at == Instant::NEVER {
            return;
        }
        if self.in_order.back().is_none_or(|(last, _)| *last <= at) {
            self.in_order.push_back((at, id));
            return;
        }
        self.serial += 1;
        self.others.push(Reverse((at, self.serial, id)));
    }

    pub(super) fn pop_due(&mut self, now: Instant) -> Option<RequestId> {
        let next = self.next().filter(|next| *next <= now)?;
        // What is in order came first.
        if self.in_order.front().is_some_and(|(at, _)| *at == next) {
            return self.in_order.pop_front().map(|(_, id)| id);
        }
        self.others.pop().map(|Reverse((_, _, id))| id)
    }

    pub(super) fn next(&self) -> Option<Instant> {
        let in_order = self.in_order.front().map(|(at, _)| *at);
        let other = self.others.peek().map(|Reverse((at, ..))| *at);
        in_order.into_iter().chain(other).min()
    }

    pub(super) fn len(&self) -> usize {
        self.in_order.len() + self.others.len()
    }

    /// Drops the entries of requests that are no more, when they outnumber the `live` ones. So a
    /// request pays for one entry's move at most.
    pub(super) fn sweep(&mut self, live: usize, is_live: impl Fn(RequestId) -> bool) {
        if self.len() > Self::SWEEP_FROM + 2 * live {
            self.in_order.retain(|(_, id)| is_live(*id));
            self.others.retain(|Reverse((_, _, id))| is_live(*id));
        }
    }
}
