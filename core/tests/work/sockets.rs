//! How many connections there are, how many are dialled and looked up at a time, and how often an
//! address is dialled.

use std::time::Duration;

use bytes::Bytes;
use keyslot_core::address::NodeAddr;
use keyslot_core::cluster::{Command, Destination, Event};
use keyslot_core::config::{Config, ReplicaReads};

use crate::machine::{Answer, Dial, Machine, array, cluster_slots, config, number, text};
use crate::nodes::{answer, ask_each, shards_from};

const SECOND: Duration = Duration::from_secs(1);

fn with_limit(connections_max: u32) -> Config {
    Config { connections_max, ..config() }
}

/// A machine that knows so many shards of one node each.
fn machine_of(config: Config, count: usize) -> (Machine, Bytes) {
    let slots = shards_from(0, count);
    let mut machine = Machine::new(config);
    machine.run(&mut answer(&slots, 1));
    (machine, slots)
}

#[test]
fn there_are_no_more_connections_than_the_limit() {
    let (mut machine, slots) = machine_of(with_limit(10), 100);
    for _ in 0..3 {
        ask_each(&mut machine, 0, 100);
        machine.run(&mut answer(&slots, 1));
    }
    assert_eq!((machine.done.len(), machine.failed.len()), (300, 0), "{:?}", machine.failed.first());
    assert_eq!(machine.open_max, 10);
}

#[test]
fn lent_connections_count_and_wait_as_well() {
    let (mut machine, slots) = machine_of(with_limit(4), 2);
    let leases: Vec<_> = (0..20).map(|_| machine.cluster.lend(machine.now, None)).collect();
    for lease in leases {
        let ping = Command::for_lent(&["PING"]).unwrap();
        machine.submit(ping, &Destination::Lent(lease));
        machine.run(&mut answer(&slots, 1));
        // One that is given back is used by the next, whichever node it is for.
        machine.cluster.give_back(lease);
        machine.run(&mut answer(&slots, 1));
    }
    assert_eq!((machine.done.len(), machine.failed.len()), (20, 0), "{:?}", machine.failed.first());
    assert!(machine.open_max <= 4, "{}", machine.open_max);
}

/// Asks each of 100 nodes, none of which can be connected to, until all requests have failed.
fn ask_all_in_vain(machine: &mut Machine, slots: &Bytes) {
    machine.dial = |_| Dial::NeverOpens;
    ask_each(machine, 0, 100);
    machine.run(&mut answer(slots, 1));
    for _ in 0..60 {
        machine.wait(SECOND / 10, &mut answer(slots, 1));
    }
    assert_eq!((machine.done.len(), machine.failed.len()), (100, 100));
}

#[test]
fn what_waits_for_room_is_told_of_the_limit() {
    let (mut machine, slots) = machine_of(with_limit(10), 100);
    ask_all_in_vain(&mut machine, &slots);
    let told = machine.failed.iter().filter(|error| error.contains("limit-connections")).count();
    assert!(told >= 80, "{told}: {:?}", machine.failed);
    assert!(machine.open_max <= 10, "{}", machine.open_max);
}

/// The events of a shortage, and of nodes that failed.
fn shortages_and_failures(machine: &mut Machine) -> (usize, usize) {
    let (events, _) = machine.cluster.take_events();
    let count = |is: fn(&Event) -> bool| events.iter().filter(|(_, event)| is(event)).count();
    (
        count(|event| matches!(event, Event::DescriptorsExhausted { .. })),
        count(|event| matches!(event, Event::ConnectFailed { .. } | Event::Disconnected { .. })),
    )
}

#[test]
fn fewer_sockets_than_the_limit_are_a_limit() {
    let (mut machine, slots) = machine_of(config(), 100);
    machine.sockets = 20;
    for _ in 0..3 {
        ask_each(&mut machine, 0, 100);
        machine.run(&mut answer(&slots, 1));
    }
    assert_eq!((machine.done.len(), machine.failed.len()), (300, 0), "{:?}", machine.failed.first());
    assert_eq!(machine.open_max, 20);
    assert_eq!(shortages_and_failures(&mut machine), (1, 0));
    // All but those that there were sockets for, once.
    assert!(machine.refused <= 80, "{}", machine.refused);

    // The process has more again, and the client finds that out.
    (machine.sockets, machine.open_max) = (usize::MAX, 0);
    for _ in 0..120 {
        ask_each(&mut machine, 0, 100);
        machine.wait(SECOND, &mut answer(&slots, 1));
    }
    assert_eq!((machine.failed.len(), machine.open_max), (0, 100));
    assert_eq!(shortages_and_failures(&mut machine), (0, 0));
}

#[test]
fn few_sockets_are_asked_for_seldom() {
    let (mut machine, slots) = machine_of(config(), 100);
    machine.sockets = 20;
    ask_each(&mut machine, 0, 100);
    machine.run(&mut answer(&slots, 1));
    let refused = machine.refused;
    for _ in 0..600 {
        ask_each(&mut machine, 0, 100);
        machine.wait(SECOND / 10, &mut answer(&slots, 1));
    }
    assert!(machine.failed.is_empty(), "{:?}", machine.failed.first());
    assert!((1..=30).contains(&(machine.refused - refused)), "{}", machine.refused - refused);
    assert_eq!(shortages_and_failures(&mut machine), (1, 0));
}

#[test]
fn borrowers_wait_for_sockets() {
    let mut config = config();
    config.pool.connections_max = 300;
    let (mut machine, slots) = machine_of(config, 2);
    machine.sockets = 20;
    let leases: Vec<_> = (0..100).map(|_| machine.cluster.lend(machine.now, None)).collect();
    for lease in &leases {
        let ping = Command::for_lent(&["PING"]).unwrap();
        machine.submit(ping, &Destination::Lent(*lease));
    }
    machine.run(&mut answer(&slots, 1));
    let held = machine.done.len();
    assert!((10..=20).contains(&held), "{held}");
    for lease in leases {
        machine.cluster.give_back(lease);
        machine.run(&mut answer(&slots, 1));
    }
    // Those that were given back before they had a connection have ended with that.
    let waited = machine.failed.iter().filter(|error| !error.contains("given back")).count();
    assert_eq!((machine.done.len(), waited), (100, 0), "{:?}", machine.failed.first());
    assert_eq!(machine.open_max, 20);
}

#[test]
fn what_waits_for_sockets_is_told_of_them() {
    let (mut machine, slots) = machine_of(config(), 100);
    machine.sockets = 20;
    ask_all_in_vain(&mut machine, &slots);
    let told = machine.failed.iter().filter(|error| error.contains("ulimit -n")).count();
    assert!(told >= 60, "{told}: {:?}", machine.failed);
}

#[test]
fn without_any_socket_a_node_cannot_be_connected_to() {
    let (mut machine, slots) = machine_of(config(), 100);
    machine.sockets = 0;
    ask_each(&mut machine, 5, 1);
    machine.run(&mut answer(&slots, 1));
    assert_eq!((machine.done.len(), machine.failed.len()), (1, 1));
    assert!(machine.failed[0].contains("no descriptor is left"), "{:?}", machine.failed);
}

#[test]
fn what_nobody_waits_for_is_dialled_in_rounds() {
    let replicas = 500;
    let mut config = config();
    config.replica_reads = ReplicaReads::PreferReplica;
    let each = 16_384 / 16;
    let nodes = |shard: usize| (0..=replicas / 16).map(|node| shard * 100 + node).collect();
    let slots = cluster_slots((0..16).map(|shard| (shard * each, (shard + 1) * each - 1, nodes(shard))));
    let mut machine = Machine::new(config);
    machine.run(&mut answer(&slots, 1));
    assert_eq!(machine.dials.values().sum::<usize>(), 1 + replicas / 16 * 16);
    assert!(machine.dialled_max <= 64, "{}", machine.dialled_max);
}

#[test]
fn names_are_looked_up_a_few_at_a_time() {
    let rows = (0..200).map(|shard| {
        let node = array([text(&format!("host-{shard}.example")), number(7000)]);
        array([number(shard * 81), number(shard * 81 + 80), node])
    });
    let slots = Bytes::from(array(rows));
    let mut machine = Machine::new(config());
    machine.run(&mut answer(&slots, 1));
    for shard in 0..200 {
        let to = Destination::Node(NodeAddr::new(&format!("host-{shard}.example"), 7000));
        machine.submit(Command::new(&["PING"]).unwrap(), &to);
    }
    machine.run(&mut answer(&slots, 1));
    assert_eq!((machine.done.len(), machine.failed.len()), (200, 0), "{:?}", machine.failed.first());
    assert_eq!(machine.looked_up_max, 8);
}

#[test]
fn an_address_that_only_redirects_name_is_not_dialled_more_often_than_a_node() {
    let slots = cluster_slots((0..2).map(|shard| (shard * 8_192, (shard + 1) * 8_192 - 1, vec![shard])));
    let mut config = config();
    config.max_redirects = 1_000;
    let mut machine = Machine::new(config);
    machine.dial = |address| if address.port() == 9 { Dial::OpensAndCloses } else { Dial::Opens };
    let mut topology = answer(&slots, 1);
    let mut serve = |args: &[&[u8]]| match args {
        [b"GET", ..] => Some(Bytes::from_static(b"-MOVED 12182 10.0.9.9:9\r\n")),
        _ => topology(args),
    };
    let serve: &mut Answer<'_> = &mut serve;
    machine.run(serve);
    for step in 0..4_000 {
        if step % 10 == 0 {
            let get = Command::new(&["GET", "foo"]).unwrap();
            machine.submit(get, &Destination::Cluster);
        }
        machine.wait(SECOND / 1_000, serve);
    }
    // Full jitter between nothing and the cap of half a second: four a second, and the first few
    // sooner.
    let dials = machine.dials[&9];
    assert!((5..=35).contains(&dials), "{dials} dials");
}
