//! Shows who the client takes for a node: by its id, wherever it is reached. An address may come to
//! belong to another cluster's node, with a higher epoch or a lower one, and nothing may be sent
//! there; nodes may be replaced at their addresses; and behind a balancer ids say nothing.

use std::time::Duration;

use keyslot_core::address::NodeAddr;
use keyslot_core::cluster::Event;
use keyslot_core::config::{Mode, ReplicaReads};
use keyslot_core::error::Error;

use crate::lab::*;
use crate::simulator::server::{Dialect, Reach, Servers};
use crate::simulator::stranger::Stranger;
use crate::simulator::world::{MILLISECOND, SECOND};

/// The node goes down, and its address is another cluster's from now on.
fn take_over(lab: &mut Lab, node: usize, epoch: u64) {
    crash(lab, node);
    lab.servers.nodes[node].stranger = Some(Stranger { epoch });
}

/// What strangers were asked beyond who they are and what they know.
fn asked_of_strangers(lab: &Lab) -> Vec<String> {
    lab.servers.asked_of_strangers.clone()
}

fn is_told(events: &[Event], words: &str) -> bool {
    events.iter().any(|event| format!("{event:?}").contains(words))
}

fn refreshing() -> Lab {
    lab_with(Dialect::modern(), |config, _| config.refresh_interval = Duration::from_millis(200))
}

#[test]
fn an_address_of_another_cluster_gets_nothing() {
    for epoch in [1, 1_000] {
        let mut lab = refreshing();
        take_over(&mut lab, 0, epoch);
        wait(&mut lab, 2 * MILLISECOND);
        let lost = submit(&mut lab, &format!("SET {} 1", key_at(0, 's')));
        for round in 0..40 {
            let node = 1 + round % 2;
            assert_eq!(run(&mut lab, &format!("GET {}", key_at(node, 'g'))), bulk("g:7"), "epoch {epoch}");
            wait(&mut lab, 50 * MILLISECOND);
        }
        assert!(outcome(&mut lab, lost).is_err());
        assert_eq!(asked_of_strangers(&lab), [""; 0], "epoch {epoch}");
        assert_eq!(lab.cluster.topology().shards.len(), 3);
        let told = events(&mut lab);
        assert!(is_told(&told, "of another cluster"), "{told:?}");
        assert!(!told.iter().any(|event| matches!(event, Event::TopologyChanged(_))), "{told:?}");
        // The node comes back.
        (lab.servers.nodes[0].stranger, lab.servers.nodes[0].reach) = (None, Reach::Up);
        wait(&mut lab, SECOND);
        assert_eq!(run(&mut lab, &format!("GET {}", key_at(0, 'g'))), bulk("g:7"));
    }
}

#[test]
fn a_replicas_address_of_another_cluster_gets_no_reads() {
    let mut lab = lab_of(Servers::new(Dialect::modern(), 3, 1, false), |config, _| {
        config.replica_reads = ReplicaReads::PreferReplica;
        config.refresh_interval = Duration::from_millis(200);
    });
    take_over(&mut lab, 3, 1_000);
    for _ in 0..80 {
        assert_eq!(run(&mut lab, &format!("GET {}", key_at(0, 'g'))), bulk("g:7"));
        wait(&mut lab, 20 * MILLISECOND);
    }
    assert_eq!(asked_of_strangers(&lab), [""; 0]);
}

#[test]
fn a_lent_connection_to_another_cluster_is_not_lent() {
    let mut lab = refreshing();
    // The shared connection stays; only what is dialled from now on reaches the stranger.
    lab.servers.nodes[0].stranger = Some(Stranger { epoch: 1_000 });
    let marker = lab.lend(1, keyslot_core::slot::Slot::new(slot_of(&key_at(0, 'g'))));
    lab.drain();
    assert!(outcome(&mut lab, marker).is_err());
    assert_eq!(asked_of_strangers(&lab), [""; 0]);
    let told = events(&mut lab);
    assert!(is_told(&told, "of another cluster"), "{told:?}");
}

#[test]
fn when_all_nodes_are_replaced_the_client_goes_over() {
    let mut lab = lab_with(Dialect::modern(), |config, _| config.request_timeout = Duration::from_secs(4));
    take_over(&mut lab, 0, 1);
    for node in 1..3 {
        crash(&mut lab, node);
    }
    events(&mut lab);
    let before = lab.now();
    let read = submit(&mut lab, &format!("GET {}", key_at(0, 'g')));
    lab.run_until(before + 3 * SECOND, |lab| lab.cluster.topology().shards.len() == 2);
    let after = lab.now() - before;
    assert!((100 * MILLISECOND..2 * SECOND).contains(&after), "after a few rounds, not at once: {after}");
    let told = events(&mut lab);
    assert!(is_told(&told, "goes over"), "{told:?}");
    assert!(told.iter().any(|event| matches!(event, Event::TopologyChanged(_))), "{told:?}");
    drop(outcome(&mut lab, read));
    assert!(!asked_of_strangers(&lab).is_empty(), "now it is the cluster");
}

#[test]
fn a_node_that_was_replaced_in_its_cluster_is_taken() {
    // With the others' word, and with nobody's but its own.
    for others in [true, false] {
        let mut lab =
            lab_with(Dialect::modern(), |config, _| config.request_timeout = Duration::from_secs(3));
        crash(&mut lab, 0);
        lab.servers.nodes[0].id = "a".repeat(40);
        lab.servers.nodes[0].reach = Reach::Up;
        if !others {
            crash(&mut lab, 1);
            crash(&mut lab, 2);
        }
        let before = lab.now();
        assert_eq!(run(&mut lab, &format!("GET {}", key_at(0, 'g'))), bulk("g:7"), "others: {others}");
        assert!(lab.now() - before < SECOND, "others: {others}: {}", lab.now() - before);
        assert_eq!(lab.cluster.topology().shards[0].nodes[0].id, "a".repeat(40));
    }
}

#[test]
fn behind_a_balancer_ids_are_not_compared() {
    // All nodes are at one address; each connection is with one or the other.
    let mut lab = lab_with(Dialect::modern(), |config, servers| {
        config.seeds.truncate(1);
        config.refresh_interval = Duration::from_millis(200);
        servers.balancer = Some(0);
    });
    events(&mut lab);
    for _ in 0..10 {
        assert_eq!(run(&mut lab, &format!("GET {}", key_at(0, 'g'))), bulk("g:7"));
        wait(&mut lab, 100 * MILLISECOND);
        let conn = lab.open_conns(None)[0];
        lab.cut(conn);
        wait(&mut lab, 10 * MILLISECOND);
    }
    let told = events(&mut lab);
    let is_wrong = |event: &Event| matches!(event, Event::ConnectFailed { .. } | Event::FailedOver { .. });
    assert!(!told.iter().any(is_wrong), "{told:?}");
}

/// A read of each node is answered.
fn each_node_serves(lab: &mut Lab) {
    for node in 0..3 {
        assert_eq!(run(lab, &format!("GET {}", key_at(node, 'g'))), bulk("g:7"));
    }
}

#[test]
fn a_stand_in_that_names_itself_otherwise_is_used() {
    // A proxy: what it calls itself in the topology is not what CLUSTER MYID, which it passes on,
    // is answered with.
    let mut lab = lab_with(Dialect::modern(), |_, servers| {
        for (index, node) in servers.nodes.iter_mut().enumerate() {
            node.said_id = Some(format!("{:040x}", 100 + index));
        }
    });
    each_node_serves(&mut lab);
    for conn in lab.open_conns(None) {
        lab.cut(conn);
    }
    wait(&mut lab, 10 * MILLISECOND);
    each_node_serves(&mut lab);
}

#[test]
fn who_may_not_ask_for_the_id_is_served_as_before() {
    let mut lab = lab_with(Dialect { myid: false, ..Dialect::modern() }, |_, _| {});
    for conn in lab.open_conns(None) {
        lab.cut(conn);
    }
    wait(&mut lab, 10 * MILLISECOND);
    each_node_serves(&mut lab);
}

#[test]
fn the_id_costs_no_round_trip() {
    let mut lab = refreshing();
    let conn = lab.open_conns(Some(0))[0];
    lab.cut(conn);
    wait(&mut lab, 10 * MILLISECOND);
    lab.servers.nodes[0].reach = Reach::Up;
    let before = lab.now();
    assert_eq!(run(&mut lab, &format!("GET {}", key_at(0, 'g'))), bulk("g:7"));
    assert!(
        lab.now() - before <= 5 * MILLISECOND,
        "a dial, a handshake, the command: {}",
        lab.now() - before
    );
}

#[test]
fn seeds_of_two_clusters_are_refused() {
    for epoch in [1, 1_000] {
        let lab = lab_with(Dialect::modern(), |_, servers| {
            servers.nodes[1].stranger = Some(Stranger { epoch });
        });
        let Some(Err(Error::Connect(reason))) = lab.ready() else { panic!("{:?}", lab.ready()) };
        assert!(reason.contains("are of different clusters"), "{reason}");
        let names = ["10.0.0.2:7001", "10.0.0.1:7000", "10.0.0.3:7002"];
        assert_eq!(names.iter().filter(|name| reason.contains(*name)).count(), 2, "{reason}");
        assert!(reason.contains(names[0]), "{reason}");
    }
}

#[test]
fn a_slow_seed_delays_nothing() {
    let mut lab = lab_with(Dialect::modern(), |_, servers| {
        servers.nodes[1].stranger = Some(Stranger { epoch: 1_000 });
        servers.nodes[1].paused = true;
    });
    assert_eq!(lab.ready(), Some(&Ok(())));
    assert!(lab.now() <= 30 * MILLISECOND, "{}", lab.now());
    lab.resume(1);
    wait(&mut lab, 100 * MILLISECOND);
    assert_eq!(run(&mut lab, &format!("GET {}", key_at(0, 'g'))), bulk("g:7"));
    assert_eq!(lab.cluster.topology().shards.len(), 3);
}

/// The node says of its slots that they are at its own address: on connections made before `until`.
fn make_stale(lab: &mut Lab, node: usize, until: u64) {
    lab.servers.nodes[node].stale_before = Some(until);
}

#[test]
fn moved_to_the_node_that_sends_it_is_followed_over_a_new_connection() {
    let mut lab = lab();
    let now = lab.now();
    make_stale(&mut lab, 0, now);
    let mark = lab.sent().len();
    let ids: Vec<_> = (0..20).map(|_| submit(&mut lab, &format!("GET {}", key_at(0, 'g')))).collect();
    let before = (lab.dials(), lab.now());
    for id in ids {
        assert_eq!(outcome(&mut lab, id), bulk("g:7"));
    }
    assert_eq!(lab.dials() - before.0, 1, "one for all of them");
    assert!(lab.now() - before.1 <= 10 * MILLISECOND, "{}", lab.now() - before.1);
    let sent: usize = sent_since(&lab, mark).iter().map(|(_, names)| names.len()).sum();
    assert_eq!(sent, 40);
    assert_eq!(lab.open_conns(Some(0)).len(), 1, "the old one is closed");
}

#[test]
fn transactions_borrowers_and_what_blocks_get_new_connections_too() {
    let mut lab = lab();
    let key = key_at(0, 's');
    lend(&mut lab, 1, 0);
    give_back(&mut lab, 1);
    lend(&mut lab, 2, 0);
    let now = lab.now();
    make_stale(&mut lab, 0, now);
    let dials = lab.dials();
    let commands = [words(&format!("SET {key} 1"))];
    let commands: Vec<Vec<&[u8]>> =
        commands.iter().map(|words| words.iter().map(Vec::as_slice).collect()).collect();
    let command = keyslot_core::cluster::Command::transaction(&commands, lab.cluster.scripts()).unwrap();
    let id = lab.submit_command(command);
    lab.drain();
    assert!(outcome(&mut lab, id).is_ok());
    assert_eq!(lab.dials() - dials, 1);
    // Idle ones of its pool were left as well; the one that is lent serves its borrower no more
    // after this.
    assert!(run(&mut lab, &format!("BLPOP {key} 0")).is_ok());
    assert_eq!(lab.dials() - dials, 2);
    lend(&mut lab, 3, 0);
    assert!(run_on(&mut lab, 3, &format!("GET {}", key_at(0, 'g'))).is_ok());
    give_back(&mut lab, 3);
    give_back(&mut lab, 2);
    assert_eq!(lab.dials() - dials, 2, "the one that blocked is used again");
    assert_eq!(lab.open_conns(Some(0)).len(), 2);
}

#[test]
fn when_a_new_connection_says_the_same_it_is_waited_for() {
    let mut lab = lab();
    make_stale(&mut lab, 0, u64::MAX);
    let (mark, before) = ((lab.sent().len(), lab.dials()), lab.now());
    let read = submit(&mut lab, &format!("GET {}", key_at(0, 'g')));
    wait(&mut lab, 900 * MILLISECOND);
    assert_eq!(lab.outcome(read), None, "it has time until {}", before + SECOND);
    assert!(outcome(&mut lab, read).is_err());
    let sent = sent_since(&lab, mark.0).len();
    assert!((4..=25).contains(&sent), "{sent} in a second");
    assert!(lab.dials() - mark.1 <= 3, "{} dials", lab.dials() - mark.1);
    // And over when it is.
    let read = submit(&mut lab, &format!("GET {}", key_at(0, 'g')));
    wait(&mut lab, 200 * MILLISECOND);
    lab.servers.nodes[0].stale_before = None;
    assert_eq!(outcome(&mut lab, read), bulk("g:7"));
}

#[test]
fn a_server_alone_that_became_a_replica_is_dialled_once_more() {
    let alone = || {
        let dialect = Dialect { cluster: false, ..Dialect::modern() };
        lab_of(Servers::new(dialect, 1, 0, false), |config, _| config.mode = Mode::Auto)
    };
    let mut lab = alone();
    let now = lab.now();
    make_stale(&mut lab, 0, now);
    let dials = lab.dials();
    assert_eq!(run(&mut lab, &format!("SET {} 1", key_at(0, 's'))), ok());
    assert_eq!(lab.dials() - dials, 1);

    let mut lab = alone();
    make_stale(&mut lab, 0, u64::MAX);
    let (dials, before) = (lab.dials(), lab.now());
    for _ in 0..3 {
        match run(&mut lab, &format!("SET {} 1", key_at(0, 's'))) {
            Err(Error::Server(error)) => assert_eq!(error.code, "READONLY"),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(lab.dials() - dials, 1);
    assert!(lab.now() - before <= 50 * MILLISECOND, "{}", lab.now() - before);
    assert_eq!(run(&mut lab, &format!("GET {}", key_at(0, 'g'))), bulk("g:7"));
}

#[test]
fn a_topology_to_start_from_is_checked_by_its_ids() {
    let known = lab().cluster.topology().clone();
    let mut lab = lab_with(Dialect::modern(), |config, servers| {
        config.topology = Some(known);
        config.refresh_interval = Duration::from_millis(200);
        servers.nodes[2].stranger = Some(Stranger { epoch: 1_000 });
    });
    assert!(run(&mut lab, &format!("SET {} 1", key_at(2, 's'))).is_err());
    assert_eq!(run(&mut lab, &format!("GET {}", key_at(0, 'g'))), bulk("g:7"));
    assert_eq!(asked_of_strangers(&lab), [""; 0]);
    assert_eq!(lab.cluster.topology().shards[2].nodes[0].address, NodeAddr::new("10.0.0.3", 7002));
}
