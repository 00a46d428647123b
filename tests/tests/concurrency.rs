//! Callers that share one client do not wait for each other: commands for one node are answered
//! while another node stalls or blocks, calls go by another caller's long pipeline, and one
//! caller's commands for one key stay in order. Under both protocols.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use keyslot::{Client, Error};
use keyslot_core::slot::Slot;
use keyslot_testcluster::TestCluster;
use keyslot_tests::{PROTOCOLS, options, words};
use tokio::task::JoinSet;

/// The time-out of requests that are to wait for a stalled node, or for much work, and not to time
/// out.
const PATIENCE: Duration = Duration::from_secs(90);

/// Keys that this node serves.
fn keys_at(cluster: &TestCluster, node: usize, count: usize) -> Result<Vec<String>> {
    let mut keys = Vec::new();
    for number in 0.. {
        let key = format!("key:{number}");
        if cluster.node_of_slot(Slot::of_key(key.as_bytes()).number())? == node {
            keys.push(key);
        }
        if keys.len() == count {
            break;
        }
    }
    Ok(keys)
}

/// Waits until the client has taken as many requests.
async fn until_requests(client: &Client, number: u64) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if requests(client).await? >= number {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "the requests do not reach the component");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn requests(client: &Client) -> Result<u64> {
    let counters = client.counters().await?;
    let counter = counters.iter().find(|counter| counter.name == "requests").context("no such counter")?;
    Ok(counter.value)
}

/// How long a thousand commands take, from eight tasks and one after the other in each.
async fn thousand(client: &Client, keys: &[String]) -> Result<Duration> {
    let started = Instant::now();
    let mut tasks = JoinSet::new();
    for task in 0..8 {
        let (client, key) = (client.clone(), keys[task % keys.len()].clone());
        tasks.spawn(async move {
            for _ in 0..125 {
                client.execute(["SET", key.as_str(), "value"]).await?;
            }
            Ok::<_, Error>(())
        });
    }
    while let Some(task) = tasks.join_next().await {
        task??;
    }
    Ok(started.elapsed())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_node_delays_only_its_own_callers() -> Result<()> {
    for protocol in PROTOCOLS {
        let cluster = TestCluster::builder().primaries(3).node_timeout_ms(120_000).start()?;
        let patient = || options(&cluster.urls(), protocol).request_timeout(PATIENCE);
        let client = Client::connect(patient()).await?;
        // What its commands take is what the nodes and the machine make of them.
        let other = Client::connect(patient()).await?;
        let (stalled, calm) = (keys_at(&cluster, 0, 8)?, keys_at(&cluster, 1, 8)?);
        thousand(&client, &stalled).await?;
        thousand(&client, &calm).await?;
        thousand(&other, &calm).await?;

        cluster.pause(0)?;
        let before = requests(&client).await?;
        let mut waiting = JoinSet::new();
        for number in 0..50 {
            let (client, key) = (client.clone(), stalled[number % stalled.len()].clone());
            waiting.spawn(async move { client.execute(["GET", key.as_str()]).await });
        }
        until_requests(&client, before + 50).await?;
        let (with, without) = tokio::join!(thousand(&client, &calm), thousand(&other, &calm));
        let (with, without) = (with?, without?);
        ensure!(waiting.try_join_next().is_none(), "the stalled node has answered");
        println!(
            "{protocol:?}: {with:?} beside a stalled node, {without:?} by a client that does not ask it"
        );
        ensure!(with < without * 3 + Duration::from_millis(200), "{with:?}, the other client {without:?}");

        cluster.resume(0)?;
        while let Some(result) = waiting.join_next().await {
            ensure!(result??.as_str() == Some("value"), "the stalled node's own commands are answered later");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocking_command_delays_no_other_node() -> Result<()> {
    let cluster = TestCluster::start(3, 0)?;
    for protocol in PROTOCOLS {
        let client = Client::connect(options(&cluster.urls(), protocol).request_timeout(PATIENCE)).await?;
        let (blocking, others) = (keys_at(&cluster, 2, 1)?.remove(0), keys_at(&cluster, 0, 8)?);
        thousand(&client, &others).await?;
        let before = requests(&client).await?;
        let blocked = tokio::spawn({
            let (client, key) = (client.clone(), blocking.clone());
            async move { client.execute(["BLPOP", key.as_str(), "0"]).await }
        });
        until_requests(&client, before + 1).await?;
        for _ in 0..10 {
            for key in &others {
                ensure!(client.execute(["GET", key.as_str()]).await?.as_str() == Some("value"), "GET {key}");
            }
        }
        ensure!(!blocked.is_finished(), "BLPOP has ended before the list had an element");
        cluster.connection(2)?.integer(&["RPUSH", &blocking, "element"])?;
        let popped = blocked.await??;
        let items: Vec<_> = popped.root().children().filter_map(keyslot::ReplyRef::as_str).collect();
        ensure!(items == [blocking.as_str(), "element"], "{popped:?}");
    }
    Ok(())
}

/// How long a GET takes.
async fn get(client: &Client, key: &str) -> Result<Duration> {
    let started = Instant::now();
    client.execute(["GET", key]).await?;
    Ok(started.elapsed())
}

/// The longest of ten, one after the other.
async fn slowest_get(client: &Client, key: &str) -> Result<Duration> {
    let mut slowest = Duration::ZERO;
    for _ in 0..10 {
        slowest = slowest.max(get(client, key).await?);
    }
    Ok(slowest)
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_go_by_another_callers_long_pipeline() -> Result<()> {
    const COMMANDS: usize = 300_000;
    let cluster = TestCluster::start(3, 0)?;
    for protocol in PROTOCOLS {
        let client = Client::connect(options(&cluster.urls(), protocol).request_timeout(PATIENCE)).await?;
        let idle = slowest_get(&client, "key").await?;
        let before = requests(&client).await?;
        let mut commands: Vec<_> =
            (0..COMMANDS).map(|number| words(&format!("SET key:{number} {number}"))).collect();
        // The clone's own later call finds what its pipeline wrote last.
        commands.push(words("SET last written"));
        let long = tokio::spawn({
            let client = client.clone();
            async move {
                let (results, last) =
                    tokio::join!(client.pipeline(commands), client.execute(["GET", "last"]));
                results.into_iter().collect::<Result<Vec<_>, _>>()?;
                last
            }
        });
        until_requests(&client, before + 1).await?;
        let started = Instant::now();
        let other = client.clone();
        let (mut slowest, mut calls) = (Duration::ZERO, 0);
        while !long.is_finished() {
            slowest = slowest.max(get(&other, "key").await?);
            calls += 1;
        }
        let whole = started.elapsed();
        ensure!(long.await??.as_str() == Some("written"), "the clone's own call went by");
        println!(
            "{protocol:?}: GET takes {idle:?} at most when idle, {slowest:?} beside a pipeline of {whole:?}"
        );
        // What is under way before a call is a seventh of the pipeline.
        ensure!(calls >= 4 && slowest < idle * 3 + whole / 2, "{calls} calls, {slowest:?} of {whole:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_go_by_a_pipeline_that_a_stalled_node_holds_up() -> Result<()> {
    for protocol in PROTOCOLS {
        let cluster = TestCluster::builder().primaries(3).node_timeout_ms(120_000).start()?;
        let client = Client::connect(options(&cluster.urls(), protocol).request_timeout(PATIENCE)).await?;
        let calm = keys_at(&cluster, 1, 1)?.remove(0);
        for node in 0..3 {
            client.execute(["GET", &keys_at(&cluster, node, 1)?[0]]).await?;
        }
        cluster.pause(0)?;
        let before = requests(&client).await?;
        let pipeline = |count: usize| {
            let client = client.clone();
            let commands = (0..count).map(|number| words(&format!("SET key:{number} 1"))).collect();
            tokio::spawn(async move { client.pipeline(commands).await })
        };
        let long = [pipeline(150_000), pipeline(150_000)];
        until_requests(&client, before + 50_000).await?;
        // They are answered before the node is let go on: nothing else would answer them if they
        // waited for it.
        let slowest = slowest_get(&client, &calm).await?;
        ensure!(!long.iter().any(tokio::task::JoinHandle::is_finished), "the stalled node has answered");
        println!("{protocol:?}: GET takes {slowest:?} at most beside two pipelines that are held up");
        ensure!(slowest < PATIENCE / 3, "{slowest:?}");
        cluster.resume(0)?;
        for pipeline in long {
            pipeline.await?.into_iter().collect::<Result<Vec<_>, _>>()?;
        }
    }
    Ok(())
}

// One thread: the tasks run in the order in which they were made, as one caller that does not wait
// would call.
#[tokio::test]
async fn commands_for_one_key_stay_in_order() -> Result<()> {
    let cluster = TestCluster::start(3, 0)?;
    for protocol in PROTOCOLS {
        let client = Client::connect(options(&cluster.urls(), protocol)).await?;
        client.execute(["DEL", "list"]).await?;
        let mut tasks = JoinSet::new();
        for number in 0..3_000 {
            let client = client.clone();
            tasks.spawn(async move {
                if number % 10 == 3 {
                    let other =
                        client.pipeline(vec![words("SET other 1"), words(&format!("RPUSH list {number}"))]);
                    return other.await.into_iter().collect::<Result<Vec<_>, _>>().map(drop);
                }
                client.execute(["RPUSH", "list", &number.to_string()]).await.map(drop)
            });
            // No more than have a place in the client's queue.
            while tasks.len() > 1_000 {
                tasks.join_next().await.context("there are tasks")???;
            }
        }
        while let Some(task) = tasks.join_next().await {
            task??;
        }
        let list = client.execute(["LRANGE", "list", "0", "-1"]).await?;
        let numbers: Vec<_> = list.root().children().filter_map(keyslot::ReplyRef::as_str).collect();
        let expected: Vec<_> = (0..3_000).map(|number| number.to_string()).collect();
        ensure!(numbers == expected, "{protocol:?}: {numbers:?}");
    }
    Ok(())
}
