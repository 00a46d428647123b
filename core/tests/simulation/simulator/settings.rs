//! The cluster of a random run, and its client's settings.

use std::time::Duration;

use keyslot_core::address::NodeAddr;
use keyslot_core::config::{Config, Mode, Pool, ReplicaReads, RespVersion, Retry, RetryWrites};
use keyslot_core::slot::{SLOT_COUNT, Slot, SlotRange};
use keyslot_core::topology::{Health, Member, Role, Shard, Topology};

use super::choices::Choices;
use super::faults::Mood;
use super::server::{Dialect, Node, Servers};

const REQUEST_TIMEOUT: Duration = Duration::from_millis(1_000);
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

pub(super) fn random_servers(choices: &mut Choices) -> Servers {
    let cluster = !choices.chance(5);
    let mut dialect = Dialect::modern();
    dialect.hello = !choices.chance(20);
    dialect.setinfo = !choices.chance(30);
    dialect.shards = !choices.chance(30);
    dialect.cluster = cluster;
    dialect.password = choices.chance(20).then(|| "secret".to_string());
    dialect.empty_hosts = choices.chance(15);
    dialect.zones = choices.chance(30);
    dialect.myid = !choices.chance(10);
    let primaries = if cluster { choices.pick(&[3, 2, 4, 1]) } else { 1 };
    let replicas = if cluster { choices.pick(&[1, 0]) } else { 0 };
    let names = choices.chance(25) && !dialect.empty_hosts;
    Servers::new(dialect, primaries, replicas, names)
}

/// Also says whether the settings name nodes as primaries that never were.
pub(super) fn random_config(choices: &mut Choices, servers: &mut Servers, mood: Mood) -> (Config, bool) {
    let count = choices.between(1, servers.nodes.len() as u64) as usize;
    let mut seeds: Vec<_> = servers.nodes.iter().take(count).map(address).collect();
    if choices.chance(20) {
        seeds.insert(0, NodeAddr::new("10.9.9.9", 6379));
    }
    let mut config = Config::new(seeds);
    config.connect_timeout = CONNECT_TIMEOUT;
    config.request_timeout = REQUEST_TIMEOUT;
    config.password.clone_from(&servers.dialect.password);
    let protocols = [RespVersion::Auto, RespVersion::Resp2, RespVersion::Resp3];
    config.resp_version = choices.pick(if servers.dialect.hello { &protocols } else { &protocols[..2] });
    config.mode = match servers.dialect.cluster {
        true => choices.pick(&[Mode::Auto, Mode::Cluster]),
        false => choices.pick(&[Mode::Auto, Mode::Standalone]),
    };
    config.attempt_timeout = [None, None, Some(200), Some(500), Some(1_000)][choices.index(5)].map(millis);
    config.refresh_interval = millis(choices.pick(&[60_000, 200, 1_000, 5_000]));
    config.health_check_after = millis(choices.pick(&[15_000, 200, 1_000]));
    config.replica_reads = choices.pick(&[
        ReplicaReads::Primary,
        ReplicaReads::Primary,
        ReplicaReads::PreferReplica,
        ReplicaReads::RoundRobin,
        ReplicaReads::Random,
        ReplicaReads::LowestLatency,
        ReplicaReads::SameZone,
    ]);
    config.availability_zone =
        (config.replica_reads == ReplicaReads::SameZone).then(|| format!("zone-{}", choices.below(4)));
    config.retry = random_retry(choices);
    config.pool = random_pool(choices);
    map_addresses(choices, servers, &mut config);
    match mood {
        Mood::Orderly => {
            // The keys of one command may be apart for as long as their slot moves.
            config.request_timeout = 3 * REQUEST_TIMEOUT;
            config.retry = Retry { attempts_max: 100, writes: RetryWrites::Never, ..config.retry };
        }
        Mood::Faulty => config.waiting.requests = choices.pick(&[100_000, 100_000, 5, 1]),
    }
    let is_misled =
        servers.dialect.cluster && choices.chance(25) && give_topology(choices, servers, &mut config);
    assert_eq!(config.check(), Ok(()));
    (config, is_misled)
}

fn address(node: &Node) -> NodeAddr {
    NodeAddr::new(&node.host, node.address.port())
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn random_retry(choices: &mut Choices) -> Retry {
    Retry {
        attempts_max: choices.pick(&[100, 100, 3, 1, 0]),
        base: millis(choices.pick(&[10, 1, 100])),
        cap: millis(choices.pick(&[1_000, 100])),
        writes: choices.pick(&[RetryWrites::Never, RetryWrites::Never, RetryWrites::AtLeastOnce]),
        reconnect_base: millis(choices.pick(&[20, 1, 50])),
        reconnect_cap: millis(choices.pick(&[500, 50, 2_000])),
    }
}

fn random_pool(choices: &mut Choices) -> Pool {
    let connections_max = choices.between(1, 4) as u32;
    Pool {
        connections_max,
        idle_min: choices.pick(&[0, 0, 0, 1, 2]).min(connections_max),
        idle_timeout: millis(choices.pick(&[60_000, 200, 1_000])),
        lifetime_max: millis(choices.pick(&[3_600_000, 3_600_000, 300, 1_500])),
        checkout_timeout: millis(choices.pick(&[500, 100, 2_000])),
    }
}

/// Sometimes the nodes call themselves other names than they are reached at.
fn map_addresses(choices: &mut Choices, servers: &mut Servers, config: &mut Config) {
    if servers.dialect.empty_hosts || !servers.dialect.cluster || !choices.chance(15) {
        return;
    }
    for (index, node) in servers.nodes.iter_mut().enumerate() {
        let announced = format!("192.168.0.{index}");
        config.address_map.insert(&announced, &node.host).expect("each host is there once");
        node.announced = Some(announced);
    }
}

/// A topology that a client starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Given {
    True,
    /// Each primary has its neighbour's slots.
    Rotated,
    /// As before or after a failover: replicas are primaries.
    FailedOver,
    /// Nobody listens at its addresses.
    Refusing,
    /// Nothing comes back from its addresses.
    Silent,
}

impl Given {
    const ALL: [Self; 5] = [Self::True, Self::Rotated, Self::FailedOver, Self::Refusing, Self::Silent];
}

/// Lets the client start from a topology.
fn give_topology(choices: &mut Choices, servers: &Servers, config: &mut Config) -> bool {
    let primaries: Vec<_> =
        (0..servers.nodes.len()).filter(|node| servers.replica_of(*node).is_none()).collect();
    let slots = |shard: usize| {
        let bound = |shard: usize| (shard * usize::from(SLOT_COUNT)).div_ceil(primaries.len()) as u16;
        SlotRange::new(Slot::new(bound(shard))?, Slot::new(bound(shard + 1) - 1)?)
    };
    let member = |address: NodeAddr, role| Member {
        id: String::new(),
        address,
        role,
        health: Health::Unknown,
        availability_zone: None,
    };
    let given = choices.pick(&Given::ALL);
    let shard = |(index, primary): (usize, &usize)| {
        let replicas = (0..servers.nodes.len()).filter(|node| servers.replica_of(*node) == Some(*primary));
        let mut nodes: Vec<_> = match given {
            Given::Rotated => vec![address(&servers.nodes[primaries[(index + 1) % primaries.len()]])],
            Given::FailedOver => {
                replicas.chain([*primary]).map(|node| address(&servers.nodes[node])).collect()
            }
            Given::Refusing => vec![NodeAddr::new("10.9.9.9", 7000 + index as u16)],
            Given::Silent => vec![NodeAddr::new("10.9.9.8", 7000 + index as u16)],
            Given::True => {
                std::iter::once(*primary).chain(replicas).map(|node| address(&servers.nodes[node])).collect()
            }
        };
        let nodes = nodes.drain(..).enumerate();
        let role = |index| if index == 0 { Role::Primary } else { Role::Replica };
        let nodes = nodes.map(|(index, address)| member(address, role(index))).collect();
        Shard { slots: slots(index).into_iter().collect(), nodes }
    };
    let topology = Topology { shards: primaries.iter().enumerate().map(shard).collect() };
    assert_eq!(topology.check(), Ok(()));
    config.topology = Some(topology);
    given == Given::FailedOver
}
