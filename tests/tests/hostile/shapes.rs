//! Replies that are RESP, but not what the client itself relies on: what EXEC, MULTI, SCAN, CLUSTER
//! NODES, HELLO and the parts of commands with many keys are answered with.
//!
//! Source: Redis documentation, "Transactions", "SCAN", "CLUSTER NODES", "HELLO".

use std::time::Duration;

use keyslot_tests::hostile::{Act, array, bulk, integer};

use crate::case::Case;
use crate::deed::Deed;

const PROTOCOL: &[&str] = &["protocol"];
const THREE: Deed = Deed::Transaction(&["INCR {t}a", "INCR {t}b", "INCR {t}c"]);
/// A type of RESP each, none of which is what is asked for.
const NO_CONNECTION: &[&str] = &["connect"];

/// A command that begins so is answered with these bytes.
pub(crate) fn answered(
    name: &'static str,
    expected: &[&'static str],
    command: &'static str,
    bytes: impl AsRef<[u8]>,
) -> Case {
    let act = Act::send(bytes);
    Case::new(name, expected, move |asked| asked.is(command).then(|| vec![act.clone()]))
}

pub(crate) fn cases() -> Vec<Case> {
    [exec(), scans(), cluster_nodes(), handshake(), parts()].into_iter().flatten().collect()
}

/// Null, an error, or an array of exactly as many as were queued.
fn exec() -> Vec<Case> {
    let exec = |name, bytes: &str| answered(name, PROTOCOL, "EXEC", bytes).deed(THREE);
    vec![
        exec("EXEC: too few results", "*2\r\n:1\r\n:1\r\n"),
        exec("EXEC: no results", "*0\r\n"),
        exec("EXEC: too many results", "*4\r\n:1\r\n:1\r\n:1\r\n:1\r\n"),
        exec("EXEC: a map", "%3\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n"),
        exec("EXEC: a set", "~3\r\n:1\r\n:2\r\n:3\r\n"),
        exec("EXEC: an integer", ":3\r\n"),
        exec("EXEC: a status", "+OK\r\n"),
        exec("EXEC: queued itself", "+QUEUED\r\n"),
        exec("EXEC: a string", "$3\r\nabc\r\n"),
        exec("EXEC: a boolean", "#t\r\n"),
        exec("EXEC: a double", ",1.5\r\n"),
        exec("EXEC: a big number", "(123456789012345678901234567890\r\n"),
        exec("EXEC: a verbatim string", "=7\r\ntxt:abc\r\n"),
        answered("EXEC: a bulk error", &["server EXECABORT"], "EXEC", "!16\r\nEXECABORT it was\r\n")
            .deed(THREE),
        answered("EXEC: an error", &["server EXECABORT"], "EXEC", "-EXECABORT it was\r\n").deed(THREE),
        answered("EXEC: null, of a watched key", &["ok none"], "EXEC", "_\r\n").deed(Deed::Watched),
        answered("EXEC: too many, of a watched key", PROTOCOL, "EXEC", "*2\r\n:1\r\n:1\r\n")
            .deed(Deed::Watched),
        answered("EXEC: an integer, of a watched key", PROTOCOL, "EXEC", ":1\r\n").deed(Deed::Watched),
        answered("EXEC: pushes in between", &["ok 3"], "EXEC", ">1\r\n+x\r\n*3\r\n:1\r\n:1\r\n:1\r\n")
            .deed(THREE),
        Case::new("MULTI: refused, and the commands executed", PROTOCOL, |asked| {
            if asked.is("MULTI") || asked.is("EXEC") {
                return Some(vec![Act::send("-NOPERM this user has no permissions\r\n")]);
            }
            asked.is("INCR").then(|| vec![Act::send(":1\r\n")])
        })
        .deed(THREE),
        Case::new("EXEC: closed before it answers", &["connection-lost"], |asked| {
            asked.is("EXEC").then(|| vec![Act::Close])
        })
        .deed(THREE),
        Case::new("EXEC: half of the results, and closed", &["connection-lost"], |asked| {
            asked.is("EXEC").then(|| vec![Act::send("*3\r\n:1\r\n:1\r\n"), Act::Close])
        })
        .deed(THREE),
        Case::new("EXEC: half of the results, and silence", &["timeout"], |asked| {
            asked.is("EXEC").then(|| vec![Act::send("*3\r\n:1\r\n:1\r\n"), Act::Silence])
        })
        .deed(THREE),
        Case::new("a script that nobody ever knows", &["server NOSCRIPT"], |asked| {
            let is_run = asked.is("EVAL") || asked.is("EVALSHA") || asked.is("SCRIPT");
            is_run.then(|| vec![Act::send("-NOSCRIPT No matching script\r\n")])
        })
        .deed(Deed::Script),
    ]
}

/// Answers to the steps of a scan.
fn scans() -> Vec<Case> {
    let scan = |name, expected: &[&'static str], bytes: &[u8]| {
        answered(name, expected, "SCAN", bytes).deed(Deed::Scan(200)).within(Duration::from_secs(4))
    };
    let wrong = &["protocol", "limit-exceeded"];
    vec![
        scan("SCAN: an integer", PROTOCOL, b":0\r\n"),
        scan("SCAN: a string", PROTOCOL, b"$1\r\n0\r\n"),
        scan("SCAN: null", PROTOCOL, b"_\r\n"),
        scan("SCAN: a map", PROTOCOL, b"%1\r\n$1\r\n0\r\n*0\r\n"),
        scan("SCAN: a cursor alone", PROTOCOL, b"*1\r\n$1\r\n0\r\n"),
        scan("SCAN: keys that are integers", PROTOCOL, b"*2\r\n$1\r\n0\r\n*1\r\n:5\r\n"),
        scan("SCAN: keys that are a string", PROTOCOL, b"*2\r\n$1\r\n0\r\n$1\r\nk\r\n"),
        scan("SCAN: a cursor that is an array", PROTOCOL, b"*2\r\n*0\r\n*0\r\n"),
        scan("SCAN: a cursor of letters", PROTOCOL, b"*2\r\n$3\r\nabc\r\n*0\r\n").deed(Deed::Scan(2)),
        scan("SCAN: an empty cursor", PROTOCOL, b"*2\r\n$0\r\n\r\n*0\r\n"),
        scan("SCAN: a cursor of 20 MiB", wrong, &array(&[bulk("1".repeat(20 << 20)), array(&[])])).memory(96),
        scan(
            "SCAN: a cursor that never ends",
            &["ok*", "timeout", "cluster-down"],
            &array(&[bulk("5"), array(&[])]),
        )
        // Each step gives up when the request's time is over.
        .deed(Deed::Scan(2)),
        scan(
            "SCAN: the same keys without an end",
            &["ok*", "timeout", "cluster-down"],
            &array(&[bulk("5"), array(&[bulk("key:0")])]),
        ),
        answered(
            "HSCAN: a field without its value",
            &["protocol", "ok"],
            "HSCAN",
            b"*2\r\n$1\r\n0\r\n*1\r\n$1\r\nf\r\n",
        )
        .deed(Deed::HashScan),
    ]
}

/// Answers to the question for slots that are on the move, which a scan asks.
fn cluster_nodes() -> Vec<Case> {
    let nodes = |name, expected: &[&'static str], text: String| {
        answered(name, expected, "CLUSTER NODES", bulk(text))
            .deed(Deed::Scan(200))
            .within(Duration::from_secs(4))
    };
    // What cannot be read is as good as no answer: the slots cannot be told.
    let unread = &["protocol", "limit-exceeded", "cluster-down", "timeout", "connect", "connection-lost"];
    let id = format!("{:040x}", 1);
    let own = |more: &str| format!("{id} 127.0.0.1:1@2 myself,master - 0 0 1 connected 0-16383{more}\n");
    let open = |count: usize| -> String {
        (0..count).map(|number| format!(" [{}->-{id}]", number % 16_384)).collect()
    };
    let strangers = |count: usize| -> String {
        (0..count)
            .map(|number| {
                format!("{number:040x} 127.77.0.1:{}@1 master - 0 0 1 connected\n", number % 60_000 + 1)
            })
            .collect()
    };
    vec![
        nodes("CLUSTER NODES: empty", unread, String::new()),
        nodes("CLUSTER NODES: no lines of it", unread, "nothing of the kind\n".repeat(1_000)),
        nodes("CLUSTER NODES: a slot beyond the last", unread, own(" 16384")),
        nodes("CLUSTER NODES: 16,384 open slots", &["ok*", "cluster-down", "timeout"], own(&open(16_384)))
            .deed(Deed::Scan(50)),
        nodes("CLUSTER NODES: 100,000 open slots", unread, own(&open(100_000))).memory(64).heavy(),
        nodes("CLUSTER NODES: a million open slots", unread, own(&open(1_000_000))).memory(256).heavy(),
        nodes("CLUSTER NODES: 100,000 nodes", &[unread, &["ok"][..]].concat(), own("") + &strangers(100_000))
            .memory(128)
            .heavy(),
        nodes("CLUSTER NODES: 64 MiB of one line", unread, own(&" x".repeat(32 << 20))).memory(256).heavy(),
        nodes(
            "CLUSTER NODES: an id of 1 MiB",
            &["ok*", "protocol", "limit-exceeded", "cluster-down"],
            own("").replace(&id, &"f".repeat(1 << 20)),
        )
        .memory(48),
        answered("CLUSTER NODES: an integer", unread, "CLUSTER NODES", ":1\r\n")
            .deed(Deed::Scan(200))
            .within(Duration::from_secs(4)),
    ]
}

fn handshake() -> Vec<Case> {
    let hello = |name, expected: &[&'static str], bytes: &[u8]| {
        answered(name, expected, "HELLO", bytes).deed(Deed::Connect).memory(32)
    };
    let entry = |key: &str, value: Vec<u8>| [bulk("proto"), integer(3), bulk(key), value].concat();
    let map = |entries: Vec<u8>| [b"%2\r\n".to_vec(), entries].concat();
    let either = &["ok", "connect"];
    vec![
        hello("HELLO: an array of letters", either, b"*3\r\n+a\r\n+b\r\n+c\r\n"),
        hello("HELLO: an integer", either, b":3\r\n"),
        hello("HELLO: null", either, b"_\r\n"),
        hello("HELLO: an empty map", either, b"%0\r\n"),
        hello("HELLO: RESP2", either, b"%1\r\n$5\r\nproto\r\n:2\r\n"),
        hello("HELLO: no RESP", NO_CONNECTION, b"SSH-2.0-OpenSSH_9.2\r\n"),
        hello("HELLO: a zone of 8 MiB", either, &map(entry("availability_zone", bulk("z".repeat(8 << 20)))))
            .memory(48),
        hello(
            // Whatever the words, the server does not know HELLO.
            "HELLO: an error of 1 MiB",
            &["ok"],
            ["-ERR ", &"x".repeat(1_000_000), "\r\n"].concat().as_bytes(),
        ),
        hello(
            "HELLO: a log-in is wanted",
            &["authentication"],
            b"-NOAUTH HELLO must be called with AUTH\r\n",
        ),
        hello("HELLO: silence behind half of it", NO_CONNECTION, b"%7\r\n$6\r\nserver\r\n"),
        Case::new("HELLO: never answered", NO_CONNECTION, |asked| {
            asked.is("HELLO").then(|| vec![Act::Silence])
        })
        .deed(Deed::Connect)
        .memory(32),
        Case::new("HELLO: a byte every 100 ms", NO_CONNECTION, |asked| {
            let text = b"%1\r\n$5\r\nproto\r\n:3\r\n";
            asked.is("HELLO").then(|| vec![Act::Drip(text[..].into(), Duration::from_millis(100))])
        })
        .deed(Deed::Connect)
        .memory(32),
        Case::new("every step of the handshake takes 100 ms", &["ok"], |asked| {
            let slow = asked.is("HELLO") || asked.is("CLIENT") || asked.is("CLUSTER");
            slow.then(|| vec![Act::Wait(Duration::from_millis(100)), Act::Answer])
        })
        // They are nearly a second together, and connecting may take twice that.
        .settings(|options| options.connect_timeout(Duration::from_secs(5)))
        .deed(Deed::Connect)
        .memory(32),
        answered(
            "CLIENT SETINFO: an error of 1 MiB each",
            &["ok of:k"],
            "CLIENT",
            ["-ERR ", &"x".repeat(1_000_000), "\r\n"].concat(),
        ),
        answered(
            "CLIENT ID: a string, of a lent connection",
            &["ok of:k", "connect", "protocol"],
            "CLIENT ID",
            "+seven\r\n",
        )
        .deed(Deed::Lend),
    ]
}

/// Commands whose answer the client makes of the nodes' answers.
fn parts() -> Vec<Case> {
    // One key for each of three nodes at the least.
    const MGET: Deed = Deed::Command("MGET a b c d e f g h i j");
    const DEL: Deed = Deed::Command("DEL a b c d e f g h i j");
    let part =
        |name, command, deed, bytes: &str| answered(name, PROTOCOL, command, bytes).nodes(3).deed(deed);
    vec![
        part("MGET: no values", "MGET", MGET, "*0\r\n"),
        part(
            "MGET: too many values",
            "MGET",
            MGET,
            "*12\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n",
        ),
        part("MGET: a map", "MGET", MGET, "%1\r\n+a\r\n+b\r\n"),
        part("MGET: an integer", "MGET", MGET, ":1\r\n"),
        part("DEL: a status", "DEL", DEL, "+OK\r\n"),
        part("DEL: an array", "DEL", DEL, "*1\r\n:1\r\n"),
        part("DBSIZE: a string", "DBSIZE", Deed::Command("DBSIZE"), "$1\r\n1\r\n"),
        part("KEYS: an integer", "KEYS", Deed::Command("KEYS *"), ":1\r\n"),
        answered("EXISTS: sums beyond 64 bits", &["ok", "protocol"], "EXISTS", ":9223372036854775807\r\n")
            .nodes(3)
            .deed(Deed::Command("EXISTS a b c d e f g h i j")),
        answered("PING: an integer, as a report of health", &["ok 0", "ok 3"], "PING", ":1\r\n")
            .nodes(3)
            .deed(Deed::Health),
        Case::new("PING: one of three nodes is silent", &["ok 2"], |asked| {
            (asked.is("PING") && asked.node == 1).then(|| vec![Act::Silence])
        })
        .nodes(3)
        .deed(Deed::Health),
    ]
}
