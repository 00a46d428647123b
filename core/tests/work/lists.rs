//! Servers' lists at their limits, and beyond.

use std::time::Duration;

use keyslot_core::resp::{Decoder, Frame, Limits, Reply};
use keyslot_core::scan::{NodeView, SlotCoverage};
use keyslot_core::topology::Topology;

use crate::machine::{cluster_shards, cluster_slots, id};
use crate::{grows_in_proportion, time};

/// Far above what any of these takes.
const MOST: Duration = Duration::from_secs(1);

fn decode(bytes: bytes::Bytes) -> Reply {
    let mut decoder = Decoder::new(Limits::default());
    decoder.feed(bytes);
    match decoder.poll() {
        Ok(Some(Frame::Reply(reply))) => reply,
        other => panic!("{other:?}"),
    }
}

#[test]
fn cluster_slots_of_more_nodes_than_there_may_be() {
    let nodes = |shard: usize| (0..301).map(|node| shard * 301 + node).collect();
    let reply = decode(cluster_slots((0..2_000).map(|shard| (shard * 8, shard * 8 + 7, nodes(shard)))));
    let mut result = None;
    let took = time(|| {
        result = Some(Topology::from_cluster_slots(&reply, "asked").map(|mut topology| {
            topology.enrich(topology.clone());
            topology
        }));
    });
    println!("2,000 shards of 301 nodes: {took:.1?}");
    assert!(result.unwrap().unwrap_err().contains("4096 nodes"));
    assert!(took < Duration::from_millis(500), "{took:?}");
}

#[test]
fn cluster_shards_with_slots_that_descend() {
    let pairs = (0..1_600_000usize).rev().map(|slot| slot % 16_384).flat_map(|slot| [slot, slot]).collect();
    let reply = decode(cluster_shards([(pairs, vec![1])]));
    let mut result = None;
    let took = time(|| result = Some(Topology::from_cluster_shards(&reply, "asked", false)));
    println!("1,600,000 pairs: {took:.1?}");
    assert!(result.unwrap().unwrap_err().contains("twice"));
    assert!(took < Duration::from_millis(500), "{took:?}");
}

#[test]
fn cluster_nodes_with_a_slot_that_moves_a_million_times() {
    let open = format!(" [5->-{}]", id(1)).repeat(1_000_000);
    let text = format!("{} 10.0.0.1:7000@17000 myself,master - 0 0 1 connected 0-16383{open}\n", id(0));
    let mut claimed = None;
    let took = time(|| {
        claimed = NodeView::parse(&text, "asked").map(|view| {
            let mut coverage = SlotCoverage::default();
            let claim = coverage.claim(&view);
            coverage.conclude(&claim, &view)
        });
    });
    println!("a million open slots: {took:.1?}");
    assert_eq!(claimed, None);
    assert!(took < Duration::from_millis(500), "{took:?}");
}

#[test]
fn cluster_slots_of_shards_of_one_node() {
    grows_in_proportion("shards of one node", 4_096, MOST, |count| {
        let each = 16_384 / count;
        let rows = (0..count).rev().map(|shard| (shard * each, (shard + 1) * each - 1, vec![shard]));
        let topology = Topology::from_cluster_slots(&decode(cluster_slots(rows)), "asked").unwrap();
        assert_eq!(topology.shards.len(), count);
    });
}

#[test]
fn cluster_slots_of_slots_that_go_round() {
    grows_in_proportion("slots that go round 4,096 shards", 16_384, MOST, |count| {
        let rows = (0..count).rev().map(|slot| (slot, slot, vec![slot * 7919 % (count / 4)]));
        let topology = Topology::from_cluster_slots(&decode(cluster_slots(rows)), "asked").unwrap();
        assert_eq!(topology.shards.len(), count / 4);
    });
}

#[test]
fn cluster_shards_that_add_to_cluster_slots() {
    for in_one_shard in [false, true] {
        grows_in_proportion("nodes of both lists", 2_048, MOST, |count| {
            let shards = if in_one_shard { 1 } else { count };
            let each = 16_384 / shards;
            let of_slots = |shard: usize| (0..count / shards).map(|node| shard * 10_000 + node).collect();
            let rows = (0..shards).map(|shard| (shard * each, (shard + 1) * each - 1, of_slots(shard)));
            let mut topology = Topology::from_cluster_slots(&decode(cluster_slots(rows)), "asked").unwrap();
            // As many nodes again, and the known ones behind them.
            let more = |shard: usize| {
                let new = (0..count / shards).map(|node| shard * 10_000 + 5_000 + node);
                new.chain(of_slots(shard)).collect::<Vec<_>>()
            };
            let rows = (0..shards).rev().map(|shard| (Vec::new(), more(shard)));
            let reply = decode(cluster_shards(rows));
            topology.enrich(Topology::from_cluster_shards(&reply, "asked", false).unwrap());
            assert_eq!(topology.shards.iter().map(|shard| shard.nodes.len()).sum::<usize>(), 2 * count);
            let older = Topology::default();
            assert_eq!(topology.changes_since(&older).joined.len(), 2 * count);
            assert!(topology.failovers_since(&topology).is_empty());
        });
    }
}

#[test]
fn cluster_nodes_with_all_slots_on_the_move() {
    grows_in_proportion("slots on the move", 16_384, MOST, |count| {
        let open = (0..count).rev().map(|slot| format!(" [{slot}->-{}]", id(1 + slot % 4_095)));
        let own = format!("{} 10.0.0.1:7000@17000 myself,master - 0 0 1 connected 0-16383", id(0));
        let peers =
            (1..4_096).rev().map(|peer| format!("\n{} 10.0.0.1:7@8 master - 0 0 1 connected", id(peer)));
        let text: String = core::iter::once(own).chain(open).chain(peers).collect();
        let view = NodeView::parse(&text, "asked").unwrap();
        let mut coverage = SlotCoverage::default();
        let claim = coverage.claim(&view);
        assert!(coverage.conclude(&claim, &view));
        assert_eq!(coverage.halves().count(), count);
        assert_eq!(coverage.to_do().count(), 0);
        assert!(!coverage.is_early(&view));
    });
}
