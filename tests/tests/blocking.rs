//! Commands that block hold nobody up, wait as long as they say, find their slot where it has gone,
//! and take nothing for a caller who has given up. Under both protocols.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use keyslot::{Client, Error, Reply, ReplyRef, RespVersion, Route};
use keyslot_core::slot::Slot;
use keyslot_testcluster::TestCluster;
use keyslot_tests::{PROTOCOLS, options, wait_until, words};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// How soon what was asked for must be so, on a machine that does other things, too.
const SOON: Duration = Duration::from_secs(20);

/// Runs a command beside what follows.
fn spawn(client: &Client, line: &str) -> JoinHandle<Result<Reply, Error>> {
    let (client, command) = (client.clone(), words(line));
    tokio::spawn(async move { client.execute(command).await })
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_taken_for_a_caller_who_has_given_up() -> Result<()> {
    for protocol in PROTOCOLS {
        let cluster = TestCluster::start(3, 0)?;
        let client = Client::connect(options(&cluster.urls(), protocol)).await?;
        for round in 0..100 {
            let key = format!("list:{round}");
            let blocked = client.execute(["BLPOP", &key, "0"]);
            ensure!(timeout(Duration::from_millis(5), blocked).await.is_err(), "there was nothing to pop");
            // Another connection of another process pushes, once the server has heard of it.
            let node = cluster.node_of_slot(Slot::of_key(key.as_bytes()).number())?;
            let mut other = cluster.connection(node)?;
            wait_until("nobody blocks", SOON, async || {
                Ok(cluster.connection(node)?.string(&["INFO", "clients"])?.contains("blocked_clients:0"))
            })
            .await?;
            other.call(&["RPUSH", &key, "element"])?;
            let left = client.execute(["LLEN", &key]).await?;
            ensure!(left.as_integer() == Some(1), "{protocol:?}, round {round}: {left:?}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn they_wait_as_long_as_they_say_and_hold_nobody_up() -> Result<()> {
    for protocol in PROTOCOLS {
        let cluster = TestCluster::start(3, 0)?;
        let short = options(&cluster.urls(), protocol).request_timeout(Duration::from_millis(800));
        let client = Client::connect(short).await?;
        let started = Instant::now();
        let lines = ["BLPOP {t}list 1.2", "BZPOPMIN {t}set 1.2", "XREAD BLOCK 1200 STREAMS {t}stream $"];
        let waiting = lines.map(|line| spawn(&client, line));
        let mut rounds = 0;
        // One that is held up is answered when they have ended.
        while !waiting.iter().any(JoinHandle::is_finished) {
            client.execute(["SET", "{t}other", "x"]).await?;
            rounds += 1;
        }
        ensure!(rounds > 3, "only {rounds} commands were answered beside them");
        for (line, outcome) in lines.iter().zip(waiting) {
            let reply = outcome.await?.with_context(|| (*line).to_owned())?;
            ensure!(reply.is_null(), "{line}: {reply:?}");
        }
        ensure!(started.elapsed() >= Duration::from_millis(1_200), "{:?}", started.elapsed());
        println!("{protocol:?}: {rounds} commands beside them");

        // Longer than any time-out, until there is something.
        let popped = spawn(&client, "BLMOVE {t}from {t}to LEFT RIGHT 0");
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        client.execute(["RPUSH", "{t}from", "element"]).await?;
        let reply = timeout(SOON, popped).await???;
        ensure!(reply.as_str() == Some("element"), "{reply:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn they_follow_their_slot() -> Result<()> {
    for protocol in PROTOCOLS {
        follows(protocol).await.with_context(|| format!("{protocol:?}"))?;
    }
    Ok(())
}

async fn follows(protocol: RespVersion) -> Result<()> {
    let cluster = TestCluster::start(3, 0)?;
    let client = Client::connect(options(&cluster.urls(), protocol)).await?;
    let slot = Slot::of_key(b"list").number();
    let from = cluster.node_of_slot(slot)?;
    // Before it is sent, and while it waits there.
    cluster.migrate_slot(slot, (from + 1) % 3)?;
    let popped = spawn(&client, "BLPOP list 0");
    let is_blocked = |node: usize| -> Result<bool> {
        let clients = cluster.connection(node)?.string(&["INFO", "clients"])?;
        Ok(clients.contains("blocked_clients:1"))
    };
    wait_until("it blocks at the new owner", SOON, async || is_blocked((from + 1) % 3)).await?;
    cluster.migrate_slot(slot, (from + 2) % 3)?;
    wait_until("it blocks at the next", SOON, async || is_blocked((from + 2) % 3)).await?;
    client.execute(["RPUSH", "list", "element"]).await?;
    let reply = timeout(SOON, popped).await???;
    ensure!(reply.children().nth(1).and_then(ReplyRef::as_str) == Some("element"), "{reply:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_gives_up_leaves_nothing_blocked() -> Result<()> {
    let cluster = TestCluster::start(3, 0)?;
    let client = Client::connect(options(&cluster.urls(), RespVersion::Auto)).await?;
    let node = cluster.node_of_slot(Slot::of_key(b"list").number())?;
    let nobody_blocks = || {
        wait_until("nobody blocks", SOON, async || {
            let clients = cluster.connection(node)?.string(&["INFO", "clients"])?;
            Ok(clients.contains("blocked_clients:0"))
        })
    };
    // In a pipeline so long that it is still being handed in.
    for _ in 0..3 {
        let mut commands = vec![words("BLPOP list 0")];
        commands.resize(150_001, words("SET other x"));
        ensure!(timeout(Duration::from_millis(700), client.pipeline(commands)).await.is_err());
        nobody_blocks().await?;
    }
    // Over a lent connection, and at a node of one's choice.
    let lent = client.lend(Some(b"list")).await?;
    ensure!(timeout(Duration::from_millis(100), lent.execute(words("BLPOP list 0"))).await.is_err());
    nobody_blocks().await?;
    let at = Route::Node(cluster.nodes()[node].address());
    let chosen = client.execute_on(at, words("BLPOP list 0"));
    ensure!(timeout(Duration::from_millis(100), chosen).await.is_err());
    nobody_blocks().await?;
    client.execute(["RPUSH", "list", "element"]).await?;
    ensure!(client.execute(["LLEN", "list"]).await?.as_integer() == Some(1));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_ends_what_blocks() -> Result<()> {
    let cluster = TestCluster::start(3, 0)?;
    let options = options(&cluster.urls(), RespVersion::Auto).request_timeout(Duration::from_secs(1));
    let client = Client::connect(options).await?;
    let blocked = spawn(&client, "BLPOP list 0");
    client.execute(["PING"]).await?;
    let other = client.clone();
    let closing = tokio::spawn(async move { other.close().await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let late = timeout(SOON, client.execute(["GET", "a"])).await?;
    ensure!(matches!(late, Err(Error::Closed)), "{late:?}");
    timeout(SOON, closing).await??;
    let ended = timeout(SOON, blocked).await??;
    ensure!(matches!(ended, Err(Error::Closed)), "{ended:?}");
    Ok(())
}
