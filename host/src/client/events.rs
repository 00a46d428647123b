//! What happens to a client, told to whoever wants to hear it, and to `tracing`.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;
use tokio::sync::broadcast::{self, error::RecvError};

use crate::bindings::exports::keyslot::redis::redis_cluster::{
    self, DescriptorShortage, EventKind, EventList, NodeFailure, Reconnection, Refreshed, Takeover,
    TopologyChange,
};

/// How many events are kept for a receiver that does not keep up.
const EVENTS_MAX: usize = 1_024;

/// Something that happened to a client.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// When.
    pub at: SystemTime,
    /// How many events before this one were lost, because nobody fetched them in time.
    pub missed: u64,
    /// What.
    pub kind: EventKind,
}

/// As one line, without the time.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.kind, f)
    }
}

/// The events of a client, from [`Client::events`](crate::Client::events).
///
/// It does not keep the client alive.
#[derive(Debug)]
pub struct Events {
    receiver: broadcast::Receiver<Numbered>,
    /// The number of the event that comes next, if none is lost.
    expected: u64,
}

/// An event and its number: those that are lost have one, too, so that what is missing can be told
/// by the next that is there.
#[derive(Clone, Debug)]
struct Numbered {
    number: u64,
    event: Event,
}

impl Events {
    /// The next event, as soon as there is one; none when the client was closed or its last clone
    /// was dropped.
    ///
    /// The last 1,024 are kept. Whoever fetches too late gets the oldest that is still there, and
    /// its `missed` tells how many were before it. A future that is dropped takes no event with
    /// it.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            match self.receiver.recv().await {
                Ok(Numbered { number, event }) => {
                    let missed = number.saturating_sub(self.expected);
                    self.expected = number + 1;
                    return Some(Event { missed, ..event });
                }
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        }
    }
}

/// The worker's side: it alone keeps the channel open.
pub(super) struct Feed {
    sender: broadcast::Sender<Numbered>,
    /// The number of the next event.
    next: Arc<AtomicU64>,
    /// Notified when somebody begins to listen.
    added: Arc<Notify>,
}

/// The callers' side.
pub(super) struct EventListeners {
    sender: broadcast::WeakSender<Numbered>,
    next: Arc<AtomicU64>,
    /// Notified when somebody begins to listen.
    added: Arc<Notify>,
}

impl Feed {
    pub(super) fn new() -> (Self, EventListeners) {
        let sender = broadcast::Sender::new(EVENTS_MAX);
        let added = Arc::new(Notify::new());
        let next = Arc::new(AtomicU64::new(0));
        let listeners =
            EventListeners { sender: sender.downgrade(), next: Arc::clone(&next), added: Arc::clone(&added) };
        (Self { sender, next, added }, listeners)
    }

    /// Whether somebody listens.
    pub(super) fn has_listeners(&self) -> bool {
        self.sender.receiver_count() > 0
    }

    /// Waits until somebody begins to listen.
    pub(super) async fn listener_added(&self) {
        self.added.notified().await;
    }

    /// Hands on what the component had; its times count from `started_at`.
    pub(super) fn publish(&self, started_at: SystemTime, list: EventList) {
        self.next.fetch_add(list.dropped, Ordering::SeqCst);
        for redis_cluster::Event { at_ms, kind } in list.events {
            log(&kind);
            let at = started_at + Duration::from_millis(at_ms);
            let number = self.next.fetch_add(1, Ordering::SeqCst);
            // Nobody need listen.
            let _ = self.sender.send(Numbered { number, event: Event { at, missed: 0, kind } });
        }
    }
}

impl EventListeners {
    pub(super) fn listen(&self) -> Events {
        let Some(sender) = self.sender.upgrade() else {
            // Closed: a channel whose sender is gone.
            return Events { receiver: broadcast::channel(1).1, expected: 0 };
        };
        let receiver = sender.subscribe();
        self.added.notify_one();
        Events { receiver, expected: self.next.load(Ordering::SeqCst) }
    }
}

/// Hands an event to `tracing`, under the target `keyslot::events`.
fn log(kind: &EventKind) {
    /// The target has to be a literal.
    macro_rules! event {
        ($level:ident, $($fields:tt)+) => { tracing::$level!(target: "keyslot::events", $($fields)+) };
    }
    match kind {
        EventKind::Connected(node) => event!(info, node, "connected"),
        EventKind::ConnectFailed(NodeFailure { node, reason, attempts }) => {
            event!(warn, node, reason, attempts, "connect-failed");
        }
        EventKind::Disconnected(NodeFailure { node, reason, .. }) => {
            event!(warn, node, reason, "disconnected");
        }
        EventKind::Reconnected(Reconnection { node, after_ms, attempts }) => {
            event!(info, node, after_ms, attempts, "reconnected");
        }
        EventKind::FailedOver(Takeover { before, now }) => event!(warn, before, now, "failed-over"),
        EventKind::TopologyChanged(change) => {
            let TopologyChange { moved, joined, left } = change;
            event!(info, moved = moved.len(), ?joined, ?left, "topology-changed");
        }
        EventKind::Retried(NodeFailure { node, reason, attempts }) => {
            event!(debug, node, reason, attempts, "retried");
        }
        EventKind::Refused(NodeFailure { node, reason, .. }) => event!(warn, node, reason, "refused"),
        EventKind::DescriptorsExhausted(DescriptorShortage { connections, reason }) => {
            event!(warn, connections, reason, "descriptors-exhausted");
        }
        EventKind::Refreshed(Refreshed { answers, changed }) => {
            event!(debug, answers, changed, "refreshed");
        }
    }
}

impl EventKind {
    /// The kind's name, as the WIT package has it: `connect-failed`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Connected(_) => "connected",
            Self::ConnectFailed(_) => "connect-failed",
            Self::Disconnected(_) => "disconnected",
            Self::Reconnected(_) => "reconnected",
            Self::FailedOver(_) => "failed-over",
            Self::TopologyChanged(_) => "topology-changed",
            Self::Retried(_) => "retried",
            Self::Refreshed(_) => "refreshed",
            Self::Refused(_) => "refused",
            Self::DescriptorsExhausted(_) => "descriptors-exhausted",
        }
    }
}

/// As one line: `disconnected 10.0.0.1:6379: the server closed the connection`.
impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = |reason: &str| crate::error::one_line(reason);
        f.write_str(self.name())?;
        match self {
            Self::Connected(node) => write!(f, " {node}"),
            Self::ConnectFailed(failure) | Self::Retried(failure) => {
                let NodeFailure { node, reason: why, attempts } = failure;
                write!(f, " {node}: {} (attempt {attempts})", reason(why))
            }
            Self::Disconnected(failure) | Self::Refused(failure) => {
                write!(f, " {}: {}", failure.node, reason(&failure.reason))
            }
            Self::Reconnected(Reconnection { node, after_ms, attempts }) => {
                write!(f, " {node} after {after_ms} ms (attempt {attempts})")
            }
            Self::FailedOver(Takeover { before, now }) => write!(f, " {before}: {now} is primary now"),
            Self::TopologyChanged(TopologyChange { moved, joined, left }) => {
                let slots: u32 =
                    moved.iter().map(|moved| u32::from(moved.slots.last - moved.slots.first) + 1).sum();
                let mut parts = Vec::new();
                if slots > 0 {
                    parts.push(counted(slots, "slot") + " moved");
                }
                for (nodes, what) in [(joined, "joined"), (left, "left")] {
                    if !nodes.is_empty() {
                        parts.push(format!("{} {what}", nodes.join(" ")));
                    }
                }
                write!(f, ": {}", parts.join(", "))
            }
            Self::DescriptorsExhausted(DescriptorShortage { connections, reason: why }) => {
                let open = counted(*connections, "connection");
                write!(f, ": {} ({open} open)", reason(why))
            }
            Self::Refreshed(Refreshed { answers, changed }) => {
                let outcome = if *changed { "changed" } else { "as before" };
                write!(f, ": {}, {outcome}", counted(*answers, "answer"))
            }
        }
    }
}

/// `1 slot`, `2 slots`.
fn counted(number: u32, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
