//! A slot moves from one node to another while it is read: ASK, then MOVED.

use keyslot::Client;
use keyslot_terminal::{Cell, Table};
use keyslot_testcluster::{Error as ClusterError, TestCluster};
use tokio::task::block_in_place;

use super::show::{Show, counter, ensure};
use crate::cli::failure::Failure;

/// So many keys share the slot that moves.
const KEYS: usize = 10;

pub(super) async fn run(client: &Client, cluster: &TestCluster, show: &Show) -> Result<(), Failure> {
    show.section("A slot moves while it is read: the client follows ASK and MOVED")?;
    for number in 0..KEYS {
        client.execute(["SET".to_owned(), key(number), value(number)]).await?;
    }
    let slot = client.keyslot(key(0).as_bytes()).await?;
    let (from, to) = block_in_place(|| ends(cluster, slot)).map_err(failed)?;
    show.line(format_args!(
        "slot {slot}, {KEYS} keys: {} → {}",
        cluster.nodes()[from].address(),
        cluster.nodes()[to].address()
    ))?;
    let mut table =
        Table::new(show.style, &["state of the slot", "GETs", "ASK followed", "MOVED followed", "values"]);

    read(client, &mut table, "at home").await?;

    block_in_place(|| {
        cluster.start_slot_migration(slot, from, to)?;
        cluster.migrate_keys(slot, KEYS / 2)
    })
    .map_err(failed)?;
    let (asked, _) = read(client, &mut table, "half of its keys have moved").await?;

    block_in_place(|| {
        while cluster.migrate_keys(slot, KEYS)? > 0 {}
        cluster.finish_slot_migration(slot)
    })
    .map_err(failed)?;
    let (_, moved) = read(client, &mut table, "has a new home").await?;

    read(client, &mut table, "is known there").await?;
    show.table(&table)?;
    ensure(asked > 0, || "no ASK was followed while the slot moved".to_owned())?;
    ensure(moved > 0, || "no MOVED was followed after the slot had moved".to_owned())
}

/// The node that serves the slot, and another primary.
fn ends(cluster: &TestCluster, slot: u16) -> Result<(usize, usize), ClusterError> {
    let from = cluster.node_of_slot(slot)?;
    let to = cluster.primaries()?.into_iter().find(|&node| node != from).unwrap_or(from);
    Ok((from, to))
}

/// Reads every key, adds a row about it, and returns how many ASK and MOVED that took.
async fn read(client: &Client, table: &mut Table, state: &str) -> Result<(u64, u64), Failure> {
    let before = (counter(client, "ask").await?, counter(client, "moved").await?);
    for number in 0..KEYS {
        let reply = client.execute(["GET".to_owned(), key(number)]).await?;
        ensure(reply.as_str() == Some(value(number).as_str()), || format!("{} is {reply:?}", key(number)))?;
    }
    let after = (counter(client, "ask").await?, counter(client, "moved").await?);
    let followed = (after.0 - before.0, after.1 - before.1);
    table.add_row([
        Cell::new(state),
        Cell::number(KEYS),
        Cell::number(followed.0),
        Cell::number(followed.1),
        Cell::new("right").good(),
    ]);
    Ok(followed)
}

#[expect(clippy::needless_pass_by_value, reason = "it is what map_err gives")]
fn failed(error: ClusterError) -> Failure {
    Failure::Demo(error.to_string())
}

fn key(number: usize) -> String {
    format!("{{moving}}:{number}")
}

fn value(number: usize) -> String {
    format!("value {number}")
}
