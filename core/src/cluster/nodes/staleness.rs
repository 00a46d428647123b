//! Whether what a connection says is believed: that another node is at its address.

use core::time::Duration;

use crate::time::Instant;

/// What a connection says that was made within this time after one was given up is believed. It
/// doubles while nothing changes.
const BELIEVED: Duration = Duration::from_millis(500);

/// It doubles so often at most: half a minute.
const DOUBLED_MAX: u32 = 6;

/// When a node's connections were given up last.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::cluster) struct Staleness {
    at: Option<Instant>,
    /// How often in a row the new connection has said the same.
    rounds: u32,
}

/// What becomes of connections of which one says that its address has another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cluster) enum Leave {
    /// They are given up, and a new one is tried.
    Now,
    /// They were given up already, and this was under way.
    Already,
    /// This one is new: it is believed.
    Believed,
}

impl Staleness {
    /// A connection that was made then says so. When they are given up, that is remembered.
    pub(in crate::cluster) fn leave(&mut self, made_at: Instant, now: Instant) -> Leave {
        let believed = BELIEVED * (1 << self.rounds.min(DOUBLED_MAX));
        let rounds = match self.at {
            Some(at) if made_at < at => return Leave::Already,
            Some(at) if now < at + believed => return Leave::Believed,
            Some(at) if now < at + 2 * believed => self.rounds.saturating_add(1),
            _ => 0,
        };
        *self = Self { at: Some(now), rounds };
        Leave::Now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_connection_is_believed_for_a_time_that_doubles_while_it_says_the_same() {
        let at = |milliseconds: u64| Instant::from_nanoseconds(milliseconds * 1_000_000);
        let mut stale = Staleness::default();
        assert_eq!(stale.leave(at(0), at(1_000)), Leave::Now);
        assert_eq!(stale.leave(at(0), at(1_000)), Leave::Already);
        assert_eq!(stale.leave(at(1_001), at(1_499)), Leave::Believed);
        assert_eq!(stale.leave(at(1_001), at(1_500)), Leave::Now, "another is tried after half a second");
        assert_eq!(stale.leave(at(1_501), at(2_499)), Leave::Believed, "and then after a second");
        assert_eq!(stale.leave(at(1_501), at(2_500)), Leave::Now);
        assert_eq!(stale.leave(at(2_501), at(60_000)), Leave::Now, "long after that it begins anew");
        assert_eq!(stale.leave(at(60_001), at(60_499)), Leave::Believed);
        assert_eq!(stale.leave(at(60_001), at(60_500)), Leave::Now);
    }
}
