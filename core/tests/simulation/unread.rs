//! What a driver says of sockets that it has not read to their end.

use crate::lab::*;
use crate::simulator::world::MILLISECOND;

#[test]
fn nothing_is_written_to_a_connection_that_owes_nothing_and_is_not_read_to_its_end() {
    let mut lab = lab();
    let (conn, mark) = (lab.open_conns(Some(0))[0], lab.sent().len());
    lab.cluster.set_unread(conn, true);
    let held = submit(&mut lab, &format!("GET {}", key_at(0, 'g')));
    let other = submit(&mut lab, &format!("GET {}", key_at(1, 'g')));
    assert_eq!(outcome(&mut lab, other), bulk("g:7"), "the other nodes are written to");
    wait(&mut lab, 50 * MILLISECOND);
    let names = |lab: &Lab| sent_since(lab, mark);
    assert_eq!(names(&lab), [(1, vec!["GET".to_string()])]);
    assert_eq!(lab.outcome(held), None);

    lab.cluster.set_unread(conn, false);
    lab.drain();
    assert_eq!(outcome(&mut lab, held), bulk("g:7"));
    assert_eq!(names(&lab).len(), 2, "it is sent once");
}

#[test]
fn what_is_held_back_runs_out_of_time_and_was_not_executed() {
    let mut lab = lab();
    let (conn, mark) = (lab.open_conns(Some(0))[0], lab.sent().len());
    lab.cluster.set_unread(conn, true);
    let id = submit(&mut lab, &format!("SET {} 1", key_at(0, 's')));
    match outcome(&mut lab, id) {
        Err(keyslot_core::error::Error::Timeout(late)) => assert!(!late.possibly_executed, "{late:?}"),
        other => panic!("{other:?}"),
    }
    assert!(sent_since(&lab, mark).iter().all(|(_, names)| names.iter().all(|name| name != "SET")));
}

#[test]
fn a_connection_that_owes_a_reply_is_written_to_all_the_same() {
    let mut lab = lab();
    let conn = lab.open_conns(Some(0))[0];
    let first = submit(&mut lab, &format!("GET {}", key_at(0, 'g')));
    lab.cluster.set_unread(conn, true);
    let mark = lab.sent().len();
    let second = submit(&mut lab, &format!("GET {}", key_at(0, 'g')));
    assert_eq!(sent_since(&lab, mark), [(0, vec!["GET".to_string()])]);
    assert_eq!(outcome(&mut lab, first), bulk("g:7"));
    assert_eq!(outcome(&mut lab, second), bulk("g:7"));
}
