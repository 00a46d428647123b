//! Which nodes a cluster has and which slots they serve, as CLUSTER SLOTS and CLUSTER SHARDS tell it.
//!
//! Sources: Redis documentation, "CLUSTER SLOTS" and "CLUSTER SHARDS"; the servers' `src/cluster.c`.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use crate::address::NodeAddr;
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

    /// Reads CLUSTER SHARDS. `asked` as in [`from_cluster_slots`](Self::from_cluster_slots).
    ///
    /// # Errors
    /// Says what is wrong when the reply is an error or has another shape.
    pub fn from_cluster_shards(reply: &Reply, asked: &str) -> Result<Self, String> {
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
            shard.nodes = nodes.children().filter_map(|node| member_of_shards(node, asked)).collect();
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

    fn sort(&mut self) {
        for shard in &mut self.shards {
            shard.slots.sort_unstable();
            shard.nodes.sort_by_key(|node| node.role);
        }
        let first_slot =
            |shard: &Shard| shard.slots.first().map_or(SLOT_COUNT, |range| range.first().number());
        self.shards.sort_by_key(first_slot);
    }
}

/// Whether both are one node: by id where there is one, else by address.
fn same(a: &Member, b: &Member) -> bool {
    if a.id.is_empty() || b.id.is_empty() { a.address == b.address } else { a.id == b.id }
}

/// A node of CLUSTER SLOTS: preferred endpoint, port, id, and since Redis 7.0 its other endpoints.
///
/// `None` when it cannot be reached: its endpoint is not known (`?`) and nothing else is given.
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
fn member_of_shards(node: ReplyRef<'_>, asked: &str) -> Option<Member> {
    let others = ["ip", "hostname"].map(|name| node.value(name));
    let host = host(node.value("endpoint"), others, asked)?;
    // A node that serves TLS only has no `port`.
    let port = node.value("port").or_else(|| node.value("tls-port")).and_then(port)?;
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
/// hostname although hostnames are preferred; then what else is given has to do.
fn host<'a>(
    endpoint: Option<ReplyRef<'a>>,
    others: [Option<ReplyRef<'a>>; 2],
    asked: &'a str,
) -> Option<&'a str> {
    match endpoint.and_then(ReplyRef::as_str) {
        None | Some("") => Some(asked),
        Some("?") => {
            let mut others = others.into_iter().flatten().filter_map(ReplyRef::as_str);
            others.find(|host| !host.is_empty() && *host != "?")
        }
        Some(host) => Some(host),
    }
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
}
