//! While slot after slot moves between primaries, key by key, a loop of SETs, GETs and pipelines
//! sees no error and no wrong value.
//!
//! A thread moves slots that hold the loop's keys; the loop counts up, so that each value read
//! tells whether it is the last one written. Under both protocols.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};
use keyslot::{Client, RespVersion};
use keyslot_core::slot::Slot;
use keyslot_testcluster::TestCluster;
use keyslot_tests::{PROTOCOLS, options};

/// Slots that move, each with several keys.
const SLOTS: usize = 12;
const KEYS_PER_SLOT: usize = 6;

#[tokio::test(flavor = "multi_thread")]
async fn a_load_sees_nothing_of_slots_that_move() -> Result<()> {
    for protocol in PROTOCOLS {
        run(protocol).await.with_context(|| format!("{protocol:?}"))?;
    }
    Ok(())
}

async fn run(protocol: RespVersion) -> Result<()> {
    let cluster = Arc::new(TestCluster::start(3, 0)?);
    let client = Client::connect(options(&cluster.urls(), protocol)).await?;
    let done = Arc::new(AtomicBool::new(false));
    let mover = {
        let (cluster, done) = (Arc::clone(&cluster), Arc::clone(&done));
        tokio::task::spawn_blocking(move || -> Result<()> {
            let result = move_slots(&cluster);
            done.store(true, Ordering::SeqCst);
            result
        })
    };

    let mut round = 0u64;
    while !done.load(Ordering::SeqCst) || round == 0 {
        round += 1;
        let seen = async {
            one_by_one(&client, round).await?;
            pipelined(&client, round).await
        };
        seen.await.with_context(|| format!("in round {round}; the nodes say\n{}", views(&cluster)))?;
    }
    mover.await??;
    one_by_one(&client, round + 1).await?;

    let counters = client.counters().await?;
    let count =
        |name: &str| counters.iter().find(|counter| counter.name == name).map_or(0, |counter| counter.value);
    println!(
        "{protocol:?}: {round} rounds, {} ASK, {} MOVED, {} retries",
        count("ask"),
        count("moved"),
        count("retries")
    );
    ensure!(count("moved") > 0, "no slot moved under the load");
    ensure!(count("ask") > 0, "no key was asked for while its slot moved");
    Ok(())
}

/// Who serves what in the eyes of each node, for when something went wrong.
fn views(cluster: &TestCluster) -> String {
    let view = |node| -> Result<String> { Ok(cluster.connection(node)?.string(&["CLUSTER", "NODES"])?) };
    let views = (0..cluster.nodes().len()).map(|node| match view(node) {
        Ok(text) => text,
        Err(error) => error.to_string(),
    });
    views.collect::<Vec<_>>().join("\n")
}

/// Moves every slot of the load to the next primary, twice around.
fn move_slots(cluster: &TestCluster) -> Result<()> {
    let primaries = cluster.primaries()?;
    for _ in 0..2 {
        for tag in 0..SLOTS {
            let slot = Slot::of_key(tag_of(tag).as_bytes()).number();
            let from = cluster.node_of_slot(slot)?;
            let place =
                primaries.iter().position(|primary| *primary == from).context("a primary has the slot")?;
            let to = primaries[(place + 1) % primaries.len()];
            cluster.start_slot_migration(slot, from, to)?;
            // One key at a time, so that the load meets every half-moved state.
            while cluster.migrate_keys(slot, 1)? > 0 {}
            cluster.finish_slot_migration(slot)?;
        }
    }
    Ok(())
}

async fn one_by_one(client: &Client, round: u64) -> Result<()> {
    for tag in 0..SLOTS {
        let (key, value) = (key_of(tag, 0), round.to_string());
        client.execute(["SET", &key, &value]).await?;
        let reply = client.execute(["GET", &key]).await?;
        ensure!(reply.as_str() == Some(&value), "{key} is {reply:?}, not {value}");
    }
    Ok(())
}

/// Writes keys of all slots in one pipeline and reads them in the next.
async fn pipelined(client: &Client, round: u64) -> Result<()> {
    let keys: Vec<String> =
        (0..SLOTS).flat_map(|tag| (1..KEYS_PER_SLOT).map(move |number| key_of(tag, number))).collect();
    let value = round.to_string();
    let set = |key: &String| vec![b"SET".to_vec(), key.clone().into_bytes(), value.clone().into_bytes()];
    let get = |key: &String| vec![b"GET".to_vec(), key.clone().into_bytes()];
    for result in client.pipeline(keys.iter().map(set).collect()).await {
        result?;
    }
    let replies = client.pipeline(keys.iter().map(get).collect()).await;
    for (key, reply) in keys.iter().zip(replies) {
        let reply = reply?;
        ensure!(reply.as_str() == Some(&value), "{key} is {reply:?}, not {value}");
    }
    Ok(())
}

fn tag_of(tag: usize) -> String {
    format!("slot-{tag}")
}

fn key_of(tag: usize, number: usize) -> String {
    format!("{{{}}}:{number}", tag_of(tag))
}
