//! Making one reply of several nodes' replies, by the response policy.
//!
//! Replies are untrusted: a part of another shape than its command has is an error that says so, never a wrong answer.
//! Attributes before a part's root are dropped; those inside stay.
//!
//! <https://redis.io/docs/latest/develop/reference/command-tips/>, "response_policy"

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use super::ResponsePolicy;
use crate::resp::{Reply, ReplyNode, ReplyRef};

/// How the replies of several nodes become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merge {
    /// Each has an element for each of its keys: in the keys' order.
    Keys,
    /// All elements of all, in any order.
    Concatenate,
    /// The same, each element once.
    Union,
    /// Any one that is not null.
    Pick,
    /// As the servers say.
    By(ResponsePolicy),
}

/// Makes one reply of the replies of several nodes, none of which is an error, each with the keys that it is about.
/// `chance` is any number; it says whose turn it is with [`Merge::Pick`].
///
/// # Errors
/// Says what is wrong when the replies do not fit the command or each other.
pub fn merge(how: Merge, parts: &[(Vec<u32>, Reply)], chance: usize) -> Result<Reply, String> {
    let replies = parts.iter().map(|(_, reply)| reply);
    match how {
        Merge::Keys => by_key(parts),
        Merge::Concatenate => concatenated(replies, false),
        Merge::Union => concatenated(replies, true),
        Merge::Pick => {
            let is_there = |reply: &&Reply| reply.cursor().is_some_and(|root| !root.is_null());
            let mut in_turn = replies.clone().cycle().skip(chance % parts.len().max(1)).take(parts.len());
            in_turn.clone().find(is_there).or_else(|| in_turn.next()).cloned().ok_or_else(none)
        }
        Merge::By(policy) => by_policy(policy, replies),
    }
}

fn none() -> String {
    "no node has answered".to_string()
}

/// Puts the elements of several arrays into the order of the command's keys, each of which one part has.
fn by_key(parts: &[(Vec<u32>, Reply)]) -> Result<Reply, String> {
    let count = parts.iter().map(|(keys, _)| keys.len()).sum();
    let mut elements: Vec<Option<ReplyRef<'_>>> = vec![None; count];
    for (keys, reply) in parts {
        let root = reply.cursor().ok_or_else(none)?;
        if *root.node() != ReplyNode::Array(keys.len() as u32) {
            return Err(format!("a part of {} keys was answered with {}", keys.len(), kind(root.node())));
        }
        for (key, element) in keys.iter().zip(root.children()) {
            if let Some(place) = elements.get_mut(*key as usize) {
                *place = Some(element);
            }
        }
    }
    let mut nodes = vec![ReplyNode::Array(count as u32)];
    for element in elements {
        let element = element.ok_or("a part's reply ends too early")?;
        nodes.push(element.node().clone());
        nodes.extend_from_slice(element.descendants());
    }
    Ok(Reply { nodes })
}

fn by_policy<'a>(
    policy: ResponsePolicy,
    mut replies: impl Iterator<Item = &'a Reply>,
) -> Result<Reply, String> {
    let join: fn(i64, i64) -> i64 = match policy {
        ResponsePolicy::AllSucceeded | ResponsePolicy::OneSucceeded | ResponsePolicy::Special => {
            return replies.next().cloned().ok_or_else(none);
        }
        ResponsePolicy::AggSum => i64::saturating_add,
        ResponsePolicy::AggMin => Ord::min,
        ResponsePolicy::AggMax => Ord::max,
        ResponsePolicy::AggLogicalAnd => |a, b| i64::from(a != 0 && b != 0),
        ResponsePolicy::AggLogicalOr => |a, b| i64::from(a != 0 || b != 0),
    };
    let first = replies.next().and_then(Reply::cursor).ok_or_else(none)?;
    let is_number = |node: &ReplyNode| matches!(node, ReplyNode::Integer(_));
    let mut all = first.to_reply();
    if !all.nodes.iter().any(is_number) && *first.node() != ReplyNode::Array(0) {
        return Err(format!("a part was answered with {}", kind(first.node())));
    }
    for reply in replies {
        let root = reply.cursor().ok_or_else(none)?;
        let own = core::iter::once(root.node()).chain(root.descendants());
        if all.nodes.len() != root.descendants().len() + 1 {
            return Err("the parts have not the same number of elements".to_string());
        }
        for (so_far, node) in all.nodes.iter_mut().zip(own) {
            match (&*so_far, node) {
                (ReplyNode::Integer(a), ReplyNode::Integer(b)) => *so_far = ReplyNode::Integer(join(*a, *b)),
                // What the numbers are of, as in PUBSUB NUMSUB.
                (a, b) if a == b => {}
                (_, other) => return Err(format!("a part was answered with {}", kind(other))),
            }
        }
    }
    Ok(all)
}

/// All elements of several arrays, sets or maps, which are all of one kind. `once`: of elements that are alike, one.
fn concatenated<'a>(replies: impl Iterator<Item = &'a Reply>, once: bool) -> Result<Reply, String> {
    let mut nodes = vec![ReplyNode::Null];
    let mut all: Option<ReplyNode> = None;
    for reply in replies {
        let root = reply.cursor().ok_or_else(none)?;
        let mut elements = root.descendants().to_vec();
        let mut root = root.node().clone();
        if once && let ReplyNode::Array(count) | ReplyNode::Set(count) = &mut root {
            elements.retain(|element| !nodes.contains(element));
            *count = elements.len() as u32;
        }
        let sum = |a: u32, b: u32| a.checked_add(b).ok_or("the parts have too many elements together");
        all = Some(match (all, root) {
            (None, root @ (ReplyNode::Array(_) | ReplyNode::Set(_) | ReplyNode::Map(_))) => root,
            (Some(ReplyNode::Array(a)), ReplyNode::Array(b)) => ReplyNode::Array(sum(a, b)?),
            (Some(ReplyNode::Set(a)), ReplyNode::Set(b)) => ReplyNode::Set(sum(a, b)?),
            (Some(ReplyNode::Map(a)), ReplyNode::Map(b)) => ReplyNode::Map(sum(a, b)?),
            (_, other) => return Err(format!("a part was answered with {}", kind(&other))),
        });
        nodes.append(&mut elements);
    }
    match nodes.first_mut().zip(all) {
        Some((first, root)) => *first = root,
        None => return Err(none()),
    }
    Ok(Reply { nodes })
}

/// What a node is called in an error.
fn kind(node: &ReplyNode) -> String {
    match node {
        ReplyNode::Array(count) => format!("an array of {count}"),
        ReplyNode::Set(count) => format!("a set of {count}"),
        ReplyNode::Map(count) => format!("a map of {count}"),
        ReplyNode::Integer(value) => format!("the integer {value}"),
        ReplyNode::Null => "null".to_string(),
        ReplyNode::SimpleString(_) | ReplyNode::BulkString(_) | ReplyNode::Verbatim { .. } => {
            "a string".to_string()
        }
        ReplyNode::Error(error) => format!("the error {error}"),
        _ => "another type".to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::ReplyNode::{Array, Attribute, Integer, Map, Null, Set, SimpleString};
    use super::*;

    fn reply(nodes: &[ReplyNode]) -> Reply {
        Reply { nodes: nodes.to_vec() }
    }

    fn merged(how: Merge, replies: Vec<Reply>) -> Result<Reply, String> {
        let parts: Vec<_> = replies.into_iter().map(|reply| (Vec::new(), reply)).collect();
        merge(how, &parts, 1)
    }

    fn text(text: &'static str) -> ReplyNode {
        SimpleString(text.into())
    }

    #[test]
    fn elements_come_in_the_keys_order() {
        let parts = [
            (vec![0, 2], reply(&[Array(2), text("a"), Null])),
            (
                vec![1],
                reply(&[Attribute(1), text("x"), text("y"), Array(1), Array(2), Integer(1), Integer(2)]),
            ),
        ];
        let merged = merge(Merge::Keys, &parts, 0).unwrap();
        assert_eq!(merged, reply(&[Array(3), text("a"), Array(2), Integer(1), Integer(2), Null]));
    }

    #[test]
    fn a_part_of_another_shape_is_refused() {
        for wrong in [
            reply(&[Array(1), text("a")]),
            reply(&[Array(3), text("a"), Null, Null]),
            reply(&[Set(2), text("a"), text("b")]),
            reply(&[Null]),
            reply(&[Array(2), text("a")]),
            Reply::default(),
        ] {
            assert!(merge(Merge::Keys, &[(vec![0, 1], wrong.clone())], 0).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn policies_do_what_their_names_say() {
        let integers =
            |values: &[i64]| values.iter().map(|value| reply(&[Integer(*value)])).collect::<Vec<_>>();
        let one = |policy, values: &[i64]| merged(Merge::By(policy), integers(values)).unwrap();
        assert_eq!(one(ResponsePolicy::AggSum, &[1, 2, 3]), reply(&[Integer(6)]));
        assert_eq!(one(ResponsePolicy::AggMin, &[3, 1, 2]), reply(&[Integer(1)]));
        assert_eq!(one(ResponsePolicy::AggMax, &[3, 1, 2]), reply(&[Integer(3)]));
        assert_eq!(one(ResponsePolicy::AggLogicalAnd, &[1, 0]), reply(&[Integer(0)]));
        assert_eq!(one(ResponsePolicy::AggLogicalOr, &[1, 0]), reply(&[Integer(1)]));
        assert_eq!(one(ResponsePolicy::AggSum, &[i64::MAX, 1]), reply(&[Integer(i64::MAX)]));
        let exists =
            vec![reply(&[Array(2), Integer(1), Integer(0)]), reply(&[Array(2), Integer(1), Integer(1)])];
        let and = merged(Merge::By(ResponsePolicy::AggLogicalAnd), exists).unwrap();
        assert_eq!(and, reply(&[Array(2), Integer(1), Integer(0)]));
        let keys = vec![reply(&[Array(1), text("a")]), reply(&[Array(0)]), reply(&[Array(1), text("b")])];
        assert_eq!(merged(Merge::Concatenate, keys).unwrap(), reply(&[Array(2), text("a"), text("b")]));
        let maps = vec![reply(&[Map(1), text("a"), Integer(1)]), reply(&[Map(1), text("b"), Integer(2)])];
        assert_eq!(
            merged(Merge::Concatenate, maps).unwrap(),
            reply(&[Map(2), text("a"), Integer(1), text("b"), Integer(2)])
        );
        let ok = vec![reply(&[text("OK")]), reply(&[text("OK")])];
        assert_eq!(merged(Merge::By(ResponsePolicy::AllSucceeded), ok).unwrap(), reply(&[text("OK")]));
    }

    #[test]
    fn replies_that_do_not_fit_each_other_are_refused() {
        let sum = |replies| merged(Merge::By(ResponsePolicy::AggSum), replies);
        assert!(sum(vec![reply(&[Integer(1)]), reply(&[text("x")])]).is_err());
        assert!(sum(vec![reply(&[text("x")])]).is_err());
        assert!(
            sum(vec![reply(&[Array(1), Integer(1)]), reply(&[Array(2), Integer(1), Integer(1)])]).is_err()
        );
        assert!(sum(vec![reply(&[Array(1), Integer(1)]), reply(&[Integer(1)])]).is_err());
        assert!(sum(Vec::new()).is_err());
        assert!(merged(Merge::Concatenate, vec![reply(&[Array(0)]), reply(&[Set(0)])]).is_err());
        assert!(merged(Merge::Concatenate, vec![reply(&[Integer(1)])]).is_err());
        assert!(merged(Merge::Concatenate, Vec::new()).is_err());
    }

    #[test]
    fn what_several_nodes_know_is_told_once() {
        let channels =
            vec![reply(&[Array(2), text("a"), text("b")]), reply(&[Array(2), text("b"), text("c")])];
        let union = merged(Merge::Union, channels).unwrap();
        assert_eq!(union, reply(&[Array(3), text("a"), text("b"), text("c")]));
        let subscribers = |count| reply(&[Array(2), text("a"), Integer(count)]);
        let sum = merged(Merge::By(ResponsePolicy::AggSum), vec![subscribers(1), subscribers(2)]).unwrap();
        assert_eq!(sum, subscribers(3));
    }

    #[test]
    fn any_key_will_do_but_none() {
        let picked = |replies: &[ReplyNode]| {
            merged(Merge::Pick, replies.iter().cloned().map(Reply::single).collect()).unwrap()
        };
        assert_eq!(picked(&[text("a"), text("b"), text("c")]), reply(&[text("b")]));
        assert_eq!(picked(&[text("a"), Null, Null]), reply(&[text("a")]));
        assert_eq!(picked(&[Null, Null]), reply(&[Null]));
        assert!(merged(Merge::Pick, Vec::new()).is_err());
    }
}
