//! Instants at which requests want attention.

use alloc::collections::BinaryHeap;
use core::cmp::Reverse;

use super::RequestId;
use crate::time::Instant;

/// A queue by time; requests of one instant come in the order they were put in.
///
/// A request that ends does not take its entry out: whoever pops it finds the request gone. `sweep` bounds
/// what such entries cost.
#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<(Instant, u64, RequestId)>>,
    serial: u64,
}

impl Timers {
    /// Entries of ended requests are worth a sweep from here on.
    const SWEEP_FROM: usize = 64;

    pub(super) fn insert(&mut self, at: Instant, id: RequestId) {
        self.serial += 1;
        self.heap.push(Reverse((at, self.serial, id)));
    }

    pub(super) fn pop_due(&mut self, now: Instant) -> Option<RequestId> {
        let Reverse((at, ..)) = self.heap.peek()?;
        if *at > now {
            return None;
        }
        self.heap.pop().map(|Reverse((_, _, id))| id)
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, ..))| *at)
    }

    pub(super) fn len(&self) -> usize {
        self.heap.len()
    }

    /// Drops the entries of requests that are no more, when they outnumber the `live` ones. So a
    /// request pays for one entry's move at most.
    pub(super) fn sweep(&mut self, live: usize, is_live: impl Fn(RequestId) -> bool) {
        if self.heap.len() > Self::SWEEP_FROM + 2 * live {
            self.heap.retain(|Reverse((_, _, id))| is_live(*id));
        }
    }
}
