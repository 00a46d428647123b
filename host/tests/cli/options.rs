//! Shows what `health`, `--verbose` and the options for clusters do.

use std::fs;
use std::process::Command;

use anyhow::ensure;
use keyslot_testcluster::TestCluster;
use serde_json::Value;

use crate::run::{Program, Run};

fn keyslot(cluster: &TestCluster, args: &[&str]) -> anyhow::Result<Run> {
    Run::of(Program::Keyslot(&[]).command(cluster).args(args))
}

#[test]
fn health_asks_every_node() -> anyhow::Result<()> {
    let cluster = TestCluster::start(3, 1)?;
    let run = keyslot(&cluster, &["health"])?;
    let text = str::from_utf8(&run.stdout)?;
    ensure!((run.code, run.stderr.as_str()) == (0, ""), "{} {text}", run.stderr);
    let lines: Vec<_> = text.lines().collect();
    ensure!(lines.len() == 7 && lines[0].starts_with("node"), "{text}");
    ensure!(lines[1..].iter().all(|line| line.ends_with(" ms")), "{text}");
    for role in ["primary", "replica"] {
        ensure!(lines.iter().filter(|line| line.contains(role)).count() == 3, "{text}");
    }

    let run = keyslot(&cluster, &["--json", "health", "--pings", "3", "--statistics"])?;
    let reports: Value = serde_json::from_slice(&run.stdout)?;
    for report in reports.as_array().expect("a list") {
        ensure!(report["answer_us"].is_u64() && report["error"].is_null(), "{report}");
        ensure!(report["statistics"]["commands"].as_u64() >= Some(3), "{report}");
    }

    let replica = cluster.replicas_of(cluster.primaries()?[0])?[0];
    cluster.kill(replica)?;
    let run = keyslot(&cluster, &["health", "--statistics"])?;
    let text = str::from_utf8(&run.stdout)?;
    ensure!((run.code, run.stderr.as_str()) == (1, ""), "{} {text}", run.stderr);
    let address = cluster.nodes()[replica].address();
    let line = text.lines().find(|line| line.starts_with(&address)).expect("a line for each node");
    ensure!(line.contains("replica") && line.contains("cannot connect"), "{text}");
    ensure!(text.lines().filter(|line| line.ends_with(" ms")).count() == 5, "{text}");
    Ok(())
}

#[test]
fn verbose_shows_events_one_a_line() -> anyhow::Result<()> {
    let cluster = TestCluster::start(3, 0)?;
    let run = keyslot(&cluster, &["-v", "exec", "SET", "key", "value"])?;
    ensure!((run.code, &run.stdout[..]) == (0, b"OK\n"), "{}", run.stderr);
    let connected = cluster.addresses().iter().any(|address| {
        let end = format!(" connected {address}");
        run.stderr.lines().any(|line| line.len() == 8 + end.len() && line.ends_with(&end))
    });
    ensure!(connected, "{}", run.stderr);
    for line in run.stderr.lines() {
        let time = line.as_bytes().get(..8).unwrap_or_default();
        ensure!(time.iter().all(|byte| byte.is_ascii_digit() || *byte == b':'), "{line:?}");
    }
    ensure!(!run.stderr.contains('\x1b'), "{:?}", run.stderr);
    ensure!(keyslot(&cluster, &["exec", "GET", "key"])?.stderr.is_empty(), "events without --verbose");
    Ok(())
}

#[test]
fn a_topology_that_was_printed_can_be_started_from() -> anyhow::Result<()> {
    let cluster = TestCluster::start(3, 0)?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("shards.json");
    let printed = keyslot(&cluster, &["--json", "topology"])?.stdout;
    fs::write(&file, &printed)?;
    let name = file.to_str().expect("UTF-8");
    // No URL is reached: the nodes are known.
    let run = |args: &[&str]| {
        let mut command = Command::new(crate::run::keyslot());
        Run::of(command.args(["--url", "127.0.0.1:1", "--topology", name]).args(args))
    };
    let set = run(&["exec", "SET", "key", "value"])?;
    ensure!((set.code, &set.stdout[..]) == (0, b"OK\n"), "{}", set.stderr);
    ensure!(run(&["exec", "GET", "key"])?.stdout == b"value\n");

    fs::write(&file, "[]")?;
    let none = run(&["topology"])?;
    ensure!(none.code == 2 && none.stderr.contains("set-topology"), "{}", none.stderr);
    fs::write(&file, "[{}]")?;
    let wrong = run(&["topology"])?;
    ensure!(
        wrong.code == 2 && wrong.stderr.contains("shards.json: slots are not a list"),
        "{}",
        wrong.stderr
    );
    Ok(())
}

#[test]
fn nodes_are_reached_where_the_map_says() -> anyhow::Result<()> {
    let cluster = TestCluster::start(3, 0)?;
    let mapped = keyslot(&cluster, &["--map-address", "127.0.0.1=localhost", "topology"])?;
    let text = str::from_utf8(&mapped.stdout)?;
    ensure!(cluster.ports().iter().all(|port| text.contains(&format!("localhost:{port}"))), "{text}");
    let set = keyslot(&cluster, &["--map-address", "127.0.0.1=localhost", "exec", "SET", "key", "value"])?;
    ensure!((set.code, &set.stdout[..]) == (0, b"OK\n"), "{}", set.stderr);
    Ok(())
}

#[test]
fn reads_go_to_replicas_when_asked_for() -> anyhow::Result<()> {
    let cluster = TestCluster::start(3, 1)?;
    keyslot(&cluster, &["exec", "SET", "key", "value"])?;
    let replica = cluster.replicas_of(cluster.node_of_slot(12_539)?)?[0];
    let before = cluster.command_calls(replica, "get")?;
    let run = keyslot(&cluster, &["--replica-reads", "prefer-replica", "exec", "GET", "key"])?;
    ensure!(run.code == 0 && run.stderr.is_empty(), "{}", run.stderr);
    ensure!(cluster.command_calls(replica, "get")? == before + 1, "the replica did not serve the read");
    Ok(())
}
