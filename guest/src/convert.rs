//! The core's types as WIT has them.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use bytes::Bytes;
use keyslot_core::error::{self, Error};
use keyslot_core::resp::{self, Reply};
use keyslot_core::topology::{self, Health, Member, Role};

use crate::bindings::exports::keyslot::redis::redis_cluster::{
    Node, NodeHealth, Role as WitRole, Shard, SlotRange,
};
use crate::bindings::exports::keyslot::redis::types::{self, ReplyNode};

/// A result for the caller. `decode`: bulk strings that are UTF-8 become text.
pub(crate) fn result(result: Result<Reply, Error>, decode: bool) -> Result<Vec<ReplyNode>, types::Error> {
    match result {
        Ok(reply) => Ok(reply.nodes.into_iter().map(|node| reply_node(node, decode)).collect()),
        Err(error) => Err(wit_error(error)),
    }
}

fn reply_node(node: resp::ReplyNode, decode: bool) -> ReplyNode {
    match node {
        resp::ReplyNode::Null => ReplyNode::Null,
        resp::ReplyNode::Boolean(value) => ReplyNode::Boolean(value),
        resp::ReplyNode::Integer(value) => ReplyNode::Integer(value),
        resp::ReplyNode::Double(value) => ReplyNode::Double(value),
        resp::ReplyNode::BigNumber(digits) => ReplyNode::BigNumber(digits),
        resp::ReplyNode::SimpleString(text) => match String::from_utf8(owned(text)) {
            Ok(text) => ReplyNode::SimpleString(text),
            Err(error) => ReplyNode::BulkString(error.into_bytes()),
        },
        resp::ReplyNode::BulkString(bytes) if decode => match String::from_utf8(owned(bytes)) {
            Ok(text) => ReplyNode::Text(text),
            Err(error) => ReplyNode::BulkString(error.into_bytes()),
        },
        resp::ReplyNode::BulkString(bytes) => ReplyNode::BulkString(owned(bytes)),
        resp::ReplyNode::Verbatim { format, text } => ReplyNode::VerbatimString(types::Verbatim {
            format: String::from_utf8_lossy(&format).into_owned(),
            text: owned(text),
        }),
        resp::ReplyNode::Error(error) => ReplyNode::Error(server_error(error)),
        resp::ReplyNode::Array(count) => ReplyNode::Array(count),
        resp::ReplyNode::Set(count) => ReplyNode::Set(count),
        resp::ReplyNode::Map(count) => ReplyNode::Map(count),
        resp::ReplyNode::Push(count) => ReplyNode::Push(count),
        resp::ReplyNode::Attribute(count) => ReplyNode::Attribute(count),
    }
}

/// The bytes as the canonical ABI wants them; copied only where they are a part of something larger.
fn owned(bytes: Bytes) -> Vec<u8> {
    Vec::from(bytes)
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
        slots: shard
            .slots
            .iter()
            .map(|range| SlotRange { first: range.first().number(), last: range.last().number() })
            .collect(),
        nodes: shard.nodes.iter().map(node).collect(),
    }
}

fn node(member: &Member) -> Node {
    Node {
        id: member.id.clone(),
        address: member.address.to_string(),
        role: match member.role {
            Role::Primary => WitRole::Primary,
            Role::Replica => WitRole::Replica,
        },
        health: match member.health {
            Health::Online => NodeHealth::Online,
            Health::Loading => NodeHealth::Loading,
            Health::Failed => NodeHealth::Failed,
            Health::Unknown => NodeHealth::Unknown,
        },
        availability_zone: member.availability_zone.clone(),
    }
}
