//! Topologies from the servers' answers, of which nothing is believed that no cluster has.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use crate::address::{NodeAddr, is_host};
use crate::resp::{Reply, ReplyRef};
use crate::slot::{SLOT_COUNT, Slot, SlotRange};

use super::index::{identity, order_of};
use super::{Health, ID_LENGTH_MAX, Member, NODES_MAX, Role, Shard, Topology};

impl Topology {
    /// Reads CLUSTER SLOTS: for each range of slots its primary and replicas. `asked` is the host
    /// of the node that answered; it stands for hosts that the node leaves empty.
    ///
    /// # Errors
    /// Says what is wrong when the reply has another shape, or names no slot at all, as a node does
    /// that has joined no cluster yet.
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

    /// Reads CLUSTER SHARDS. `asked` as in [`from_cluster_slots`](Self::from_cluster_slots); `tls`:
    /// which of a node's two ports is meant.
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
}

/// Which slots an answer has named: each may be named once, so there are no more ranges than slots.
pub(super) struct Served<'a> {
    question: &'a str,
    slots: Vec<bool>,
    pub(super) any: bool,
}

impl<'a> Served<'a> {
    pub(super) fn new(question: &'a str) -> Self {
        Self { question, slots: vec![false; usize::from(SLOT_COUNT)], any: false }
    }

    pub(super) fn take(&mut self, range: SlotRange) -> Result<(), String> {
        self.any = true;
        for slot in range.slots() {
            if self.slots.get_mut(slot.index()).is_none_or(|served| core::mem::replace(served, true)) {
                return Err(format!("{} names slot {slot} twice", self.question));
            }
        }
        Ok(())
    }
}

/// How many shards and nodes an answer has named. It refuses what no cluster has before that costs
/// time and memory.
pub(super) struct Size<'a> {
    question: &'a str,
    shards: usize,
    nodes: usize,
}

impl<'a> Size<'a> {
    pub(super) fn new(question: &'a str) -> Self {
        Self { question, shards: 0, nodes: 0 }
    }

    pub(super) fn add_shard(&mut self) -> Result<(), String> {
        self.shards += 1;
        match self.shards > NODES_MAX {
            true => Err(format!("{} names more than {NODES_MAX} shards", self.question)),
            false => Ok(()),
        }
    }

    pub(super) fn add_node(&mut self, node: &Member) -> Result<(), String> {
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

/// A node of CLUSTER SLOTS: preferred endpoint, port, id, and since Redis 7.0 its other endpoints.
///
/// `None` when it cannot be reached: its endpoint is not known (`?`) or no host, and nothing else
/// is given.
pub(super) fn member_of_slots(node: ReplyRef<'_>, role: Role, asked: &str) -> Option<Member> {
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
pub(super) fn member_of_shards(node: ReplyRef<'_>, asked: &str, tls: bool) -> Option<Member> {
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
/// hostname although hostnames are preferred; then what else is given has to do. So it has when the
/// endpoint is no host ([`is_host`]).
pub(super) fn host<'a>(
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

pub(super) fn slot(value: ReplyRef<'_>) -> Option<Slot> {
    Slot::new(u16::try_from(value.as_integer()?).ok()?)
}

pub(super) fn port(value: ReplyRef<'_>) -> Option<u16> {
    u16::try_from(value.as_integer()?).ok().filter(|port| *port != 0)
}

pub(super) fn text(value: Option<ReplyRef<'_>>) -> Option<String> {
    value.and_then(ReplyRef::as_str).filter(|text| !text.is_empty()).map(ToString::to_string)
}
