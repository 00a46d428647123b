//! Shows that connections and nodes that have died are found out: before a command is lost on them, or soon after, and
//! that what waits for them is bounded.

use std::time::{Duration, Instant};

use keyslot_core::cluster::Event;
use keyslot_core::config::{Config, RetryWrites};
use keyslot_core::error::Error;

use crate::lab::*;
use crate::simulator::network::{Link, REFUSED, SILENT};
use crate::simulator::server::{Condition, Dialect, Reach, Servers};
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
    let before = lab.now;
    assert_eq!(run(&mut lab, &format!("SET {} 1", key_at(0, 's'))), ok());
    let took = lab.now - before;
    assert!(took <= SECOND + 10 * MILLISECOND, "the PING's time and a new connection: {took}");
    assert_eq!(lab.servers.executions.get(&7), Some(&1));
}

#[test]
fn a_connection_that_was_just_used_is_not_checked() {
    let mut lab = lab_where(|_| {});
    for idle in [14, 16] {
        wait(&mut lab, idle * SECOND);
        let mark = lab.sent.len();
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
        let before = lab.now;
        let read = submit(&mut lab, &format!("GET {}", key_at(0, 'g')));
        let write = submit(&mut lab, &format!("SET {} 1", key_at(0, 's')));
        assert_eq!(outcome(&mut lab, read), bulk("g:7"));
        assert!(lab.now - before <= 510 * MILLISECOND, "{}", lab.now - before);
        let result = outcome(&mut lab, write);
        match writes {
            RetryWrites::Never => {
                let told = matches!(&result, Err(Error::Timeout(late)) if late.possibly_executed);
                assert!(told && lab.now - before == 4 * SECOND, "{result:?}");
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
    lab.ledger.forgotten(write);
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
    let before = lab.now;
    assert_eq!(run(&mut lab, &format!("SET {} 1", key_at(0, 's'))), ok());
    assert!(lab.now - before <= 10 * MILLISECOND);
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
    let before = lab.now;
    let id = lab.submit_to(1, &words("PING"), None);
    lab.drain();
    assert!(matches!(outcome(&mut lab, id), Err(Error::Connect(_))));
    assert!(lab.now - before <= 5 * MILLISECOND);
    lab.servers.nodes[1].reach = Reach::Up;
    let id = lab.submit_to(1, &words("PING"), None);
    lab.drain();
    assert!(outcome(&mut lab, id).is_ok(), "it is dialled at once");
}

#[test]
fn the_next_address_of_a_name_is_tried() {
    for (first, most) in [(REFUSED, 20 * MILLISECOND), (SILENT, 600 * MILLISECOND)] {
        let mut lab = lab_of(Servers::new(Dialect::modern(), 3, 0, true), |_, _| {});
        lab.weather.first_address = Some(first);
        let conn = lab.open_conns(Some(0))[0];
        lab.cut(conn);
        wait(&mut lab, 2 * MILLISECOND);
        let before = lab.now;
        assert_eq!(run(&mut lab, &format!("GET {}", key_at(0, 'g'))), bulk("g:7"));
        assert!(lab.now - before <= most, "{first}: {}", lab.now - before);
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
        let started = Instant::now();
        wait(&mut lab, 2 * SECOND);
        assert!(started.elapsed() < Duration::from_secs(10), "{kind}: {:?}", started.elapsed());
        assert!(ids.iter().all(|id| matches!(lab.outcome(*id), Some(Err(Error::Timeout(_))))), "{kind}");
        assert_eq!(lab.cluster.pending(), 0);
    }
}
