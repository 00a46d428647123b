//! The disasters that deserve a name: clocks that jump, links that hold or lose everything, nodes
//! that come and go, failovers that lose writes.

use std::time::Duration;

use keyslot_core::error::Error;

use crate::lab::*;
use crate::simulator::network::Link;
use crate::simulator::operation::{Kind, Operation};
use crate::simulator::server::{Dialect, Reach};
use crate::simulator::wire::Push;
use crate::simulator::world::{MILLISECOND, SECOND};

const HOUR: u64 = 3_600 * SECOND;

/// A request that the history checks.
fn operate(lab: &mut Lab, kind: Kind, number: u64, tag: u64) -> Result<(), Error> {
    let operation = Operation { kind, number, tag };
    let id = lab.submit(&operation.words(), Some(operation)).unwrap();
    lab.drain();
    outcome(lab, id).map(drop)
}

#[test]
fn a_clock_that_jumps_an_hour_while_nothing_is_under_way_costs_nothing() {
    let mut lab =
        lab_with(Dialect::modern(), |config, _| config.pool.lifetime_max = Duration::from_secs(7200));
    let (conns, dials) = (lab.open_conns(None), lab.dials());
    lab.jump(HOUR);
    wait(&mut lab, SECOND);
    for node in 0..3 {
        assert_eq!(run(&mut lab, &format!("GET {}", key_at(node, 'g'))), bulk("g:7"));
    }
    assert_eq!((lab.open_conns(None), lab.dials()), (conns, dials));
}

#[test]
fn a_clock_that_jumps_an_hour_ends_what_is_under_way_and_nothing_later() {
    let mut lab = lab();
    lab.link(0, Link::Held);
    let early = submit(&mut lab, &format!("SET {} 1", key_at(0, 's')));
    wait(&mut lab, 10 * MILLISECOND);
    lab.jump(HOUR);
    wait(&mut lab, 2 * MILLISECOND);
    let result = lab.outcome(early);
    let fits = matches!(result, Some(Err(Error::Timeout(interrupted))) if interrupted.possibly_executed);
    assert!(fits, "{result:?}");
    let late = submit(&mut lab, &format!("GET {}", key_at(0, 'g')));
    wait(&mut lab, 100 * MILLISECOND);
    lab.link(0, Link::Open);
    assert_eq!(outcome(&mut lab, late), bulk("g:7"));
    assert_eq!(lab.servers.executions.get(&7), Some(&1));
}

#[test]
fn a_partition_that_heals_in_time_is_only_slow() {
    let mut lab = lab();
    let conns = lab.open_conns(None);
    (0..3).for_each(|node| lab.link(node, Link::Held));
    let write = submit(&mut lab, &format!("SET {} 1", key_at(0, 's')));
    let read = submit(&mut lab, &format!("GET {}", key_at(1, 'g')));
    wait(&mut lab, 900 * MILLISECOND);
    assert_eq!((lab.outcome(write), lab.outcome(read)), (None, None));
    (0..3).for_each(|node| lab.link(node, Link::Open));
    assert_eq!(outcome(&mut lab, write), ok());
    assert_eq!(outcome(&mut lab, read), bulk("g:7"));
    assert_eq!(lab.servers.executions.get(&7), Some(&1));
    assert_eq!(lab.open_conns(None), conns);
}

#[test]
fn a_partition_that_outlives_the_requests_costs_only_the_requests() {
    for link in [Link::Held, Link::Lost] {
        let mut lab = lab();
        lab.link(0, link);
        let silent = submit(&mut lab, &format!("GET {}", key_at(0, 'g')));
        assert_eq!(run(&mut lab, &format!("GET {}", key_at(1, 'g'))), bulk("g:7"));
        let result = outcome(&mut lab, silent);
        assert!(matches!(result, Err(Error::Timeout(_))), "{link:?}: {result:?}");
        wait(&mut lab, 3 * SECOND);
        lab.link(0, Link::Open);
        assert_eq!(run(&mut lab, &format!("GET {}", key_at(0, 'g'))), bulk("g:7"), "{link:?}");
    }
}

#[test]
fn pushes_between_replies_disturb_nothing() {
    let mut lab = lab();
    lab.weather().pushes = 100;
    lab.weather().split = 50;
    let conns = lab.open_conns(None);
    for push in Push::ALL {
        lab.push(conns[0], push);
    }
    let read = |tag: u64| Operation { kind: Kind::Get, number: tag, tag: tag % 8 };
    let ids: Vec<_> = (0..100).map(|tag| lab.submit(&read(tag).words(), Some(read(tag))).unwrap()).collect();
    lab.drain();
    for id in ids {
        outcome(&mut lab, id).unwrap();
    }
    assert_eq!(lab.open_conns(None), conns);
}

#[test]
fn a_failover_may_lose_what_was_acknowledged_but_runs_nothing_twice() {
    let mut lab = lab_with_replicas();
    let tag = (0..).find(|tag| lab.servers.owner(slot_of(&format!("{{t{tag}}}"))) == 0).unwrap();
    lab.servers.nodes[3].lag = 100 * MILLISECOND;
    operate(&mut lab, Kind::Put, 1, tag).unwrap();
    wait(&mut lab, 200 * MILLISECOND);
    operate(&mut lab, Kind::Put, 2, tag).unwrap();
    crash(&mut lab, 0);
    lab.servers.catch_up(lab.now());
    lab.servers.promote(3);
    (0..6).for_each(|node| lab.servers.gossip(node));
    assert_eq!(run(&mut lab, &format!("GET {{t{tag}}}:v:0")), bulk("1"));
    operate(&mut lab, Kind::Look, 3, tag).unwrap();
    lab.history.check_executions(&lab.servers.executions);
}

#[test]
fn a_primary_without_a_majority_is_left_for_its_successor() {
    let mut lab = lab_with_replicas();
    lab.servers.part(&[0]);
    wait(&mut lab, 200 * MILLISECOND);
    lab.servers.catch_up(lab.now());
    lab.servers.promote(3);
    (1..6).for_each(|node| lab.servers.gossip(node));
    // The old primary says CLUSTERDOWN soon, and nodes that know more are asked.
    wait(&mut lab, 200 * MILLISECOND);
    for _ in 0..3 {
        assert_eq!(run(&mut lab, &format!("SET {} 1", key_at(0, 's'))), ok());
    }
    assert_eq!(lab.servers.executions.get(&7), Some(&3));
    assert_eq!(run(&mut lab, &format!("GET {}", key_at(0, 's'))), bulk("1"));
    assert!(lab.servers.says_down(0) && !lab.servers.says_down(3));
}

#[test]
fn a_flapping_node_does_not_slow_the_others() {
    let mut lab = lab();
    for round in 0..20 {
        crash(&mut lab, 0);
        wait(&mut lab, 5 * MILLISECOND);
        lab.servers.nodes[0].reach = Reach::Up;
        let before = lab.now();
        assert_eq!(run(&mut lab, &format!("GET {}", key_at(1, 'g'))), bulk("g:7"), "round {round}");
        assert!(lab.now() - before < 10 * MILLISECOND);
    }
    assert_eq!(run(&mut lab, &format!("GET {}", key_at(0, 'g'))), bulk("g:7"));
    assert!(lab.dials() < 60, "{} dials", lab.dials());
}

#[test]
fn a_total_outage_ends_requests_in_time_and_is_over_when_it_is_over() {
    let mut lab = lab();
    (0..3).for_each(|node| crash(&mut lab, node));
    wait(&mut lab, 10 * MILLISECOND);
    let ids: Vec<_> = (0..3).map(|node| submit(&mut lab, &format!("SET {} 1", key_at(node, 's')))).collect();
    for id in ids {
        let result = outcome(&mut lab, id);
        assert!(matches!(result, Err(Error::Connect(_))), "{result:?}");
    }
    assert!(lab.servers.executions.is_empty());
    wait(&mut lab, 5 * SECOND);
    lab.servers.nodes.iter_mut().for_each(|node| node.reach = Reach::Up);
    wait(&mut lab, 3 * SECOND);
    let before = lab.now();
    assert_eq!(run(&mut lab, &format!("SET {} 1", key_at(2, 's'))), ok());
    assert!(lab.now() - before < 20 * MILLISECOND, "the client has looked for the nodes by itself");
}

#[test]
fn a_node_that_restarts_empty_is_waited_for() {
    let mut lab = lab_with(Dialect::modern(), |_, _| {});
    lab.servers.make_empty(0);
    for conn in lab.open_conns(Some(0)) {
        lab.cut(conn);
    }
    wait(&mut lab, 10 * MILLISECOND);
    let id = submit(&mut lab, &format!("SET {} 1", key_at(0, 's')));
    wait(&mut lab, 500 * MILLISECOND);
    assert_eq!(lab.outcome(id), None);
    lab.servers.gossip(0);
    assert_eq!(outcome(&mut lab, id), ok());
    assert_eq!(lab.servers.executions.get(&7), Some(&1));
}
