//! A node that swallows what it is sent, and answers nothing, delays no command for another node.
//!
//! 1,000 commands to the other nodes are timed with all nodes well, and again with the hole, in
//! both cases while other tasks ask for keys of the node that is or becomes the hole. They are
//! spread over seconds, so that they meet all that the client goes through with such a node:
//! requests that time out, connections given up, new ones dialled. Between each two of them a
//! second client, which asks for nothing of the hole's, sends the same: what its commands
//! take is what the nodes and the machine make of them, and what the first client's are compared
//! with. Under both protocols, with two kinds of hole: a stopped process, to which the system still
//! opens connections, and dropped packets, where not even that.

use std::ops::AddAssign;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use keyslot::{Client, Error, RespVersion};
use keyslot_testcluster::TestCluster;
use keyslot_tests::load::{Shard, quantile, shards};
use keyslot_tests::{PROTOCOLS, namespace, options};
use tokio::sync::Mutex;

const COMMANDS: usize = 1_000;
/// Between two of the commands that are timed.
const PAUSE: Duration = Duration::from_millis(1);
/// Tasks that ask the hole.
const ASKING: usize = 4;
/// Between two commands of such a task.
const ASKING_PAUSE: Duration = Duration::from_millis(5);
/// Both are shorter than the 1,000 commands take, and occur in them several times.
const REQUEST_TIMEOUT: Duration = Duration::from_millis(400);
const CONNECT_TIMEOUT: Duration = Duration::from_millis(800);
/// A command that takes this long was held up.
const STALL: Duration = Duration::from_millis(50);
/// The commands that are timed together take no more than this, or the measurement is given up.
const TOTAL_MAX: Duration = Duration::from_secs(60);
/// As many more commands than the other client's may be held up by what else the machine does. The
/// hole's time-outs are more than that.
const STALLS_BY_CHANCE: usize = 2;

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_node_delays_no_other() -> Result<()> {
    let _turn = ONE_AT_A_TIME.lock().await;
    for protocol in PROTOCOLS {
        let stop = |cluster: &TestCluster, node| Ok(cluster.pause(node)?);
        run("SIGSTOP", protocol, stop).await.with_context(|| format!("{protocol:?}"))?;
    }
    Ok(())
}

/// Runs itself again in a network namespace of its own, where the rules for packets may be changed:
/// it ends with the processes in it, and nothing has to be cleaned up.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_packets_are_dropped_delays_no_other() -> Result<()> {
    let _turn = ONE_AT_A_TIME.lock().await;
    if std::env::var_os(namespace::INSIDE).is_none() {
        return namespace::run_again("a_node_whose_packets_are_dropped_delays_no_other");
    }
    for protocol in PROTOCOLS {
        let drop_packets =
            |cluster: &TestCluster, node| namespace::drop_packets("add", cluster.ports()[node]);
        run("dropped packets", protocol, drop_packets).await.with_context(|| format!("{protocol:?}"))?;
    }
    Ok(())
}

/// These measure delays: two at a time would measure each other.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

async fn run(
    name: &str,
    protocol: RespVersion,
    make_hole: impl FnOnce(&TestCluster, usize) -> Result<()>,
) -> Result<()> {
    // The nodes themselves take it for alive all the time: what is measured is what the client
    // makes of it.
    let cluster = TestCluster::builder().primaries(3).node_timeout_ms(120_000).start()?;
    let given = options(&cluster.urls(), protocol);
    let given = given.request_timeout(REQUEST_TIMEOUT).connect_timeout(CONNECT_TIMEOUT);
    let client = Client::connect(given).await?;
    // It has time: nothing of it is about time-outs.
    let other = Client::connect(options(&cluster.urls(), protocol)).await?;
    let shards = shards(&cluster)?;
    let (hole, others) = shards.split_first().context("there are three shards")?;
    for tag in shards.iter().flat_map(|shard| &shard.tags) {
        client.execute(["SET", &key(tag), tag]).await?;
    }

    let (well, _, asked) = time([&client, &other], hole, others).await?;
    ensure!(asked.answered > asked.timed_out, "the node is well: {asked:?}");
    make_hole(&cluster, hole.primary)?;
    let (with, without, asked) = time([&client, &other], hole, others).await?;
    println!(
        "{name} under {protocol:?}: when all is well {well}; with the hole {with}; the other client {without}; \
         of the hole {asked:?}"
    );
    // Those that are under way when the packets stop may still be answered.
    ensure!(asked.answered <= ASKING && asked.timed_out > 0, "the hole is none: {asked:?}");

    ensure!(
        with.median <= without.median * 2 + Duration::from_millis(2),
        "the median: {with}, the other client's {without}"
    );
    ensure!(
        with.total <= without.total * 2 + Duration::from_millis(200),
        "in total: {with}, the other client's {without}"
    );
    ensure!(
        with.stalls <= without.stalls * 2 + STALLS_BY_CHANCE,
        "held up: {with}, the other client's {without}"
    );
    Ok(())
}

fn key(tag: &str) -> String {
    format!("{{{tag}}}:key")
}

/// Times commands of both clients for the other nodes, one after another, while tasks of the first
/// client ask the first node.
async fn time(clients: [&Client; 2], asked: &Shard, others: &[Shard]) -> Result<(Times, Times, Asked)> {
    let stop = Arc::new(AtomicBool::new(false));
    let tasks: Vec<_> = (0..ASKING)
        .map(|number| {
            let key = key(&asked.tags[number % asked.tags.len()]);
            tokio::spawn(ask(clients[0].clone(), key, Arc::clone(&stop)))
        })
        .collect();
    let tags: Vec<_> = others.iter().flat_map(|shard| &shard.tags).collect();
    let mut latencies = [Vec::with_capacity(COMMANDS), Vec::with_capacity(COMMANDS)];
    let mut total = Duration::ZERO;
    for number in 0..COMMANDS {
        let tag = tags[number % tags.len()];
        for (client, latencies) in clients.iter().zip(&mut latencies) {
            let started = Instant::now();
            let reply = client.execute(["GET", &key(tag)]).await?;
            latencies.push(started.elapsed());
            total += started.elapsed();
            ensure!(total < TOTAL_MAX, "only {} commands were answered within {total:?}", latencies.len());
            ensure!(reply.as_str() == Some(tag), "GET {} was answered with {reply:?}", key(tag));
            tokio::time::sleep(PAUSE).await;
        }
    }
    stop.store(true, Ordering::Relaxed);
    let mut outcomes = Asked::default();
    for task in tasks {
        outcomes += task.await??;
    }
    let [first, second] = latencies;
    Ok((Times::of(first), Times::of(second), outcomes))
}

/// What became of the commands for the node that is or becomes the hole.
#[derive(Debug, Default)]
struct Asked {
    answered: usize,
    timed_out: usize,
    not_connected: usize,
}

impl AddAssign for Asked {
    fn add_assign(&mut self, other: Self) {
        self.answered += other.answered;
        self.timed_out += other.timed_out;
        self.not_connected += other.not_connected;
    }
}

async fn ask(client: Client, key: String, stop: Arc<AtomicBool>) -> Result<Asked> {
    let mut outcomes = Asked::default();
    while !stop.load(Ordering::Relaxed) {
        match client.execute(["GET", &key]).await {
            Ok(_) => outcomes.answered += 1,
            Err(Error::Timeout(_)) => outcomes.timed_out += 1,
            Err(Error::Connect(_) | Error::ConnectionLost(_)) => outcomes.not_connected += 1,
            Err(error) => return Err(error).context("a silent node is no reason for this"),
        }
        tokio::time::sleep(ASKING_PAUSE).await;
    }
    Ok(outcomes)
}

/// What the commands that were timed took.
#[derive(Debug)]
struct Times {
    median: Duration,
    p99: Duration,
    max: Duration,
    total: Duration,
    stalls: usize,
}

impl Times {
    fn of(mut latencies: Vec<Duration>) -> Self {
        let mut at = |place| quantile(&mut latencies, place).unwrap_or_default();
        let (median, p99, max) = (at(0.5), at(0.99), at(1.0));
        let stalls = latencies.iter().filter(|latency| **latency >= STALL).count();
        Self { median, p99, max, total: latencies.iter().sum(), stalls }
    }
}

impl std::fmt::Display for Times {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { median, p99, max, total, stalls } = self;
        write!(
            f,
            "median {median:.1?}, p99 {p99:.1?}, max {max:.1?}, total {total:.1?}, {stalls} of {STALL:?}"
        )
    }
}
