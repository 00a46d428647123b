//! The core's types as WIT has them.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::str;
use core::time::Duration;

use keyslot_core::address::NodeAddr;
use keyslot_core::cluster::{Event, NodeStatistics};
use keyslot_core::error::{self, Error, Quoted};
use keyslot_core::resp::{Item, RawReply, items};
use keyslot_core::slot;
use keyslot_core::topology::{self, Health, Member, Role, Topology};

use crate::bindings::exports::keyslot::redis::redis_cluster::{
    Counter, DescriptorShortage, EventKind, MovedSlots, Node, NodeFailure, NodeHealth, Reconnection,
    Refreshed, Role as WitRole, Shard, SlotRange, Takeover, TopologyChange,
};
use crate::bindings::exports::keyslot::redis::types::{self, ReplyNode};

/// A result for the caller. `decode`: bulk strings that are UTF-8 become text.
pub(crate) fn result(result: Result<RawReply, Error>, decode: bool) -> Result<Vec<ReplyNode>, types::Error> {
    let reply = result.map_err(wit_error)?;
    let mut nodes = Vec::with_capacity(reply.node_count() as usize);
    nodes.extend(reply.items().map(|item| reply_node(item, decode)));
    Ok(nodes)
}

/// A part of a reply: an error is that of its command.
pub(crate) fn child(bytes: &[u8], decode: bool) -> Result<Vec<ReplyNode>, types::Error> {
    let nodes: Vec<_> = items(bytes).map(|item| reply_node(item, decode)).collect();
    match nodes.as_slice() {
        [ReplyNode::Error(error)] => Err(types::Error::Server(error.clone())),
        _ => Ok(nodes),
    }
}

fn reply_node(item: Item<'_>, decode: bool) -> ReplyNode {
    match item {
        Item::Null => ReplyNode::Null,
        Item::Boolean(value) => ReplyNode::Boolean(value),
        Item::Integer(value) => ReplyNode::Integer(value),
        Item::Double(value) => ReplyNode::Double(value),
        Item::BigNumber(digits) => ReplyNode::BigNumber(digits.to_string()),
        Item::SimpleString(text) => match str::from_utf8(text) {
            Ok(text) => ReplyNode::SimpleString(text.to_string()),
            Err(_) => ReplyNode::BulkString(text.to_vec()),
        },
        Item::BulkString(bytes) => bulk_string(bytes.to_vec(), decode),
        Item::StreamedString(bytes) => bulk_string(bytes, decode),
        Item::Verbatim { format, text } => ReplyNode::VerbatimString(types::Verbatim {
            format: String::from_utf8_lossy(&format).into_owned(),
            text: text.to_vec(),
        }),
        Item::Error(error) => ReplyNode::Error(server_error(error)),
        Item::Array(count) => ReplyNode::Array(count),
        Item::Set(count) => ReplyNode::Set(count),
        Item::Map(count) => ReplyNode::Map(count),
        Item::Push(count) => ReplyNode::Push(count),
        Item::Attribute(count) => ReplyNode::Attribute(count),
    }
}

fn bulk_string(bytes: Vec<u8>, decode: bool) -> ReplyNode {
    if !decode {
        return ReplyNode::BulkString(bytes);
    }
    match String::from_utf8(bytes) {
        Ok(text) => ReplyNode::Text(text),
        Err(error) => ReplyNode::BulkString(error.into_bytes()),
    }
}

pub(crate) fn wit_error(error: Error) -> types::Error {
    match error {
        Error::InvalidArgument(text) => types::Error::InvalidArgument(text),
        Error::CrossSlot(text) => types::Error::CrossSlot(text),
        Error::Server(error) => types::Error::Server(server_error(error)),
        Error::RedirectLimit(text) => types::Error::RedirectLimit(text),
        Error::ClusterDown(text) => types::Error::ClusterDown(text),
        Error::Connect(text) => types::Error::Connect(text),
        Error::ConnectionLost(interrupted) => types::Error::ConnectionLost(wit_interrupted(interrupted)),
        Error::Timeout(interrupted) => types::Error::Timeout(wit_interrupted(interrupted)),
        Error::PartlyExecuted(partly) => types::Error::PartlyExecuted(wit_interrupted(partly)),
        Error::Authentication(text) => types::Error::Authentication(text),
        Error::Tls(text) => types::Error::Tls(text),
        Error::Protocol(text) => types::Error::Protocol(text),
        Error::LimitExceeded(text) => types::Error::LimitExceeded(text),
        Error::Closed => types::Error::Closed,
    }
}

fn server_error(error: error::ServerError) -> types::ServerError {
    types::ServerError { code: error.code, message: error.message }
}

fn wit_interrupted(interrupted: error::Interrupted) -> types::Interrupted {
    let error::Interrupted { node, message, possibly_executed } = interrupted;
    types::Interrupted { node, message, possibly_executed }
}

pub(crate) fn shard(shard: &topology::Shard) -> Shard {
    Shard {
        slots: shard.slots.iter().copied().map(slot_range).collect(),
        nodes: shard.nodes.iter().map(node).collect(),
    }
}

fn node(member: &Member) -> Node {
    Node {
        id: member.id.clone(),
        address: member.address.to_string(),
        role: role(member.role),
        health: match member.health {
            Health::Online => NodeHealth::Online,
            Health::Loading => NodeHealth::Loading,
            Health::Failed => NodeHealth::Failed,
            Health::Unknown => NodeHealth::Unknown,
        },
        availability_zone: member.availability_zone.clone(),
    }
}

pub(crate) fn role(role: Role) -> WitRole {
    match role {
        Role::Primary => WitRole::Primary,
        Role::Replica => WitRole::Replica,
    }
}

fn slot_range(range: slot::SlotRange) -> SlotRange {
    SlotRange { first: range.first().number(), last: range.last().number() }
}

/// A topology that the caller gives.
pub(crate) fn topology(shards: Vec<Shard>) -> Result<Topology, String> {
    let mut topology = Topology::default();
    for shard in shards {
        let ranges = shard.slots.iter().map(|SlotRange { first, last }| {
            let range = slot::Slot::new(*first).zip(slot::Slot::new(*last));
            let range = range.and_then(|(first, last)| slot::SlotRange::new(first, last));
            range.ok_or_else(|| format!("{first} to {last} are no slots in order"))
        });
        let slots = ranges.collect::<Result<_, _>>()?;
        let nodes = shard.nodes.into_iter().map(member).collect::<Result<_, _>>()?;
        topology.shards.push(topology::Shard { slots, nodes });
    }
    topology.check()?;
    Ok(topology)
}

fn member(node: Node) -> Result<Member, String> {
    Ok(Member {
        address: NodeAddr::parse(&node.address)
            .ok_or_else(|| format!("{} is not host:port", Quoted(&node.address)))?,
        id: node.id,
        role: match node.role {
            WitRole::Primary => Role::Primary,
            WitRole::Replica => Role::Replica,
        },
        health: match node.health {
            NodeHealth::Online => Health::Online,
            NodeHealth::Loading => Health::Loading,
            NodeHealth::Failed => Health::Failed,
            NodeHealth::Unknown => Health::Unknown,
        },
        availability_zone: node.availability_zone,
    })
}

pub(crate) fn event(event: Event) -> EventKind {
    match event {
        Event::Connected { node } => EventKind::Connected(node.to_string()),
        Event::ConnectFailed { node, reason, attempts } => {
            EventKind::ConnectFailed(node_failure(&node, reason, attempts))
        }
        Event::Disconnected { node, reason } => EventKind::Disconnected(node_failure(&node, reason, 0)),
        Event::Reconnected { node, after, attempts } => {
            let after_ms = after.as_millis() as u64;
            EventKind::Reconnected(Reconnection { node: node.to_string(), after_ms, attempts })
        }
        Event::FailedOver { from, to } => {
            EventKind::FailedOver(Takeover { before: from.to_string(), now: to.to_string() })
        }
        Event::TopologyChanged(change) => {
            let addresses = |nodes: Vec<NodeAddr>| nodes.iter().map(ToString::to_string).collect();
            let moved = change.moved.into_iter().map(|moved| MovedSlots {
                slots: slot_range(moved.slots),
                before: moved.from.map(|node| node.to_string()),
                now: moved.to.map(|node| node.to_string()),
            });
            EventKind::TopologyChanged(TopologyChange {
                moved: moved.collect(),
                joined: addresses(change.joined),
                left: addresses(change.left),
            })
        }
        Event::Retried { node, reason, attempt } => EventKind::Retried(node_failure(&node, reason, attempt)),
        Event::Refused { node, command, reason } => {
            EventKind::Refused(node_failure(&node, format!("{command}: {reason}"), 0))
        }
        Event::DescriptorsExhausted { connections, reason } => {
            EventKind::DescriptorsExhausted(DescriptorShortage { connections, reason })
        }
        Event::Refreshed { answers, changed } => EventKind::Refreshed(Refreshed { answers, changed }),
    }
}

fn node_failure(node: &NodeAddr, reason: String, attempts: u32) -> NodeFailure {
    NodeFailure { node: node.to_string(), reason, attempts }
}

/// One node's counters, in the order of the table at `node-statistics`.
pub(crate) fn node_counters(node: &NodeStatistics, in_flight: usize) -> Vec<Counter> {
    let micros = |duration: Duration| duration.as_micros() as u64;
    let latency = &node.latency;
    let counters = [
        ("commands", node.commands),
        ("in-flight", in_flight as u64),
        ("redirects", node.redirects),
        ("retries", node.retries),
        ("connects", node.connects),
        ("reconnects", node.reconnects),
        ("disconnects", node.disconnects),
        ("bytes-out", node.bytes_out),
        ("bytes-in", node.bytes_in),
        ("latency-p50-us", micros(latency.quantile(50.0))),
        ("latency-p90-us", micros(latency.quantile(90.0))),
        ("latency-p99-us", micros(latency.quantile(99.0))),
        ("latency-max-us", micros(latency.max())),
        ("latency-smoothed-us", micros(latency.smoothed().unwrap_or_default())),
    ];
    let counters = counters.into_iter().map(|(name, value)| counter(name.to_string(), value));
    let errors = node.errors.iter().map(|(code, count)| counter(format!("error-{code}"), *count));
    counters.chain(errors).collect()
}

pub(crate) fn counter(name: String, value: u64) -> Counter {
    Counter { name, value }
}
