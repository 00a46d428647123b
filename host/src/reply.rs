//! A reply and a way to walk through it.
//!
//! A reply is a flat list of nodes, as it came from the component: the root first, an aggregate's
//! children after it. [`ReplyRef`] is a position in that list which moves like a pointer into a
//! tree. It trusts no count: where the list ends early, so do the children.

use bytes::Bytes;
use keyslot_core::resp::{Decoder, Frame, Item, Limits, RawReply};
use keyslot_core::wire::decode_error;

use crate::Error;
use crate::bindings::exports::keyslot::redis::types::{ReplyNode, ServerError, Verbatim};

/// What stands where a list has no node: no reply of the component, but `Reply::new` takes any
/// list.
static NULL: ReplyNode = ReplyNode::Null;

/// A server's reply: the nodes of its tree, in pre-order.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    nodes: Vec<ReplyNode>,
}

impl Reply {
    /// A reply of these nodes, as the WIT type `reply` orders them.
    #[must_use]
    pub fn new(nodes: Vec<ReplyNode>) -> Self {
        Self { nodes }
    }

    /// A reply as it was sent.
    fn of(raw: &RawReply, decode_responses: bool) -> Self {
        let mut nodes = Vec::with_capacity(raw.node_count() as usize);
        nodes.extend(raw.items().map(|item| node(item, decode_responses)));
        Self { nodes }
    }

    /// All nodes in pre-order, attributes included.
    #[must_use]
    pub fn nodes(&self) -> &[ReplyNode] {
        &self.nodes
    }

    /// The nodes themselves.
    #[must_use]
    pub fn into_nodes(self) -> Vec<ReplyNode> {
        self.nodes
    }

    /// The root of the tree, behind its attributes.
    #[must_use]
    pub fn root(&self) -> ReplyRef<'_> {
        ReplyRef::at(&self.nodes, 0)
    }

    /// Whether there is no value: a key that is not there.
    #[must_use]
    pub fn is_null(&self) -> bool {
        self.root().is_null()
    }

    /// The bytes, where the reply is one string of any kind.
    #[must_use]
    pub fn as_bytes(&self) -> Option<&[u8]> {
        self.root().as_bytes()
    }

    /// The text, where the reply is one string of any kind and UTF-8.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        self.root().as_str()
    }

    /// The number, where the reply is an integer.
    #[must_use]
    pub fn as_integer(&self) -> Option<i64> {
        self.root().as_integer()
    }

    /// The children of the root; none where it is a scalar.
    #[must_use]
    pub fn children(&self) -> Children<'_> {
        self.root().children()
    }

    /// The error, where the reply is one: one of the replies of a transaction.
    pub(crate) fn into_error(self) -> Result<ServerError, Self> {
        match self.root().node() {
            ReplyNode::Error(error) => Ok(error.clone()),
            _ => Err(self),
        }
    }

    /// The bytes, taken out without a copy, where the reply is one string of any kind.
    #[must_use]
    pub fn into_bytes(mut self) -> Option<Vec<u8>> {
        let at = self.root().position;
        if at >= self.nodes.len() {
            return None;
        }
        match self.nodes.swap_remove(at) {
            ReplyNode::BulkString(bytes) => Some(bytes),
            ReplyNode::Text(text) | ReplyNode::SimpleString(text) | ReplyNode::BigNumber(text) => {
                Some(text.into_bytes())
            }
            ReplyNode::VerbatimString(verbatim) => Some(verbatim.text),
            _ => None,
        }
    }
}

/// The replies that the component gives as bytes.
pub(crate) struct Replies {
    decoder: Decoder,
    /// Whether bulk strings that are UTF-8 become text.
    decode_responses: bool,
}

/// How a command has ended.
pub(crate) struct Ended {
    pub(crate) result: Result<Reply, Error>,
    /// What its reply counts in the limit `reply-size`.
    pub(crate) size: u64,
}

impl Replies {
    pub(crate) fn new(bytes: Vec<u8>, decode_responses: bool) -> Self {
        // The component has its limits, and has kept to them.
        let none =
            Limits { depth: u32::MAX, bulk_length: u64::MAX, elements: u32::MAX, reply_size: u64::MAX };
        let mut decoder = Decoder::new(none);
        decoder.feed(Bytes::from(bytes));
        Self { decoder, decode_responses }
    }

    /// The next one; an error when there is none.
    pub(crate) fn next(&mut self) -> Result<Ended, String> {
        let raw = match self.decoder.poll_raw() {
            Ok(Some(Frame::Reply(raw) | Frame::Push(raw))) => raw,
            Ok(None) => return Err("they end too early".to_owned()),
            Err(error) => return Err(error.to_string()),
        };
        let result = match raw.as_error() {
            Some(error) => Err(decode_error(error).into()),
            None => Ok(Reply::of(&raw, self.decode_responses)),
        };
        Ok(Ended { result, size: raw.size() })
    }
}

fn node(item: Item<'_>, decode_responses: bool) -> ReplyNode {
    let bulk_string = |bytes: Vec<u8>| match decode_responses {
        true => match String::from_utf8(bytes) {
            Ok(text) => ReplyNode::Text(text),
            Err(error) => ReplyNode::BulkString(error.into_bytes()),
        },
        false => ReplyNode::BulkString(bytes),
    };
    match item {
        Item::Null => ReplyNode::Null,
        Item::Boolean(value) => ReplyNode::Boolean(value),
        Item::Integer(value) => ReplyNode::Integer(value),
        Item::Double(value) => ReplyNode::Double(value),
        Item::BigNumber(digits) => ReplyNode::BigNumber(digits.to_owned()),
        Item::SimpleString(text) => match std::str::from_utf8(text) {
            Ok(text) => ReplyNode::SimpleString(text.to_owned()),
            Err(_) => ReplyNode::BulkString(text.to_vec()),
        },
        Item::BulkString(bytes) => bulk_string(bytes.to_vec()),
        Item::StreamedString(bytes) => bulk_string(bytes),
        Item::Verbatim { format, text } => ReplyNode::VerbatimString(Verbatim {
            format: String::from_utf8_lossy(&format).into_owned(),
            text: text.to_vec(),
        }),
        Item::Error(error) => ReplyNode::Error(error.into()),
        Item::Array(count) => ReplyNode::Array(count),
        Item::Set(count) => ReplyNode::Set(count),
        Item::Map(count) => ReplyNode::Map(count),
        Item::Push(count) => ReplyNode::Push(count),
        Item::Attribute(count) => ReplyNode::Attribute(count),
    }
}

/// One node of a reply, with what is below it.
#[derive(Clone, Copy, Debug)]
pub struct ReplyRef<'a> {
    nodes: &'a [ReplyNode],
    /// Where the first of the node's attributes stands, or the node itself when it has none.
    start: usize,
    /// Where the node itself stands.
    position: usize,
}

impl<'a> ReplyRef<'a> {
    /// The node at `start`, or behind the attributes that begin there.
    fn at(nodes: &'a [ReplyNode], start: usize) -> Self {
        let mut position = start;
        while let Some(ReplyNode::Attribute(entries)) = nodes.get(position) {
            position = skip(nodes, position + 1, u64::from(*entries) * 2);
        }
        Self { nodes, start, position }
    }

    /// The node itself: never an attribute, and null where the list ended too early.
    #[must_use]
    pub fn node(self) -> &'a ReplyNode {
        self.nodes.get(self.position).unwrap_or(&NULL)
    }

    /// The node with its attributes and all that is below it, as a reply of its own.
    #[must_use]
    pub fn to_reply(self) -> Reply {
        let end = skip(self.nodes, self.position, 1).max(self.start);
        Reply { nodes: self.nodes.get(self.start..end).unwrap_or_default().to_vec() }
    }

    /// Whether there is no value.
    #[must_use]
    pub fn is_null(self) -> bool {
        matches!(self.node(), ReplyNode::Null)
    }

    /// The bytes of a string: bulk, simple, verbatim or text, or a big number's digits.
    #[must_use]
    pub fn as_bytes(self) -> Option<&'a [u8]> {
        match self.node() {
            ReplyNode::BulkString(bytes) => Some(bytes),
            ReplyNode::Text(text) | ReplyNode::SimpleString(text) | ReplyNode::BigNumber(text) => {
                Some(text.as_bytes())
            }
            ReplyNode::VerbatimString(verbatim) => Some(&verbatim.text),
            _ => None,
        }
    }

    /// The same as text, where it is UTF-8.
    #[must_use]
    pub fn as_str(self) -> Option<&'a str> {
        self.as_bytes().and_then(|bytes| std::str::from_utf8(bytes).ok())
    }

    /// The number of an integer.
    #[must_use]
    pub fn as_integer(self) -> Option<i64> {
        match self.node() {
            ReplyNode::Integer(value) => Some(*value),
            _ => None,
        }
    }

    /// The value of a double, or of an integer as one.
    #[must_use]
    pub fn as_double(self) -> Option<f64> {
        match self.node() {
            ReplyNode::Double(value) => Some(*value),
            ReplyNode::Integer(value) => Some(*value as f64),
            _ => None,
        }
    }

    /// The value of a boolean.
    #[must_use]
    pub fn as_bool(self) -> Option<bool> {
        match self.node() {
            ReplyNode::Boolean(value) => Some(*value),
            _ => None,
        }
    }

    /// The children of an aggregate, each behind its attributes; none where this is a scalar. A
    /// map's are key, value, key, value.
    #[must_use]
    pub fn children(self) -> Children<'a> {
        Children { nodes: self.nodes, next: self.position.saturating_add(1), left: child_count(self.node()) }
    }

    /// The children two by two: a map's entries, or what RESP2 sends in its place.
    pub fn entries(self) -> impl Iterator<Item = (ReplyRef<'a>, ReplyRef<'a>)> {
        let mut children = self.children();
        std::iter::from_fn(move || Some((children.next()?, children.next()?)))
    }

    /// The entries of the node's attributes (RESP3), which [`Self::children`] passes over.
    pub fn attributes(self) -> impl Iterator<Item = (ReplyRef<'a>, ReplyRef<'a>)> {
        let mut children = Children { nodes: &[], next: 0, left: 0 };
        let mut at = self.start;
        std::iter::from_fn(move || {
            loop {
                if let Some(key) = children.next() {
                    let value = children.next()?;
                    at = children.next;
                    return Some((key, value));
                }
                match self.nodes.get(at) {
                    Some(ReplyNode::Attribute(entries)) if at < self.position => {
                        at += 1;
                        children = Children { nodes: self.nodes, next: at, left: u64::from(*entries) * 2 };
                    }
                    _ => return None,
                }
            }
        })
    }
}

/// The children of a node, in order.
#[derive(Clone, Debug)]
pub struct Children<'a> {
    nodes: &'a [ReplyNode],
    next: usize,
    left: u64,
}

impl<'a> Iterator for Children<'a> {
    type Item = ReplyRef<'a>;

    fn next(&mut self) -> Option<ReplyRef<'a>> {
        if self.left == 0 || self.next >= self.nodes.len() {
            return None;
        }
        let child = ReplyRef::at(self.nodes, self.next);
        self.left -= 1;
        self.next = skip(self.nodes, child.position, 1);
        Some(child)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX);
        (0, Some(most))
    }
}

/// How many children the node says it has.
fn child_count(node: &ReplyNode) -> u64 {
    match node {
        ReplyNode::Array(count) | ReplyNode::Set(count) | ReplyNode::Push(count) => u64::from(*count),
        ReplyNode::Map(entries) | ReplyNode::Attribute(entries) => u64::from(*entries) * 2,
        ReplyNode::Null
        | ReplyNode::Boolean(_)
        | ReplyNode::Integer(_)
        | ReplyNode::Double(_)
        | ReplyNode::BigNumber(_)
        | ReplyNode::SimpleString(_)
        | ReplyNode::BulkString(_)
        | ReplyNode::Text(_)
        | ReplyNode::VerbatimString(_)
        | ReplyNode::Error(_) => 0,
    }
}

/// The position behind `count` whole subtrees that begin at `position`.
///
/// One loop, whatever the depth. An attribute adds its own children and is not itself one of the
/// counted.
fn skip(nodes: &[ReplyNode], mut position: usize, count: u64) -> usize {
    let mut left = count;
    while left > 0 && position < nodes.len() {
        let node = &nodes[position];
        if !matches!(node, ReplyNode::Attribute(_)) {
            left -= 1;
        }
        left = left.saturating_add(child_count(node));
        position += 1;
    }
    position
}

#[cfg(test)]
mod tests {
    use super::ReplyNode::{Array, Attribute, BulkString, Integer, Map, Null, SimpleString};
    use super::*;

    fn integers(children: Children<'_>) -> Vec<Option<i64>> {
        children.map(ReplyRef::as_integer).collect()
    }

    #[test]
    fn children_are_walked_at_every_depth() {
        let reply = Reply::new(vec![
            Array(3),
            Integer(1),
            Array(2),
            Integer(2),
            Map(1),
            Integer(3),
            Integer(4),
            Integer(5),
        ]);
        assert_eq!(integers(reply.children()), [Some(1), None, Some(5)]);
        let inner = reply.children().nth(1).expect("three children");
        assert_eq!(integers(inner.children()), [Some(2), None]);
        let map = inner.children().nth(1).expect("two children");
        let entries: Vec<_> =
            map.entries().map(|(key, value)| (key.as_integer(), value.as_integer())).collect();
        assert_eq!(entries, [(Some(3), Some(4))]);
    }

    #[test]
    fn attributes_are_passed_over_and_can_be_read() {
        // |1 {key: [7]} *2 [|1 {a: b} :1, :2]
        let reply = Reply::new(vec![
            Attribute(1),
            SimpleString("key".to_owned()),
            Array(1),
            Integer(7),
            Array(2),
            Attribute(1),
            SimpleString("a".to_owned()),
            SimpleString("b".to_owned()),
            Integer(1),
            Integer(2),
        ]);
        assert_eq!(integers(reply.children()), [Some(1), Some(2)]);
        let attributes: Vec<_> = reply.root().attributes().collect();
        assert_eq!(attributes.len(), 1);
        assert_eq!(attributes[0].0.as_str(), Some("key"));
        assert_eq!(integers(attributes[0].1.children()), [Some(7)]);
        let first = reply.children().next().expect("two children");
        let (name, value) = first.attributes().next().expect("one attribute");
        assert_eq!((name.as_str(), value.as_str()), (Some("a"), Some("b")));
        assert_eq!(first.attributes().count(), 1);
    }

    #[test]
    fn lists_that_are_no_tree_end_early() {
        assert!(Reply::new(Vec::new()).is_null());
        assert_eq!(Reply::new(Vec::new()).into_bytes(), None);
        let short = Reply::new(vec![Array(u32::MAX), Integer(1)]);
        assert_eq!(integers(short.children()), [Some(1)]);
        let only_attribute = Reply::new(vec![Attribute(u32::MAX), Null]);
        assert!(only_attribute.is_null());
        assert_eq!(only_attribute.root().attributes().count(), 0);
        assert_eq!(only_attribute.children().count(), 0);
    }

    #[test]
    fn strings_of_every_kind_are_bytes() {
        let bulk = Reply::new(vec![BulkString(vec![0xff, 0])]);
        assert_eq!(bulk.as_bytes(), Some(&[0xff, 0][..]));
        assert_eq!(bulk.as_str(), None);
        assert_eq!(bulk.into_bytes(), Some(vec![0xff, 0]));
        let simple = Reply::new(vec![SimpleString("OK".to_owned())]);
        assert_eq!(simple.as_str(), Some("OK"));
        assert_eq!(simple.as_integer(), None);
        assert_eq!(Reply::new(vec![Integer(3)]).into_bytes(), None);
    }
}
