//! A hundred clients that start while a shard has no primary do not ask the cluster to death about
//! its topology.
//!
//! A primary is killed, and its replica is not allowed to take over yet. A hundred clients connect
//! and send commands to all shards, of which those of one shard cannot be executed: each failure is
//! a reason to ask for the topology. Then the replica takes over. What the servers were asked is in
//! their INFO commandstats.
//!
//! The bound: a client asks every seed once when it starts. From then on it has one refresh at a
//! time, and asks three nodes each time at most. The first is at least 50 ms after the last began,
//! and the wait doubles while nothing has changed, until it is 250 to 500 ms. So `CLIENTS` clients
//! ask no more than `CLIENTS × (6 + 3 × (1 + seconds ÷ 0.05))` times while they start, and no more
//! than `CLIENTS × 3 × (1 + seconds ÷ 0.25)` while a shard stays down, however many of their
//! commands fail and however fast. When all is well they ask no more.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use keyslot::{Client, RespVersion};
use keyslot_testcluster::TestCluster;
use keyslot_tests::load::{kind, shards};
use keyslot_tests::options;
use tokio::task::JoinHandle;

const CLIENTS: u64 = 100;
/// Between two refreshes that brought news, at least.
const REFRESH_INTERVAL: Duration = Duration::from_millis(50);
/// Between two refreshes once several have brought nothing new, at least.
const PATIENT_INTERVAL: Duration = Duration::from_millis(250);
const NODES_PER_REFRESH: u64 = 3;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(1);
/// How long the shard stays without a primary once all clients are connected.
const DOWN: Duration = Duration::from_secs(4);
/// How often the servers are looked at.
const SAMPLE: Duration = Duration::from_secs(1);
/// Between two commands of a client for the same shard: so that the machine is not at its limit.
const PAUSE: Duration = Duration::from_millis(20);
/// How long it may take until nothing fails any more.
const CALM_MAX: Duration = Duration::from_secs(30);
const QUESTIONS: [&str; 2] = ["cluster|slots", "cluster|shards"];

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_clients_ask_a_bounded_number_of_times() -> Result<()> {
    let cluster = TestCluster::builder()
        .primaries(3)
        .replicas(1)
        .node_timeout_ms(2_000)
        .args(["--cluster-require-full-coverage", "no", "--cluster-replica-no-failover", "yes"])
        .start()?;
    let shards = shards(&cluster)?;
    let (victim, slot) = (shards[0].primary, shards[0].slot(0));
    let replica = cluster.replicas_of(victim)?[0];
    let tags: Vec<String> = shards.iter().map(|shard| shard.tags[0].clone()).collect();
    cluster.kill(victim)?;

    let mut questions = Questions::of(&cluster)?;
    let crowd = Crowd::start(&cluster, &tags).await?;
    questions.sample("all connect", REFRESH_INTERVAL, CLIENTS * cluster.nodes().len() as u64)?;
    for second in 0..DOWN.as_secs() {
        tokio::time::sleep(SAMPLE).await;
        let interval = if second == 0 { REFRESH_INTERVAL } else { PATIENT_INTERVAL };
        questions.sample("a shard is down", interval, 0)?;
    }
    ensure!(crowd.answered() > 0 && crowd.failed() > 0, "one shard is down, two are well");

    cluster.connection(replica)?.ok(&["CONFIG", "SET", "cluster-replica-no-failover", "no"])?;
    cluster.wait_for("the replica takes over", Duration::from_secs(20), |cluster| {
        Ok(cluster.node_of_slot(slot)? == replica)
    })?;
    questions.sample("failover", REFRESH_INTERVAL, 0)?;
    // Until no command is under way any more that was asked for before.
    tokio::time::sleep(REQUEST_TIMEOUT).await;
    let started = Instant::now();
    loop {
        questions.sample("right after", REFRESH_INTERVAL, 0)?;
        let (failed, answered) = (crowd.failed(), crowd.answered());
        tokio::time::sleep(SAMPLE).await;
        let asked = questions.sample("all is well", PATIENT_INTERVAL, 0)?;
        if crowd.failed() == failed && crowd.answered() > answered {
            ensure!(asked <= CLIENTS * NODES_PER_REFRESH, "the clients still ask: {asked} questions");
            break;
        }
        ensure!(
            started.elapsed() < CALM_MAX,
            "{} commands failed when all was well",
            crowd.failed() - failed
        );
    }

    let (answered, errors) = crowd.stop().await?;
    println!("{answered} commands answered; {errors:?}");
    Ok(())
}

/// What the servers were asked.
struct Questions<'a> {
    cluster: &'a TestCluster,
    asked: BTreeMap<&'static str, u64>,
    at: Instant,
}

impl<'a> Questions<'a> {
    fn of(cluster: &'a TestCluster) -> Result<Self> {
        let mut questions = Self { cluster, asked: BTreeMap::new(), at: Instant::now() };
        questions.asked = questions.count()?;
        Ok(questions)
    }

    /// Checks that since the last time no question was asked more often than refreshes at this
    /// interval, and a surplus, allow. Returns how often the most frequent one was.
    fn sample(&mut self, what: &str, interval: Duration, surplus: u64) -> Result<u64> {
        let asked = self.count()?;
        let passed = self.at.elapsed();
        self.at = Instant::now();
        let refreshes = 1 + passed.as_nanos().div_ceil(interval.as_nanos()) as u64;
        let bound = CLIENTS * NODES_PER_REFRESH * refreshes + surplus;
        let new = |question: &&str| asked[*question] - self.asked[*question];
        let most = QUESTIONS.iter().map(new).max().unwrap_or(0);
        let rate = most as f64 / passed.as_secs_f64();
        println!("{what:<16} {passed:>8.1?}: {most:>6} questions, {rate:>6.0} a second, at most {bound}");
        ensure!(most <= bound, "{what}: {most} questions in {passed:?}, more than {bound}");
        self.asked = asked;
        Ok(most)
    }

    fn count(&self) -> Result<BTreeMap<&'static str, u64>> {
        let mut counts = BTreeMap::new();
        for question in QUESTIONS {
            let running = self.cluster.running().into_iter();
            let calls = running.map(|node| self.cluster.command_calls(node, question));
            counts.insert(question, calls.sum::<Result<u64, _>>()?);
        }
        Ok(counts)
    }
}

/// Clients that send commands to all shards.
struct Crowd {
    tasks: Vec<JoinHandle<BTreeMap<String, usize>>>,
    tally: Arc<Tally>,
}

#[derive(Default)]
struct Tally {
    stop: AtomicBool,
    answered: AtomicU64,
    failed: AtomicU64,
}

impl Crowd {
    /// Connects all at once and returns when all are connected.
    async fn start(cluster: &TestCluster, tags: &[String]) -> Result<Self> {
        let tally = Arc::new(Tally::default());
        let connecting: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let given =
                    options(&cluster.urls(), RespVersion::Resp3).connect_timeout(Duration::from_secs(30));
                tokio::spawn(Client::connect(given.request_timeout(REQUEST_TIMEOUT)))
            })
            .collect();
        let mut tasks = Vec::new();
        for client in connecting {
            let client = client.await?.context("a client connects although a node is down")?;
            tasks.extend(tags.iter().map(|tag| {
                let key = format!("{{{tag}}}:storm");
                tokio::spawn(ask(client.clone(), key, Arc::clone(&tally)))
            }));
        }
        Ok(Self { tasks, tally })
    }

    fn answered(&self) -> u64 {
        self.tally.answered.load(Ordering::Relaxed)
    }

    fn failed(&self) -> u64 {
        self.tally.failed.load(Ordering::Relaxed)
    }

    /// How many commands were answered, and how many failed by the kind of their errors.
    async fn stop(self) -> Result<(u64, BTreeMap<String, usize>)> {
        self.tally.stop.store(true, Ordering::Relaxed);
        let mut errors = BTreeMap::new();
        for task in self.tasks {
            for (kind, count) in task.await? {
                *errors.entry(kind).or_default() += count;
            }
        }
        Ok((self.tally.answered.load(Ordering::Relaxed), errors))
    }
}

/// Asks for the key again and again. Returns the errors by kind.
async fn ask(client: Client, key: String, tally: Arc<Tally>) -> BTreeMap<String, usize> {
    let mut errors = BTreeMap::new();
    while !tally.stop.load(Ordering::Relaxed) {
        match client.execute(["GET", &key]).await {
            Ok(_) => tally.answered.fetch_add(1, Ordering::Relaxed),
            Err(error) => {
                *errors.entry(kind(&error)).or_default() += 1;
                tally.failed.fetch_add(1, Ordering::Relaxed)
            }
        };
        tokio::time::sleep(PAUSE).await;
    }
    errors
}
