//! Shows that connections and nodes that have died are found out: before a command is lost on them,
//! or soon after, and that what waits for them is bounded.

use std::time::Duration;

use cpu_time::ThreadTime;
use keyslot_core::cluster::{ConnId, Event};
use keyslot_core::config::{Config, RespVersion, RetryWrites};
use keyslot_core::error::Error;

use crate::lab::*;
use crate::simulator::network::{Link, REFUSED, SILENT};
use crate::simulator::server::{Condition, Dialect, Reach, Servers};
use crate::simulator::wire::Push;
use crate::simulator::world::{MILLISECOND, SECOND};

fn lab_where(change: impl FnOnce(&mut Config)) -> Lab {
    lab_with(Dialect::modern(), |config, _| {
        config.request_timeout = Duration::from_secs(4);
        config.attempt_timeout = Some(Duration::from_millis(500));
        change(config);
    })
}

#[test]
fn a_write_is_not_lost_on_a_connection_that_died_while_idle() {
    let mut lab = lab_where(|_| {});
    wait(&mut lab, 20 * SECOND);
    for conn in lab.open_conns(None) {
        lab.sever(conn);
    }
    let before = lab.now();
    assert_eq!(run(&mut lab, &format!("SET {} 1", key_at(0, 's'))), ok());
    let took = lab.now() - before;
    assert!(took <= SECOND + 10 * MILLISECOND, "the PING's time and a new connection: {took}");
    assert_eq!(lab.servers.executions.get(&7), Some(&1));
}

#[test]
fn a_connection_that_was_just_used_is_not_checked() {
    let mut lab = lab_where(|_| {});
    for idle in [14, 16] {
        wait(&mut lab, idle * SECOND);
        let mark = lab.sent().len();
        assert_eq!(run(&mut lab, &format!("SET {} 1", key_at(0, 's'))), ok());
        let names: Vec<_> = sent_since(&lab, mark).into_iter().flat_map(|(_, names)| names).collect();
        let expected: &[&str] = if idle < 15 { &["SET"] } else { &["PING", "SET"] };
        assert_eq!(names, expected);
    }
}

#[test]
fn a_stalled_node_gets_reads_again_on_a_new_connection_and_no_write_twice() {
    for writes in [RetryWrites::Never, RetryWrites::AtLeastOnce] {
        let mut lab = lab_where(|config| config.retry.writes = writes);
        let conn = lab.open_conns(Some(0))[0];
        lab.sever(conn);
        let before = lab.now();
        let read = submit(&mut lab, &format!("GET {}", key_at(0, 'g')));
        let write = submit(&mut lab, &format!("SET {} 1", key_at(0, 's')));
        assert_eq!(outcome(&mut lab, read), bulk("g:7"));
        assert!(lab.now() - before <= 510 * MILLISECOND, "{}", lab.now() - before);
        let result = outcome(&mut lab, write);
        match writes {
            RetryWrites::Never => {
                let told = matches!(&result, Err(Error::Timeout(late)) if late.possibly_executed);
                assert!(told && lab.now() - before == 4 * SECOND, "{result:?}");
                assert!(lab.servers.executions.is_empty());
            }
            RetryWrites::AtLeastOnce => assert_eq!(result, ok()),
        }
        assert!(!lab.open_conns(Some(0)).contains(&conn));
    }
}

#[test]
fn a_write_that_may_have_run_is_never_said_not_to_have() {
    let mut lab = lab_where(|config| {
        config.retry.writes = RetryWrites::AtLeastOnce;
        config.retry.attempts_max = 1;
    });
    lab.servers.nodes[0].paused = true;
    let id = submit(&mut lab, &format!("SET {} 1", key_at(0, 's')));
    wait(&mut lab, 10 * MILLISECOND);
    let conn = lab.open_conns(Some(0))[0];
    lab.cut(conn);
    lab.servers.nodes[0].condition = Condition::ClusterDown;
    lab.resume(0);
    let result = outcome(&mut lab, id);
    assert!(matches!(&result, Err(Error::ConnectionLost(lost)) if lost.possibly_executed), "{result:?}");
}

#[test]
fn a_late_answer_still_finds_its_write() {
    let mut lab = lab_where(|_| {});
    let conn = lab.open_conns(Some(0))[0];
    lab.link(0, Link::Held);
    let write = submit(&mut lab, &format!("SET {} 1", key_at(0, 's')));
    wait(&mut lab, 2 * SECOND);
    lab.link(0, Link::Open);
    assert_eq!(outcome(&mut lab, write), ok());
    assert_eq!(lab.servers.executions.get(&7), Some(&1));
    wait(&mut lab, 100 * MILLISECOND);
    assert!(!lab.open_conns(Some(0)).contains(&conn), "it is closed when nobody waits on it any more");
}

#[test]
fn a_stalled_connection_goes_with_the_last_request_that_waits_on_it() {
    let mut lab = lab_where(|_| {});
    let conn = lab.open_conns(Some(0))[0];
    lab.sever(conn);
    let write = submit(&mut lab, &format!("SET {} 1", key_at(0, 's')));
    wait(&mut lab, SECOND);
    assert!(lab.open_conns(Some(0)).contains(&conn));
    lab.cluster.forget(write);
    lab.history.forgotten(write);
    lab.drain();
    assert!(!lab.open_conns(Some(0)).contains(&conn));
}

#[test]
fn a_node_that_has_answered_is_dialled_at_once_again() {
    let mut lab = lab_where(|config| {
        config.retry.reconnect_base = Duration::from_secs(1);
        config.retry.reconnect_cap = Duration::from_secs(2);
    });
    crash(&mut lab, 0);
    wait(&mut lab, 10 * MILLISECOND);
    let id = submit(&mut lab, &format!("SET {} 1", key_at(0, 's')));
    wait(&mut lab, 500 * MILLISECOND);
    lab.servers.nodes[0].reach = Reach::Up;
    assert_eq!(outcome(&mut lab, id), ok());
    let conn = lab.open_conns(Some(0))[0];
    lab.cut(conn);
    wait(&mut lab, 2 * MILLISECOND);
    let before = lab.now();
    assert_eq!(run(&mut lab, &format!("SET {} 1", key_at(0, 's'))), ok());
    assert!(lab.now() - before <= 10 * MILLISECOND);
}

#[test]
fn no_more_than_the_limit_waits_for_a_node_that_is_down() {
    let mut lab = lab_where(|config| config.waiting.requests = 10);
    crash(&mut lab, 0);
    wait(&mut lab, 100 * MILLISECOND);
    let ids: Vec<_> = (0..15).map(|_| submit(&mut lab, &format!("SET {} 1", key_at(0, 's')))).collect();
    let refused = |id| matches!(lab.outcome(id), Some(Err(Error::LimitExceeded(_))));
    assert_eq!(
        ids.iter().map(|id| refused(*id)).collect::<Vec<_>>(),
        [[false; 5], [false; 5], [true; 5]].concat()
    );
    assert_eq!(run(&mut lab, &format!("SET {} 1", key_at(1, 's'))), ok(), "other nodes' requests go on");
    lab.servers.nodes[0].reach = Reach::Up;
    for id in &ids[..10] {
        assert_eq!(outcome(&mut lab, *id), ok());
    }
    assert_eq!(lab.servers.executions.get(&7), Some(&11));
}

#[test]
fn no_more_bytes_than_the_limit_wait_for_a_node_that_is_down() {
    let mut lab = lab_where(|config| config.waiting.bytes = 1_000);
    crash(&mut lab, 0);
    wait(&mut lab, 100 * MILLISECOND);
    let line = format!("SET {} {}", key_at(0, 's'), "x".repeat(600));
    let (first, second) = (submit(&mut lab, &line), submit(&mut lab, &line));
    assert_eq!(lab.outcome(first), None);
    assert!(matches!(lab.outcome(second), Some(Err(Error::LimitExceeded(_)))));
}

#[test]
fn a_request_for_one_node_fails_when_that_is_down() {
    let mut lab = lab_where(|_| {});
    crash(&mut lab, 1);
    wait(&mut lab, 100 * MILLISECOND);
    let before = lab.now();
    let id = lab.submit_to(1, &words("PING"), None);
    lab.drain();
    assert!(matches!(outcome(&mut lab, id), Err(Error::Connect(_))));
    assert!(lab.now() - before <= 5 * MILLISECOND);
    lab.servers.nodes[1].reach = Reach::Up;
    let id = lab.submit_to(1, &words("PING"), None);
    lab.drain();
    assert!(outcome(&mut lab, id).is_ok(), "it is dialled at once");
}

#[test]
fn the_next_address_of_a_name_is_tried() {
    for (first, most) in [(REFUSED, 20 * MILLISECOND), (SILENT, 600 * MILLISECOND)] {
        let mut lab = lab_of(Servers::new(Dialect::modern(), 3, 0, true), |_, _| {});
        lab.weather().first_address = Some(first);
        let conn = lab.open_conns(Some(0))[0];
        lab.cut(conn);
        wait(&mut lab, 2 * MILLISECOND);
        let before = lab.now();
        assert_eq!(run(&mut lab, &format!("GET {}", key_at(0, 'g'))), bulk("g:7"));
        assert!(lab.now() - before <= most, "{first}: {}", lab.now() - before);
    }
}

#[test]
fn events_tell_of_a_node_that_goes_and_comes_back() {
    let mut lab = lab_where(|_| {});
    let connected = events(&mut lab).into_iter().filter(|event| matches!(event, Event::Connected { .. }));
    assert_eq!(connected.count(), 3);
    crash(&mut lab, 0);
    wait(&mut lab, 300 * MILLISECOND);
    lab.servers.nodes[0].reach = Reach::Up;
    assert_eq!(run(&mut lab, &format!("SET {} 1", key_at(0, 's'))), ok());
    let mut told = events(&mut lab).into_iter().filter(|event| !matches!(event, Event::Refreshed { .. }));
    assert!(matches!(told.next(), Some(Event::Disconnected { .. })));
    let mut dials = 0;
    loop {
        match told.next().unwrap() {
            Event::ConnectFailed { attempts, .. } => {
                dials += 1;
                assert_eq!(attempts, dials + 1, "in a row, the lost connection counted");
            }
            Event::Reconnected { after, attempts, .. } => {
                assert!(after >= Duration::from_millis(300) && attempts == dials + 1, "{after:?} {attempts}");
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(told.next(), None);
}

#[test]
fn a_hundred_thousand_requests_to_a_stalled_node_time_out_in_no_time() {
    for kind in ["SET", "GET"] {
        let mut lab = lab_where(|config| config.request_timeout = Duration::from_secs(1));
        lab.servers.nodes[0].paused = true;
        let line = match kind {
            "SET" => format!("SET {} 1", key_at(0, 's')),
            _ => format!("GET {}", key_at(0, 'g')),
        };
        let ids: Vec<_> = (0..100_000).map(|_| lab.submit(&words(&line), None).unwrap()).collect();
        lab.drain();
        let started = ThreadTime::now();
        wait(&mut lab, 2 * SECOND);
        assert!(started.elapsed() < Duration::from_secs(10), "{kind}: {:?}", started.elapsed());
        assert!(ids.iter().all(|id| matches!(lab.outcome(*id), Some(Err(Error::Timeout(_))))), "{kind}");
        assert_eq!(lab.cluster.pending(), 0);
    }
}

/// How bytes come that are no sign of life.
const DROP: u64 = 50 * MILLISECOND;

fn with_protocol(protocol: RespVersion) -> Lab {
    lab_where(|config| config.resp_version = protocol)
}

#[test]
fn a_drip_is_no_sign_of_life() {
    for protocol in [RespVersion::Resp2, RespVersion::Resp3] {
        let mut lab = with_protocol(protocol);
        let conn = lab.open_conns(Some(0))[0];
        let before = lab.now();
        lab.servers.nodes[0].manners.drip = Some(2 * DROP);
        let reads = ['g', 'h'].map(|kind| submit(&mut lab, &format!("GET {}", key_at(0, kind))));
        let write = submit(&mut lab, &format!("SET {} 1", key_at(0, 's')));
        wait(&mut lab, 10 * MILLISECOND);
        // Only this connection drips.
        lab.servers.nodes[0].manners.drip = None;
        for (id, value) in reads.into_iter().zip(["g:7", "h:7"]) {
            assert_eq!(outcome(&mut lab, id), bulk(value));
        }
        assert!(lab.now() - before <= 520 * MILLISECOND, "{protocol:?}: {}", lab.now() - before);
        // 23 drops come with its answer: it is still found.
        assert_eq!(outcome(&mut lab, write), ok());
        assert!(lab.now() - before <= 3 * SECOND, "{protocol:?}: {}", lab.now() - before);
        wait(&mut lab, 10 * MILLISECOND);
        assert!(!lab.open_conns(Some(0)).contains(&conn), "{protocol:?}: it is closed when nobody waits");
        assert_eq!(lab.servers.executions.get(&7), Some(&1));
    }
}

#[test]
fn a_flood_of_pushes_is_no_sign_of_life() {
    let mut lab = lab_where(|_| {});
    let conn = lab.open_conns(Some(0))[0];
    lab.servers.nodes[0].paused = true;
    let (before, dials) = (lab.now(), lab.dials());
    let read = submit(&mut lab, &format!("GET {}", key_at(0, 'g')));
    let write = submit(&mut lab, &format!("SET {} 1", key_at(0, 's')));
    while lab.now() < before + 520 * MILLISECOND {
        lab.push(conn, Push::ManyInvalidated);
        wait(&mut lab, 10 * MILLISECOND);
    }
    assert_eq!(lab.dials(), dials + 1, "the node gets a new connection");
    // It goes on with the new one only.
    lab.sever(conn);
    lab.resume(0);
    assert_eq!(outcome(&mut lab, read), bulk("g:7"));
    assert!(lab.now() - before <= 550 * MILLISECOND, "{}", lab.now() - before);
    let result = outcome(&mut lab, write);
    assert!(matches!(&result, Err(Error::Timeout(late)) if late.possibly_executed), "{result:?}");
    assert_eq!(lab.now() - before, 4 * SECOND);
    assert!(!lab.open_conns(Some(0)).contains(&conn));
}

#[test]
fn pushes_do_not_answer_the_health_check_nor_stand_for_it() {
    let mut lab = lab_where(|_| {});
    let conn = lab.open_conns(Some(0))[0];
    for _ in 0..20 {
        wait(&mut lab, SECOND);
        lab.push(conn, Push::Flushed);
    }
    lab.servers.nodes[0].paused = true;
    let (before, mark, dials) = (lab.now(), lab.sent().len(), lab.dials());
    let write = submit(&mut lab, &format!("SET {} 1", key_at(0, 's')));
    while lab.now() < before + 990 * MILLISECOND {
        lab.push(conn, Push::ManyInvalidated);
        wait(&mut lab, 10 * MILLISECOND);
    }
    let names: Vec<_> = sent_since(&lab, mark).into_iter().flat_map(|(_, names)| names).collect();
    assert_eq!((names, lab.dials()), (vec!["PING".to_string()], dials));
    wait(&mut lab, 20 * MILLISECOND);
    lab.resume(0);
    assert_eq!(outcome(&mut lab, write), ok());
    assert!(lab.now() - before <= 1_100 * MILLISECOND, "{}", lab.now() - before);
    assert_eq!(lab.servers.executions.get(&7), Some(&1));
}

/// Sends the beginning of a value, and then a thousand bytes at a time until the time has come.
fn send_slowly(lab: &mut Lab, conn: ConnId, header: &str, until: u64) -> usize {
    lab.reply(conn, header.as_bytes().to_vec(), false);
    let mut sent = 0;
    while lab.now() < until {
        lab.reply(conn, vec![b'x'; 1_000], false);
        sent += 1_000;
        wait(lab, DROP);
    }
    sent
}

#[test]
fn a_large_value_may_take_its_requests_whole_time() {
    let mut lab = lab_where(|_| {});
    let conn = lab.open_conns(Some(0))[0];
    lab.servers.nodes[0].paused = true;
    let read = submit(&mut lab, &format!("GET {}", key_at(0, 'g')));
    wait(&mut lab, 10 * MILLISECOND);
    let until = lab.now() + 3_900 * MILLISECOND;
    assert_eq!(send_slowly(&mut lab, conn, "$78000\r\n", until), 78_000);
    assert_eq!(lab.outcome(read), None);
    lab.reply(conn, b"\r\n".to_vec(), false);
    assert_eq!(outcome(&mut lab, read), bulk(&"x".repeat(78_000)));
    assert!(lab.open_conns(Some(0)).contains(&conn));
}

#[test]
fn a_value_too_large_for_its_requests_time_holds_up_nothing_after_it() {
    let mut lab = lab_where(|_| {});
    let conn = lab.open_conns(Some(0))[0];
    let before = lab.now();
    lab.servers.nodes[0].paused = true;
    let large = submit(&mut lab, &format!("GET {}", key_at(0, 'g')));
    wait(&mut lab, 10 * MILLISECOND);
    send_slowly(&mut lab, conn, "$100000000\r\n", before + 3 * SECOND);
    let read = submit(&mut lab, &format!("GET {}", key_at(0, 'h')));
    let write = submit(&mut lab, &format!("SET {} 1", key_at(0, 's')));
    send_slowly(&mut lab, conn, "", before + 4_010 * MILLISECOND);
    let result = lab.outcome(large);
    assert!(matches!(result, Some(Err(Error::Timeout(_)))), "{result:?}");
    lab.resume(0);
    assert_eq!(outcome(&mut lab, read), bulk("h:7"));
    assert!(lab.now() - before <= 4_100 * MILLISECOND, "{}", lab.now() - before);
    send_slowly(&mut lab, conn, "", before + 7 * SECOND + 10 * MILLISECOND);
    let result = lab.outcome(write);
    assert!(matches!(result, Some(Err(Error::Timeout(late))) if late.possibly_executed), "{result:?}");
    assert!(!lab.open_conns(Some(0)).contains(&conn));
}

#[test]
fn a_reply_that_nobody_waits_for_may_not_take_for_ever() {
    let mut lab = lab_where(|_| {});
    let conn = lab.open_conns(Some(0))[0];
    lab.servers.nodes[0].paused = true;
    let forgotten = submit(&mut lab, &format!("GET {}", key_at(0, 'g')));
    wait(&mut lab, 10 * MILLISECOND);
    lab.cluster.forget(forgotten);
    lab.history.forgotten(forgotten);
    lab.drain();
    let until = lab.now() + 600 * MILLISECOND;
    send_slowly(&mut lab, conn, "$100000000\r\n", until);
    assert!(!lab.open_conns(Some(0)).contains(&conn));
}

#[test]
fn a_node_that_only_drips_is_not_asked_for_the_topology_for_ever() {
    let mut lab = lab_where(|config| config.refresh_interval = Duration::from_millis(500));
    let conn = lab.open_conns(Some(0))[0];
    lab.servers.nodes[0].manners.drip = Some(DROP);
    let before = lab.now();
    while lab.now() < before + 20 * SECOND {
        wait(&mut lab, 100 * MILLISECOND);
        assert_eq!(run(&mut lab, &format!("GET {}", key_at(1, 'g'))), bulk("g:7"));
    }
    assert!(!lab.open_conns(Some(0)).contains(&conn));
    let asked = lab.sent().iter().filter(|sent| sent.node == 0 && sent.names()[0] == "CLUSTER").count();
    assert!(asked <= 3, "{asked}");
    lab.behave(0);
    assert_eq!(run(&mut lab, &format!("GET {}", key_at(0, 'g'))), bulk("g:7"));
}

#[test]
fn a_node_that_greets_and_falls_silent_is_not_dialled_in_a_loop() {
    let mut lab = lab_where(|config| {
        config.attempt_timeout = Some(Duration::from_millis(20));
        config.retry.reconnect_base = Duration::from_millis(100);
        config.retry.reconnect_cap = Duration::from_secs(2);
    });
    for conn in lab.open_conns(Some(0)) {
        lab.sever(conn);
    }
    lab.servers.nodes[0].manners.only_greets = true;
    let (before, dials) = (lab.now(), lab.dials());
    let mut ids = Vec::new();
    while lab.now() < before + 10 * SECOND {
        ids.push(submit(&mut lab, &format!("GET {}", key_at(0, 'g'))));
        wait(&mut lab, 10 * MILLISECOND);
    }
    let dials = lab.dials() - dials;
    assert!((4..=30).contains(&dials), "{dials} dials");
    lab.behave(0);
    for id in ids.into_iter().rev().take(100) {
        assert_eq!(outcome(&mut lab, id), bulk("g:7"));
    }
}

#[test]
fn a_handshake_that_drips_ends_with_the_connect_time_out() {
    let mut lab = lab_where(|_| {});
    lab.servers.nodes[0].manners.drip = Some(DROP);
    let conn = lab.open_conns(Some(0))[0];
    lab.cut(conn);
    let (before, dials) = (lab.now(), lab.dials());
    let write = submit(&mut lab, &format!("SET {} 1", key_at(0, 's')));
    let result = outcome(&mut lab, write);
    assert!(matches!(&result, Err(Error::Connect(_) | Error::ConnectionLost(_))), "{result:?}");
    assert!(lab.now() - before <= 4 * SECOND && lab.dials() - dials <= 6, "{} dials", lab.dials() - dials);
    lab.behave(0);
    wait(&mut lab, 2 * SECOND);
    assert_eq!(run(&mut lab, &format!("SET {} 1", key_at(0, 's'))), ok());
}

#[test]
fn writes_that_never_complete_cost_only_what_is_written() {
    let mut lab = lab_where(|_| {});
    lab.servers.nodes[0].manners.is_stuck = true;
    let conn = lab.open_conns(Some(0))[0];
    let before = lab.now();
    let write = submit(&mut lab, &format!("SET {} 1", key_at(0, 's')));
    for _ in 0..40 {
        let start = lab.now();
        assert_eq!(run(&mut lab, &format!("GET {}", key_at(1, 'g'))), bulk("g:7"));
        assert!(lab.now() - start <= 5 * MILLISECOND);
        wait(&mut lab, 98 * MILLISECOND);
    }
    let result = outcome(&mut lab, write);
    assert!(matches!(&result, Err(Error::Timeout(late)) if late.possibly_executed), "{result:?}");
    assert_eq!(lab.now() - before, 4 * SECOND);
    assert!(!lab.open_conns(Some(0)).contains(&conn));
    lab.behave(0);
    wait(&mut lab, 2 * SECOND);
    assert_eq!(run(&mut lab, &format!("GET {}", key_at(0, 'g'))), bulk("g:7"));
}
