//! Scans on a calm network: slots that move, nodes that fail over or start anew, tokens, what
//! cannot be done.

use std::collections::BTreeSet;

use keyslot_core::address::NodeAddr;
use keyslot_core::cluster::{ScanId, ScanOptions, Subject};
use keyslot_core::error::Error;
use keyslot_core::resp::{Reply, ReplyNode};

use crate::lab::{Lab, crash, key_at, lab, lab_with, lab_with_replicas, outcome, slot_of, wait};
use crate::simulator::server::{Dialect, Migration, Reach};
use crate::simulator::standing::standing_keys;
use crate::simulator::world::MILLISECOND;

fn options(count: u32) -> ScanOptions {
    ScanOptions { count, ..ScanOptions::new(Subject::Cluster) }
}

/// The keys of the next batch; none at the end.
fn next(lab: &mut Lab, scan: ScanId) -> Result<Option<Vec<Vec<u8>>>, Error> {
    let id = lab.next_batch(scan);
    lab.drain();
    Ok(keys_of(&outcome(lab, id)?))
}

fn keys_of(reply: &Reply) -> Option<Vec<Vec<u8>>> {
    match &reply.nodes[..] {
        [ReplyNode::Null] => None,
        [ReplyNode::Array(_), keys @ ..] => Some(
            keys.iter()
                .map(|key| match key {
                    ReplyNode::BulkString(key) => key.to_vec(),
                    other => panic!("{other:?} is no key"),
                })
                .collect(),
        ),
        other => panic!("{other:?} is no batch"),
    }
}

/// The rest of a scan, which fails nowhere.
fn rest(lab: &mut Lab, scan: ScanId) -> Vec<Vec<u8>> {
    let mut keys = Vec::new();
    while let Some(batch) = next(lab, scan).unwrap() {
        keys.extend(batch);
    }
    assert_eq!(next(lab, scan), Ok(None), "the end stays the end");
    keys
}

fn all() -> BTreeSet<Vec<u8>> {
    standing_keys().collect()
}

fn set(keys: &[Vec<u8>]) -> BTreeSet<Vec<u8>> {
    keys.iter().cloned().collect()
}

#[test]
fn a_calm_cluster_gives_each_key_once() {
    for parallel in [1, 2, 8] {
        let mut lab = lab();
        let scan = lab.cluster.open_scan(ScanOptions { parallel, ..options(4) }).unwrap();
        let keys = rest(&mut lab, scan);
        assert_eq!((keys.len(), set(&keys)), (all().len(), all()));
        lab.cluster.close_scan(scan);
        lab.drain();
        assert_eq!(lab.cluster.pending(), 0);
    }
}

#[test]
fn a_server_alone_is_scanned_as_one() {
    let mut lab = lab_with(Dialect { cluster: false, ..Dialect::modern() }, |_, _| {});
    let scan = lab.cluster.open_scan(options(7)).unwrap();
    let first = next(&mut lab, scan).unwrap().unwrap();
    let token = lab.cluster.scan_token(scan).expect("a token");
    assert_eq!(first.len(), 7);
    let resumed = lab.cluster.open_scan(ScanOptions { token: Some(token), ..options(7) }).unwrap();
    let (mut both, others) = (first.clone(), rest(&mut lab, resumed));
    assert!(others.iter().all(|key| !first.contains(key)), "it goes on behind the first batch");
    both.extend(others);
    both.extend(rest(&mut lab, scan));
    assert!(!both.is_empty());
    let ended = lab.cluster.scan_token(scan).expect("a token");
    let over = lab.cluster.open_scan(ScanOptions { token: Some(ended), ..options(7) }).unwrap();
    assert_eq!(next(&mut lab, over), Ok(None), "the token of a scan that is over");
}

#[test]
fn one_node_gives_what_it_has() {
    let mut lab = lab();
    let node = &lab.servers.nodes[1];
    let address = NodeAddr::new(&node.host, node.address.port());
    let scan = lab.cluster.open_scan(ScanOptions::new(Subject::Node(address))).unwrap();
    let keys = rest(&mut lab, scan);
    let is_there = |key: &Vec<u8>| lab.servers.owner(slot_of(std::str::from_utf8(key).unwrap())) == 1;
    assert!(keys.iter().all(is_there) && !keys.is_empty());
    let nobody = Subject::Node(NodeAddr::new("10.9.9.9", 6379));
    let scan = lab.cluster.open_scan(ScanOptions::new(nobody)).unwrap();
    assert!(matches!(next(&mut lab, scan), Err(Error::Connect(_))));
}

/// A slot that moves between two batches, in both directions; one that stays open.
#[test]
fn moving_slots_hide_nothing() {
    for (from, to) in [(0, 2), (2, 0)] {
        for stays_open in [false, true] {
            let mut lab = lab();
            let slot = slot_of(&key_at(from, 'k'));
            let scan = lab.cluster.open_scan(options(2)).unwrap();
            let mut keys = next(&mut lab, scan).unwrap().unwrap();
            lab.servers.migrations.insert(slot, Migration { from, to, progress: 0 });
            for progress in [20, 40, 60, 80, 100] {
                keys.extend(next(&mut lab, scan).unwrap().unwrap());
                lab.servers.migrations.get_mut(&slot).unwrap().progress = progress;
            }
            if !stays_open {
                lab.servers.finish_migration(slot);
                (0..3).for_each(|node| lab.servers.gossip(node));
            }
            keys.extend(rest(&mut lab, scan));
            assert_eq!(set(&keys), all(), "from {from} to {to}, open: {stays_open}");
        }
    }
}

#[test]
fn a_failover_in_the_middle_hides_nothing() {
    let mut lab = lab_with_replicas();
    let scan = lab.cluster.open_scan(options(2)).unwrap();
    let mut keys = next(&mut lab, scan).unwrap().unwrap();
    keys.extend(next(&mut lab, scan).unwrap().unwrap());
    crash(&mut lab, 0);
    lab.servers.promote(3);
    (1..6).for_each(|node| lab.servers.gossip(node));
    keys.extend(rest(&mut lab, scan));
    assert_eq!(set(&keys), all());
}

#[test]
fn the_cursor_of_another_process_is_not_used() {
    let mut lab = lab();
    let scan = lab.cluster.open_scan(options(2)).unwrap();
    let mut keys = next(&mut lab, scan).unwrap().unwrap();
    lab.servers.start_anew(0);
    for conn in lab.open_conns(None) {
        lab.cut(conn);
    }
    keys.extend(rest(&mut lab, scan));
    assert_eq!(set(&keys), all());
    // Another connection to the same process goes on where the last one was.
    let scan = lab.cluster.open_scan(options(2)).unwrap();
    let mut keys = next(&mut lab, scan).unwrap().unwrap();
    for conn in lab.open_conns(None) {
        lab.cut(conn);
    }
    keys.extend(rest(&mut lab, scan));
    assert_eq!((keys.len(), set(&keys)), (all().len(), all()));
}

/// The other shards' keys come; then it says what is wrong, and goes on when that is over.
#[test]
fn a_dead_shard_is_told_and_waited_for() {
    let mut lab = lab();
    let scan = lab.cluster.open_scan(options(100)).unwrap();
    crash(&mut lab, 1);
    let mut keys = Vec::new();
    let error = loop {
        match next(&mut lab, scan) {
            Ok(batch) => keys.extend(batch.expect("the scan is not at its end")),
            Err(error) => break error,
        }
    };
    assert!(matches!(&error, Error::Connect(_)), "{error:?}");
    let is_missing = |key: &Vec<u8>| lab.servers.owner(slot_of(std::str::from_utf8(key).unwrap())) == 1;
    let missing: BTreeSet<_> = all().into_iter().filter(is_missing).collect();
    assert_eq!(set(&keys), &all() - &missing);
    lab.servers.nodes[1].reach = Reach::Up;
    let rest = rest(&mut lab, scan);
    assert_eq!((rest.len(), set(&rest)), (missing.len(), missing));
}

#[test]
fn a_token_goes_on_in_another_client() {
    for parallel in [1, 3] {
        let mut lab = lab();
        let mut keys = Vec::new();
        let mut token = None;
        let mut clients = 0;
        loop {
            clients += 1;
            let scan = lab.cluster.open_scan(ScanOptions { token, parallel, ..options(3) }).unwrap();
            let batch = next(&mut lab, scan).unwrap();
            token = lab.cluster.scan_token(scan);
            lab.cluster.close_scan(scan);
            match batch {
                Some(batch) => keys.extend(batch),
                None => break,
            }
        }
        assert!(clients > 20);
        assert_eq!((keys.len(), set(&keys)), (all().len(), all()));
    }
}

#[test]
fn what_cannot_be_scanned_is_said() {
    let mut lab = lab();
    let mut refused = |options: ScanOptions| match lab.cluster.open_scan(options) {
        Err(Error::InvalidArgument(text)) => text,
        other => panic!("{other:?}"),
    };
    assert!(refused(options(0)).contains("at least 1"));
    assert!(refused(ScanOptions { parallel: 0, ..options(1) }).contains("at least 1"));
    assert!(refused(ScanOptions { token: Some(b"KSC1".to_vec()), ..options(1) }).contains("token"));
    let hash = ScanOptions::new(Subject::Hash(b"key".to_vec()));
    assert!(refused(ScanOptions { kind: Some(b"string".to_vec()), ..hash }).contains("type"));
    let scan = lab.cluster.open_scan(options(1)).unwrap();
    let token = lab.cluster.scan_token(scan);
    let other = ScanOptions { token, pattern: Some(b"a*".to_vec()), ..options(1) };
    assert!(
        matches!(lab.cluster.open_scan(other), Err(Error::InvalidArgument(text)) if text.contains("match"))
    );
    lab.cluster.close();
    assert!(matches!(lab.cluster.open_scan(options(1)), Err(Error::Closed)));
    let id = lab.next_batch(scan);
    lab.drain();
    assert_eq!(outcome(&mut lab, id), Err(Error::Closed));
}

/// What a scan holds does not grow with the keys while nobody asks for them.
#[test]
fn nobody_who_waits_costs_one_page_of_each_pass() {
    let mut lab = lab();
    let scan = lab.cluster.open_scan(ScanOptions { parallel: 3, ..options(2) }).unwrap();
    next(&mut lab, scan).unwrap();
    wait(&mut lab, 500 * MILLISECOND);
    let commands = lab.servers.commands_seen;
    wait(&mut lab, 500 * MILLISECOND);
    assert_eq!(lab.servers.commands_seen, commands);
    assert!(lab.cluster.footprint() < 30, "{}", lab.cluster.footprint());
}
