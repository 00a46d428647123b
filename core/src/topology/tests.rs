use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::answers::member_of_slots;
use super::*;
use crate::resp::{Reply, ReplyNode};

/// CLUSTER SLOTS with a row for each of these ranges, each at a node of its own.
fn slots(ranges: impl Iterator<Item = (i64, i64)>) -> Reply {
    let mut nodes = Vec::from([ReplyNode::Array(0)]);
    let mut rows = 0;
    for (row, (first, last)) in (1..).zip(ranges) {
        let host = ReplyNode::BulkString(format!("host-{row}").into());
        let (first, last) = (ReplyNode::Integer(first), ReplyNode::Integer(last));
        nodes.extend([ReplyNode::Array(3), first, last, ReplyNode::Array(2), host, ReplyNode::Integer(7000)]);
        rows = row;
    }
    nodes[0] = ReplyNode::Array(rows);
    Reply { nodes }
}

fn read(reply: &Reply) -> Result<Topology, String> {
    Topology::from_cluster_slots(reply, "asked")
}

#[test]
fn what_no_cluster_is_gets_refused() {
    assert_eq!(read(&slots((0..2_000).map(|slot| (slot, slot)))).unwrap().shards.len(), 2_000);
    let error = read(&slots((0..5_000).map(|slot| (slot, slot)))).unwrap_err();
    assert!(error.contains("more than 4096 nodes"), "{error}");
    let error = read(&slots([(0, 10), (10, 20)].into_iter())).unwrap_err();
    assert!(error.contains("slot 10 twice"), "{error}");
    assert!(read(&slots([(3, 2)].into_iter())).is_err());
    assert!(read(&slots(core::iter::empty())).is_err());
}

#[test]
fn a_node_whose_host_is_none_has_no_address() {
    let bulk = |text: &[u8]| ReplyNode::BulkString(text.to_vec().into());
    let member = |endpoint: ReplyNode, others: &[(&str, &str)]| {
        let mut nodes = Vec::from([ReplyNode::Array(4), endpoint, ReplyNode::Integer(7000), bulk(b"id")]);
        nodes.push(ReplyNode::Map(others.len() as u32));
        nodes.extend(others.iter().flat_map(|(name, value)| [bulk(name.as_bytes()), bulk(value.as_bytes())]));
        let reply = Reply { nodes };
        let member = member_of_slots(reply.cursor().unwrap(), Role::Primary, "asked");
        member.map(|member| member.address.host().to_string())
    };
    let long = "a".repeat(254);
    for wrong in [
        &b"\x1b[2J"[..],
        b"a\nb",
        b"a b",
        b"\x9b",
        "\u{9b}".as_bytes(),
        "\u{fc}".as_bytes(),
        b"a/b",
        long.as_bytes(),
    ] {
        assert_eq!(member(bulk(wrong), &[]), None, "{}", wrong.escape_ascii());
        let others = [("ip", "10.0.0.1")];
        assert_eq!(member(bulk(wrong), &others).as_deref(), Some("10.0.0.1"), "{}", wrong.escape_ascii());
    }
    assert_eq!(
        member(bulk(b"?"), &[("ip", "\x07"), ("hostname", "b.example")]).as_deref(),
        Some("b.example")
    );
    assert_eq!(member(ReplyNode::Integer(5), &[]), None);
    for unknown in [ReplyNode::Null, bulk(b"")] {
        assert_eq!(member(unknown, &[("ip", "10.0.0.1")]).as_deref(), Some("asked"));
    }
    for right in ["::1", "fe80::1%eth0", "redis_1.example.", "10.0.0.1", &"a".repeat(253)] {
        assert_eq!(member(bulk(right.as_bytes()), &[]).as_deref(), Some(right));
    }
}

#[test]
fn changes_are_told_in_ranges() {
    let before = read(&slots([(0, 99), (100, 199)].into_iter())).unwrap();
    let mut now = read(&slots([(0, 49), (100, 199), (50, 99)].into_iter())).unwrap();
    let change = now.changes_since(&before);
    let moved: Vec<_> = change.moved.iter().map(|moved| moved.slots.to_string()).collect();
    assert_eq!(moved, ["50-99"]);
    assert_eq!(change.moved[0].from.as_ref().unwrap().host(), "host-1");
    assert_eq!(change.moved[0].to.as_ref().unwrap().host(), "host-3");
    assert_eq!((change.joined.len(), change.left.len()), (1, 0));
    assert!(before.changes_since(&before).is_empty());

    let replica = |host| Member {
        id: String::new(),
        address: NodeAddr::new(host, 7000),
        role: Role::Replica,
        health: Health::Online,
        availability_zone: None,
    };
    let mut older = now.clone();
    older.shards[0].nodes.push(replica("replica"));
    now.shards[0].nodes[0].address = NodeAddr::new("replica", 7000);
    let (from, to) = (NodeAddr::new("host-1", 7000), NodeAddr::new("replica", 7000));
    assert_eq!(now.failovers_since(&older), [(from, to)]);
    assert_eq!(older.failovers_since(&older), []);
    // Behind a balancer all have one address: what is told is by ids.
    let mut shared = older;
    for (number, node) in (0..).zip(shared.shards.iter_mut().flat_map(|shard| &mut shard.nodes)) {
        (node.id, node.address) = (format!("id-{number}"), NodeAddr::new("balancer", 7000));
    }
    assert_eq!(shared.failovers_since(&shared), []);
    assert!(shared.changes_since(&shared).is_empty());
    let mut later = shared.clone();
    later.shards[0].nodes.reverse();
    (later.shards[0].nodes[0].role, later.shards[0].nodes[1].role) = (Role::Primary, Role::Replica);
    assert_eq!(later.failovers_since(&shared).len(), 1);
    assert!(!later.agrees_with(&shared) && later.changes_since(&shared).is_empty());
}

#[test]
fn a_topology_to_start_from_is_checked() {
    let mut topology = read(&slots([(0, 99), (100, 199)].into_iter())).unwrap();
    assert_eq!(topology.check(), Ok(()));
    let again = topology.shards[0].clone();
    topology.shards.push(again);
    assert!(topology.check().unwrap_err().contains("slot 0 twice"));
    topology.shards.clear();
    assert!(topology.check().unwrap_err().contains("no slot"));
}

/// CLUSTER SLOTS of shards of one slot each, with so many nodes each and ids of this length.
fn shards_of(sizes: &[usize], id_length: usize) -> Reply {
    let mut nodes = Vec::from([ReplyNode::Array(sizes.len() as u32)]);
    let mut node = 0;
    for (slot, size) in (0..).zip(sizes) {
        let slot = ReplyNode::Integer(slot);
        nodes.extend([ReplyNode::Array(2 + *size as u32), slot.clone(), slot]);
        for _ in 0..*size {
            node += 1;
            let text = |text: String| ReplyNode::BulkString(text.into());
            let port = ReplyNode::Integer(7000);
            nodes.extend([ReplyNode::Array(3), text(format!("h{node}")), port]);
            nodes.push(text(format!("{node:0id_length$}")));
        }
    }
    Reply { nodes }
}

#[test]
fn all_nodes_are_counted() {
    let count = |topology: Topology| topology.shards.iter().map(|shard| shard.nodes.len()).sum::<usize>();
    assert_eq!(read(&shards_of(&[64; 64], 40)).map(count), Ok(NODES_MAX));
    let mut sizes = [64; 64];
    sizes[0] = 65;
    assert!(read(&shards_of(&sizes, 40)).unwrap_err().contains("more than 4096 nodes"));
    assert_eq!(read(&slots((0..4_096).map(|slot| (slot, slot)))).map(count), Ok(NODES_MAX));
    assert!(read(&slots((0..4_097).map(|slot| (slot, slot)))).is_err());
    assert!(read(&shards_of(&[1], ID_LENGTH_MAX)).is_ok());
    assert!(read(&shards_of(&[1], ID_LENGTH_MAX + 1)).unwrap_err().contains("65 bytes"));
}

#[test]
fn what_is_added_is_bounded_too() {
    let mut full = read(&shards_of(&[64; 64], 40)).unwrap();
    let mut other = full.clone();
    for (number, shard) in (1..).zip(&mut other.shards) {
        shard.nodes.push(Member { id: format!("new-{number}"), ..shard.nodes[0].clone() });
        shard.nodes[0].health = Health::Failed;
    }
    let before = full.clone();
    full.enrich(other.clone());
    assert_eq!(full.shards[63].nodes[0].health, Health::Failed);
    assert_eq!(full.members().count(), NODES_MAX);
    let mut less = before;
    less.shards.pop();
    other.shards.truncate(32);
    less.enrich(other);
    assert_eq!(less.members().count(), 63 * 64 + 32);
    assert!(less.shards[31].nodes.last().unwrap().id.starts_with("new-"));
}

#[test]
fn nodes_are_found_by_id_and_by_address() {
    let topology = read(&shards_of(&[3, 2, 3], 40)).unwrap();
    let directory = Index::of(&topology);
    for (place, member) in topology.members() {
        assert_eq!(directory.with_id(&topology, &member.id), Some(place));
        let at: Vec<_> = directory.at(&topology, &member.address).collect();
        assert_eq!(at, [(place, member)]);
    }
    assert_eq!(directory.with_id(&topology, ""), None);
    assert_eq!(directory.at(&topology, &NodeAddr::new("h1", 7001)).count(), 0);
}

#[test]
fn items_of_one_key_keep_their_order() {
    let items: Vec<_> = (0..1_000_u32).map(|number| (number * 7919 % 10, number)).collect();
    let mut expected = items.clone();
    expected.sort_by_key(|(key, _)| *key);
    assert_eq!(in_order(items, |(key, _)| *key), expected);
}

#[test]
fn shards_name_each_slot_once() {
    let shard = |pairs: &[(i64, i64)]| {
        let text = |text: &'static str| ReplyNode::BulkString(text.into());
        let bounds = pairs.iter().flat_map(|(first, last)| [*first, *last]).map(ReplyNode::Integer);
        let mut nodes = Vec::from([ReplyNode::Array(1), ReplyNode::Array(4), text("slots")]);
        nodes.push(ReplyNode::Array(2 * pairs.len() as u32));
        nodes.extend(bounds);
        nodes.extend([text("nodes"), ReplyNode::Array(0)]);
        Topology::from_cluster_shards(&Reply { nodes }, "asked", false)
    };
    let most: Vec<_> = (0..16_384).rev().map(|slot| (slot, slot)).collect();
    let topology = shard(&most).unwrap();
    assert_eq!(topology.shards[0].slots.len(), 16_384);
    assert!(topology.shards[0].slots.is_sorted_by_key(|range| range.first().number()));
    assert!(shard(&[(5, 9), (0, 5)]).unwrap_err().contains("slot 5 twice"));
}
