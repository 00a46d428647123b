//! Every reply type, every malformed kind and every limit, each fed whole and byte by byte.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use super::*;
use crate::error::ServerError;
use crate::resp::ReplyNode::{
    self, Array, Attribute, BigNumber, Boolean, BulkString, Double, Integer, Map, Null, Push, Set,
    SimpleString, Verbatim,
};

mod types;

type Outcome = (Vec<Frame>, Option<DecodeError>);

#[test]
fn not_a_number_comes_in_every_spelling() {
    for text in ["nan", "-nan", "+nan", "NaN", "-NAN"] {
        let (frames, failure) = decode(format!(",{text}\r\n").as_bytes());
        assert_eq!(failure, None);
        assert!(
            matches!(&frames[..], [Frame::Reply(reply)] if matches!(reply.root(), Some(Double(d)) if d.is_nan()))
        );
    }
}

#[test]
fn pushes_stand_between_replies() {
    let (frames, failure) = decode(b":1\r\n>1\r\n+x\r\n:2\r\n");
    assert_eq!(failure, None);
    assert_eq!(frames, [frame(&[Integer(1)]), frame(&[Push(1), simple("x")]), frame(&[Integer(2)])]);
}

#[test]
fn a_failed_decoder_stays_failed_and_holds_nothing() {
    let mut decoder = Decoder::new(Limits::default());
    decoder.feed(Bytes::from_static(b"*2\r\n:1\r\nx"));
    let error = decoder.poll().unwrap_err();
    decoder.feed(Bytes::from_static(b":1\r\n"));
    assert_eq!(decoder.poll(), Err(error.clone()));
    assert_eq!(decoder.poll(), Err(error));
    assert_eq!(decoder.buffered(), 0);
}

#[test]
fn depth_is_limited() {
    let limits = Limits { depth: 3, ..Limits::default() };
    for open in ["*1\r\n", "*?\r\n", "~1\r\n", "|1\r\n", "%1\r\n"] {
        assert_eq!(decode_with(limits, open.repeat(3).as_bytes()).1, None);
        // The rest of it is read, to find what is behind it.
        assert_eq!(decode_with(limits, open.repeat(4).as_bytes()), (Vec::new(), None));
    }
    assert_eq!(decode_with(limits, b"*1\r\n*1\r\n*0\r\n").1, None);
    // An aggregate that has ended no longer counts.
    assert_eq!(decode_with(limits, "*0\r\n".repeat(10).as_bytes()).0.len(), 10);
}

#[test]
fn a_reply_that_is_too_deep_is_dropped_and_the_next_one_decodes() {
    let limits = Limits { depth: 3, ..Limits::default() };
    let text = "x".repeat(200);
    for deep in [
        "*1\r\n*1\r\n*1\r\n*0\r\n".to_string(),
        "*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n".to_string(),
        "*2\r\n*2\r\n*2\r\n*2\r\n:1\r\n+x\r\n$-1\r\n#t\r\n,1.5\r\n".to_string(),
        "*?\r\n*?\r\n*?\r\n*?\r\n.\r\n.\r\n.\r\n.\r\n".to_string(),
        "%1\r\n:1\r\n%1\r\n:1\r\n~1\r\n|1\r\n:1\r\n:2\r\n_\r\n".to_string(),
        format!("*1\r\n*1\r\n*1\r\n*2\r\n$200\r\n{text}\r\n=204\r\ntxt:{text}\r\n"),
        format!("*1\r\n*1\r\n*1\r\n*2\r\n!200\r\n{text}\r\n$?\r\n;200\r\n{text}\r\n;1\r\nx\r\n;0\r\n"),
        "*1\r\n".repeat(DEPTH_READ_MAX as usize) + ":1\r\n",
    ] {
        for (front, is_push) in [("", false), (">1\r\n", true)] {
            let depth = deep.matches("*1\r\n").count();
            if is_push && depth == DEPTH_READ_MAX as usize {
                continue;
            }
            let bytes = format!("+a\r\n{front}{deep}+b\r\n");
            for cut in [1, 7, bytes.len()] {
                let mut decoder = Decoder::new(limits);
                bytes.as_bytes().chunks(cut).for_each(|piece| decoder.feed(Bytes::copy_from_slice(piece)));
                assert_eq!(decoder.poll(), Ok(Some(frame(&[simple("a")]))));
                let dropped = DecodeError::Dropped { limit: 3, is_push };
                assert_eq!(decoder.poll(), Err(dropped.clone()), "{bytes}");
                assert!(dropped.is_limit());
                assert_eq!(decoder.buffered(), 0);
                assert_eq!(decoder.poll(), Ok(Some(frame(&[simple("b")]))), "{bytes}");
                assert_eq!(decoder.poll(), Ok(None));
            }
        }
    }
}

#[test]
fn what_is_dropped_is_bounded_too() {
    let limits = Limits { depth: 3, reply_size: 100_000, elements: 2_000, ..Limits::default() };
    let beyond = "*1\r\n".repeat(DEPTH_READ_MAX as usize + 1);
    assert_limit(limits, beyond.as_bytes(), "a reply exceeds the limit of 1024 nested aggregates");
    let long = "*1\r\n*1\r\n*1\r\n*1\r\n$100000\r\n";
    assert_limit(limits, long.as_bytes(), "a reply exceeds the size limit of 100000 bytes");
    let many = "*1\r\n*1\r\n*1\r\n*2000\r\n";
    assert!(decode_with(limits, many.as_bytes()).1.is_some_and(|error| error.is_limit()));
    let broken = "*1\r\n*1\r\n*1\r\n*1\r\nx";
    assert!(matches!(
        decode_with(limits, broken.as_bytes()).1,
        Some(DecodeError::UnknownType { byte: b'x' })
    ));
}

#[test]
fn nothing_of_what_is_dropped_is_kept() {
    const PIECE: usize = 1 << 20;
    let meter = Meter::limited(8 * PIECE as u64);
    let mut decoder = Decoder::metered(Limits { depth: 1, ..Limits::default() }, meter.clone());
    // What was kept before it was known goes, too.
    let before = format!("*2\r\n${PIECE}\r\n{}\r\n", "x".repeat(PIECE));
    decoder.feed(before.into_bytes().into());
    assert_eq!(decoder.poll(), Ok(None));
    assert!(meter.bytes() >= PIECE as u64);
    let header = format!("*3\r\n${}\r\n", 64 * PIECE);
    decoder.feed(header.into_bytes().into());
    assert_eq!(decoder.poll(), Ok(None));
    assert!(meter.bytes() < 1 << 16, "{}", meter.bytes());
    for _ in 0..64 {
        decoder.feed(vec![b'x'; PIECE].into());
        assert_eq!(decoder.poll(), Ok(None));
        assert!(meter.bytes() < 1 << 16, "{}", meter.bytes());
    }
    decoder.feed(Bytes::from_static(b"\r\n:1\r\n:2\r\n+next\r\n"));
    assert_eq!(decoder.poll(), Err(DecodeError::Dropped { limit: 1, is_push: false }));
    assert_eq!(decoder.poll(), Ok(Some(frame(&[simple("next")]))));
}

#[test]
fn nesting_takes_no_stack() {
    let bytes = ["*1\r\n".repeat(100_000).as_bytes(), b":1\r\n"].concat();
    assert_limit(Limits::default(), &bytes, "a reply exceeds the limit of 1024 nested aggregates");
    let (frames, failure) = decode_with(Limits { depth: u32::MAX, ..Limits::default() }, &bytes);
    assert_eq!(failure, None);
    assert!(matches!(&frames[..], [Frame::Reply(reply)] if reply.nodes.len() == 100_001));
}

#[test]
fn bulk_length_is_limited() {
    let limits = Limits { bulk_length: 8, ..Limits::default() };
    for bytes in ["$8\r\n12345678\r\n", "=8\r\ntxt:1234\r\n", "$?\r\n;3\r\n123\r\n;5\r\n45678\r\n;0\r\n"] {
        let (frames, failure) = decode_with(limits, bytes.as_bytes());
        assert_eq!((frames.len(), failure), (1, None), "{bytes}");
    }
    for bytes in ["$9\r\n", "=9\r\n", "$?\r\n;9\r\n", "$?\r\n;4\r\n1234\r\n;5\r\n"] {
        assert_limit(limits, bytes.as_bytes(), "a string of 9 bytes exceeds the limit of 8 bytes");
    }
    let unlimited =
        Limits { bulk_length: u64::MAX, elements: u32::MAX, reply_size: u64::MAX, depth: u32::MAX };
    assert_eq!(decode_with(unlimited, b"$9223372036854775807\r\nabc"), (vec![], None));
}

#[test]
fn error_text_is_limited_like_a_line() {
    let error = |length: usize| format!("!{length}\r\n{}\r\n", "x".repeat(length));
    assert_eq!(decode(error(LINE_LENGTH_MAX).as_bytes()).0.len(), 1);
    let message = "a string of 1048577 bytes exceeds the limit of 1048576 bytes";
    assert_limit(Limits::default(), error(LINE_LENGTH_MAX + 1).as_bytes(), message);
}

#[test]
fn line_length_is_limited() {
    for marker in ["+", "-", "("] {
        let line = |length: usize| format!("{marker}{}\r\n", "1".repeat(length));
        assert_eq!(decode(line(LINE_LENGTH_MAX).as_bytes()).0.len(), 1);
        let line = line(LINE_LENGTH_MAX + 1);
        assert_limit(Limits::default(), line.as_bytes(), "a line exceeds the limit of 1048576 bytes");
        // It does not wait for a line end.
        assert_limit(
            Limits::default(),
            line.trim_end().as_bytes(),
            "a line exceeds the limit of 1048576 bytes",
        );
    }
}

#[test]
fn elements_are_limited() {
    let limits = Limits { elements: 5, ..Limits::default() };
    for bytes in [
        "*4\r\n:1\r\n:1\r\n:1\r\n:1\r\n",
        "%2\r\n:1\r\n:1\r\n:1\r\n:1\r\n",
        "*?\r\n:1\r\n:1\r\n:1\r\n:1\r\n.\r\n",
        "|1\r\n:1\r\n:1\r\n*1\r\n:1\r\n",
    ] {
        let (frames, failure) = decode_with(limits, bytes.repeat(2).as_bytes());
        assert_eq!((frames.len(), failure), (2, None), "{bytes}");
    }
    let message = "a reply of 6 or more elements exceeds the limit of 5 elements";
    assert_limit(limits, b"*5\r\n", message);
    assert_limit(limits, b"*2\r\n*3\r\n:1\r\n:1\r\n:1\r\n:1\r\n", message);
    assert_limit(limits, b"*1\r\n*4\r\n", message);
    assert_limit(limits, b"*?\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n", message);
    assert_limit(limits, b"%3\r\n", "a reply of 7 or more elements exceeds the limit of 5 elements");
    let unlimited = Limits { elements: u32::MAX, ..Limits::default() };
    for header in
        ["*9223372036854775807\r\n", "%9223372036854775807\r\n", "%2147483648\r\n", "*4294967295\r\n"]
    {
        let (_, failure) = decode_with(unlimited, header.as_bytes());
        assert!(matches!(failure, Some(DecodeError::Elements { .. })), "{header}");
    }
}

#[test]
fn reply_size_is_limited() {
    let cases: [&[u8]; 10] = [
        b"+12345\r\n",
        b"-ERR 1\r\n",
        b"-\xff\r\n",
        b"$5\r\nabcde\r\n",
        b"$?\r\n;2\r\nab\r\n;0\r\n",
        b"*2\r\n:1\r\n:2\r\n",
        b"*?\r\n:1\r\n.\r\n",
        b"%1\r\n$-1\r\n_\r\n",
        b"|1\r\n+a\r\n+b\r\n+c\r\n",
        b"!3\r\na\xff\xff\r\n",
    ];
    for bytes in cases {
        let (frames, _) = decode(bytes);
        let [Frame::Reply(reply)] = &frames[..] else { panic!("{}", bytes.escape_ascii()) };
        let replacements = bytes.iter().filter(|&&byte| byte == 0xff).count();
        let size = bytes.len() as u64 + reply.nodes.len() as u64 * NODE_COST + replacements as u64 * 2;

        let enough = Limits { reply_size: size, ..Limits::default() };
        assert_eq!(decode_with(enough, &bytes.repeat(2)).0.len(), 2, "{}", bytes.escape_ascii());
        let short = Limits { reply_size: size - 1, ..Limits::default() };
        let message = format!("a reply exceeds the size limit of {} bytes", size - 1);
        assert_limit(short, bytes, &message);
    }
}

#[test]
fn a_length_beyond_the_reply_size_is_refused_at_once() {
    let limits = Limits { reply_size: 1000, ..Limits::default() };
    assert_limit(limits, b"$1000\r\n", "a reply exceeds the size limit of 1000 bytes");
    assert_limit(limits, b"$?\r\n;1000\r\n", "a reply exceeds the size limit of 1000 bytes");
}

#[test]
fn a_push_that_has_begun_is_no_reply_that_has_begun() {
    let cases = [
        ("", false),
        ("+", true),
        ("$5\r\nva", true),
        ("*2\r\n:1\r\n", true),
        ("+OK\r\n", false),
        (">", false),
        (">2\r\n", false),
        (">2\r\n+a\r\n$9\r\nb", false),
        (">1\r\n+a\r\n", false),
        (">1\r\n+a\r\n$", true),
    ];
    for (bytes, expected) in cases {
        let mut decoder = Decoder::new(Limits::default());
        decoder.feed(Bytes::from_static(bytes.as_bytes()));
        while decoder.poll().unwrap().is_some() {}
        assert_eq!(decoder.begun() == Some(Begun::Reply), expected, "{bytes:?}");
    }
}

#[test]
fn buffered_is_what_has_arrived() {
    let mut decoder = Decoder::new(Limits::default());
    let node = NODE_COST as usize;
    for (bytes, buffered) in [("*2\r\n", 4 + node), ("$100000000\r\n", 16 + 2 * node), ("abc", 19 + 2 * node)]
    {
        decoder.feed(Bytes::from_static(bytes.as_bytes()));
        assert_eq!(decoder.poll(), Ok(None));
        assert_eq!(decoder.buffered(), buffered, "{bytes}");
    }

    let mut decoder = Decoder::new(Limits::default());
    decoder.feed(Bytes::from_static(b"+OK\r\n"));
    assert!(decoder.poll().unwrap().is_some());
    assert_eq!(decoder.buffered(), 0);
}

#[test]
fn strings_within_a_chunk_share_its_memory() {
    let chunk = Bytes::from(b"*3\r\n+simple\r\n$4\r\nbulk\r\n=8\r\ntxt:text\r\n".to_vec());
    let mut decoder = Decoder::new(Limits::default());
    decoder.feed(chunk.clone());
    let Some(Frame::Reply(reply)) = decoder.poll().unwrap() else { panic!("no reply") };
    let memory = chunk.as_ptr_range();
    for child in reply.children() {
        assert!(memory.contains(&child.as_bytes().unwrap().as_ptr()), "{child:?}");
    }
}

/// Decodes the bytes whole, byte by byte with polls between, and byte by byte without: all must
/// agree.
fn decode_with(limits: Limits, bytes: &[u8]) -> Outcome {
    let whole = drain(limits, [Bytes::copy_from_slice(bytes)]);
    let singles = || bytes.chunks(1).map(Bytes::copy_from_slice);
    assert_same(&whole, &drain(limits, singles()));

    let mut decoder = Decoder::new(limits);
    singles().for_each(|chunk| decoder.feed(chunk));
    let mut chained = (Vec::new(), None);
    poll_all(&mut decoder, &mut chained);
    assert_same(&whole, &chained);
    whole
}

/// NaN differs from itself, but not its text.
fn assert_same(left: &Outcome, right: &Outcome) {
    assert!(left == right || format!("{left:?}") == format!("{right:?}"), "{left:?} is not {right:?}");
}

fn decode(bytes: &[u8]) -> Outcome {
    decode_with(Limits::default(), bytes)
}

fn drain(limits: Limits, chunks: impl IntoIterator<Item = Bytes>) -> Outcome {
    let mut decoder = Decoder::new(limits);
    let mut outcome = (Vec::new(), None);
    for chunk in chunks {
        decoder.feed(chunk);
        poll_all(&mut decoder, &mut outcome);
        assert!(decoder.buffered() as u64 <= limits.reply_size);
    }
    outcome
}

fn poll_all(decoder: &mut Decoder, (frames, failure): &mut Outcome) {
    loop {
        match decoder.poll() {
            Ok(Some(frame)) => frames.push(frame),
            Ok(None) => break,
            Err(error) => {
                *failure = Some(error);
                break;
            }
        }
    }
}

fn assert_limit(limits: Limits, bytes: &[u8], message: &str) {
    let (frames, failure) = decode_with(limits, bytes);
    let shown = || String::from_utf8_lossy(&bytes[..bytes.len().min(40)]).into_owned();
    assert_eq!(frames, [], "{}", shown());
    let error = failure.unwrap_or_else(|| panic!("no error: {}", shown()));
    assert_eq!(error.to_string(), message, "{}", shown());
    assert!(error.is_limit());
}

fn frame(nodes: &[ReplyNode]) -> Frame {
    let reply = Reply { nodes: nodes.to_vec() };
    if matches!(reply.root(), Some(Push(_))) { Frame::Push(reply) } else { Frame::Reply(reply) }
}

fn simple(text: &'static str) -> ReplyNode {
    SimpleString(text.into())
}

fn bulk(text: &'static str) -> ReplyNode {
    BulkString(text.into())
}

fn error(code: &str, message: &str) -> ReplyNode {
    ReplyNode::Error(ServerError { code: code.into(), message: message.into() })
}
