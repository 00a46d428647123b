//! What a server says first: handshakes that are refused in all ways, starts that have to wait, and
//! names with several addresses.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use keyslot_core::address::NodeAddr;
use keyslot_core::cluster::Event;
use keyslot_core::config::{Config, Mode, ReplicaReads, RespVersion};
use keyslot_core::error::Error;
use keyslot_core::slot::{SLOT_COUNT, Slot, SlotRange};
use keyslot_core::topology::{Health, Member, Role, Shard, Topology};

use crate::lab::*;
use crate::own_connections::submit_blocking;
use crate::simulator::manners::{DENIED, FULL, Greeting, Manners};
use crate::simulator::server::{Dialect, Migration, Node, Servers};
use crate::simulator::weather::Weather;
use crate::simulator::world::{MILLISECOND, SECOND};

const PROTOCOLS: [RespVersion; 3] = [RespVersion::Auto, RespVersion::Resp2, RespVersion::Resp3];

fn greeting(greeting: Greeting) -> Manners {
    Manners { greeting, ..Manners::default() }
}

fn refusing(commands: &'static [&'static str], with: Option<&'static str>) -> Manners {
    Manners { refuses: commands, refuses_with: with, ..Manners::default() }
}

fn all(servers: &mut Servers, manners: Manners) {
    servers.nodes.iter_mut().for_each(|node| node.manners = manners);
}

/// A client of three primaries that all have these manners for so long, from its start on. Its
/// `Ready` is awaited.
fn start(config: impl FnOnce(&mut Config), servers: Servers, manners: Manners, time: u64) -> Lab {
    let mut lab = begin(config, servers, manners);
    let until = lab.now() + time;
    lab.run_until(until, |lab| lab.ready().is_some());
    for node in 0..lab.servers.nodes.len() {
        lab.behave(node);
    }
    lab.drain();
    let until = lab.now() + 2 * SECOND;
    assert!(lab.run_until(until, |lab| lab.ready().is_some()), "Ready comes");
    lab
}

fn begin(config: impl FnOnce(&mut Config), servers: Servers, manners: Manners) -> Lab {
    lab_at_start(servers, Weather::calm(), |own, servers| {
        config(own);
        all(servers, manners);
    })
}

fn three() -> Servers {
    Servers::new(Dialect::modern(), 3, 0, false)
}

fn with_password() -> Servers {
    Servers::new(Dialect { password: Some("secret".into()), ..Dialect::modern() }, 3, 0, false)
}

fn why(lab: &Lab) -> String {
    match lab.ready() {
        Some(Err(Error::Connect(why))) => why.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_full_or_protected_server_is_named_and_tried_again() {
    for error in [FULL, DENIED] {
        for manner in [Greeting::ToFirst(error), Greeting::AtAccept(error)] {
            for protocol in PROTOCOLS {
                for has_password in [false, true] {
                    let servers = || if has_password { with_password() } else { three() };
                    let config = |config: &mut Config| {
                        config.resp_version = protocol;
                        config.password = has_password.then(|| "secret".into());
                    };
                    let what = format!("{manner:?} {protocol:?} {has_password}");
                    let lab = start(config, servers(), greeting(manner), 500 * MILLISECOND);
                    assert_eq!(lab.ready(), Some(&Ok(())), "{what}");
                    let lab = start(config, servers(), greeting(manner), 2 * SECOND);
                    assert!(why(&lab).contains(error), "{what}: {}", why(&lab));
                }
            }
        }
    }
}

#[test]
fn a_running_client_does_not_take_a_full_server_for_a_refused_log_in() {
    for error in [FULL, DENIED, "LOADING Redis is loading the dataset in memory"] {
        for protocol in PROTOCOLS {
            let mut lab = lab_of(with_password(), |config, _| {
                config.password = Some("secret".into());
                config.resp_version = protocol;
            });
            lab.servers.nodes[1].manners = greeting(Greeting::ToFirst(error));
            let conn = lab.open_conns(Some(1))[0];
            lab.cut(conn);
            wait(&mut lab, 2 * MILLISECOND);
            let id = submit(&mut lab, &format!("SET {} 1", key_at(1, 's')));
            wait(&mut lab, 400 * MILLISECOND);
            assert_eq!(lab.outcome(id), None, "{error} {protocol:?}");
            lab.behave(1);
            assert_eq!(outcome(&mut lab, id), ok());
        }
    }
}

#[test]
fn a_wrong_password_is_told_at_once() {
    for protocol in PROTOCOLS {
        let config = |config: &mut Config| {
            config.resp_version = protocol;
            config.password = Some("wrong".into());
        };
        let lab = start(config, with_password(), Manners::default(), 20 * MILLISECOND);
        assert!(matches!(lab.ready(), Some(Err(Error::Authentication(_)))), "{:?}", lab.ready());
    }
    for words in [
        "ERR invalid password",
        "ERR Client sent AUTH, but no password is set",
        "ERR AUTH <password> called without any password configured for the default user. Are you sure?",
    ] {
        let config = |config: &mut Config| {
            config.resp_version = RespVersion::Resp2;
            config.password = Some("wrong".into());
        };
        let lab = start(config, with_password(), refusing(&["AUTH"], Some(words)), 20 * MILLISECOND);
        assert_eq!(lab.ready(), Some(&Err(Error::Authentication(words.to_string()))));
    }
}

#[test]
fn hello_refused_in_whatever_words_means_resp2() {
    for words in [
        "ERR unsupported command `HELLO`",
        "ERR Command is not available: 'HELLO'. See docs",
        "NOPERM this user has no permissions to run the 'hello' command or its subcommand",
        "ERR unknown command 'HELLO'",
        "NOPROTO unsupported protocol version",
        "ERR syntax error",
    ] {
        for (protocol, works) in [(RespVersion::Auto, true), (RespVersion::Resp3, false)] {
            for has_password in [false, true] {
                let servers = if has_password { with_password() } else { three() };
                let mut lab = begin(
                    |config| {
                        config.resp_version = protocol;
                        config.password = has_password.then(|| "secret".into());
                    },
                    servers,
                    refusing(&["HELLO"], Some(words)),
                );
                wait(&mut lab, 50 * MILLISECOND);
                if !works {
                    assert!(why(&lab).contains(words), "{}", why(&lab));
                    continue;
                }
                assert_eq!(lab.ready(), Some(&Ok(())), "{words}");
                assert_eq!(lab.dials(), 3, "on the same connection");
                assert_eq!(run(&mut lab, &format!("GET {}", key_at(0, 'g'))), bulk("g:7"));
            }
        }
    }
}

#[test]
fn a_proxy_that_hangs_up_on_names_can_be_spared_them() {
    for on in ["CLIENT SETNAME", "CLIENT SETINFO"] {
        for (spares, works) in [(true, true), (false, false)] {
            let mut lab = begin(
                |config| {
                    if spares {
                        (config.client_name, config.library_info) = (None, false);
                    }
                },
                three(),
                greeting(Greeting::HangsUpOn(on)),
            );
            wait(&mut lab, SECOND);
            assert_eq!(matches!(lab.ready(), Some(Ok(()))), works, "{on} {:?}", lab.ready());
        }
    }
}

#[test]
fn a_refused_asking_is_the_requests_error() {
    for line in ["GET", "SET", "INCR", "EVAL return 1"] {
        let mut lab = lab();
        let key = key_at(0, 's');
        lab.servers.migrations.insert(slot_of(&key), Migration { from: 0, to: 2, progress: 100 });
        lab.servers.nodes[2].manners = refusing(&["ASKING"], None);
        let line = match line {
            "SET" => format!("SET {key} 1"),
            "EVAL return 1" => format!("EVAL return 1 {key}"),
            name => format!("{name} {key}"),
        };
        let result = run(&mut lab, &line);
        let told = matches!(&result, Err(Error::Server(error)) if error.to_string().contains("'asking'"));
        assert!(told, "{line}: {result:?}");
    }
}

#[test]
fn a_replica_that_refuses_readonly_is_told_of_and_left_alone() {
    let servers = Servers::new(Dialect::modern(), 3, 1, false);
    let mut lab = lab_of(servers, |config, servers| {
        config.replica_reads = ReplicaReads::PreferReplica;
        config.request_timeout = Duration::from_secs(1);
        all(servers, refusing(&["READONLY"], None));
    });
    let (mark, key) = (lab.sent().len(), key_at(0, 'g'));
    for _ in 0..50 {
        assert_eq!(run(&mut lab, &format!("GET {key}")), bulk("g:7"));
        wait(&mut lab, 100 * MILLISECOND);
    }
    let at_replica = sent_since(&lab, mark).iter().filter(|(node, _)| *node == 3).count();
    assert_eq!(at_replica, 0, "the primary serves them");
    let told = |lab: &mut Lab| {
        let events = events(lab);
        let refused = |event: &&Event| matches!(event, Event::Refused { command: "READONLY", .. });
        events.iter().filter(refused).count()
    };
    assert_eq!(told(&mut lab), 6, "once for each node");
    (0..6).for_each(|node| lab.behave(node));
    wait(&mut lab, 6 * SECOND);
    for _ in 0..10 {
        assert_eq!(run(&mut lab, &format!("GET {key}")), bulk("g:7"));
    }
    assert!(lab.servers.replica_reads >= 9, "it is allowed now: {}", lab.servers.replica_reads);
    assert_eq!(told(&mut lab), 0);
}

#[test]
fn a_refused_client_unblock_is_told() {
    let mut lab = lab();
    let key = key_at(0, 'p');
    lab.servers.nodes[0].manners = refusing(&["CLIENT UNBLOCK"], None);
    for _ in 0..2 {
        run(&mut lab, &format!("BLPOP {key} 1")).unwrap();
        lab.servers.nodes[0].paused = true;
        let id = submit_blocking(&mut lab, &format!("BLPOP {key} 0"));
        wait(&mut lab, 10 * MILLISECOND);
        lab.cluster.forget(id);
        lab.history.forgotten(id);
        lab.drain();
        lab.resume(0);
        wait(&mut lab, 20 * MILLISECOND);
    }
    let told = events(&mut lab);
    let told = told.iter().filter(|event| matches!(event, Event::Refused { command: "CLIENT UNBLOCK", .. }));
    assert_eq!(told.count(), 1);
}

/// Their topology, as another client has it.
fn topology_of(servers: &Servers) -> Topology {
    let shard = |index: usize, node: &Node| {
        let bound = |index: usize| (index * usize::from(SLOT_COUNT)).div_ceil(servers.nodes.len()) as u16;
        let range =
            SlotRange::new(Slot::new(bound(index)).unwrap(), Slot::new(bound(index + 1) - 1).unwrap());
        let member = Member {
            id: String::new(),
            address: NodeAddr::new(&node.host, node.address.port()),
            role: Role::Primary,
            health: Health::Unknown,
            availability_zone: None,
        };
        Shard { slots: vec![range.unwrap()], nodes: vec![member] }
    };
    Topology { shards: servers.nodes.iter().enumerate().map(|(index, node)| shard(index, node)).collect() }
}

#[test]
fn a_start_waits_for_what_passes() {
    for error in [
        "LOADING Redis is loading the dataset in memory",
        "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
        "CLUSTERDOWN The cluster is down",
    ] {
        for commands in [&["CLUSTER"][..], &["CLUSTER", "HELLO", "AUTH"], &["CLUSTER", "CLIENT", "SELECT"]] {
            let manners = refusing(commands, Some(error));
            let lab = start(|_| {}, three(), manners, 600 * MILLISECOND);
            assert_eq!(lab.ready(), Some(&Ok(())), "{error} {commands:?}");
            assert!(lab.dials() < 80, "with back-off: {}", lab.dials());
            let lab = start(|_| {}, three(), manners, 2 * SECOND);
            assert!(why(&lab).contains(error), "{}", why(&lab));
        }
    }
}

#[test]
fn a_server_alone_that_is_busy_can_be_told_to_kill_its_script() {
    let busy = "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.";
    let manners = refusing(&["CLUSTER", "CLIENT", "GET"], Some(busy));
    for mode in [Mode::Auto, Mode::Standalone] {
        let servers = Servers::new(Dialect { cluster: false, ..Dialect::modern() }, 1, 0, false);
        let mut lab = begin(|config| config.mode = mode, servers, manners);
        wait(&mut lab, 20 * MILLISECOND);
        assert_eq!(lab.ready(), Some(&Ok(())), "{mode:?}");
        let id = lab.submit_to(0, &words("PING"), None);
        lab.drain();
        assert!(outcome(&mut lab, id).is_ok());
    }
}

/// Three nodes with names; each name has, before its own, the address of a fourth server with these
/// manners.
fn with_bad_first_addresses(manners: Manners, time: u64) -> (Lab, u64) {
    let mut servers = Servers::new(Dialect::modern(), 3, 0, true);
    let bad = Ipv4Addr::new(10, 0, 0, 77);
    for node in 0..3 {
        let address = SocketAddr::new(IpAddr::V4(bad), servers.nodes[node].address.port());
        servers.aliases.push((address, node, manners));
    }
    let weather = Weather { first_address: Some(bad), ..Weather::calm() };
    let mut lab = lab_at_start(servers, weather, |_, _| {});
    let before = lab.now();
    lab.run_until(before + time, |lab| lab.ready().is_some());
    let took = lab.now() - before;
    (lab, took)
}

#[test]
fn a_names_next_address_is_tried_whatever_is_wrong_with_the_first() {
    let silent = Manners { only_greets: true, ..Manners::default() };
    let half = 700 * MILLISECOND;
    for (manners, most) in [
        (greeting(Greeting::HangsUp), 30 * MILLISECOND),
        (greeting(Greeting::ToFirst(FULL)), 30 * MILLISECOND),
        (greeting(Greeting::AtAccept(DENIED)), 30 * MILLISECOND),
        (greeting(Greeting::HangsUpOn("CLUSTER SLOTS")), 30 * MILLISECOND),
        (refusing(&["CLUSTER"], Some("LOADING Redis is loading the dataset in memory")), 30 * MILLISECOND),
        (refusing(&["CLUSTER"], Some("NOPERM User app has no permissions")), 30 * MILLISECOND),
        (silent, half),
        (Manners { is_stuck: true, ..Manners::default() }, half),
    ] {
        let (mut lab, took) = with_bad_first_addresses(manners, 2 * SECOND);
        assert_eq!(lab.ready(), Some(&Ok(())), "{manners:?}");
        assert!(took <= most, "{manners:?}: {took}");
        wait(&mut lab, SECOND);
        for node in 0..3 {
            assert_eq!(run(&mut lab, &format!("GET {}", key_at(node, 'g'))), bulk("g:7"));
        }
        // A running client begins behind the address that failed.
        let dials = lab.dials();
        let conn = lab.open_conns(Some(1))[0];
        lab.cut(conn);
        wait(&mut lab, 2 * MILLISECOND);
        assert_eq!(run(&mut lab, &format!("SET {} 1", key_at(1, 's'))), ok());
        assert!(lab.dials() <= dials + 3, "{manners:?}: {} dials", lab.dials() - dials);
    }
}

#[test]
fn a_user_who_may_not_ask_for_the_topology_asks_seldom() {
    let mut lab = lab_of(three(), |config, servers| {
        config.topology = Some(topology_of(servers));
        config.refresh_interval = Duration::from_secs(10);
        all(servers, refusing(&["CLUSTER"], None));
    });
    for node in 0..3 {
        assert_eq!(run(&mut lab, &format!("GET {}", key_at(node, 'g'))), bulk("g:7"));
    }
    let mark = lab.sent().len();
    for _ in 0..60 {
        assert!(run(&mut lab, &format!("GET {}", key_at(0, 'g'))).is_ok());
        wait(&mut lab, 100 * MILLISECOND);
    }
    assert!(refreshes_since(&lab, mark) <= 3, "{} in 6 s", refreshes_since(&lab, mark));
    let told = events(&mut lab);
    let told = told.iter().filter(|event| matches!(event, Event::Refused { command: "CLUSTER SLOTS", .. }));
    assert!((1..=3).contains(&told.count()));
    // A redirect is news, but not more often than once a second.
    let key = key_at(0, 's');
    lab.servers.migrations.insert(slot_of(&key), Migration { from: 0, to: 2, progress: 100 });
    lab.servers.finish_migration(slot_of(&key));
    let mark = lab.sent().len();
    for _ in 0..20 {
        assert_eq!(run(&mut lab, &format!("SET {key} 1")), ok());
        wait(&mut lab, 100 * MILLISECOND);
    }
    assert!((1..=6).contains(&refreshes_since(&lab, mark)), "{}", refreshes_since(&lab, mark));
}

#[test]
fn a_redirect_to_nowhere_is_waited_out() {
    let mut lab = lab();
    let key = key_at(0, 's');
    let slot = slot_of(&key);
    lab.servers.nodes[0].lies.insert(slot, format!("MOVED {slot} :0"));
    let id = submit(&mut lab, &format!("SET {key} 1"));
    wait(&mut lab, 300 * MILLISECOND);
    assert_eq!(lab.outcome(id), None);
    lab.servers.nodes[0].lies.clear();
    assert_eq!(outcome(&mut lab, id), ok());
}
