//! Reads go where the strategy says and never fail because of a replica; writes go to primaries
//! only.
//!
//! Who served a read is what the servers have counted (INFO commandstats): every GET of the test is
//! counted once, at a replica or at a primary. A replica's calls of write commands are those that
//! its primary sent, so they say nothing of the client. But a write that the client sent would be
//! refused with MOVED, and is counted as rejected: no replica has rejected any command.
//!
//! Replicas then die, stop, or are cut off from their primaries (MASTERDOWN) under a load of reads:
//! none fails, those for the other shards are not delayed, and the replica serves again when it is
//! back. Delays are those beyond what the same load meets at a server to which nothing happens
//! (`keyslot_tests::control`). Under both protocols.

mod faults;
mod load;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use keyslot::{Client, ReplicaReads, RespVersion};
use keyslot_testcluster::TestCluster;
use keyslot_tests::load::{Shard, shards};
use keyslot_tests::{PROTOCOLS, count, options, words};
use tokio::task::JoinHandle;

use faults::{Fault, survive};

/// GETs for each strategy: a multiple of the shards' number and of the tasks'.
const READS: u64 = 720;
const TASKS: u64 = 4;
/// Where only replicas should be asked, at least this share of the GETs reaches them.
const SHARE_MIN: f64 = 0.9;
/// The chance that a random choice misses its share by more is below one in a million.
const SHARE_TOLERANCE: f64 = 0.09;

#[tokio::test(flavor = "multi_thread")]
async fn each_strategy_reads_where_it_says() -> Result<()> {
    let cluster = TestCluster::start(3, 2)?;
    let shards = shards(&cluster)?;
    for protocol in PROTOCOLS {
        for strategy in [
            ReplicaReads::Primary,
            ReplicaReads::PreferReplica,
            ReplicaReads::RoundRobin,
            ReplicaReads::Random,
            ReplicaReads::LowestLatency,
            ReplicaReads::SameZone,
        ] {
            let client = connect(&cluster, protocol, strategy).await?;
            let counted = Counted::of(&cluster)?;
            reads(&cluster, &client, &shards, strategy).await?;
            writes(&cluster, &client, &shards[0]).await?;
            counted
                .nothing_was_refused(&cluster)
                .with_context(|| format!("{strategy:?} under {protocol:?}"))?;
            let redirects: u64 =
                client.statistics().await?.iter().map(|node| count(&node.counters, "redirects")).sum();
            ensure!(redirects == 0, "{strategy:?} under {protocol:?}: {redirects} redirects");
        }
    }
    for protocol in PROTOCOLS {
        in_turn(&cluster, &connect(&cluster, protocol, ReplicaReads::RoundRobin).await?, &shards).await?;
    }
    Ok(())
}

async fn connect(cluster: &TestCluster, protocol: RespVersion, strategy: ReplicaReads) -> Result<Client> {
    let given = options(&cluster.urls(), protocol).replica_reads(strategy);
    let given = match strategy {
        ReplicaReads::SameZone => given.availability_zone("here"),
        _ => given,
    };
    Ok(Client::connect(given.request_timeout(Duration::from_secs(30))).await?)
}

/// Reads, and checks who served them.
async fn reads(
    cluster: &TestCluster,
    client: &Client,
    shards: &[Shard],
    strategy: ReplicaReads,
) -> Result<()> {
    let keys: Vec<String> =
        shards.iter().flat_map(|shard| &shard.tags).map(|tag| format!("{{{tag}}}:read")).collect();
    for key in &keys {
        client.execute(["SET", key, key]).await?;
    }
    settle(cluster, shards)?;

    let before = gets(cluster)?;
    let tasks: Vec<JoinHandle<Result<()>>> = (0..TASKS)
        .map(|task| {
            let (client, keys) = (client.clone(), keys.clone());
            tokio::spawn(async move {
                for number in 0..READS / TASKS {
                    let key = &keys[(number * TASKS + task) as usize % keys.len()];
                    let reply = client.execute(["GET", key]).await?;
                    ensure!(reply.as_str() == Some(key), "GET {key} was answered with {reply:?}");
                }
                Ok(())
            })
        })
        .collect();
    for task in tasks {
        task.await?.with_context(|| format!("{strategy:?}"))?;
    }
    let after = gets(cluster)?;
    let served = |node: &usize| after[node] - before[node];

    let total: u64 = after.keys().map(served).sum();
    ensure!(total == READS, "{strategy:?}: {total} GETs were executed, not {READS}");
    let mut least = u64::MAX;
    let mut at_replicas = 0;
    for shard in shards {
        for replica in cluster.replicas_of(shard.primary)? {
            least = least.min(served(&replica));
            at_replicas += served(&replica);
        }
    }
    let share = at_replicas as f64 / READS as f64;
    println!("{strategy:?}: {:.1} % at replicas, at least {least} at each", share * 100.0);
    let nodes = cluster.nodes().len() as u64;
    match strategy {
        ReplicaReads::Primary => ensure!(at_replicas == 0, "{at_replicas} GETs at replicas"),
        ReplicaReads::PreferReplica | ReplicaReads::RoundRobin | ReplicaReads::SameZone => {
            ensure!(share > SHARE_MIN, "{strategy:?}: only {share} at replicas");
            // The fair share is a sixth of all.
            ensure!(least >= READS / 6 / 2, "{strategy:?}: only {least} GETs at one of the replicas");
        }
        ReplicaReads::Random => {
            let fair = 2.0 / 3.0;
            ensure!((share - fair).abs() < SHARE_TOLERANCE, "{share} at replicas instead of {fair}");
            ensure!(least >= READS / nodes / 2, "only {least} GETs at one of the replicas");
        }
        // Any node may be the fastest.
        ReplicaReads::LowestLatency => {}
    }
    Ok(())
}

/// Each shard's replicas serve in turn, whatever else is read in between.
async fn in_turn(cluster: &TestCluster, client: &Client, shards: &[Shard]) -> Result<()> {
    const ROUNDS: u64 = 50;
    for mixed in [&shards[..1], &shards[..2], shards] {
        let before = gets(cluster)?;
        for _ in 0..ROUNDS {
            for shard in mixed {
                client.execute(["GET", &format!("{{{}}}:read", shard.tags[0])]).await?;
            }
        }
        let after = gets(cluster)?;
        for shard in mixed {
            let replicas = cluster.replicas_of(shard.primary)?;
            let served: Vec<_> = replicas.iter().map(|node| after[node] - before[node]).collect();
            ensure!(
                served.iter().all(|served| served.abs_diff(ROUNDS / 2) <= 1),
                "the two replicas served {served:?} of {ROUNDS} reads in turn, with {} shards read in turn",
                mixed.len()
            );
        }
    }
    Ok(())
}

/// Commands that write or may write, and reads that are no GET.
async fn writes(cluster: &TestCluster, client: &Client, shard: &Shard) -> Result<()> {
    let evals = |cluster: &TestCluster| -> Result<u64> {
        let mut calls = 0;
        for replica in cluster.replicas_of(shard.primary)? {
            calls += cluster.command_calls(replica, "eval")?;
        }
        Ok(calls)
    };
    let before = evals(cluster)?;
    let tag = &shard.tags[0];
    for line in [
        "DEL {t}:s {t}:n {t}:l {t}:z {t}:g {t}:x {t}:h {t}:set",
        "SET {t}:s value",
        "INCR {t}:n",
        "APPEND {t}:s more",
        "GETSET {t}:s value",
        "GETEX {t}:s EX 100",
        "GETDEL {t}:s",
        "SETRANGE {t}:s 3 abc",
        "BITFIELD {t}:s GET u8 0",
        "BITFIELD {t}:s SET u8 0 7",
        "EXPIRE {t}:s 100",
        "RPUSH {t}:l 3 1 2",
        "SORT {t}:l",
        "SORT {t}:l STORE {t}:sorted",
        "LMOVE {t}:l {t}:sorted LEFT RIGHT",
        "BLPOP {t}:sorted 1",
        "SADD {t}:set a b",
        "SPOP {t}:set",
        "ZADD {t}:z 1 a",
        "ZRANGESTORE {t}:z2 {t}:z 0 -1",
        "GEOADD {t}:g 13.4 52.5 berlin",
        "GEORADIUS {t}:g 13 52 100 km",
        "GEORADIUS {t}:g 13 52 100 km STORE {t}:near",
        "PFADD {t}:h a b",
        "PFMERGE {t}:h2 {t}:h",
        "XADD {t}:x 1-* field value",
        "XGROUP CREATE {t}:x group 0",
        "XREADGROUP GROUP group consumer STREAMS {t}:x >",
        "COPY {t}:z {t}:z3 REPLACE",
        "EVAL return{redis.call('INCR',KEYS[1])} 1 {t}:n",
        "EVAL return{redis.call('GET',KEYS[1])} 1 {t}:n",
        "MSET {t}:a 1 {t}:b 2",
        "UNLINK {t}:a {t}:x",
        "STRLEN {t}:s",
        "PFCOUNT {t}:h",
        "EVAL_RO return{redis.call('GET',KEYS[1])} 1 {t}:n",
        "SORT_RO {t}:l",
        "GEORADIUS_RO {t}:g 13 52 100 km",
        "BITFIELD_RO {t}:s GET u8 0",
        "OBJECT ENCODING {t}:n",
        "DUMP {t}:n",
        "MGET {t}:n {t}:b",
        "EXISTS {t}:n",
    ] {
        let line = line.replace("{t}", &format!("{{{tag}}}:w"));
        client.execute(words(&line)).await.with_context(|| line.clone())?;
    }
    // What a script does is not known, so a replica must not get one.
    ensure!(evals(cluster)? == before, "a replica has executed an EVAL");
    Ok(())
}

/// What the replicas have rejected, by command and node.
struct Counted {
    rejected: BTreeMap<(usize, String), u64>,
}

impl Counted {
    fn of(cluster: &TestCluster) -> Result<Self> {
        let mut rejected = BTreeMap::new();
        for primary in cluster.primaries()? {
            for replica in cluster.replicas_of(primary)? {
                for (name, statistics) in cluster.command_statistics(replica)? {
                    rejected.insert((replica, name), statistics.rejected);
                }
            }
        }
        Ok(Self { rejected })
    }

    /// A replica rejects what it has to redirect.
    fn nothing_was_refused(&self, cluster: &TestCluster) -> Result<()> {
        for (place, rejected) in Self::of(cluster)?.rejected {
            let before = self.rejected.get(&place).copied().unwrap_or(0);
            let (node, command) = place;
            ensure!(rejected == before, "replica {node} has rejected {} × {command}", rejected - before);
        }
        Ok(())
    }
}

/// How many GETs each running node has executed.
fn gets(cluster: &TestCluster) -> Result<BTreeMap<usize, u64>> {
    cluster.running().into_iter().map(|node| Ok((node, cluster.command_calls(node, "get")?))).collect()
}

/// Waits until every replica has all that its primary has.
fn settle(cluster: &TestCluster, shards: &[Shard]) -> Result<()> {
    for shard in shards {
        let replicas = cluster.replicas_of(shard.primary)?.len();
        // WAIT is about what its own connection has written.
        let mut connection = cluster.connection(shard.primary)?;
        connection.ok(&["SET", &format!("{{{}}}:settle", shard.tags[0]), "x"])?;
        let reached = connection.integer(&["WAIT", &replicas.to_string(), "5000"])?;
        ensure!(reached as usize == replicas, "{reached} of {replicas} replicas follow");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_killed_fails_no_read() -> Result<()> {
    survive(Fault::Killed).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_stops_fails_no_read() -> Result<()> {
    survive(Fault::Stopped).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_cut_off_fails_no_read() -> Result<()> {
    survive(Fault::CutOff).await
}
