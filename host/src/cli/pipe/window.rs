//! How much may be under way: what ends soon at nodes that answer, and, besides, what waits for
//! those that do not.

use std::collections::HashMap;
use std::time::Duration;

use keyslot::NodeStatistics;
use tokio::time::Instant;

/// How many commands are under way at first, and at most. The first ones may have large replies.
const COMMANDS_AT_FIRST: usize = 500;
const COMMANDS_MAX: usize = 20_000;

/// How many bytes are under way at most, unless one command alone has more.
const BYTES_MAX: usize = 16 << 20;

/// How much may wait besides for nodes that do not answer. The crate has room for 100,000 commands.
const HELD_COMMANDS_MAX: usize = 75_000;
const HELD_BYTES_MAX: usize = 64 << 20;

/// How much may wait in the component, so that it refuses nothing.
pub(super) const WAITING_COMMANDS_MAX: u64 = 100_000;
pub(super) const WAITING_BYTES_MAX: u64 = 128 << 20;

/// How many pieces may have commands that have not ended. Each takes memory for all of its
/// commands.
const PIECES_MAX: usize = 2_000;

/// After how many commands that took long there are to be fewer, unless the window is smaller.
const LATE_MAX: usize = 500;

/// What is under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) pieces: usize,
    pub(super) commands: usize,
    pub(super) bytes: usize,
}

/// How many commands may be under way at nodes that answer: more while they end soon, fewer when
/// they take long, so that none waits for its time-out behind others.
pub(super) struct Window {
    commands: usize,
    /// What is soon.
    soon: Duration,
    /// How many have taken long since there were last made fewer.
    late: usize,
    /// How many of those under way are not counted, since they wait for nodes that do not answer.
    held: usize,
}

impl Window {
    pub(super) fn new(request_timeout: Duration) -> Self {
        Self { commands: COMMANDS_AT_FIRST, soon: request_timeout / 10, late: 0, held: 0 }
    }

    /// Whether another piece may be handed in.
    pub(super) fn has_room(&self, under_way: Held) -> bool {
        let Held { pieces, commands, bytes } = under_way;
        let (commands_max, bytes_max) = match self.held {
            0 => (COMMANDS_MAX, BYTES_MAX),
            _ => (COMMANDS_MAX + HELD_COMMANDS_MAX, BYTES_MAX + HELD_BYTES_MAX),
        };
        commands.saturating_sub(self.held) < self.commands
            && commands < commands_max
            && bytes < bytes_max
            && pieces < PIECES_MAX
    }

    /// Takes notice of commands that nodes have answered after this time.
    pub(super) fn answered(&mut self, commands: usize, took: Duration) {
        if took <= self.soon {
            self.commands = (self.commands + commands).min(COMMANDS_MAX);
        } else if took > 2 * self.soon {
            self.held = self.held.saturating_sub(commands);
            self.late += commands;
            while self.late >= LATE_MAX.min(self.commands) {
                self.late -= LATE_MAX.min(self.commands);
                self.commands = (self.commands - self.commands / 4).max(1);
            }
        }
    }

    /// Takes notice of commands that have ended without an answer. How long that took says nothing
    /// about the pace of the others.
    pub(super) fn unanswered(&mut self, commands: usize) {
        self.held = self.held.saturating_sub(commands);
    }

    /// Does not count so many of those under way.
    pub(super) fn hold(&mut self, commands: usize) {
        self.held = commands;
    }
}

/// Which nodes answer, as their counters tell.
pub(super) struct Nodes {
    /// After which silence, while answers are due, a node does not.
    patience: Duration,
    seen: HashMap<String, Seen>,
}

struct Seen {
    bytes_in: u64,
    disconnects: u64,
    answers: bool,
    /// When nothing was due, or something came.
    since: Instant,
}

impl Nodes {
    pub(super) fn new(request_timeout: Duration) -> Self {
        Self { patience: request_timeout / 2, seen: HashMap::new() }
    }

    /// Takes notice that nothing is due.
    pub(super) fn rest(&mut self, now: Instant) {
        for seen in self.seen.values_mut() {
            seen.since = now;
        }
    }

    /// Looks at the counters. Gives how many commands are under way at nodes that answer; none when
    /// no node does.
    pub(super) fn look(&mut self, statistics: &[NodeStatistics], now: Instant) -> Option<usize> {
        let mut at_answering = None;
        for node in statistics {
            let counter = |name: &str| {
                node.counters.iter().find(|counter| counter.name == name).map_or(0, |counter| counter.value)
            };
            let (bytes_in, disconnects) = (counter("bytes-in"), counter("disconnects"));
            let in_flight = usize::try_from(counter("in-flight")).unwrap_or(usize::MAX);
            let seen = self.seen.entry(node.address.clone()).or_insert(Seen {
                bytes_in,
                disconnects,
                answers: bytes_in > 0,
                since: now,
            });
            match (bytes_in != seen.bytes_in, disconnects != seen.disconnects) {
                (true, false) => (seen.answers, seen.since) = (true, now),
                // The next look tells whether it has ended for good.
                (true, true) => seen.since = now,
                (false, true) => seen.answers = false,
                (false, false) if in_flight == 0 => seen.since = now,
                (false, false) => seen.answers &= now.duration_since(seen.since) < self.patience,
            }
            (seen.bytes_in, seen.disconnects) = (bytes_in, disconnects);
            if seen.answers {
                at_answering = Some(at_answering.unwrap_or(0_usize).saturating_add(in_flight));
            }
        }
        at_answering
    }

    /// Whether this node answers, as far as is known.
    pub(super) fn answers(&self, node: &str) -> bool {
        self.seen.get(node).is_none_or(|seen| seen.answers)
    }
}

#[cfg(test)]
mod tests {
    use keyslot::Counter;

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(5);

    fn under_way(commands: usize) -> Held {
        Held { pieces: commands.div_ceil(500), commands, bytes: commands * 30 }
    }

    /// Counters of a node: the bytes from it, how often its connection ended, what is due.
    fn node(address: &str, bytes_in: u64, disconnects: u64, in_flight: u64) -> NodeStatistics {
        let counters = [("bytes-in", bytes_in), ("disconnects", disconnects), ("in-flight", in_flight)];
        let counters = counters.map(|(name, value)| Counter { name: name.to_owned(), value }).to_vec();
        NodeStatistics { address: address.to_owned(), counters }
    }

    #[test]
    fn the_window_grows_while_commands_end_soon() {
        let mut window = Window::new(TIMEOUT);
        for _ in 0..100 {
            window.answered(500, Duration::from_millis(5));
        }
        assert_eq!(window.commands, COMMANDS_MAX);
        window.answered(500, Duration::from_millis(800));
        assert_eq!(window.commands, COMMANDS_MAX);
        for _ in 0..100 {
            window.answered(500, Duration::from_secs(2));
        }
        assert_eq!(window.commands, 3);
        window.answered(1, Duration::from_millis(5));
        assert_eq!(window.commands, 4);
    }

    #[test]
    fn what_waits_for_nodes_that_do_not_answer_is_not_counted_and_has_bounds_of_its_own() {
        let mut window = Window::new(TIMEOUT);
        assert!(window.has_room(under_way(499)) && !window.has_room(under_way(500)));
        window.hold(500);
        assert!(window.has_room(under_way(999)) && !window.has_room(under_way(1_000)));
        window.unanswered(200);
        assert!(window.has_room(under_way(799)) && !window.has_room(under_way(800)));
        window.hold(1_000_000);
        let max = COMMANDS_MAX + HELD_COMMANDS_MAX;
        assert!(window.has_room(under_way(max - 1)) && !window.has_room(under_way(max)));
        let large = Held { bytes: BYTES_MAX + HELD_BYTES_MAX, ..under_way(10) };
        let scattered = Held { pieces: PIECES_MAX, ..under_way(10) };
        assert!(!window.has_room(large) && !window.has_room(scattered));
        // They are answered after all.
        window.answered(1_000_000, TIMEOUT);
        assert_eq!((window.held, window.commands), (0, 3));
    }

    #[test]
    fn a_node_that_is_silent_for_long_or_not_connected_does_not_answer() {
        let mut nodes = Nodes::new(TIMEOUT);
        let start = Instant::now();
        let at = |milliseconds: u64| start + Duration::from_millis(milliseconds);
        assert_eq!(
            nodes.look(&[node("a", 9, 0, 7), node("b", 9, 0, 9), node("c", 0, 0, 3)], at(0)),
            Some(16)
        );
        assert_eq!(nodes.look(&[node("a", 10, 0, 7), node("b", 9, 0, 9)], at(2_000)), Some(16));
        assert!(nodes.answers("b"));
        assert_eq!(nodes.look(&[node("a", 10, 0, 0), node("b", 9, 0, 9)], at(2_500)), Some(0));
        assert!(!nodes.answers("b") && nodes.answers("of which nothing is known"));
        // Nothing is due from one, the other is back.
        assert_eq!(nodes.look(&[node("a", 10, 0, 0), node("b", 10, 0, 8)], at(9_000)), Some(8));
        assert_eq!(nodes.look(&[node("a", 10, 0, 5), node("b", 11, 1, 8)], at(9_250)), Some(13));
        assert_eq!(nodes.look(&[node("a", 11, 0, 5), node("b", 11, 2, 0)], at(9_500)), Some(5));
        assert_eq!(nodes.look(&[node("a", 11, 1, 5), node("b", 11, 3, 0)], at(9_750)), None);
        nodes.rest(at(60_000));
        assert_eq!(nodes.look(&[node("a", 12, 1, 5), node("b", 11, 3, 2)], at(60_250)), Some(5));
    }
}
