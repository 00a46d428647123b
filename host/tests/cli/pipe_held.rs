//! Shows that `keyslot pipe` runs the commands for nodes that answer at its full pace beside a node
//! that does not, be it stopped or gone: those for it end by their time-out, each once, and those
//! behind them wait for none of it.

use std::io::Write as _;
use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use keyslot_core::slot::Slot;
use keyslot_testcluster::TestCluster;
use serde_json::{Value, json};

use crate::pipe::{end, list, resp, start, until};

/// The time of a command, and the option that says so.
const TIMEOUT: Duration = Duration::from_secs(6);
const OPTIONS: [&str; 3] = ["--json", "--request-timeout", "6s"];

/// A slot of the node that is hurt. The program is told of another node.
const HURT_SLOT: u16 = 16_383;

/// A number as a command of the input.
type Command<'a> = &'a dyn Fn(usize) -> Vec<u8>;

/// What is done to a node.
type Hurt = fn(&TestCluster, usize) -> Result<(), keyslot_testcluster::Error>;

fn cluster() -> anyhow::Result<TestCluster> {
    Ok(TestCluster::builder().primaries(3).arg("--cluster-require-full-coverage", "no").start()?)
}

fn key(number: usize) -> String {
    format!("key:{number}")
}

/// The numbers of the keys at this node, below `count`.
fn numbers_at(cluster: &TestCluster, node: usize, count: usize) -> anyhow::Result<Vec<usize>> {
    let slots = cluster.slots_of(node)?;
    let is_there =
        |number: &usize| slots.binary_search(&Slot::of_key(key(*number).as_bytes()).number()).is_ok();
    Ok((0..count).filter(is_there).collect())
}

/// Feeds the program on a thread of its own: it does not take all of it at once.
fn feed(child: &mut Child, input: Vec<u8>) -> anyhow::Result<()> {
    let mut stdin = child.stdin.take().context("a pipe")?;
    std::thread::spawn(move || stdin.write_all(&input));
    Ok(())
}

/// Waits until these keys are all there that are not at the node that was hurt.
fn wait_for_others(cluster: &TestCluster, hurt: usize, keys: usize) -> anyhow::Result<()> {
    let others: Vec<usize> = (0..3).filter(|node| *node != hurt).collect();
    until("the other nodes have their keys", || {
        let counts = others.iter().map(|node| cluster.key_count(*node));
        Ok(counts.sum::<Result<i64, _>>()? == keys as i64)
    })
}

#[test]
fn a_node_that_does_not_answer_holds_up_its_own_commands_only() -> anyhow::Result<()> {
    const COMMANDS: usize = 10_000;
    let lines = |number| format!("SET {} value\n", key(number)).into_bytes();
    let requests = |number| resp(&["SET", &key(number), "value"]);
    let syntaxes: [(&str, Command<'_>); 2] = [("line", &lines), ("byte", &requests)];
    let hurts: [(&str, Hurt); 2] = [("stopped", TestCluster::pause), ("gone", TestCluster::kill)];
    for (hurt, do_hurt) in hurts {
        let cluster = cluster()?;
        let node = cluster.node_of_slot(HURT_SLOT)?;
        let held = numbers_at(&cluster, node, COMMANDS)?;
        do_hurt(&cluster, node)?;
        for (place, command) in syntaxes {
            let case = format!("{hurt}, {place}");
            let others = (0..3).filter(|other| *other != node);
            for other in others {
                cluster.connection(other)?.ok(&["FLUSHALL"])?;
            }
            let mut child = start(&cluster, &OPTIONS)?;
            feed(&mut child, (0..COMMANDS).flat_map(command).collect())?;
            let began = Instant::now();
            wait_for_others(&cluster, node, COMMANDS - held.len())?;
            ensure!(began.elapsed() < TIMEOUT, "{case}: the others waited for time-outs");
            ensure!(child.try_wait()?.is_none(), "{case}: nothing waited for the node");
            let run = end(child)?;
            ensure!(began.elapsed() < 2 * TIMEOUT, "{case}: it took {:?}", began.elapsed());
            let summary: Value = serde_json::from_slice(&run.stdout).with_context(|| run.stderr.clone())?;
            ensure!((run.code, run.stderr.as_str()) == (1, ""), "{case}: {} {summary}", run.stderr);
            let numbers = ["commands", "replies", "errors", "unknown"].map(|name| summary[name].as_u64());
            let expected = [COMMANDS, COMMANDS - held.len(), held.len(), 0].map(|count| Some(count as u64));
            ensure!(numbers == expected, "{case}: {summary}, not {expected:?}");
            // The earliest of all is the first that was for the node, whatever ended before it.
            let codes = summary["codes"].as_array().context("a list")?;
            let first = codes.iter().filter_map(|code| code["first"][place].as_u64()).min();
            let offset = match place {
                "line" => held[0] + 1,
                _ => (0..held[0]).map(|number| command(number).len()).sum(),
            };
            ensure!(first == Some(offset as u64), "{case}: {summary}, not {offset}");
        }
    }
    Ok(())
}

#[test]
fn more_than_the_window_waits_for_a_stopped_node_and_the_others_go_on() -> anyhow::Result<()> {
    const COMMANDS: usize = 90_000;
    let cluster = cluster()?;
    let node = cluster.node_of_slot(HURT_SLOT)?;
    let held = numbers_at(&cluster, node, COMMANDS)?.len();
    ensure!(held > 25_000, "{held} are no more than the window");
    let mut child = start(&cluster, &OPTIONS)?;
    // Everything is well at first.
    let stdin = child.stdin.as_mut().context("a pipe")?;
    stdin.write_all(&(0..100).flat_map(|n| format!("SET first:{n} v\n").into_bytes()).collect::<Vec<_>>())?;
    let keys =
        || -> anyhow::Result<i64> { Ok((0..3).map(|node| cluster.key_count(node)).sum::<Result<_, _>>()?) };
    until("the first are run", || Ok(keys()? == 100))?;
    for other in 0..3 {
        cluster.connection(other)?.ok(&["FLUSHALL"])?;
    }
    cluster.pause(node)?;
    let began = Instant::now();
    feed(&mut child, (0..COMMANDS).flat_map(|n| format!("SET {} v\n", key(n)).into_bytes()).collect())?;
    wait_for_others(&cluster, node, COMMANDS - held)?;
    ensure!(began.elapsed() < TIMEOUT, "the others waited for time-outs: {:?}", began.elapsed());
    let run = end(child)?;
    ensure!(began.elapsed() < 3 * TIMEOUT, "it took {:?}", began.elapsed());
    let summary: Value = serde_json::from_slice(&run.stdout).with_context(|| run.stderr.clone())?;
    let expected = json!([COMMANDS + 100, COMMANDS + 100 - held, held, 0]);
    let numbers = ["commands", "replies", "errors", "unknown"].map(|name| summary[name].clone());
    ensure!(json!(numbers) == expected, "{summary}, not {expected}");
    Ok(())
}

#[test]
fn a_node_that_comes_back_in_time_has_its_commands_in_their_order() -> anyhow::Result<()> {
    const COMMANDS: usize = 30_000;
    const LISTS: usize = 90;
    let cluster = cluster()?;
    let node = cluster.node_of_slot(HURT_SLOT)?;
    let held = numbers_at(&cluster, node, LISTS)?.len();
    let mut child = start(&cluster, &["--json", "--request-timeout", "30s"])?;
    cluster.pause(node)?;
    let number_of = |n: usize| format!("RPUSH {} {n}\n", key(n % LISTS)).into_bytes();
    feed(&mut child, (0..COMMANDS).flat_map(number_of).collect())?;
    wait_for_others(&cluster, node, LISTS - held)?;
    std::thread::sleep(Duration::from_secs(1));
    cluster.resume(node)?;
    let run = end(child)?;
    let summary: Value = serde_json::from_slice(&run.stdout).with_context(|| run.stderr.clone())?;
    ensure!(run.code == 0 && summary["replies"] == json!(COMMANDS), "{} {summary}", run.stderr);
    for place in 0..LISTS {
        let expected: Vec<_> = (place..COMMANDS).step_by(LISTS).map(|n| n.to_string()).collect();
        ensure!(list(&cluster, &key(place))? == expected, "list {place} is in another order");
    }
    Ok(())
}
