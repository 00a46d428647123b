//! Shows that the machine believes no answer that cannot be one: of another type, of another
//! length, for another slot, or begun before it was asked for.

mod rig;

use std::time::Duration;

use keyslot_core::cluster::{Command, Destination, ScanOptions, Subject};
use keyslot_core::config::{Mode, RespVersion};
use keyslot_core::error::Error;
use keyslot_core::slot::Slot;
use keyslot_core::time::Instant;
use rig::{Rig, Words, config, key_at};

/// One reply of each type, null in its forms, and lists of several lengths.
const REPLIES: &[&str] = &[
    "+OK\r\n",
    "+QUEUED\r\n",
    "-ERR no\r\n",
    ":1\r\n",
    "$1\r\nx\r\n",
    "$-1\r\n",
    "*0\r\n",
    "*1\r\n:1\r\n",
    "*2\r\n:1\r\n:2\r\n",
    "*2\r\n$1\r\n0\r\n*1\r\n$1\r\nk\r\n",
    "*2\r\n$1\r\n0\r\n*1\r\n*0\r\n",
    "*3\r\n:1\r\n:2\r\n:3\r\n",
    "*?\r\n:1\r\n:2\r\n.\r\n",
    "*-1\r\n",
    "_\r\n",
    "#t\r\n",
    ",1.5\r\n",
    "(12\r\n",
    "!6\r\nERR no\r\n",
    "=5\r\ntxt:x\r\n",
    "%0\r\n",
    "%1\r\n:1\r\n:2\r\n",
    "%2\r\n:1\r\n:2\r\n:3\r\n:4\r\n",
    "~2\r\n:1\r\n:2\r\n",
];

#[test]
fn exec_is_answered_with_null_an_error_or_one_result_for_each() {
    for answer in REPLIES {
        let mut rig = Rig::ready(1);
        let id = rig.transaction(&["SET key 1", "GET key"]);
        let behind = rig.submit("SET key 2");
        let (conn, asked) = rig.take_asked();
        assert_eq!(asked.len(), 5);
        rig.receive(conn, b"+OK\r\n+QUEUED\r\n+QUEUED\r\n");
        rig.receive(conn, answer.as_bytes());
        let result = rig.done.get(&id).unwrap();
        match *answer {
            "$-1\r\n" | "*-1\r\n" | "_\r\n" => assert!(result.is_ok(), "{answer:?}"),
            "*2\r\n:1\r\n:2\r\n" | "*?\r\n:1\r\n:2\r\n.\r\n" => assert!(result.is_ok(), "{answer:?}"),
            // Two results, of whatever shape.
            answer if answer.starts_with("*2") => assert!(result.is_ok(), "{answer:?}"),
            answer if answer.contains("ERR no") => {
                assert!(matches!(result, Err(Error::Server(_))), "{answer:?}: {result:?}");
            }
            _ => {
                assert!(matches!(result, Err(Error::Protocol(_))), "{answer:?}: {result:?}");
                assert!(!rig.is_open(conn), "{answer:?}");
                let lost = rig.done.get(&behind).unwrap();
                assert!(matches!(lost, Err(Error::ConnectionLost(_))), "{answer:?}: {lost:?}");
                continue;
            }
        }
        assert!(rig.is_open(conn), "{answer:?}");
    }
}

#[test]
fn a_transaction_needs_ok_and_queued() {
    for (at, right) in ["+OK\r\n", "+QUEUED\r\n"].into_iter().enumerate() {
        for answer in REPLIES {
            let mut rig = Rig::ready(1);
            let id = rig.transaction(&["SET key 1"]);
            let (conn, _) = rig.take_asked();
            let mut answers = ["+OK\r\n", "+QUEUED\r\n"];
            answers[at] = answer;
            // When MULTI was refused, the command is executed at once.
            let is_refused = answer.contains("ERR no");
            if at == 0 && is_refused {
                answers[1] = "+OK\r\n";
            }
            rig.receive(conn, answers.concat().as_bytes());
            rig.receive(conn, if is_refused { b"-EXECABORT x\r\n" } else { b"*1\r\n+OK\r\n" });
            let result = rig.done.get(&id).unwrap();
            let fits = *answer == right;
            assert_eq!(result.is_ok(), fits, "{answer:?}: {result:?}");
            assert_eq!(rig.is_open(conn), fits || is_refused, "{answer:?}: {result:?}");
        }
    }
}

#[test]
fn answers_of_another_type_to_the_clients_own_questions_close_the_connection() {
    /// Which of its own commands, and what the answers to it may begin with, besides errors.
    type Row = (&'static str, fn(&Words) -> bool, &'static str);
    let rows: &[Row] = &[
        ("HELLO", |words| words[0] == "HELLO", "%*"),
        ("SETNAME", |words| words.contains(&"SETNAME".into()), "+"),
        ("SLOTS", |words| words.contains(&"SLOTS".into()), "*"),
        ("INFO", |words| words.contains(&"INFO".into()), "$=+"),
    ];
    for (name, _, markers) in rows {
        for answer in REPLIES {
            let mut rig = Rig::new(1, config(1), |_| None);
            // Everything is answered by hand, as it comes.
            let mut first = None;
            for _ in 0..20 {
                let Some((conn, words)) = rig.asked.pop_front() else { break };
                if !rig.is_open(conn) {
                    continue;
                }
                if first.is_some_and(|first| first != conn) {
                    break;
                }
                first = Some(conn);
                let is_meant = words.iter().any(|word| word == name) && words[0] != "PING";
                let usual = rig.usual(&words).unwrap();
                rig.receive(conn, if is_meant { answer.as_bytes() } else { &usual });
                if is_meant {
                    let first = answer.chars().next().unwrap();
                    let is_null = answer.contains("-1\r\n") || *answer == "_\r\n";
                    let may_fit = "-!".contains(first) || (markers.contains(first) && !is_null);
                    assert!(may_fit || !rig.is_open(conn), "{name}: {answer:?}");
                    break;
                }
            }
        }
    }
}

/// A reply with one aggregate more within each other than the limit allows.
fn too_deep() -> String {
    "*1\r\n".repeat(33) + ":1\r\n"
}

#[test]
fn a_reply_that_is_too_deep_is_one_requests_own_trouble() {
    for commands in [
        &["EVAL x 1 key", "INCR key", "INCR key", "INCR key"][..],
        &["GET key", "INCR key", "INCR key", "INCR key"],
    ] {
        let mut rig = Rig::ready(1);
        let ids: Vec<_> = commands.iter().map(|command| rig.submit(command)).collect();
        let (conn, asked) = rig.take_asked();
        assert_eq!(asked.len(), 4);
        let bytes = too_deep() + ":1\r\n:2\r\n:3\r\n";
        for piece in bytes.as_bytes().chunks(10) {
            rig.receive(conn, piece);
        }
        let told = rig.done.get(&ids[0]).unwrap();
        let text = "a reply exceeds the limit of 32 nested aggregates";
        assert!(matches!(told, Err(Error::LimitExceeded(told)) if told == text), "{told:?}");
        for (id, number) in ids[1..].iter().zip(1..) {
            let reply = rig.done.get(id).unwrap().as_ref().unwrap();
            assert_eq!(reply.as_bytes()[..], *format!(":{number}\r\n").as_bytes());
        }
        assert!(rig.is_open(conn));
        rig.submit("INCR key");
        assert_eq!(rig.take_asked().0, conn);
    }
}

#[test]
fn a_part_a_transaction_and_a_page_that_are_too_deep_end_alone() {
    let mut rig = Rig::ready(1);
    let (id, behind) = (rig.transaction(&["EVAL x 1 key"]), rig.submit("INCR key"));
    let (conn, _) = rig.take_asked();
    rig.receive(conn, b"+OK\r\n+QUEUED\r\n");
    rig.receive(conn, (too_deep() + ":2\r\n").as_bytes());
    assert!(matches!(rig.done.get(&id).unwrap(), Err(Error::LimitExceeded(_))));
    assert!(rig.done.get(&behind).unwrap().is_ok() && rig.is_open(conn));

    let mut rig = Rig::ready(2);
    let (one, other) = (key_at(0, 2), key_at(1, 2));
    let id = rig.submit(&format!("DEL {one} {other}"));
    for answer in [too_deep(), ":1\r\n".into()] {
        let (conn, _) = rig.take_asked();
        rig.receive(conn, answer.as_bytes());
        assert!(rig.is_open(conn));
    }
    let told = rig.done.get(&id).unwrap();
    assert!(matches!(told, Err(Error::PartlyExecuted(told)) if told.possibly_executed), "{told:?}");

    let mut config = config(1);
    config.mode = Mode::Standalone;
    let mut rig = Rig::new(1, config, |_| Some(Vec::new()));
    let scan = rig.cluster.open_scan(ScanOptions::new(Subject::Cluster)).unwrap();
    let id = rig.hand_in(Command::next_batch(), &Destination::Scan(scan));
    let (conn, _) = rig.take_asked();
    rig.receive(conn, b"$11\r\nrun_id:abc\n\r\n");
    let (conn, _) = rig.take_asked();
    rig.receive(conn, too_deep().as_bytes());
    let told = rig.done.get(&id).unwrap();
    assert!(matches!(told, Err(Error::LimitExceeded(_))) && rig.is_open(conn), "{told:?}");
}

#[test]
fn answers_to_the_clients_own_questions_are_not_so_deep() {
    for name in ["HELLO", "SETNAME", "SLOTS", "INFO"] {
        let mut rig = Rig::new(1, config(1), |_| None);
        loop {
            let (conn, words) = rig.asked.pop_front().expect("it is asked");
            if !rig.is_open(conn) {
                continue;
            }
            let is_meant = words.iter().any(|word| word == name);
            let usual = rig.usual(&words).unwrap();
            rig.receive(conn, if is_meant { too_deep().into_bytes() } else { usual }.as_slice());
            if is_meant {
                assert!(!rig.is_open(conn), "{name}");
                break;
            }
        }
    }
    // A command between MULTI and EXEC, of which nothing is known any more.
    let mut rig = Rig::ready(1);
    let id = rig.transaction(&["SET key 1"]);
    let (conn, _) = rig.take_asked();
    rig.receive(conn, ("+OK\r\n".to_string() + &too_deep()).as_bytes());
    assert!(!rig.is_open(conn));
    let lost = rig.done.get(&id).unwrap();
    assert!(matches!(lost, Err(Error::ConnectionLost(lost)) if lost.possibly_executed), "{lost:?}");
    // Nothing is due at all.
    let mut rig = Rig::ready(1);
    rig.submit("GET key");
    let (conn, _) = rig.take_asked();
    rig.receive(conn, b"$1\r\nx\r\n");
    rig.receive(conn, too_deep().as_bytes());
    assert!(!rig.is_open(conn));
    // A push of any depth is passed over.
    let mut rig = Rig::ready(1);
    let id = rig.submit("GET key");
    let (conn, _) = rig.take_asked();
    rig.receive(conn, format!(">1\r\n{}$1\r\nx\r\n", too_deep()).as_bytes());
    assert!(rig.is_open(conn) && rig.done.get(&id).unwrap().is_ok());
}

#[test]
fn a_scan_believes_no_page_of_another_shape() {
    for answer in REPLIES {
        let mut config = config(1);
        config.mode = Mode::Standalone;
        let mut rig = Rig::new(1, config, |_| Some(Vec::new()));
        let scan = rig.cluster.open_scan(ScanOptions::new(Subject::Cluster)).unwrap();
        let id = rig.hand_in(Command::next_batch(), &Destination::Scan(scan));
        let (conn, asked) = rig.take_asked();
        assert_eq!(asked[0][0], "INFO");
        rig.receive(conn, b"$11\r\nrun_id:abc\n\r\n");
        let (conn, asked) = rig.take_asked();
        assert_eq!(asked[0][0], "SCAN");
        rig.receive(conn, answer.as_bytes());
        let result = rig.done.get(&id);
        match *answer {
            "*2\r\n$1\r\n0\r\n*1\r\n$1\r\nk\r\n" => assert!(matches!(result, Some(Ok(_))), "{result:?}"),
            answer if answer.contains("ERR no") => {
                assert!(matches!(result, Some(Err(Error::Server(_)))), "{answer:?}: {result:?}");
            }
            _ => {
                assert!(matches!(result, Some(Err(Error::Protocol(_)))), "{answer:?}: {result:?}");
                assert!(!rig.is_open(conn), "{answer:?}");
            }
        }
    }
}

#[test]
fn merged_replies_have_the_shape_that_merging_needs() {
    let (one, other) = (key_at(0, 2), key_at(1, 2));
    let cases = [
        (format!("MGET {one} {other}"), "*1\r\n$1\r\nx\r\n", vec!["*1\r\n:1\r\n"]),
        (format!("DEL {one} {other}"), ":1\r\n", vec![":1\r\n"]),
        ("DBSIZE".to_string(), ":1\r\n", vec![":1\r\n"]),
    ];
    for (command, right, more) in cases {
        for answer in REPLIES {
            let mut rig = Rig::ready(2);
            let id = rig.submit(&command);
            let (conn, _) = rig.take_asked();
            rig.receive(conn, right.as_bytes());
            let (conn, _) = rig.take_asked();
            rig.receive(conn, answer.as_bytes());
            let result = rig.done.get(&id).unwrap();
            let fits = *answer == right || more.contains(answer);
            assert_eq!(result.is_ok(), fits, "{command}, {answer:?}: {result:?}");
        }
    }
}

#[test]
fn half_a_reply_that_nobody_asked_for_is_not_the_next_ones() {
    for begun in ["$5\r\nEXT", "$", "*1\r\n", "|1\r\n+a\r\n", "|1\r\n+a\r\n:1\r\n", "%", "+", "-E"] {
        let mut rig = Rig::ready(1);
        let first = rig.submit("GET key");
        let (conn, _) = rig.take_asked();
        rig.receive(conn, format!("$1\r\nv\r\n{begun}").as_bytes());
        assert!(rig.done.get(&first).unwrap().is_ok());
        assert!(!rig.is_open(conn), "{begun:?}");
        let next = rig.submit("GET key");
        rig.wait(100);
        let (again, asked) = rig.take_asked();
        assert!(again != conn && asked[0][0] == "GET");
        rig.receive(again, b"$1\r\nw\r\n");
        assert_eq!(&rig.done.get(&next).unwrap().as_ref().unwrap().as_bytes()[..], b"$1\r\nw\r\n");
    }
}

#[test]
fn half_a_push_does_no_harm() {
    let push = ">2\r\n$3\r\nfoo\r\n:1\r\n";
    for cut in 1..push.len() {
        let mut rig = Rig::ready(1);
        let first = rig.submit("GET key");
        let (conn, _) = rig.take_asked();
        rig.receive(conn, format!("$1\r\nv\r\n{}", &push[..cut]).as_bytes());
        assert!(rig.done.get(&first).unwrap().is_ok() && rig.is_open(conn), "{cut}");
        let next = rig.submit("GET key");
        let (again, _) = rig.take_asked();
        assert_eq!(again, conn);
        rig.receive(conn, format!("{}$1\r\nw\r\n", &push[cut..]).as_bytes());
        assert_eq!(&rig.done.get(&next).unwrap().as_ref().unwrap().as_bytes()[..], b"$1\r\nw\r\n");
    }
}

#[test]
fn resp2_has_no_pushes() {
    for sent in [">", ">1\r\n", ">1\r\n:1\r\n"] {
        for is_due in [false, true] {
            let mut config = config(1);
            config.resp_version = RespVersion::Resp2;
            let mut rig = Rig::new(1, config, |_| Some(Vec::new()));
            rig.submit("GET key");
            let (conn, _) = rig.take_asked();
            if !is_due {
                rig.receive(conn, b"$1\r\nv\r\n");
            }
            rig.receive(conn, sent.as_bytes());
            let is_whole = sent.len() > 4;
            assert_eq!(rig.is_open(conn), is_due && !is_whole, "{sent:?} {is_due}");
        }
    }
}

#[test]
fn a_redirect_from_a_server_that_is_taken_as_alone_names_the_setting() {
    let mut config = config(1);
    config.mode = Mode::Standalone;
    let mut rig = Rig::new(1, config, |_| Some(Vec::new()));
    let slot = Slot::of_key(b"key");
    let lease = rig.cluster.lend(Instant::default(), Some(slot));
    for code in ["MOVED", "ASK"] {
        for destination in [Destination::Cluster, Destination::Lent(lease)] {
            let id = rig.hand_in(Command::for_lent(&["GET", "key"]).unwrap(), &destination);
            let (conn, _) = rig.take_asked();
            rig.receive(conn, format!("-{code} {slot} 10.0.0.2:7000\r\n").as_bytes());
            match rig.done.get(&id).unwrap() {
                Err(Error::Server(error)) => {
                    assert_eq!(error.code, code);
                    assert!(error.message.starts_with(&format!("{slot} 10.0.0.2:7000 (")), "{error}");
                    assert!(error.message.contains("cluster's node") && error.message.contains("`mode`"));
                }
                other => panic!("{other:?}"),
            }
            assert!(rig.is_open(conn));
        }
    }
    // With a word that is no redirect there is nothing to explain.
    let id = rig.submit("GET key");
    let (conn, _) = rig.take_asked();
    rig.receive(conn, b"-MOVED permanently\r\n");
    let told = rig.done.get(&id).unwrap();
    assert!(matches!(told, Err(Error::Server(error)) if error.message == "permanently"), "{told:?}");
}

#[test]
fn a_redirect_for_another_slot_changes_nothing() {
    let (own, foreign) = (key_at(0, 2), key_at(1, 2));
    let slot = Slot::of_key(foreign.as_bytes());
    for code in ["MOVED", "ASK"] {
        let commands = [format!("GET {own}"), format!("SPUBLISH {own} x"), "ECHO x".to_string()];
        for command in commands {
            let mut rig = Rig::ready(2);
            let before = rig.cluster.primary_of(slot).cloned();
            let id = rig.submit(&command);
            let (conn, _) = rig.take_asked();
            rig.receive(conn, format!("-{code} {slot} 10.0.0.1:7000\r\n").as_bytes());
            let result = rig.done.get(&id).expect("it is told at once");
            assert!(matches!(result, Err(Error::Server(error)) if error.code == code), "{result:?}");
            assert_eq!(rig.cluster.primary_of(slot).cloned(), before, "{command}");
        }
        // Nothing is known of the command: it is followed, but the map is left as it is.
        let mut rig = Rig::ready(2);
        let before = rig.cluster.primary_of(slot).cloned();
        let id = rig.submit(&format!("NO.SUCH {own}"));
        let (conn, _) = rig.take_asked();
        rig.receive(conn, format!("-{code} {slot} 10.0.0.1:7001\r\n").as_bytes());
        let (again, _) = rig.take_asked();
        assert_eq!(rig.nodes[&again], 1);
        rig.receive(again, b"+OK\r\n+OK\r\n");
        assert!(rig.done.get(&id).unwrap().is_ok());
        assert_eq!(rig.cluster.primary_of(slot).cloned(), before);
    }
}

#[test]
fn what_asking_and_what_cleans_are_answered_with_is_looked_at() {
    // ASKING.
    for answer in REPLIES {
        let mut rig = Rig::ready(2);
        let key = key_at(0, 2);
        let slot = Slot::of_key(key.as_bytes());
        rig.submit(&format!("SET {key} 1"));
        let (conn, _) = rig.take_asked();
        rig.receive(conn, format!("-ASK {slot} 10.0.0.1:7001\r\n").as_bytes());
        let (asked, words) = rig.take_asked();
        assert_eq!(words[0][0], "ASKING");
        rig.receive(asked, answer.as_bytes());
        let fits = matches!(answer.as_bytes()[0], b'+' | b'-' | b'!');
        assert_eq!(rig.is_open(asked), fits, "{answer:?}");
    }
    // UNWATCH, of a connection that comes back.
    for answer in REPLIES {
        let mut rig = Rig::new(1, config(1), |words| (words[0] != "UNWATCH").then(Vec::new));
        let lease = rig.cluster.lend(Instant::default(), None);
        let watch = Command::for_lent(&["WATCH", "key"]).unwrap();
        rig.hand_in(watch, &Destination::Lent(lease));
        let (conn, _) = rig.take_asked();
        rig.receive(conn, b"+OK\r\n");
        rig.cluster.give_back(lease);
        rig.wait(1);
        let (conn, words) = rig.take_asked();
        assert_eq!(words[0][0], "UNWATCH");
        rig.receive(conn, answer.as_bytes());
        assert_eq!(rig.is_open(conn), answer.starts_with('+'), "{answer:?}");
    }
    // PING, after a silence.
    for answer in REPLIES {
        let mut config = config(1);
        config.health_check_after = Duration::from_millis(5);
        let mut rig = Rig::new(1, config, |_| Some(Vec::new()));
        rig.wait(10);
        rig.submit("GET key");
        let (conn, words) = rig.take_asked();
        assert_eq!(words[0][0], "PING");
        rig.receive(conn, answer.as_bytes());
        let is_null = answer.contains("-1\r\n");
        let fits = matches!(answer.as_bytes()[0], b'+' | b'-' | b'!' | b'$') && !is_null;
        assert_eq!(rig.is_open(conn), fits, "{answer:?}");
    }
}
