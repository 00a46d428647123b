//! What happened, for whoever asks: a bounded list that drops its oldest, retries first.

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use crate::address::NodeAddr;
use crate::time::Instant;
use crate::topology::TopologyChange;

/// How many events are kept until they are asked for.
pub(super) const EVENTS_MAX: usize = 1_024;

/// Something that happened to the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A node's first connection is in use.
    Connected {
        /// The node.
        node: NodeAddr,
    },
    /// A node could not be connected to.
    ConnectFailed {
        /// The node.
        node: NodeAddr,
        /// Why.
        reason: String,
        /// How many times in a row, this one included.
        attempts: u32,
    },
    /// A connection that was in use has ended, or was given up.
    Disconnected {
        /// The node.
        node: NodeAddr,
        /// Why.
        reason: String,
    },
    /// A node is connected to again after it had failed.
    Reconnected {
        /// The node.
        node: NodeAddr,
        /// Since its connection ended.
        after: Duration,
        /// How many times it was dialled, the last one included.
        attempts: u32,
    },
    /// A replica has taken over.
    FailedOver {
        /// The primary that was.
        from: NodeAddr,
        /// The primary that is.
        to: NodeAddr,
    },
    /// Slots are served elsewhere, or nodes have come or gone.
    TopologyChanged(TopologyChange),
    /// A request is sent again.
    Retried {
        /// The node that it was sent to.
        node: NodeAddr,
        /// The server's error or the connection's end.
        reason: String,
        /// How many times it has been sent again, this one included.
        attempt: u32,
    },
    /// A node has refused a command of the client's own, and with it what the command is for. Told
    /// once for each node and command.
    Refused {
        /// The node.
        node: NodeAddr,
        /// The command.
        command: &'static str,
        /// The server's error.
        reason: String,
    },
    /// The host has no socket for another connection. Told once, until there are more than now.
    DescriptorsExhausted {
        /// How many connections are open.
        connections: u32,
        /// Why, and what can be done about it.
        reason: String,
    },
    /// Nodes were asked for the topology.
    Refreshed {
        /// How many of them answered.
        answers: u32,
        /// Whether anything had changed.
        changed: bool,
    },
}

/// The events since they were last taken.
#[derive(Debug, Default)]
pub(super) struct Events {
    kept: VecDeque<(Instant, Event)>,
    dropped: u64,
}

impl Events {
    pub(super) fn push(&mut self, at: Instant, event: Event) {
        if self.kept.len() >= EVENTS_MAX {
            // A thousand requests that are sent again must not hide why.
            let is_retry = |(_, event): &(Instant, Event)| matches!(event, Event::Retried { .. });
            let oldest = self.kept.iter().position(is_retry).unwrap_or(0);
            self.kept.remove(oldest);
            self.dropped += 1;
        }
        self.kept.push_back((at, event));
    }

    /// All that are kept, oldest first, and how many older ones were dropped.
    pub(super) fn take(&mut self) -> (Vec<(Instant, Event)>, u64) {
        (core::mem::take(&mut self.kept).into(), core::mem::take(&mut self.dropped))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_dropped_and_counted() {
        let mut events = Events::default();
        for answers in 0..EVENTS_MAX as u32 + 3 {
            events.push(Instant::default(), Event::Refreshed { answers, changed: false });
        }
        let (kept, dropped) = events.take();
        assert_eq!((kept.len(), dropped), (EVENTS_MAX, 3));
        assert_eq!(kept[0].1, Event::Refreshed { answers: 3, changed: false });
        assert_eq!(events.take(), (Vec::new(), 0));
    }

    #[test]
    fn retries_make_way_for_what_caused_them() {
        let mut events = Events::default();
        let node = NodeAddr::new("a", 1);
        let lost = Event::Disconnected { node: node.clone(), reason: "reset".into() };
        events.push(Instant::default(), lost.clone());
        for attempt in 0..3 * EVENTS_MAX as u32 {
            events.push(
                Instant::default(),
                Event::Retried { node: node.clone(), reason: "reset".into(), attempt },
            );
        }
        let (kept, dropped) = events.take();
        assert_eq!((kept.len(), dropped as usize), (EVENTS_MAX, 2 * EVENTS_MAX + 1));
        assert_eq!(kept[0].1, lost);
    }
}
