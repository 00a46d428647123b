//! Which nodes a cluster has and which slots they serve, as CLUSTER SLOTS and CLUSTER SHARDS tell it.
//!
//! Sources: Redis documentation, "CLUSTER SLOTS" and "CLUSTER SHARDS"; the servers' `src/cluster.c`.

use alloc::borrow::ToOwned;
use alloc::collections::BinaryHeap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::cmp::Reverse;

use crate::address::{AddressMap, NodeAddr, is_host};
use crate::resp::{Reply, ReplyRef};
use crate::slot::{SLOT_COUNT, Slot, SlotRange};

/// So many nodes a cluster has at most, replicas included (the specification recommends 1,000).
pub(crate) const NODES_MAX: usize = 4096;

/// The longest id that is taken: the servers' have 40 hexadecimal digits.
pub(crate) const ID_LENGTH_MAX: usize = 64;

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

/// What is different from the topology before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopologyChange {
    /// Slots with another primary, or none, in ascending order.
    pub moved: Vec<MovedSlots>,
    /// Nodes that were not there.
    pub joined: Vec<NodeAddr>,
    /// Nodes that are not there any more.
    pub left: Vec<NodeAddr>,
}

impl TopologyChange {
    /// Whether nothing is different.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.moved.is_empty() && self.joined.is_empty() && self.left.is_empty()
    }
}

/// Consecutive slots that went from one primary to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MovedSlots {
    /// The slots.
    pub slots: SlotRange,
    /// Who served them; `None` when nobody did.
    pub from: Option<NodeAddr>,
    /// Who serves them; `None` when nobody does.
    pub to: Option<NodeAddr>,
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
        let mut served = Served::new("CLUSTER SLOTS");
        let mut rows = Vec::new();
        for row in root.children() {
            let mut fields = row.children();
            let first = fields.next().and_then(slot);
            let last = fields.next().and_then(slot);
            let range = first.zip(last).and_then(|(first, last)| SlotRange::new(first, last));
            let range = range.ok_or("CLUSTER SLOTS: a row does not begin with two slots in order")?;
            served.take(range)?;
            // Without its primary the range is served by nobody that can be reached.
            let primary = fields.next().and_then(|field| member_of_slots(field, Role::Primary, asked));
            rows.extend(primary.map(|primary| (range, primary, fields)));
        }
        let mut topology = Self::default();
        let mut size = Size::new("CLUSTER SLOTS");
        // The rows of one primary are one shard.
        let mut last: Option<&Member> = None;
        for index in order_of(&rows, |(_, primary, _)| identity(primary)) {
            let Some((range, primary, replicas)) = rows.get(index) else {
                continue;
            };
            if last.replace(primary).is_some_and(|last| identity(last) == identity(primary))
                && let Some(shard) = topology.shards.last_mut()
            {
                shard.slots.push(*range);
                continue;
            }
            size.add_node(primary)?;
            let mut nodes = Vec::from([primary.clone()]);
            for replica in replicas.clone() {
                if let Some(replica) = member_of_slots(replica, Role::Replica, asked) {
                    size.add_node(&replica)?;
                    nodes.push(replica);
                }
            }
            topology.shards.push(Shard { slots: Vec::from([*range]), nodes });
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
        let mut served = Served::new("CLUSTER SHARDS");
        let mut size = Size::new("CLUSTER SHARDS");
        for entry in root.children() {
            size.add_shard()?;
            let mut shard = Shard::default();
            let bounds = entry.value("slots").ok_or("CLUSTER SHARDS: a shard has no `slots`")?;
            let mut bounds = bounds.children();
            while let Some(first) = bounds.next() {
                let range = slot(first).zip(bounds.next().and_then(slot));
                let range = range.and_then(|(first, last)| SlotRange::new(first, last));
                let range = range.ok_or("CLUSTER SHARDS: `slots` is not pairs of slots in order")?;
                served.take(range)?;
                shard.slots.push(range);
            }
            let nodes = entry.value("nodes").ok_or("CLUSTER SHARDS: a shard has no `nodes`")?;
            for node in nodes.children() {
                if let Some(node) = member_of_shards(node, asked, tls) {
                    size.add_node(&node)?;
                    shard.nodes.push(node);
                }
            }
            topology.shards.push(shard);
        }
        topology.sort();
        Ok(topology)
    }

    /// Takes from `shards` what CLUSTER SLOTS does not tell: health, availability zones, and the nodes that
    /// it leaves out because they have failed. Which node serves which slot stays as it is.
    ///
    /// No more nodes are taken than a cluster can have.
    pub fn enrich(&mut self, shards: Self) {
        let known = Index::of(self);
        let places =
            |shard: &Shard| shard.nodes.iter().map(|node| known.find(self, node)).collect::<Vec<_>>();
        let places: Vec<_> = shards.shards.iter().map(places).collect();
        let mut room = NODES_MAX.saturating_sub(self.shards.iter().map(|shard| shard.nodes.len()).sum());
        for (other, places) in shards.shards.into_iter().zip(places) {
            // The first of ours that has one of its nodes.
            let Some(own) = places.iter().flatten().map(|place| place.shard).min() else {
                if other.slots.is_empty() && !other.nodes.is_empty() && other.nodes.len() <= room {
                    room -= other.nodes.len();
                    self.shards.push(other);
                }
                continue;
            };
            let Some(shard) = self.shards.get_mut(own) else {
                continue;
            };
            for (mut node, place) in other.nodes.into_iter().zip(places) {
                let member = place.filter(|place| place.shard == own).map(|place| place.node);
                match member.and_then(|member| shard.nodes.get_mut(member)) {
                    Some(member) => {
                        member.health = node.health;
                        if node.availability_zone.is_some() {
                            member.availability_zone = node.availability_zone;
                        }
                    }
                    None if room > 0 => {
                        room -= 1;
                        // A demoted primary that has failed still calls itself one.
                        node.role = Role::Replica;
                        shard.nodes.push(node);
                    }
                    None => {}
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
    pub(crate) fn name_zone(&mut self, place: Place, zone: &str) {
        let shard = self.shards.get_mut(place.shard);
        if let Some(member) = shard.and_then(|shard| shard.nodes.get_mut(place.node)) {
            member.availability_zone.get_or_insert_with(|| zone.to_string());
        }
    }

    /// The member at this place.
    pub(crate) fn member(&self, place: Place) -> Option<&Member> {
        self.shards.get(place.shard)?.nodes.get(place.node)
    }

    /// All members, each with its place.
    pub(crate) fn members(&self) -> impl Iterator<Item = (Place, &Member)> {
        self.shards.iter().enumerate().flat_map(|(shard, nodes)| {
            let nodes = nodes.nodes.iter().enumerate();
            nodes.map(move |(node, member)| (Place { shard, node }, member))
        })
    }

    /// Whether a client can start from this: it names a slot, no slot twice, and no more nodes than a cluster has.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn check(&self) -> Result<(), String> {
        let mut size = Size::new("the topology");
        for shard in &self.shards {
            size.add_shard()?;
            shard.nodes.iter().try_for_each(|node| size.add_node(node))?;
        }
        let mut served = Served::new("the topology");
        self.shards.iter().flat_map(|shard| &shard.slots).try_for_each(|range| served.take(*range))?;
        if !served.any {
            return Err("the topology names no slot".to_owned());
        }
        if self.shards.iter().any(|shard| !shard.slots.is_empty() && shard.primary().is_none()) {
            return Err("the topology has a shard with slots whose first node is no primary".to_owned());
        }
        let has_two = |shard: &Shard| shard.nodes.iter().skip(1).any(|node| node.role == Role::Primary);
        if self.shards.iter().any(has_two) {
            return Err("the topology has a shard with two primaries".to_owned());
        }
        Ok(())
    }

    /// Whether both say the same of who serves which slot.
    #[must_use]
    pub fn agrees_with(&self, other: &Self) -> bool {
        fn serving(topology: &Topology) -> Vec<Serving<'_>> {
            let shards = topology.shards.iter().filter(|shard| !shard.slots.is_empty());
            let of = shards.map(|shard| (shard.primary().map(identity_at), shard.slots.as_slice()));
            of.collect()
        }
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
        let known = in_order(other.addresses().collect(), |address: &&NodeAddr| *address);
        let is_new = |address: &&NodeAddr| known.binary_search(address).is_err();
        self.addresses().filter(is_new).cloned().collect()
    }

    fn addresses(&self) -> impl Iterator<Item = &NodeAddr> {
        self.shards.iter().flat_map(|shard| &shard.nodes).map(|member| &member.address)
    }

    /// Replicas of the older topology that are primaries in this one, each with its primary then. A node is told by its id, where it has
    /// one: nodes may share an address.
    #[must_use]
    pub fn failovers_since(&self, older: &Self) -> Vec<(NodeAddr, NodeAddr)> {
        let known = Index::of(older);
        let serving = self.shards.iter().filter(|shard| !shard.slots.is_empty());
        let promoted = serving.filter_map(Shard::primary).filter_map(|primary| {
            let place = known.find(older, primary)?;
            let was_replica = older.member(place)?.role == Role::Replica;
            let before = older.shards.get(place.shard)?.primary().filter(|_| was_replica)?;
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

    /// Puts everything in order.
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

/// Where a member stands in a topology.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    shard: usize,
    node: usize,
}

/// Which slots an answer has named: each may be named once, so there are no more ranges than slots.
struct Served<'a> {
    question: &'a str,
    slots: Vec<bool>,
    any: bool,
}

impl<'a> Served<'a> {
    fn new(question: &'a str) -> Self {
        Self { question, slots: vec![false; usize::from(SLOT_COUNT)], any: false }
    }

    fn take(&mut self, range: SlotRange) -> Result<(), String> {
        self.any = true;
        for slot in range.slots() {
            if self.slots.get_mut(slot.index()).is_none_or(|served| core::mem::replace(served, true)) {
                return Err(format!("{} names slot {slot} twice", self.question));
            }
        }
        Ok(())
    }
}

/// How many shards and nodes an answer has named. It refuses what no cluster has before that costs time and memory.
struct Size<'a> {
    question: &'a str,
    shards: usize,
    nodes: usize,
}

impl<'a> Size<'a> {
    fn new(question: &'a str) -> Self {
        Self { question, shards: 0, nodes: 0 }
    }

    fn add_shard(&mut self) -> Result<(), String> {
        self.shards += 1;
        match self.shards > NODES_MAX {
            true => Err(format!("{} names more than {NODES_MAX} shards", self.question)),
            false => Ok(()),
        }
    }

    fn add_node(&mut self, node: &Member) -> Result<(), String> {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            return Err(format!("{} names more than {NODES_MAX} nodes", self.question));
        }
        if node.id.len() > ID_LENGTH_MAX {
            let length = node.id.len();
            return Err(format!("{}: a node's id has {length} bytes, an id has 40", self.question));
        }
        Ok(())
    }
}

/// The members of a topology by id and by address.
#[derive(Debug, Default)]
pub(crate) struct Index {
    by_id: Vec<Place>,
    /// Of one address those without an id first.
    by_address: Vec<Place>,
}

impl Index {
    pub(crate) fn of(topology: &Topology) -> Self {
        let members: Vec<_> = topology.members().collect();
        let sorted = |order: Vec<usize>| {
            order.into_iter().filter_map(|index| members.get(index).map(|(place, _)| *place)).collect()
        };
        Self {
            by_id: sorted(order_of(&members, |(_, member)| member.id.as_str())),
            by_address: sorted(order_of(&members, |(_, member)| (&member.address, !member.id.is_empty()))),
        }
    }

    /// The first member with this id, which is not empty.
    pub(crate) fn with_id(&self, topology: &Topology, id: &str) -> Option<Place> {
        let id_of = |place: &Place| topology.member(*place).map(|member| member.id.as_str());
        let first = self.by_id.partition_point(|place| id_of(place) < Some(id));
        self.by_id.get(first).copied().filter(|place| id_of(place) == Some(id) && !id.is_empty())
    }

    /// The members at this address, of which there may be several where one has taken another's place.
    pub(crate) fn at<'a>(
        &'a self,
        topology: &'a Topology,
        address: &'a NodeAddr,
    ) -> impl Iterator<Item = (Place, &'a Member)> {
        let address_of = |place: &Place| topology.member(*place).map(|member| &member.address);
        let first = self.by_address.partition_point(|place| address_of(place) < Some(address));
        let places = self.by_address.iter().skip(first);
        let members = places.map_while(|place| Some((*place, topology.member(*place)?)));
        members.take_while(move |(_, member)| member.address == *address)
    }

    /// Whether another topology is of the same cluster: they share a node's id. One without ids may be of any.
    pub(crate) fn is_kin(&self, topology: &Topology, other: &Topology) -> bool {
        let has_ids = |topology: &Topology| topology.members().any(|(_, member)| !member.id.is_empty());
        let is_known = |member: &Member| self.with_id(topology, &member.id).is_some();
        !has_ids(topology) || !has_ids(other) || other.members().any(|(_, member)| is_known(member))
    }

    /// The first that is the same node: by id where both have one, else by address.
    fn find(&self, topology: &Topology, node: &Member) -> Option<Place> {
        let same_address = self.at(topology, &node.address).next();
        let same_address = same_address.filter(|(_, other)| other.id.is_empty() || node.id.is_empty());
        let places = self.with_id(topology, &node.id).into_iter();
        places.chain(same_address.map(|(place, _)| place)).min()
    }
}

/// A shard's primary, by id and address, and its slots.
type Serving<'a> = (Option<(&'a str, &'a NodeAddr)>, &'a [SlotRange]);

/// Who is where.
fn identity_at(member: &Member) -> (&str, &NodeAddr) {
    (&member.id, &member.address)
}

/// What a node is told apart by: its id where there is one, else its address.
fn identity(member: &Member) -> (&str, Option<&NodeAddr>) {
    (&member.id, member.id.is_empty().then_some(&member.address))
}

/// The items by their key, those of one key in the order they had.
pub(crate) fn in_order<T, K: Ord + Copy>(items: Vec<T>, key: impl Fn(&T) -> K) -> Vec<T> {
    if items.is_sorted_by_key(&key) {
        return items;
    }
    let keys: Vec<K> = items.iter().map(key).collect();
    let order = order_of(&keys, |key| *key);
    let mut items: Vec<_> = items.into_iter().map(Some).collect();
    order.into_iter().filter_map(|index| items.get_mut(index)?.take()).collect()
}

/// The indices of the items, by the items' keys; those of one key in the order they had.
///
/// A heap takes n log n whatever the order is that a server has chosen, and the machine has one for its timers. The standard
/// library's sorts would be a fourteenth of the component.
pub(crate) fn order_of<'a, T, K: Ord>(items: &'a [T], key: impl Fn(&'a T) -> K) -> Vec<usize> {
    let entries = items.iter().enumerate().map(|(index, item)| Reverse((key(item), index)));
    let mut heap: BinaryHeap<_> = entries.collect();
    core::iter::from_fn(|| heap.pop()).map(|Reverse((_, index))| index).collect()
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
        endpoint.is_null() || endpoint.as_bytes().is_some_and(bytes::Bytes::is_empty)
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
}
