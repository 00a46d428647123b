//! Shows that the cluster the other tests stand on is one: it starts, moves a slot with its keys,
//! survives a killed and a paused node, fails over, grows, and leaves no process and no folder
//! behind. Every check talks to the servers directly, without the client under test.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use keyslot_core::slot::Slot;
use keyslot_testcluster::{CallError, TestCluster, TestNode, TestServer};

#[test]
fn a_slot_moves_with_its_keys() -> anyhow::Result<()> {
    let cluster = TestCluster::start(3, 0)?;
    let slot = Slot::of_key(b"{tag}").number();
    let from = cluster.node_of_slot(slot)?;
    let to = cluster.primaries()?.into_iter().find(|&node| node != from).expect("three primaries");
    let mut source = cluster.connection(from)?;
    for number in 0..50 {
        source.ok(&["SET", &format!("{{tag}}{number}"), "value"])?;
    }

    // Half-way, the source redirects for what it no longer has.
    cluster.start_slot_migration(slot, from, to)?;
    assert_eq!(cluster.migrate_keys(slot, 20)?, 20);
    assert_eq!((cluster.key_count(from)?, cluster.key_count(to)?), (30, 20));
    assert_eq!(error_code(source.string(&["GET", "{tag}none"])).as_deref(), Some("ASK"));

    assert_eq!(cluster.migrate_keys(slot, 1_000)?, 30);
    cluster.finish_slot_migration(slot)?;
    assert_eq!(cluster.node_of_slot(slot)?, to);
    assert_eq!(error_code(source.string(&["GET", "{tag}0"])).as_deref(), Some("MOVED"));
    assert_eq!(cluster.connection(to)?.string(&["GET", "{tag}49"])?, "value");

    cluster.migrate_slot(slot, from)?;
    assert_eq!((cluster.key_count(from)?, cluster.key_count(to)?), (50, 0));
    cluster.wait_until_agreed()?;
    Ok(())
}

#[test]
fn replicas_take_over_from_the_dead_and_from_the_living() -> anyhow::Result<()> {
    let mut cluster = TestCluster::start(3, 1)?;
    assert_eq!(cluster.primaries()?, [0, 1, 2]);
    assert_eq!(cluster.replicas_of(0)?, [3]);

    // A killed primary is replaced by its replica, and comes back as the replica of that.
    cluster.kill(0)?;
    cluster.wait_until_agreed()?;
    assert_eq!(cluster.node_of_slot(0)?, 3);
    cluster.restart(0)?;
    cluster.wait_until_agreed()?;
    assert_eq!(cluster.replicas_of(3)?, [0]);

    cluster.failover(0)?;
    assert_eq!(cluster.node_of_slot(0)?, 0);
    assert_eq!(cluster.replicas_of(0)?, [3]);

    // A paused replica is missed, and is welcome again.
    cluster.pause(4)?;
    cluster.wait_until_agreed()?;
    assert_eq!(cluster.replicas_of(1)?, []);
    cluster.resume(4)?;
    cluster.wait_until_agreed()?;
    assert_eq!(cluster.replicas_of(1)?, [4]);

    let added = cluster.add_node()?;
    cluster.migrate_slot(0, added)?;
    assert_eq!(cluster.node_of_slot(0)?, added);
    Ok(())
}

#[test]
fn passwords_reach_replicas_and_migrations() -> anyhow::Result<()> {
    let cluster = TestCluster::builder().replicas(1).password("s3cret").start()?;
    let slot = Slot::of_key(b"key").number();
    let from = cluster.node_of_slot(slot)?;
    cluster.connection(from)?.ok(&["SET", "key", "value"])?;
    let to = (from + 1) % 3;
    cluster.migrate_slot(slot, to)?;
    assert_eq!(cluster.connection(to)?.string(&["GET", "key"])?, "value");
    Ok(())
}

#[test]
fn a_server_has_the_settings_it_was_given() -> anyhow::Result<()> {
    let mut server = TestServer::builder()
        .password("s3cret")
        .args(["--user", "alice", "on", ">wonder", "~*", "+@all"])
        .arg("--maxmemory", "10mb")
        .start()?;
    let mut connection = server.connection()?;
    connection.hello3()?;
    connection.ok(&["AUTH", "alice", "wonder"])?;
    assert_eq!(connection.string(&["ACL", "WHOAMI"])?, "alice");
    server.restart()?;
    assert_eq!(server.connection()?.integer(&["DBSIZE"])?, 0);
    Ok(())
}

#[test]
fn nothing_remains() -> anyhow::Result<()> {
    let cluster = TestCluster::start(3, 1)?;
    let processes: Vec<u32> = cluster.nodes().iter().filter_map(TestNode::process_id).collect();
    assert_eq!(processes.len(), 6);
    assert!(processes.iter().all(|&id| is_alive(id)));
    let mut folders = Vec::new();
    for node in 0..6 {
        let answer = cluster.connection(node)?.strings(&["CONFIG", "GET", "dir"])?;
        folders.push(PathBuf::from(String::from_utf8(answer[1].to_vec())?));
    }
    cluster.pause(5)?;

    let started = Instant::now();
    drop(cluster);
    assert!(started.elapsed() < Duration::from_secs(5), "took {:?}", started.elapsed());
    assert_eq!(processes.into_iter().filter(|&id| is_alive(id)).collect::<Vec<_>>(), []);
    assert_eq!(
        folders.into_iter().filter(|folder| folder.exists()).collect::<Vec<_>>(),
        Vec::<PathBuf>::new()
    );
    Ok(())
}

fn is_alive(process: u32) -> bool {
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("kill -0 {process}")).stderr(Stdio::null());
    command.status().expect("there is a shell").success()
}

fn error_code(result: Result<String, CallError>) -> Option<String> {
    match result {
        Err(CallError::Server(error)) => Some(error.code),
        _ => None,
    }
}
