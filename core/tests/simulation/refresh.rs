//! Shows how the client learns of changes: from a topology that it was given, from several nodes
//! that do not agree, and with nodes that call themselves other names than they are reached at.

use std::time::Duration;

use keyslot_core::address::NodeAddr;
use keyslot_core::cluster::Event;
use keyslot_core::config::{Config, ReplicaReads};
use keyslot_core::slot::{SLOT_COUNT, Slot};
use keyslot_core::topology::Topology;

use crate::lab::*;
use crate::simulator::server::{Dialect, Migration, Servers};
use crate::simulator::world::{MILLISECOND, SECOND};

/// Starts from the topology that an earlier client has learnt.
fn lab_that_knows(replicas: usize, change: impl FnOnce(&mut Config, &mut Topology)) -> Lab {
    let servers = || Servers::new(Dialect::modern(), 3, replicas, false);
    let mut known = lab_of(servers(), |_, _| {}).cluster.topology().clone();
    lab_of(servers(), |config, _| {
        change(config, &mut known);
        config.topology = Some(known);
    })
}

fn owner(lab: &Lab, slot: u16) -> u16 {
    lab.cluster.primary_of(Slot::new(slot).unwrap()).unwrap().port() - 7000
}

#[test]
fn with_a_topology_nobody_is_asked_before_the_first_request() {
    for replica_reads in [ReplicaReads::Primary, ReplicaReads::PreferReplica] {
        let mut lab = lab_that_knows(1, |config, _| config.replica_reads = replica_reads);
        assert_eq!(lab.ready(), Some(&Ok(())));
        wait(&mut lab, 5 * SECOND);
        assert_eq!((lab.dials(), lab.sent().len()), (0, 0), "{replica_reads:?}");
        let before = lab.now();
        assert_eq!(run(&mut lab, &format!("GET {}", key_at(0, 'g'))), bulk("g:7"));
        assert_eq!(lab.now() - before, 5 * MILLISECOND, "a dial, a handshake, the command");
        wait(&mut lab, SECOND);
        assert!(refreshes_since(&lab, 0) >= 1, "now it is asked for");
    }
}

#[test]
fn an_outdated_topology_is_corrected_by_the_first_requests() {
    let mut lab = lab_that_knows(0, |_, topology| {
        let nodes: Vec<_> = topology.shards.iter().map(|shard| shard.nodes.clone()).collect();
        topology
            .shards
            .iter_mut()
            .zip(nodes.into_iter().cycle().skip(1))
            .for_each(|(shard, nodes)| shard.nodes = nodes);
    });
    for node in 0..3 {
        assert_eq!(run(&mut lab, &format!("SET {} 1", key_at(node, 's'))), ok());
    }
    wait(&mut lab, SECOND);
    assert_eq!([0, 8_000, 16_000].map(|slot| owner(&lab, slot)), [0, 1, 2]);
}

#[test]
fn when_every_node_of_the_topology_is_gone_the_seeds_are_asked() {
    for host in ["10.9.9.9", "10.9.9.8"] {
        let mut lab = lab_that_knows(0, |config, topology| {
            config.connect_timeout = Duration::from_millis(300);
            for member in topology.shards.iter_mut().flat_map(|shard| &mut shard.nodes) {
                member.address = NodeAddr::new(host, member.address.port());
            }
        });
        let before = lab.now();
        assert_eq!(run(&mut lab, &format!("SET {} 1", key_at(0, 's'))), ok());
        assert!(lab.now() - before <= 320 * MILLISECOND, "{host}: {}", lab.now() - before);
    }
}

#[test]
fn an_older_view_does_not_overrule_a_newer_moved() {
    // A move to node 1 gets a new epoch; node 2 has the highest one already, so a move to it gets
    // none.
    for (target, deaf, seconds) in [(1, 2, 20), (2, 1, 4)] {
        let mut lab =
            lab_with(Dialect::modern(), |config, _| config.refresh_interval = Duration::from_millis(200));
        let key = key_at(0, 'g');
        lab.servers.nodes[deaf].deaf = true;
        lab.servers.migrations.insert(slot_of(&key), Migration { from: 0, to: target, progress: 100 });
        lab.servers.finish_migration(slot_of(&key));
        run(&mut lab, &format!("GET {key}")).unwrap();
        let mark = lab.sent().len();
        for _ in 0..10 * seconds {
            assert_eq!(run(&mut lab, &format!("GET {key}")), bulk("g:7"));
            wait(&mut lab, 100 * MILLISECOND);
        }
        let strayed = sent_since(&lab, mark).into_iter().filter(|(node, _)| *node != target).count();
        assert_eq!(strayed, 0, "to node {target}");
        assert!(refreshes_since(&lab, mark) > 3 * seconds, "it was asked for all the time");
    }
}

#[test]
fn of_views_of_one_epoch_the_one_that_most_share_counts() {
    let slot = slot_of(&key_at(0, 'g'));
    for odd in 0..3 {
        let mut lab = lab_with(Dialect::modern(), |config, servers| {
            config.refresh_interval = Duration::from_millis(200);
            servers.nodes[odd].view.owners[usize::from(slot)] = 1;
        });
        for _ in 0..5 {
            wait(&mut lab, 300 * MILLISECOND);
            run(&mut lab, "PING").unwrap();
        }
        wait(&mut lab, 100 * MILLISECOND);
        assert_eq!(owner(&lab, slot), 0, "node {odd} stands alone");
    }
}

#[test]
fn a_round_that_brings_nothing_is_repeated() {
    let mut lab = lab();
    let key = key_at(0, 'g');
    lab.servers.migrations.insert(slot_of(&key), Migration { from: 0, to: 2, progress: 100 });
    lab.servers.finish_migration(slot_of(&key));
    let read = submit(&mut lab, &format!("GET {key}"));
    wait(&mut lab, 2 * MILLISECOND);
    // The MOVED has come, and nobody who is asked now can tell the topology.
    lab.servers.dialect.cluster = false;
    assert_eq!(outcome(&mut lab, read), bulk("g:7"));
    wait(&mut lab, 2 * SECOND);
    lab.servers.dialect.cluster = true;
    (0..3).for_each(|node| lab.servers.gossip(node));
    wait(&mut lab, SECOND);
    let shard = lab.cluster.topology().shards.iter().find(|shard| {
        shard.slots.iter().any(|range| range.slots().any(|slot| slot.number() == slot_of(&key)))
    });
    assert_eq!(shard.unwrap().primary().unwrap().address.port(), 7002);
}

#[test]
fn questions_are_rare_while_the_topology_is_in_doubt() {
    let mut lab = lab();
    let key = key_at(0, 'g');
    crash(&mut lab, 0);
    let mark = lab.sent().len();
    for _ in 0..10 {
        assert!(run(&mut lab, &format!("GET {key}")).is_err());
    }
    let asked = refreshes_since(&lab, mark);
    assert!((10..80).contains(&asked), "{asked} questions in ten seconds");
    lab.check_rounds();
}

#[test]
fn a_failover_is_told() {
    let mut lab = lab_with_replicas();
    lab.cluster.take_events();
    crash(&mut lab, 0);
    wait(&mut lab, 100 * MILLISECOND);
    lab.servers.catch_up(lab.now());
    lab.servers.promote(3);
    (0..6).for_each(|node| lab.servers.gossip(node));
    assert_eq!(run(&mut lab, &format!("SET {} 1", key_at(0, 's'))), ok());
    let told = events(&mut lab);
    let place =
        |wanted: &dyn Fn(&Event) -> bool| told.iter().position(wanted).unwrap_or_else(|| panic!("{told:?}"));
    let lost = place(&|event| matches!(event, Event::Disconnected { node, .. } if node.port() == 7000));
    let taken_over = place(
        &|event| matches!(event, Event::FailedOver { from, to } if (from.port(), to.port()) == (7000, 7003)),
    );
    let changed = place(&|event| match event {
        Event::TopologyChanged(change) => {
            change.moved.len() == 1
                && usize::from(change.moved[0].slots.first().number()) < usize::from(SLOT_COUNT)
        }
        _ => false,
    });
    assert!(lost < taken_over && taken_over < changed, "{told:?}");
    assert_eq!(told.iter().filter(|event| matches!(event, Event::FailedOver { .. })).count(), 1);
}

#[test]
fn a_failover_while_nothing_waited_is_found_by_the_first_request_that_does() {
    let mut lab = lab_of(Servers::new(Dialect::modern(), 3, 1, false), |config, _| {
        config.attempt_timeout = Some(Duration::from_millis(500));
        config.connect_timeout = Duration::from_secs(60);
    });
    // It takes connections, and says nothing.
    lab.servers.nodes[0].paused = true;
    assert!(run(&mut lab, &format!("SET {} 1", key_at(0, 's'))).is_err());
    wait(&mut lab, SECOND);
    lab.servers.catch_up(lab.now());
    lab.servers.promote(3);
    (0..6).for_each(|node| lab.servers.gossip(node));
    let before = lab.now();
    assert_eq!(run(&mut lab, &format!("GET {}", key_at(0, 'g'))), bulk("g:7"));
    assert!(lab.now() - before <= 300 * MILLISECOND, "{}", lab.now() - before);
    lab.check_rounds();
}

#[test]
fn nodes_are_reached_where_the_map_says() {
    let mut lab = lab_with(Dialect::modern(), |config, servers| {
        for (index, node) in servers.nodes.iter_mut().enumerate() {
            let announced = format!("192.168.0.{index}");
            config.address_map.insert(&announced, &node.host).unwrap();
            node.announced = Some(announced);
        }
    });
    for node in 0..3 {
        assert_eq!(run(&mut lab, &format!("GET {}", key_at(node, 'g'))), bulk("g:7"));
    }
    // Redirects are mapped too.
    let key = key_at(0, 'g');
    lab.servers.migrations.insert(slot_of(&key), Migration { from: 0, to: 2, progress: 100 });
    assert_eq!(run(&mut lab, &format!("GET {key}")), bulk("g:7"));
    lab.servers.finish_migration(slot_of(&key));
    assert_eq!(run(&mut lab, &format!("GET {key}")), bulk("g:7"));
    assert_eq!(lab.dials(), 3);
    let members = lab.cluster.topology().shards.iter().flat_map(|shard| &shard.nodes);
    assert!(members.into_iter().all(|member| member.address.host().starts_with("10.0.0.")));
}

#[test]
fn a_node_that_leaves_answers_what_it_was_asked() {
    let dialect = Dialect { shards: false, ..Dialect::modern() };
    let mut lab = lab_with(dialect, |config, _| config.request_timeout = Duration::from_secs(3));
    lend(&mut lab, 1, 2);
    lab.servers.nodes[2].paused = true;
    let write = submit(&mut lab, &format!("SET {} 1", key_at(2, 's')));
    // All that the node had is elsewhere now, and it is no member any more; but it does not know.
    for node in 0..2 {
        lab.servers.nodes[node]
            .view
            .owners
            .iter_mut()
            .filter(|owner| **owner == 2)
            .for_each(|owner| *owner = 0);
    }
    let conn = lab.open_conns(Some(1))[0];
    lab.cut(conn);
    wait(&mut lab, 500 * MILLISECOND);
    assert_eq!(lab.cluster.topology().shards.len(), 2);
    assert_eq!(lab.open_conns(Some(2)).len(), 2, "it is still awaited, and lent");
    lab.resume(2);
    assert_eq!(outcome(&mut lab, write), ok());
    assert_eq!(lab.open_conns(Some(2)).len(), 1);
    assert!(run_on(&mut lab, 1, "PING").is_ok());
    give_back(&mut lab, 1);
    assert_eq!(lab.open_conns(Some(2)).len(), 0);
    assert_eq!(lab.cluster.node_statistics().count(), 2);
}

#[test]
fn a_node_that_left_and_is_named_again_is_not_dropped() {
    let dialect = Dialect { shards: false, ..Dialect::modern() };
    let mut lab = lab_with(dialect, |config, _| config.request_timeout = Duration::from_secs(3));
    lab.servers.nodes[2].paused = true;
    let write = submit(&mut lab, &format!("SET {} 1", key_at(2, 's')));
    for node in 0..2 {
        lab.servers.nodes[node]
            .view
            .owners
            .iter_mut()
            .filter(|owner| **owner == 2)
            .for_each(|owner| *owner = 0);
    }
    let conn = lab.open_conns(Some(1))[0];
    lab.cut(conn);
    wait(&mut lab, 1_200 * MILLISECOND);
    // A MOVED names the node that is being drained; from now on only it says so.
    let key = key_at(0, 'g');
    let text = lab.servers.redirect_text("MOVED", slot_of(&key), 2);
    lab.servers.nodes[0].lies.insert(slot_of(&key), text);
    lab.servers.nodes[2].view.owners[usize::from(slot_of(&key))] = 2;
    lab.servers.truth.owners[usize::from(slot_of(&key))] = 2;
    (0..2).for_each(|node| lab.servers.nodes[node].paused = false);
    let read = submit(&mut lab, &format!("GET {key}"));
    wait(&mut lab, 2 * MILLISECOND);
    (0..2).for_each(|node| lab.servers.nodes[node].paused = true);
    lab.resume(2);
    assert_eq!(outcome(&mut lab, write), ok());
    assert_eq!(outcome(&mut lab, read), bulk("g:7"));
    let before = lab.now();
    assert_eq!(run(&mut lab, &format!("GET {key}")), bulk("g:7"));
    assert!(lab.now() - before <= 10 * MILLISECOND);
}
