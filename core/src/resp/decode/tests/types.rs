//! Every reply type, and every way in which bytes are none.

use super::*;

#[test]
fn every_simple_type_decodes() {
    assert_decode(&[
        (b"+OK\r\n", &[simple("OK")]),
        (b"+\r\n", &[simple("")]),
        (b"+a b\xff\r\n", &[SimpleString(Bytes::from_static(b"a b\xff"))]),
        (b"-ERR no such key\r\n", &[error("ERR", "no such key")]),
        (b"-ERR  two\r\n", &[error("ERR", " two")]),
        (b"-LOADING\r\n", &[error("LOADING", "")]),
        (b"-\r\n", &[error("", "")]),
        (b"-ERR \xff\r\n", &[error("ERR", "\u{fffd}")]),
        (b":0\r\n", &[Integer(0)]),
        (b":+7\r\n", &[Integer(7)]),
        (b":-0\r\n", &[Integer(0)]),
        (b":007\r\n", &[Integer(7)]),
        (b":9223372036854775807\r\n", &[Integer(i64::MAX)]),
        (b":-9223372036854775808\r\n", &[Integer(i64::MIN)]),
        (b"$5\r\nhello\r\n", &[bulk("hello")]),
        (b"$0\r\n\r\n", &[bulk("")]),
        (b"$-0\r\n\r\n", &[bulk("")]),
        (b"$002\r\n\r\n\r\n", &[bulk("\r\n")]),
        (b"$-1\r\n", &[Null]),
        (b"*-1\r\n", &[Null]),
        (b"_\r\n", &[Null]),
        (b"#t\r\n", &[Boolean(true)]),
        (b"#f\r\n", &[Boolean(false)]),
        (b",1.5\r\n", &[Double(1.5)]),
        (b",10\r\n", &[Double(10.0)]),
        (b",-1.5e-3\r\n", &[Double(-0.0015)]),
        (b",1E+3\r\n", &[Double(1000.0)]),
        (b",inf\r\n", &[Double(f64::INFINITY)]),
        (b",+inf\r\n", &[Double(f64::INFINITY)]),
        (b",-inf\r\n", &[Double(f64::NEG_INFINITY)]),
        (b",Infinity\r\n", &[Double(f64::INFINITY)]),
        (b",-INF\r\n", &[Double(f64::NEG_INFINITY)]),
        (
            b"(3492890328409238509324850943850943825024385\r\n",
            &[BigNumber("3492890328409238509324850943850943825024385".into())],
        ),
        (b"(-12\r\n", &[BigNumber("-12".into())]),
        (b"(+12\r\n", &[BigNumber("+12".into())]),
        (b"!22\r\nSYNTAX invalid\r\nsyntax\r\n", &[error("SYNTAX", "invalid\r\nsyntax")]),
        (b"=15\r\ntxt:Some string\r\n", &[Verbatim { format: *b"txt", text: "Some string".into() }]),
        (b"=4\r\nmkd:\r\n", &[Verbatim { format: *b"mkd", text: Bytes::new() }]),
    ]);
}

#[test]
fn every_aggregate_decodes() {
    assert_decode(&[
        (b"*0\r\n", &[Array(0)]),
        (b"*2\r\n*1\r\n:1\r\n$1\r\na\r\n", &[Array(2), Array(1), Integer(1), bulk("a")]),
        (b"*3\r\n*0\r\n$-1\r\n*-1\r\n", &[Array(3), Array(0), Null, Null]),
        (b"~2\r\n:1\r\n#t\r\n", &[Set(2), Integer(1), Boolean(true)]),
        (b"%2\r\n+a\r\n:1\r\n+b\r\n*0\r\n", &[Map(2), simple("a"), Integer(1), simple("b"), Array(0)]),
        (b"%0\r\n", &[Map(0)]),
        (b">2\r\n+message\r\n$1\r\nx\r\n", &[Push(2), simple("message"), bulk("x")]),
        (b">0\r\n", &[Push(0)]),
        (b"|1\r\n+ttl\r\n:3\r\n$1\r\nx\r\n", &[Attribute(1), simple("ttl"), Integer(3), bulk("x")]),
        (
            b"|0\r\n|1\r\n+a\r\n|0\r\n:1\r\n+x\r\n",
            &[Attribute(0), Attribute(1), simple("a"), Attribute(0), Integer(1), simple("x")],
        ),
        (
            b"*2\r\n:1\r\n|1\r\n+ttl\r\n:3\r\n:2\r\n",
            &[Array(2), Integer(1), Attribute(1), simple("ttl"), Integer(3), Integer(2)],
        ),
        (b"|0\r\n>1\r\n+x\r\n", &[Attribute(0), Push(1), simple("x")]),
    ]);
}

#[test]
fn what_is_streamed_decodes() {
    assert_decode(&[
        (b"$?\r\n;4\r\nHell\r\n;6\r\no worl\r\n;1\r\nd\r\n;0\r\n", &[bulk("Hello world")]),
        (b"$?\r\n;0\r\n", &[bulk("")]),
        (b"*?\r\n:1\r\n*2\r\n:2\r\n:3\r\n.\r\n", &[Array(2), Integer(1), Array(2), Integer(2), Integer(3)]),
        (b"*?\r\n.\r\n", &[Array(0)]),
        (b"~?\r\n~?\r\n:1\r\n.\r\n:2\r\n.\r\n", &[Set(2), Set(1), Integer(1), Integer(2)]),
        (
            b"%?\r\n+a\r\n:1\r\n+b\r\n$?\r\n;1\r\nx\r\n;0\r\n.\r\n",
            &[Map(2), simple("a"), Integer(1), simple("b"), bulk("x")],
        ),
        (b"|?\r\n+a\r\n:1\r\n.\r\n:2\r\n", &[Attribute(1), simple("a"), Integer(1), Integer(2)]),
        (b">?\r\n+a\r\n.\r\n", &[Push(1), simple("a")]),
        (
            b"*?\r\n|1\r\n+a\r\n+b\r\n:1\r\n.\r\n",
            &[Array(1), Attribute(1), simple("a"), simple("b"), Integer(1)],
        ),
    ]);
}

#[test]
fn malformed_values_are_named() {
    assert_malformed(&[
        (b"HTTP/1.1", "unknown reply type byte 0x48 ('H')"),
        (b"\r\n", "unknown reply type byte 0x0d"),
        (b"\0", "unknown reply type byte 0x00"),
        (b":\r\n", "invalid integer \"\""),
        (b":-\r\n", "invalid integer \"-\""),
        (b":1 \r\n", "invalid integer \"1 \""),
        (b":0x1\r\n", "invalid integer \"0x1\""),
        (b":9223372036854775808\r\n", "invalid integer \"9223372036854775808\""),
        (b":1\xff\r\n", "invalid integer \"1\\xff\""),
        (
            b":1234567890123456789012345678901234567890\r\n",
            "invalid integer \"12345678901234567890123456789012…\"",
        ),
        (b"_x\r\n", "invalid null \"x\""),
        (b"#true\r\n", "invalid boolean \"true\""),
        (b"#\r\n", "invalid boolean \"\""),
        (b",\r\n", "invalid double \"\""),
        (b",1.5 \r\n", "invalid double \"1.5 \""),
        (b",1,5\r\n", "invalid double \"1,5\""),
        (b"(\r\n", "invalid big number \"\""),
        (b"(-\r\n", "invalid big number \"-\""),
        (b"(1.5\r\n", "invalid big number \"1.5\""),
        (b"$\r\n", "invalid bulk string length \"\""),
        (b"$-2\r\n", "invalid bulk string length \"-2\""),
        (b"$5x\r\n", "invalid bulk string length \"5x\""),
        (b"$99999999999999999999\r\n", "invalid bulk string length \"99999999999999999999\""),
        (b"!-1\r\n", "invalid bulk error length \"-1\""),
        (b"!?\r\n", "invalid bulk error length \"?\""),
        (b"=-1\r\n", "invalid verbatim string length \"-1\""),
        (b"*-2\r\n", "invalid array count \"-2\""),
        (b"*x\r\n", "invalid array count \"x\""),
        (b"*??\r\n", "invalid array count \"??\""),
        (b"~-1\r\n", "invalid set count \"-1\""),
        (b"%-1\r\n", "invalid map count \"-1\""),
        (b">-1\r\n", "invalid push count \"-1\""),
        (b"|-1\r\n", "invalid attribute count \"-1\""),
    ]);
}

#[test]
fn malformed_ends_and_streams_are_named() {
    assert_malformed(&[
        (b"+O\nK\r\n", "a line holds a line feed without a carriage return"),
        (b":1\n", "a line holds a line feed without a carriage return"),
        (b"+O\rK\r\n", "a line holds a carriage return followed by 0x4b ('K') instead of a line feed"),
        (b"+O\r\r\n", "a line holds a carriage return followed by 0x0d instead of a line feed"),
        (b"$2\r\nabc\r\n", "a payload of 2 bytes is followed by 0x63 ('c') instead of CR LF"),
        (b"$2\r\nab\rc", "a payload of 2 bytes is followed by 0x63 ('c') instead of CR LF"),
        (b"$2\r\nab\nc", "a payload of 2 bytes is followed by 0x0a instead of CR LF"),
        (b"=3\r\ntxt\r\n", "verbatim string without a three-letter format and colon: \"txt\""),
        (b"=5\r\ntxt-a\r\n", "verbatim string without a three-letter format and colon: \"txt-a\""),
        (b"*1\r\n>1\r\n", "push inside a reply, at depth 1"),
        (b"|1\r\n>1\r\n", "push inside a reply, at depth 1"),
        (b">1\r\n*1\r\n>1\r\n", "push inside a reply, at depth 2"),
        (b";1\r\n", "string chunk (';') outside a streamed string"),
        (b"$?\r\n+x\r\n", "streamed string goes on with 0x2b ('+') instead of ';'"),
        (b"$?\r\n;-1\r\n", "invalid string chunk length \"-1\""),
        (b"$?\r\n;?\r\n", "invalid string chunk length \"?\""),
        (b".\r\n", "end of stream ('.') outside a streamed aggregate"),
        (b"*2\r\n:1\r\n.\r\n", "end of stream ('.') outside a streamed aggregate"),
        (b"*?\r\n*1\r\n.\r\n", "end of stream ('.') outside a streamed aggregate"),
        (b"*?\r\n.x\r\n", "invalid end of stream \"x\""),
        (
            b"*?\r\n|0\r\n.\r\n",
            "an attribute is followed by the end of its aggregate instead of what it describes",
        ),
        (b"%?\r\n:1\r\n:2\r\n:3\r\n.\r\n", "a streamed map ends after 3 keys and values, an odd number"),
        (b"|?\r\n:1\r\n.\r\n", "a streamed map ends after 1 keys and values, an odd number"),
    ]);
}

/// Each of the bytes is one reply of these nodes.
fn assert_decode(cases: &[(&[u8], &[ReplyNode])]) {
    for (bytes, nodes) in cases {
        // The sentinel behind it decodes only if the reply took exactly its own bytes.
        let (frames, failure) = decode(&[bytes, b"+sentinel\r\n".as_slice()].concat());
        assert_eq!(failure, None, "{}", bytes.escape_ascii());
        assert_eq!(frames, [frame(nodes), frame(&[simple("sentinel")])], "{}", bytes.escape_ascii());
    }
}

/// Each of the bytes is no reply, for this reason.
fn assert_malformed(cases: &[(&[u8], &str)]) {
    for (bytes, message) in cases {
        // What came before the fault is answered.
        let (frames, failure) = decode(&[b":1\r\n", *bytes].concat());
        assert_eq!(frames, [frame(&[Integer(1)])], "{}", bytes.escape_ascii());
        let error = failure.unwrap_or_else(|| panic!("no error: {}", bytes.escape_ascii()));
        assert_eq!(error.to_string(), *message, "{}", bytes.escape_ascii());
        assert!(!error.is_limit());
    }
}
