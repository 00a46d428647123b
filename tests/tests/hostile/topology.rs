//! Topologies that no cluster has: CLUSTER SLOTS, CLUSTER SHARDS and CLUSTER INFO with nonsense,
//! with too much, and with other nodes each time.
//!
//! Source: Redis documentation, "CLUSTER SLOTS", "CLUSTER SHARDS", "CLUSTER INFO".

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use keyslot_tests::hostile::{Act, array, bulk, integer};

use crate::case::Case;
use crate::deed::Deed;
use crate::shapes::answered;

const NO_CONNECTION: &[&str] = &["connect"];
const SERVED: &[&str] = &["ok of:k"];
/// Too large an answer may also cost its connection, and at the start that is the only one.
const REFUSED: &[&str] = &["ok of:k", "connect: connect"];

/// A row of CLUSTER SLOTS.
fn row(first: i64, last: i64, nodes: &[Vec<u8>]) -> Vec<u8> {
    array(&[vec![integer(first), integer(last)], nodes.to_vec()].concat())
}

fn node(host: &str, port: u16, id: usize) -> Vec<u8> {
    array(&[bulk(host), integer(port.into()), bulk(format!("{id:040x}"))])
}

/// Nodes at which nobody listens: connections to them are refused at once.
fn strangers(first: usize, count: usize) -> Vec<Vec<u8>> {
    (first..first + count)
        .map(|number| node(&format!("127.77.{}.{}", number / 250, number % 250 + 1), 1, number))
        .collect()
}

/// The topology with the asked node as the primary of all slots, and these others.
fn with_replicas(port: u16, others: &[Vec<u8>]) -> Vec<u8> {
    array(&[row(0, 16_383, &[vec![node("127.0.0.1", port, 1)], others.to_vec()].concat())])
}

pub(crate) fn cases() -> Vec<Case> {
    [slots(), large(), shards(), info(), changing()].into_iter().flatten().collect()
}

fn slots() -> Vec<Case> {
    let start = |name, expected: &[&'static str], bytes: Vec<u8>| {
        answered(name, expected, "CLUSTER SLOTS", bytes).deed(Deed::Connect).memory(32)
    };
    let one = |first, last| array(&[row(first, last, &[node("127.0.0.1", 1, 1)])]);
    vec![
        start("SLOTS: an integer", NO_CONNECTION, integer(5)),
        start("SLOTS: a string", NO_CONNECTION, bulk("0-16383")),
        start("SLOTS: null", NO_CONNECTION, b"_\r\n".to_vec()),
        start("SLOTS: nobody serves anything", NO_CONNECTION, array(&[])),
        start("SLOTS: rows that are integers", NO_CONNECTION, array(&[integer(1), integer(2)])),
        start("SLOTS: a slot beyond the last", NO_CONNECTION, one(0, 16_384)),
        start("SLOTS: a negative slot", NO_CONNECTION, one(-1, 16_383)),
        start("SLOTS: the last before the first", NO_CONNECTION, one(9, 5)),
        start(
            "SLOTS: a slot named twice",
            NO_CONNECTION,
            array(&[row(0, 100, &strangers(1, 1)), row(100, 16_383, &strangers(2, 1))]),
        ),
        start("SLOTS: an error that is blank", NO_CONNECTION, b"-\r\n".to_vec()),
        start("SLOTS: no port", NO_CONNECTION, array(&[row(0, 16_383, &[array(&[bulk("127.0.0.1")])])])),
        start(
            "SLOTS: port 70000",
            NO_CONNECTION,
            array(&[row(0, 16_383, &[array(&[bulk("127.0.0.1"), integer(70_000)])])]),
        ),
        start(
            "SLOTS: a host with control characters",
            NO_CONNECTION,
            array(&[row(0, 16_383, &[node("\x1b[2J\x07\n", 6379, 1)])]),
        ),
        start(
            "SLOTS: a host of 1 MiB",
            NO_CONNECTION,
            array(&[row(0, 16_383, &[node(&"h".repeat(1 << 20), 6379, 1)])]),
        ),
        Case::new("SLOTS: closed in the middle", NO_CONNECTION, |asked| {
            asked.is("CLUSTER SLOTS").then(|| vec![Act::send("*1\r\n*3\r\n:0\r\n"), Act::Close])
        })
        .deed(Deed::Connect),
        Case::new("SLOTS: silence in the middle", NO_CONNECTION, |asked| {
            asked.is("CLUSTER SLOTS").then(|| vec![Act::send("*1\r\n*3\r\n:0\r\n"), Act::Silence])
        })
        .deed(Deed::Connect),
        Case::new("SLOTS: a host that is empty", SERVED, |asked| {
            let port = asked.ports[0];
            asked.is("CLUSTER SLOTS").then(|| vec![Act::send(array(&[row(0, 16_383, &[node("", port, 1)])]))])
        }),
        Case::new("SLOTS: 16,384 rows of one slot", SERVED, |asked| {
            let member = node("127.0.0.1", asked.ports[0], 1);
            let rows = || (0..16_384).rev().map(|slot| row(slot, slot, std::slice::from_ref(&member)));
            asked.is("CLUSTER SLOTS").then(|| vec![Act::send(array(&rows().collect::<Vec<_>>()))])
        }),
        Case::new("SLOTS: the primary refuses connections", &["connect"], |asked| {
            asked.is("CLUSTER SLOTS").then(|| vec![Act::send(array(&[row(0, 16_383, &strangers(1, 1))]))])
        }),
    ]
}

/// What a cluster may have at most, and more.
fn large() -> Vec<Case> {
    let shards = |count: usize, nodes: usize| -> Vec<u8> {
        let slots = 16_384 / count as i64;
        let rows = (0..count).map(|shard| {
            let first = slots * shard as i64;
            row(first, first + slots - 1, &strangers(shard * nodes, nodes))
        });
        array(&rows.collect::<Vec<_>>())
    };
    let start = |name, expected: &[&'static str], bytes: Vec<u8>| {
        answered(name, expected, "CLUSTER SLOTS", bytes).deed(Deed::Connect).heavy()
    };
    vec![
        Case::new("SLOTS: 4,096 nodes", SERVED, |asked| {
            let slots = || with_replicas(asked.ports[0], &strangers(2, 4_095));
            asked.is("CLUSTER SLOTS").then(|| vec![Act::send(slots())])
        })
        .heavy(),
        Case::new("SLOTS: 4,097 nodes", NO_CONNECTION, |asked| {
            let slots = || with_replicas(asked.ports[0], &strangers(2, 4_096));
            asked.is("CLUSTER SLOTS").then(|| vec![Act::send(slots())])
        })
        .deed(Deed::Connect)
        .heavy(),
        start("SLOTS: 2,000 shards of 301 nodes", NO_CONNECTION, shards(2_000, 301)).memory(256),
        start("SLOTS: 1,024 shards of 4 nodes", &["ok"], shards(1_024, 4)).memory(64),
        Case::new("a PING to 1,000 nodes that refuse connections", &["ok 1"], |asked| {
            let slots = || with_replicas(asked.ports[0], &strangers(2, 999));
            asked.is("CLUSTER SLOTS").then(|| vec![Act::send(slots())])
        })
        .deed(Deed::Health)
        .heavy(),
    ]
}

fn shards() -> Vec<Case> {
    let shards = |name, bytes: Vec<u8>| answered(name, SERVED, "CLUSTER SHARDS", bytes);
    let map = |slots: Vec<u8>, nodes: Vec<u8>| array(&[array(&[bulk("slots"), slots, bulk("nodes"), nodes])]);
    let pairs = |count: i64| {
        let slots = (0..count).rev().flat_map(|slot| [integer(slot % 16_384), integer(slot % 16_384)]);
        array(&slots.collect::<Vec<_>>())
    };
    vec![
        // An answer of another type is one to another question: the connection is closed.
        answered("SHARDS: an integer", &["connect: connect"], "CLUSTER SHARDS", integer(1)),
        shards("SHARDS: a shard without nodes", array(&[array(&[bulk("slots"), array(&[])])])),
        shards("SHARDS: an odd number of slots", map(array(&[integer(0)]), array(&[]))),
        shards("SHARDS: 16,384 pairs, descending", map(pairs(16_384), array(&[]))),
        shards("SHARDS: a slot named twice", map(array(&[0, 5, 5, 9].map(integer)), array(&[]))),
        answered(
            "SHARDS: 250,000 pairs, descending",
            REFUSED,
            "CLUSTER SHARDS",
            map(pairs(250_000), array(&[])),
        )
        .memory(96)
        .heavy(),
        answered(
            "SHARDS: 1,600,000 pairs, descending",
            REFUSED,
            "CLUSTER SHARDS",
            map(pairs(1_600_000), array(&[])),
        )
        .memory(384)
        .heavy(),
        answered(
            "SHARDS: a zone of 8 MiB",
            REFUSED,
            "CLUSTER SHARDS",
            map(pairs(1), node_in_zone(&"z".repeat(8 << 20))),
        )
        .memory(64),
        answered(
            "SHARDS: 10,000 nodes",
            REFUSED,
            "CLUSTER SHARDS",
            map(pairs(1), array(&shard_nodes(10_000))),
        )
        .memory(64)
        .heavy(),
    ]
}

/// The only node of a shard, in this zone.
fn node_in_zone(zone: &str) -> Vec<u8> {
    let member = [
        [bulk("id"), bulk(format!("{:040x}", 1))],
        [bulk("port"), integer(1)],
        [bulk("ip"), bulk("127.0.0.1")],
        [bulk("endpoint"), bulk("127.0.0.1")],
        [bulk("role"), bulk("master")],
        [bulk("health"), bulk("online")],
        [bulk("availability-zone"), bulk(zone)],
    ];
    array(&[array(&member.concat())])
}

/// Nodes of CLUSTER SHARDS at which nobody listens.
fn shard_nodes(count: usize) -> Vec<Vec<u8>> {
    let of = |number: usize| {
        let host = format!("127.77.{}.{}", number / 250, number % 250 + 1);
        let member = [
            [bulk("id"), bulk(format!("{number:040x}"))],
            [bulk("port"), integer(1)],
            [bulk("ip"), bulk(&host)],
            [bulk("endpoint"), bulk(&host)],
            [bulk("role"), bulk("replica")],
            [bulk("health"), bulk("online")],
        ];
        array(&member.concat())
    };
    (2..count + 2).map(of).collect()
}

fn info() -> Vec<Case> {
    vec![
        answered("INFO: an integer", &["connect: connect"], "CLUSTER INFO", ":1\r\n"),
        answered(
            "INFO: an epoch of 30 digits",
            SERVED,
            "CLUSTER INFO",
            bulk("cluster_current_epoch:999999999999999999999999999999\r\n"),
        ),
        answered(
            "INFO: 1 MiB without an epoch",
            REFUSED,
            "CLUSTER INFO",
            bulk("cluster_state:ok\r\n".repeat(60_000)),
        )
        .memory(48),
        Case::new("INFO: never answered", &["ok of:k", "connect: connect"], |asked| {
            asked.is("CLUSTER INFO").then(|| vec![Act::Silence])
        }),
    ]
}

/// Another topology each time that it is asked for.
fn changing() -> Vec<Case> {
    let often = |options: keyslot::Options| options.refresh_interval(Duration::from_millis(100));
    let each_time = |count: usize| {
        let asked_before = AtomicUsize::new(0);
        move |asked: &keyslot_tests::hostile::Asked<'_>| {
            let slots = || {
                let first = 2 + asked_before.fetch_add(1, Ordering::SeqCst) % 4 * count;
                with_replicas(asked.ports[0], &strangers(first, count))
            };
            asked.is("CLUSTER SLOTS").then(|| vec![Act::send(slots())])
        }
    };
    vec![
        Case::new("SLOTS: 100 other nodes each time", &["ok"], each_time(100))
            .deed(Deed::For(Duration::from_secs(1)))
            .settings(often),
        Case::new("SLOTS: 4,000 other nodes each time", &["ok"], each_time(4_000))
            .deed(Deed::For(Duration::from_secs(1)))
            .settings(often)
            .memory(64)
            .heavy(),
    ]
}
