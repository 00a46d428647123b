//! What the machine tells and counts, and how often it asks: whether that makes sense.

use std::collections::BTreeSet;

use keyslot_core::address::NodeAddr;
use keyslot_core::cluster::Event;
use keyslot_core::error::Error;
use keyslot_core::time::Instant;

use super::coverage::Feature;
use super::world::{MILLISECOND, World};

/// How many events are kept until somebody asks.
const EVENTS_MAX: usize = 1_024;

/// How long an event's text is at most, whatever the servers say.
const EVENT_LENGTH_MAX: usize = 4_096;

/// What the machine has reported, and when it asked.
#[derive(Debug, Default)]
pub(super) struct Reports {
    ready: Option<Result<(), Error>>,
    /// Nodes that are connected, as told.
    up: BTreeSet<NodeAddr>,
    /// How many events were dropped.
    dropped: u64,
    /// When nodes were asked for the topology since the start, on the machine's clock.
    asked: Vec<u64>,
}

impl Reports {
    pub(super) fn is_ready_told(&self) -> bool {
        self.ready.is_some()
    }

    pub(super) fn asked(&mut self, at: Instant) {
        self.asked.push(at.as_nanoseconds());
    }
}

impl<A: std::fmt::Debug> World<A> {
    /// Whether the client could start, once it has told.
    pub(crate) fn ready(&self) -> Option<&Result<(), Error>> {
        self.reports.ready.as_ref()
    }

    pub(super) fn is_ready(&mut self, result: Result<(), Error>) {
        self.log(|| format!("ready: {result:?}"));
        assert!(self.reports.ready.is_none(), "INVARIANT: Ready comes once");
        let due = self.history.due(self.config.connect_timeout.as_nanos() as u64);
        let now = self.machine_now().as_nanoseconds();
        assert!(now <= due + MILLISECOND, "INVARIANT: Ready comes within the connect time-out");
        self.coverage.count_if(Feature::NotReady, result.is_err());
        self.reports.ready = Some(result);
    }

    /// Asks for the events. They follow from one another, and from what has happened.
    pub(crate) fn check_news(&mut self) {
        let (events, dropped) = self.cluster.take_events();
        assert!(events.len() <= EVENTS_MAX, "INVARIANT: {} events are kept", events.len());
        self.reports.dropped += dropped;
        let has_all = self.reports.dropped == 0;
        for (at, event) in events {
            let now = self.machine_now();
            assert!(at <= now, "INVARIANT: nothing is told before it happens: {event:?}");
            self.log(|| format!("event: {event:?}"));
            self.digest((at, &event));
            self.coverage.reported(&event);
            if !matches!(event, Event::TopologyChanged(_)) {
                let length = format!("{event:?}").len();
                assert!(length <= EVENT_LENGTH_MAX, "INVARIANT: {length} bytes are kept of one event");
            }
            match &event {
                Event::Connected { node } | Event::Reconnected { node, .. } => {
                    self.reports.up.insert(node.clone());
                }
                Event::Disconnected { node, .. } => {
                    let was_up = self.reports.up.remove(node);
                    assert!(was_up || !has_all, "INVARIANT: what is disconnected was connected: {event:?}");
                }
                Event::ConnectFailed { attempts, .. } => {
                    assert!(*attempts > 0, "INVARIANT: {event:?}");
                }
                Event::FailedOver { .. } => {
                    let has_happened = self.servers.promotions > 0 || self.excuses.is_misled();
                    assert!(has_happened, "INVARIANT: no failover is made up: {event:?}");
                }
                Event::Retried { attempt, .. } => {
                    // The primary gets a read that a replica could not serve, whatever the
                    // settings.
                    let most = self.config.retry.attempts_max + u32::from(self.excuses.may_read_replicas());
                    assert!(*attempt <= most, "INVARIANT: {event:?}, {most} at most");
                }
                Event::TopologyChanged(change) => {
                    assert!(!change.is_empty(), "INVARIANT: a change changes something");
                }
                Event::Refused { reason, .. } => {
                    assert!(!reason.is_empty(), "INVARIANT: {event:?}");
                }
                Event::DescriptorsExhausted { .. } => {
                    let has_happened = self.was_short_of_sockets();
                    assert!(has_happened, "INVARIANT: no shortage is made up: {event:?}");
                }
                Event::Refreshed { .. } => {}
            }
        }
    }

    /// The counters add up.
    pub(crate) fn check_counters(&self) {
        let all = self.cluster.statistics();
        let requests = self.history.len() as u64;
        assert_eq!(all.requests, requests, "INVARIANT: requests are counted");
        let (mut commands, mut connects) = (0, 0);
        for (node, own, in_flight) in self.cluster.node_statistics() {
            let errors: u64 = own.errors.values().sum();
            let answered = own.latency.count();
            let what = format!("{node}: {own:?}");
            assert!(answered <= own.commands, "INVARIANT: what was answered was sent: {what}");
            assert!(errors <= answered, "INVARIANT: errors are answers: {what}");
            assert!(own.redirects <= errors, "INVARIANT: redirects are errors: {what}");
            assert!(own.reconnects <= own.connects, "INVARIANT: {what}");
            // No request is, which `check_idle` sees; the three parts of a question for the
            // topology may be.
            let may_be = self.leases.count() > 0;
            assert!(in_flight <= 3 || may_be, "INVARIANT: {in_flight} are under way at the end: {what}");
            commands += own.commands;
            connects += own.connects;
        }
        assert!(commands <= all.commands, "INVARIANT: {commands} commands of nodes, {all:?}");
        assert!(connects <= all.connects, "INVARIANT: {connects} connections of nodes, {all:?}");
    }

    /// One round of questions at a time, to three nodes at most, and none soon after another.
    pub(crate) fn check_rounds(&self) {
        for round in self.reports.asked.chunk_by(|a, b| a == b) {
            assert!(round.len() <= 3, "INVARIANT: {} nodes were asked at once", round.len());
        }
        for pair in self.reports.asked.windows(2).filter(|pair| pair[0] != pair[1]) {
            let apart = pair[1] - pair[0];
            assert!(apart >= 50 * MILLISECOND, "INVARIANT: rounds are not {apart} ns apart");
        }
    }
}
