//! What a load saw, and whether that is what was promised.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use keyslot::{Client, Error};

use super::{Counter, PAUSE};

/// The median is taken of pieces of time this long, the worst of which counts.
const SLICE: Duration = Duration::from_millis(500);

/// One command of the load.
pub(super) struct Operation {
    pub(super) shard: usize,
    pub(super) started: Instant,
    pub(super) latency: Duration,
    pub(super) failure: Option<Error>,
}

impl Operation {
    fn ended(&self) -> Instant {
        self.started + self.latency
    }

    fn overlaps(&self, window: &Range<Instant>) -> bool {
        self.started < window.end && self.ended() >= window.start
    }
}

/// What happened to a load.
#[derive(Default)]
pub struct Report {
    pub(super) operations: Vec<Operation>,
    pub(super) counters: Vec<Counter>,
    pub(super) wrong: Vec<String>,
}

/// How long commands took that fell into a piece of time.
#[derive(Clone, Copy, Debug)]
pub struct Delays {
    /// The median of the worst half second of the worst shard.
    pub median: Duration,
    /// What one of a hundred took at least, of all.
    pub p99: Duration,
    /// The longest.
    pub max: Duration,
}

impl Report {
    /// How many INCRs were answered.
    #[must_use]
    pub fn acknowledged(&self) -> i64 {
        self.counters.iter().map(|counter| counter.acknowledged).sum()
    }

    /// How many INCRs failed with the word that they may have been executed.
    #[must_use]
    pub fn possibly_executed(&self) -> i64 {
        self.counters.iter().map(|counter| counter.possibly_executed).sum()
    }

    /// Delays of the commands for these shards in this window.
    ///
    /// A task that waits for its answer asks for nothing meanwhile, and would hide a stall behind
    /// one slow command. So what counts is how long a command *would have* taken that was asked
    /// for at each instant: a command of 100 ms counts as commands of 100, 98, 96 … ms.
    #[must_use]
    pub fn delays(&self, shards: &[usize], window: &Range<Instant>) -> Delays {
        let length = window.end - window.start;
        let slices = (length.as_millis() / SLICE.as_millis()).max(1) as usize;
        let mut samples: BTreeMap<(usize, usize), Vec<Duration>> = BTreeMap::new();
        // A piece of time in which nothing was asked for at all has no median, and must not go
        // unnoticed.
        for shard in shards {
            for slice in 0..slices {
                samples.insert((*shard, slice), Vec::new());
            }
        }
        for operation in self.operations.iter().filter(|operation| shards.contains(&operation.shard)) {
            let mut at = operation.started;
            while at < window.end && at <= operation.ended() {
                if let Some(since) = at.checked_duration_since(window.start) {
                    let slice = ((since.as_millis() / SLICE.as_millis()) as usize).min(slices - 1);
                    samples.entry((operation.shard, slice)).or_default().push(operation.ended() - at);
                }
                at += PAUSE;
            }
        }
        let medians = samples.values_mut().map(|slice| quantile(slice, 0.5).unwrap_or(SLICE));
        let median = medians.max().unwrap_or_default();
        let mut all = samples.into_values().flatten().collect::<Vec<_>>();
        Delays {
            median,
            p99: quantile(&mut all, 0.99).unwrap_or_default(),
            max: all.last().copied().unwrap_or_default(),
        }
    }

    /// The commands for these shards that failed and were under way in this window, by kind.
    #[must_use]
    pub fn failures(&self, shards: &[usize], window: &Range<Instant>) -> BTreeMap<String, usize> {
        let mut kinds = BTreeMap::new();
        let hit = self.operations.iter();
        let hit = hit.filter(|operation| shards.contains(&operation.shard) && operation.overlaps(window));
        for error in hit.filter_map(|operation| operation.failure.as_ref()) {
            *kinds.entry(kind(error)).or_default() += 1;
        }
        kinds
    }

    /// The commands that failed although they were asked for within this window, each with its
    /// error.
    #[must_use]
    pub fn failures_of_those_started(&self, window: &Range<Instant>) -> Vec<String> {
        let started = self.operations.iter().filter(|operation| window.contains(&operation.started));
        let failed = started.filter_map(|operation| Some((operation, operation.failure.as_ref()?)));
        let tell = |(operation, error): (&Operation, &Error)| {
            let after = operation.started - window.start;
            format!("shard {}, {after:?} after, {:?}: {error}", operation.shard, operation.latency)
        };
        failed.map(tell).collect()
    }

    /// The longest time within the window in which no command for the shard was answered.
    #[must_use]
    pub fn outage(&self, shard: usize, window: &Range<Instant>) -> Duration {
        let answered = self.operations.iter();
        let answered = answered.filter(|operation| operation.shard == shard && operation.failure.is_none());
        let mut instants: Vec<_> = answered.map(Operation::ended).filter(|at| window.contains(at)).collect();
        instants.extend([window.start, window.end]);
        instants.sort();
        instants.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    }

    /// Checks that every reply was the right one, that every failure is one that a fault of a
    /// server explains, and that each counter holds every acknowledged INCR once and of the
    /// others at most those possibly executed.
    ///
    /// # Errors
    /// When one of these is not so.
    pub async fn check(&self, client: &Client) -> Result<()> {
        ensure!(self.wrong.is_empty(), "{} wrong replies: {:#?}", self.wrong.len(), first(&self.wrong));
        let unfit = self.operations.iter().filter_map(|operation| operation.failure.as_ref());
        let unfit: Vec<_> = unfit.filter(|error| !is_explained(error)).map(ToString::to_string).collect();
        ensure!(unfit.is_empty(), "{} errors of another kind: {:#?}", unfit.len(), first(&unfit));
        for counter in &self.counters {
            let reply = client.execute(["GET", &counter.key]).await?;
            let value: i64 = reply.as_str().context("the counter is gone")?.parse()?;
            let expected = counter.base + counter.acknowledged..=counter.most();
            ensure!(expected.contains(&value), "{} is {value}, not within {expected:?}", counter.key);
        }
        Ok(())
    }
}

/// Whether a node's death, stall or move is reason enough for this error.
fn is_explained(error: &Error) -> bool {
    match error {
        Error::Connect(_)
        | Error::ConnectionLost(_)
        | Error::PartlyExecuted(_)
        | Error::ClusterDown(_)
        | Error::Timeout(_) => true,
        Error::Server(error) => ["CLUSTERDOWN", "LOADING"].contains(&error.code.as_str()),
        _ => false,
    }
}

/// The kind of an error, short.
#[must_use]
pub fn kind(error: &Error) -> String {
    match error {
        Error::Server(error) => error.code.clone(),
        Error::Timeout(_) => "timeout".to_owned(),
        Error::Connect(_) => "connect".to_owned(),
        Error::ConnectionLost(_) => "connection lost".to_owned(),
        Error::PartlyExecuted(_) => "partly executed".to_owned(),
        Error::ClusterDown(_) => "cluster down".to_owned(),
        other => other.to_string(),
    }
}

/// The first few.
fn first(texts: &[String]) -> &[String] {
    &texts[..texts.len().min(5)]
}

/// Sorts the samples and takes the one at this place; none when there are none.
pub fn quantile(samples: &mut [Duration], at: f64) -> Option<Duration> {
    samples.sort_unstable();
    let last = samples.len().checked_sub(1)?;
    Some(samples[(last as f64 * at).round() as usize])
}
