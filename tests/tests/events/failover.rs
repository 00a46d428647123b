//! A failover, and whether a client has told it as it was.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use keyslot::{Event, EventKind, NodeFailure, Reconnection, Takeover};

use crate::log::moved;

/// Events of one moment may be told to be so far apart, by a clock of whole milliseconds that is
/// set to a system time.
const CLOCK: Duration = Duration::from_millis(20);

/// What has happened.
pub(crate) struct Failover {
    /// The address of the primary that was killed, and is a replica since it was restarted.
    pub(crate) victim: String,
    /// The address of the replica that took over.
    pub(crate) heir: String,
    /// What it took over.
    pub(crate) slots: Vec<(u16, u16)>,
    pub(crate) killed_at: SystemTime,
    pub(crate) restarted_at: SystemTime,
}

/// Where its events are among those of a client.
struct Places {
    lost: usize,
    refused: usize,
    taken_over: usize,
    changed: usize,
    back: usize,
}

impl Failover {
    /// Whether the victim is connected to again.
    pub(crate) fn is_back(&self, kind: &EventKind) -> bool {
        matches!(kind, EventKind::Reconnected(reconnection) if reconnection.node == self.victim)
    }

    /// What is told of it, a line for each event.
    pub(crate) fn told(&self, events: &[Event]) -> Vec<String> {
        let of_failure = events.iter().filter(|event| concerns(&event.kind, &self.victim));
        of_failure.map(|event| event.kind.to_string()).collect()
    }

    /// Checks a client's events, on a machine that took as long as `slow` for a command where
    /// nothing was amiss. Returns how the attempts to connect that failed are numbered.
    pub(crate) fn check(&self, events: &[Event], slow: Duration) -> Result<Vec<u32>> {
        let told = self.told(events);
        ensure!(events.iter().all(|event| event.missed == 0), "events were missed: {told:#?}");
        ensure!(events.is_sorted_by_key(|event| event.at), "the times go back: {events:#?}");
        let places = self.find(events, &told)?;
        places.check_order(&told)?;
        self.check_times(events, &places, slow)?;
        let attempts = self.check_attempts(events, &places)?;
        self.check_takeover(events)?;
        Ok(attempts)
    }

    fn find(&self, events: &[Event], told: &[String]) -> Result<Places> {
        let position = |what: &str, is: &dyn Fn(&EventKind) -> bool| {
            events
                .iter()
                .position(|event| is(&event.kind))
                .with_context(|| format!("{what} was not told: {told:#?}"))
        };
        let lost = position(
            "disconnected",
            &|kind| matches!(kind, EventKind::Disconnected(failure) if failure.node == self.victim),
        )?;
        let refused = position(
            "connect-failed",
            &|kind| matches!(kind, EventKind::ConnectFailed(failure) if failure.node == self.victim),
        )?;
        let taken_over = position("failed-over", &|kind| matches!(kind, EventKind::FailedOver(_)))?;
        let changed = position(
            "topology-changed",
            &|kind| matches!(kind, EventKind::TopologyChanged(change) if !change.moved.is_empty()),
        )?;
        let back = position("reconnected", &|kind| self.is_back(kind))?;
        Ok(Places { lost, refused, taken_over, changed, back })
    }

    fn check_times(&self, events: &[Event], places: &Places, slow: Duration) -> Result<()> {
        let at = |position: usize| events[position].at;
        let (lost, back) = (at(places.lost), at(places.back));
        ensure!(lost + CLOCK >= self.killed_at, "lost before it was killed");
        ensure!(lost < self.killed_at + Duration::from_secs(1) + slow, "told late that it is lost");
        let apart = at(places.changed).duration_since(at(places.taken_over))?;
        ensure!(apart <= CLOCK, "the change is that of the failover");
        ensure!(back + CLOCK >= self.restarted_at, "there again before it was restarted");
        Ok(())
    }

    /// Why it was lost, for how long it was away, and how often it was dialled.
    fn check_attempts(&self, events: &[Event], places: &Places) -> Result<Vec<u32>> {
        let (lost, back) = (&events[places.lost], &events[places.back]);
        let EventKind::Disconnected(NodeFailure { reason, attempts, .. }) = &lost.kind else {
            bail!("not that");
        };
        ensure!(!reason.is_empty() && *attempts == 0, "{lost:?}");
        let attempts: Vec<u32> = events
            .iter()
            .filter_map(|event| match &event.kind {
                EventKind::ConnectFailed(failure) if failure.node == self.victim => Some(failure.attempts),
                _ => None,
            })
            .collect();
        let EventKind::Reconnected(Reconnection { after_ms, attempts: dialled, .. }) = &back.kind else {
            bail!("not that");
        };
        let away = back.at.duration_since(lost.at)?;
        let after = Duration::from_millis(*after_ms);
        ensure!(after.abs_diff(away) <= CLOCK, "told to be away for {after:?}, which was {away:?}");
        // The last attempt succeeded.
        let failed = attempts.len() as u32;
        ensure!(*dialled == failed + 1, "told to be dialled {dialled} times, of which {failed} failed");
        Ok(attempts)
    }

    /// Who took over, and what.
    fn check_takeover(&self, events: &[Event]) -> Result<()> {
        let takeovers: Vec<_> = events
            .iter()
            .filter_map(|event| match &event.kind {
                EventKind::FailedOver(takeover) => Some(takeover),
                _ => None,
            })
            .collect();
        ensure!(takeovers.len() == 1, "one failover is told as {takeovers:?}");
        let Takeover { before, now } = takeovers[0];
        ensure!(*before == self.victim && *now == self.heir, "{takeovers:?}");
        let moved = moved(events);
        let told: Vec<_> = moved.iter().map(|moved| (moved.slots.first, moved.slots.last)).collect();
        ensure!(told == self.slots, "the slots that moved are {:?}, not {told:?}", self.slots);
        let (before, now) = (Some(self.victim.as_str()), Some(self.heir.as_str()));
        ensure!(
            moved.iter().all(|moved| moved.before.as_deref() == before && moved.now.as_deref() == now),
            "{moved:?}"
        );
        Ok(())
    }
}

impl Places {
    /// First it is connected, then lost, then it cannot be connected to, then it is back.
    fn check_order(&self, told: &[String]) -> Result<()> {
        let Self { lost, refused, taken_over, changed, back } = self;
        ensure!(lost < refused && refused < taken_over, "out of order: {told:#?}");
        ensure!(taken_over < back && changed < back, "out of order: {told:#?}");
        Ok(())
    }
}

/// Whether the event is of this node, or of the topology.
fn concerns(kind: &EventKind, address: &str) -> bool {
    match kind {
        EventKind::Connected(node) => node == address,
        EventKind::ConnectFailed(failure) | EventKind::Disconnected(failure) => failure.node == address,
        EventKind::Reconnected(reconnection) => reconnection.node == address,
        EventKind::FailedOver(_) | EventKind::TopologyChanged(_) => true,
        EventKind::Retried(_) | EventKind::Refreshed(_) | EventKind::Refused(_) => false,
        EventKind::DescriptorsExhausted(_) => false,
    }
}

/// First and last of consecutive slots.
pub(crate) fn ranges(slots: &[u16]) -> Vec<(u16, u16)> {
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for &slot in slots {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == slot => *last = slot,
            _ => ranges.push((slot, slot)),
        }
    }
    ranges
}
