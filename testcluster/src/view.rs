//! What one node believes of its cluster, and whether the nodes agree.

use std::collections::{BTreeMap, BTreeSet};

use keyslot_core::resp::ReplyNode;
use keyslot_core::slot::SLOT_COUNT;

use crate::connection::{CallError, Connection};

/// One node as another (or itself) sees it: a line of CLUSTER NODES.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodeLine {
    pub(crate) id: String,
    pub(crate) port: u16,
    pub(crate) flags: Vec<String>,
    /// The id of its primary, when it is a replica.
    pub(crate) primary: Option<String>,
    pub(crate) epoch: u64,
    pub(crate) connected: bool,
    /// First and last slot of each range.
    pub(crate) slots: Vec<(u16, u16)>,
}

impl NodeLine {
    pub(crate) fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|own| own == flag)
    }

    pub(crate) fn serves(&self, slot: u16) -> bool {
        self.slots.iter().any(|&(first, last)| first <= slot && slot <= last)
    }

    /// `id ip:port@bus[,hostname] flags primary ping pong epoch link slot…`; a slot that is under
    /// way stands in brackets and is left out. `None` for anything else.
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let id = words.next()?.to_owned();
        let (address, _) = words.next()?.split_once('@')?;
        let port = address.rsplit_once(':')?.1.parse().ok()?;
        let flags = words.next()?.split(',').map(str::to_owned).collect();
        let primary = words.next().filter(|&id| id != "-").map(str::to_owned);
        let epoch = words.nth(2)?.parse().ok()?;
        let connected = words.next()? == "connected";
        let slots = words.filter(|word| !word.starts_with('[')).map(parse_range).collect::<Option<_>>()?;
        Some(Self { id, port, flags, primary, epoch, connected, slots })
    }
}

/// The whole of CLUSTER NODES.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) nodes: Vec<NodeLine>,
}

impl View {
    pub(crate) fn ask(connection: &mut Connection) -> Result<Self, CallError> {
        let text = connection.string(&["CLUSTER", "NODES"])?;
        Ok(Self { nodes: text.lines().filter_map(NodeLine::parse).collect() })
    }

    /// The node that was asked.
    pub(crate) fn myself(&self) -> Option<&NodeLine> {
        self.nodes.iter().find(|node| node.has("myself"))
    }

    pub(crate) fn by_id(&self, id: &str) -> Option<&NodeLine> {
        self.nodes.iter().find(|node| node.id == id)
    }

    pub(crate) fn by_port(&self, port: u16) -> Option<&NodeLine> {
        self.nodes.iter().find(|node| node.port == port)
    }

    /// What all nodes must see alike: role, primary, health and slots of every node.
    fn common(&self) -> BTreeMap<&str, Common<'_>> {
        let common = |node: &'_ NodeLine| {
            let health = ["fail", "fail?", "handshake", "noaddr"].map(|flag| node.has(flag));
            (node.has("master"), health)
        };
        self.nodes
            .iter()
            .map(|node| (node.id.as_str(), (common(node), node.primary.as_deref(), &node.slots[..])))
            .collect()
    }
}

type Common<'a> = ((bool, [bool; 4]), Option<&'a str>, &'a [(u16, u16)]);

/// All that one running node says about the cluster and its own part in it.
#[derive(Debug)]
pub(crate) struct Report {
    port: u16,
    view: View,
    state: String,
    slots: BTreeSet<SlotsEntry>,
    link: String,
}

/// An entry of CLUSTER SLOTS: first and last slot, the primary's port, the replicas' ports.
type SlotsEntry = (i64, i64, i64, BTreeSet<i64>);

impl Report {
    pub(crate) fn ask(port: u16, connection: &mut Connection) -> Result<Self, CallError> {
        let info = connection.string(&["CLUSTER", "INFO"])?;
        let replication = connection.string(&["INFO", "replication"])?;
        Ok(Self {
            port,
            view: View::ask(connection)?,
            state: field(&info, "cluster_state").to_owned(),
            slots: ask_slots(connection)?,
            link: field(&replication, "master_link_status").to_owned(),
        })
    }
}

/// Says what is missing until the cluster is in order: all running nodes see the same, every slot
/// is served by a running node, nodes that are down are known to be, and every running replica
/// follows its primary.
pub(crate) fn disagreement(reports: &[Report], running: &[u16], down: &[u16]) -> Option<String> {
    let first = reports.first()?;
    for report in reports {
        let port = report.port;
        if report.state != "ok" {
            return Some(format!("node {port} says cluster_state:{}", report.state));
        }
        if report.view.nodes.len() != running.len() + down.len() {
            return Some(format!("node {port} knows {} nodes", report.view.nodes.len()));
        }
        if report.view.common() != first.view.common() {
            return Some(format!("nodes {} and {port} differ in CLUSTER NODES", first.port));
        }
        if report.slots != first.slots {
            return Some(format!("nodes {} and {port} differ in CLUSTER SLOTS", first.port));
        }
        if report.view.myself().is_some_and(|node| !node.has("master")) && report.link != "up" {
            return Some(format!("replica {port} says master_link_status:{}", report.link));
        }
        for &other in running {
            let missing = match report.view.by_port(other) {
                None => "does not know",
                Some(node) if node.has("fail") || node.has("fail?") => "takes for failed",
                Some(node) if !node.connected => "has no link to",
                Some(_) => continue,
            };
            return Some(format!("node {port} {missing} {other}"));
        }
        if let Some(other) =
            down.iter().find(|&&other| report.view.by_port(other).is_some_and(|node| !node.has("fail")))
        {
            return Some(format!("node {port} does not know that {other} is down"));
        }
    }
    unserved(first, running)
}

/// Says which slots or replicas are missing from CLUSTER SLOTS.
fn unserved(report: &Report, running: &[u16]) -> Option<String> {
    let served: i64 = report
        .slots
        .iter()
        .filter(|(_, _, primary, _)| running.iter().any(|&port| i64::from(port) == *primary))
        .map(|(first, last, _, _)| last - first + 1)
        .sum();
    if served != i64::from(SLOT_COUNT) {
        return Some(format!("running nodes serve {served} slots"));
    }
    let listed = |port: u16| report.slots.iter().any(|(.., replicas)| replicas.contains(&i64::from(port)));
    report.view.nodes.iter().find_map(|node| {
        let primary = report.view.by_id(node.primary.as_deref()?)?;
        let expected = running.contains(&node.port) && !primary.slots.is_empty();
        (expected && !listed(node.port)).then(|| format!("replica {} is not in CLUSTER SLOTS", node.port))
    })
}

/// CLUSTER SLOTS: entries of first slot, last slot and nodes, each node an array that begins with
/// host and port.
fn ask_slots(connection: &mut Connection) -> Result<BTreeSet<SlotsEntry>, CallError> {
    let reply = connection.call(&["CLUSTER", "SLOTS"])?;
    let mut entries = BTreeSet::new();
    let mut nodes = reply.nodes.iter().skip(1).peekable();
    while let Some(ReplyNode::Array(length)) = nodes.next() {
        let (Some(ReplyNode::Integer(first)), Some(ReplyNode::Integer(last))) = (nodes.next(), nodes.next())
        else {
            return Err(CallError::Unexpected(reply));
        };
        let mut ports = Vec::new();
        for _ in 2..*length {
            // The node's fields: host, port, and whatever else up to the next node or entry.
            // Servers of Redis 7 add the id and an array of metadata, which is empty for addresses
            // such as ours.
            nodes.next();
            nodes.next();
            if let Some(ReplyNode::Integer(port)) = nodes.next() {
                ports.push(*port);
            }
            nodes.next_if(|node| matches!(node, ReplyNode::BulkString(_)));
            nodes.next_if(|node| matches!(node, ReplyNode::Array(0) | ReplyNode::Map(0)));
        }
        let Some((&primary, replicas)) = ports.split_first() else {
            return Err(CallError::Unexpected(reply));
        };
        entries.insert((*first, *last, primary, replicas.iter().copied().collect()));
    }
    Ok(entries)
}

/// The value of a `name:value` line, empty when there is none.
fn field<'a>(text: &'a str, name: &str) -> &'a str {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map_or("", str::trim_end)
}

fn parse_range(word: &str) -> Option<(u16, u16)> {
    let (first, last) = word.split_once('-').unwrap_or((word, word));
    Some((first.parse().ok()?, last.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_cluster_nodes_is_understood() {
        let line = "07c3 127.0.0.1:30004@31004,host slave,fail? e7d1 0 1426238317239 4 connected";
        let node = NodeLine::parse(line).unwrap();
        assert_eq!((node.port, node.primary.as_deref(), node.epoch), (30_004, Some("e7d1"), 4));
        assert!(node.connected && node.has("slave") && node.has("fail?") && node.slots.is_empty());

        let line = "e7d1 :30001@31001 myself,master - 0 0 1 connected 0-5460 7000 [93->-292f]";
        let node = NodeLine::parse(line).unwrap();
        assert_eq!(node.slots, [(0, 5460), (7000, 7000)]);
        assert!(node.serves(7000) && !node.serves(93 + 5460));
        assert_eq!(NodeLine::parse("vars currentEpoch 6 lastVoteEpoch 0"), None);
    }
}
