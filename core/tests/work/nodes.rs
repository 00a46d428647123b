//! Many nodes: all of them replaced, and each of them asked.

use std::time::Duration;

use bytes::Bytes;
use keyslot_core::cluster::{Command, Destination};
use keyslot_core::config::Config;

use crate::machine::{Machine, address, cluster_slots, config};
use crate::{grows_in_proportion, time};

/// Answers CLUSTER SLOTS with so many shards of one node each, whose numbers begin with `first`.
pub(crate) fn shards_from(first: usize, count: usize) -> Bytes {
    let each = 16_384 / count;
    cluster_slots((0..count).map(|shard| (shard * each, (shard + 1) * each - 1, vec![first + shard])))
}

/// Answers for the topology, of this epoch.
pub(crate) fn answer(slots: &Bytes, epoch: usize) -> impl FnMut(&[&[u8]]) -> Option<Bytes> {
    let info = format!("cluster_current_epoch:{epoch}\r\n");
    let info = Bytes::from(format!("${}\r\n{info}\r\n", info.len()));
    move |args| match args {
        [b"CLUSTER", b"SLOTS"] => Some(slots.clone()),
        [b"CLUSTER", b"INFO"] => Some(info.clone()),
        _ => None,
    }
}

/// A PING for each of the nodes, whose numbers begin with `first`.
pub(crate) fn ask_each(machine: &mut Machine, first: usize, count: usize) {
    for node in first..first + count {
        let ping = Command::new(&["PING"]).unwrap();
        machine.submit(ping, &Destination::Node(address(node)));
    }
}

#[test]
fn nodes_that_are_all_replaced() {
    grows_in_proportion("nodes replaced", 4_000, Duration::from_secs(8), |count| {
        let before = shards_from(0, count);
        // All but one. A view without any known node would not count while known nodes answer.
        let after = shards_from(count - 1, count);
        let mut machine = Machine::new(config());
        machine.run(&mut answer(&before, 1));
        ask_each(&mut machine, 0, count);
        machine.run(&mut answer(&before, 1));
        // The topology is asked for after a minute, by the way.
        machine.wait(Duration::from_secs(61), &mut answer(&after, 2));
        machine.submit(Command::new(&["PING"]).unwrap(), &Destination::Cluster);
        for _ in 0..100 {
            machine.wait(Duration::from_millis(100), &mut answer(&after, 2));
        }
        assert_eq!(machine.cluster.topology().shards[0].nodes[0].address, address(count - 1));
        assert_eq!(
            (machine.done.len(), machine.failed.len()),
            (count + 1, 0),
            "{:?}",
            machine.failed.first()
        );
        assert_eq!(machine.cluster.node_statistics().count(), count);
    });
}

#[test]
fn each_of_many_nodes_asked() {
    grows_in_proportion("nodes asked", 4_095, Duration::from_secs(8), |count| {
        let slots = shards_from(0, count);
        let mut machine = Machine::new(config());
        machine.run(&mut answer(&slots, 1));
        ask_each(&mut machine, 0, count);
        machine.run(&mut answer(&slots, 1));
        assert_eq!((machine.done.len(), machine.failed.len()), (count, 0), "{:?}", machine.failed.first());
    });
}

/// A machine that is connected to all of so many nodes, and its answer for the topology.
fn connected_to(nodes: usize) -> (Machine, Bytes) {
    let slots = shards_from(0, nodes);
    // The topology is asked for again after hours: that costs what it is large.
    let refresh_interval = Duration::from_secs(36_000);
    let mut machine = Machine::new(Config { connections_max: 2_000, refresh_interval, ..config() });
    machine.run(&mut answer(&slots, 1));
    ask_each(&mut machine, 0, nodes);
    machine.run(&mut answer(&slots, 1));
    assert_eq!(machine.cluster.statistics().connects as usize, nodes + 1, "all are connected, and the seed");
    (machine, slots)
}

/// So many requests one after the other, a millisecond apart, take this long for each.
fn cost_of_one_get(nodes: usize) -> Duration {
    const REQUESTS: u32 = 4_000;
    let (mut machine, slots) = connected_to(nodes);
    let whole = time(|| {
        for _ in 0..REQUESTS {
            machine.submit(Command::new(&["GET", "key"]).unwrap(), &Destination::Cluster);
            machine.wait(Duration::from_millis(1), &mut answer(&slots, 1));
        }
    });
    assert_eq!(machine.failed, [""; 0]);
    whole / REQUESTS
}

#[test]
fn one_get_costs_the_same_whatever_the_number_of_nodes() {
    let costs = [3, 100, 1_000].map(|nodes| (nodes, cost_of_one_get(nodes)));
    println!("one GET: {costs:?}");
    let [(_, few), .., (_, many)] = costs;
    assert!(many < 3 * few, "with 1,000 nodes {many:?}, with 3 {few:?}");
}

/// A second in which nothing happens, of a hundred ticks, takes this long.
fn cost_of_an_idle_second(nodes: usize) -> Duration {
    const SECONDS: u32 = 20;
    let (mut machine, slots) = connected_to(nodes);
    // Once, each node is looked at that was connected.
    machine.wait(Duration::from_secs(1), &mut answer(&slots, 1));
    let commands = machine.cluster.statistics().commands;
    let whole = time(|| {
        for _ in 0..SECONDS * 100 {
            machine.wait(Duration::from_millis(10), &mut answer(&slots, 1));
        }
    });
    assert_eq!(machine.cluster.statistics().commands, commands, "nothing is asked");
    whole / SECONDS
}

#[test]
fn an_idle_second_costs_the_same_whatever_the_number_of_nodes() {
    let costs = [3, 100, 1_000].map(|nodes| (nodes, cost_of_an_idle_second(nodes)));
    println!("an idle second: {costs:?}");
    let [(_, few), .., (_, many)] = costs;
    assert!(many < 3 * few, "with 1,000 nodes {many:?}, with 3 {few:?}");
}
