//! The tickets under way.

use alloc::collections::VecDeque;

use crate::cluster::RequestId;

/// Beside those under way so many gaps are kept at least, so that a few tickets are not moved
/// about.
const GAPS_MIN: usize = 32;

/// The tickets under way with their requests, in the order of their numbers.
///
/// Tickets are added in rising order and removed in any. A removed one leaves a gap. A gap at the
/// front goes at once, the others when there are more of them than tickets: so an addition and a
/// removal cost no more than a binary search, and nothing grows because one ticket stays.
#[derive(Debug, Default)]
pub(super) struct Tickets {
    entries: VecDeque<(u64, Option<RequestId>)>,
    /// How many of them are no gaps.
    open: usize,
}

impl Tickets {
    pub(super) fn is_empty(&self) -> bool {
        self.open == 0
    }

    /// Adds a ticket, which is higher than all before it.
    pub(super) fn add(&mut self, ticket: u64, id: RequestId) {
        debug_assert!(self.entries.back().is_none_or(|(last, _)| *last < ticket), "tickets rise");
        self.entries.push_back((ticket, Some(id)));
        self.open += 1;
    }

    /// Removes a ticket. None when it is not under way.
    pub(super) fn remove(&mut self, ticket: u64) -> Option<RequestId> {
        let index = self.entries.binary_search_by_key(&ticket, |(ticket, _)| *ticket).ok()?;
        let id = self.entries.get_mut(index)?.1.take()?;
        self.open -= 1;
        self.close_gaps();
        Some(id)
    }

    /// Removes so many tickets from the first on, as far as they are under way, and gives each.
    pub(super) fn take_range(&mut self, first: u64, count: u64, mut give: impl FnMut(u64, RequestId)) {
        let begin = self.entries.partition_point(|(ticket, _)| *ticket < first);
        for (ticket, id) in self.entries.range_mut(begin..).take_while(|(ticket, _)| *ticket - first < count)
        {
            if let Some(id) = id.take() {
                self.open -= 1;
                give(*ticket, id);
            }
        }
        self.close_gaps();
    }

    fn close_gaps(&mut self) {
        while self.entries.front().is_some_and(|(_, id)| id.is_none()) {
            self.entries.pop_front();
        }
        if self.entries.len() - self.open > self.open.max(GAPS_MIN) {
            self.entries.retain(|(_, id)| id.is_some());
        }
    }
}

#[cfg(test)]
impl Tickets {
    /// How many entries there are, gaps included.
    pub(super) fn footprint(&self) -> usize {
        self.entries.len()
    }
}
