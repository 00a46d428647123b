//! How many names are looked up at the same time.
//!
//! A look-up is a call of the system's on a thread of its own, which nobody can end: when the
//! component gives it up, because the time for its connection is over, the thread goes on until the
//! resolver gives up, too. So those that were given up count for a while.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::network::Ports;

/// So many threads at most. The component has up to 8 look-ups under way.
const MAX: usize = 32;

/// How long a resolver may go on with a name that nobody answers for: by default two rounds of 5
/// seconds to each of three servers (resolv.conf(5), `timeout` and `attempts`).
const GIVEN_UP_FOR: Duration = Duration::from_secs(30);

/// The look-ups of one instance, by their handles.
#[derive(Default)]
pub(crate) struct LookUps {
    under_way: HashMap<u32, LookUp>,
    /// When those that had not ended were given up.
    given_up: VecDeque<Instant>,
}

struct LookUp {
    /// What the name's addresses may be used for.
    ports: Ports,
    has_ended: bool,
}

impl LookUps {
    /// Whether one more may begin.
    pub(crate) fn have_room(&mut self, now: Instant) -> bool {
        while self.given_up.front().is_some_and(|at| now.saturating_duration_since(*at) >= GIVEN_UP_FOR) {
            self.given_up.pop_front();
        }
        let running = self.under_way.values().filter(|look_up| !look_up.has_ended).count();
        running + self.given_up.len() < MAX
    }

    pub(crate) fn begin(&mut self, handle: u32, ports: Ports) {
        self.under_way.insert(handle, LookUp { ports, has_ended: false });
    }

    /// It has given something. What its addresses may be used for.
    pub(crate) fn has_ended(&mut self, handle: u32) -> Option<&Ports> {
        let look_up = self.under_way.get_mut(&handle)?;
        look_up.has_ended = true;
        Some(&look_up.ports)
    }

    /// The component has no more use for it.
    pub(crate) fn drop(&mut self, handle: u32, now: Instant) {
        if self.under_way.remove(&handle).is_some_and(|look_up| !look_up.has_ended) {
            self.given_up.push_back(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_up_counts_for_as_long_as_its_thread_may_live() {
        let mut look_ups = LookUps::default();
        let begun_at = Instant::now();
        for handle in 0..1_000 {
            let has_room = look_ups.have_room(begun_at);
            assert_eq!(has_room, handle < MAX as u32, "{handle}");
            if has_room {
                look_ups.begin(handle, Ports::All);
                look_ups.drop(handle, begun_at);
            }
        }
        assert!(!look_ups.have_room(begun_at + GIVEN_UP_FOR / 2));
        assert!(look_ups.have_room(begun_at + GIVEN_UP_FOR));
    }

    #[test]
    fn what_has_ended_does_not_count() {
        let mut look_ups = LookUps::default();
        let now = Instant::now();
        for handle in 0..1_000 {
            assert!(look_ups.have_room(now));
            look_ups.begin(handle, Ports::All);
            assert!(look_ups.has_ended(handle).is_some());
            if handle % 2 == 0 {
                look_ups.drop(handle, now);
            }
        }
    }
}
