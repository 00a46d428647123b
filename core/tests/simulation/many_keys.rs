//! Commands with keys in several slots: cut, sent to all nodes at once, merged; and what is told
//! when a part fails.

use std::time::Duration;

use keyslot_core::error::{Error, ServerError};
use keyslot_core::resp::ReplyNode::{Array, BulkString, Integer};
use keyslot_core::resp::{Reply, ReplyNode};

use crate::lab::*;
use crate::simulator::server::{Dialect, Migration, Reach};
use crate::simulator::world::MILLISECOND;

fn value(text: &str) -> ReplyNode {
    BulkString(text.to_string().into())
}

fn three_keys(kind: char) -> String {
    format!("{} {} {}", key_at(0, kind), key_at(1, kind), key_at(2, kind))
}

#[test]
fn keys_of_all_nodes_cost_one_write_a_node_and_keep_their_order() {
    let mut lab = lab();
    let mark = lab.sent().len();
    let keys = format!("{} {} {} {}", key_at(2, 'g'), key_at(0, 'h'), key_at(1, 'g'), key_at(2, 'g'));
    let expected = [Array(4), value("g:7"), value("h:7"), value("g:7"), value("g:7")];
    assert_eq!(run(&mut lab, &format!("MGET {keys}")), Ok(Reply { nodes: expected.to_vec() }));
    let mut sent = sent_since(&lab, mark);
    sent.sort();
    let get = || vec!["MGET".to_string()];
    assert_eq!(sent, [(0, get()), (1, get()), (2, get())]);
}

#[test]
fn parts_are_summed() {
    let mut lab = lab();
    let deleted = run(&mut lab, &format!("DEL {}", three_keys('d')));
    assert_eq!(deleted, Ok(Reply::single(Integer(3))));
    assert_eq!(run(&mut lab, &format!("DEL {}", three_keys('d'))), Ok(Reply::single(Integer(0))));
}

#[test]
fn a_part_follows_its_slot() {
    let mut lab = lab();
    let (moved, asked) = (key_at(0, 'g'), key_at(1, 'g'));
    lab.servers.migrations.insert(slot_of(&moved), Migration { from: 0, to: 2, progress: 100 });
    lab.servers.finish_migration(slot_of(&moved));
    lab.servers.migrations.insert(slot_of(&asked), Migration { from: 1, to: 2, progress: 100 });
    let expected = [Array(3), value("g:7"), value("g:7"), value("g:7")];
    assert_eq!(run(&mut lab, &format!("MGET {}", three_keys('g'))), Ok(Reply { nodes: expected.to_vec() }));
}

#[test]
fn an_error_says_which_keys_failed_and_that_others_may_have_been_written() {
    let mut lab = lab();
    lab.servers.nodes[1].reach = Reach::Refusing;
    for conn in lab.open_conns(Some(1)) {
        lab.cut(conn);
    }
    wait(&mut lab, 10 * MILLISECOND);
    let error = run(&mut lab, &format!("DEL {}", three_keys('d'))).unwrap_err();
    let Error::PartlyExecuted(lost) = error else { panic!("{error:?}") };
    assert!(lost.possibly_executed);
    let failed = key_at(1, 'd');
    let named = lost.message.contains(&format!("2 of 3 parts succeeded; failed: \"{failed}\""));
    assert!(named, "{}", lost.message);
    // A command that only reads has not executed anything.
    let error = run(&mut lab, &format!("MGET {}", three_keys('g'))).unwrap_err();
    assert!(matches!(&error, Error::Connect(why) if why.contains(&key_at(1, 'g'))), "{error:?}");
}

#[test]
fn all_parts_have_the_time_of_the_whole() {
    let mut lab = lab();
    lab.servers.nodes[1].paused = true;
    let started = lab.now();
    let error = run(&mut lab, &format!("DEL {}", three_keys('d'))).unwrap_err();
    assert!(matches!(&error, Error::Timeout(late) if late.possibly_executed), "{error:?}");
    let took = Duration::from_nanos(lab.now() - started);
    assert!((1_000..1_010).contains(&took.as_millis()), "{took:?}");
}

#[test]
fn giving_up_the_whole_gives_up_its_parts() {
    let mut lab = lab();
    let before = lab.cluster.footprint();
    let id = submit(&mut lab, &format!("MGET {}", three_keys('g')));
    lab.cluster.forget(id);
    lab.history.forgotten(id);
    wait(&mut lab, 100 * MILLISECOND);
    assert_eq!(lab.cluster.pending(), 0);
    assert!(lab.cluster.footprint() <= before + 4, "{} {before}", lab.cluster.footprint());
}

#[test]
fn a_command_for_all_shards_asks_each_primary() {
    let mut lab = lab_with_replicas();
    let mark = lab.sent().len();
    assert!(run(&mut lab, "PING").is_ok());
    let mut nodes: Vec<_> = sent_since(&lab, mark).into_iter().map(|(node, _)| node).collect();
    nodes.sort_unstable();
    assert_eq!(nodes, [0, 1, 2]);
}

#[test]
fn without_splitting_keys_of_two_slots_are_refused_unsent() {
    let mut lab = lab_with(Dialect::modern(), |config, _| config.split_multi_key = false);
    let mark = lab.sent().len();
    let result = run(&mut lab, &format!("MGET {} {}", key_at(0, 'g'), key_at(1, 'g')));
    assert!(matches!(result, Err(Error::CrossSlot(_))), "{result:?}");
    // These treat their keys together.
    let result = run(&mut lab, &format!("MSETNX {} 1 {} 1", key_at(0, 's'), key_at(1, 's')));
    assert!(matches!(result, Err(Error::CrossSlot(_))), "{result:?}");
    assert!(sent_since(&lab, mark).is_empty());
}

/// Some servers take MSETEX with whatever keys: what is sent to the wrong node is lost.
#[test]
fn what_no_server_checks_goes_where_its_keys_are() {
    let mut lab = lab();
    let (a, b) = (key_at(0, 's'), key_at(1, 's'));
    let mark = lab.sent().len();
    assert_eq!(run(&mut lab, &format!("MSETEX 2 {a} 1 {b} 2 EX 50")), Ok(Reply::single(Integer(1))));
    let mut sent: Vec<_> = lab.sent()[mark..].iter().map(|sent| (sent.node, sent.commands.clone())).collect();
    sent.sort();
    let part = |key: &str, value: u8| vec![words(&format!("MSETEX 1 {key} {value} EX 50"))];
    assert_eq!(sent, [(0, part(&a, 1)), (1, part(&b, 2))]);
    let mark = lab.sent().len();
    for condition in ["NX", "XX", "EX 50 NX", "NEWER"] {
        let result = run(&mut lab, &format!("MSETEX 2 {a} 1 {b} 2 {condition}"));
        assert!(matches!(result, Err(Error::CrossSlot(_))), "{condition}: {result:?}");
    }
    assert!(sent_since(&lab, mark).is_empty());
}

#[test]
fn what_every_node_says_is_said_once() {
    let mut lab = lab_with_replicas();
    let alone =
        |message: &str| Err(Error::Server(ServerError { code: "ERR".into(), message: message.into() }));
    let unknown = "unknown command 'CONFIG', with args beginning with: ";
    assert_eq!(run(&mut lab, "CONFIG SET nosuch 1"), alone(unknown));
    let refused = "OOM command not allowed when used memory > 'maxmemory'.";
    let keys = three_keys('d');
    for (node, key) in keys.split(' ').enumerate() {
        lab.servers.nodes[node].lies.insert(slot_of(key), refused.into());
    }
    let (code, message) = refused.split_once(' ').unwrap();
    let error = Error::Server(ServerError { code: code.into(), message: message.into() });
    assert_eq!(run(&mut lab, &format!("DEL {keys}")), Err(error));
}

#[test]
fn a_part_that_was_refused_is_no_lost_connection() {
    let mut lab = lab();
    let refused = key_at(1, 'd');
    lab.servers.nodes[1]
        .lies
        .insert(slot_of(&refused), "NOREPLICAS Not enough good replicas to write.".into());
    let error = run(&mut lab, &format!("DEL {}", three_keys('d'))).unwrap_err();
    let Error::PartlyExecuted(partly) = error else { panic!("{error:?}") };
    assert!(partly.possibly_executed);
    let expected = format!(
        "NOREPLICAS Not enough good replicas to write. (2 of 3 parts succeeded; failed: \"{refused}\")"
    );
    assert_eq!(partly.message, expected);
}

#[test]
fn a_scan_goes_on_where_its_cursor_is_from() {
    let mut lab = lab();
    let mark = lab.sent().len();
    let refused = run(&mut lab, "SCAN 17 COUNT 5");
    assert!(matches!(&refused, Err(Error::InvalidArgument(why)) if why.contains("`scan`")), "{refused:?}");
    assert!(sent_since(&lab, mark).is_empty());
    assert!(run(&mut lab, "SCAN 0").is_ok());
    // A server alone is the one node that there is.
    let mut alone = lab_with(Dialect { cluster: false, ..Dialect::modern() }, |_, _| {});
    assert!(run(&mut alone, "SCAN 17").is_ok());
}
