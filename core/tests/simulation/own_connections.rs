//! Transactions, scripts and commands that block: what is sent for them, where they follow, and
//! what is left behind.

use std::time::Duration;

use keyslot_core::cluster::{Command, Destination, RequestId};
use keyslot_core::error::Error;
use keyslot_core::resp::ReplyNode::{Array, Integer};
use keyslot_core::resp::{Reply, ReplyNode};
use keyslot_core::slot::Slot;
use keyslot_core::time::Instant;

use crate::lab::*;
use crate::simulator::operation::SCRIPT_SHA1;
use crate::simulator::server::{Condition, Migration};
use crate::simulator::world::{MILLISECOND, SECOND};

fn transaction(lab: &mut Lab, lines: &[&str]) -> Result<Command, Error> {
    let commands: Vec<Vec<&[u8]>> =
        lines.iter().map(|line| line.split(' ').map(str::as_bytes).collect()).collect();
    Command::transaction(&commands, lab.cluster.scripts())
}

fn hand_in(lab: &mut Lab, lines: &[&str], destination: &Destination) -> RequestId {
    let command = transaction(lab, lines).expect("a transaction");
    let id = lab.hand_in(command, destination);
    lab.note(id, SECOND);
    lab.drain();
    id
}

fn transact(lab: &mut Lab, lines: &[&str]) -> Result<Reply, Error> {
    let id = hand_in(lab, lines, &Destination::Cluster);
    outcome(lab, id)
}

fn counted(numbers: &[i64]) -> Result<Reply, Error> {
    let root = std::iter::once(Array(u32::try_from(numbers.len()).unwrap()));
    Ok(Reply { nodes: root.chain(numbers.iter().map(|number| Integer(*number))).collect() })
}

#[test]
fn a_transaction_is_one_write_to_one_node() {
    let mut lab = lab();
    let (mark, key) = (lab.sent().len(), key_at(1, 'i'));
    let incr = format!("INCR {key}");
    assert_eq!(transact(&mut lab, &[&incr, "PING", &incr]).unwrap().nodes.len(), 4);
    let names = ["MULTI", "INCR", "PING", "INCR", "EXEC"].map(String::from);
    assert_eq!(sent_since(&lab, mark), [(1, names.to_vec())]);
    assert_eq!(lab.open_conns(Some(1)).len(), 1, "it shares the connection of all");
}

#[test]
fn what_cannot_be_one_transaction_is_refused_unsent() {
    let mut lab = lab();
    let (one, other) = (key_at(0, 'i'), key_at(1, 'i'));
    let mark = lab.sent().len();
    let refused = transact(&mut lab, &[&format!("INCR {one}"), &format!("INCR {other}"), "PING"]);
    assert!(matches!(&refused, Err(Error::CrossSlot(why)) if why.contains("command 2")), "{refused:?}");
    let refused = transact(&mut lab, &[&format!("DEL {one} {other}")]);
    assert!(matches!(refused, Err(Error::CrossSlot(_))), "{refused:?}");
    assert!(sent_since(&lab, mark).is_empty());
    for lines in [&["WATCH a"][..], &["PING", ""], &["EXEC"]] {
        let refused = transaction(&mut lab, lines);
        assert!(matches!(refused, Err(Error::InvalidArgument(_))), "{lines:?}: {refused:?}");
    }
}

#[test]
fn a_transaction_without_commands_asks_only_whether_a_watched_key_has_changed() {
    let mut lab = lab();
    let mark = lab.sent().len();
    assert_eq!(transact(&mut lab, &[]), counted(&[]));
    assert!(sent_since(&lab, mark).is_empty());
    let key = key_at(0, 'i');
    let lease = lab.cluster.lend(Instant::from_nanoseconds(lab.now()), Slot::new(slot_of(&key)));
    let lent = Destination::Lent(lease);
    for has_changed in [false, true] {
        let watch = Command::for_lent(&["WATCH", &key]).unwrap();
        let id = lab.hand_in(watch, &lent);
        lab.note(id, SECOND);
        lab.drain();
        assert_eq!(outcome(&mut lab, id), ok());
        if has_changed {
            run(&mut lab, &format!("INCR {key}")).unwrap();
        }
        let expected = if has_changed { Ok(Reply::single(ReplyNode::Null)) } else { counted(&[]) };
        let id = hand_in(&mut lab, &[], &lent);
        assert_eq!(outcome(&mut lab, id), expected);
    }
    lab.cluster.give_back(lease);
    lab.drain();
    lab.cluster.close();
    let empty = transaction(&mut lab, &[]).unwrap();
    let id = lab.hand_in(empty, &Destination::Cluster);
    lab.note(id, SECOND);
    lab.drain();
    assert_eq!(outcome(&mut lab, id), Err(Error::Closed));
}

#[test]
fn a_transaction_follows_its_slot_as_a_whole() {
    let mut lab = lab();
    let (moved, asked) = (key_at(0, 'i'), key_at(1, 'i'));
    lab.servers.migrations.insert(slot_of(&moved), Migration { from: 0, to: 2, progress: 100 });
    lab.servers.finish_migration(slot_of(&moved));
    let incr = format!("INCR {moved}");
    assert_eq!(transact(&mut lab, &[&incr, &incr]), counted(&[7_001, 7_002]));
    assert_eq!(lab.cluster.statistics().moved, 1);

    lab.servers.migrations.insert(slot_of(&asked), Migration { from: 1, to: 2, progress: 100 });
    let (mark, incr) = (lab.sent().len(), format!("INCR {asked}"));
    assert_eq!(transact(&mut lab, &[&incr, &incr]), counted(&[7_001, 7_002]));
    let names: Vec<_> =
        sent_since(&lab, mark).into_iter().map(|(node, names)| (node, names.concat())).collect();
    assert_eq!(names, [(1, "MULTIINCRINCREXEC".into()), (2, "ASKINGMULTIINCRINCREXEC".into())]);
}

#[test]
fn a_transaction_waits_for_a_node_that_loads() {
    let mut lab = lab();
    let incr = format!("INCR {}", key_at(0, 'i'));
    lab.servers.nodes[0].condition = Condition::Loading;
    let id = hand_in(&mut lab, &[&incr], &Destination::Cluster);
    wait(&mut lab, 100 * MILLISECOND);
    lab.servers.nodes[0].condition = Condition::Normal;
    assert_eq!(outcome(&mut lab, id), counted(&[7_001]));
}

#[test]
fn an_aborted_transaction_says_which_command_was_refused() {
    let mut lab = lab();
    let incr = format!("INCR {}", key_at(0, 'i'));
    match transact(&mut lab, &[&incr, "NOSUCH"]) {
        Err(Error::Server(error)) => {
            assert_eq!(error.code, "EXECABORT");
            assert!(error.message.contains("command 2: ERR unknown command 'NOSUCH'"), "{error:?}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(transact(&mut lab, &[&incr]), counted(&[7_001]), "nothing was executed");
}

#[test]
fn a_lost_transaction_may_have_run_and_is_not_sent_again() {
    let mut lab = lab();
    let incr = format!("INCR {}", key_at(0, 'i'));
    let id = hand_in(&mut lab, &[&incr, &incr], &Destination::Cluster);
    for conn in lab.open_conns(Some(0)) {
        lab.cut(conn);
    }
    match outcome(&mut lab, id) {
        Err(Error::ConnectionLost(lost)) => assert!(lost.possibly_executed),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_watched_follows_its_slot_once_and_then_tells() {
    let mut lab = lab();
    let key = key_at(0, 'i');
    let slot = slot_of(&key);
    lab.servers.migrations.insert(slot, Migration { from: 0, to: 2, progress: 100 });
    lab.servers.finish_migration(slot);
    let lease = lab.cluster.lend(Instant::from_nanoseconds(lab.now()), Slot::new(slot));
    let lent = Destination::Lent(lease);
    let watch = Command::for_lent(&["WATCH", &key]).unwrap();
    let id = lab.hand_in(watch, &lent);
    lab.note(id, SECOND);
    lab.drain();
    assert_eq!(outcome(&mut lab, id), ok(), "WATCH goes where the slot is");
    let incr = format!("INCR {key}");
    let id = hand_in(&mut lab, &[&incr], &lent);
    assert_eq!(outcome(&mut lab, id), counted(&[7_001]));
    // From now on it stays.
    lab.servers.migrations.insert(slot, Migration { from: 2, to: 1, progress: 100 });
    lab.servers.finish_migration(slot);
    let id = hand_in(&mut lab, &[&incr], &lent);
    assert_eq!(outcome(&mut lab, id), Ok(Reply::single(ReplyNode::Null)), "it was not executed");
    let elsewhere = format!("INCR {}", key_at(1, 'i'));
    let id = hand_in(&mut lab, &[&elsewhere], &lent);
    assert!(matches!(outcome(&mut lab, id), Err(Error::CrossSlot(_))));
    lab.cluster.give_back(lease);
    lab.drain();
}

#[test]
fn a_script_that_is_known_is_sent_whole_to_who_does_not_know_it() {
    let mut lab = lab();
    let key = key_at(0, 'i');
    let command = format!("EVALSHA {SCRIPT_SHA1} 1 {key}");
    let mark = lab.sent().len();
    // The servers forget it every third time.
    for number in 1..=6 {
        assert_eq!(run(&mut lab, &command), Ok(Reply::single(Integer(7_000 + number))));
    }
    let sent: Vec<_> = sent_since(&lab, mark).into_iter().flat_map(|(_, names)| names).collect();
    assert!(sent.contains(&"EVAL".to_string()) && sent.contains(&"EVALSHA".to_string()), "{sent:?}");
    let mark = lab.sent().len();
    assert_eq!(transact(&mut lab, &[&command, &command]), counted(&[7_007, 7_008]));
    assert_eq!(sent_since(&lab, mark)[0].1.concat(), "MULTIEVALEVALEXEC");
}

#[test]
fn what_blocks_has_a_connection_for_itself_and_gives_it_back() {
    let mut lab = lab();
    let key = key_at(0, 'p');
    assert_eq!(lab.open_conns(Some(0)).len(), 1);
    let popped = run(&mut lab, &format!("BLPOP {key} 1")).unwrap();
    assert_eq!(popped.nodes.len(), 3);
    assert_eq!(lab.open_conns(Some(0)).len(), 2);
    wait(&mut lab, 10 * MILLISECOND);
    run(&mut lab, &format!("BLPOP {key} 1")).unwrap();
    assert_eq!(lab.open_conns(Some(0)).len(), 2, "the same one again");
}

/// Also what the client sends of its own accord before a command on a dedicated connection.
#[test]
fn every_command_that_is_sent_is_counted() {
    let mut lab = lab();
    let key = key_at(1, 'p');
    lab.servers.migrations.insert(slot_of(&key), Migration { from: 1, to: 2, progress: 100 });
    let mark = lab.sent().len();
    run(&mut lab, &format!("BLPOP {key} 1")).unwrap();
    wait(&mut lab, 100 * MILLISECOND);
    let names: Vec<_> = sent_since(&lab, mark).into_iter().map(|(_, names)| names.concat()).collect();
    assert_eq!(names, ["BLPOP", "ASKINGBLPOP"]);
    let sent: usize = lab.sent().iter().map(|sent| sent.commands.len()).sum();
    assert_eq!(lab.cluster.statistics().commands, sent as u64);
}

/// A node that answers no more, and an idle connection to it.
fn lab_that_blocks() -> (Lab, String) {
    let mut lab = lab();
    let key = key_at(0, 'p');
    run(&mut lab, &format!("BLPOP {key} 1")).unwrap();
    lab.servers.nodes[0].paused = true;
    (lab, key)
}

#[test]
fn what_blocks_waits_as_long_as_it_says() {
    let (mut lab, key) = lab_that_blocks();
    let (started, id) = (lab.now(), submit_blocking(&mut lab, &format!("BLPOP {key} 1.5")));
    let ended = outcome(&mut lab, id);
    assert!(matches!(&ended, Err(Error::Timeout(late)) if late.possibly_executed), "{ended:?}");
    let took = Duration::from_nanos(lab.now() - started);
    assert!((2_500..2_510).contains(&took.as_millis()), "its own time and the request time-out: {took:?}");
    assert_eq!(lab.cluster.pending(), 0);
}

#[test]
fn what_blocks_and_is_given_up_has_its_connection_closed() {
    let (mut lab, key) = lab_that_blocks();
    let before = lab.open_conns(Some(0)).len();
    let id = submit_blocking(&mut lab, &format!("BLPOP {key} 0"));
    wait(&mut lab, 60 * SECOND);
    assert_eq!(lab.outcome(id), None, "it waits until there is something");
    lab.cluster.forget(id);
    lab.history.forgotten(id);
    lab.drain();
    assert_eq!(lab.open_conns(Some(0)).len(), before - 1);
    assert_eq!(lab.cluster.pending(), 0);
}

#[test]
fn only_a_demotion_sends_a_blocked_command_elsewhere() {
    let mut lab = lab();
    let key = key_at(0, 'p');
    let mut blocked = |words: &str| {
        lab.servers.nodes[0].lies.insert(slot_of(&key), format!("UNBLOCKED {words}"));
        let (started, mark) = (lab.now(), lab.sent().len());
        let id = submit_blocking(&mut lab, &format!("BLPOP {key} 4"));
        wait(&mut lab, 100 * MILLISECOND);
        lab.servers.nodes[0].lies.clear();
        let ended = outcome(&mut lab, id);
        (ended, sent_since(&lab, mark).len(), Duration::from_nanos(lab.now() - started))
    };
    for words in
        ["the stream key no longer exists", "client unblocked via CLIENT UNBLOCK", "as a module has it"]
    {
        let (ended, sent, took) = blocked(words);
        assert!(matches!(&ended, Err(Error::Server(error)) if error.message == words), "{ended:?}");
        assert_eq!(sent, 1, "{words}");
        assert!(took.as_millis() <= 100, "{took:?}");
    }
    let (ended, sent, _) =
        blocked("force unblock from blocking operation, instance state changed (master -> replica?)");
    assert_eq!(ended.unwrap().nodes.len(), 3);
    assert!(sent > 1);
}

#[test]
fn what_is_behind_a_command_that_blocks_has_its_time_once_that_is_answered() {
    let mut lab = lab();
    let (list, key) = (key_at(0, 'p'), key_at(0, 'g'));
    let lease = lab.cluster.lend(Instant::from_nanoseconds(lab.now()), Slot::new(slot_of(&list)));
    let on_lease = |lab: &mut Lab, line: &str| {
        let command = Command::for_lent(&words(line)).unwrap();
        let id = lab.hand_in(command, &Destination::Lent(lease));
        lab.note(id, 100 * SECOND);
        lab.drain();
        id
    };
    let ready = on_lease(&mut lab, "PING");
    outcome(&mut lab, ready).unwrap();
    let popped = on_lease(&mut lab, &format!("BLPOP {list} 0"));
    wait(&mut lab, MILLISECOND / 2);
    let behind = on_lease(&mut lab, &format!("GET {key}"));
    // The first has arrived, the second has not.
    wait(&mut lab, MILLISECOND * 3 / 4);
    lab.servers.nodes[0].paused = true;
    outcome(&mut lab, popped).unwrap();
    let answered = lab.now();
    let ended = outcome(&mut lab, behind);
    assert!(matches!(ended, Err(Error::Timeout(_))), "{ended:?}");
    let took = Duration::from_nanos(lab.now() - answered);
    assert!((1_000..1_010).contains(&took.as_millis()), "{took:?}");
    lab.cluster.give_back(lease);
    lab.drain();
}

/// As `submit`, of a command whose time is not the history's business.
pub(crate) fn submit_blocking(lab: &mut Lab, line: &str) -> RequestId {
    let command = Command::new(&words(line)).unwrap();
    let id = lab.hand_in(command, &Destination::Cluster);
    lab.note(id, 100 * SECOND);
    lab.drain();
    id
}
