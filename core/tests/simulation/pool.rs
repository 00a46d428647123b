//! Shows how connections are lent: to one at a time, in order, clean, and for no longer than they
//! are wanted.

use std::time::Duration;

use cpu_time::ThreadTime;
use keyslot_core::cluster::RequestId;
use keyslot_core::config::Config;
use keyslot_core::error::Error;
use keyslot_core::slot::Slot;

use crate::lab::*;
use crate::simulator::server::{Dialect, NOBODY};
use crate::simulator::world::{MILLISECOND, SECOND};

fn lab_with_pool(change: impl FnOnce(&mut Config)) -> Lab {
    lab_with(Dialect::modern(), |config, _| {
        config.request_timeout = Duration::from_secs(4);
        config.pool.checkout_timeout = Duration::from_secs(2);
        change(config);
    })
}

/// Borrows without waiting; the request is answered when the connection is there.
fn ask_for(lab: &mut Lab, lease: u64, node: usize) -> RequestId {
    let id = lab.lend(lease, Slot::new(slot_of(&key_at(node, 'g'))));
    lab.drain();
    id
}

#[test]
fn a_transaction_runs_on_a_lent_connection() {
    let mut lab = lab_with_pool(|_| {});
    let key = key_at(0, 'i');
    let before = lab.cluster.footprint();
    lend(&mut lab, 1, 0);
    assert_eq!(run_on(&mut lab, 1, &format!("WATCH {key}")), ok());
    assert_eq!(run_on(&mut lab, 1, "MULTI"), ok());
    run_on(&mut lab, 1, &format!("INCR {key}")).unwrap();
    let reply = run_on(&mut lab, 1, "EXEC").unwrap();
    assert_eq!(reply.nodes.len(), 2);
    // Somebody else's write between WATCH and EXEC stops it.
    run_on(&mut lab, 1, &format!("WATCH {key}")).unwrap();
    run(&mut lab, &format!("INCR {key}")).unwrap();
    run_on(&mut lab, 1, "MULTI").unwrap();
    run_on(&mut lab, 1, &format!("INCR {key}")).unwrap();
    assert_eq!(run_on(&mut lab, 1, "EXEC").unwrap().nodes.len(), 1);
    give_back(&mut lab, 1);
    wait(&mut lab, 5 * SECOND);
    assert_eq!(lab.cluster.footprint(), before + 2, "the idle connection, and its place among those");
}

#[test]
fn the_connection_used_last_is_lent_first() {
    let mut lab = lab_with_pool(|_| {});
    (1..=3).for_each(|lease| lend(&mut lab, lease, 0));
    assert_eq!(lab.open_conns(Some(0)).len(), 4);
    (1..=3).for_each(|lease| give_back(&mut lab, lease));
    let mark = lab.sent().len();
    for lease in 4..20 {
        lend(&mut lab, lease, 0);
        give_back(&mut lab, lease);
    }
    assert_eq!(lab.open_conns(Some(0)).len(), 4);
    assert_eq!(sent_since(&lab, mark).len(), 16, "no connection needs more than the borrower's own command");
}

#[test]
fn who_came_first_is_served_first() {
    let mut lab = lab_with_pool(|config| config.pool.connections_max = 1);
    lend(&mut lab, 1, 0);
    lend(&mut lab, 9, 1);
    // The second borrower takes the place of one that has gone.
    let gone = ask_for(&mut lab, 2, 0);
    wait(&mut lab, MILLISECOND);
    let first = ask_for(&mut lab, 3, 0);
    wait(&mut lab, MILLISECOND);
    give_back(&mut lab, 2);
    assert!(matches!(outcome(&mut lab, gone), Err(Error::ConnectionLost(lost)) if !lost.possibly_executed));
    let second = ask_for(&mut lab, 4, 0);
    // A new topology changes nothing about it.
    let conn = lab.open_conns(Some(2))[0];
    lab.cut(conn);
    wait(&mut lab, 300 * MILLISECOND);
    give_back(&mut lab, 1);
    assert!(outcome(&mut lab, first).is_ok());
    wait(&mut lab, 100 * MILLISECOND);
    assert_eq!(lab.outcome(second), None);
    give_back(&mut lab, 3);
    assert!(outcome(&mut lab, second).is_ok());
}

#[test]
fn a_borrower_waits_no_longer_than_the_check_out_time_out() {
    let mut lab = lab_with_pool(|config| config.pool.connections_max = 1);
    lend(&mut lab, 1, 0);
    let before = lab.now();
    let late = ask_for(&mut lab, 2, 0);
    let result = outcome(&mut lab, late);
    assert!(matches!(&result, Err(Error::LimitExceeded(text)) if text.contains("checkout")), "{result:?}");
    assert_eq!(lab.now() - before, 2 * SECOND);
    assert!(matches!(run_on(&mut lab, 2, "PING"), Err(Error::LimitExceeded(_))), "and so for good");
}

#[test]
fn what_a_borrower_leaves_is_undone_or_closed() {
    for (lines, undo) in [
        (&["PING"][..], &[][..]),
        (&["WATCH {t1}:v:0"], &["UNWATCH"]),
        (&["MULTI"], &["DISCARD"]),
        (&["WATCH {t1}:v:0", "MULTI", "GET {t1}:v:0"], &["DISCARD"]),
        (&["WATCH {t1}:v:0", "MULTI", "EXEC"], &[]),
    ] {
        let mut lab = lab_with_pool(|config| config.pool.connections_max = 1);
        let node = lab.servers.owner(slot_of("{t1}"));
        lend(&mut lab, 1, node);
        let conns = lab.open_conns(Some(node));
        for line in lines {
            run_on(&mut lab, 1, line).unwrap();
        }
        let mark = lab.sent().len();
        give_back(&mut lab, 1);
        let sent: Vec<_> = sent_since(&lab, mark).into_iter().flat_map(|(_, names)| names).collect();
        assert_eq!(sent, undo, "{lines:?}");
        lend(&mut lab, 2, node);
        assert_eq!(lab.open_conns(Some(node)), conns, "{lines:?}");
    }
    // The server refuses the last of the second, and so what it has left is not known.
    for lines in
        [&["SELECT 1"][..], &["WATCH {t1}:v:0", "EXEC"], &["ASKING"], &["READONLY"], &["CLIENT TRACKING ON"]]
    {
        let mut lab = lab_with_pool(|config| config.pool.connections_max = 1);
        let node = lab.servers.owner(slot_of("{t1}"));
        lend(&mut lab, 1, node);
        let conns = lab.open_conns(Some(node));
        for line in lines {
            let _ = run_on(&mut lab, 1, line);
        }
        give_back(&mut lab, 1);
        lend(&mut lab, 2, node);
        assert_ne!(lab.open_conns(Some(node)), conns, "{lines:?}");
    }
}

#[test]
fn a_connection_that_is_given_back_before_its_reply_is_closed() {
    let mut lab = lab_with_pool(|config| config.pool.connections_max = 1);
    lend(&mut lab, 1, 0);
    lab.servers.nodes[0].paused = true;
    let id = lab.submit_on(1, &words(&format!("INCR {}", key_at(0, 'i'))), None);
    lab.drain();
    let conns = lab.open_conns(Some(0));
    give_back(&mut lab, 1);
    assert!(matches!(outcome(&mut lab, id), Err(Error::ConnectionLost(lost)) if lost.possibly_executed));
    lab.resume(0);
    lend(&mut lab, 2, 0);
    assert_ne!(lab.open_conns(Some(0)), conns);
}

#[test]
fn a_server_that_does_not_answer_the_cleaning_keeps_no_place() {
    let mut lab = lab_with_pool(|config| config.pool.connections_max = 1);
    lend(&mut lab, 1, 0);
    run_on(&mut lab, 1, "MULTI").unwrap();
    let conn = *lab.open_conns(Some(0)).last().unwrap();
    lab.sever(conn);
    give_back(&mut lab, 1);
    let next = ask_for(&mut lab, 2, 0);
    assert!(outcome(&mut lab, next).is_ok());
}

#[test]
fn idle_connections_are_closed_in_time() {
    let open_after = |change: fn(&mut Config), waits: u64| {
        let mut lab = lab_with_pool(change);
        (1..=3).for_each(|lease| lend(&mut lab, lease, 0));
        (1..=3).for_each(|lease| give_back(&mut lab, lease));
        for _ in 0..waits {
            // Other nodes are used meanwhile.
            run(&mut lab, &format!("GET {}", key_at(1, 'g'))).unwrap();
            wait(&mut lab, SECOND);
        }
        run(&mut lab, &format!("GET {}", key_at(0, 'g'))).unwrap();
        lab.open_conns(Some(0)).len()
    };
    assert_eq!(open_after(|_| {}, 5), 4);
    assert_eq!(open_after(|config| config.pool.idle_timeout = Duration::from_secs(1), 5), 1);
    let idle_min = |config: &mut Config| {
        config.pool.idle_timeout = Duration::from_secs(1);
        config.pool.idle_min = 2;
    };
    assert_eq!(open_after(idle_min, 5), 3);
    assert_eq!(open_after(|config| config.pool.lifetime_max = Duration::from_secs(3), 5), 1);
}

#[test]
fn as_many_idle_connections_as_are_wanted_are_kept() {
    let mut lab = lab_with_pool(|config| config.pool.idle_min = 2);
    wait(&mut lab, SECOND);
    run(&mut lab, "PING").unwrap();
    wait(&mut lab, 10 * MILLISECOND);
    for node in 0..3 {
        assert_eq!(lab.open_conns(Some(node)).len(), 3);
    }
    let before = lab.now();
    lend(&mut lab, 1, 0);
    assert_eq!(lab.now() - before, 2 * MILLISECOND, "nothing was dialled");
}

#[test]
fn a_borrower_hears_that_its_connection_has_ended() {
    let mut lab = lab_with_pool(|_| {});
    lend(&mut lab, 1, 0);
    let conn = *lab.open_conns(Some(0)).last().unwrap();
    lab.cut(conn);
    wait(&mut lab, 10 * MILLISECOND);
    for _ in 0..2 {
        let result = run_on(&mut lab, 1, "PING");
        assert!(matches!(&result, Err(Error::ConnectionLost(lost)) if !lost.possibly_executed), "{result:?}");
    }
    give_back(&mut lab, 1);
    lend(&mut lab, 2, 0);
}

#[test]
fn a_connection_that_died_while_idle_is_not_lent() {
    let mut lab = lab_with_pool(|config| config.health_check_after = Duration::from_secs(1));
    lend(&mut lab, 1, 0);
    give_back(&mut lab, 1);
    let conn = *lab.open_conns(Some(0)).last().unwrap();
    lab.sever(conn);
    wait(&mut lab, 2 * SECOND);
    let before = lab.now();
    lend(&mut lab, 2, 0);
    assert!(lab.now() - before < SECOND + 20 * MILLISECOND);
}

#[test]
fn a_borrower_of_a_slot_that_nobody_serves_gets_one_when_somebody_does() {
    let slot = usize::from(slot_of(&key_at(0, 'g')));
    let mut lab = lab_with(Dialect::modern(), |config, servers| {
        config.request_timeout = Duration::from_secs(5);
        servers.nodes.iter_mut().for_each(|node| node.view.owners[slot] = NOBODY);
    });
    let id = ask_for(&mut lab, 1, 0);
    wait(&mut lab, SECOND);
    assert_eq!(lab.outcome(id), None);
    lab.servers.nodes.iter_mut().for_each(|node| node.view.owners[slot] = 0);
    let before = lab.now();
    assert!(outcome(&mut lab, id).is_ok());
    assert!(lab.now() - before < SECOND, "{}", lab.now() - before);
}

#[test]
fn a_hundred_thousand_requests_for_one_borrower_time_out_in_no_time() {
    let mut lab = lab_with_pool(|config| {
        config.pool.connections_max = 1;
        config.request_timeout = Duration::from_secs(1);
        config.attempt_timeout = None;
    });
    lend(&mut lab, 1, 0);
    let last = ask_for(&mut lab, 2, 0);
    for _ in 0..100_000 {
        lab.submit_on(2, &words("PING"), None);
    }
    lab.drain();
    let started = ThreadTime::now();
    assert!(outcome(&mut lab, last).is_err());
    wait(&mut lab, SECOND);
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert_eq!(lab.cluster.pending(), 0);
}

#[test]
fn idle_connections_of_borrowers_make_way_for_what_every_node_is_asked() {
    let mut lab = lab_with_pool(|config| config.connections_max = 3);
    for node in 0..3 {
        ask_for(&mut lab, node as u64, node);
    }
    // While borrowers' connections come up, requests begin to wait at every node.
    let ids = [0, 1, 2].map(|node| submit(&mut lab, &format!("GET {}", key_at(node, 'g'))));
    (0..3).for_each(|lease| lab.give_back(lease));
    lab.drain();
    assert_eq!(lab.held(), 3);
    for id in ids {
        assert_eq!(outcome(&mut lab, id), bulk("g:7"));
    }
}

#[test]
fn a_connection_that_ends_before_its_borrower_has_used_it_is_replaced() {
    let mut lab = lab_with_pool(|_| {});
    let shared = lab.open_conns(Some(0));
    lend(&mut lab, 1, 0);
    give_back(&mut lab, 1);
    let idle = lab.open_conns(Some(0)).into_iter().find(|conn| !shared.contains(conn)).unwrap();
    lab.cut(idle);
    // The news of its end comes before the first bytes go out.
    let marker = lab.lend(2, Slot::new(slot_of(&key_at(0, 'g'))));
    assert!(outcome(&mut lab, marker).is_ok());
    assert_eq!(lab.open_conns(Some(0)).len(), 2);
    // Once it is used, its end is the borrower's to know.
    let lent = lab.open_conns(Some(0)).into_iter().find(|conn| !shared.contains(conn)).unwrap();
    lab.cut(lent);
    wait(&mut lab, 10 * MILLISECOND);
    assert!(matches!(run_on(&mut lab, 2, "GET x"), Err(Error::ConnectionLost(_))));
}
