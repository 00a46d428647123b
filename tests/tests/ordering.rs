//! Commands for one key are executed in their order, also while its slot moves: a thousand
//! pipelines write and read the same keys, with one key and with several, and each read sees the
//! write before it.
//!
//! A thread moves the slots from primary to primary all the time, key by key, so that commands are
//! redirected by MOVED and ASK, and those with several keys have to wait (TRYAGAIN).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use keyslot::{Client, Reply, RespVersion};
use keyslot_core::slot::Slot;
use keyslot_testcluster::TestCluster;
use keyslot_tests::{PROTOCOLS, count, options, words};

const TAGS: usize = 4;
const PIPELINES: usize = 1_000;
/// How long the work of a test may take on a machine that does other things, too: nothing here is
/// about time.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(120);
/// Between two moves of the slot that goes to and fro.
const PAUSE: Duration = Duration::from_millis(50);

#[tokio::test(flavor = "multi_thread")]
async fn each_read_sees_the_write_before_it_while_slots_move() -> Result<()> {
    for protocol in PROTOCOLS {
        run(protocol).await.with_context(|| format!("{protocol:?}"))?;
    }
    Ok(())
}

async fn run(protocol: RespVersion) -> Result<()> {
    let cluster = Arc::new(TestCluster::start(3, 0)?);
    let client = Client::connect(options(&cluster.urls(), protocol).request_timeout(REQUEST_TIMEOUT)).await?;
    let done = Arc::new(AtomicBool::new(false));
    let mover = {
        let (cluster, done) = (Arc::clone(&cluster), Arc::clone(&done));
        tokio::task::spawn_blocking(move || move_slots(&cluster, &done))
    };
    // At least so many pipelines, and as many as it takes until a slot has moved under them.
    let mut round = 0;
    loop {
        round += 1;
        let outcome = write_and_read(&client, round).await;
        let counters = client.counters().await?;
        let met = count(&counters, "moved") > 0 && count(&counters, "ask") > 0;
        if outcome.is_err() || (round >= PIPELINES && (met || round >= 20 * PIPELINES)) {
            done.store(true, Ordering::SeqCst);
            mover.await??;
            outcome.with_context(|| format!("in pipeline {round}"))?;
            let number = |name| count(&counters, name);
            println!(
                "{protocol:?}: {round} pipelines, {} MOVED, {} ASK, {} retries",
                number("moved"),
                number("ask"),
                number("retries")
            );
            ensure!(met, "no slot moved under the pipelines");
            return Ok(());
        }
    }
}

/// Three writes of each tag, each with its read behind it, the last in a pipeline of its own that
/// is not waited for before the next.
async fn write_and_read(client: &Client, round: usize) -> Result<()> {
    let mut first = Vec::new();
    let mut second = Vec::new();
    for tag in 0..TAGS {
        let key = |name: &str| format!("{{slot-{tag}}}:{name}");
        first.push(words(&format!("SET {} {round}", key("a"))));
        first.push(words(&format!("GET {}", key("a"))));
        first.push(words(&format!("MSET {} {round} {} {round}", key("b"), key("c"))));
        first.push(words(&format!("GET {}", key("c"))));
        first.push(words(&format!("SET {} later", key("a"))));
        second.push(words(&format!("GET {}", key("a"))));
    }
    let (first, second) = tokio::join!(client.pipeline(first), client.pipeline(second));
    let read = |reply: &Result<Reply, keyslot::Error>, expected: &str| -> Result<()> {
        let reply = reply.as_ref().map_err(Clone::clone)?;
        ensure!(reply.as_str() == Some(expected), "{reply:?} is not {expected}");
        Ok(())
    };
    let round = round.to_string();
    for (tag, (first, second)) in first.chunks(5).zip(&second).enumerate() {
        let seen = [
            read(&first[0], "OK"),
            read(&first[1], &round),
            read(&first[2], "OK"),
            read(&first[3], &round),
            read(&first[4], "OK"),
            read(second, "later"),
        ];
        for (number, seen) in seen.into_iter().enumerate() {
            seen.with_context(|| format!("tag {tag}, command {number}"))?;
        }
    }
    Ok(())
}

fn move_slots(cluster: &TestCluster, done: &AtomicBool) -> Result<()> {
    let primaries = cluster.primaries()?;
    for turn in 0.. {
        let slot = Slot::of_key(format!("slot-{}", turn % TAGS).as_bytes()).number();
        let from = cluster.node_of_slot(slot)?;
        let place =
            primaries.iter().position(|primary| *primary == from).context("a primary has the slot")?;
        cluster.start_slot_migration(slot, from, primaries[(place + 1) % primaries.len()])?;
        while cluster.migrate_keys(slot, 1)? > 0 {}
        cluster.finish_slot_migration(slot)?;
        if done.load(Ordering::SeqCst) {
            break;
        }
    }
    Ok(())
}

/// A read that is refused because an earlier write still waits has read too early, too.
#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_fails_before_its_write_is_made_again() -> Result<()> {
    for protocol in PROTOCOLS {
        let cluster = TestCluster::start(2, 0)?;
        let client =
            Client::connect(options(&cluster.urls(), protocol).request_timeout(REQUEST_TIMEOUT)).await?;
        client.execute(["RPUSH", "{t}list", "a"]).await?;
        client.execute(["SET", "{t}text", "a"]).await?;
        // One of the keys is moved, the other is not: commands with both have to wait.
        let slot = Slot::of_key(b"t").number();
        let from = cluster.node_of_slot(slot)?;
        cluster.start_slot_migration(slot, from, 1 - from)?;
        let target = &cluster.nodes()[1 - from];
        let port = cluster.ports()[1 - from].to_string();
        let mut source = cluster.connection(from)?;
        source.call(&["MIGRATE", "127.0.0.1", &port, "{t}text", "0", "5000"])?;
        let pipeline = ["MSET {t}list 1 {t}text 2", "GET {t}list", "STRLEN {t}list", "GET {t}text"];
        let finish = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            while cluster.migrate_keys(slot, 1)? > 0 {}
            cluster.finish_slot_migration(slot)
        };
        let (replies, finished) = tokio::join!(client.pipeline(pipeline.map(words).to_vec()), finish);
        finished.with_context(|| format!("to {}", target.address()))?;
        let text: Vec<_> = replies
            .into_iter()
            .map(|reply| {
                reply.map(|reply| {
                    reply.as_str().map_or(reply.as_integer().unwrap_or(-1).to_string(), str::to_owned)
                })
            })
            .collect::<Result<_, _>>()?;
        ensure!(text == ["OK", "1", "1", "2"], "{protocol:?}: {text:?}");
    }
    Ok(())
}

/// A counter whose slot is moved to and fro without a pause, while long pipelines count: nothing
/// that was acknowledged is lost, nothing is counted twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_counter_counts_each_command_once_while_its_slot_goes_to_and_fro() -> Result<()> {
    const CALLERS: usize = 6;
    const COMMANDS: usize = 40_000;
    /// So often the slot must have moved meanwhile.
    const MOVES_MIN: usize = 10;
    for protocol in PROTOCOLS {
        let cluster = Arc::new(TestCluster::start(3, 0)?);
        let client =
            Client::connect(options(&cluster.urls(), protocol).request_timeout(REQUEST_TIMEOUT)).await?;
        let (done, moves) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mover = {
            let (cluster, done, moves) = (Arc::clone(&cluster), Arc::clone(&done), Arc::clone(&moves));
            tokio::task::spawn_blocking(move || move_to_and_fro(&cluster, &done, &moves))
        };
        let callers: Vec<_> = (0..CALLERS)
            .map(|_| {
                let client = client.clone();
                let moves = Arc::clone(&moves);
                tokio::spawn(async move {
                    let mut replies = Vec::new();
                    // On a fast machine one pipeline is over before there was much to meet.
                    while replies.is_empty() || moves.load(Ordering::SeqCst) <= MOVES_MIN {
                        replies.extend(client.pipeline(vec![words("INCR {to-and-fro}"); COMMANDS]).await);
                    }
                    replies
                })
            })
            .collect();
        let (mut acknowledged, mut in_doubt, mut refused, mut turned) = (0i64, 0i64, 0usize, 0usize);
        for caller in callers {
            let mut last = 0;
            for reply in caller.await? {
                match reply {
                    Ok(reply) => {
                        let value = reply.as_integer().context("INCR answers with a number")?;
                        turned += usize::from(value < last);
                        last = value;
                        acknowledged += 1;
                    }
                    Err(error) if error.possibly_executed() => in_doubt += 1,
                    Err(_) => refused += 1,
                }
            }
        }
        done.store(true, Ordering::SeqCst);
        mover.await??;
        let moves = moves.load(Ordering::SeqCst);
        let value = client.execute(["GET", "{to-and-fro}"]).await?;
        let value: i64 = value.as_str().context("a number")?.parse()?;
        println!(
            "{protocol:?}: {moves} moves, {acknowledged} acknowledged, {in_doubt} in doubt, {refused} refused, \
             {turned} out of order, counter {value}"
        );
        ensure!(acknowledged <= value, "{acknowledged} were acknowledged, the counter is at {value}");
        ensure!(value <= acknowledged + in_doubt, "{value} were counted, {acknowledged} are known");
        ensure!(refused == 0, "{refused} were refused");
        ensure!(moves > MOVES_MIN, "only {moves} moves");
    }
    Ok(())
}

/// Moves one slot between two nodes until it is enough, and counts how often.
fn move_to_and_fro(cluster: &TestCluster, done: &AtomicBool, moves: &AtomicUsize) -> Result<()> {
    let slot = Slot::of_key(b"{to-and-fro}").number();
    let from = cluster.node_of_slot(slot)?;
    let to = cluster.primaries()?.into_iter().find(|node| *node != from).context("another primary")?;
    while !done.load(Ordering::SeqCst) {
        let (from, to) = if moves.load(Ordering::SeqCst).is_multiple_of(2) { (from, to) } else { (to, from) };
        cluster.start_slot_migration(slot, from, to)?;
        while cluster.migrate_keys(slot, 1)? > 0 {}
        cluster.finish_slot_migration(slot)?;
        moves.fetch_add(1, Ordering::SeqCst);
        // An ASK that reaches its node after the slot has gone there, back, and is on its way there
        // again, is one that no client can tell from a good one.
        std::thread::sleep(PAUSE);
    }
    Ok(())
}
