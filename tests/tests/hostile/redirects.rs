//! MOVED and ASK that lead in circles, to strangers, to nobody, or away from what was asked for.
//!
//! Source: Redis cluster specification, "MOVED Redirection" and "ASK redirection".

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use keyslot::Options;
use keyslot_core::slot::Slot;
use keyslot_tests::hostile::{Act, Asked, cluster_slots};

use crate::case::Case;
use crate::deed::Deed;

const CIRCLE: &[&str] = &["redirect-limit"];
/// A redirect that cannot be read or believed is the caller's to see, or is no answer at all.
const SHOWN: &[&str] = &["server MOVED", "server ASK", "protocol"];
const NOBODY: &[&str] = &["connect", "redirect-limit"];

/// GET is answered with a redirect to what this says.
fn redirected(
    name: &'static str,
    expected: &[&'static str],
    to: impl Fn(&Asked<'_>) -> String + Send + Sync + 'static,
) -> Case {
    let script =
        move |asked: &Asked<'_>| asked.is("GET").then(|| vec![Act::send(format!("-{}\r\n", to(asked)))]);
    // Few, so that a circle is over long before the time is.
    Case::new(name, expected, script).settings(|options| options.max_redirects(5))
}

/// After each dial that fails the first node is asked again. With five redirects the pauses between
/// the dials come near the time-out, and then the end of the time may find the request at that
/// node.
fn two_redirects(options: Options) -> Options {
    options.max_redirects(2)
}

fn slot(key: &str) -> u16 {
    Slot::of_key(key.as_bytes()).number()
}

/// The slot of what was asked for.
fn own(asked: &Asked<'_>) -> u16 {
    slot(asked.words.get(1).map(String::as_str).unwrap_or_default())
}

pub(crate) fn cases() -> Vec<Case> {
    [circles(), strangers(), unbelievable(), hang_ups()].into_iter().flatten().collect()
}

/// The nodes send the client to each other, or to themselves.
fn circles() -> Vec<Case> {
    let turn = AtomicUsize::new(0);
    vec![
        // Nobody else can serve it: the node is asked over new connections until the end.
        redirected("MOVED to itself", &["server MOVED"], |asked| {
            format!("MOVED {} {}", own(asked), asked.address(asked.node))
        }),
        redirected("MOVED to and fro", CIRCLE, |asked| {
            format!("MOVED {} {}", own(asked), asked.address(asked.node + 1))
        })
        .nodes(2),
        redirected("MOVED around three nodes", CIRCLE, |asked| {
            format!("MOVED {} {}", own(asked), asked.address(asked.node + 1))
        })
        .nodes(3),
        redirected("ASK to itself", CIRCLE, |asked| {
            format!("ASK {} {}", own(asked), asked.address(asked.node))
        }),
        redirected("ASK to and fro", CIRCLE, |asked| {
            format!("ASK {} {}", own(asked), asked.address(asked.node + 1))
        })
        .nodes(2),
        redirected("MOVED and ASK by turns", &["redirect-limit", "timeout"], move |asked| {
            let word = ["MOVED", "ASK"][turn.fetch_add(1, Ordering::SeqCst) % 2];
            format!("{word} {} {}", own(asked), asked.address(asked.node + 1))
        })
        .nodes(2),
        Case::new("ASKING is refused", &["server*", "redirect-limit", "protocol", "timeout"], |asked| {
            let answer = match asked.node {
                0 => format!("-ASK {} {}\r\n", own(asked), asked.address(1)),
                _ if asked.is("ASKING") => "-ERR unknown command\r\n".to_owned(),
                _ => format!("-MOVED {} {}\r\n", own(asked), asked.address(0)),
            };
            (asked.is("GET") || asked.is("ASKING")).then(|| vec![Act::send(answer)])
        })
        .nodes(2),
    ]
}

/// They send it to where nobody is.
fn strangers() -> Vec<Case> {
    let others = AtomicUsize::new(0);
    vec![
        redirected("MOVED to where nobody listens", NOBODY, |asked| {
            format!("MOVED {} 127.77.0.1:1", own(asked))
        }),
        redirected("ASK to where nobody listens", NOBODY, |asked| format!("ASK {} 127.77.0.1:1", own(asked)))
            .settings(two_redirects),
        redirected("MOVED to a name that nobody has", &["connect", "redirect-limit", "timeout"], |asked| {
            format!("MOVED {} nobody.invalid:6379", own(asked))
        }),
        redirected("MOVED to another stranger each time", NOBODY, move |asked| {
            let other = others.fetch_add(1, Ordering::SeqCst);
            format!("MOVED {} 127.77.{}.{}:1", own(asked), other / 250 % 250, other % 250 + 1)
        })
        .settings(two_redirects),
        Case::new(
            "MOVED of 1,000 keys to a stranger each",
            &["each of connect, redirect-limit, timeout, limit-exceeded"],
            |asked| {
                let number =
                    asked.words.get(1).and_then(|key| key.strip_prefix("key:")?.parse::<usize>().ok())?;
                let to = format!("127.77.{}.{}:1", number / 250 % 250, number % 250 + 1);
                Some(vec![Act::send(format!("-MOVED {} {to}\r\n", own(asked)))])
            },
        )
        .deed(Deed::Pipeline(1_000))
        .memory(64)
        .heavy(),
    ]
}

/// Redirects that cannot be read, or must not be believed.
fn unbelievable() -> Vec<Case> {
    vec![
        redirected("MOVED without an address", SHOWN, |asked| format!("MOVED {}", own(asked))),
        redirected("MOVED without anything", SHOWN, |_| "MOVED".to_owned()),
        redirected("MOVED of a slot beyond the last", SHOWN, |asked| {
            format!("MOVED 16384 {}", asked.address(0))
        }),
        redirected("MOVED to port 0", SHOWN, |asked| format!("MOVED {} 127.0.0.1:0", own(asked))),
        redirected("MOVED to port 70000", SHOWN, |asked| format!("MOVED {} 127.0.0.1:70000", own(asked))),
        redirected("ASK without a slot", SHOWN, |asked| format!("ASK {}", asked.address(0))),
        redirected(
            "MOVED to a host with control characters",
            &["server MOVED", "protocol", "connect", "redirect-limit"],
            |asked| format!("MOVED {} \x1b[2J\x07:6379", own(asked)),
        ),
        redirected(
            "MOVED to a host of 64 KiB",
            &["server MOVED", "protocol", "connect", "redirect-limit"],
            |asked| format!("MOVED {} {}:6379", own(asked), "h".repeat(64 << 10)),
        ),
        // The other slot stays: what a node says of it unasked counts for nothing.
        Case::new(
            "MOVED of another slot",
            &["server MOVED, ok of:b", "protocol, ok of:b", "connect, ok of:b"],
            |asked| {
                let to = || vec![Act::send(format!("-MOVED {} 127.77.0.1:1\r\n", slot("b")))];
                asked.is("GET a").then(to)
            },
        )
        .nodes(3)
        .deed(Deed::Gets(&["a", "b"])),
    ]
}

/// They send it to a node that closes every connection.
fn hang_ups() -> Vec<Case> {
    vec![
        // Only redirects name the node, and it hangs up at once: it is dialled with pauses.
        Case::new("MOVED to a node that hangs up at once", &["ok"], |asked| {
            let answer = match asked.node {
                0 if asked.is("CLUSTER SLOTS") => Act::send(cluster_slots(&asked.ports[..1])),
                0 if asked.is("CLUSTER SHARDS") => Act::send("-ERR unknown subcommand\r\n"),
                0 if asked.is("GET") => Act::send(format!("-MOVED {} {}\r\n", own(asked), asked.address(1))),
                1 if asked.is_new() => Act::Close,
                _ => return None,
            };
            Some(vec![answer])
        })
        .nodes(2)
        .deed(Deed::Tries(Duration::from_secs(2), Duration::from_millis(10)))
        .within(Duration::from_secs(4))
        // Two to start with, and then as the back-off has it: 20 ms at first, 500 ms at most.
        .dials(30),
        Case::new("a node of the topology hangs up at once", &["ok"], |asked| {
            (asked.node == 0 && asked.is_new()).then(|| vec![Act::Close])
        })
        .nodes(2)
        .deed(Deed::Tries(Duration::from_secs(2), Duration::from_millis(10)))
        .within(Duration::from_secs(4))
        .dials(30),
    ]
}
