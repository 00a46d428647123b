//! Shows that the client works in a process that may have fewer descriptors than there are nodes.
//!
//! Each test runs itself again in a process whose limit on descriptors is lowered. The cluster of
//! 300 nodes stays outside, the client is inside.

#![cfg(unix)]

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use keyslot::{Client, Error, EventKind, Limit, Options, PoolSetting};
use keyslot_tests::hostile::{HostileCluster, value_of};
use tokio::task::JoinSet;

const NODES: usize = 300;
const DESCRIPTORS: usize = 128;

/// So many keys are at nearly all nodes.
const KEYS: usize = 3_000;

/// Where the cluster is; set for the test that runs inside.
const URL: &str = "KEYSLOT_TEST_URL";

/// Runs one test of this binary in a process of few descriptors.
async fn run_again(test: &'static str) -> Result<()> {
    // A good cluster, for whom nothing is scripted.
    let cluster = HostileCluster::start(NODES, Arc::new(|_| None))?;
    let url = cluster.urls().swap_remove(0);
    let program = std::env::current_exe()?;
    let run = move || {
        Command::new("sh")
            .args(["-c", &format!("ulimit -n {DESCRIPTORS} && exec \"$0\" \"$@\"")])
            .arg(program)
            .args(["--exact", test, "--nocapture"])
            .env(URL, url)
            .output()
    };
    let output = tokio::task::spawn_blocking(run).await?.context("a shell")?;
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && text.contains("1 passed"), "{text}");
    Ok(())
}

/// The settings inside; none outside.
fn settings() -> Option<Options> {
    let url = std::env::var(URL).ok()?;
    Some(Options::new([url]).request_timeout(Duration::from_secs(30)))
}

/// Asks all nodes three times, all at once. Each answers.
async fn ask_all(client: &Client) -> Result<()> {
    for _ in 0..3 {
        let command = |key: usize| vec![b"GET".to_vec(), format!("key:{key}").into_bytes()];
        let results = client.pipeline((0..KEYS).map(command).collect()).await;
        for (key, result) in results.into_iter().enumerate() {
            let reply = result.with_context(|| format!("key:{key}"))?;
            ensure!(reply.as_str() == Some(&value_of(&format!("key:{key}"))), "{reply:?}");
        }
    }
    let nodes: BTreeSet<_> = client.statistics().await?.into_iter().map(|node| node.address).collect();
    ensure!(nodes.len() == NODES, "{} nodes", nodes.len());
    Ok(())
}

/// What was told of the shortage, and of nodes that failed.
async fn told(events: &mut keyslot::Events) -> Result<(Vec<String>, Vec<String>)> {
    let (mut shortages, mut failures) = (Vec::new(), Vec::new());
    while let Ok(Some(event)) = tokio::time::timeout(Duration::from_secs(1), events.next()).await {
        match &event.kind {
            EventKind::DescriptorsExhausted(_) => shortages.push(event.to_string()),
            EventKind::ConnectFailed(_) | EventKind::Disconnected(_) => failures.push(event.to_string()),
            _ => {}
        }
    }
    Ok((shortages, failures))
}

#[tokio::test(flavor = "multi_thread")]
async fn by_default_there_are_as_many_connections_as_the_process_may_have() -> Result<()> {
    let Some(options) = settings() else {
        return run_again("by_default_there_are_as_many_connections_as_the_process_may_have").await;
    };
    let client = Client::connect(options).await?;
    let mut events = client.events();
    ask_all(&client).await?;
    let (shortages, failures) = told(&mut events).await?;
    ensure!(shortages.is_empty() && failures.is_empty(), "{shortages:?} {failures:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_make_way_where_descriptors_run_out() -> Result<()> {
    let Some(options) = settings() else {
        return run_again("idle_connections_make_way_where_descriptors_run_out").await;
    };
    let client = Client::connect(options.limit(Limit::Connections, 512)).await?;
    let mut events = client.events();
    ask_all(&client).await?;
    let (shortages, failures) = told(&mut events).await?;
    ensure!(failures.is_empty(), "{failures:?}");
    ensure!(shortages.len() == 1 && shortages[0].contains("ulimit -n"), "{shortages:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn borrowers_wait_where_descriptors_run_out_and_are_told_why() -> Result<()> {
    const WANTED: usize = 300;

    let Some(options) = settings() else {
        return run_again("borrowers_wait_where_descriptors_run_out_and_are_told_why").await;
    };
    let options = options
        .limit(Limit::Connections, 512)
        .pool(PoolSetting::MaxConnections, WANTED as u32)
        .pool(PoolSetting::CheckoutTimeoutMs, 2_000);
    let client = Client::connect(options).await?;
    let mut calls = JoinSet::new();
    for _ in 0..WANTED {
        let client = client.clone();
        calls.spawn(async move {
            let connection = client.lend(Some(b"key")).await?;
            let result = connection.execute(["GET", "key"]).await.map(drop);
            Ok::<_, Error>((connection, result))
        });
    }
    let mut lent = Vec::new();
    let mut refused = Vec::new();
    while let Some(call) = calls.join_next().await {
        match call?? {
            (connection, Ok(())) => lent.push(connection),
            (_, Err(error)) => refused.push(error),
        }
    }
    ensure!((80..DESCRIPTORS).contains(&lent.len()), "{} lent", lent.len());
    let is_clear =
        |error: &Error| matches!(error, Error::LimitExceeded(reason) if reason.contains("ulimit -n"));
    ensure!(refused.iter().all(is_clear), "{:?}", refused.iter().find(|error| !is_clear(error)));
    // Those that come back serve others, whatever node they are for.
    drop(lent);
    ask_all(&client).await
}
