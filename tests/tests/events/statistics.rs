//! Loads whose numbers are known, and whether each node's counters are those.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use keyslot::{Client, Counter, Error};
use keyslot_testcluster::TestCluster;
use keyslot_tests::load::Shard;
use keyslot_tests::{count, wait_until, words};

use crate::SOON;

const GETS: usize = 200;
const WRONG: usize = 30;
/// The length of the value that is read.
const VALUE_BYTES: usize = 1_000;

/// A node's counters by their names.
type Counters = BTreeMap<String, u64>;

/// Something for each of three nodes: many GETs for the first, and errors for the second.
pub(crate) async fn run(client: &Client, shards: &[Shard]) -> Result<()> {
    let value = "v".repeat(VALUE_BYTES);
    let tag = |shard: usize| shards[shard].tags[0].clone();
    for shard in 0..3 {
        client.execute(["SET", &format!("{{{}}}:s", tag(shard)), &value]).await?;
    }
    client.execute(["DEL", &format!("{{{}}}:l", tag(1))]).await?;
    client.execute(["RPUSH", &format!("{{{}}}:l", tag(1)), "x"]).await?;
    let mut commands = vec![words(&format!("GET {{{}}}:s", tag(0))); GETS];
    commands.extend(vec![words(&format!("GET {{{}}}:l", tag(1))); WRONG]);
    let results = client.pipeline(commands).await;
    let wrong =
        |result: &&Result<_, Error>| matches!(result, Err(Error::Server(error)) if error.code == "WRONGTYPE");
    ensure!(results.iter().filter(wrong).count() == WRONG, "WRONGTYPE");
    Ok(())
}

/// Checks the counters after [`run`], of which the client has done nothing else.
pub(crate) async fn check(cluster: &TestCluster, client: &Client, shards: &[Shard]) -> Result<()> {
    let statistics = by_address(client).await?;
    let expected_commands = [1 + GETS, 3 + WRONG, 1];
    for (shard, expected) in expected_commands.into_iter().enumerate() {
        let address = &cluster.addresses()[shards[shard].primary];
        let errors = if shard == 1 { WRONG } else { 0 };
        check_node(address, &statistics[address], expected as u64, errors as u64)?;
    }
    let of_first = &statistics[&cluster.addresses()[shards[0].primary]];
    ensure!(of_first["bytes-in"] > (GETS * VALUE_BYTES) as u64, "{of_first:?}");
    ensure!(of_first["bytes-out"] > (GETS * 25 + VALUE_BYTES) as u64, "{of_first:?}");
    // The whole is the sum of its parts.
    let counters = client.counters().await?;
    let sum = |name: &str| statistics.values().map(|node| node.get(name).copied().unwrap_or(0)).sum::<u64>();
    for name in ["bytes-in", "bytes-out", "connects", "disconnects", "retries"] {
        let (whole, parts) = (count(&counters, name), sum(name));
        ensure!(whole == parts, "{name}: {whole} in all, {parts} of the nodes");
    }
    ensure!(count(&counters, "requests") == sum("commands"), "requests: {counters:?}");
    Ok(())
}

/// Checks one node's counters: so many commands, and so many that were answered with WRONGTYPE.
fn check_node(address: &str, counters: &Counters, commands: u64, errors: u64) -> Result<()> {
    let of = |name: &str| counters.get(name).copied().unwrap_or(0);
    ensure!(of("commands") == commands, "{address}: {} commands, not {commands}", of("commands"));
    ensure!(of("error-WRONGTYPE") == errors, "{address}: {} × WRONGTYPE", of("error-WRONGTYPE"));
    let codes: Vec<_> = counters.keys().filter(|name| name.starts_with("error-")).collect();
    ensure!(codes.len() == usize::from(errors > 0), "{address}: {codes:?}");
    ensure!(of("in-flight") == 0, "{address}: {} in flight", of("in-flight"));
    ensure!(of("connects") == 1 && of("reconnects") == 0 && of("disconnects") == 0, "{counters:?}");
    let latencies = ["p50", "p90", "p99", "max"].map(|which| of(&format!("latency-{which}-us")));
    ensure!(latencies[0] > 0 && latencies.is_sorted(), "{address}: latencies of {latencies:?} µs");
    ensure!((1..=latencies[3]).contains(&of("latency-smoothed-us")), "{counters:?}");
    Ok(())
}

/// A command that blocks is in flight until it is answered.
pub(crate) async fn check_in_flight(client: &Client, shard: &Shard) -> Result<()> {
    let tag = &shard.tags[0];
    let connection = client.lend(Some(tag.as_bytes())).await?;
    let list = format!("{{{tag}}}:wait");
    let popped = {
        let list = list.clone();
        tokio::spawn(async move { connection.execute(["BLPOP", &list, "4"]).await })
    };
    let in_flight = async || total(client, "in-flight").await;
    wait_until("one is in flight", SOON, async || Ok(in_flight().await? == 1)).await?;
    client.execute(["RPUSH", &list, "element"]).await?;
    popped.await??;
    wait_until("none is in flight", SOON, async || Ok(in_flight().await? == 0)).await?;
    Ok(())
}

/// A redirect is one, and an error reply.
pub(crate) async fn check_redirect(cluster: &TestCluster, client: &Client, shards: &[Shard]) -> Result<()> {
    let (slot, from) = (shards[0].slot(0), shards[0].primary);
    let redirects = total(client, "redirects").await?;
    cluster.migrate_slot(slot, shards[1].primary)?;
    client.execute(["GET", &format!("{{{}}}:s", shards[0].tags[0])]).await?;
    let after = by_address(client).await?;
    let of_first = &after[&cluster.addresses()[from]];
    ensure!(total(client, "redirects").await? == redirects + 1, "one redirect: {of_first:?}");
    ensure!(of_first["redirects"] == 1 && of_first["error-MOVED"] == 1, "{of_first:?}");
    cluster.migrate_slot(slot, from)?;
    Ok(())
}

/// The counters of each node by its address.
async fn by_address(client: &Client) -> Result<BTreeMap<String, Counters>> {
    let by_name =
        |counters: Vec<Counter>| counters.into_iter().map(|counter| (counter.name, counter.value)).collect();
    let nodes = client.statistics().await?;
    ensure!(nodes.is_sorted_by(|a, b| a.address < b.address), "not in order of the addresses");
    Ok(nodes.into_iter().map(|node| (node.address, by_name(node.counters))).collect())
}

/// A counter of all nodes together.
async fn total(client: &Client, name: &str) -> Result<u64> {
    Ok(client.statistics().await?.iter().map(|node| count(&node.counters, name)).sum())
}
