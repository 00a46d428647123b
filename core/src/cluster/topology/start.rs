//! The start's state: what has become of the seeds, and what it fails with.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

use litemap::LiteMap;

use crate::address::NodeAddr;
use crate::error::{Error, ServerError, Within};
use crate::time::Instant;

/// The start: what has become of the seeds.
#[derive(Debug)]
pub(in crate::cluster) struct Start {
    pub(super) deadline: Instant,
    /// Why each seed cannot be used, of those that are known to be of no use, now or at all.
    pub(super) reasons: LiteMap<NodeAddr, Reason>,
}

#[derive(Debug)]
pub(super) struct Reason {
    pub(super) error: Error,
    /// Whether it passes: the seed is asked again.
    pub(super) passes: bool,
}

impl Start {
    pub(in crate::cluster) fn new(deadline: Instant) -> Self {
        Self { deadline, reasons: LiteMap::new() }
    }
}

/// Why a node's answer is no topology.
pub(in crate::cluster) enum Answer {
    Refused(ServerError),
    Unusable(String),
}

/// Whether this is how a server without cluster support, or a stand-in for one, answers CLUSTER
/// SLOTS.
pub(super) fn has_no_cluster(error: &ServerError) -> bool {
    let message = error.message.to_ascii_lowercase();
    error.code == "ERR"
        && (message.contains("cluster support disabled") || message.starts_with("unknown command"))
}

/// What the start failed with: each seed and its reason.
pub(super) fn start_error(
    seeds: &[NodeAddr],
    reasons: &LiteMap<NodeAddr, Reason>,
    within: Duration,
) -> Error {
    // A refused log-in is the answer of the cluster, and what the user can mend; that other seeds
    // are down is not.
    let refused = reasons.values().find(|reason| matches!(reason.error, Error::Authentication(_)));
    let only_refused = |reason: &Reason| matches!(reason.error, Error::Authentication(_) | Error::Connect(_));
    if let Some(refused) = refused
        && reasons.values().all(only_refused)
    {
        return refused.error.clone();
    }
    let mut lines = Vec::with_capacity(seeds.len());
    for seed in seeds {
        let reason = match reasons.get(seed).map(|reason| &reason.error) {
            Some(Error::Connect(reason)) => reason.clone(),
            Some(error) => error.to_string(),
            None => format!("no answer within {}", Within(within)),
        };
        let line = format!("{seed}: {reason}");
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    Error::Connect(lines.join("; "))
}
