//! A load that runs while a cluster is hurt, and knows afterwards what became of each of its
//! commands.
//!
//! Every shard has tasks that count and tasks that read, each with one command under way at a time:
//!
//! - A counter belongs to one task, and starts at a number of its own. So every reply to an INCR
//!   can be judged alone: it must be above the last one, and not above what was acknowledged and
//!   possibly executed by then.
//! - A key that is read belongs to one task and holds its own name. Consecutive reads are of
//!   different keys: the late reply to an earlier read is as wrong as that to another task's.

mod report;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use keyslot::{Client, Error};
use keyslot_core::slot::Slot;
use keyslot_testcluster::TestCluster;
use tokio::task::JoinHandle;

use report::Operation;
pub use report::{Delays, Report, kind, quantile};

/// Tags that a shard's keys are spread over.
pub const TAGS_PER_SHARD: usize = 4;
/// Tasks of a shard that count, and as many that read.
const TASKS_PER_SHARD: usize = 2;
/// Keys that a task reads, of each tag.
const KEYS_PER_TAG: usize = 8;
/// A task rests this long between two commands, so that the servers and not this machine are what
/// is measured.
const PAUSE: Duration = Duration::from_millis(2);
/// The first counter starts here, the second at twice this, and so on.
const BASE: i64 = 1_000_000_000;
/// Commands that each task must have had answered before the load counts as warm.
const WARM: u64 = 50;

/// One primary and hash tags whose slots it serves.
#[derive(Clone, Debug)]
pub struct Shard {
    /// The primary's index in the cluster.
    pub primary: usize,
    /// The tags.
    pub tags: Vec<String>,
}

impl Shard {
    /// The slot of the tag with this number.
    #[must_use]
    pub fn slot(&self, tag: usize) -> u16 {
        Slot::of_key(self.tags[tag].as_bytes()).number()
    }
}

/// The cluster's shards as they are now, in the order of their primaries.
///
/// # Errors
/// When a node does not answer, or a primary serves too few slots to have tags for it.
pub fn shards(cluster: &TestCluster) -> Result<Vec<Shard>> {
    let primaries = cluster.primaries()?.into_iter();
    let mut shards: Vec<Shard> = primaries.map(|primary| Shard { primary, tags: Vec::new() }).collect();
    for number in 0..1_000 {
        if shards.iter().all(|shard| shard.tags.len() == TAGS_PER_SHARD) {
            return Ok(shards);
        }
        let tag = format!("tag-{number}");
        let owner = cluster.node_of_slot(Slot::of_key(tag.as_bytes()).number())?;
        let shard =
            shards.iter_mut().find(|shard| shard.primary == owner).context("an owner is a primary")?;
        if shard.tags.len() < TAGS_PER_SHARD {
            shard.tags.push(tag);
        }
    }
    anyhow::bail!("a primary serves too few slots: {shards:?}")
}

/// A load under way.
pub struct Load {
    tasks: Vec<JoinHandle<Task>>,
    /// Of each task, how many commands were answered as they should be.
    answered: Vec<Arc<AtomicU64>>,
    stop: Arc<AtomicBool>,
}

impl Load {
    /// Writes the keys and starts the tasks. The `name` becomes part of every key, so that one
    /// load's keys are not another's.
    ///
    /// # Errors
    /// When a key cannot be written.
    pub async fn start(client: &Client, shards: &[Shard], name: &str) -> Result<Self> {
        let mut tasks = Vec::new();
        let mut counters = 0;
        for (shard, Shard { tags, .. }) in shards.iter().enumerate() {
            for task in 0..TASKS_PER_SHARD {
                let count = |tag: &String| {
                    counters += 1;
                    Counter::new(format!("{{{tag}}}:{name}:counter:{task}"), counters * BASE)
                };
                tasks.push(Task::new(shard, Work::Count(tags.iter().map(count).collect())));
                let key = |number| {
                    let tag = &tags[number % tags.len()];
                    format!("{{{tag}}}:{name}:key:{task}:{number}")
                };
                let keys = (0..tags.len() * KEYS_PER_TAG).map(key).collect();
                tasks.push(Task::new(shard, Work::Read(keys)));
            }
        }
        let sets = tasks.iter().flat_map(|task| task.work.values());
        let sets = sets.map(|(key, value)| vec![b"SET".to_vec(), key.into_bytes(), value.into_bytes()]);
        for result in client.pipeline(sets.collect()).await {
            result.context("writing the keys of the load")?;
        }

        let stop = Arc::new(AtomicBool::new(false));
        let answered = tasks.iter().map(|task| Arc::clone(&task.answered)).collect();
        let spawn = |task: Task| tokio::spawn(task.run(client.clone(), Arc::clone(&stop)));
        Ok(Self { tasks: tasks.into_iter().map(spawn).collect(), answered, stop })
    }

    /// Waits until every task has had its share of answers.
    ///
    /// # Errors
    /// When that takes longer than a minute.
    pub async fn warm(&self) -> Result<()> {
        let started = Instant::now();
        while self.answered.iter().any(|answered| answered.load(Ordering::Relaxed) < WARM) {
            ensure!(started.elapsed() < Duration::from_secs(60), "the load does not get going");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// Lets the commands under way end, and tells what happened.
    ///
    /// # Errors
    /// When a task panicked.
    pub async fn stop(self) -> Result<Report> {
        self.stop.store(true, Ordering::Relaxed);
        let mut report = Report::default();
        for task in self.tasks {
            let task = task.await?;
            report.operations.extend(task.operations);
            report.wrong.extend(task.wrong);
            if let Work::Count(counters) = task.work {
                report.counters.extend(counters);
            }
        }
        Ok(report)
    }
}

/// One thing after another.
struct Task {
    shard: usize,
    work: Work,
    operations: Vec<Operation>,
    wrong: Vec<String>,
    answered: Arc<AtomicU64>,
}

enum Work {
    /// INCR of these in turn.
    Count(Vec<Counter>),
    /// GET of these in turn; each holds its own name.
    Read(Vec<String>),
}

impl Work {
    /// What is written before the load starts.
    fn values(&self) -> Vec<(String, String)> {
        match self {
            Self::Count(counters) => {
                counters.iter().map(|counter| (counter.key.clone(), counter.base.to_string())).collect()
            }
            Self::Read(keys) => keys.iter().map(|key| (key.clone(), key.clone())).collect(),
        }
    }
}

impl Task {
    fn new(shard: usize, work: Work) -> Self {
        Self { shard, work, operations: Vec::new(), wrong: Vec::new(), answered: Arc::default() }
    }

    async fn run(mut self, client: Client, stop: Arc<AtomicBool>) -> Self {
        let mut turn = 0;
        while !stop.load(Ordering::Relaxed) {
            let started = Instant::now();
            let failure = self.operate(&client, turn).await.err();
            if failure.is_none() {
                self.answered.fetch_add(1, Ordering::Relaxed);
            }
            self.operations.push(Operation {
                shard: self.shard,
                started,
                latency: started.elapsed(),
                failure,
            });
            turn += 1;
            tokio::time::sleep(PAUSE).await;
        }
        self
    }

    /// One command. A reply that is wrong is remembered, and is no failure of the command's.
    async fn operate(&mut self, client: &Client, turn: usize) -> Result<(), Error> {
        let judged = match &mut self.work {
            Work::Count(counters) => {
                let place = turn % counters.len();
                let counter = &mut counters[place];
                let result = client.execute(["INCR", &counter.key]).await;
                counter.note(result.map(|reply| reply.as_integer()))?
            }
            Work::Read(keys) => {
                let key = &keys[turn % keys.len()];
                let reply = client.execute(["GET", key]).await?;
                match reply.as_str() {
                    Some(value) if value == key => Ok(()),
                    _ => Err(format!("GET {key} was answered with {reply:?}")),
                }
            }
        };
        self.wrong.extend(judged.err());
        Ok(())
    }
}

/// A counter and what became of its INCRs.
struct Counter {
    key: String,
    base: i64,
    /// The last reply.
    last: i64,
    acknowledged: i64,
    possibly_executed: i64,
}

impl Counter {
    fn new(key: String, base: i64) -> Self {
        Self { key, base, last: base, acknowledged: 0, possibly_executed: 0 }
    }

    /// Takes the outcome of an INCR in. The inner result says what is wrong with the reply.
    fn note(&mut self, result: Result<Option<i64>, Error>) -> Result<Result<(), String>, Error> {
        let reply = match result {
            Ok(reply) => reply,
            Err(error) => {
                self.possibly_executed += i64::from(error.possibly_executed());
                return Err(error);
            }
        };
        self.acknowledged += 1;
        let expected = self.last + 1..=self.most();
        let judged = match reply {
            Some(value) if expected.contains(&value) => Ok(()),
            _ => Err(format!("INCR {} was answered with {reply:?}, not within {expected:?}", self.key)),
        };
        self.last = reply.unwrap_or(self.last);
        Ok(judged)
    }

    /// What it can be at most.
    fn most(&self) -> i64 {
        self.base + self.acknowledged + self.possibly_executed
    }
}
