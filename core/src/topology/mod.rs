//! Which nodes a cluster has and which slots they serve, as CLUSTER SLOTS and CLUSTER SHARDS tell
//! it.
//!
//! Sources: Redis documentation, "CLUSTER SLOTS" and "CLUSTER SHARDS"; the servers'
//! `src/cluster.c`.

mod answers;
mod change;
mod index;
#[cfg(test)]
mod tests;

use alloc::borrow::ToOwned;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::address::{AddressMap, NodeAddr};
use crate::slot::{SLOT_COUNT, Slot, SlotRange};

use answers::{Served, Size};
pub use change::{MovedSlots, TopologyChange};
use index::identity_at;
pub(crate) use index::{Index, Place, in_order, order_of};

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

    /// Takes from `shards` what CLUSTER SLOTS does not tell: health, availability zones, and the
    /// nodes that it leaves out because they have failed. Which node serves which slot stays as
    /// it is.
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

    /// Puts the addresses at which the client reaches the nodes in the place of those that they
    /// announce.
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

    /// Whether a client can start from this: it names a slot, no slot twice, and no more nodes than
    /// a cluster has.
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

/// A shard's primary, by id and address, and its slots.
type Serving<'a> = (Option<(&'a str, &'a NodeAddr)>, &'a [SlotRange]);
