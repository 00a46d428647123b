//! What a soak leaves behind: a sample of each second, the faults, and what became of the promises.

use std::time::Duration;

/// All that the report needs.
#[derive(Debug)]
pub(crate) struct Run {
    /// The seed of every choice.
    pub(crate) seed: u64,
    /// What the client spoke and to what, in words.
    pub(crate) setting: String,
    pub(crate) samples: Vec<Sample>,
    pub(crate) faults: Vec<Fault>,
    pub(crate) verdicts: Vec<Verdict>,
    /// The breaches, the first of each kind word for word.
    pub(crate) complaints: Vec<String>,
}

impl Run {
    /// How long the load ran, in seconds.
    pub(crate) fn seconds(&self) -> f64 {
        self.samples.last().map_or(0.0, |sample| sample.at)
    }

    /// Whether a promise was broken.
    pub(crate) fn is_broken(&self) -> bool {
        self.verdicts.iter().any(|verdict| verdict.outcome == Outcome::Broken)
    }

    pub(crate) fn errors(&self, failure: Failure) -> u64 {
        self.samples.iter().map(|sample| sample.errors[failure as usize]).sum()
    }
}

/// One second. Times are seconds since the load began, sizes are bytes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample {
    /// The second's end.
    pub(crate) at: f64,
    /// How long it really was.
    pub(crate) length: f64,
    /// Commands that were answered as they should be.
    pub(crate) operations: u64,
    /// Commands that were not, by [`Failure`].
    pub(crate) errors: [u64; Failure::ALL.len()],
    /// Of the calls that ended in this second; none when there was none.
    pub(crate) latency: Option<Latency>,
    /// What the system says of this process, where it does.
    pub(crate) resident: Option<u64>,
    pub(crate) sockets: Option<u64>,
    /// The component's linear memory, where the host tells.
    pub(crate) guest: Option<u64>,
}

impl Sample {
    pub(crate) fn rate(&self) -> f64 {
        if self.length > 0.0 { self.operations as f64 / self.length } else { 0.0 }
    }

    pub(crate) fn all_errors(&self) -> u64 {
        self.errors.iter().sum()
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Latency {
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
}

/// An error that a fault may cause. Any other is a broken promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    ConnectionLost,
    PartlyExecuted,
    Timeout,
    Connect,
    ClusterDown,
    RedirectLimit,
    Server,
}

impl Failure {
    pub(crate) const ALL: [Self; 7] = [
        Self::ConnectionLost,
        Self::PartlyExecuted,
        Self::Timeout,
        Self::Connect,
        Self::ClusterDown,
        Self::RedirectLimit,
        Self::Server,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::ConnectionLost => "connection lost",
            Self::PartlyExecuted => "partly executed",
            Self::Timeout => "time-out",
            Self::Connect => "cannot connect",
            Self::ClusterDown => "cluster down",
            Self::RedirectLimit => "too many redirects",
            Self::Server => "server's passing error",
        }
    }
}

/// What is done to the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FaultKind {
    /// kill -9 of a primary, and its return after the failover.
    KillPrimary,
    /// kill -9 of a replica, and its return.
    KillReplica,
    /// CLUSTER FAILOVER.
    Failover,
    /// SIGSTOP of a primary for longer than the node time-out, then SIGCONT.
    Stall,
    /// Slots that hold keys of the load move to another primary.
    Reshard,
    /// CLIENT KILL of every connection to a primary, several times in a row.
    Cut,
}

impl FaultKind {
    pub(crate) const ALL: [Self; 6] =
        [Self::KillPrimary, Self::KillReplica, Self::Failover, Self::Stall, Self::Reshard, Self::Cut];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::KillPrimary => "kill of a primary",
            Self::KillReplica => "kill of a replica",
            Self::Failover => "failover",
            Self::Stall => "stalled primary",
            Self::Reshard => "reshard",
            Self::Cut => "connections cut",
        }
    }

    /// Marks it where a name has no room.
    pub(crate) const fn letter(self) -> char {
        match self {
            Self::KillPrimary => 'K',
            Self::KillReplica => 'k',
            Self::Failover => 'F',
            Self::Stall => 'S',
            Self::Reshard => 'R',
            Self::Cut => 'C',
        }
    }
}

/// A fault that was done and undone. Times are seconds since the load began.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) kind: FaultKind,
    pub(crate) began: f64,
    /// When it was undone and all nodes agreed again.
    pub(crate) agreed: f64,
    /// How many commands failed from its beginning to the next one's.
    pub(crate) errors: u64,
    /// When the last of them failed.
    pub(crate) last_error: Option<f64>,
}

/// What became of a promise.
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    pub(crate) promise: &'static str,
    pub(crate) outcome: Outcome,
    /// What was seen.
    pub(crate) evidence: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Held,
    Broken,
    /// It could not be judged; the evidence says why.
    Open,
}
