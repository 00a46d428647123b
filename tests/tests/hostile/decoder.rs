//! Bytes that are no reply, or one without end.
//!
//! Source: the RESP specification; the limits are `limit` in wit/redis-cluster.wit.

use std::time::Duration;

use keyslot::Limit;
use keyslot_tests::hostile::{Act, Asked};

use crate::case::Case;
use crate::deed::Deed;

const PROTOCOL: &[&str] = &["protocol"];
const LIMIT: &[&str] = &["limit-exceeded"];
const TIMEOUT: &[&str] = &["timeout"];

/// GET is answered with these bytes, and nothing more.
fn answered(name: &'static str, expected: &[&'static str], bytes: impl AsRef<[u8]>) -> Case {
    let acts = vec![Act::send(bytes), Act::Silence];
    Case::new(name, expected, move |asked| asked.is("GET").then(|| acts.clone()))
}

/// GET is answered with the first bytes, and the others again and again without a pause.
fn flooded(name: &'static str, expected: &[&'static str], first: &str, again: &str) -> Case {
    let acts = vec![Act::send(first), Act::Repeat(again.as_bytes().into(), Duration::ZERO)];
    Case::new(name, expected, move |asked: &Asked<'_>| asked.is("GET").then(|| acts.clone()))
}

pub(crate) fn cases() -> Vec<Case> {
    vec![
        answered("no RESP at all", PROTOCOL, "HTTP/1.1 400 Bad Request\r\n\r\n"),
        answered("an unknown type", PROTOCOL, "@3\r\nabc\r\n"),
        answered("a line that ends in LF alone", PROTOCOL, "+OK\n\n"),
        answered("an integer with letters", PROTOCOL, ":12a\r\n"),
        answered("an integer of 20 digits", PROTOCOL, ":99999999999999999999\r\n"),
        answered("a double that is none", PROTOCOL, ",1.2.3\r\n"),
        answered("a boolean that is none", PROTOCOL, "#x\r\n"),
        answered("a big number with letters", PROTOCOL, "(12x\r\n"),
        answered("a verbatim string without a format", PROTOCOL, "=2\r\nab\r\n"),
        answered("a null with content", PROTOCOL, "_x\r\n"),
        answered("a bulk string that is longer than it says", PROTOCOL, "$3\r\nabcde\r\n"),
        answered("a negative length", PROTOCOL, "$-2\r\n"),
        answered("a negative count", PROTOCOL, "*-5\r\n"),
        answered("a length of 20 digits", &["protocol", "limit-exceeded"], "$99999999999999999999\r\n"),
        answered("a length beyond the limit", LIMIT, "$999999999999\r\n"),
        answered("a verbatim string beyond the limit", LIMIT, "=999999999999\r\n"),
        answered("a count beyond the limit", LIMIT, "*4000000000\r\n"),
        answered("a map's count beyond the limit", LIMIT, "%4000000000\r\n"),
        answered("an error text beyond the limit", LIMIT, "!999999999\r\n"),
        answered("16,000,000 elements that do not come", TIMEOUT, "*16000000\r\n"),
        answered("200 MiB that do not come", TIMEOUT, "$209715200\r\n"),
        answered("a million nested arrays", LIMIT, "*1\r\n".repeat(1_000_000)),
        answered("40 nested arrays", LIMIT, "*1\r\n".repeat(40) + ":1\r\n"),
        answered("a million nested attributes", LIMIT, "|1\r\n".repeat(1_000_000)),
        answered("a line of two MiB", LIMIT, ["+", &"x".repeat(2 << 20)].concat()),
        answered(
            "a number of two MiB",
            &["limit-exceeded", "protocol"],
            ["(", &"1".repeat(2 << 20)].concat(),
        ),
        flooded("a line without an end", LIMIT, "+", "xxxxxxxx"),
        flooded("nested maps without an end", &["limit-exceeded", "protocol"], "", "%1\r\n"),
        flooded(
            "a streamed string without an end",
            &["limit-exceeded", "timeout"],
            "$?\r\n",
            ";8\r\nabcdefgh\r\n",
        )
        .settings(|options| options.limit(Limit::ReplySize, 4 << 20)),
        flooded("a streamed array without an end", &["limit-exceeded", "timeout"], "*?\r\n", ":1\r\n")
            .settings(|options| options.limit(Limit::ReplySize, 4 << 20)),
        flooded("attributes without an end", &["limit-exceeded", "timeout"], "", "|1\r\n+a\r\n+b\r\n")
            .settings(|options| options.limit(Limit::ReplySize, 4 << 20)),
        flooded("pushes without an end", TIMEOUT, "", ">2\r\n+a\r\n+b\r\n"),
        flooded("empty pushes without an end", TIMEOUT, "", ">0\r\n"),
        flooded("a value that is longer than it says", &["protocol", "timeout"], "$50000000\r\n", "xxxxxxxx")
            .memory(128),
        answered(
            "pushes before the answer",
            &["ok of:k"],
            [">1\r\n+x\r\n".repeat(1_000).as_str(), "$4\r\nof:k\r\n"].concat(),
        ),
        Case::new("a byte every 50 ms", TIMEOUT, |asked| {
            let text = ["$100000\r\n", &"x".repeat(1_000)].concat();
            asked.is("GET").then(|| vec![Act::Drip(text.as_bytes().into(), Duration::from_millis(50))])
        }),
        Case::new("a push every 20 ms and no answer", TIMEOUT, |asked| {
            let push = Act::Repeat(b">1\r\n+x\r\n"[..].into(), Duration::from_millis(20));
            asked.is("GET").then(|| vec![push])
        }),
        Case::new("half of a reply, and silence", TIMEOUT, |asked| {
            asked.is("SET").then(|| vec![Act::send("$10\r\nhalf"), Act::Silence])
        })
        .deed(Deed::Command("SET k v")),
        Case::new("silence", TIMEOUT, |asked| asked.is("GET").then(|| vec![Act::Silence])),
    ]
}
