//! Shows that the decoder depends on the bytes alone, not on how they are cut, and that it keeps
//! its place.
//!
//! Random reply trees are written by the encoder below, in every form that the protocol has for
//! them, cut at random, and must come out as the same flat replies. Random bytes must come out as
//! the same error, with no more memory held than the limits say.

use std::time::Duration;

use bytes::Bytes;
use cpu_time::ThreadTime;
use keyslot_core::error::ServerError;
use keyslot_core::resp::{DecodeError, Decoder, Frame, Limits, NODE_COST, Reply, ReplyNode, subtree_length};
use proptest::collection::vec;
use proptest::prelude::*;

/// A reply as the server has it.
#[derive(Clone, Debug)]
enum Tree {
    /// A node without children, in its only form.
    Leaf(ReplyNode),
    /// Null in one of its forms.
    Null(&'static str),
    /// A string in these chunks, none of them empty.
    StreamedString(Vec<Vec<u8>>),
    /// An error as a blob.
    BlobError(String, String),
    /// An aggregate, with its count or streamed. The children of a map come in pairs.
    Aggregate { marker: char, streamed: bool, children: Vec<Tree> },
    /// What has an attribute; its keys and values come in pairs.
    Described { attribute: Vec<Tree>, streamed: bool, subject: Box<Tree> },
}

impl Tree {
    fn encode(&self, bytes: &mut Vec<u8>) {
        match self {
            Tree::Leaf(node) => encode_leaf(node, bytes),
            Tree::Null(form) => bytes.extend_from_slice(form.as_bytes()),
            Tree::StreamedString(chunks) => {
                bytes.extend_from_slice(b"$?\r\n");
                chunks.iter().for_each(|chunk| put_blob(";", chunk, bytes));
                bytes.extend_from_slice(b";0\r\n");
            }
            Tree::BlobError(code, message) => put_blob("!", format!("{code} {message}").as_bytes(), bytes),
            Tree::Aggregate { marker, streamed, children } => {
                put_aggregate(*marker, *streamed, children, bytes);
            }
            Tree::Described { attribute, streamed, subject } => {
                put_aggregate('|', *streamed, attribute, bytes);
                subject.encode(bytes);
            }
        }
    }

    fn flatten(&self, nodes: &mut Vec<ReplyNode>) {
        match self {
            Tree::Leaf(node) => nodes.push(node.clone()),
            Tree::Null(_) => nodes.push(ReplyNode::Null),
            Tree::StreamedString(chunks) => nodes.push(ReplyNode::BulkString(chunks.concat().into())),
            Tree::BlobError(code, message) => {
                nodes.push(ReplyNode::Error(ServerError { code: code.clone(), message: message.clone() }));
            }
            Tree::Aggregate { marker, children, .. } => {
                let count = children.len() as u32;
                nodes.push(match marker {
                    '*' => ReplyNode::Array(count),
                    '~' => ReplyNode::Set(count),
                    '>' => ReplyNode::Push(count),
                    _ => ReplyNode::Map(count / 2),
                });
                children.iter().for_each(|child| child.flatten(nodes));
            }
            Tree::Described { attribute, subject, .. } => {
                nodes.push(ReplyNode::Attribute(attribute.len() as u32 / 2));
                attribute.iter().for_each(|child| child.flatten(nodes));
                subject.flatten(nodes);
            }
        }
    }

    /// How many aggregates lie within each other.
    fn depth(&self) -> u32 {
        let deepest = |trees: &[Tree]| trees.iter().map(Tree::depth).max().unwrap_or(0);
        match self {
            Tree::Aggregate { children, .. } => 1 + deepest(children),
            Tree::Described { attribute, subject, .. } => (1 + deepest(attribute)).max(subject.depth()),
            Tree::Leaf(_) | Tree::Null(_) | Tree::StreamedString(_) | Tree::BlobError(..) => 0,
        }
    }

    fn frame(&self) -> Frame {
        let mut nodes = Vec::new();
        self.flatten(&mut nodes);
        assert_eq!(subtree_length(&nodes), nodes.len());
        let reply = Reply { nodes };
        if matches!(reply.root(), Some(ReplyNode::Push(_))) {
            Frame::Push(reply)
        } else {
            Frame::Reply(reply)
        }
    }
}

fn encode_leaf(node: &ReplyNode, bytes: &mut Vec<u8>) {
    let line = match node {
        ReplyNode::Boolean(value) => format!("#{}", if *value { 't' } else { 'f' }),
        ReplyNode::Integer(value) => format!(":{value}"),
        ReplyNode::Double(value) => format!(",{value:e}"),
        ReplyNode::BigNumber(digits) => format!("({digits}"),
        ReplyNode::Error(error) => format!("-{error}"),
        ReplyNode::SimpleString(text) => {
            bytes.extend_from_slice(&[b"+", &text[..], b"\r\n"].concat());
            return;
        }
        ReplyNode::BulkString(text) => return put_blob("$", text, bytes),
        ReplyNode::Verbatim { format, text } => {
            return put_blob("=", &[&format[..], b":", text].concat(), bytes);
        }
        _ => unreachable!("not a leaf: {node:?}"),
    };
    bytes.extend_from_slice(line.as_bytes());
    bytes.extend_from_slice(b"\r\n");
}

fn put_blob(marker: &str, text: &[u8], bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(format!("{marker}{}\r\n", text.len()).as_bytes());
    bytes.extend_from_slice(text);
    bytes.extend_from_slice(b"\r\n");
}

fn put_aggregate(marker: char, streamed: bool, children: &[Tree], bytes: &mut Vec<u8>) {
    let entries = if matches!(marker, '%' | '|') { children.len() / 2 } else { children.len() };
    let count = if streamed { "?".to_owned() } else { entries.to_string() };
    bytes.extend_from_slice(format!("{marker}{count}\r\n").as_bytes());
    children.iter().for_each(|child| child.encode(bytes));
    if streamed {
        bytes.extend_from_slice(b".\r\n");
    }
}

/// Strings that look like protocol as often as not.
fn blob() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        vec(any::<u8>(), 0..40),
        vec(prop::sample::select(b"\r\n$*+;.:1".to_vec()), 0..20),
        Just(vec![b'x'; 5000]),
    ]
}

fn resp2_leaf() -> impl Strategy<Value = Tree> {
    prop_oneof![
        "[ -~]{0,20}".prop_map(|text| Tree::Leaf(ReplyNode::SimpleString(text.into()))),
        ("[A-Z]{1,10}", "[ -~]{0,20}")
            .prop_map(|(code, message)| Tree::Leaf(ReplyNode::Error(ServerError { code, message }))),
        any::<i64>().prop_map(|value| Tree::Leaf(ReplyNode::Integer(value))),
        blob().prop_map(|text| Tree::Leaf(ReplyNode::BulkString(text.into()))),
        prop::sample::select(&["$-1\r\n", "*-1\r\n"][..]).prop_map(Tree::Null),
    ]
}

fn resp3_leaf() -> impl Strategy<Value = Tree> {
    let double = any::<f64>().prop_filter("NaN is not itself", |value| !value.is_nan());
    prop_oneof![
        5 => resp2_leaf(),
        1 => Just(Tree::Null("_\r\n")),
        1 => any::<bool>().prop_map(|value| Tree::Leaf(ReplyNode::Boolean(value))),
        1 => double.prop_map(|value| Tree::Leaf(ReplyNode::Double(value))),
        1 => "[+-]?[0-9]{1,60}".prop_map(|digits| Tree::Leaf(ReplyNode::BigNumber(digits))),
        1 => ("[A-Z]{1,10}", "[ -~\r\n]{0,20}").prop_map(|(code, message)| Tree::BlobError(code, message)),
        1 => ("[a-z]{3}", blob()).prop_map(|(format, text)| {
            let format = format.as_bytes().try_into().unwrap();
            Tree::Leaf(ReplyNode::Verbatim { format, text: text.into() })
        }),
        1 => vec(vec(any::<u8>(), 1..20), 0..4).prop_map(Tree::StreamedString),
    ]
}

fn aggregate(marker: char, streamed: bool, mut children: Vec<Tree>) -> Tree {
    if marker == '%' && children.len() % 2 == 1 {
        children.pop();
    }
    Tree::Aggregate { marker, streamed, children }
}

fn resp2_tree() -> impl Strategy<Value = Tree> {
    resp2_leaf().prop_recursive(5, 60, 8, |inner| {
        vec(inner, 0..8).prop_map(|children| aggregate('*', false, children))
    })
}

fn resp3_tree() -> impl Strategy<Value = Tree> {
    let inner = resp3_leaf().prop_recursive(5, 60, 8, |inner| {
        prop_oneof![
            4 => (prop::sample::select(std::vec!['*', '~', '%']), any::<bool>(), vec(inner.clone(), 0..8))
                .prop_map(|(marker, streamed, children)| aggregate(marker, streamed, children)),
            1 => (vec((inner.clone(), inner.clone()), 0..3), any::<bool>(), inner).prop_map(
                |(pairs, streamed, subject)| Tree::Described {
                    attribute: pairs.into_iter().flat_map(|(key, value)| [key, value]).collect(),
                    streamed,
                    subject: Box::new(subject),
                },
            ),
        ]
    });
    let push = (any::<bool>(), vec(inner.clone(), 0..4)).prop_map(|(streamed, children)| Tree::Aggregate {
        marker: '>',
        streamed,
        children,
    });
    prop_oneof![6 => inner, 1 => push]
}

/// How long each piece is; the list is gone through again and again.
fn cuts() -> impl Strategy<Value = Vec<usize>> {
    vec(prop_oneof![1usize..8, 1usize..100, 1usize..6000], 1..20)
}

#[derive(Debug, Default)]
struct Outcome {
    frames: Vec<Frame>,
    /// Behind how many frames each stood that was dropped, and whether it was a push.
    dropped: Vec<(usize, bool)>,
    failure: Option<DecodeError>,
}

impl Outcome {
    fn poll_all(&mut self, decoder: &mut Decoder) {
        while self.failure.is_none() {
            match decoder.poll() {
                Ok(Some(frame)) => self.frames.push(frame),
                Ok(None) => break,
                Err(DecodeError::Dropped { is_push, .. }) => self.dropped.push((self.frames.len(), is_push)),
                Err(error) => self.failure = Some(error),
            }
        }
    }

    /// NaN differs from itself, but not its text.
    fn text(&self) -> String {
        format!("{self:?}")
    }
}

fn pieces<'a>(bytes: &'a Bytes, cuts: &'a [usize]) -> impl Iterator<Item = Bytes> + 'a {
    let mut rest = bytes.clone();
    let mut cuts = cuts.iter().cycle();
    std::iter::from_fn(move || {
        let length = (*cuts.next()?).min(rest.len());
        (!rest.is_empty()).then(|| rest.split_to(length))
    })
}

/// Feeds piece by piece; each piece after the one before is drained, or all of them first.
fn decode(limits: Limits, pieces: impl Iterator<Item = Bytes>, ahead: bool) -> Outcome {
    let mut decoder = Decoder::new(limits);
    let mut outcome = Outcome::default();
    for piece in pieces {
        decoder.feed(piece);
        if !ahead {
            outcome.poll_all(&mut decoder);
            assert!(decoder.buffered() as u64 <= limits.reply_size);
        }
    }
    outcome.poll_all(&mut decoder);
    outcome
}

fn check_trees(trees: &[Tree], cuts: &[usize]) {
    let mut bytes = Vec::new();
    let mut expected = Vec::new();
    for tree in trees {
        tree.encode(&mut bytes);
        bytes.extend_from_slice(b"+sentinel\r\n");
        expected.push(tree.frame());
        expected.push(Frame::Reply(Reply::single(ReplyNode::SimpleString("sentinel".into()))));
    }
    let bytes = Bytes::from(bytes);
    for ahead in [false, true] {
        for cuts in [cuts, &[1], &[usize::MAX]] {
            let outcome = decode(Limits::default(), pieces(&bytes, cuts), ahead);
            assert_eq!(outcome.failure, None);
            assert_eq!(outcome.frames, expected);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn resp2_replies_decode_however_they_are_cut(trees in vec(resp2_tree(), 1..5), cuts in cuts()) {
        check_trees(&trees, &cuts);
    }

    #[test]
    fn resp3_replies_decode_however_they_are_cut(trees in vec(resp3_tree(), 1..5), cuts in cuts()) {
        check_trees(&trees, &cuts);
    }

    /// Whatever is too deep is dropped alone: what is behind it decodes.
    #[test]
    fn replies_that_are_too_deep_are_dropped_alone(
        trees in vec(resp3_tree(), 1..5),
        cuts in cuts(),
        depth in 0u32..4,
    ) {
        let limits = Limits { depth, ..Limits::default() };
        let (mut bytes, mut expected, mut dropped) = (Vec::new(), Vec::new(), Vec::new());
        for tree in &trees {
            tree.encode(&mut bytes);
            bytes.extend_from_slice(b"+sentinel\r\n");
            match tree.frame() {
                frame if tree.depth() > depth => {
                    dropped.push((expected.len(), matches!(frame, Frame::Push(_))));
                }
                frame => expected.push(frame),
            }
            expected.push(Frame::Reply(Reply::single(ReplyNode::SimpleString("sentinel".into()))));
        }
        let bytes = Bytes::from(bytes);
        for ahead in [false, true] {
            for cuts in [&cuts[..], &[1], &[usize::MAX]] {
                let outcome = decode(limits, pieces(&bytes, cuts), ahead);
                prop_assert_eq!(&outcome.failure, &None);
                prop_assert_eq!(&outcome.frames, &expected);
                prop_assert_eq!(&outcome.dropped, &dropped);
            }
        }
    }

    #[test]
    fn sub_replies_are_the_trees_children(children in vec(resp3_leaf(), 0..8)) {
        let mut bytes = Vec::new();
        put_aggregate('*', false, &children, &mut bytes);
        let outcome = decode(Limits::default(), [Bytes::from(bytes)].into_iter(), false);
        let [Frame::Reply(reply)] = &outcome.frames[..] else { panic!("{outcome:?}") };
        let found: Vec<_> = reply.children().map(|child| Frame::Reply(child.to_reply())).collect();
        prop_assert_eq!(found, children.iter().map(Tree::frame).collect::<Vec<_>>());
    }

    #[test]
    fn random_bytes_are_decided_by_the_bytes_alone(
        bytes in prop_oneof![
            vec(any::<u8>(), 0..200),
            vec(prop::sample::select(b"\r\n\r\n\r\n+-:$*_#,(!=~%>|;.?0123-1atx".to_vec()), 0..200),
            vec(prop::sample::select(fragments()), 0..30).prop_map(|fragments| fragments.concat()),
        ],
        cuts in cuts(),
        depth in 0u32..6,
        bulk_length in 0u64..30,
        elements in 0u32..20,
        reply_size in 0u64..1500,
    ) {
        let limits = Limits { depth, bulk_length, elements, reply_size };
        let bytes = Bytes::from(bytes);
        let whole = decode(limits, [bytes.clone()].into_iter(), false);
        for frame in &whole.frames {
            let (Frame::Reply(reply) | Frame::Push(reply)) = frame;
            prop_assert!(reply.nodes.len() as u64 <= u64::from(elements).min(reply_size / NODE_COST));
            prop_assert_eq!(subtree_length(&reply.nodes), reply.nodes.len());
        }
        for ahead in [false, true] {
            prop_assert_eq!(decode(limits, pieces(&bytes, &cuts), ahead).text(), whole.text());
            prop_assert_eq!(decode(limits, pieces(&bytes, &[1]), ahead).text(), whole.text());
        }
    }
}

/// Lines that are right each for itself and seldom together.
fn fragments() -> Vec<&'static [u8]> {
    vec![
        b"+a\r\n",
        b"-E x\r\n",
        b":1\r\n",
        b"$1\r\nx\r\n",
        b"$-1\r\n",
        b"*-1\r\n",
        b"_\r\n",
        b"#t\r\n",
        b",nan\r\n",
        b"(1\r\n",
        b"!1\r\n\xff\r\n",
        b"=4\r\ntxt:\r\n",
        b"*0\r\n",
        b"*1\r\n",
        b"*2\r\n",
        b"~1\r\n",
        b"%1\r\n",
        b">1\r\n",
        b"|0\r\n",
        b"|1\r\n",
        b"*?\r\n",
        b"%?\r\n",
        b"~?\r\n",
        b"|?\r\n",
        b">?\r\n",
        b".\r\n",
        b".\r\n",
        b"$?\r\n",
        b";1\r\nx\r\n",
        b";0\r\n",
        b"*9\r\n",
        b"$40\r\n",
        b"\r\n",
    ]
}

/// Rereading what has arrived, or moving it with every growth, would take hours here.
#[test]
fn the_work_is_linear_when_bytes_come_one_by_one() {
    const LENGTH: usize = 8 << 20;
    // Of the processor: a busy machine takes longer.
    let begin = ThreadTime::now();

    let bulk = [format!("${LENGTH}\r\n").as_bytes(), &vec![b'x'; LENGTH], b"\r\n"].concat();
    let line = [b"+", &[b'x'; 1 << 20][..], b"\r\n"].concat();
    let mut streamed = b"$?\r\n".to_vec();
    (0..LENGTH / 8).for_each(|_| streamed.extend_from_slice(b";1\r\nx\r\n"));
    streamed.extend_from_slice(b";0\r\n");
    let mut aggregate = b"*?\r\n".to_vec();
    (0..LENGTH / 8).for_each(|_| aggregate.extend_from_slice(b":1\r\n"));
    aggregate.extend_from_slice(b".\r\n");

    for bytes in [&bulk, &line, &streamed, &aggregate] {
        let outcome = decode(Limits::default(), pieces(&Bytes::copy_from_slice(bytes), &[1]), false);
        assert_eq!((outcome.frames.len(), outcome.failure), (1, None));
    }
    // The same where all of it is dropped.
    let limits = Limits { depth: 1, ..Limits::default() };
    let deep = [b"*1\r\n*4\r\n", &bulk[..], &line, &streamed, &aggregate].concat();
    let outcome = decode(limits, pieces(&Bytes::from(deep), &[1]), false);
    assert_eq!((outcome.dropped.len(), outcome.failure), (1, None));
    let elapsed = begin.elapsed();
    assert!(elapsed < Duration::from_secs(20), "{elapsed:?}");
}
