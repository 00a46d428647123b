//! The virtual clock: one queue of what is to happen, and when the machine wants to be woken.
//!
//! The machine's clock is the world's, and ahead of it by as much as it has jumped.

use std::collections::BTreeMap;
use std::net::IpAddr;

use keyslot_core::cluster::ConnId;
use keyslot_core::time::Instant;

/// Whether the machine may be told of something at or after a deadline of the same connection
/// without a tick before, as a driver tells it that has slept. The machine runs its deadlines
/// first, and then takes the input for one of the connection that the deadline has made of it.
const INPUTS_MEET_DEADLINES: bool = true;

/// What the world does by itself, or hands to whoever planned it.
#[derive(Debug)]
pub(super) enum Event<A> {
    Resolved(ConnId, Result<Vec<IpAddr>, String>),
    Connected(ConnId, u32),
    ToServer(ConnId, u32, Vec<u8>),
    ToClient {
        conn: ConnId,
        dial: u32,
        bytes: Vec<u8>,
        last_of_garbage: bool,
    },
    /// The next byte of what a node answers by drops.
    Drip(ConnId, u32),
    /// A node that runs a script answers again.
    Busy(usize),
    /// The end of the stream, as the client sees it.
    Ended(ConnId, u32, &'static str),
    Planned(A),
}

impl<A> Event<A> {
    /// The connection whose packets these are.
    pub(super) fn conn(&self) -> Option<ConnId> {
        match self {
            Self::Connected(conn, _)
            | Self::ToServer(conn, ..)
            | Self::ToClient { conn, .. }
            | Self::Drip(conn, _)
            | Self::Ended(conn, ..) => Some(*conn),
            Self::Resolved(..) | Self::Busy(_) | Self::Planned(_) => None,
        }
    }

    /// Whether the machine hears of it.
    fn is_input(&self) -> bool {
        !matches!(self, Self::Planned(_) | Self::ToServer(..) | Self::Drip(..) | Self::Busy(_))
    }
}

/// What is next.
pub(super) enum Turn<A> {
    /// Nothing, before the given time.
    Quiet,
    /// The machine is woken.
    Tick,
    Event(Event<A>),
}

#[derive(Debug)]
pub(super) struct Clock<A> {
    now: u64,
    queue: BTreeMap<(u64, u64), Event<A>>,
    sequence: u64,
    /// How far the machine's clock is ahead.
    ahead: u64,
    /// When the machine wants to be woken, on its clock.
    wait_until: Option<u64>,
    ticks_at_once: u32,
}

impl<A> Clock<A> {
    pub(super) fn new() -> Self {
        Self { now: 0, queue: BTreeMap::new(), sequence: 0, ahead: 0, wait_until: None, ticks_at_once: 0 }
    }

    pub(super) fn now(&self) -> u64 {
        self.now
    }

    pub(super) fn machine_now(&self) -> Instant {
        Instant::from_nanoseconds(self.now + self.ahead)
    }

    pub(super) fn schedule(&mut self, at: u64, event: Event<A>) {
        self.sequence += 1;
        self.queue.insert((at, self.sequence), event);
    }

    /// The machine wants to be woken then.
    pub(super) fn wait_until(&mut self, until: Option<Instant>) {
        self.wait_until = until.map(Instant::as_nanoseconds);
    }

    pub(super) fn waits_until(&self) -> Option<u64> {
        self.wait_until
    }

    /// The machine's clock jumps forward.
    pub(super) fn jump(&mut self, by: u64) {
        self.ahead += by;
        if INPUTS_MEET_DEADLINES {
            // What comes next comes before the tick.
            let next = self.queue.iter().find(|(_, event)| event.is_input()).map(|(key, _)| *key);
            if let Some(event) = next.and_then(|key| self.queue.remove(&key)) {
                self.schedule(self.now.saturating_sub(1), event);
            }
        }
    }

    /// Goes on to the next thing, or to `until` when that comes first.
    pub(super) fn turn(&mut self, until: u64) -> Turn<A> {
        let event_at = self.queue.first_key_value().map(|((at, _), _)| *at);
        let wake_at = self.wait_until.map(|at| at.saturating_sub(self.ahead));
        let next = [event_at, wake_at].into_iter().flatten().min();
        let Some(next) = next.filter(|next| *next <= until) else {
            self.now = self.now.max(until);
            return Turn::Quiet;
        };
        self.ticks_at_once = if next <= self.now { self.ticks_at_once + 1 } else { 0 };
        self.now = self.now.max(next);
        let ticks_first = !INPUTS_MEET_DEADLINES && wake_at.is_some_and(|at| at <= next);
        if ticks_first || event_at.is_none_or(|at| at > next) {
            assert!(
                self.ticks_at_once < 20,
                "INVARIANT: the machine does not ask to be woken in the past for ever"
            );
            return Turn::Tick;
        }
        self.ticks_at_once = 0;
        let (_, event) = self.queue.pop_first().expect("looked at above");
        Turn::Event(event)
    }
}
