//! The load: tasks that share one client, read values that name their key, and count.
//!
//! Each counter belongs to one task, which increments it once at a time. So each reply to INCR has
//! bounds: it is greater than the last one by at least 1, and never more than what was acknowledged
//! and what may have been executed together. A reply that went to the wrong caller, an increment
//! that was lost and one that ran twice all fall out of them. Reads are checked byte for byte.
//! `large` has the callers of large values.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use keyslot::{Client, Error, Reply};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::task::JoinSet;

use crate::large::{self, LargeValue};
use crate::record::Failure;
use crate::sample::Meter;

/// Keys that are only read.
const VALUES: usize = 400;
/// One value of so many is large, so that replies come in several reads.
const LARGE_EVERY: usize = 40;
const COUNTERS_PER_TASK: usize = 4;
/// How many commands a pipeline has at most.
const PIPELINE_MAX: usize = 24;
/// How long a task rests after a call, at most: the servers and the client share the machine's
/// cores.
const REST_MAX: Duration = Duration::from_millis(8);
/// How many of the broken promises are told word for word.
const TOLD_MAX: usize = 10;

/// What all tasks share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) meter: Meter,
    stop: AtomicBool,
    /// Replies that were checked.
    pub(crate) checked: AtomicU64,
    pub(crate) wrong: Complaints,
    pub(crate) unexpected: Complaints,
}

/// Breaches of one promise.
#[derive(Debug, Default)]
pub(crate) struct Complaints {
    count: AtomicU64,
    told: Mutex<Vec<String>>,
}

/// What became of the increments of one counter.
#[derive(Clone, Debug)]
pub(crate) struct Counter {
    pub(crate) key: String,
    pub(crate) acknowledged: u64,
    pub(crate) possibly_executed: u64,
    /// The last reply.
    last: u64,
}

/// A load under way.
pub(crate) struct Load {
    pub(crate) shared: Arc<Shared>,
    tasks: JoinSet<OfTask>,
}

/// What a task leaves behind.
enum OfTask {
    Counters(Vec<Counter>),
    Large(Vec<LargeValue>),
}

/// What the load has written, to be compared with what the cluster holds.
#[derive(Default)]
pub(crate) struct Written {
    pub(crate) counters: Vec<Counter>,
    pub(crate) large: Vec<LargeValue>,
    /// Tasks that did not end in time.
    pub(crate) hanging: usize,
}

impl Load {
    /// Writes the values that are going to be read.
    pub(crate) async fn prepare(client: &Client) -> Result<(), Error> {
        let set = |number| vec![b"SET".to_vec(), value_key(number).into_bytes(), value(number)];
        for result in client.pipeline((0..VALUES).map(set).collect()).await {
            result?;
        }
        Ok(())
    }

    /// Starts the tasks.
    pub(crate) fn start(client: &Client, tasks: usize, seed: u64) -> Self {
        let shared = Arc::new(Shared {
            meter: Meter::start(),
            stop: AtomicBool::new(false),
            checked: AtomicU64::new(0),
            wrong: Complaints::default(),
            unexpected: Complaints::default(),
        });
        let mut set = JoinSet::new();
        for number in 0..tasks {
            let counters = (0..COUNTERS_PER_TASK).map(|counter| Counter::new(counter_key(number, counter)));
            let task = Task {
                client: client.clone(),
                shared: Arc::clone(&shared),
                random: StdRng::seed_from_u64(seed.wrapping_add(number as u64)),
                counters: counters.collect(),
            };
            set.spawn(async { OfTask::Counters(task.run().await) });
        }
        for task in large::tasks(client, &shared, seed) {
            set.spawn(async { OfTask::Large(task.await) });
        }
        Self { shared, tasks: set }
    }

    /// Ends the load and returns what it has written.
    pub(crate) async fn stop(mut self, patience: Duration) -> Written {
        self.shared.stop.store(true, Ordering::SeqCst);
        let mut written = Written::default();
        let deadline = tokio::time::Instant::now() + patience;
        while let Ok(Some(ended)) = tokio::time::timeout_at(deadline, self.tasks.join_next()).await {
            match ended {
                Ok(OfTask::Counters(counters)) => written.counters.extend(counters),
                Ok(OfTask::Large(values)) => written.large.extend(values),
                Err(error) => self.shared.unexpected.add(format!("a task of the load failed: {error}")),
            }
        }
        written.hanging = self.tasks.len();
        written
    }
}

impl Shared {
    /// Whether the load is to end.
    pub(crate) fn is_over(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// Counts a reply that was checked; of one that is wrong, says what is.
    pub(crate) fn check(&self, is_right: bool, wrong: impl FnOnce() -> String) {
        self.checked.fetch_add(1, Ordering::Relaxed);
        if !is_right {
            self.wrong.add(wrong());
        }
    }
}

impl Complaints {
    pub(crate) fn add(&self, text: String) {
        self.count.fetch_add(1, Ordering::SeqCst);
        let mut told = self.told();
        if told.len() < TOLD_MAX {
            told.push(text);
        }
    }

    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::SeqCst)
    }

    /// The first of them.
    pub(crate) fn told(&self) -> MutexGuard<'_, Vec<String>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counter {
    const fn new(key: String) -> Self {
        Self { key, acknowledged: 0, possibly_executed: 0, last: 0 }
    }

    /// Whether the counter may have this value.
    pub(crate) fn admits(&self, value: u64) -> bool {
        (self.acknowledged..=self.acknowledged + self.possibly_executed).contains(&value)
    }

    /// Counts a reply to INCR. An error says why it cannot be one.
    fn acknowledge(&mut self, reply: &Reply) -> Result<(), String> {
        self.acknowledged += 1;
        let value = reply.as_integer().and_then(|value| u64::try_from(value).ok());
        let Some(value) = value else {
            return Err(format!("INCR {} was answered with {}", self.key, shown(reply)));
        };
        let (last, admitted) = (std::mem::replace(&mut self.last, value), self.admits(value));
        if value > last && admitted {
            return Ok(());
        }
        Err(format!(
            "INCR {} was answered with {value} after {last}, with {} acknowledged and {} possibly executed",
            self.key, self.acknowledged, self.possibly_executed
        ))
    }
}

/// One caller.
struct Task {
    client: Client,
    shared: Arc<Shared>,
    random: StdRng,
    counters: Vec<Counter>,
}

/// A command of the load: the number of the value to read, or of the task's counter to increment.
#[derive(Clone, Copy)]
enum Command {
    Get(usize),
    Incr(usize),
}

impl Task {
    async fn run(mut self) -> Vec<Counter> {
        while !self.shared.is_over() {
            let commands = self.choose();
            let words: Vec<_> = commands.iter().map(|command| self.words(*command)).collect();
            let started = Instant::now();
            let results = match <[_; 1]>::try_from(words) {
                Ok([command]) => vec![self.client.execute(command).await],
                Err(commands) => self.client.pipeline(commands).await,
            };
            let latency = started.elapsed();

            if results.len() != commands.len() {
                let text = format!("{} commands had {} results", commands.len(), results.len());
                self.shared.wrong.add(text);
            }
            let mut failures = Vec::new();
            let mut operations = 0;
            for (command, result) in commands.into_iter().zip(results) {
                match result {
                    Ok(reply) => {
                        operations += 1;
                        self.check(command, &reply);
                    }
                    Err(error) => failures.extend(self.failed(command, &error)),
                }
            }
            self.shared.meter.count(latency, operations, &failures);
            let rest = self.random.random_range(Duration::ZERO..REST_MAX);
            tokio::time::sleep(rest).await;
        }
        self.counters
    }

    /// One command, or now and then a pipeline. A counter comes once at most: commands that are
    /// retried may be overtaken by others of the same call.
    fn choose(&mut self) -> Vec<Command> {
        let count =
            if self.random.random_bool(0.15) { self.random.random_range(2..=PIPELINE_MAX) } else { 1 };
        let mut left: Vec<usize> = (0..self.counters.len()).collect();
        let mut commands = Vec::new();
        for _ in 0..count {
            let command = if !left.is_empty() && self.random.random_bool(0.4) {
                Command::Incr(left.swap_remove(self.random.random_range(0..left.len())))
            } else {
                Command::Get(self.random.random_range(0..VALUES))
            };
            commands.push(command);
        }
        commands
    }

    fn words(&self, command: Command) -> Vec<Vec<u8>> {
        match command {
            Command::Get(number) => vec![b"GET".to_vec(), value_key(number).into_bytes()],
            Command::Incr(counter) => vec![b"INCR".to_vec(), self.counters[counter].key.clone().into_bytes()],
        }
    }

    fn check(&mut self, command: Command, reply: &Reply) {
        match command {
            Command::Get(number) => {
                let is_right = reply.as_bytes() == Some(&value(number));
                self.shared.check(is_right, || {
                    format!("GET {} was answered with {}", value_key(number), shown(reply))
                });
            }
            Command::Incr(counter) => {
                let judged = self.counters[counter].acknowledge(reply);
                self.shared.check(judged.is_ok(), || judged.err().unwrap_or_default());
            }
        }
    }

    /// Counts a command without a reply; tells which error of those that faults cause it was.
    fn failed(&mut self, command: Command, error: &Error) -> Option<Failure> {
        if let Command::Incr(counter) = command
            && error.possibly_executed()
        {
            self.counters[counter].possibly_executed += 1;
        }
        let failure = failure(error);
        if failure.is_none() {
            let name = String::from_utf8_lossy(&self.words(command).join(&b' ')).into_owned();
            self.shared.unexpected.add(format!("{name}: {error}"));
        }
        failure
    }
}

/// The error as one that a fault may cause; none when no fault does.
pub(crate) fn failure(error: &Error) -> Option<Failure> {
    match error {
        Error::ConnectionLost(_) => Some(Failure::ConnectionLost),
        Error::PartlyExecuted(_) => Some(Failure::PartlyExecuted),
        Error::Timeout(_) => Some(Failure::Timeout),
        Error::Connect(_) => Some(Failure::Connect),
        Error::ClusterDown(_) => Some(Failure::ClusterDown),
        Error::RedirectLimit(_) => Some(Failure::RedirectLimit),
        Error::Server(error) => {
            let passing = ["CLUSTERDOWN", "TRYAGAIN", "LOADING", "MASTERDOWN", "READONLY", "MOVED", "ASK"];
            passing.contains(&error.code.as_str()).then_some(Failure::Server)
        }
        _ => None,
    }
}

/// The keys that the load uses, so that what moves can be chosen among them.
pub(crate) fn keys(tasks: usize) -> Vec<String> {
    let counters =
        (0..tasks).flat_map(|task| (0..COUNTERS_PER_TASK).map(move |counter| counter_key(task, counter)));
    counters.chain((0..VALUES).map(value_key)).chain(large::keys()).collect()
}

fn counter_key(task: usize, counter: usize) -> String {
    format!("counter:{task}:{counter}")
}

fn value_key(number: usize) -> String {
    format!("value:{number}")
}

/// The value of a key: the key, and bytes that fill it up to a length of its own.
fn value(number: usize) -> Vec<u8> {
    let length = if number.is_multiple_of(LARGE_EVERY) { 48 << 10 } else { 16 + number };
    let mut value = format!("{}|", value_key(number)).into_bytes();
    value.resize(value.len().max(length), b'.');
    value
}

/// A reply in at most a line.
fn shown(reply: &Reply) -> String {
    format!("{:?}", reply.root().node()).chars().take(120).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyslot::ReplyNode;

    #[test]
    fn a_counters_replies_have_bounds() {
        let reply = |value| Reply::new(vec![ReplyNode::Integer(value)]);
        let mut counter = Counter::new("counter".to_owned());
        assert!(counter.acknowledge(&reply(1)).is_ok());
        assert!(counter.acknowledge(&reply(1)).is_err(), "lost, or another's reply");
        let mut counter = Counter::new("counter".to_owned());
        assert!(counter.acknowledge(&reply(2)).is_err(), "executed twice");
        let mut counter = Counter { possibly_executed: 1, ..Counter::new("counter".to_owned()) };
        assert!(counter.acknowledge(&reply(2)).is_ok());
        assert!(counter.admits(1) && counter.admits(2) && !counter.admits(3));
        assert!(counter.acknowledge(&Reply::new(vec![ReplyNode::Null])).is_err());
    }

    #[test]
    fn values_name_their_keys() {
        assert!(value(1).starts_with(b"value:1|") && value(40).len() == 48 << 10);
        assert!((0..VALUES).all(|number| value(number).len() > value_key(number).len()));
    }
}
