//! What the machine tells and counts, and how often it asks: whether that makes sense.

use std::collections::BTreeSet;

use keyslot_core::address::NodeAddr;
use keyslot_core::cluster::Event;

use super::world::{MILLISECOND, World};

/// How many events are kept until somebody asks.
const EVENTS_MAX: usize = 1_024;

/// How long an event's text is at most, whatever the servers say.
const EVENT_LENGTH_MAX: usize = 4_096;

/// The events so far.
#[derive(Debug, Default)]
pub(crate) struct News {
    pub(crate) events: Vec<Event>,
    /// Nodes that are connected, as told.
    up: BTreeSet<NodeAddr>,
    dropped: u64,
}

impl<A: std::fmt::Debug> World<A> {
    /// Asks for the events. They follow from one another, and from what has happened.
    pub(crate) fn check_news(&mut self) {
        let (events, dropped) = self.cluster.take_events();
        assert!(events.len() <= EVENTS_MAX, "INVARIANT: {} events are kept", events.len());
        self.news.dropped += dropped;
        let has_all = self.news.dropped == 0;
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
                    self.news.up.insert(node.clone());
                }
                Event::Disconnected { node, .. } => {
                    let was_up = self.news.up.remove(node);
                    assert!(was_up || !has_all, "INVARIANT: what is disconnected was connected: {event:?}");
                }
                Event::ConnectFailed { attempts, .. } => {
                    assert!(*attempts > 0, "INVARIANT: {event:?}");
                }
                Event::FailedOver { .. } => {
                    let has_happened = self.servers.promotions > 0 || self.is_misled;
                    assert!(has_happened, "INVARIANT: no failover is made up: {event:?}");
                }
                Event::Retried { attempt, .. } => {
                    // The primary gets a read that a replica could not serve, whatever the
                    // settings.
                    let most = self.config.retry.attempts_max + u32::from(self.may_read_replicas);
                    assert!(*attempt <= most, "INVARIANT: {event:?}, {most} at most");
                }
                Event::TopologyChanged(change) => {
                    assert!(!change.is_empty(), "INVARIANT: a change changes something");
                }
                Event::Refused { reason, .. } => {
                    assert!(!reason.is_empty(), "INVARIANT: {event:?}");
                }
                Event::DescriptorsExhausted { .. } => {
                    panic!("INVARIANT: no shortage is made up: {event:?}");
                }
                Event::Refreshed { .. } => {}
            }
            self.news.events.push(event);
        }
    }

    /// The counters add up.
    pub(crate) fn check_counters(&self) {
        let all = self.cluster.statistics();
        let requests = self.history.entries.len() as u64;
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
            let may_be = !self.leases.is_empty();
            assert!(in_flight <= 3 || may_be, "INVARIANT: {in_flight} are under way at the end: {what}");
            commands += own.commands;
            connects += own.connects;
        }
        assert!(commands <= all.commands, "INVARIANT: {commands} commands of nodes, {all:?}");
        assert!(connects <= all.connects, "INVARIANT: {connects} connections of nodes, {all:?}");
    }

    /// One round of questions at a time, to three nodes at most, and none soon after another.
    pub(crate) fn check_rounds(&self) {
        for round in self.asked.chunk_by(|a, b| a == b) {
            assert!(round.len() <= 3, "INVARIANT: {} nodes were asked at once", round.len());
        }
        for pair in self.asked.windows(2).filter(|pair| pair[0] != pair[1]) {
            let apart = pair[1] - pair[0];
            assert!(apart >= 50 * MILLISECOND, "INVARIANT: rounds are not {apart} ns apart");
        }
    }
}
