//! The cases that deserve a name: one fault each, on a calm network where every piece takes a
//! millisecond.

use keyslot_core::error::Error;

use crate::lab::*;
use crate::simulator::server::{Dialect, Migration, Reach};
use crate::simulator::wire::Garbage;
use crate::simulator::world::{MILLISECOND, SECOND};

#[test]
fn a_pipeline_to_one_node_is_one_transmit() {
    let mut lab = lab();
    let (mark, key) = (lab.sent().len(), key_at(1, 'g'));
    let ids: Vec<_> = (0..50).map(|_| lab.submit(&words(&format!("GET {key}")), None).unwrap()).collect();
    lab.drain();
    for id in ids {
        assert_eq!(outcome(&mut lab, id), bulk("g:7"));
    }
    assert_eq!(sent_since(&lab, mark), [(1, vec!["GET".to_string(); 50])]);
}

#[test]
fn a_pipeline_to_all_nodes_is_one_transmit_each() {
    let mut lab = lab();
    let mark = lab.sent().len();
    for number in 0..30 {
        lab.submit(&words(&format!("GET {}", key_at(number % 3, 'g'))), None).unwrap();
    }
    lab.drain();
    let mut nodes: Vec<_> =
        sent_since(&lab, mark).into_iter().map(|(node, names)| (node, names.len())).collect();
    nodes.sort_unstable();
    assert_eq!(nodes, [(0, 10), (1, 10), (2, 10)]);
}

#[test]
fn ask_sends_asking_and_the_command_in_one_transmit() {
    let mut lab = lab();
    let key = key_at(0, 'g');
    lab.servers.migrations.insert(slot_of(&key), Migration { from: 0, to: 2, progress: 100 });
    let mark = lab.sent().len();
    for _ in 0..2 {
        assert_eq!(run(&mut lab, &format!("GET {key}")), bulk("g:7"));
    }
    // ASK says nothing about the next command: that goes to the old node first again.
    let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    let once = [(0, names(&["GET"])), (2, names(&["ASKING", "GET"]))];
    assert_eq!(sent_since(&lab, mark), [once.clone(), once].concat());
    assert_eq!(refreshes_since(&lab, mark), 0);
}

#[test]
fn a_log_in_that_is_gone_and_a_right_that_is_missing_are_told_apart() {
    let mut lab = lab();
    let key = key_at(0, 'g');
    let mark = lab.sent().len();
    let mut refused = |text: &str| {
        lab.servers.nodes[0].lies.insert(slot_of(&key), text.to_string());
        run(&mut lab, &format!("GET {key}"))
    };
    let gone = refused("NOAUTH Authentication required.");
    assert_eq!(gone, Err(Error::Authentication("NOAUTH Authentication required.".into())));
    for text in
        ["NOPERM User ada has no permissions to run the 'get' command", "WRONGPASS in a module's words"]
    {
        assert!(matches!(refused(text), Err(Error::Server(error)) if error.to_string() == text), "{text}");
    }
    lab.servers.nodes[0].lies.clear();
    assert_eq!(run(&mut lab, &format!("GET {key}")), bulk("g:7"));
    let sent = sent_since(&lab, mark);
    assert!(sent.len() == 4 && sent.iter().all(|(node, names)| (*node, names.len()) == (0, 1)), "{sent:?}");
}

#[test]
fn moved_patches_the_slot_at_once_and_asks_for_the_topology_once() {
    let mut lab = lab();
    let key = key_at(0, 'g');
    lab.servers.migrations.insert(slot_of(&key), Migration { from: 0, to: 2, progress: 100 });
    lab.servers.finish_migration(slot_of(&key));
    (0..3).for_each(|node| lab.servers.gossip(node));
    let mark = lab.sent().len();
    assert_eq!(run(&mut lab, &format!("GET {key}")), bulk("g:7"));
    assert_eq!(run(&mut lab, &format!("GET {key}")), bulk("g:7"));
    let nodes: Vec<_> = sent_since(&lab, mark).into_iter().map(|(node, _)| node).collect();
    assert_eq!(nodes, [0, 2, 2]);
    wait(&mut lab, SECOND);
    // One round, and each of the three nodes was asked in it.
    assert_eq!(refreshes_since(&lab, mark), 3);
}

#[test]
fn redirects_in_a_circle_end() {
    for code in ["MOVED", "ASK"] {
        let mut lab = lab();
        let key = key_at(0, 's');
        let slot = slot_of(&key);
        for (node, other) in [(0, 1), (1, 0)] {
            let text = lab.servers.redirect_text(code, slot, other);
            lab.servers.nodes[node].lies.insert(slot, text);
        }
        let mark = lab.sent().len();
        let result = run(&mut lab, &format!("SET {key} 1"));
        assert!(matches!(result, Err(Error::RedirectLimit(_))), "{result:?}");
        assert_eq!(sent_since(&lab, mark).len(), 17, "the command and 16 redirects");
    }
}

#[test]
fn nodes_that_only_redirects_name_are_forgotten() {
    let mut lab = lab();
    let key = key_at(0, 's');
    let slot = slot_of(&key);
    let before = lab.cluster.footprint();
    for port in 1..=50 {
        lab.servers.nodes[0].lies.insert(slot, format!("MOVED {slot} 10.9.9.9:{port}"));
        let id = submit(&mut lab, &format!("SET {key} 1"));
        wait(&mut lab, 20 * MILLISECOND);
        lab.servers.nodes[0].lies.clear();
        let _ = outcome(&mut lab, id);
    }
    wait(&mut lab, 2 * SECOND);
    assert!(run(&mut lab, &format!("SET {key} 1")).is_ok());
    wait(&mut lab, 2 * SECOND);
    let after = lab.cluster.footprint();
    assert!(after <= before + 2, "{before} things were held before, {after} are now");
}

#[test]
fn a_lost_connection_sends_reads_again_and_tells_writes() {
    let mut lab = lab();
    lab.servers.nodes[0].paused = true;
    let read = submit(&mut lab, &format!("GET {}", key_at(0, 'g')));
    let write = submit(&mut lab, &format!("SET {} 1", key_at(0, 's')));
    wait(&mut lab, 10 * MILLISECOND);
    for conn in lab.open_conns(Some(0)) {
        lab.cut(conn);
    }
    lab.resume(0);
    assert_eq!(outcome(&mut lab, read), bulk("g:7"));
    match outcome(&mut lab, write) {
        Err(Error::ConnectionLost(lost)) => {
            assert!(lost.possibly_executed && lost.node == "10.0.0.1:7000", "{lost:?}");
        }
        other => panic!("{other:?}"),
    }
    assert!(lab.servers.executions.is_empty(), "the write was not sent again");
}

#[test]
fn a_write_that_was_never_sent_goes_out_on_the_next_connection() {
    let mut lab = lab_with(Dialect::modern(), |config, _| config.seeds.truncate(1));
    lab.servers.nodes[1].reach = Reach::Refusing;
    let id = submit(&mut lab, &format!("SET {} 1", key_at(1, 's')));
    wait(&mut lab, 100 * MILLISECOND);
    assert_eq!(lab.outcome(id), None);
    lab.servers.nodes[1].reach = Reach::Up;
    assert_eq!(outcome(&mut lab, id), ok());
    assert_eq!(lab.servers.executions.get(&7), Some(&1));
}

#[test]
fn a_late_reply_goes_to_nobody_and_the_connection_stays_aligned() {
    let mut lab = lab();
    lab.servers.nodes[0].paused = true;
    let conns = lab.open_conns(Some(0));
    let (early, late) = (key_at(0, 'g'), key_at(0, 'h'));
    let before = submit(&mut lab, &format!("GET {early}"));
    let first = submit(&mut lab, &format!("GET {early}"));
    wait(&mut lab, 500 * MILLISECOND);
    let second = submit(&mut lab, &format!("GET {late}"));
    // One reply and half of the next: the connection is slow, not silent, and the next has not been
    // due for long.
    lab.reply(conns[0], b"$3\r\ng:7\r\n$3\r\ng:".to_vec(), false);
    assert_eq!(outcome(&mut lab, before), bulk("g:7"));
    match outcome(&mut lab, first) {
        Err(Error::Timeout(interrupted)) => assert!(interrupted.possibly_executed, "{interrupted:?}"),
        other => panic!("{other:?}"),
    }
    lab.reply(conns[0], b"7\r\n$3\r\nh:7\r\n".to_vec(), false);
    assert_eq!(outcome(&mut lab, second), bulk("h:7"));
    assert_eq!(lab.open_conns(Some(0)), conns, "the connection is the same");
}

#[test]
fn a_silent_connection_is_given_up_and_the_others_are_not_slowed() {
    let mut lab = lab();
    let conns = lab.open_conns(Some(0));
    lab.sever(conns[0]);
    let silent = submit(&mut lab, &format!("SET {} 1", key_at(0, 's')));
    let before = lab.now();
    assert_eq!(run(&mut lab, &format!("GET {}", key_at(1, 'g'))), bulk("g:7"));
    assert!(lab.now() - before < 10 * MILLISECOND);
    let result = outcome(&mut lab, silent);
    assert!(
        matches!(&result, Err(Error::Timeout(interrupted)) if interrupted.possibly_executed),
        "{result:?}"
    );
    assert_eq!(run(&mut lab, &format!("GET {}", key_at(0, 'g'))), bulk("g:7"));
    assert_ne!(lab.open_conns(Some(0)), conns);
}

#[test]
fn a_topology_question_without_an_answer_finds_a_silent_connection_out() {
    let mut lab = lab_with(Dialect::modern(), |config, _| config.seeds.truncate(2));
    let silent = lab.open_conns(Some(0))[0];
    lab.sever(silent);
    // The lost connection puts the topology in doubt, and only the silent one is left to ask.
    let lost = lab.open_conns(Some(1))[0];
    lab.cut(lost);
    wait(&mut lab, 5 * SECOND);
    assert!(!lab.open_conns(Some(0)).contains(&silent), "asked again and again for ever");
    assert_eq!(run(&mut lab, &format!("GET {}", key_at(0, 'g'))), bulk("g:7"));
}

#[test]
fn a_forgotten_request_does_not_complete() {
    let mut lab = lab();
    let forgotten = submit(&mut lab, &format!("GET {}", key_at(0, 'g')));
    let kept = submit(&mut lab, &format!("GET {}", key_at(0, 'h')));
    lab.cluster.forget(forgotten);
    lab.history.forgotten(forgotten);
    lab.drain();
    assert_eq!(outcome(&mut lab, kept), bulk("h:7"));
    wait(&mut lab, 3 * SECOND);
    assert_eq!(lab.cluster.pending(), 0);
}

#[test]
fn a_reply_that_nobody_asked_for_closes_the_connection() {
    let mut lab = lab();
    let conns = lab.open_conns(Some(0));
    lab.reply(conns[0], b"+HI\r\n".to_vec(), true);
    wait(&mut lab, 10 * MILLISECOND);
    assert!(!lab.open_conns(Some(0)).contains(&conns[0]));
    assert_eq!(run(&mut lab, &format!("GET {}", key_at(0, 'g'))), bulk("g:7"));
}

#[test]
fn garbage_closes_the_connection_and_the_next_command_is_served() {
    for garbage in Garbage::ALL {
        let mut lab = lab();
        lab.servers.nodes[0].paused = true;
        let conn = lab.open_conns(Some(0))[0];
        let id = submit(&mut lab, &format!("SET {} 1", key_at(0, 's')));
        lab.reply(conn, garbage.bytes(), true);
        match outcome(&mut lab, id) {
            Err(Error::Protocol(_) | Error::LimitExceeded(_)) => {}
            Err(Error::ConnectionLost(lost)) => assert!(lost.possibly_executed, "{lost:?}"),
            other => panic!("{garbage:?}: {other:?}"),
        }
        lab.sever(conn);
        lab.resume(0);
        assert_eq!(run(&mut lab, &format!("SET {} 1", key_at(0, 's'))), ok());
    }
}

#[test]
fn a_server_without_hello_is_spoken_to_in_resp2() {
    for password in [None, Some("secret".to_string())] {
        let dialect = Dialect {
            hello: false,
            setinfo: false,
            shards: false,
            password: password.clone(),
            ..Dialect::modern()
        };
        let mut lab = lab_with(dialect, |config, _| config.password = password);
        assert_eq!(lab.ready(), Some(&Ok(())));
        assert_eq!(run(&mut lab, &format!("GET {}", key_at(2, 'g'))), bulk("g:7"));
    }
}

#[test]
fn a_wrong_password_is_told_but_not_shown() {
    for hello in [true, false] {
        let dialect = Dialect { hello, password: Some("right".into()), ..Dialect::modern() };
        let lab = lab_with(dialect, |config, _| config.password = Some("hunter2".into()));
        match lab.ready() {
            Some(Err(error @ Error::Authentication(_))) => {
                assert!(!format!("{error} {error:?}").contains("hunter2"));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_missing_password_is_an_authentication_error() {
    for hello in [true, false] {
        let dialect = Dialect { hello, password: Some("right".into()), ..Dialect::modern() };
        let lab = lab_with(dialect, |_, _| {});
        assert!(matches!(lab.ready(), Some(Err(Error::Authentication(_)))), "{:?}", lab.ready());
    }
}

#[test]
fn unreachable_seeds_are_named_within_the_connect_time_out() {
    for reach in [Reach::BlackHole, Reach::Refusing] {
        let mut lab = lab_with(Dialect::modern(), |_, servers| {
            servers.nodes.iter_mut().for_each(|node| node.reach = reach);
        });
        match lab.ready() {
            Some(Err(Error::Connect(text))) => {
                for seed in ["10.0.0.1:7000", "10.0.0.2:7001", "10.0.0.3:7002"] {
                    assert!(text.contains(seed), "{text}");
                }
            }
            other => panic!("{other:?}"),
        }
        assert!(lab.now() <= SECOND + 21 * MILLISECOND);
        assert!(run(&mut lab, "PING").is_err());
    }
}

#[test]
fn one_reachable_seed_is_enough() {
    let mut lab = lab_with(Dialect::modern(), |_, servers| {
        servers.nodes[0].reach = Reach::BlackHole;
        servers.nodes[1].reach = Reach::Refusing;
    });
    assert_eq!(lab.ready(), Some(&Ok(())));
    assert!(lab.now() < 100 * MILLISECOND, "the silent seed is not waited for");
    assert_eq!(run(&mut lab, &format!("GET {}", key_at(2, 'g'))), bulk("g:7"));
}

#[test]
fn a_server_that_is_no_cluster_is_used_alone() {
    let mut lab =
        lab_with(Dialect { cluster: false, ..Dialect::modern() }, |config, _| config.seeds.truncate(1));
    assert_eq!(lab.ready(), Some(&Ok(())));
    for node in 0..3 {
        assert_eq!(run(&mut lab, &format!("GET {}", key_at(node, 'g'))), bulk("g:7"));
    }
    let both = run(&mut lab, &format!("MGET {} {}", key_at(0, 'g'), key_at(1, 'g')));
    assert!(both.is_ok(), "a server alone takes keys of all slots: {both:?}");
}
