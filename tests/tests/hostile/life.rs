//! Connections that end at every step, and replies that nobody has asked for.

use std::time::Duration;

use keyslot_tests::hostile::{Act, Asked, bulk, value_of};

use crate::case::Case;
use crate::deed::Deed;

const NO_CONNECTION: &[&str] = &["connect"];
const LOST: &[&str] = &["connection-lost"];
/// Each answer is its own key's.
const EACH_ITS_OWN: &[&str] = &["ok of:a, ok of:b"];
const TWO: Deed = Deed::Gets(&["a", "b"]);

/// The connection is closed when it is asked this.
fn closed(name: &'static str, expected: &[&'static str], at: &'static str, deed: Deed) -> Case {
    Case::new(name, expected, move |asked| asked.is(at).then(|| vec![Act::Close])).deed(deed)
}

/// GET of `a` is answered as it should be, with this behind it, all in one write.
fn followed(name: &'static str, behind: &[u8]) -> Case {
    let acts = vec![Act::send([&bulk(value_of("a")), behind].concat())];
    Case::new(name, EACH_ITS_OWN, move |asked| asked.is("GET a").then(|| acts.clone())).deed(TWO)
}

pub(crate) fn cases() -> Vec<Case> {
    [ends(), unasked()].into_iter().flatten().collect()
}

fn ends() -> Vec<Case> {
    vec![
        Case::new("closed as soon as it is open", NO_CONNECTION, |asked| {
            asked.is_new().then(|| vec![Act::Close])
        })
        .deed(Deed::Connect),
        closed("closed at HELLO", NO_CONNECTION, "HELLO", Deed::Connect),
        closed("closed at CLIENT SETINFO", NO_CONNECTION, "CLIENT SETINFO", Deed::Connect),
        closed("closed at CLUSTER SLOTS", NO_CONNECTION, "CLUSTER SLOTS", Deed::Connect),
        closed("closed at CLUSTER SHARDS", NO_CONNECTION, "CLUSTER SHARDS", Deed::Connect),
        closed("closed at CLUSTER INFO", NO_CONNECTION, "CLUSTER INFO", Deed::Connect),
        // Not until the time is over: its end could find the request on a connection, which is a
        // time-out.
        closed("closed at each GET", LOST, "GET", Deed::Get).settings(|options| options.max_retries(3)),
        closed("closed at each SET", LOST, "SET", Deed::Command("SET k v")),
        closed(
            "closed at each SCAN",
            &["connection-lost", "connect", "cluster-down"],
            "SCAN",
            Deed::Scan(10),
        ),
        closed("closed at MULTI", LOST, "MULTI", Deed::Transaction(&["INCR a"])),
        Case::new("half of a reply, and closed", LOST, |asked| {
            asked.is("SET").then(|| vec![Act::send("$10\r\nhalf"), Act::Close])
        })
        .deed(Deed::Command("SET k v")),
        Case::new("half of a CR LF, and closed", LOST, |asked| {
            asked.is("SET").then(|| vec![Act::send("+OK\r"), Act::Close])
        })
        .deed(Deed::Command("SET k v")),
        Case::new("the answer, and closed", &["ok of:k"], |asked| {
            asked.is("GET").then(|| vec![Act::Answer, Act::Close])
        }),
        Case::new("closed and answered by turns", &["ok of:k"], |asked| {
            (asked.is("GET") && asked.connection == 0).then(|| vec![Act::Close])
        }),
        Case::new("a reply in pieces of one byte", &["ok of:k"], |asked| {
            let text: std::sync::Arc<[u8]> = bulk(value_of("k")).into();
            asked.is("GET").then(|| vec![Act::Drip(text, Duration::from_millis(5))])
        }),
    ]
}

fn unasked() -> Vec<Case> {
    let pushes = |bytes: usize| b">2\r\n+invalidate\r\n+x\r\n".repeat(bytes / 20);
    vec![
        followed("a reply too many", b"$5\r\nEXTRA\r\n"),
        followed("a hundred replies too many", &b"$5\r\nEXTRA\r\n".repeat(100)),
        followed("half of a reply too many", b"$5\r\nEXT"),
        followed("the first byte of a reply too many", b"$"),
        followed("a reply too many behind a push", &[&pushes(20)[..], b"$5\r\nEXTRA\r\n"].concat()),
        followed(
            "a reply too many behind 400 KiB of pushes",
            &[&pushes(400 << 10)[..], b"$5\r\nEXTRA\r\n"].concat(),
        ),
        followed(
            "a reply too many behind 2 MiB of pushes",
            &[&pushes(2 << 20)[..], b"$5\r\nEXTRA\r\n"].concat(),
        ),
        // It may go on: what comes next is taken for the rest of it, which it is not.
        followed("half of a push", b">2\r\n+inval").expecting(&["ok of:a, ok of:b", "ok of:a, protocol"]),
        followed("no RESP behind a reply", b"@@@@"),
        // The rest of a reply that nobody has asked for comes once the next request has been read.
        Case::new(
            "half of a reply too many, and the rest for the next",
            EACH_ITS_OWN,
            |asked: &Asked<'_>| {
                if asked.is("GET a") {
                    return Some(vec![Act::send([&bulk(value_of("a"))[..], b"$5\r\nEXT"].concat())]);
                }
                (asked.is("GET b") && asked.connection == 0).then(|| vec![Act::send("RA\r\n"), Act::Answer])
            },
        )
        .deed(TWO),
        Case::new("a reply before anything is asked", NO_CONNECTION, |asked| {
            asked.is_new().then(|| vec![Act::send("+HI\r\n")])
        })
        .deed(Deed::Connect),
        Case::new("a flood of replies before anything is asked", NO_CONNECTION, |asked| {
            asked.is_new().then(|| vec![Act::Repeat(b"+HI\r\n"[..].into(), Duration::ZERO)])
        })
        .deed(Deed::Connect),
        Case::new("a flood of pushes before anything is asked", NO_CONNECTION, |asked| {
            asked.is_new().then(|| vec![Act::Repeat(b">1\r\n+x\r\n"[..].into(), Duration::ZERO)])
        })
        .deed(Deed::Connect),
    ]
}
