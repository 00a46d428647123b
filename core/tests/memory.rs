//! Shows how much memory servers can make the machine hold: the heap's peak is measured, and stays
//! below a figure that is written here.
#![allow(unsafe_code, reason = "an allocator that counts is one")]

mod rig;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use keyslot_core::cluster::{Command, ConnId, Destination, Input, Output, ScanOptions, Subject, Token};
use keyslot_core::command::Finder;
use keyslot_core::error::Error;
use keyslot_core::resp::encode_command;
use keyslot_core::time::Instant;
use rig::{Rig, config, key_at};

const MIB: usize = 1 << 20;

/// A value that is under way for many reads and writes.
const LARGE: usize = 8 * MIB;

/// What a socket gives at a time.
const PIECE: usize = 64 << 10;

static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: all is left to the system's allocator; while memory grows, both the old and the new
// count, as in a component.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let held = HELD.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(held, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }
}

/// One test at a time: all share the heap. Gives what is held now, from which the peak counts.
fn measured() -> (MutexGuard<'static, ()>, usize) {
    static ALONE: Mutex<()> = Mutex::new(());
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let held = HELD.load(Ordering::Relaxed);
    PEAK.store(held, Ordering::Relaxed);
    (alone, held)
}

/// How far the heap has grown at most.
fn peak_since(held: usize) -> usize {
    PEAK.load(Ordering::Relaxed) - held
}

/// Sends a text in pieces, as long as the client takes it. Gives how much of it was sent.
fn send_filled(rig: &mut Rig, conn: ConnId, head: &str, length: usize, tail: &str) -> usize {
    rig.receive(conn, head.as_bytes());
    let piece = vec![b'x'; PIECE];
    let mut sent = 0;
    while sent < length && rig.is_open(conn) {
        let next = (length - sent).min(PIECE);
        rig.receive(conn, &piece[..next]);
        sent += next;
    }
    if rig.is_open(conn) {
        rig.receive(conn, tail.as_bytes());
    }
    sent
}

#[test]
fn requests_and_events_keep_little_of_an_error() {
    let (_alone, held) = measured();
    let mut rig = Rig::ready(1);
    let ids: Vec<_> = (0..300).map(|number| rig.submit(&format!("GET key{number}"))).collect();
    let (conn, asked) = rig.take_asked();
    assert_eq!(asked.len(), ids.len());
    for _ in &ids {
        send_filled(&mut rig, conn, "-TRYAGAIN ", 900_000, "\r\n");
    }
    assert!(rig.is_open(conn) && rig.cluster.pending() == ids.len());
    let peak = peak_since(held);
    assert!(peak < 6 * MIB, "{peak}");
}

#[test]
fn a_refused_handshake_is_told_in_few_words() {
    let (_alone, held) = measured();
    // The first connection is used, the second refused.
    let mut rig = Rig::ready(1);
    let conn = *rig.nodes.keys().next().unwrap();
    let answers = |words: &rig::Words| (words[0] != "HELLO").then(Vec::new);
    rig.set_answers(answers);
    rig.handle(keyslot_core::cluster::Input::Closed { conn, reason: "reset".into() });
    let ids: Vec<_> = (0..3_000).map(|number| rig.submit(&format!("GET key{number}"))).collect();
    for _ in 0..5 {
        let (conn, asked) = rig.take_asked();
        assert_eq!(asked[0][0], "HELLO");
        send_filled(&mut rig, conn, "-WRONGPASS ", 900_000, "\r\n");
        rig.wait(600);
        if rig.asked.is_empty() {
            break;
        }
    }
    rig.wait(6_000);
    for id in ids {
        match rig.done.remove(&id) {
            Some(Err(Error::Authentication(text))) => assert!(text.len() < 1_100, "{}", text.len()),
            other => panic!("{other:?}"),
        }
    }
    let peak = peak_since(held);
    assert!(peak < 24 * MIB, "{peak}");
}

#[test]
fn what_servers_say_of_themselves_is_bounded_while_it_comes() {
    let (_alone, held) = measured();
    let mut rig = Rig::new(1, config(1), |_| None);
    let (conn, _) = rig.take_asked();
    let sent =
        send_filled(&mut rig, conn, "%1\r\n$17\r\navailability_zone\r\n$62914560\r\n", 60 * MIB, "\r\n");
    assert!(!rig.is_open(conn) && sent == 0, "its length is enough");
    let mut rig = Rig::new(1, config(1), |_| None);
    let (conn, _) = rig.take_asked();
    let sent = send_filled(&mut rig, conn, "*?\r\n$?\r\n;60000000\r\n", 60 * MIB, "\r\n");
    assert!(!rig.is_open(conn) && sent == 0);
    let peak = peak_since(held);
    assert!(peak < 8 * MIB, "{peak}");
}

#[test]
fn a_long_list_of_slots_is_refused_while_it_comes() {
    let (_alone, held) = measured();
    let mut rig = Rig::new(1, config(1), |words| (words[1] != "SLOTS").then(Vec::new));
    let (conn, _) = rig.take_asked();
    rig.receive(conn, b"*?\r\n");
    let piece = b":1\r\n".repeat(PIECE / 4);
    let mut sent = 0;
    while rig.is_open(conn) && sent < 100 * MIB {
        rig.receive(conn, &piece);
        sent += piece.len();
    }
    assert!(!rig.is_open(conn) && sent < 3 * MIB, "{sent}");
    assert!(peak_since(held) < 12 * MIB, "{}", peak_since(held));
    rig.wait(6_000);
    let failure = format!("{:?}", rig.ready);
    assert!(failure.contains("the answer to CLUSTER SLOTS: a reply exceeds the size limit"), "{failure}");
}

#[test]
fn the_nodes_that_a_scan_asks_for_are_refused_when_they_are_too_long() {
    let (_alone, held) = measured();
    let mut rig = Rig::ready(1);
    let scan = rig.cluster.open_scan(ScanOptions::new(Subject::Cluster)).unwrap();
    rig.hand_in(keyslot_core::cluster::Command::next_batch(), &Destination::Scan(scan));
    let (conn, asked) = rig.take_asked();
    assert_eq!(asked[0].join(" "), "CLUSTER NODES");
    let sent = send_filled(&mut rig, conn, "$205520896\r\n", 196 * MIB, "\r\n");
    assert!(!rig.is_open(conn) && sent == 0);
    assert!(peak_since(held) < 4 * MIB, "{}", peak_since(held));
}

/// Eight nodes that send a reply of this size at the same time, and how each request ends.
fn eight_at_once(length: usize, budget: usize) -> (Vec<Result<usize, Error>>, Rig) {
    let mut config = config(8);
    config.received_bytes = budget as u64;
    let mut rig = Rig::new(8, config, |_| Some(Vec::new()));
    let ids: Vec<_> = (0..8).map(|node| rig.submit(&format!("GET {}", key_at(node, 8)))).collect();
    let mut conns = Vec::new();
    while !rig.asked.is_empty() {
        conns.push(rig.take_asked().0);
    }
    assert_eq!(conns.len(), 8);
    for conn in &conns {
        rig.receive(*conn, format!("${length}\r\n").as_bytes());
    }
    let piece = vec![b'x'; PIECE];
    for sent in (0..length).step_by(PIECE) {
        for conn in &conns {
            if rig.is_open(*conn) {
                rig.receive(*conn, &piece[..(length - sent).min(PIECE)]);
            }
        }
    }
    for conn in conns {
        if rig.is_open(conn) {
            rig.receive(conn, b"\r\n");
        }
    }
    let result = |id| rig.done.get(id).expect("it has ended").clone().map(|reply| reply.as_bytes().len());
    let results = ids.iter().map(result).collect();
    (results, rig)
}

#[test]
fn all_connections_together_have_one_budget() {
    let (_alone, held) = measured();
    let (results, rig) = eight_at_once(250_000_000, 192 * MIB);
    for result in &results {
        match result {
            Err(Error::LimitExceeded(text)) => assert!(text.contains("limit-received-bytes"), "{text}"),
            other => panic!("{other:?}"),
        }
    }
    let peak = peak_since(held);
    assert!(peak < 330 * MIB, "{peak}");
    assert_eq!(rig.cluster.received_bytes(), 0);
}

#[test]
fn the_connections_within_the_budget_go_on() {
    let (_alone, held) = measured();
    let (results, mut rig) = eight_at_once(50_000_000, 192 * MIB);
    let whole = results.iter().filter(|result| matches!(result, Ok(length) if *length > 50_000_000)).count();
    assert!((2..=4).contains(&whole), "{results:?}");
    let peak = peak_since(held);
    assert!(peak < 260 * MIB, "{peak}");
    // They count until they are taken, and small replies come all the same.
    assert!(rig.cluster.received_bytes() >= whole * 50_000_000);
    rig.done.clear();
    assert_eq!(rig.cluster.received_bytes(), 0);
}

#[test]
fn small_replies_come_while_large_ones_are_held() {
    let (_alone, _) = measured();
    let mut config = config(1);
    config.received_bytes = MIB as u64;
    let mut rig = Rig::new(1, config, |_| Some(Vec::new()));
    let large = rig.submit("GET large");
    let (conn, _) = rig.take_asked();
    send_filled(&mut rig, conn, "$900000\r\n", 900_000, "\r\n");
    assert!(rig.done.get(&large).unwrap().is_ok());
    let next = rig.submit("GET next");
    send_filled(&mut rig, conn, "$300000\r\n", 300_000, "\r\n");
    assert!(matches!(rig.done.get(&next), Some(Err(Error::LimitExceeded(_)))), "{:?}", rig.done.get(&next));
    rig.wait(1_000);
    let small = rig.submit("GET small");
    rig.asked.clear();
    let conn = *rig.nodes.keys().last().unwrap();
    send_filled(&mut rig, conn, "$40000\r\n", 40_000, "\r\n");
    assert!(rig.done.get(&small).unwrap().is_ok());
}

#[test]
fn the_largest_reply_passes() {
    let (_alone, held) = measured();
    let mut rig = Rig::ready(1);
    for elements in [1, 4_000] {
        let id = rig.submit("GET key");
        let (conn, _) = rig.take_asked();
        let whole = 255 * MIB;
        let each = whole / elements;
        rig.receive(conn, format!("*{elements}\r\n").as_bytes());
        for _ in 0..elements {
            send_filled(&mut rig, conn, &format!("${each}\r\n"), each, "\r\n");
        }
        assert!(rig.done.remove(&id).unwrap().is_ok());
    }
    // The last copy that makes room, and what was there before.
    let peak = peak_since(held);
    assert!(peak < 600 * MIB, "{peak}");
    assert_eq!(rig.cluster.received_bytes(), 0);
}

/// The connection over which this command was sent last.
fn last_asked(rig: &mut Rig, name: &str) -> ConnId {
    let conn = rig.asked.iter().rev().find(|(_, words)| words[0] == name).expect("it was sent").0;
    rig.asked.clear();
    conn
}

#[test]
fn large_values_leave_nothing_behind_whatever_becomes_of_them() {
    let (_alone, _) = measured();
    let mut rig = Rig::ready(3);
    let mut before = 0;
    // What the machine keeps of itself, it has after the first round, of small values.
    for length in [10, LARGE, LARGE] {
        let value = "x".repeat(length);
        let head = format!("${length}\r\n");
        for node in 0..3 {
            let key = key_at(node, 3);
            let (set, get) = (format!("SET {key} {value}"), format!("GET {key}"));
            // Lost with their connection, one while its answer comes.
            rig.submit(&get);
            rig.submit(&set);
            let conn = last_asked(&mut rig, "SET");
            send_filled(&mut rig, conn, &head, length / 2, "");
            rig.handle(Input::Closed { conn, reason: "reset".into() });
            rig.wait(600);
            // The read was sent again, and is answered when its time is over.
            let conn = last_asked(&mut rig, "GET");
            rig.wait(6_000);
            send_filled(&mut rig, conn, &head, length, "\r\n");
            rig.wait(600);
            // Given up: the answers come all the same.
            let given_up = rig.submit(&set);
            rig.cluster.forget(given_up);
            let conn = last_asked(&mut rig, "SET");
            rig.receive(conn, b"+OK\r\n");
            let given_up = rig.submit(&get);
            let conn = last_asked(&mut rig, "GET");
            send_filled(&mut rig, conn, &head, length / 2, "");
            rig.cluster.forget(given_up);
            send_filled(&mut rig, conn, "", length - length / 2, "\r\n");
            // Answered, over a connection that stays.
            rig.submit(&get);
            rig.submit(&set);
            let conn = last_asked(&mut rig, "SET");
            send_filled(&mut rig, conn, &head, length, "\r\n");
            rig.receive(conn, b"+OK\r\n");
            rig.submit(&get);
            let conn = last_asked(&mut rig, "GET");
            send_filled(&mut rig, conn, &head, length, "\r\n");
            assert_eq!(rig.cluster.pending(), 0);
            rig.done.clear();
            rig.asked.clear();
        }
        assert_eq!(rig.cluster.received_bytes(), 0);
        drop(value);
        let held = HELD.load(Ordering::Relaxed);
        if length < LARGE {
            before = held;
        }
        assert!(held.saturating_sub(before) < MIB, "{} bytes more", held - before);
    }
}

#[test]
fn a_large_command_is_copied_nowhere_on_its_way_out() {
    let (_alone, _) = measured();
    let mut rig = Rig::ready(1);
    let value = vec![b'x'; LARGE];
    let words = [&b"SET"[..], b"key", &value];
    let mut frame = BytesMut::new();
    encode_command(&words, &mut frame);
    let frame = Bytes::from(frame.to_vec());
    let held = HELD.load(Ordering::Relaxed);
    PEAK.store(held, Ordering::Relaxed);
    let command = Command::of_request(frame.clone(), &words, false, &mut Finder::default()).unwrap();
    let now = Instant::from_nanoseconds(rig.now);
    rig.cluster.submit(now, command, &Destination::Cluster, Token(0));
    let mut sent = 0;
    loop {
        match rig.cluster.poll_output() {
            Output::Transmit { bytes, .. } => sent += bytes.len(),
            Output::WaitUntil(_) => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(sent, frame.len());
    assert!(peak_since(held) < MIB / 8, "{}", peak_since(held));
}

#[test]
fn a_large_reply_is_handed_over() {
    let (_alone, held) = measured();
    let mut rig = Rig::ready(1);
    let id = rig.submit("GET key");
    let conn = last_asked(&mut rig, "GET");
    send_filled(&mut rig, conn, &format!("${LARGE}\r\n"), LARGE, "\r\n");
    let reply = rig.done.remove(&id).unwrap().unwrap();
    let bytes = reply.into_vec();
    assert!(bytes.len() > LARGE);
    // Itself, and less than three quarters of it while it grows for the last time; and what a
    // socket gives.
    assert!(peak_since(held) < LARGE * 7 / 4 + MIB / 4, "{}", peak_since(held));
    assert_eq!(rig.cluster.received_bytes(), 0);
}
