//! Making one reply of several nodes' replies, by the response policy.
//!
//! Replies are put together as they were sent, without being decoded. They are untrusted: a part of
//! another shape than its command has is an error that says so, never a wrong answer. Attributes
//! before a part's root are dropped; those inside stay.
//!
//! <https://redis.io/docs/latest/develop/reference/command-tips/>, "response_policy"

use alloc::collections::BinaryHeap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use bytes::BytesMut;

use super::ResponsePolicy;
use crate::resp::{RawReply, Token, put_integer_line};

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

/// Makes one reply of the replies of several nodes, none of which is an error, each with the keys
/// that it is about. `chance` is any number; it says whose turn it is with [`Merge::Pick`].
///
/// # Errors
/// Says what is wrong when the replies do not fit the command or each other.
pub fn merge(how: Merge, parts: &[(Vec<u32>, RawReply)], chance: usize) -> Result<RawReply, String> {
    let replies = parts.iter().map(|(_, reply)| reply);
    match how {
        Merge::Keys => by_key(parts),
        Merge::Concatenate => concatenated(replies, false),
        Merge::Union => concatenated(replies, true),
        Merge::Pick => {
            let is_there = |reply: &&RawReply| reply.root().is_some_and(|root| !root.is_null());
            let mut in_turn = replies.clone().cycle().skip(chance % parts.len().max(1)).take(parts.len());
            in_turn.clone().find(is_there).or_else(|| in_turn.next()).cloned().ok_or_else(none)
        }
        Merge::By(ResponsePolicy::AggSum) if parts.iter().any(|(keys, _)| !keys.is_empty()) => {
            match replies.clone().filter_map(RawReply::root).find(|root| root.marker != b':') {
                None => by_policy(ResponsePolicy::AggSum, replies),
                Some(root) => Err(format!("a part that counts its keys was answered with {}", root.kind())),
            }
        }
        Merge::By(policy) => by_policy(policy, replies),
    }
}

fn none() -> String {
    "no node has answered".to_string()
}

/// Puts the elements of several arrays into the order of the command's keys, each of which one part
/// has.
fn by_key(parts: &[(Vec<u32>, RawReply)]) -> Result<RawReply, String> {
    let count = parts.iter().map(|(keys, _)| keys.len()).sum();
    let mut elements: Vec<&[u8]> = vec![&[]; count];
    for (keys, reply) in parts {
        let root = reply.root().ok_or_else(none)?;
        let mut children = reply.children();
        let mut found = 0;
        for (key, element) in keys.iter().zip(&mut children) {
            if let Some(place) = elements.get_mut(*key as usize) {
                *place = element;
            }
            found += 1;
        }
        if root.marker != b'*' || found != keys.len() || children.next().is_some() {
            return Err(format!("a part of {} keys was answered with {}", keys.len(), root.kind()));
        }
    }
    if elements.iter().any(|element| element.is_empty()) {
        return Err("a part's reply ends too early".to_string());
    }
    Ok(aggregate(b'*', count as u64, elements.iter().copied(), parts.iter().map(|(_, reply)| reply)))
}

/// An aggregate of these elements, which are those of these replies.
fn aggregate<'a>(
    marker: u8,
    count: u64,
    elements: impl Iterator<Item = &'a [u8]> + Clone,
    replies: impl Iterator<Item = &'a RawReply>,
) -> RawReply {
    let length: usize = elements.clone().map(<[u8]>::len).sum();
    let mut bytes = BytesMut::with_capacity(length + 32);
    put_integer_line(marker, count as i64, &mut bytes);
    elements.for_each(|element| bytes.extend_from_slice(element));
    let nodes = replies.fold(1u32, |sum, reply| sum.saturating_add(reply.node_count().saturating_sub(1)));
    RawReply::new(bytes.freeze(), nodes)
}

fn by_policy<'a>(
    policy: ResponsePolicy,
    mut replies: impl Iterator<Item = &'a RawReply>,
) -> Result<RawReply, String> {
    let join: fn(i64, i64) -> i64 = match policy {
        ResponsePolicy::AllSucceeded => {
            let first = replies.next().ok_or_else(none)?;
            return match replies.find(|other| !is_the_same(first, other)) {
                None => Ok(first.clone()),
                Some(other) => Err(differing(first.root().as_ref(), other.root().as_ref())),
            };
        }
        ResponsePolicy::OneSucceeded | ResponsePolicy::Special => {
            return replies.next().cloned().ok_or_else(none);
        }
        ResponsePolicy::AggSum => i64::saturating_add,
        ResponsePolicy::AggMin => Ord::min,
        ResponsePolicy::AggMax => Ord::max,
        ResponsePolicy::AggLogicalAnd => |a, b| i64::from(a != 0 && b != 0),
        ResponsePolicy::AggLogicalOr => |a, b| i64::from(a != 0 || b != 0),
    };
    let first = replies.next().ok_or_else(none)?;
    let root = first.root().ok_or_else(none)?;
    let is_empty = root.marker == b'*' && first.children().next().is_none();
    if !is_empty && !first.tokens().any(|token| token.marker == b':') {
        return Err(format!("a part was answered with {}", root.kind()));
    }
    let mut all = first.clone();
    for reply in replies {
        all = joined(&all, reply, join)?;
    }
    Ok(all)
}

/// Whether two replies, neither of them an error, say the same: any two statuses do, and what is
/// equal.
#[must_use]
pub fn is_the_same(one: &RawReply, other: &RawReply) -> bool {
    let is_status = |reply: &RawReply| reply.root().is_some_and(|root| root.marker == b'+');
    (is_status(one) && is_status(other))
        || one.tokens().map(|token| token.bytes).eq(other.tokens().map(|token| token.bytes))
}

/// What is wrong with two answers that do not go together.
fn differing(one: Option<&Token<'_>>, other: Option<&Token<'_>>) -> String {
    let kind = |token: Option<&Token<'_>>| token.map_or_else(|| "nothing".to_string(), Token::kind);
    format!("one part was answered with {}, another with {}", kind(one), kind(other))
}

/// Two replies of one shape, with their integers joined. What the numbers are of, as in PUBSUB
/// NUMSUB, must be the same.
fn joined(a: &RawReply, b: &RawReply, join: fn(i64, i64) -> i64) -> Result<RawReply, String> {
    let mut bytes = BytesMut::with_capacity(a.as_bytes().len() + 16);
    let (mut left, mut right) = (a.tokens(), b.tokens());
    loop {
        match (left.next(), right.next()) {
            (None, None) => return Ok(RawReply::new(bytes.freeze(), a.node_count())),
            (Some(a), Some(b)) => match (a.as_integer(), b.as_integer()) {
                (Some(a), Some(b)) => put_integer_line(b':', join(a, b), &mut bytes),
                _ if a.bytes == b.bytes => bytes.extend_from_slice(a.bytes),
                _ => return Err(differing(Some(&a), Some(&b))),
            },
            _ => return Err("the parts have not the same number of elements".to_string()),
        }
    }
}

/// All elements of several arrays, sets or maps, which are all of one kind. `once`: of elements
/// that are alike, one.
fn concatenated<'a>(
    replies: impl Iterator<Item = &'a RawReply> + Clone,
    once: bool,
) -> Result<RawReply, String> {
    let mut marker = None;
    let mut elements = Vec::new();
    for reply in replies.clone() {
        let root = reply.root().ok_or_else(none)?;
        if root.is_null()
            || !matches!(root.marker, b'*' | b'~' | b'%')
            || marker.is_some_and(|marker| marker != root.marker)
        {
            return Err(format!("a part was answered with {}", root.kind()));
        }
        marker = Some(root.marker);
        elements.extend(reply.children());
    }
    let marker = marker.ok_or_else(none)?;
    if once && marker != b'%' {
        elements = BinaryHeap::from(elements).into_sorted_vec();
        elements.dedup();
    }
    let count = elements.len() as u64;
    let count = if marker == b'%' { count / 2 } else { count };
    Ok(aggregate(marker, count, elements.iter().copied(), replies))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::ReplyNode::{self, Array, Attribute, Integer, Map, Null, Set, SimpleString};
    use crate::resp::{Reply, put_integer_line};

    fn reply(nodes: &[ReplyNode]) -> Reply {
        Reply { nodes: nodes.to_vec() }
    }

    /// The reply as a server sends it.
    fn sent(reply: &Reply) -> RawReply {
        let mut bytes = BytesMut::new();
        for node in &reply.nodes {
            let (marker, number) = match node {
                Array(count) => (b'*', i64::from(*count)),
                Set(count) => (b'~', i64::from(*count)),
                Map(count) => (b'%', i64::from(*count)),
                Attribute(count) => (b'|', i64::from(*count)),
                Integer(value) => (b':', *value),
                Null => (b'$', -1),
                SimpleString(text) => {
                    bytes.extend_from_slice(&[b"+", &text[..], b"\r\n"].concat());
                    continue;
                }
                other => panic!("no test sends {other:?}"),
            };
            put_integer_line(marker, number, &mut bytes);
        }
        RawReply::new(bytes.freeze(), reply.nodes.len() as u32)
    }

    fn merged(how: Merge, replies: &[Reply]) -> Result<Reply, String> {
        let parts: Vec<_> = replies.iter().map(|reply| (Vec::new(), sent(reply))).collect();
        merge(how, &parts, 1).map(|reply| reply.decode())
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
        let parts = parts.map(|(keys, reply)| (keys, sent(&reply)));
        let merged = merge(Merge::Keys, &parts, 0).unwrap().decode();
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
            assert!(merge(Merge::Keys, &[(vec![0, 1], sent(&wrong))], 0).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn policies_do_what_their_names_say() {
        let integers =
            |values: &[i64]| values.iter().map(|value| reply(&[Integer(*value)])).collect::<Vec<_>>();
        let one = |policy, values: &[i64]| merged(Merge::By(policy), &integers(values)).unwrap();
        assert_eq!(one(ResponsePolicy::AggSum, &[1, 2, 3]), reply(&[Integer(6)]));
        assert_eq!(one(ResponsePolicy::AggMin, &[3, 1, 2]), reply(&[Integer(1)]));
        assert_eq!(one(ResponsePolicy::AggMax, &[3, 1, 2]), reply(&[Integer(3)]));
        assert_eq!(one(ResponsePolicy::AggLogicalAnd, &[1, 0]), reply(&[Integer(0)]));
        assert_eq!(one(ResponsePolicy::AggLogicalOr, &[1, 0]), reply(&[Integer(1)]));
        assert_eq!(one(ResponsePolicy::AggSum, &[i64::MAX, 1]), reply(&[Integer(i64::MAX)]));
        let exists =
            vec![reply(&[Array(2), Integer(1), Integer(0)]), reply(&[Array(2), Integer(1), Integer(1)])];
        let and = merged(Merge::By(ResponsePolicy::AggLogicalAnd), &exists).unwrap();
        assert_eq!(and, reply(&[Array(2), Integer(1), Integer(0)]));
        let keys = vec![reply(&[Array(1), text("a")]), reply(&[Array(0)]), reply(&[Array(1), text("b")])];
        assert_eq!(merged(Merge::Concatenate, &keys).unwrap(), reply(&[Array(2), text("a"), text("b")]));
        let maps = vec![reply(&[Map(1), text("a"), Integer(1)]), reply(&[Map(1), text("b"), Integer(2)])];
        assert_eq!(
            merged(Merge::Concatenate, &maps).unwrap(),
            reply(&[Map(2), text("a"), Integer(1), text("b"), Integer(2)])
        );
        let ok = vec![reply(&[text("OK")]), reply(&[text("OK")])];
        assert_eq!(merged(Merge::By(ResponsePolicy::AllSucceeded), &ok).unwrap(), reply(&[text("OK")]));
    }

    #[test]
    fn a_success_that_some_have_not_had_is_none() {
        let all = |values: &[i64]| {
            let replies: Vec<_> = values.iter().map(|value| reply(&[Integer(*value)])).collect();
            merged(Merge::By(ResponsePolicy::AllSucceeded), &replies)
        };
        assert_eq!(all(&[1, 1, 1]), Ok(reply(&[Integer(1)])));
        assert_eq!(all(&[0, 0]), Ok(reply(&[Integer(0)])));
        let told = "one part was answered with the integer 1, another with the integer 0";
        assert_eq!(all(&[1, 1, 0]), Err(told.to_string()));
    }

    #[test]
    fn replies_that_do_not_fit_each_other_are_refused() {
        let sum = |replies: Vec<Reply>| merged(Merge::By(ResponsePolicy::AggSum), &replies);
        assert!(sum(vec![reply(&[Integer(1)]), reply(&[text("x")])]).is_err());
        assert!(sum(vec![reply(&[text("x")])]).is_err());
        assert!(
            sum(vec![reply(&[Array(1), Integer(1)]), reply(&[Array(2), Integer(1), Integer(1)])]).is_err()
        );
        assert!(sum(vec![reply(&[Array(1), Integer(1)]), reply(&[Integer(1)])]).is_err());
        assert!(sum(Vec::new()).is_err());
        assert!(merged(Merge::Concatenate, &[reply(&[Array(0)]), reply(&[Set(0)])]).is_err());
        assert!(merged(Merge::Concatenate, &[reply(&[Integer(1)])]).is_err());
        assert!(merged(Merge::Concatenate, &[]).is_err());
    }

    #[test]
    fn what_several_nodes_know_is_told_once() {
        let channels =
            vec![reply(&[Array(2), text("a"), text("b")]), reply(&[Array(2), text("b"), text("c")])];
        let union = merged(Merge::Union, &channels).unwrap();
        assert_eq!(union, reply(&[Array(3), text("a"), text("b"), text("c")]));
        let subscribers = |count| reply(&[Array(2), text("a"), Integer(count)]);
        let sum = merged(Merge::By(ResponsePolicy::AggSum), &[subscribers(1), subscribers(2)]).unwrap();
        assert_eq!(sum, subscribers(3));
    }

    #[test]
    fn any_key_will_do_but_none() {
        let picked = |replies: &[ReplyNode]| {
            merged(Merge::Pick, &replies.iter().cloned().map(Reply::single).collect::<Vec<_>>()).unwrap()
        };
        assert_eq!(picked(&[text("a"), text("b"), text("c")]), reply(&[text("b")]));
        assert_eq!(picked(&[text("a"), Null, Null]), reply(&[text("a")]));
        assert_eq!(picked(&[Null, Null]), reply(&[Null]));
        assert!(merged(Merge::Pick, &[]).is_err());
    }
}
