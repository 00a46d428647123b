//! What the client tells of itself is what has happened: its events, its health reports and its
//! counters.
//!
//! A primary dies and comes back under a load: the events come in the order of what happened, and
//! say to whom. Events that nobody fetches are dropped and counted. PINGs tell the dead and the
//! stopped nodes from the living while the commands of others go on. The counters of each node are
//! those of a load whose numbers the test knows. And a topology that is old is asked for, so that a
//! slot's move is known without a MOVED. Under both protocols.

mod failover;
mod health;
mod log;
mod retries;
mod statistics;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Result, ensure};
use keyslot::{Client, EventKind, MovedSlots, ReplicaReads};
use keyslot_testcluster::{Error as ClusterError, TestCluster};
use keyslot_tests::load::{Load, shards};
use keyslot_tests::{PROTOCOLS, count, options, wait_until};
use tokio::sync::Mutex;

use failover::{Failover, ranges};
use health::{Elsewhere, Hurt, all_well, keep_asking, nodes};
use log::{Log, moved, quiet};
use retries::{CALLERS, RETRIES, burst};

/// How soon an event must be told, on a machine that does other things, too.
const SOON: Duration = Duration::from_secs(20);

/// These measure delays: two at a time would measure each other.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_is_told_as_it_happens() -> Result<()> {
    let _turn = ONE_AT_A_TIME.lock().await;
    let cluster = TestCluster::builder()
        .primaries(3)
        .replicas(1)
        .node_timeout_ms(1_000)
        // A replica that has just started says so instead of answering as if there were no keys.
        .args(["--cluster-require-full-coverage", "no", "--replica-serve-stale-data", "no"])
        .start()?;
    let shards = shards(&cluster)?;
    let victim = shards[0].primary;
    let heir = cluster.replicas_of(victim)?[0];
    let addresses = cluster.addresses();
    let slots = ranges(&cluster.slots_of(victim)?);
    let mut watched = Vec::new();
    for protocol in PROTOCOLS {
        // So that nodes are connected to again although they are replicas now.
        let given = options(&cluster.urls(), protocol).replica_reads(ReplicaReads::PreferReplica);
        let given = given.refresh_interval(Duration::from_secs(1));
        let client = Client::connect(given.request_timeout(Duration::from_secs(1))).await?;
        let log = Log::of(client.events());
        let load = Load::start(&client, &shards, &format!("{protocol:?}")).await?;
        load.warm().await?;
        watched.push((protocol, log, load));
    }

    let (killed_at, began) = (SystemTime::now(), Instant::now());
    cluster.kill(victim)?;
    cluster.wait_until_agreed()?;
    for (_, log, _) in &watched {
        log.holds("failed-over", |kind| matches!(kind, EventKind::FailedOver(_))).await?;
    }
    let restarted_at = SystemTime::now();
    cluster.restart(victim)?;
    cluster.wait_until_agreed()?;

    let (victim, heir) = (addresses[victim].clone(), addresses[heir].clone());
    let failover = Failover { victim, heir, slots, killed_at, restarted_at };
    let mut misnumbered = Vec::new();
    for (protocol, log, load) in watched {
        log.holds("reconnected to the old primary", |kind| failover.is_back(kind)).await?;
        // Replicas are behind by a little.
        let of_primaries = Client::connect(options(&cluster.urls(), protocol)).await?;
        let report = load.stop().await?;
        report.check(&of_primaries).await?;
        // What the machine made of commands for the shards that were well.
        let slow = report.delays(&[1, 2], &(began..Instant::now())).max;
        let events = log.stop();

        println!("{protocol:?}:\n  {}", failover.told(&events).join("\n  "));
        let attempts = failover.check(&events, slow)?;
        if !attempts.iter().copied().eq(1..=attempts.len() as u32) {
            misnumbered.push((protocol, attempts));
        }
    }
    ensure!(misnumbered.is_empty(), "the failed attempts in a row are numbered {misnumbered:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_nobody_fetches_are_dropped_and_counted() -> Result<()> {
    // By the component, and by the host for each who listens.
    const KEPT: u64 = 1_024 + 1_024;
    const BURSTS: u64 = 3;
    let (server, client) = retries::start().await?;

    // Nobody listens: what is kept is bounded, so the second time needs no more memory.
    let memory = burst(&client).await?;
    let grown = burst(&client).await?;
    ensure!(grown <= memory + (1 << 20), "memory grew from {memory} to {grown} bytes");

    // Somebody listens and does not fetch. What is told first is what was not told before.
    let mut events = client.events();
    quiet(&mut events).await;
    let before = count(&client.counters().await?, "retries");
    for _ in 0..BURSTS {
        burst(&client).await?;
    }
    let retries = count(&client.counters().await?, "retries") - before;
    ensure!(retries == CALLERS as u64 * RETRIES * BURSTS, "{retries} retries");
    let (mut received, mut missed) = (0, 0);
    let told = async || {
        while let Ok(Some(event)) = tokio::time::timeout(Duration::from_millis(50), events.next()).await {
            ensure!(received > 0 || event.missed > 0, "the first event is told not to be the first");
            received += 1;
            missed += event.missed;
        }
        ensure!(received + missed >= retries, "{received} were received, {missed} missed, of {retries}");
        Ok(true)
    };
    wait_until("every event is told or missed", SOON, told).await?;
    println!("{retries} retries: {received} events received, {missed} missed");
    ensure!(received <= KEPT, "{received} events were kept");
    ensure!(received + missed == retries, "{received} + {missed} events of {retries} retries");

    // From now on none is missed.
    quiet(&mut events).await;
    retries::each_is_told(&server, &client, &mut events).await?;
    drop(client);
    let end = tokio::time::timeout(SOON, events.next()).await?;
    ensure!(end.is_none(), "events of a client that is gone: {end:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn health_tells_the_dead_from_the_living() -> Result<()> {
    const REQUEST_TIMEOUT: Duration = Duration::from_millis(600);
    let _turn = ONE_AT_A_TIME.lock().await;
    // The cluster does nothing about dead nodes meanwhile.
    let cluster = TestCluster::builder().primaries(3).replicas(1).node_timeout_ms(60_000).start()?;
    let shards = shards(&cluster)?;
    let hurt = Hurt { killed: cluster.replicas_of(shards[0].primary)?[0], stopped: shards[1].primary };
    let elsewhere = Elsewhere::start().await?;
    let mut clients = Vec::new();
    for protocol in PROTOCOLS {
        let given = options(&cluster.urls(), protocol).request_timeout(REQUEST_TIMEOUT);
        let client = Client::connect(given).await?;
        all_well(&client, &elsewhere).await?;
        clients.push(client);
    }
    cluster.kill(hurt.killed)?;
    cluster.pause(hurt.stopped)?;
    for client in &clients {
        let topology = nodes(client).await?;
        ensure!(topology.len() == 6, "{topology:?}");

        // Others go on.
        let stop = Arc::new(AtomicBool::new(false));
        let others = [0, 2].map(|shard: usize| {
            let (client, stop) = (client.clone(), Arc::clone(&stop));
            tokio::spawn(keep_asking(client, format!("{{{}}}", shards[shard].tags[0]), stop))
        });
        for _ in 0..2 {
            let started = Instant::now();
            let reports = client.health().await?;
            let took = started.elapsed();
            let told: Vec<_> = reports.iter().map(|report| (report.address.clone(), report.role)).collect();
            ensure!(told == topology, "{told:?} instead of {topology:?}");
            ensure!(took < REQUEST_TIMEOUT + elsewhere.slow(), "the reports took {took:?}");
            hurt.check(&reports, &cluster, &elsewhere)?;
        }
        stop.store(true, Ordering::Relaxed);
        for other in others {
            let (slowest, commands) = other.await??;
            ensure!(
                slowest < elsewhere.slow() && commands > 20,
                "of {commands} commands of others one took {slowest:?}"
            );
        }
    }

    cluster.resume(hurt.stopped)?;
    cluster.restart(hurt.killed)?;
    cluster.wait_until_agreed()?;
    for client in &clients {
        wait_until("all are well", SOON, async || all_well(client, &elsewhere).await.map(|()| true)).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn statistics_add_up() -> Result<()> {
    let cluster = TestCluster::start(3, 0)?;
    let shards = shards(&cluster)?;
    for protocol in PROTOCOLS {
        let client = Client::connect(options(&cluster.urls(), protocol)).await?;
        statistics::run(&client, &shards).await?;
        statistics::check(&cluster, &client, &shards).await?;
        statistics::check_in_flight(&client, &shards[2]).await?;
        statistics::check_redirect(&cluster, &client, &shards).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_topology_is_asked_for_again() -> Result<()> {
    const INTERVAL: Duration = Duration::from_millis(200);
    let cluster = TestCluster::start(3, 0)?;
    let shards = shards(&cluster)?;
    let (slot, tag, other) = (shards[0].slot(0), &shards[0].tags[0], &shards[2].tags[0]);
    for protocol in PROTOCOLS {
        let client = Client::connect(options(&cluster.urls(), protocol).refresh_interval(INTERVAL)).await?;
        let log = Log::of(client.events());
        let key = format!("{{{tag}}}");
        client.execute(["SET", &key, "value"]).await?;
        let from = cluster.node_of_slot(slot)?;
        let to = shards[1].primary;
        let (before, now) = (&cluster.addresses()[from], &cluster.addresses()[to]);
        cluster.migrate_slot(slot, to)?;
        // The client is used, but nobody asks for that slot. What its commands take is what a
        // refresh takes, too.
        let mut slowest = Duration::ZERO;
        let known = async || {
            let asked_at = Instant::now();
            client.execute(["GET", other]).await?;
            slowest = slowest.max(asked_at.elapsed());
            Ok(client.node_for_key(key.as_bytes()).await? == *now)
        };
        let took = wait_until("the move is known", SOON, known).await?;
        println!("{protocol:?}: known after {took:?}");
        let bound = INTERVAL * 3 + slowest * 4;
        ensure!(took < bound, "the move is known after {took:?}, at most {bound:?}");
        let reply = client.execute(["GET", &key]).await?;
        ensure!(reply.as_str() == Some("value"), "{reply:?}");
        ensure!(count(&client.counters().await?, "moved") == 0, "a MOVED has told it");

        log.holds("topology-changed", |kind| matches!(kind, EventKind::TopologyChanged(_))).await?;
        let events = log.stop();
        let moved = moved(&events);
        let expected = MovedSlots {
            slots: keyslot::SlotRange { first: slot, last: slot },
            before: Some(before.clone()),
            now: Some(now.clone()),
        };
        ensure!(moved == [expected], "{moved:?}");
        let nodes = events.iter().any(|event| match &event.kind {
            EventKind::TopologyChanged(change) => !(change.joined.is_empty() && change.left.is_empty()),
            _ => false,
        });
        ensure!(!nodes, "nodes came or went: {events:?}");
        let refreshes = count(&client.counters().await?, "refreshes");

        // It goes on, no faster than that.
        let started = Instant::now();
        let more = async || {
            client.execute(["GET", other]).await?;
            Ok(count(&client.counters().await?, "refreshes") >= refreshes + 3)
        };
        wait_until("it is asked for again and again", SOON, more).await?;
        ensure!(started.elapsed() >= INTERVAL * 2, "three times within {:?}", started.elapsed());
        cluster.migrate_slot(slot, from)?;
        gossip(&cluster, slot, from)?;
    }
    Ok(())
}

/// Waits until all nodes know who serves a slot.
fn gossip(cluster: &TestCluster, slot: u16, owner: usize) -> Result<(), ClusterError> {
    cluster.wait_for(
        "all know the slot's owner",
        SOON,
        |cluster| Ok(cluster.node_of_slot(slot)? == owner),
    )?;
    cluster.wait_until_agreed()
}
