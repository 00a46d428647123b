//! Requests that wait in line, from which any may go.

use alloc::collections::VecDeque;

use crate::cluster::ids::RequestId;

/// A queue of requests.
///
/// One that ends while it waits is mostly the first, for requests time out in the order they came.
/// Any other stays where it is, and is passed over: looking for each would cost as much as the
/// queue is long. They are dropped together once they are half of it.
#[derive(Debug, Default)]
pub(in crate::cluster) struct Queue {
    ids: VecDeque<RequestId>,
    /// How many of them may have ended.
    ended: usize,
}

impl Queue {
    pub(in crate::cluster) fn push_back(&mut self, id: RequestId) {
        self.ids.push_back(id);
    }

    pub(in crate::cluster) fn push_front(&mut self, id: RequestId) {
        self.ids.push_front(id);
    }

    /// Whether nobody waits. Of those that are there at most half have ended.
    pub(in crate::cluster) fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// The first that has not ended.
    pub(in crate::cluster) fn first(&mut self, is_live: impl Fn(RequestId) -> bool) -> Option<RequestId> {
        while let Some(id) = self.ids.front() {
            if is_live(*id) {
                return Some(*id);
            }
            self.ids.pop_front();
            self.ended = self.ended.saturating_sub(1);
        }
        None
    }

    pub(in crate::cluster) fn pop_front(&mut self) {
        self.ids.pop_front();
    }

    /// How many entries it has.
    pub(in crate::cluster) fn footprint(&self) -> usize {
        self.ids.len()
    }

    /// Takes all out, in order; some may have ended.
    pub(in crate::cluster) fn take(&mut self) -> VecDeque<RequestId> {
        self.ended = 0;
        core::mem::take(&mut self.ids)
    }

    /// A request has ended that was put here; `is_live` is false for it, and for those that had
    /// ended before.
    pub(in crate::cluster) fn forget(&mut self, id: RequestId, is_live: impl Fn(RequestId) -> bool) {
        if self.ids.front() == Some(&id) {
            self.ids.pop_front();
        } else {
            self.ended += 1;
        }
        if self.ended * 2 > self.ids.len() {
            self.ids.retain(|id| is_live(*id));
            self.ended = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeSet;
    use alloc::vec::Vec;

    use slotmap::SlotMap;

    use super::*;

    #[test]
    fn those_that_have_ended_are_not_counted_and_do_not_stay() {
        for backwards in [false, true] {
            let mut live = SlotMap::<RequestId, ()>::with_key();
            let mut queue = Queue::default();
            let ids: Vec<_> = (0..1_000).map(|_| live.insert(())).collect();
            ids.iter().for_each(|id| queue.push_back(*id));
            let mut order = ids.clone();
            if backwards {
                order.reverse();
            }
            for (ended, id) in (1..).zip(&order) {
                live.remove(*id);
                queue.forget(*id, |id| live.contains_key(id));
                assert!(queue.footprint() <= 2 * (1_000 - ended));
                let left: BTreeSet<_> = queue.ids.iter().filter(|id| live.contains_key(**id)).collect();
                assert_eq!(left.len(), 1_000 - ended);
            }
            assert!(queue.is_empty() && queue.take().is_empty());
        }
    }
}
