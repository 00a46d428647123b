//! Flat replies: the nodes of the tree in pre-order.
//!
//! Flat is how they arrive, how they leave through the WIT (which has no recursive types), and how
//! replies of several nodes are merged: by putting lists together. [`ReplyRef`] reads them as the
//! tree that they are.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::str;

use bytes::Bytes;

use super::decode::NODE_COST;
use crate::error::ServerError;

/// One node of a reply. Aggregates carry how many children follow them (a map of `n` entries:
/// `2n`).
#[derive(Clone, Debug, PartialEq)]
pub enum ReplyNode {
    /// RESP3 `_`, RESP2 `$-1` and `*-1`.
    Null,
    /// `#t`, `#f`.
    Boolean(bool),
    /// `:`.
    Integer(i64),
    /// `,`, with `inf`, `-inf` and `nan`.
    Double(f64),
    /// `(`: the digits as sent, with their sign.
    BigNumber(String),
    /// `+`.
    SimpleString(Bytes),
    /// `$`, streamed strings included.
    BulkString(Bytes),
    /// `=`.
    Verbatim {
        /// Three letters: `txt`, `mkd`.
        format: [u8; 3],
        /// What stands behind the colon.
        text: Bytes,
    },
    /// `-` and `!`.
    Error(ServerError),
    /// `*`.
    Array(u32),
    /// `~`.
    Set(u32),
    /// `%`: the number of entries; two children each.
    Map(u32),
    /// `>`: only as the root.
    Push(u32),
    /// `|`: the number of entries; two children each. Stands before the node that it describes, and
    /// does not count as a child of the aggregate around it.
    Attribute(u32),
}

impl ReplyNode {
    /// How many children it has, not counting those of an attribute, which is no parent in the
    /// tree.
    pub fn child_count(&self) -> u64 {
        match *self {
            Self::Array(count) | Self::Set(count) | Self::Push(count) => count.into(),
            Self::Map(entries) => u64::from(entries) * 2,
            Self::Null
            | Self::Boolean(_)
            | Self::Integer(_)
            | Self::Double(_)
            | Self::BigNumber(_)
            | Self::SimpleString(_)
            | Self::BulkString(_)
            | Self::Verbatim { .. }
            | Self::Error(_)
            | Self::Attribute(_) => 0,
        }
    }
}

/// A reply: its root, then its descendants, in pre-order. Attributes may stand before the root.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reply {
    /// The nodes. Never empty in a reply that the decoder made.
    pub nodes: Vec<ReplyNode>,
}

impl Reply {
    /// A reply of one node, which must be no aggregate with children.
    pub fn single(node: ReplyNode) -> Self {
        Self { nodes: vec![node] }
    }

    /// How much memory it takes, in bytes: what its strings hold, and [`NODE_COST`] for each node.
    pub fn size(&self) -> u64 {
        let text = |node: &ReplyNode| match node {
            ReplyNode::SimpleString(text)
            | ReplyNode::BulkString(text)
            | ReplyNode::Verbatim { text, .. } => text.len(),
            ReplyNode::BigNumber(digits) => digits.len(),
            ReplyNode::Error(error) => error.code.len() + error.message.len(),
            _ => 0,
        };
        self.nodes.iter().map(|node| text(node) as u64 + NODE_COST).sum()
    }

    /// The node that says what the reply is: the first one that is no attribute, nor part of one.
    pub fn root(&self) -> Option<&ReplyNode> {
        self.cursor().map(ReplyRef::node)
    }

    /// The reply as a tree, from its root. `None` only for a list without a root, which no decoder
    /// makes.
    pub fn cursor(&self) -> Option<ReplyRef<'_>> {
        ReplyRef::new(&self.nodes)
    }

    /// The error, if the root is one. Errors deeper in the reply, as EXEC has them, are no failure
    /// of the whole.
    pub fn as_error(&self) -> Option<&ServerError> {
        self.cursor().and_then(ReplyRef::as_error)
    }

    /// The root's children.
    pub fn children(&self) -> Children<'_> {
        self.cursor().map_or(Children { nodes: &[], left: 0 }, ReplyRef::children)
    }
}

impl From<ReplyNode> for Reply {
    fn from(node: ReplyNode) -> Self {
        Self::single(node)
    }
}

/// A node of a reply together with what is below it.
///
/// It reads any list of nodes, also one whose counts are wrong: children that are not there are not
/// yielded. Attributes are passed over, wherever they stand.
///
/// What is a map under RESP3 is under RESP2 an array of keys and values by turns, and both are read
/// with [`entries`](Self::entries) or [`value`](Self::value):
///
/// ```
/// use keyslot_core::resp::{Reply, ReplyNode};
///
/// let key = ReplyNode::BulkString("proto".into());
/// let resp2 = Reply { nodes: vec![ReplyNode::Array(2), key.clone(), ReplyNode::Integer(2)] };
/// let resp3 = Reply { nodes: vec![ReplyNode::Map(1), key, ReplyNode::Integer(3)] };
/// let proto = |reply: &Reply| reply.cursor()?.value("proto")?.as_integer();
/// assert_eq!((proto(&resp2), proto(&resp3)), (Some(2), Some(3)));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct ReplyRef<'a> {
    node: &'a ReplyNode,
    /// What follows the node: its descendants, then perhaps nodes that are not below it.
    rest: &'a [ReplyNode],
}

impl<'a> ReplyRef<'a> {
    /// The first sub-reply in a list of nodes, after its attributes.
    pub fn new(mut nodes: &'a [ReplyNode]) -> Option<Self> {
        loop {
            let (node, rest) = nodes.split_first()?;
            let ReplyNode::Attribute(entries) = *node else {
                return Some(Self { node, rest });
            };
            nodes = rest.get(nodes_length(rest, u64::from(entries) * 2)..)?;
        }
    }

    /// The node itself.
    pub fn node(self) -> &'a ReplyNode {
        self.node
    }

    /// The nodes below this one, in pre-order, with their attributes.
    pub fn descendants(self) -> &'a [ReplyNode] {
        self.rest.get(..nodes_length(self.rest, self.node.child_count())).unwrap_or_default()
    }

    /// A copy of the node and what is below it, without the attributes before it.
    pub fn to_reply(self) -> Reply {
        let mut nodes = vec![self.node.clone()];
        nodes.extend_from_slice(self.descendants());
        Reply { nodes }
    }

    /// Whether it is null.
    pub fn is_null(self) -> bool {
        matches!(self.node, ReplyNode::Null)
    }

    /// The text of a simple, bulk or verbatim string.
    pub fn as_bytes(self) -> Option<&'a Bytes> {
        match self.node {
            ReplyNode::SimpleString(text)
            | ReplyNode::BulkString(text)
            | ReplyNode::Verbatim { text, .. } => Some(text),
            _ => None,
        }
    }

    /// The text of a simple, bulk or verbatim string that is UTF-8.
    pub fn as_str(self) -> Option<&'a str> {
        self.as_bytes().and_then(|text| str::from_utf8(text).ok())
    }

    /// The value of an integer.
    pub fn as_integer(self) -> Option<i64> {
        match *self.node {
            ReplyNode::Integer(value) => Some(value),
            _ => None,
        }
    }

    /// The error, if it is one.
    pub fn as_error(self) -> Option<&'a ServerError> {
        match self.node {
            ReplyNode::Error(error) => Some(error),
            _ => None,
        }
    }

    /// What an aggregate holds; of a map, its keys and values by turns. Empty for everything else.
    pub fn children(self) -> Children<'a> {
        Children { nodes: self.rest, left: self.node.child_count() }
    }

    /// The keys and values of a map, or of an array that holds them by turns. A last key without a
    /// value is left out.
    pub fn entries(self) -> Entries<'a> {
        let left = match self.node {
            ReplyNode::Map(_) | ReplyNode::Array(_) => self.node.child_count(),
            _ => 0,
        };
        Entries { children: Children { nodes: self.rest, left } }
    }

    /// The value of the first of the [`entries`](Self::entries) whose key is this string.
    pub fn value(self, key: &str) -> Option<ReplyRef<'a>> {
        let (_, value) = self.entries().find(|(name, _)| name.as_str() == Some(key))?;
        Some(value)
    }
}

/// The children of a node, in order.
#[derive(Clone, Debug)]
pub struct Children<'a> {
    nodes: &'a [ReplyNode],
    left: u64,
}

impl<'a> Iterator for Children<'a> {
    type Item = ReplyRef<'a>;

    fn next(&mut self) -> Option<ReplyRef<'a>> {
        self.left = self.left.checked_sub(1)?;
        let child = ReplyRef::new(self.nodes)?;
        self.nodes = child.rest.get(child.descendants().len()..).unwrap_or_default();
        Some(child)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(usize::try_from(self.left).unwrap_or(usize::MAX).min(self.nodes.len())))
    }
}

/// The keys and values of a map, in order.
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    children: Children<'a>,
}

impl<'a> Iterator for Entries<'a> {
    type Item = (ReplyRef<'a>, ReplyRef<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        Some((self.children.next()?, self.children.next()?))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, self.children.size_hint().1.map(|children| children / 2))
    }
}

/// How many nodes the first sub-reply in a list has: the attributes before its root, the root and
/// its descendants. All of the list, if it ends too early.
pub fn subtree_length(nodes: &[ReplyNode]) -> usize {
    nodes_length(nodes, 1)
}

/// How many nodes the first `count` sub-replies in a list have, with their attributes.
fn nodes_length(nodes: &[ReplyNode], count: u64) -> usize {
    // In pre-order it does not matter whose child a node is: each takes one place and opens those
    // below it.
    let mut open = count;
    let mut length = 0;
    for node in nodes {
        if open == 0 {
            break;
        }
        length += 1;
        open = match *node {
            ReplyNode::Attribute(entries) => open.saturating_add(u64::from(entries) * 2),
            _ => (open - 1).saturating_add(node.child_count()),
        };
    }
    length
}

#[cfg(test)]
mod tests {
    use super::ReplyNode::{Array, Attribute, BulkString, Integer, Map, Null, Push, Set, SimpleString};
    use super::*;

    fn text(text: &'static str) -> ReplyNode {
        BulkString(Bytes::from_static(text.as_bytes()))
    }

    fn reply(nodes: &[ReplyNode]) -> Reply {
        Reply { nodes: nodes.to_vec() }
    }

    fn integers(children: Children<'_>) -> Vec<Option<i64>> {
        children.map(ReplyRef::as_integer).collect()
    }

    #[test]
    fn the_root_stands_behind_its_attributes() {
        let attributes = [Attribute(1), text("key"), Array(2), Integer(1), Integer(2), Attribute(0)];
        let mut reply = reply(&attributes);
        assert_eq!(reply.root(), None);
        reply.nodes.push(Integer(7));
        assert_eq!(reply.root(), Some(&Integer(7)));
        assert_eq!(subtree_length(&reply.nodes), 7);
    }

    #[test]
    fn children_are_whole_sub_replies() {
        let reply = reply(&[Array(3), Set(2), Integer(1), Integer(2), Map(1), text("a"), Null, Integer(3)]);
        let children: Vec<_> = reply.children().map(|child| child.to_reply().nodes).collect();
        assert_eq!(
            children,
            [vec![Set(2), Integer(1), Integer(2)], vec![Map(1), text("a"), Null], vec![Integer(3)]]
        );
    }

    #[test]
    fn attributes_between_children_are_passed_over() {
        let nodes = [
            Array(2),
            Integer(1),
            Attribute(1),
            Integer(8),
            Integer(9),
            Attribute(0),
            Integer(2),
            Integer(5),
        ];
        let reply = reply(&nodes);
        assert_eq!(integers(reply.children()), [Some(1), Some(2)]);
        assert_eq!(subtree_length(&reply.nodes), 7);
    }

    #[test]
    fn attributes_within_attributes_are_passed_over() {
        let nodes = [Attribute(1), Attribute(1), Integer(1), Integer(2), Integer(3), Integer(4), Integer(5)];
        assert_eq!(reply(&nodes).root(), Some(&Integer(5)));
    }

    #[test]
    fn entries_of_a_map_and_of_a_flat_array() {
        for header in [Map(2), Array(4), Array(5)] {
            let reply = reply(&[header, text("a"), Array(1), Integer(1), text("b"), Integer(2), text("c")]);
            let cursor = reply.cursor().unwrap();
            let keys: Vec<_> = cursor.entries().map(|(key, _)| key.as_str()).collect();
            assert_eq!(keys, [Some("a"), Some("b")]);
            assert_eq!(cursor.value("b").and_then(ReplyRef::as_integer), Some(2));
            assert_eq!(integers(cursor.value("a").unwrap().children()), [Some(1)]);
            assert!(cursor.value("c").is_none());
        }
    }

    #[test]
    fn only_maps_and_arrays_have_entries() {
        for header in [Set(2), Push(2), Null] {
            assert_eq!(reply(&[header, text("a"), Integer(1)]).cursor().unwrap().entries().count(), 0);
        }
    }

    #[test]
    fn a_root_that_is_an_error_is_the_replys_error() {
        let error = ServerError { code: "ERR".into(), message: "no".into() };
        let node = ReplyNode::Error(error.clone());
        assert_eq!(Reply::single(node.clone()).as_error(), Some(&error));
        assert_eq!(reply(&[Array(1), node]).as_error(), None);
    }

    #[test]
    fn strings_of_every_type_have_bytes() {
        let verbatim = ReplyNode::Verbatim { format: *b"txt", text: "x".into() };
        for node in [SimpleString("x".into()), text("x"), verbatim] {
            assert_eq!(Reply::single(node).cursor().and_then(ReplyRef::as_str), Some("x"));
        }
        let binary = Reply::single(BulkString(Bytes::from_static(b"\xff")));
        assert_eq!(binary.cursor().and_then(ReplyRef::as_str), None);
        assert!(binary.cursor().and_then(ReplyRef::as_bytes).is_some());
    }

    #[test]
    fn counts_that_are_wrong_yield_what_is_there() {
        assert!(Reply::default().cursor().is_none());
        assert_eq!(Reply::default().children().count(), 0);
        assert!(reply(&[Attribute(u32::MAX)]).root().is_none());
        let short = reply(&[Array(u32::MAX), Integer(1), Map(u32::MAX), Integer(2)]);
        assert_eq!(integers(short.children()), [Some(1), None]);
        assert_eq!(subtree_length(&short.nodes), 4);
        assert_eq!(reply(&[Map(2), Integer(1)]).cursor().unwrap().entries().count(), 0);
    }

    #[test]
    fn deep_nesting_is_no_recursion() {
        let mut nodes = vec![Array(1); 200_000];
        nodes.push(Integer(1));
        assert_eq!(subtree_length(&nodes), 200_001);
    }
}
