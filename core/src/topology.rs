//! Which nodes a cluster has and which slots they serve, as CLUSTER SLOTS and CLUSTER SHARDS tell it.
//!
//! Sources: Redis documentation, "CLUSTER SLOTS" and "CLUSTER SHARDS"; the servers' `src/cluster.c`.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use litemap::LiteMap;

use crate::address::{AddressMap, NodeAddr, is_host};
use crate::cluster::{MovedSlots, TopologyChange};
use crate::resp::{Reply, ReplyRef};
use crate::slot::{SLOT_COUNT, Slot, SlotRange};

/// More nodes than any cluster has (the specification recommends 1,000 at most).
pub(crate) const NODES_MAX: usize = 4096;

/// A cluster's shards, in order of their first slot; those without slots come last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology {
    /// The shards.
    pub shards: Vec<Shard>,
}

/// A primary, its replicas, and the slots that they serve.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shard {
    /// The slots, ascending; there may be holes between the ranges.
    pub slots: Vec<SlotRange>,
    /// The primary first, then the replicas.
    pub nodes: Vec<Member>,
}

/// A node as part of a topology.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The node's id, 40 hexadecimal digits; empty where the server did not give one.
    pub id: String,
    /// Where it is reached.
    pub address: NodeAddr,
    /// What it does in its shard.
    pub role: Role,
    /// How the cluster says it is doing.
    pub health: Health,
    /// Where it stands, where the server tells (Valkey).
    pub availability_zone: Option<String>,
}

/// What a node does in its shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Takes the writes.
    Primary,
    /// Copies a primary.
    Replica,
}

/// How a node is doing, in CLUSTER SHARDS' words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Health {
    /// Reachable and up to date.
    Online,
    /// Loading its data, or copying it.
    Loading,
    /// Thought to be down.
    Failed,
    /// The server did not say.
    #[default]
    Unknown,
}

impl Shard {
    /// The node that takes the shard's writes.
    #[must_use]
    pub fn primary(&self) -> Option<&Member> {
        self.nodes.first().filter(|node| node.role == Role::Primary)
    }
}

impl Topology {
    /// All slots at one server.
    #[must_use]
    pub fn of_one_server(address: NodeAddr) -> Self {
        let all =
            Slot::new(0).zip(Slot::new(SLOT_COUNT - 1)).and_then(|(first, last)| SlotRange::new(first, last));
        let server = Member {
            id: String::new(),
            address,
            role: Role::Primary,
            health: Health::Online,
            availability_zone: None,
        };
        Self { shards: Vec::from([Shard { slots: all.into_iter().collect(), nodes: Vec::from([server]) }]) }
    }

    /// Reads CLUSTER SLOTS: for each range of slots its primary and replicas. `asked` is the host of the
    /// node that answered; it stands for hosts that the node leaves empty.
    ///
    /// # Errors
    /// Says what is wrong when the reply has another shape, or names no slot at all, as a node does that has
    /// joined no cluster yet.
    pub fn from_cluster_slots(reply: &Reply, asked: &str) -> Result<Self, String> {
        let root = reply.cursor().ok_or("CLUSTER SLOTS: the reply is empty")?;
        let mut topology = Self::default();
        let mut served = vec![false; usize::from(SLOT_COUNT)];
        for row in root.children() {
            let mut fields = row.children();
            let first = fields.next().and_then(slot);
            let last = fields.next().and_then(slot);
            let range = first.zip(last).and_then(|(first, last)| SlotRange::new(first, last));
            let range = range.ok_or("CLUSTER SLOTS: a row does not begin with two slots in order")?;
            for slot in range.slots() {
                if served.get_mut(slot.index()).is_none_or(|served| core::mem::replace(served, true)) {
                    return Err(format!("CLUSTER SLOTS names slot {slot} twice"));
                }
            }
            let mut nodes = Vec::new();
            for (index, field) in fields.enumerate() {
                let role = if index == 0 { Role::Primary } else { Role::Replica };
                match member_of_slots(field, role, asked) {
                    Some(member) => nodes.push(member),
                    // Without its primary the range is served by nobody that can be reached.
                    None if index == 0 => break,
                    None => {}
                }
            }
            if !nodes.is_empty() {
                topology.add(range, nodes);
                topology.check_size("CLUSTER SLOTS")?;
            }
        }
        if topology.shards.is_empty() {
            return Err("CLUSTER SLOTS names no slot that is served: the node is in no cluster".to_owned());
        }
        topology.sort();
        Ok(topology)
    }

    /// Reads CLUSTER SHARDS. `asked` as in [`from_cluster_slots`](Self::from_cluster_slots); `tls`: which of a node's
    /// two ports is meant.
    ///
    /// # Errors
    /// Says what is wrong when the reply is an error or has another shape.
    pub fn from_cluster_shards(reply: &Reply, asked: &str, tls: bool) -> Result<Self, String> {
        if let Some(error) = reply.as_error() {
            return Err(format!("CLUSTER SHARDS was answered with: {error}"));
        }
        let root = reply.cursor().ok_or("CLUSTER SHARDS: the reply is empty")?;
        let mut topology = Self::default();
        for entry in root.children() {
            let mut shard = Shard::default();
            let bounds = entry.value("slots").ok_or("CLUSTER SHARDS: a shard has no `slots`")?;
            let mut bounds = bounds.children();
            while let Some(first) = bounds.next() {
                let range = slot(first).zip(bounds.next().and_then(slot));
                let range = range.and_then(|(first, last)| SlotRange::new(first, last));
                shard.slots.push(range.ok_or("CLUSTER SHARDS: `slots` is not pairs of slots in order")?);
            }
            let nodes = entry.value("nodes").ok_or("CLUSTER SHARDS: a shard has no `nodes`")?;
            shard.nodes = nodes.children().filter_map(|node| member_of_shards(node, asked, tls)).collect();
            topology.shards.push(shard);
            topology.check_size("CLUSTER SHARDS")?;
        }
        topology.sort();
        Ok(topology)
    }

    /// Takes from `shards` what CLUSTER SLOTS does not tell: health, availability zones, and the nodes that
    /// it leaves out because they have failed. Which node serves which slot stays as it is.
    pub fn enrich(&mut self, shards: Self) {
        for other in shards.shards {
            let known = |member: &Member| other.nodes.iter().any(|node| same(node, member));
            let Some(shard) = self.shards.iter_mut().find(|shard| shard.nodes.iter().any(known)) else {
                if other.slots.is_empty() && !other.nodes.is_empty() {
                    self.shards.push(other);
                }
                continue;
            };
            for mut node in other.nodes {
                match shard.nodes.iter_mut().find(|member| same(&node, member)) {
                    Some(member) => {
                        member.health = node.health;
                        if node.availability_zone.is_some() {
                            member.availability_zone = node.availability_zone;
                        }
                    }
                    None => {
                        // A demoted primary that has failed still calls itself one.
                        node.role = Role::Replica;
                        shard.nodes.push(node);
                    }
                }
            }
        }
        self.sort();
    }

    /// Puts the addresses at which the client reaches the nodes in the place of those that they announce.
    pub fn map_addresses(&mut self, map: &AddressMap) {
        for member in self.shards.iter_mut().flat_map(|shard| &mut shard.nodes) {
            member.address = map.actual(member.address.clone());
        }
    }

    /// Adds what a node says of where it stands, unless that is known.
    pub(crate) fn name_zone(&mut self, address: &NodeAddr, zone: &str) {
        let mut members = self.shards.iter_mut().flat_map(|shard| &mut shard.nodes);
        if let Some(member) = members.find(|member| member.address == *address) {
            member.availability_zone.get_or_insert_with(|| zone.to_string());
        }
    }

    /// Whether a client can start from this: it names a slot, no slot twice, and no more nodes than a cluster has.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn check(&self) -> Result<(), String> {
        let mut served = vec![false; usize::from(SLOT_COUNT)];
        let slots = self.shards.iter().flat_map(|shard| &shard.slots).flat_map(|range| range.slots());
        for slot in slots {
            if served.get_mut(slot.index()).is_none_or(|served| core::mem::replace(served, true)) {
                return Err(format!("the topology names slot {slot} twice"));
            }
        }
        if !served.contains(&true) {
            return Err("the topology names no slot".to_owned());
        }
        if self.shards.iter().any(|shard| !shard.slots.is_empty() && shard.primary().is_none()) {
            return Err("the topology has a shard with slots whose first node is no primary".to_owned());
        }
        let has_two = |shard: &Shard| shard.nodes.iter().skip(1).any(|node| node.role == Role::Primary);
        if self.shards.iter().any(has_two) {
            return Err("the topology has a shard with two primaries".to_owned());
        }
        if self.shards.iter().map(|shard| shard.nodes.len()).sum::<usize>() > NODES_MAX {
            return Err(format!("the topology names more than {NODES_MAX} nodes"));
        }
        Ok(())
    }

    /// Whether both say the same of who serves which slot.
    #[must_use]
    pub fn agrees_with(&self, other: &Self) -> bool {
        let serving = |topology: &Self| {
            let shards = topology.shards.iter().filter(|shard| !shard.slots.is_empty());
            let of =
                shards.map(|shard| (shard.primary().map(|node| node.address.clone()), shard.slots.clone()));
            of.collect::<Vec<_>>()
        };
        serving(self) == serving(other)
    }

    /// What is different from an older topology.
    #[must_use]
    pub fn changes_since(&self, older: &Self) -> TopologyChange {
        let mut change = TopologyChange::default();
        if !self.agrees_with(older) {
            change.moved = moved(&older.primaries(), &self.primaries());
        }
        change.joined = self.without(older);
        change.left = older.without(self);
        change
    }

    /// The addresses that `other` does not have.
    fn without(&self, other: &Self) -> Vec<NodeAddr> {
        let mut known: LiteMap<&NodeAddr, ()> = LiteMap::new();
        for address in other.addresses() {
            known.insert(address, ());
        }
        self.addresses().filter(|address| !known.contains_key(*address)).cloned().collect()
    }

    fn addresses(&self) -> impl Iterator<Item = &NodeAddr> {
        self.shards.iter().flat_map(|shard| &shard.nodes).map(|member| &member.address)
    }

    /// Replicas of the older topology that are primaries in this one, each with its primary then.
    #[must_use]
    pub fn failovers_since(&self, older: &Self) -> Vec<(NodeAddr, NodeAddr)> {
        let serving = self.shards.iter().filter(|shard| !shard.slots.is_empty());
        let promoted = serving.filter_map(Shard::primary).filter_map(|primary| {
            let was_replica =
                |shard: &&Shard| shard.nodes.iter().skip(1).any(|member| member.address == primary.address);
            let before = older.shards.iter().find(was_replica)?.primary()?;
            Some((before.address.clone(), primary.address.clone()))
        });
        promoted.collect()
    }

    /// The primary of each slot.
    fn primaries(&self) -> Vec<Option<&NodeAddr>> {
        let mut primaries = vec![None; usize::from(SLOT_COUNT)];
        for shard in &self.shards {
            for slot in shard.slots.iter().flat_map(|range| range.slots()) {
                if let Some(entry) = primaries.get_mut(slot.index()) {
                    *entry = shard.primary().map(|primary| &primary.address);
                }
            }
        }
        primaries
    }

    /// Adds a range to the shard that has this primary.
    fn add(&mut self, range: SlotRange, nodes: Vec<Member>) {
        let primary = nodes.first();
        let known = self.shards.iter_mut().find(|shard| match (shard.nodes.first(), primary) {
            (Some(known), Some(primary)) => same(known, primary),
            _ => false,
        });
        match known {
            Some(shard) => shard.slots.push(range),
            None => self.shards.push(Shard { slots: Vec::from([range]), nodes }),
        }
    }

    /// Refuses what no cluster is, before it costs time and memory. Looks at the last shard: it is called
    /// for each that is added.
    fn check_size(&self, question: &str) -> Result<(), String> {
        let last = self.shards.last().map_or(0, |shard| shard.nodes.len());
        if self.shards.len() + last > NODES_MAX {
            return Err(format!("{question} names more than {NODES_MAX} nodes"));
        }
        Ok(())
    }

    /// Puts everything in order. What servers tell is nearly so, and is put in place one by one: the standard
    /// library's sorts would be a fourteenth of the component.
    fn sort(&mut self) {
        for shard in &mut self.shards {
            shard.slots = in_order(core::mem::take(&mut shard.slots), |range| range.first().number());
            shard.nodes = in_order(core::mem::take(&mut shard.nodes), |node| node.role as u16);
        }
        let first_slot =
            |shard: &Shard| shard.slots.first().map_or(SLOT_COUNT, |range| range.first().number());
        self.shards = in_order(core::mem::take(&mut self.shards), first_slot);
    }
}

/// The items by their key, those of one key in the order they had.
pub(crate) fn in_order<T, K: Ord>(items: Vec<T>, key: impl Fn(&T) -> K) -> Vec<T> {
    let mut ordered: Vec<T> = Vec::with_capacity(items.len());
    for item in items {
        let place = ordered.partition_point(|other| key(other) <= key(&item));
        ordered.insert(place, item);
    }
    ordered
}

/// The slots whose primary differs, in ranges as long as they can be.
fn moved(before: &[Option<&NodeAddr>], now: &[Option<&NodeAddr>]) -> Vec<MovedSlots> {
    let mut moved: Vec<MovedSlots> = Vec::new();
    for (number, (from, to)) in (0..).zip(before.iter().zip(now)) {
        let Some(slot) = Slot::new(number).filter(|_| from != to) else {
            continue;
        };
        let next = moved.last_mut().filter(|last| {
            let follows = last.slots.last().number() + 1 == number;
            follows && last.from.as_ref() == *from && last.to.as_ref() == *to
        });
        match (next, SlotRange::new(slot, slot)) {
            (Some(last), _) => last.slots = SlotRange::new(last.slots.first(), slot).unwrap_or(last.slots),
            (None, Some(slots)) => moved.push(MovedSlots { slots, from: from.cloned(), to: to.cloned() }),
            (None, None) => {}
        }
    }
    moved
}

/// Whether both are one node: by id where there is one, else by address.
fn same(a: &Member, b: &Member) -> bool {
    if a.id.is_empty() || b.id.is_empty() { a.address == b.address } else { a.id == b.id }
}

/// A node of CLUSTER SLOTS: preferred endpoint, port, id, and since Redis 7.0 its other endpoints.
///
/// `None` when it cannot be reached: its endpoint is not known (`?`) or no host, and nothing else is given.
fn member_of_slots(node: ReplyRef<'_>, role: Role, asked: &str) -> Option<Member> {
    let mut fields = node.children();
    let endpoint = fields.next()?;
    let port = port(fields.next()?)?;
    let id = fields.next().and_then(ReplyRef::as_str).unwrap_or_default().to_string();
    let metadata = fields.next();
    let others = ["ip", "hostname"].map(|name| metadata.and_then(|metadata| metadata.value(name)));
    let host = host(Some(endpoint), others, asked)?;
    let availability_zone = metadata.and_then(|metadata| metadata.value("availability-zone"));
    Some(Member {
        id,
        address: NodeAddr::new(host, port),
        role,
        health: Health::Unknown,
        availability_zone: text(availability_zone),
    })
}

/// A node of CLUSTER SHARDS.
fn member_of_shards(node: ReplyRef<'_>, asked: &str, tls: bool) -> Option<Member> {
    let others = ["ip", "hostname"].map(|name| node.value(name));
    let host = host(node.value("endpoint"), others, asked)?;
    // A node has one of these or both; one that serves only the other kind cannot be reached.
    let port = node.value(if tls { "tls-port" } else { "port" }).and_then(port)?;
    let role = match node.value("role").and_then(ReplyRef::as_str) {
        Some("master" | "primary") => Role::Primary,
        _ => Role::Replica,
    };
    let health = match node.value("health").and_then(ReplyRef::as_str) {
        Some("online") => Health::Online,
        Some("loading") => Health::Loading,
        Some("fail" | "failed") => Health::Failed,
        _ => Health::Unknown,
    };
    Some(Member {
        id: text(node.value("id")).unwrap_or_default(),
        address: NodeAddr::new(host, port),
        role,
        health,
        availability_zone: text(node.value("availability-zone")),
    })
}

/// The host to reach a node at.
///
/// An endpoint that is null or empty means "where you reached me" (`cluster-preferred-endpoint-type
/// unknown-endpoint`, a node that has not learnt its own address). `?` means that the node has no
/// hostname although hostnames are preferred; then what else is given has to do. So it has when the endpoint is
/// no host ([`is_host`]).
fn host<'a>(
    endpoint: Option<ReplyRef<'a>>,
    others: [Option<ReplyRef<'a>>; 2],
    asked: &'a str,
) -> Option<&'a str> {
    let is_unknown = |endpoint: &ReplyRef<'_>| {
        endpoint.is_null() || endpoint.as_bytes().is_some_and(|host| host.is_empty())
    };
    let Some(endpoint) = endpoint.filter(|endpoint| !is_unknown(endpoint)) else {
        return Some(asked);
    };
    let named = core::iter::once(endpoint).chain(others.into_iter().flatten());
    named.filter_map(ReplyRef::as_str).find(|host| is_host(host))
}

fn slot(value: ReplyRef<'_>) -> Option<Slot> {
    Slot::new(u16::try_from(value.as_integer()?).ok()?)
}

fn port(value: ReplyRef<'_>) -> Option<u16> {
    u16::try_from(value.as_integer()?).ok().filter(|port| *port != 0)
}

fn text(value: Option<ReplyRef<'_>>) -> Option<String> {
    value.and_then(ReplyRef::as_str).filter(|text| !text.is_empty()).map(ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::ReplyNode;

    /// CLUSTER SLOTS with a row for each of these ranges, each at a node of its own.
    fn slots(ranges: impl Iterator<Item = (i64, i64)>) -> Reply {
        let mut nodes = Vec::from([ReplyNode::Array(0)]);
        let mut rows = 0;
        for (row, (first, last)) in (1..).zip(ranges) {
            let host = ReplyNode::BulkString(format!("host-{row}").into());
            let (first, last) = (ReplyNode::Integer(first), ReplyNode::Integer(last));
            nodes.extend([
                ReplyNode::Array(3),
                first,
                last,
                ReplyNode::Array(2),
                host,
                ReplyNode::Integer(7000),
            ]);
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
            nodes.extend(
                others.iter().flat_map(|(name, value)| [bulk(name.as_bytes()), bulk(value.as_bytes())]),
            );
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
}
