//! What the client tells of itself is what has happened: its events, its health reports and its
//! counters.
//!
//! A primary dies and comes back under a load: the events come in the order of what happened, and
//! say to whom. Events that nobody fetches are dropped and counted. PINGs tell the dead and the
//! stopped nodes from the living while the commands of others go on. The counters of each node are
//! those of a load whose numbers the test knows. And a topology that is old is asked for, so that a
//! slot's move is known without a MOVED. Under both protocols.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use keyslot::{
    Client, Error, Event, EventKind, Events, MovedSlots, NodeFailure, Options, Reconnection, ReplicaReads,
    Role, Takeover,
};
use keyslot_testcluster::{Error as ClusterError, TestCluster};
use keyslot_tests::control::Control;
use keyslot_tests::load::{Load, shards};
use keyslot_tests::{Answer, FakeServer, PROTOCOLS, count, options, wait_until, words};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

/// How soon an event must be told, on a machine that does other things, too.
const SOON: Duration = Duration::from_secs(20);
/// Events of one moment may be told to be so far apart, by a clock of whole milliseconds that is
/// set to a system time.
const CLOCK: Duration = Duration::from_millis(20);

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
    let (victim_address, heir_address) = (&cluster.addresses()[victim], &cluster.addresses()[heir]);
    let slots = ranges(&cluster.slots_of(victim)?);
    let is_back = |kind: &EventKind| matches!(kind, EventKind::Reconnected(reconnection) if reconnection.node == *victim_address);
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

    let mut misnumbered = Vec::new();
    for (protocol, log, load) in watched {
        log.holds("reconnected to the old primary", is_back).await?;
        // Replicas are behind by a little.
        let of_primaries = Client::connect(options(&cluster.urls(), protocol)).await?;
        let report = load.stop().await?;
        report.check(&of_primaries).await?;
        // What the machine made of commands for the shards that were well.
        let slow = report.delays(&[1, 2], &(began..Instant::now())).max;
        let events = log.stop();

        let of_failure: Vec<&Event> =
            events.iter().filter(|event| concerns(&event.kind, victim_address)).collect();
        let told: Vec<String> = of_failure.iter().map(|event| event.kind.to_string()).collect();
        println!("{protocol:?}:\n  {}", told.join("\n  "));
        ensure!(events.iter().all(|event| event.missed == 0), "events were missed: {told:#?}");
        ensure!(events.is_sorted_by_key(|event| event.at), "the times go back: {events:#?}");

        // First it is connected, then lost, then it cannot be connected to, then it is back.
        let position = |what: &str, is: &dyn Fn(&EventKind) -> bool| {
            events
                .iter()
                .position(|event| is(&event.kind))
                .with_context(|| format!("{what} was not told: {told:#?}"))
        };
        let lost = position(
            "disconnected",
            &|kind| matches!(kind, EventKind::Disconnected(failure) if failure.node == *victim_address),
        )?;
        let refused = position(
            "connect-failed",
            &|kind| matches!(kind, EventKind::ConnectFailed(failure) if failure.node == *victim_address),
        )?;
        let taken_over = position("failed-over", &|kind| matches!(kind, EventKind::FailedOver(_)))?;
        let changed = position(
            "topology-changed",
            &|kind| matches!(kind, EventKind::TopologyChanged(change) if !change.moved.is_empty()),
        )?;
        let back = position("reconnected", &is_back)?;
        ensure!(lost < refused && refused < taken_over, "out of order: {told:#?}");
        ensure!(taken_over < back && changed < back, "out of order: {told:#?}");
        let at = |position: usize| events[position].at;
        ensure!(at(lost) + CLOCK >= killed_at, "lost before it was killed");
        ensure!(at(lost) < killed_at + Duration::from_secs(1) + slow, "told late that it is lost");
        ensure!(at(changed).duration_since(at(taken_over))? <= CLOCK, "the change is that of the failover");
        ensure!(at(back) + CLOCK >= restarted_at, "there again before it was restarted");

        // Why, and how often.
        let EventKind::Disconnected(NodeFailure { reason, attempts, .. }) = &events[lost].kind else {
            bail!("not that");
        };
        ensure!(!reason.is_empty() && *attempts == 0, "{:?}", events[lost]);
        let attempts: Vec<u32> = events
            .iter()
            .filter_map(|event| match &event.kind {
                EventKind::ConnectFailed(failure) if failure.node == *victim_address => {
                    Some(failure.attempts)
                }
                _ => None,
            })
            .collect();
        if !attempts.iter().copied().eq(1..=attempts.len() as u32) {
            misnumbered.push((protocol, attempts.clone()));
        }
        let EventKind::Reconnected(Reconnection { after_ms, attempts: dialled, .. }) = &events[back].kind
        else {
            bail!("not that");
        };
        let away = at(back).duration_since(at(lost))?;
        let after = Duration::from_millis(*after_ms);
        ensure!(after.abs_diff(away) <= CLOCK, "told to be away for {after:?}, which was {away:?}");
        // The last attempt succeeded.
        let failed = attempts.len() as u32;
        ensure!(*dialled == failed + 1, "told to be dialled {dialled} times, of which {failed} failed");

        // Who took over, and what.
        let takeovers: Vec<_> = events
            .iter()
            .filter_map(|event| match &event.kind {
                EventKind::FailedOver(takeover) => Some(takeover),
                _ => None,
            })
            .collect();
        ensure!(takeovers.len() == 1, "one failover is told as {takeovers:?}");
        let Takeover { before, now } = takeovers[0];
        ensure!(before == victim_address && now == heir_address, "{takeovers:?}");
        let moved = moved(&events);
        let told: Vec<_> = moved.iter().map(|moved| (moved.slots.first, moved.slots.last)).collect();
        ensure!(told == slots, "the slots that moved are {slots:?}, not {told:?}");
        let (before, now) = (Some(victim_address.as_str()), Some(heir_address.as_str()));
        ensure!(
            moved.iter().all(|moved| moved.before.as_deref() == before && moved.now.as_deref() == now),
            "{moved:?}"
        );
    }
    ensure!(misnumbered.is_empty(), "the failed attempts in a row are numbered {misnumbered:?}");
    Ok(())
}

/// Whether the event is of this node, or of the topology.
fn concerns(kind: &EventKind, address: &str) -> bool {
    match kind {
        EventKind::Connected(node) => node == address,
        EventKind::ConnectFailed(failure) | EventKind::Disconnected(failure) => failure.node == address,
        EventKind::Reconnected(reconnection) => reconnection.node == address,
        EventKind::FailedOver(_) | EventKind::TopologyChanged(_) => true,
        EventKind::Retried(_) | EventKind::Refreshed(_) | EventKind::Refused(_) => false,
        EventKind::DescriptorsExhausted(_) => false,
    }
}

/// All slots that are told to have moved.
fn moved(events: &[Event]) -> Vec<MovedSlots> {
    let moved = events.iter().filter_map(|event| match &event.kind {
        EventKind::TopologyChanged(change) => Some(change.moved.clone()),
        _ => None,
    });
    moved.flatten().collect()
}

/// First and last of consecutive slots.
fn ranges(slots: &[u16]) -> Vec<(u16, u16)> {
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for &slot in slots {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == slot => *last = slot,
            _ => ranges.push((slot, slot)),
        }
    }
    ranges
}

/// The events as they come.
struct Log {
    events: Arc<std::sync::Mutex<Vec<Event>>>,
    task: JoinHandle<()>,
}

impl Log {
    fn of(mut events: Events) -> Self {
        let log = Arc::new(std::sync::Mutex::new(Vec::new()));
        let of_task = Arc::clone(&log);
        let task = tokio::spawn(async move {
            while let Some(event) = events.next().await {
                of_task.lock().expect("nobody panics with it").push(event);
            }
        });
        Self { events: log, task }
    }

    fn so_far(&self) -> Vec<Event> {
        self.events.lock().expect("nobody panics with it").clone()
    }

    /// Waits until an event like this has come.
    async fn holds(&self, what: &str, is: impl Fn(&EventKind) -> bool) -> Result<()> {
        let told = async || Ok(self.so_far().iter().any(|event| is(&event.kind)));
        let waited = wait_until(&format!("the event {what} is told"), SOON, told).await;
        waited
            .map(drop)
            .with_context(|| format!("{:#?}", self.so_far().iter().map(Event::to_string).collect::<Vec<_>>()))
    }

    fn stop(self) -> Vec<Event> {
        self.task.abort();
        self.so_far()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_nobody_fetches_are_dropped_and_counted() -> Result<()> {
    // By the component, and by the host for each who listens.
    const KEPT: u64 = 1_024 + 1_024;
    const CALLERS: usize = 50;
    const RETRIES: u64 = 100;
    const BURSTS: u64 = 3;
    // Every command is to be sent again, which is an event each.
    let server = FakeServer::start(|_, read| {
        let commands = read.iter().filter(|byte| **byte == b'*').count();
        Answer::Send(b"-TRYAGAIN later\r\n".repeat(commands))
    });
    let millisecond = Duration::from_millis(1);
    let given = Options::new([server.url()]).retry_backoff(millisecond, millisecond);
    let client = Client::connect(given.max_retries(RETRIES as u32)).await?;
    let burst = async || -> Result<u64> {
        let mut callers = Vec::new();
        for caller in 0..CALLERS {
            let client = client.clone();
            // With a key of its own: of one key the later would wait for the earlier.
            callers
                .push(tokio::spawn(async move { client.execute(["GET", &format!("key:{caller}")]).await }));
        }
        for caller in callers {
            let ended = caller.await?;
            ensure!(matches!(&ended, Err(Error::Server(error)) if error.code == "TRYAGAIN"), "{ended:?}");
        }
        client.memory().await.map_err(Into::into)
    };

    // Nobody listens: what is kept is bounded, so the second time needs no more memory.
    let memory = burst().await?;
    let grown = burst().await?;
    ensure!(grown <= memory + (1 << 20), "memory grew from {memory} to {grown} bytes");

    // Somebody listens and does not fetch. What is told first is what was not told before.
    let mut events = client.events();
    quiet(&mut events).await;
    let before = count(&client.counters().await?, "retries");
    for _ in 0..BURSTS {
        burst().await?;
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
    let before = count(&client.counters().await?, "retries");
    let error = client.execute(["GET", "key"]).await;
    ensure!(error.is_err(), "{error:?}");
    let retries = count(&client.counters().await?, "retries") - before;
    for number in 1..=retries {
        let event = tokio::time::timeout(SOON, events.next()).await?.context("the client is there")?;
        let EventKind::Retried(NodeFailure { node, reason, attempts }) = &event.kind else {
            bail!("{event} is no retry");
        };
        ensure!(server.url().ends_with(node.as_str()) && reason.contains("TRYAGAIN"), "{event}");
        ensure!(u64::from(*attempts) == number && event.missed == 0, "{event:?} is retry {number}");
    }
    drop(client);
    let end = tokio::time::timeout(SOON, events.next()).await?;
    ensure!(end.is_none(), "events of a client that is gone: {end:?}");
    Ok(())
}

/// Fetches events until none comes any more.
async fn quiet(events: &mut Events) {
    while let Ok(Some(_)) = tokio::time::timeout(Duration::from_millis(300), events.next()).await {}
}

#[tokio::test(flavor = "multi_thread")]
async fn health_tells_the_dead_from_the_living() -> Result<()> {
    const REQUEST_TIMEOUT: Duration = Duration::from_millis(600);
    const SLOW: Duration = Duration::from_millis(250);
    let _turn = ONE_AT_A_TIME.lock().await;
    // The cluster does nothing about dead nodes meanwhile.
    let cluster = TestCluster::builder().primaries(3).replicas(1).node_timeout_ms(60_000).start()?;
    let shards = shards(&cluster)?;
    let (killed, stopped) = (cluster.replicas_of(shards[0].primary)?[0], shards[1].primary);
    let elsewhere = Elsewhere::start().await?;
    let slow = || SLOW + elsewhere.slowest();
    let all_well = async |client: &Client| -> Result<()> {
        for report in client.health().await? {
            ensure!(matches!(report.answer, Ok(took) if took < slow()), "{report:?}");
        }
        Ok(())
    };
    let mut clients = Vec::new();
    for protocol in PROTOCOLS {
        let given = options(&cluster.urls(), protocol).request_timeout(REQUEST_TIMEOUT);
        let client = Client::connect(given).await?;
        all_well(&client).await?;
        clients.push(client);
    }
    cluster.kill(killed)?;
    cluster.pause(stopped)?;
    for client in &clients {
        let topology: Vec<(String, Role)> = client
            .topology()
            .await?
            .into_iter()
            .flat_map(|shard| shard.nodes)
            .map(|node| (node.address, node.role))
            .collect();
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
            ensure!(took < REQUEST_TIMEOUT + slow(), "the reports took {took:?}");
            for report in &reports {
                let node = cluster.addresses().iter().position(|address| *address == report.address);
                let is_right = match &report.answer {
                    Ok(took) => node != Some(killed) && node != Some(stopped) && *took < slow(),
                    Err(Error::Connect(_)) if node == Some(killed) => true,
                    // The PING got no answer, or, the second time, no connection.
                    Err(Error::Timeout(_) | Error::Connect(_)) if node == Some(stopped) => true,
                    Err(_) => false,
                };
                ensure!(is_right, "killed {killed}, stopped {stopped}: {report:?}");
            }
        }
        stop.store(true, Ordering::Relaxed);
        for other in others {
            let (slowest, commands) = other.await??;
            ensure!(
                slowest < slow() && commands > 20,
                "of {commands} commands of others one took {slowest:?}"
            );
        }
    }

    cluster.resume(stopped)?;
    cluster.restart(killed)?;
    cluster.wait_until_agreed()?;
    for client in &clients {
        wait_until("all are well", SOON, async || all_well(client).await.map(|()| true)).await?;
    }
    Ok(())
}

/// A client and a server to which nothing happens, and what its slowest command took so far.
struct Elsewhere {
    slowest_us: Arc<AtomicU64>,
    task: JoinHandle<()>,
    _control: Control,
}

impl Elsewhere {
    async fn start() -> Result<Self> {
        let control = Control::start(PROTOCOLS[1], |options| options).await?;
        let slowest_us = Arc::new(AtomicU64::new(0));
        let (client, of_task) = (control.client.clone(), Arc::clone(&slowest_us));
        let task = tokio::spawn(async move {
            let mut asked_at = Instant::now();
            while client.execute(["GET", "key"]).await.is_ok() {
                of_task.fetch_max(asked_at.elapsed().as_micros() as u64, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(1)).await;
                asked_at = Instant::now();
            }
        });
        Ok(Self { slowest_us, task, _control: control })
    }

    fn slowest(&self) -> Duration {
        Duration::from_micros(self.slowest_us.load(Ordering::Relaxed))
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Asks for a key until it is told to stop. Returns what the slowest command took, and how many
/// there were.
async fn keep_asking(client: Client, key: String, stop: Arc<AtomicBool>) -> Result<(Duration, usize)> {
    let (mut slowest, mut commands) = (Duration::ZERO, 0);
    while !stop.load(Ordering::Relaxed) {
        let started = Instant::now();
        client.execute(["GET", &key]).await?;
        slowest = slowest.max(started.elapsed());
        commands += 1;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok((slowest, commands))
}

#[tokio::test(flavor = "multi_thread")]
async fn statistics_add_up() -> Result<()> {
    const GETS: usize = 200;
    const WRONG: usize = 30;
    let cluster = TestCluster::start(3, 0)?;
    let shards = shards(&cluster)?;
    for protocol in PROTOCOLS {
        let client = Client::connect(options(&cluster.urls(), protocol)).await?;
        let value = "v".repeat(1_000);
        let tag = |shard: usize| shards[shard].tags[0].clone();
        for shard in 0..3 {
            client.execute(["SET", &format!("{{{}}}:s", tag(shard)), &value]).await?;
        }
        client.execute(["DEL", &format!("{{{}}}:l", tag(1))]).await?;
        client.execute(["RPUSH", &format!("{{{}}}:l", tag(1)), "x"]).await?;
        let mut commands = vec![words(&format!("GET {{{}}}:s", tag(0))); GETS];
        commands.extend(vec![words(&format!("GET {{{}}}:l", tag(1))); WRONG]);
        let results = client.pipeline(commands).await;
        let wrong = |result: &&Result<_, Error>| matches!(result, Err(Error::Server(error)) if error.code == "WRONGTYPE");
        ensure!(results.iter().filter(wrong).count() == WRONG, "WRONGTYPE");

        let statistics = statistics(&client).await?;
        let expected_commands = [1 + GETS, 3 + WRONG, 1];
        for (shard, expected) in expected_commands.into_iter().enumerate() {
            let address = &cluster.addresses()[shards[shard].primary];
            let of = |name: &str| statistics[address].get(name).copied().unwrap_or(0);
            ensure!(
                of("commands") == expected as u64,
                "{address}: {} commands, not {expected}",
                of("commands")
            );
            let errors = if shard == 1 { WRONG as u64 } else { 0 };
            ensure!(of("error-WRONGTYPE") == errors, "{address}: {} × WRONGTYPE", of("error-WRONGTYPE"));
            let codes: Vec<_> =
                statistics[address].keys().filter(|name| name.starts_with("error-")).collect();
            ensure!(codes.len() == usize::from(shard == 1), "{address}: {codes:?}");
            ensure!(of("in-flight") == 0, "{address}: {} in flight", of("in-flight"));
            ensure!(
                of("connects") == 1 && of("reconnects") == 0 && of("disconnects") == 0,
                "{:?}",
                statistics[address]
            );
            let latencies = ["p50", "p90", "p99", "max"].map(|which| of(&format!("latency-{which}-us")));
            ensure!(latencies[0] > 0 && latencies.is_sorted(), "{address}: latencies of {latencies:?} µs");
            ensure!((1..=latencies[3]).contains(&of("latency-smoothed-us")), "{:?}", statistics[address]);
        }
        let of_first = &statistics[&cluster.addresses()[shards[0].primary]];
        ensure!(of_first["bytes-in"] > (GETS * value.len()) as u64, "{of_first:?}");
        ensure!(of_first["bytes-out"] > (GETS * 25 + value.len()) as u64, "{of_first:?}");
        // The whole is the sum of its parts.
        let counters = client.counters().await?;
        let sum =
            |name: &str| statistics.values().map(|node| node.get(name).copied().unwrap_or(0)).sum::<u64>();
        for name in ["bytes-in", "bytes-out", "connects", "disconnects", "retries"] {
            let (whole, parts) = (count(&counters, name), sum(name));
            ensure!(whole == parts, "{name}: {whole} in all, {parts} of the nodes");
        }
        ensure!(count(&counters, "requests") == sum("commands"), "requests: {counters:?}");

        // Something under way.
        let connection = client.lend(Some(tag(2).as_bytes())).await?;
        let list = format!("{{{}}}:wait", tag(2));
        let popped = {
            let list = list.clone();
            tokio::spawn(async move { connection.execute(["BLPOP", &list, "4"]).await })
        };
        let in_flight = async || total(&client, "in-flight").await;
        wait_until("one is in flight", SOON, async || Ok(in_flight().await? == 1)).await?;
        client.execute(["RPUSH", &list, "element"]).await?;
        popped.await??;
        wait_until("none is in flight", SOON, async || Ok(in_flight().await? == 0)).await?;

        // A redirect is one, and an error reply.
        let (slot, from) = (shards[0].slot(0), shards[0].primary);
        let redirects = total(&client, "redirects").await?;
        cluster.migrate_slot(slot, shards[1].primary)?;
        client.execute(["GET", &format!("{{{}}}:s", tag(0))]).await?;
        let after = self::statistics(&client).await?;
        let of_first = &after[&cluster.addresses()[from]];
        ensure!(total(&client, "redirects").await? == redirects + 1, "one redirect: {of_first:?}");
        ensure!(of_first["redirects"] == 1 && of_first["error-MOVED"] == 1, "{of_first:?}");
        cluster.migrate_slot(slot, from)?;
    }
    Ok(())
}

/// The counters of each node by its address.
async fn statistics(client: &Client) -> Result<BTreeMap<String, BTreeMap<String, u64>>> {
    let by_name = |counters: Vec<keyslot::Counter>| {
        counters.into_iter().map(|counter| (counter.name, counter.value)).collect()
    };
    let nodes = client.statistics().await?;
    ensure!(nodes.is_sorted_by(|a, b| a.address < b.address), "not in order of the addresses");
    Ok(nodes.into_iter().map(|node| (node.address, by_name(node.counters))).collect())
}

/// A counter of all nodes together.
async fn total(client: &Client, name: &str) -> Result<u64> {
    Ok(client.statistics().await?.iter().map(|node| count(&node.counters, name)).sum())
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
