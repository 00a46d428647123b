//! Shows that the simulated servers do what real ones do, where the machine relies on it: each test
//! speaks to them without a machine between.

use crate::lab::{key_at, slot_of, words};
use crate::simulator::server::{Dialect, MILLISECOND, Migration, Servers, Session};
use crate::simulator::view::NODE_TIMEOUT;
use crate::simulator::wire::Answer;

/// Three primaries with a replica each: nodes 3, 4 and 5.
fn servers() -> Servers {
    Servers::new(Dialect::modern(), 3, 1, false)
}

/// What a connection is answered, each in RESP2.
fn say(servers: &mut Servers, session: &mut Session, line: &str) -> String {
    let answer: Answer = servers.execute(session, &words(line));
    let mut bytes = Vec::new();
    answer.encode(false, &mut bytes);
    String::from_utf8(bytes).unwrap()
}

/// The number in this field of CLUSTER INFO.
fn epoch(servers: &mut Servers, node: usize, field: &str) -> u64 {
    let mut session = servers.session(node);
    let info = say(servers, &mut session, "CLUSTER INFO");
    let line = info.split("\r\n").find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("{field} in {info}")).parse().unwrap()
}

#[test]
fn a_replica_answers_reads_under_readonly_only_and_from_the_past() {
    let mut servers = servers();
    let key = key_at(0, 'v');
    servers.nodes[3].lag = 100 * MILLISECOND;
    let (mut primary, mut replica) = (servers.session(0), servers.session(3));
    let (get, set) = (format!("GET {key}"), format!("SET {key} 1"));
    assert_eq!(say(&mut servers, &mut primary, &set), "+OK\r\n");
    assert!(say(&mut servers, &mut replica, &get).starts_with("-MOVED"));
    assert_eq!(say(&mut servers, &mut replica, "READONLY"), "+OK\r\n");
    assert_eq!(say(&mut servers, &mut replica, "PING"), "+PONG\r\n");
    servers.catch_up(50 * MILLISECOND);
    say(&mut servers, &mut primary, &format!("SET {key} 2"));
    servers.catch_up(120 * MILLISECOND);
    assert_eq!(say(&mut servers, &mut replica, &get), "$1\r\n1\r\n");
    assert_eq!(say(&mut servers, &mut primary, &get), "$1\r\n2\r\n");
    servers.catch_up(150 * MILLISECOND);
    assert_eq!(say(&mut servers, &mut replica, &get), "$1\r\n2\r\n");
    assert!(say(&mut servers, &mut replica, &set).starts_with("-MOVED"));
    assert_eq!(say(&mut servers, &mut replica, "READWRITE"), "+OK\r\n");
    assert!(say(&mut servers, &mut replica, &get).starts_with("-MOVED"));
    assert_eq!(servers.replica_reads, 2);
}

#[test]
fn moves_and_failovers_raise_the_epoch_and_gossip_spreads_it() {
    let mut servers = servers();
    let current = "cluster_current_epoch";
    assert_eq!(epoch(&mut servers, 0, current), 3);
    let slot = slot_of(&key_at(0, 'g'));
    servers.migrations.insert(slot, Migration { from: 0, to: 1, progress: 0 });
    servers.finish_migration(slot);
    assert_eq!([0, 1, 2].map(|node| epoch(&mut servers, node, current)), [4, 4, 3]);
    assert_eq!(epoch(&mut servers, 1, "cluster_my_epoch"), 4);
    // The target has the highest epoch already.
    let slot = slot_of(&key_at(2, 'g'));
    servers.migrations.insert(slot, Migration { from: 2, to: 1, progress: 0 });
    servers.finish_migration(slot);
    assert_eq!(epoch(&mut servers, 2, current), 4);
    servers.promote(3);
    assert_eq!(epoch(&mut servers, 3, "cluster_my_epoch"), 5);
    assert_eq!(epoch(&mut servers, 4, current), 3);
    servers.nodes[4].deaf = true;
    servers.gossip(4);
    assert_eq!(epoch(&mut servers, 4, current), 3);
    servers.nodes[4].deaf = false;
    servers.gossip(4);
    assert_eq!(epoch(&mut servers, 4, current), 5);
}

#[test]
fn cluster_info_is_text_in_lines() {
    let mut servers = servers();
    let mut session = servers.session(0);
    let info = say(&mut servers, &mut session, "CLUSTER INFO");
    assert!(info.contains("\r\ncluster_enabled:1\r\ncluster_state:ok\r\n"), "{info}");
    servers.part(&[0]);
    servers.catch_up(NODE_TIMEOUT);
    let info = say(&mut servers, &mut session, "CLUSTER INFO");
    assert!(info.contains("cluster_state:fail\r\n"), "{info}");
    say(&mut servers, &mut session, "HELLO 3");
    let mut bytes = Vec::new();
    servers.execute(&mut session, &words("CLUSTER INFO")).encode(true, &mut bytes);
    assert!(bytes.starts_with(b"=") && bytes.windows(4).any(|window| window == b"txt:"));
}

#[test]
fn a_primary_that_was_replaced_unheard_goes_on_until_it_hears() {
    let mut servers = servers();
    let key = key_at(0, 'v');
    let (mut old, mut new) = (servers.session(0), servers.session(3));
    let get = format!("GET {key}");
    say(&mut servers, &mut old, &format!("SET {key} 1"));
    servers.catch_up(MILLISECOND);
    servers.part(&[0]);
    servers.promote(3);
    assert_eq!(say(&mut servers, &mut old, &format!("SET {key} 2")), "+OK\r\n");
    assert_eq!(say(&mut servers, &mut new, &format!("SET {key} 3")), "+OK\r\n");
    assert_eq!(say(&mut servers, &mut old, &get), "$1\r\n2\r\n");
    servers.gossip(0);
    servers.catch_up(MILLISECOND + NODE_TIMEOUT);
    assert_eq!(say(&mut servers, &mut old, &get), "-CLUSTERDOWN The cluster is down\r\n");
    servers.rejoin();
    servers.gossip(0);
    assert!(say(&mut servers, &mut old, &get).starts_with("-MOVED"));
    assert_eq!(say(&mut servers, &mut new, &get), "$1\r\n3\r\n");
}

#[test]
fn a_minority_elects_nobody() {
    let mut servers = servers();
    servers.part(&[0, 3]);
    servers.promote(3);
    assert_eq!(servers.replica_of(3), Some(0));
    servers.part(&[0, 1, 3]);
    servers.promote(3);
    assert_eq!(servers.replica_of(3), None);
}

#[test]
fn a_transaction_runs_as_a_whole_or_not_at_all() {
    let mut servers = servers();
    let mut session = servers.session(0);
    let mut other = servers.session(0);
    let (key, counter) = (key_at(0, 'v'), key_at(0, 'i'));
    let mut on = |session: &mut Session, line: &str| say(&mut servers, session, line);
    assert_eq!(on(&mut session, "MULTI"), "+OK\r\n");
    assert_eq!(on(&mut session, &format!("SET {key} 1")), "+QUEUED\r\n");
    assert_eq!(on(&mut session, &format!("INCR {counter}")), "+QUEUED\r\n");
    assert_eq!(on(&mut other, &format!("GET {key}")), "$-1\r\n");
    assert_eq!(on(&mut session, "EXEC"), "*2\r\n+OK\r\n:7001\r\n");

    on(&mut session, "MULTI");
    assert!(on(&mut session, "NONSENSE").starts_with("-ERR unknown command"));
    assert_eq!(on(&mut session, &format!("SET {key} 2")), "+QUEUED\r\n");
    assert_eq!(on(&mut session, "EXEC"), "-EXECABORT Transaction discarded because of previous errors.\r\n");
    on(&mut session, "MULTI");
    assert!(on(&mut session, &format!("GET {}", key_at(1, 'g'))).starts_with("-MOVED"));
    assert!(on(&mut session, "EXEC").starts_with("-EXECABORT"));
    on(&mut session, "MULTI");
    on(&mut session, &format!("SET {key} 2"));
    assert_eq!(on(&mut session, "DISCARD"), "+OK\r\n");
    assert_eq!(on(&mut session, &format!("GET {key}")), "$1\r\n1\r\n");
    for line in ["EXEC", "DISCARD"] {
        assert_eq!(on(&mut session, line), format!("-ERR {line} without MULTI\r\n"));
    }
}

#[test]
fn a_watched_key_that_changes_stops_the_transaction() {
    let mut servers = servers();
    let (mut session, mut other) = (servers.session(0), servers.session(0));
    let key = key_at(0, 'v');
    let mut on = |session: &mut Session, line: &str| say(&mut servers, session, line);
    for (disturbed, unwatched) in [(false, false), (true, false), (true, true)] {
        assert_eq!(on(&mut session, &format!("WATCH {key}")), "+OK\r\n");
        if disturbed {
            on(&mut other, &format!("SET {key} 5"));
        }
        if unwatched {
            on(&mut session, "UNWATCH");
        }
        on(&mut session, "MULTI");
        on(&mut session, &format!("SET {key} 1"));
        let expected = if disturbed && !unwatched { "*-1\r\n" } else { "*1\r\n+OK\r\n" };
        assert_eq!(on(&mut session, "EXEC"), expected);
    }
    assert!(on(&mut session, &format!("WATCH {}", key_at(1, 'v'))).starts_with("-MOVED"));
}

#[test]
fn a_transaction_of_a_slot_that_has_moved_is_redirected_as_a_whole() {
    let mut servers = servers();
    let key = key_at(0, 'v');
    let mut session = servers.session(0);
    say(&mut servers, &mut session, "MULTI");
    say(&mut servers, &mut session, &format!("SET {key} 1"));
    servers.migrations.insert(slot_of(&key), Migration { from: 0, to: 1, progress: 100 });
    servers.finish_migration(slot_of(&key));
    assert!(say(&mut servers, &mut session, "EXEC").starts_with("-MOVED"));
    assert!(say(&mut servers, &mut session, "EXEC").starts_with("-ERR EXEC without MULTI"));
    assert!(servers.executions.is_empty());
}

#[test]
fn shards_tell_zones_and_failed_nodes_and_slots_leave_failed_replicas_out() {
    let mut servers = Servers::new(Dialect { zones: true, ..Dialect::modern() }, 3, 1, false);
    let mut session = servers.session(0);
    let count = |text: &str, what: &str| text.matches(what).count();
    let shards = say(&mut servers, &mut session, "CLUSTER SHARDS");
    assert_eq!((count(&shards, "availability-zone"), count(&shards, "online")), (6, 6));
    assert_eq!(count(&shards, "zone-0"), 2, "a shard's nodes are in different zones");
    servers.nodes[4].reach = crate::simulator::server::Reach::Refusing;
    let shards = say(&mut servers, &mut session, "CLUSTER SHARDS");
    assert_eq!((count(&shards, "online"), count(&shards, "\r\nfail\r\n")), (5, 1));
    let slots = say(&mut servers, &mut session, "CLUSTER SLOTS");
    assert_eq!((count(&slots, "10.0.0.4"), count(&slots, "10.0.0.5")), (1, 0));
}
