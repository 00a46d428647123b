//! Instants at which requests, connections, nodes and waiters want attention.

use alloc::collections::{BinaryHeap, VecDeque};
use core::cmp::Reverse;

use crate::time::Instant;

/// A queue by time; entries of one instant come in the order they were put in.
///
/// Most come in order of time, as deadlines do, and cost next to nothing. What ends, or wants
/// attention at another time, does not take its entry out: whoever pops it looks whether it is due.
/// `sweep` bounds what such entries cost.
#[derive(Debug)]
pub(super) struct Timers<K> {
    in_order: VecDeque<(Instant, K)>,
    /// Those that came after a later one.
    others: BinaryHeap<Reverse<(Instant, u64, K)>>,
    serial: u64,
}

impl<K> Default for Timers<K>
where
    K: Ord,
{
    fn default() -> Self {
        Self { in_order: VecDeque::new(), others: BinaryHeap::new(), serial: 0 }
    }
}

impl<K: Copy + Ord> Timers<K> {
    /// Entries that count no more are worth a sweep from here on.
    const SWEEP_FROM: usize = 64;

    pub(super) fn insert(&mut self, at: Instant, key: K) {
        if at == Instant::NEVER {
            return;
        }
        if self.in_order.back().is_none_or(|(last, _)| *last <= at) {
            self.in_order.push_back((at, key));
            return;
        }
        self.serial += 1;
        self.others.push(Reverse((at, self.serial, key)));
    }

    pub(super) fn pop_due(&mut self, now: Instant) -> Option<K> {
        self.pop_entry(now).map(|(_, key)| key)
    }

    /// As `pop_due`, with the time of the entry.
    pub(super) fn pop_entry(&mut self, now: Instant) -> Option<(Instant, K)> {
        let next = self.next().filter(|next| *next <= now)?;
        // What is in order came first.
        if self.in_order.front().is_some_and(|(at, _)| *at == next) {
            return self.in_order.pop_front();
        }
        self.others.pop().map(|Reverse((at, _, key))| (at, key))
    }

    /// The first entry.
    pub(super) fn first(&self) -> Option<(Instant, K)> {
        let at = self.next()?;
        let in_order = self.in_order.front().filter(|(first, _)| *first == at).copied();
        in_order.or_else(|| self.others.peek().map(|Reverse((at, _, key))| (*at, *key)))
    }

    pub(super) fn next(&self) -> Option<Instant> {
        let in_order = self.in_order.front().map(|(at, _)| *at);
        let other = self.others.peek().map(|Reverse((at, ..))| *at);
        in_order.into_iter().chain(other).min()
    }

    pub(super) fn len(&self) -> usize {
        self.in_order.len() + self.others.len()
    }

    /// Drops the entries that count no more, when they outnumber the `live` ones. So each pays for
    /// one entry's move at most.
    pub(super) fn sweep(&mut self, live: usize, is_live: impl Fn(Instant, K) -> bool) {
        if self.len() > Self::SWEEP_FROM + 2 * live {
            self.in_order.retain(|(at, key)| is_live(*at, *key));
            self.others.retain(|Reverse((at, _, key))| is_live(*at, *key));
        }
    }
}

/// The alarm of one thing that has an entry among [`Timers`]: the earliest that counts. Those that
/// were set before it count no more.
#[derive(Clone, Copy, Debug)]
pub(super) struct Alarm(Instant);

impl Default for Alarm {
    fn default() -> Self {
        Self(Instant::NEVER)
    }
}

impl Alarm {
    /// Sets it, unless it goes off sooner as it is. Then whoever it wakes looks again.
    pub(super) fn set<K: Copy + Ord>(&mut self, at: Option<Instant>, key: K, timers: &mut Timers<K>) {
        if let Some(at) = at.filter(|at| *at < self.0) {
            self.0 = at;
            timers.insert(at, key);
        }
    }

    /// Takes in that an entry was popped. False when it does not count.
    pub(super) fn goes_off(&mut self, at: Instant) -> bool {
        let counts = self.is_set_to(at);
        if counts {
            self.0 = Instant::NEVER;
        }
        counts
    }

    pub(super) fn is_set_to(self, at: Instant) -> bool {
        self.0 == at
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    fn at(nanoseconds: u64) -> Instant {
        Instant::from_nanoseconds(nanoseconds)
    }

    #[test]
    fn entries_come_by_time_and_then_as_they_were_put_in() {
        let mut timers = Timers::default();
        for (time, key) in [(5, 'a'), (9, 'b'), (5, 'c'), (9, 'd'), (1, 'e'), (7, 'f')] {
            timers.insert(at(time), key);
        }
        assert_eq!(timers.pop_due(at(0)), None);
        let all: Vec<_> = core::iter::from_fn(|| timers.pop_due(at(9))).collect();
        assert_eq!(all, ['e', 'a', 'c', 'f', 'b', 'd']);
        assert_eq!(timers.len(), 0);
    }

    #[test]
    fn an_alarm_that_is_set_again_and_again_costs_no_memory() {
        let mut timers = Timers::default();
        let mut alarm = Alarm::default();
        for time in (1..100_000).rev() {
            alarm.set(Some(at(time)), 'a', &mut timers);
            alarm.set(Some(at(time + 1)), 'a', &mut timers);
            timers.sweep(1, |at, _| alarm.is_set_to(at));
        }
        assert!(timers.len() <= 67, "{}", timers.len());
        let counted = core::iter::from_fn(|| timers.pop_entry(at(1_000_000)));
        assert_eq!(counted.filter(|(at, _)| alarm.goes_off(*at)).count(), 1);
    }

    /// Against a list that is searched for its first entry each time.
    #[test]
    fn entries_come_as_a_naive_list_gives_them() {
        let mut state = 7u32;
        let mut below = |bound: u64| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            u64::from(state >> 16) % bound
        };
        let mut timers = Timers::default();
        let mut model: Vec<(Instant, u32)> = Vec::new();
        let mut now = 0;
        for key in 0..20_000 {
            if below(3) > 0 {
                // Mostly later than all, as deadlines are.
                let time = at(now + if below(4) == 0 { below(50) } else { 100 });
                timers.insert(time, key);
                model.push((time, key));
            }
            now += below(3);
            assert_eq!(timers.next(), model.iter().map(|(at, _)| *at).min());
            while let Some((time, key)) = timers.pop_entry(at(now)) {
                let first = model.iter().map(|(at, _)| *at).min().unwrap();
                assert_eq!(time, first, "the earliest comes first");
                let place = model.iter().position(|entry| *entry == (time, key)).expect("it was put in");
                model.remove(place);
            }
            assert!(model.iter().all(|(time, _)| *time > at(now)), "none is late");
            assert_eq!(timers.len(), model.len());
            if below(100) == 0 {
                timers.sweep(0, |_, key| key % 2 == 0);
                if timers.len() < model.len() {
                    model.retain(|(_, key)| key % 2 == 0);
                }
            }
        }
    }
}
