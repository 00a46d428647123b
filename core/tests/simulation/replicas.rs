//! Shows which node serves a read under each setting, and that the primary serves it, soon, when a
//! replica does not.

use std::time::Duration;

use keyslot_core::config::ReplicaReads;

use crate::lab::*;
use crate::simulator::server::{Condition, Dialect, Migration, Reach, Servers};
use crate::simulator::world::{MILLISECOND, SECOND};

/// Three primaries with two replicas each: nodes 3 and 6 copy node 0.
fn lab_that_reads(strategy: ReplicaReads, zone: Option<&str>) -> Lab {
    let dialect = Dialect { zones: true, ..Dialect::modern() };
    lab_of(Servers::new(dialect, 3, 2, false), |config, _| {
        config.replica_reads = strategy;
        config.refresh_interval = Duration::from_secs(1);
        config.availability_zone = zone.map(str::to_string);
        config.attempt_timeout = Some(Duration::from_millis(200));
    })
}

/// How many of these reads nodes 0, 3 and 6 were sent.
fn spread(lab: &mut Lab, reads: usize) -> [usize; 3] {
    let mark = lab.sent().len();
    for _ in 0..reads {
        assert_eq!(run(lab, &format!("GET {}", key_at(0, 'g'))), bulk("g:7"));
    }
    let sent = sent_since(lab, mark);
    [0, 3, 6].map(|node| sent.iter().filter(|(to, _)| *to == node).count())
}

#[test]
fn each_strategy_spreads_reads_as_it_says() {
    let at = |strategy, zone| spread(&mut lab_that_reads(strategy, zone), 120);
    assert_eq!(at(ReplicaReads::Primary, None), [120, 0, 0]);
    assert_eq!(at(ReplicaReads::RoundRobin, None), [0, 60, 60]);
    let [primary, first, second] = at(ReplicaReads::PreferReplica, None);
    assert!(primary == 0 && first > 30 && second > 30, "{first} {second}");
    let each = at(ReplicaReads::Random, None);
    assert!(each.iter().all(|reads| *reads > 20), "{each:?}");
    let each = at(ReplicaReads::LowestLatency, None);
    assert!(each.iter().all(|reads| *reads > 0), "each is measured: {each:?}");
    assert_eq!(at(ReplicaReads::SameZone, Some("zone-1")), [0, 120, 0]);
    assert_eq!(at(ReplicaReads::SameZone, Some("zone-0")), [120, 0, 0]);
    let [primary, ..] = at(ReplicaReads::SameZone, Some("elsewhere"));
    assert_eq!(primary, 0);
}

#[test]
fn the_fastest_node_gets_most_reads() {
    let mut lab = lab_that_reads(ReplicaReads::LowestLatency, None);
    spread(&mut lab, 50);
    lab.servers.nodes[0].paused = true;
    let slow = submit(&mut lab, &format!("SET {} 1", key_at(0, 's')));
    wait(&mut lab, 100 * MILLISECOND);
    lab.resume(0);
    assert_eq!(outcome(&mut lab, slow), ok());
    let [primary, ..] = spread(&mut lab, 100);
    assert!(primary < 15, "{primary}");
}

#[test]
fn writes_and_commands_without_keys_go_to_primaries() {
    let mut lab = lab_that_reads(ReplicaReads::PreferReplica, None);
    let mark = lab.sent().len();
    for _ in 0..20 {
        assert_eq!(run(&mut lab, &format!("SET {} 1", key_at(0, 's'))), ok());
        run(&mut lab, "PING").unwrap();
    }
    assert!(sent_since(&lab, mark).iter().all(|(node, _)| *node < 3));
}

/// How long a read takes when nodes 3 and 6 are in this trouble.
fn time_of_a_read(trouble: impl Fn(&mut Lab, usize)) -> u64 {
    let mut lab = lab_that_reads(ReplicaReads::PreferReplica, None);
    [3, 6].into_iter().for_each(|node| trouble(&mut lab, node));
    let before = lab.now();
    assert_eq!(run(&mut lab, &format!("GET {}", key_at(0, 'g'))), bulk("g:7"));
    lab.now() - before
}

#[test]
fn the_primary_serves_what_a_replica_does_not() {
    for condition in [Condition::Loading, Condition::MasterDown, Condition::ClusterDown] {
        let took = time_of_a_read(|lab, node| lab.servers.nodes[node].condition = condition);
        assert_eq!(took, 4 * MILLISECOND, "two round trips: {condition:?}");
    }
    let took = time_of_a_read(crash);
    assert!(took <= 4 * MILLISECOND, "{took}");
    let took = time_of_a_read(|lab, node| lab.servers.nodes[node].paused = true);
    assert!(took <= 205 * MILLISECOND, "the attempt's time, then the primary: {took}");
    // The connections are gone, and dials are not answered.
    let took = time_of_a_read(|lab, node| {
        lab.servers.nodes[node].reach = Reach::BlackHole;
        lab.open_conns(Some(node)).into_iter().for_each(|conn| lab.cut(conn));
        wait(lab, 2 * MILLISECOND);
    });
    assert!(took <= 110 * MILLISECOND, "{took}");
}

#[test]
fn a_replica_that_is_back_gets_reads_again() {
    let mut lab = lab_that_reads(ReplicaReads::PreferReplica, None);
    for node in [3, 6] {
        crash(&mut lab, node);
    }
    wait(&mut lab, 100 * MILLISECOND);
    let [primary, ..] = spread(&mut lab, 20);
    assert_eq!(primary, 20);
    for node in [3, 6] {
        lab.servers.nodes[node].reach = Reach::Up;
    }
    // The servers have called them failed; the next topology says that they are well.
    wait(&mut lab, 2 * SECOND);
    run(&mut lab, "PING").unwrap();
    wait(&mut lab, 300 * MILLISECOND);
    let [primary, ..] = spread(&mut lab, 20);
    assert_eq!(primary, 0);
}

#[test]
fn a_moved_to_a_read_is_followed_as_a_redirect() {
    // This client reads from this primary, since it is near.
    let mut lab = lab_that_reads(ReplicaReads::SameZone, Some("zone-0"));
    let key = key_at(0, 'g');
    lab.servers.migrations.insert(slot_of(&key), Migration { from: 0, to: 2, progress: 100 });
    lab.servers.finish_migration(slot_of(&key));
    (0..9).for_each(|node| lab.servers.gossip(node));
    for _ in 0..5 {
        assert_eq!(run(&mut lab, &format!("GET {key}")), bulk("g:7"));
    }
    let moved_at_primary = lab.cluster.node_statistics().find(|(address, ..)| address.port() == 7000);
    assert_eq!(moved_at_primary.unwrap().1.retries, 0);
}

#[test]
fn reads_of_a_slot_on_the_move_go_to_the_primary() {
    let mut lab = lab_that_reads(ReplicaReads::PreferReplica, None);
    let key = key_at(0, 'g');
    lab.servers.migrations.insert(slot_of(&key), Migration { from: 0, to: 1, progress: 100 });
    // The first ASK tells that the slot moves.
    run(&mut lab, &format!("SET {} 1", key_at(0, 'g'))).unwrap();
    let mark = lab.sent().len();
    for _ in 0..10 {
        run(&mut lab, &format!("GET {key}")).unwrap();
    }
    let nodes: Vec<_> = sent_since(&lab, mark).into_iter().map(|(node, _)| node).collect();
    assert_eq!(nodes, [0, 1].repeat(10));
}
