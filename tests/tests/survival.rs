//! What a cluster goes through in its life happens under a load, and the client carries on.
//!
//! One test a fault, each under both protocols, two tests at a time, with a load of reads and INCRs
//! on every shard all the time (`keyslot_tests::load`). Each fault has one phase or several; a
//! phase is over when the cluster is whole again, and says which shards it hurts. For each phase:
//!
//! - commands for the other shards do not fail, and are not delayed by more than 50 ms at the
//!   median of any half second;
//! - no command that is asked for when the cluster is whole fails, and the first for each slot of
//!   the load, a write and then a read, are answered within 1 s.
//!
//! Delays are those beyond what the same load at the same time meets at a server to which nothing
//! happens, by a client of its own (`keyslot_tests::control`): other programs on the machine delay
//! that one, too. It writes each command to the disk before it answers, as the cluster's nodes do,
//! so that a busy disk delays both.
//!
//! And for the whole load: no reply is another request's, and each counter holds every acknowledged
//! INCR once and of the failed ones at most those that were reported as possibly executed.
//!
//! The clusters have `cluster-require-full-coverage no`: otherwise the servers themselves refuse
//! the commands for all shards while one has no primary.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use keyslot::{Client, RespVersion};
use keyslot_testcluster::{Error, TestCluster, TestServer};
use keyslot_tests::control::Control;
use keyslot_tests::load::{Delays, Load, Report, Shard, shards};
use keyslot_tests::{PROTOCOLS, options};
use tokio::sync::Semaphore;

/// How much later commands for shards that are well may be answered, at the median.
const DELAY_MAX: Duration = Duration::from_millis(50);
/// How soon after the cluster is whole each shard must answer.
const RECOVERY_MAX: Duration = Duration::from_secs(1);
/// The client's.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(1);
/// How long the load runs on when the cluster is whole: longer than it may take to recover, and
/// than a request may be under way.
const AFTER: Duration = Duration::from_millis(1_200);
/// How long the full outage lasts.
const OUTAGE: Duration = Duration::from_secs(5);
/// How many slots are resharded.
const SLOTS: usize = 500;

/// A node that is restarted must have what it acknowledged.
const PERSISTENCE: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];

#[tokio::test(flavor = "multi_thread")]
async fn kill_of_a_primary() -> Result<()> {
    survive(Fault::PrimaryKilled).await
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_of_a_replica() -> Result<()> {
    survive(Fault::ReplicaKilled).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_that_was_asked_for() -> Result<()> {
    survive(Fault::ManualFailover).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_stalls_for_longer_than_the_node_timeout() -> Result<()> {
    survive(Fault::PrimaryStalled).await
}

#[tokio::test(flavor = "multi_thread")]
async fn restart_of_all_nodes_one_by_one() -> Result<()> {
    survive(Fault::RollingRestart).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_replaced_by_a_new_node() -> Result<()> {
    survive(Fault::PrimaryReplaced).await
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_slots_resharded() -> Result<()> {
    survive(Fault::Reshard).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_outage_of_five_seconds() -> Result<()> {
    survive(Fault::FullOutage).await
}

/// What happens to the cluster.
#[derive(Clone, Copy, Debug)]
enum Fault {
    PrimaryKilled,
    ReplicaKilled,
    ManualFailover,
    PrimaryStalled,
    RollingRestart,
    PrimaryReplaced,
    Reshard,
    FullOutage,
}

impl Fault {
    async fn happen(self, run: &mut Run<'_>) -> Result<()> {
        let primary = run.shards[0].primary;
        match self {
            Self::PrimaryKilled => {
                run.phase("kill -9 of a primary", &[0], |cluster| cluster.kill(primary)).await?;
                run.phase("it comes back, as a replica", &[], |cluster| cluster.restart(primary)).await
            }
            Self::ReplicaKilled => {
                let replica = run.replica_of(primary)?;
                run.phase("kill -9 of a replica", &[], |cluster| cluster.kill(replica)).await?;
                run.phase("it comes back", &[], |cluster| cluster.restart(replica)).await
            }
            Self::ManualFailover => {
                let replica = run.replica_of(primary)?;
                run.phase("CLUSTER FAILOVER", &[0], |cluster| cluster.failover(replica)).await
            }
            Self::PrimaryStalled => {
                run.phase("SIGSTOP of a primary", &[0], |cluster| cluster.pause(primary)).await?;
                // By now no request is under way to it any more. A write that it read when it wakes
                // up, before it hears that it was replaced, would be acknowledged and lost: so
                // Redis Cluster is.
                run.phase("SIGCONT, it becomes a replica", &[], |cluster| cluster.resume(primary)).await
            }
            Self::RollingRestart => {
                for node in run.cluster.running() {
                    let hurt = run.shards_of(node)?;
                    let role = if hurt.is_empty() { "replica" } else { "primary" };
                    let restart = |cluster: &mut TestCluster| {
                        cluster.kill(node)?;
                        cluster.restart(node)
                    };
                    run.phase(&format!("restart of node {node}, a {role}"), &hurt, restart).await?;
                }
                Ok(())
            }
            Self::PrimaryReplaced => {
                let join = |cluster: &mut TestCluster| {
                    let new = cluster.add_node()?;
                    cluster.replicate(new, primary)?;
                    Ok(new)
                };
                let new = run.phase("a new node joins as a replica", &[], join).await?;
                run.phase("it takes over", &[0], |cluster| cluster.failover(new)).await?;
                let leave = |cluster: &mut TestCluster| {
                    cluster.kill(primary)?;
                    cluster.forget(primary)
                };
                run.phase("kill -9 and CLUSTER FORGET of the old one", &[], leave).await
            }
            Self::Reshard => run.reshard().await,
            Self::FullOutage => {
                let outage = |cluster: &mut TestCluster| {
                    cluster.kill_all()?;
                    thread::sleep(OUTAGE);
                    cluster.restart_all()
                };
                run.phase("kill -9 of all nodes, restart after 5 s", &[0, 1, 2], outage).await
            }
        }
    }
}

/// Lets the fault happen under both protocols, and checks what the load saw.
async fn survive(fault: Fault) -> Result<()> {
    /// Each compares its delays with those of a control beside it, which has the same neighbours.
    static TWO_AT_A_TIME: Semaphore = Semaphore::const_new(2);
    let _turn = TWO_AT_A_TIME.acquire().await?;

    let mut cluster = TestCluster::builder()
        .primaries(3)
        .replicas(1)
        .node_timeout_ms(2_000)
        .args(["--cluster-require-full-coverage", "no"])
        .args(PERSISTENCE)
        .start()?;
    let mut violations = Vec::new();
    for protocol in PROTOCOLS {
        let seen = Run::of(fault, &mut cluster, protocol).await.with_context(|| format!("{protocol:?}"))?;
        violations.extend(seen);
    }
    ensure!(violations.is_empty(), "{fault:?}:\n{}", violations.join("\n"));
    Ok(())
}

/// A fault under a load.
struct Run<'a> {
    cluster: &'a mut TestCluster,
    client: Client,
    shards: Vec<Shard>,
    phases: Vec<Phase>,
}

/// A part of a fault.
struct Phase {
    name: String,
    hurt: Vec<usize>,
    /// From the fault until the load has run on for a while.
    window: Range<Instant>,
    /// When the cluster was whole again.
    whole: Instant,
    /// What the next commands took, the slowest of them; or why one failed.
    next: Result<Duration, String>,
}

impl<'a> Run<'a> {
    /// Returns what was not as it should be.
    async fn of(fault: Fault, cluster: &'a mut TestCluster, protocol: RespVersion) -> Result<Vec<String>> {
        let given = options(&cluster.urls(), protocol).request_timeout(REQUEST_TIMEOUT);
        let client = Client::connect(given).await?;
        let shards = shards(cluster)?;
        let load = Load::start(&client, &shards, &format!("{protocol:?}")).await?;
        let server = TestServer::builder().args(PERSISTENCE);
        let control =
            Control::start_on(server, protocol, |options| options.request_timeout(REQUEST_TIMEOUT)).await?;
        let control_load = Load::start(&control.client, &[Control::shard()], "control").await?;
        load.warm().await?;
        control_load.warm().await?;
        let mut run = Self { cluster, client, shards, phases: Vec::new() };
        let happened = fault.happen(&mut run).await;
        let report = load.stop().await?;
        let control = control_load.stop().await?;

        println!("\n{fault:?} under {protocol:?}\n{}", Row::HEAD);
        let mut violations = Vec::new();
        for phase in &run.phases {
            let row = Row::of(phase, &report, &control, run.shards.len());
            println!("{row}");
            let in_phase = |violation| format!("{protocol:?}, {}: {violation}", phase.name);
            violations.extend(phase.violations(&row, &report, run.shards.len()).into_iter().map(in_phase));
        }
        println!(
            "{} INCRs acknowledged, {} possibly executed",
            report.acknowledged(),
            report.possibly_executed()
        );
        happened.with_context(|| format!("until then: {violations:#?}"))?;
        if let Err(error) = report.check(&run.client).await {
            violations.push(format!("{protocol:?}: {error:#}"));
        }
        Ok(violations)
    }

    /// Does this to the cluster, waits until it is whole again, and lets the load run on.
    async fn phase<T>(
        &mut self,
        name: &str,
        hurt: &[usize],
        change: impl FnOnce(&mut TestCluster) -> Result<T, Error>,
    ) -> Result<T> {
        settle(self.cluster)?;
        let start = Instant::now();
        let outcome = change(self.cluster).with_context(|| name.to_owned())?;
        self.cluster.wait_until_agreed().with_context(|| name.to_owned())?;
        let whole = Instant::now();
        let next = self.next_commands().await.map_err(|error| format!("{error:#}"));
        tokio::time::sleep(AFTER).await;
        let window = start..Instant::now();
        self.phases.push(Phase { name: name.to_owned(), hurt: hurt.to_vec(), window, whole, next });
        Ok(outcome)
    }

    /// Writes a key in each slot of the load, all at once, and reads it. Returns how long the
    /// slowest command took.
    async fn next_commands(&self) -> Result<Duration> {
        let tags = self.shards.iter().flat_map(|shard| &shard.tags);
        let mut tasks = Vec::new();
        for (number, tag) in tags.enumerate() {
            let (client, key) = (self.client.clone(), format!("{{{tag}}}:next"));
            let value = format!("{}:{number}", self.phases.len());
            tasks.push(tokio::spawn(async move {
                let started = Instant::now();
                client.execute(["SET", &key, &value]).await.with_context(|| format!("SET {key}"))?;
                let written = started.elapsed();
                let reply = client.execute(["GET", &key]).await.with_context(|| format!("GET {key}"))?;
                ensure!(reply.as_str() == Some(&value), "{key} is {reply:?}, not {value}");
                anyhow::Ok(written.max(started.elapsed() - written))
            }));
        }
        let mut slowest = Duration::ZERO;
        for task in tasks {
            slowest = slowest.max(task.await??);
        }
        Ok(slowest)
    }

    /// Moves slots of the first shard to the second, among them half of those that the load uses.
    async fn reshard(&mut self) -> Result<()> {
        let (from, to) = (self.shards[0].primary, self.shards[1].primary);
        let fill =
            |number| ["SET", &format!("fill:{number}"), "x"].map(|word| word.as_bytes().to_vec()).to_vec();
        for result in self.client.pipeline((0..5_000).map(fill).collect()).await {
            result.context("filling the slots")?;
        }
        let mut slots = vec![self.shards[0].slot(0), self.shards[0].slot(1)];
        let others = self.cluster.slots_of(from)?;
        slots.extend(
            others.into_iter().filter(|slot| !slots.contains(slot)).take(SLOTS - 2).collect::<Vec<_>>(),
        );
        // In the order of the slots, so that those of the load are somewhere in between.
        slots.sort_unstable();
        self.phase("reshard", &[], |cluster| cluster.migrate_slots(&slots, from, to)).await?;
        let counters = self.client.counters().await?;
        let count =
            |name| counters.iter().find(|counter| counter.name == name).map_or(0, |counter| counter.value);
        println!("{} slots moved: {} ASK, {} MOVED", slots.len(), count("ask"), count("moved"));
        ensure!(count("moved") > 0, "the load met no slot that moved");
        Ok(())
    }

    fn replica_of(&self, primary: usize) -> Result<usize> {
        let replicas = self.cluster.replicas_of(primary)?;
        replicas.first().copied().context("the primary has a replica")
    }

    /// The shards that this node is the primary of now.
    fn shards_of(&self, node: usize) -> Result<Vec<usize>> {
        let mut own = Vec::new();
        for (number, shard) in self.shards.iter().enumerate() {
            if self.cluster.node_of_slot(shard.slot(0))? == node {
                own.push(number);
            }
        }
        Ok(own)
    }
}

/// Waits until no node is still writing the append-only file that it begins when it has become a
/// replica: until then a restart would bring older data back.
fn settle(cluster: &TestCluster) -> Result<()> {
    let settled = |cluster: &TestCluster| {
        for node in cluster.running() {
            let call = |source| Error::Call { port: cluster.nodes()[node].port(), source };
            let info = cluster.connection(node)?.string(&["INFO", "persistence"]).map_err(call)?;
            if !["aof_rewrite_in_progress:0", "aof_rewrite_scheduled:0"]
                .iter()
                .all(|line| info.contains(line))
            {
                return Ok(false);
            }
        }
        Ok(true)
    };
    cluster.wait_for("every append-only file is whole", Duration::from_secs(10), settled)?;
    Ok(())
}

impl Phase {
    fn violations(&self, row: &Row<'_>, report: &Report, shards: usize) -> Vec<String> {
        let mut violations = Vec::new();
        let control = row.control;
        if let Some(delays) = row.others.filter(|delays| delays.median > DELAY_MAX + control.median) {
            violations.push(format!(
                "a median delay of {:?} on other shards, of {:?} elsewhere",
                delays.median, control.median
            ));
        }
        let others = report.failures(&self.others(shards), &self.window);
        if !others.is_empty() {
            violations.push(format!("commands for other shards failed: {others:?}"));
        }
        let late = report.failures_of_those_started(&(self.whole..self.window.end));
        if let Some(first) = late.first() {
            violations.push(format!("{} commands failed when all was well again, as: {first}", late.len()));
        }
        match &self.next {
            Ok(slowest) if *slowest <= RECOVERY_MAX + control.max => {}
            Ok(slowest) => violations.push(format!("a command that came next took {slowest:?}")),
            Err(error) => violations.push(format!("a command that came next failed: {error}")),
        }
        violations
    }

    /// The shards that it does not hurt.
    fn others(&self, shards: usize) -> Vec<usize> {
        (0..shards).filter(|shard| !self.hurt.contains(shard)).collect()
    }
}

/// What is told about a phase.
struct Row<'a> {
    phase: &'a Phase,
    /// None where all shards were hurt.
    others: Option<Delays>,
    /// Where nothing happened.
    control: Delays,
    /// The longest time without an answer of a hurt shard.
    outage: Option<Duration>,
    errors: BTreeMap<String, usize>,
}

impl<'a> Row<'a> {
    const HEAD: &'static str = "phase                                       whole after  \
         elsewhere: median     max  others: median     p99     max  hurt: silent  next commands  errors";

    fn of(phase: &'a Phase, report: &Report, control: &Report, shards: usize) -> Self {
        let others = phase.others(shards);
        let all: Vec<_> = (0..shards).collect();
        Self {
            phase,
            others: (!others.is_empty()).then(|| report.delays(&others, &phase.window)),
            control: control.delays(&[0], &phase.window),
            outage: phase.hurt.iter().map(|shard| report.outage(*shard, &phase.window)).max(),
            errors: report.failures(&all, &phase.window),
        }
    }
}

impl fmt::Display for Row<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |duration: Option<Duration>| match duration {
            Some(duration) => format!("{:.1}", duration.as_secs_f64() * 1_000.0),
            None => "-".to_owned(),
        };
        write!(
            f,
            "{:<43} {:>8} ms  {:>14} ms {:>7}  {:>11} ms {:>7} {:>7}  {:>9} ms  {:>10} ms  ",
            self.phase.name,
            ms(Some(self.phase.whole - self.phase.window.start)),
            ms(Some(self.control.median)),
            ms(Some(self.control.max)),
            ms(self.others.map(|delays| delays.median)),
            ms(self.others.map(|delays| delays.p99)),
            ms(self.others.map(|delays| delays.max)),
            ms(self.outage),
            ms(self.phase.next.as_ref().ok().copied()),
        )?;
        let errors = self.errors.iter().map(|(kind, count)| format!("{count} {kind}"));
        f.write_str(&errors.collect::<Vec<_>>().join(", "))
    }
}
