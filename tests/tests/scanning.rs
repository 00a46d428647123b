//! Scans on real clusters: every key that was there throughout comes, while 2,000 slots move and a
//! replica takes over; a token goes on in another client; hashes, sets and sorted sets whose slot
//! moves; what a dead shard does.
//!
//! Where keys must come exactly once, nothing moves; elsewhere they may come more than once, and
//! none may be missing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use keyslot::{Client, Error, RespVersion, Scan, ScanOptions};
use keyslot_core::slot::Slot;
use keyslot_testcluster::{TestCluster, TestServer};
use keyslot_tests::{PROTOCOLS, options};

const KEYS: usize = 100_000;
/// How many slots move while they are scanned.
const MOVES: usize = 2_000;
/// How many of them between two looks at who owns what.
const MOVES_AT_ONCE: usize = 50;

#[tokio::test(flavor = "multi_thread")]
async fn no_key_is_missed_while_slots_move_and_a_replica_takes_over() -> Result<()> {
    let (first, last) = (PROTOCOLS[0], PROTOCOLS[PROTOCOLS.len() - 1]);
    for (protocol, parallel) in [(first, 1), (last, 3)] {
        under_moves(protocol, parallel).await.with_context(|| format!("{protocol:?}, {parallel}"))?;
    }
    Ok(())
}

async fn under_moves(protocol: RespVersion, parallel: u32) -> Result<()> {
    let cluster = Arc::new(TestCluster::start(3, 1)?);
    let client = Client::connect(options(&cluster.urls(), protocol)).await?;
    fill(&client, KEYS).await?;
    let done = Arc::new(AtomicBool::new(false));
    let moved = Arc::new(AtomicUsize::new(0));
    let mover = {
        let (cluster, done, moved) = (Arc::clone(&cluster), Arc::clone(&done), Arc::clone(&moved));
        tokio::task::spawn_blocking(move || -> Result<()> {
            let result = move_slots(&cluster, &moved);
            done.store(true, Ordering::SeqCst);
            result
        })
    };

    // One scan goes slowly through all of it, others are made one after the other meanwhile.
    let mut slow = client.scan(ScanOptions::new().count(100).parallel(parallel)).await?;
    let mut slow_keys = BTreeSet::new();
    let mut scans = 0;
    while !done.load(Ordering::SeqCst) {
        let mut scan = client.scan(ScanOptions::new().parallel(parallel)).await?;
        let mut keys = BTreeSet::new();
        while let Some(batch) = scan.next().await? {
            keys.extend(batch);
            for _ in 0..3 {
                slow_keys.extend(slow.next().await?.unwrap_or_default());
            }
        }
        check(&keys).with_context(|| format!("scan {scans}"))?;
        scans += 1;
    }
    mover.await??;
    slow_keys.extend(rest(&mut slow).await?);
    check(&slow_keys)?;
    println!(
        "{protocol:?}, {parallel} at a time: {scans} scans while {} slots moved",
        moved.load(Ordering::SeqCst)
    );
    ensure!(moved.load(Ordering::SeqCst) == MOVES && scans > 0);
    Ok(())
}

/// Slots go from each primary to the next, some at a time; in the middle a replica takes over.
fn move_slots(cluster: &TestCluster, moved: &AtomicUsize) -> Result<()> {
    for round in 0..MOVES / MOVES_AT_ONCE {
        if round == MOVES / MOVES_AT_ONCE / 2 {
            let primary = cluster.primaries()?[0];
            cluster.failover(cluster.replicas_of(primary)?[0])?;
        }
        let primaries = cluster.primaries()?;
        let (from, to) = (primaries[round % primaries.len()], primaries[(round + 1) % primaries.len()]);
        let slots: Vec<_> = cluster.slots_of(from)?.into_iter().take(MOVES_AT_ONCE).collect();
        cluster.migrate_slots(&slots, from, to)?;
        moved.fetch_add(slots.len(), Ordering::SeqCst);
    }
    Ok(())
}

async fn fill(client: &Client, keys: usize) -> Result<()> {
    let commands = (0..keys).map(|number| ["SET".into(), key(number), "value".into()]);
    let commands = commands.map(|words| words.map(String::into_bytes).to_vec()).collect();
    for result in client.pipeline(commands).await {
        result?;
    }
    Ok(())
}

fn key(number: usize) -> String {
    format!("key:{number}")
}

fn check(keys: &BTreeSet<Vec<u8>>) -> Result<()> {
    let missing: Vec<_> = (0..KEYS).map(key).filter(|key| !keys.contains(key.as_bytes())).collect();
    let slots: Vec<_> = missing.iter().take(5).map(|key| (key, Slot::of_key(key.as_bytes()))).collect();
    ensure!(missing.is_empty(), "{} keys are missing, as {slots:?}", missing.len());
    ensure!(keys.len() == KEYS, "{} keys that nobody has written", keys.len() - KEYS);
    Ok(())
}

async fn rest(scan: &mut Scan) -> Result<Vec<Vec<u8>>> {
    let mut all = Vec::new();
    while let Some(batch) = scan.next().await? {
        all.extend(batch);
    }
    Ok(all)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_calm_cluster_gives_each_key_once() -> Result<()> {
    let cluster = TestCluster::start(3, 0)?;
    for protocol in PROTOCOLS {
        fill(&Client::connect(options(&cluster.urls(), protocol)).await?, 10_000).await?;
        let client = Client::connect(options(&cluster.urls(), protocol)).await?;
        let memory = client.memory().await?;
        for parallel in [1, 2, 10] {
            let mut scan = client.scan(ScanOptions::new().parallel(parallel)).await?;
            let keys = rest(&mut scan).await?;
            ensure!(keys.len() == 10_000, "{} keys", keys.len());
            ensure!(keys.iter().collect::<BTreeSet<_>>().len() == 10_000);
            ensure!(scan.next().await?.is_none(), "the end stays the end");
        }
        let grown = client.memory().await? - memory;
        ensure!(grown < 1 << 20, "the component's memory has grown by {grown} bytes");
        let mut some = client.scan(ScanOptions::new().pattern("key:77*").count(50)).await?;
        ensure!(rest(&mut some).await?.len() == 111);
        client.execute(["SADD", "a set", "x"]).await?;
        let mut sets = client.scan(ScanOptions::new().key_type("set")).await?;
        ensure!(rest(&mut sets).await? == [b"a set"]);
        client.execute(["DEL", "a set"]).await?;
        let mut of_nodes = 0;
        for node in cluster.addresses() {
            of_nodes += rest(&mut client.scan(ScanOptions::new().node(node)).await?).await?.len();
        }
        ensure!(of_nodes == 10_000, "{of_nodes} keys of all nodes");
        let wrong = client.scan(ScanOptions::new().node("nowhere")).await;
        ensure!(matches!(&wrong, Err(Error::InvalidArgument(_))), "{wrong:?}");
        let wrong = client.scan(ScanOptions::new().token("token")).await;
        ensure!(matches!(&wrong, Err(Error::InvalidArgument(_))), "{wrong:?}");
    }
    Ok(())
}

/// A new client for each batch: each goes on where the last one was.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_goes_on_in_another_client() -> Result<()> {
    let cluster = TestCluster::start(3, 0)?;
    let client = Client::connect(options(&cluster.urls(), PROTOCOLS[0])).await?;
    fill(&client, 5_000).await?;
    for parallel in [1, 3] {
        let (mut keys, mut token) = (Vec::new(), None::<Vec<u8>>);
        loop {
            let client = Client::connect(options(&cluster.urls(), PROTOCOLS[0])).await?;
            let mut how = ScanOptions::new().parallel(parallel).count(500);
            if let Some(token) = token {
                how = how.token(token);
            }
            let mut scan = client.scan(how).await?;
            let Some(batch) = scan.next().await? else { break };
            keys.extend(batch);
            token = Some(scan.token().await?);
        }
        ensure!(keys.len() == 5_000, "{} keys", keys.len());
        ensure!(keys.iter().collect::<BTreeSet<_>>().len() == 5_000);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn hashes_and_sets_are_scanned_while_their_slot_moves() -> Result<()> {
    let cluster = TestCluster::start(3, 0)?;
    for protocol in PROTOCOLS {
        let client = Client::connect(options(&cluster.urls(), protocol)).await?;
        let members: Vec<String> = (0..5_000).map(|number| format!("member:{number}")).collect();
        let pairs = members.iter().enumerate().map(|(score, name)| [score.to_string(), name.clone()]);
        let with = |words: [&str; 2], more: Vec<String>| {
            words.iter().map(ToString::to_string).chain(more).collect::<Vec<_>>()
        };
        let flat: Vec<String> = pairs.flatten().collect();
        client.execute(["DEL", "{k}h", "{k}s", "{k}z"]).await?;
        let swapped: Vec<String> =
            flat.chunks(2).flat_map(|pair| [pair[1].clone(), pair[0].clone()]).collect();
        client.execute(with(["HSET", "{k}h"], swapped)).await?;
        client.execute(with(["SADD", "{k}s"], members.clone())).await?;
        client.execute(with(["ZADD", "{k}z"], flat)).await?;
        let all: BTreeSet<_> = members.iter().map(|name| name.clone().into_bytes()).collect();
        let scores: BTreeSet<_> =
            members.iter().map(|name| (name.clone().into_bytes(), name.as_bytes()[7..].to_vec())).collect();

        let how = || ScanOptions::new().count(100);
        let mut hash = client.hscan(b"{k}h", how()).await?;
        let mut set = client.sscan(b"{k}s", how()).await?;
        let mut sorted = client.zscan(b"{k}z", how()).await?;
        let mut firsts = Vec::new();
        for scan in [&mut hash, &mut set, &mut sorted] {
            firsts.push(scan.next().await?.context("a batch")?);
        }
        let slot = Slot::of_key(b"{k}h").number();
        let primaries = cluster.primaries()?;
        let owner = cluster.node_of_slot(slot)?;
        let other = primaries.iter().find(|primary| **primary != owner).context("another primary")?;
        cluster.migrate_slot(slot, *other)?;
        let pairs = |flat: Vec<Vec<u8>>| -> BTreeSet<_> {
            flat.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect()
        };
        firsts[0].extend(rest(&mut hash).await?);
        firsts[1].extend(rest(&mut set).await?);
        firsts[2].extend(rest(&mut sorted).await?);
        ensure!(pairs(firsts.remove(0)) == scores, "the hash");
        ensure!(firsts.remove(0).into_iter().collect::<BTreeSet<_>>() == all, "the set");
        ensure!(pairs(firsts.remove(0)) == scores, "the sorted set");

        client.execute(["SET", "text", "x"]).await?;
        let wrong = client.hscan(b"text", ScanOptions::new()).await?.next().await;
        ensure!(matches!(&wrong, Err(Error::Server(error)) if error.code == "WRONGTYPE"), "{wrong:?}");
        ensure!(client.sscan(b"nothing", ScanOptions::new()).await?.next().await?.is_none());
        let no_token = client.sscan(b"nothing", ScanOptions::new()).await?.token().await;
        ensure!(matches!(&no_token, Err(Error::InvalidArgument(_))), "{no_token:?}");
    }
    Ok(())
}

/// The other shards' keys come, then an error says what is missing; when the shard is there again
/// the scan goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_shard_is_told_and_waited_for() -> Result<()> {
    let cluster = TestCluster::builder().primaries(3).arg("--cluster-require-full-coverage", "no").start()?;
    let how = options(&cluster.urls(), PROTOCOLS[0]).request_timeout(Duration::from_secs(2));
    let client = Client::connect(how).await?;
    fill(&client, 3_000).await?;
    cluster.kill(1)?;
    let mut scan = client.scan(ScanOptions::new()).await?;
    let mut keys = Vec::new();
    let error = loop {
        match scan.next().await {
            Ok(batch) => keys.extend(batch.context("the scan is not at its end")?),
            Err(error) => break error,
        }
    };
    ensure!(matches!(error, Error::Connect(_) | Error::ConnectionLost(_)), "{error:?}");
    ensure!((1_500..2_500).contains(&keys.len()), "{} keys of two shards", keys.len());
    cluster.restart(1)?;
    keys.extend(rest(&mut scan).await?);
    // It has started without its keys; those of the others are not missed.
    ensure!(keys.iter().collect::<BTreeSet<_>>().len() == keys.len(), "keys come twice");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_alone_is_scanned() -> Result<()> {
    let server = TestServer::start()?;
    let client = Client::connect(options(&[server.url()], PROTOCOLS[0])).await?;
    fill(&client, 5_000).await?;
    let mut scan = client.scan(ScanOptions::new().count(100)).await?;
    let mut keys = scan.next().await?.context("a batch")?;
    let token = scan.token().await?;
    keys.extend(rest(&mut client.scan(ScanOptions::new().token(token)).await?).await?);
    ensure!(keys.len() == 5_000, "{} keys", keys.len());
    client.close().await;
    ensure!(matches!(scan.next().await, Err(Error::Closed)));
    ensure!(matches!(scan.token().await, Err(Error::Closed)));
    Ok(())
}

/// A slot that its node gives away and nobody takes: its keys come, and then an error, again and
/// again, instead of an end that would not be true or keys without end.
#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_nobody_takes_ends_in_an_error() -> Result<()> {
    let cluster = TestCluster::start(3, 0)?;
    let client = Client::connect(options(&cluster.urls(), RespVersion::Auto)).await?;
    fill(&client, 1_000).await?;
    let slot = Slot::of_key(key(1).as_bytes()).number();
    let from = cluster.node_of_slot(slot)?;
    let to = cluster.nodes()[(from + 1) % 3].id().to_owned();
    cluster.connection(from)?.ok(&["CLUSTER", "SETSLOT", &slot.to_string(), "MIGRATING", &to])?;
    let mut scan = client.scan(ScanOptions::new()).await?;
    let mut keys = Vec::new();
    let error = loop {
        match scan.next().await {
            Ok(batch) => keys.extend(batch.context("the scan cannot end")?),
            Err(error) => break error,
        }
        ensure!(keys.len() < 3_000, "{} keys", keys.len());
    };
    ensure!(matches!(error, Error::ClusterDown(_)), "{error:?}");
    ensure!(keys.iter().collect::<BTreeSet<_>>().len() == 1_000);
    cluster.connection(from)?.ok(&["CLUSTER", "SETSLOT", &slot.to_string(), "STABLE"])?;
    rest(&mut scan).await.context("it goes on once the slot is settled")?;
    Ok(())
}
