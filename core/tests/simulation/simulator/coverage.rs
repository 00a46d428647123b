//! What the random runs have come to, counted: redirects, failovers, stalls, limits and so on.
//!
//! Everything is counted from outside of the machine: by what the servers answer, what the network
//! does, which events the machine reports and how requests end.

use std::collections::BTreeSet;
use std::fmt;

use keyslot_core::cluster::Event;
use keyslot_core::error::Error;
use keyslot_core::resp::Reply;

use super::history::Way;
use super::operation::{Kind, Operation};
use super::store::is_register;
use super::wire::{Answer, Words};

macro_rules! features {
    ($($name:ident: $text:literal,)*) => {
        /// Something that random runs should come to.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Feature { $($name,)* }

        /// All of them, each with what is printed for it.
        const FEATURES: &[(Feature, &str)] = &[$((Feature::$name, $text),)*];
    };
}

features! {
    MovedFollowed: "redirects: MOVED followed",
    AskFollowed: "redirects: ASK followed",
    RedirectToNowhere: "redirects: to nowhere or unreadable",
    RedirectLimit: "redirects: too many for one request",
    TryAgain: "answers: TRYAGAIN",
    ClusterDown: "answers: CLUSTERDOWN",
    Loading: "answers: LOADING",
    MasterDown: "answers: MASTERDOWN",
    MasterDownAtReplica: "answers: MASTERDOWN to a replica read",
    ReadOnly: "answers: READONLY",
    NoScript: "answers: NOSCRIPT to EVALSHA",
    NotACluster: "answers: cluster support disabled",
    ExecAbort: "answers: EXECABORT",
    LongError: "answers: an error of 64 KiB and more",
    Garbage: "answers: no RESP",
    ReplicaRead: "replicas: read served",
    ReplicaReadAtPrimary: "replicas: read refused, then served by the primary",
    Failover: "failover: a replica took over",
    FailoverNoticed: "failover: reported as an event",
    FailoverInTransaction: "failover: during a transaction",
    FailoverAcrossPartition: "failover: the old primary did not hear of it",
    LossyFailover: "failover: writes were lost",
    ViewOfOlderEpoch: "topology: a view of an older epoch answered",
    ViewRejected: "topology: a view of an older epoch rejected",
    TopologyChanged: "topology: a change reported",
    SlotMoved: "topology: a slot has moved",
    Parted: "topology: the nodes fell into two sides",
    NodeForgot: "topology: a node forgot who is who",
    NodeCrashed: "nodes: ended",
    NodePaused: "nodes: stopped for a while",
    StrangerAtAddress: "identity: another cluster's node at an address",
    StrangerNoticed: "identity: noticed by the client",
    DialRefused: "connecting: refused",
    DialTimedOut: "connecting: no answer in time",
    LookUpFailed: "connecting: look-up failed",
    NextAddress: "connecting: a name's next address answered",
    DescriptorsExhausted: "connecting: no descriptor left",
    LookUpTimedOut: "connecting: look-up not answered in time",
    HandshakeLost: "connecting: connection ended during the handshake",
    HandshakeTimedOut: "connecting: handshake not answered in time",
    HandshakeRefused: "connecting: handshake refused",
    Reconnected: "connecting: connected again",
    ConnectionCut: "network: connection ended",
    ConnectionMuted: "network: connection fell silent",
    LinkHeld: "network: packets held back",
    LinkLost: "network: packets lost",
    Drip: "network: a reply by drops",
    StuckWrite: "network: a write did not complete",
    Push: "network: push between replies",
    PushFlood: "network: push in a flood",
    Stalled: "liveness: a connection stalled",
    StallLeftBehind: "liveness: sent again past a stalled connection",
    HealthCheckFailed: "liveness: health check not answered",
    ClockJump: "liveness: the clock jumped",
    ScanEnded: "scans: complete",
    ScanResumed: "scans: resumed from the token",
    ScanEpochsChanged: "scans: complete though slots moved or failed over meanwhile",
    ScanBatchFailed: "scans: a batch failed",
    TransactionServed: "transactions: executed",
    TransactionMisshapen: "transactions: EXEC answered in a wrong shape",
    TransactionRedirected: "transactions: EXEC redirected",
    WatchFailed: "transactions: a watched key had changed",
    LeftInTransaction: "transactions: connection given back before the end",
    SplitServed: "requests: split over slots and merged",
    Addressed: "requests: to one node, served",
    Pipelined: "requests: several in one write",
    Forgotten: "requests: cancelled",
    BlockedCancelled: "requests: a blocked command cancelled (CLIENT UNBLOCK)",
    Retried: "requests: sent again",
    WriteRepeated: "requests: a write executed twice, as allowed",
    ReplyLost: "requests: executed, and the reply lost",
    DoubtUnfounded: "requests: possibly executed, and not executed",
    PartlyExecuted: "requests: partly executed",
    QueueFull: "limits: queue full",
    PoolWaited: "limits: all connections of a node in use, waited for one",
    PoolExhausted: "limits: all connections of a node in use, waited in vain",
    TimedOutUnsent: "time-outs: before it was sent",
    TimedOutUnanswered: "time-outs: after it was sent",
    TimedOutUnconnected: "time-outs: while there was no connection",
    TimedOutUnserved: "time-outs: while no node served the slot",
    TimedOutRetrying: "time-outs: after it was sent again",
    NotReady: "start: failed",
}

/// How many times each has happened, and what has to be known to count some of them.
#[derive(Clone, Debug)]
pub(crate) struct Coverage {
    counts: [u64; FEATURES.len()],
    /// Commands that were answered with MOVED, and those that a replica refused.
    moved: BTreeSet<Words>,
    refused_by_replica: BTreeSet<Words>,
    /// The newest epoch that a node has told, and whether one told an older one since the last
    /// event.
    newest_epoch: u64,
    is_view_old: bool,
}

/// As what a node was asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    /// After ASKING.
    pub(super) asking: bool,
    /// It is a replica that may serve reads.
    pub(super) as_replica: bool,
}

impl Default for Coverage {
    fn default() -> Self {
        Self {
            counts: [0; FEATURES.len()],
            moved: BTreeSet::new(),
            refused_by_replica: BTreeSet::new(),
            newest_epoch: 0,
            is_view_old: false,
        }
    }
}

impl Coverage {
    pub(crate) fn count(&mut self, feature: Feature) {
        self.count_if(feature, true);
    }

    pub(crate) fn count_if(&mut self, feature: Feature, has_happened: bool) {
        self.add(feature, u64::from(has_happened));
    }

    pub(crate) fn add(&mut self, feature: Feature, times: u64) {
        self.counts[feature as usize] += times;
    }

    /// Takes in another run's counts.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (own, other) in self.counts.iter_mut().zip(other.counts) {
            *own += other;
        }
    }

    /// What has never happened.
    pub(crate) fn missing(&self) -> Vec<&'static str> {
        let all = FEATURES.iter().zip(self.counts);
        all.filter(|(_, count)| *count == 0).map(|((_, text), _)| *text).collect()
    }

    /// A node has executed a command on a connection, or refused it.
    pub(super) fn answered(&mut self, asked: Asked, words: &Words, answer: &Answer) {
        // Many requests read a register in the same words.
        let is_own = words.get(1).is_some_and(|key| !is_register(key)) && words[0] != b"MULTI";
        if let Answer::Error(text) = answer {
            self.refused(asked, words, text);
            if is_own && text.starts_with("MOVED") {
                self.moved.insert(words.clone());
            } else if is_own && asked.as_replica {
                self.refused_by_replica.insert(words.clone());
            }
            return;
        }
        self.count_if(Feature::AskFollowed, asked.asking && words[0] != b"ASKING");
        let is_followed = is_own && self.moved.remove(words);
        self.count_if(Feature::MovedFollowed, is_followed);
        let is_back = is_own && !asked.as_replica && self.refused_by_replica.remove(words);
        self.count_if(Feature::ReplicaReadAtPrimary, is_back);
        if words[0] == b"CLIENT" && words[1] == b"UNBLOCK" {
            self.count(Feature::BlockedCancelled);
        }
        if let (Answer::Verbatim(info), true) = (answer, words[0] == b"CLUSTER") {
            let epoch = info.lines().find_map(|line| line.strip_prefix("cluster_current_epoch:"));
            if let Some(epoch) = epoch.and_then(|epoch| epoch.parse().ok()) {
                self.is_view_old |= epoch < self.newest_epoch;
                self.count_if(Feature::ViewOfOlderEpoch, epoch < self.newest_epoch);
                self.newest_epoch = self.newest_epoch.max(epoch);
            }
        }
    }

    fn refused(&mut self, asked: Asked, words: &Words, text: &str) {
        self.count_if(Feature::LongError, text.len() >= 1 << 16);
        self.count_if(Feature::NotACluster, text.contains("cluster support disabled"));
        let is_redirect = text.starts_with("MOVED") || text.starts_with("ASK");
        self.count_if(Feature::TransactionRedirected, is_redirect && words[0] == b"EXEC");
        let feature = match text.split(' ').next().unwrap_or_default() {
            "MOVED" | "ASK" => {
                let is_nowhere = text.contains(" 10.9.9.") || text.contains("no-such-host");
                let is_unreadable = text.contains(" 99999 ") || !text.contains(' ');
                return self.count_if(Feature::RedirectToNowhere, is_nowhere || is_unreadable);
            }
            "TRYAGAIN" => Feature::TryAgain,
            "CLUSTERDOWN" => Feature::ClusterDown,
            "LOADING" => Feature::Loading,
            "MASTERDOWN" if asked.as_replica => Feature::MasterDownAtReplica,
            "MASTERDOWN" => Feature::MasterDown,
            "READONLY" => Feature::ReadOnly,
            "NOSCRIPT" => Feature::NoScript,
            "EXECABORT" => Feature::ExecAbort,
            _ => return,
        };
        self.count(feature);
    }

    /// The machine has reported something.
    pub(super) fn reported(&mut self, event: &Event) {
        match event {
            Event::ConnectFailed { reason, .. } | Event::Disconnected { reason, .. } => {
                self.count_if(Feature::HandshakeTimedOut, reason.contains("no answer to the handshake"));
                let is_stranger = reason.contains("another cluster") || reason.contains("another node");
                self.count_if(Feature::StrangerNoticed, is_stranger);
                self.count_if(Feature::Stalled, reason.contains("no answer for"));
                self.count_if(Feature::HealthCheckFailed, reason.contains("the health check"));
            }
            Event::Reconnected { .. } => self.count(Feature::Reconnected),
            Event::FailedOver { .. } => self.count(Feature::FailoverNoticed),
            Event::TopologyChanged(_) => self.count(Feature::TopologyChanged),
            Event::Retried { reason, .. } => {
                self.count(Feature::Retried);
                self.count_if(Feature::StallLeftBehind, reason.contains("no answer for"));
            }
            Event::Refreshed { changed, .. } => {
                let was_old = std::mem::take(&mut self.is_view_old);
                self.count_if(Feature::ViewRejected, was_old && !changed);
            }
            Event::DescriptorsExhausted { .. } => self.count(Feature::DescriptorsExhausted),
            Event::Connected { .. } | Event::Refused { .. } => {}
        }
    }

    /// A request has ended.
    pub(super) fn ended(&mut self, operation: Option<Operation>, way: Way, result: &Result<Reply, Error>) {
        let kind = operation.map(|operation| operation.kind);
        match result {
            Ok(_) => {
                self.count_if(Feature::Addressed, way == Way::Fixed);
                self.count_if(Feature::TransactionServed, kind == Some(Kind::Both));
                self.count_if(Feature::SplitServed, matches!(kind, Some(Kind::Spread | Kind::Wipe)));
            }
            Err(Error::RedirectLimit(_)) => self.count(Feature::RedirectLimit),
            Err(Error::PartlyExecuted(_)) => self.count(Feature::PartlyExecuted),
            Err(Error::LimitExceeded(text)) => {
                self.count_if(Feature::QueueFull, text.contains("limit-waiting-requests"));
                self.count_if(Feature::PoolExhausted, text.contains("pool-max-connections"));
            }
            Err(Error::Protocol(_)) => {
                self.count_if(Feature::TransactionMisshapen, kind == Some(Kind::Both));
            }
            Err(Error::ClusterDown(text)) => {
                self.count_if(Feature::TimedOutUnserved, text.contains("turned up within"));
            }
            Err(Error::Timeout(late) | Error::ConnectionLost(late)) => {
                let text = &late.message;
                self.count_if(Feature::TimedOutUnsent, text.starts_with("not sent within"));
                self.count_if(Feature::TimedOutUnanswered, text.starts_with("no reply within"));
                self.count_if(Feature::TimedOutUnconnected, text.starts_with("no connection within"));
                let is_repeated = text.starts_with("sent ") && text.contains(" times within ");
                self.count_if(Feature::TimedOutRetrying, is_repeated);
            }
            Err(_) => {}
        }
    }

    /// At a run's end: how many times a write was executed whose request ended so.
    pub(super) fn executed(&mut self, times: u32, outcome: Option<&Result<Reply, Error>>) {
        self.count_if(Feature::WriteRepeated, times > 1);
        if let Some(Err(Error::Timeout(lost) | Error::ConnectionLost(lost))) = outcome {
            self.count_if(Feature::ReplyLost, lost.possibly_executed && times > 0);
            self.count_if(Feature::DoubtUnfounded, lost.possibly_executed && times == 0);
        }
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let longest = FEATURES.iter().map(|(_, text)| text.len()).max().unwrap_or(0);
        for ((_, text), count) in FEATURES.iter().zip(self.counts) {
            writeln!(f, "    {text:<longest$}  {count:>9}")?;
        }
        Ok(())
    }
}
