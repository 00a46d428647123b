//! `keyslot scan`: what it prints, beside `redis-cli --scan` at each node, its token, and how it
//! ends.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use anyhow::Context;
use keyslot_testcluster::TestCluster;

use crate::run::{Program, Run};

fn scan(cluster: &TestCluster, args: &[&str]) -> anyhow::Result<Run> {
    Run::of(Program::Keyslot(&[]).command(cluster).args(args))
}

fn lines(text: &[u8]) -> BTreeSet<Vec<u8>> {
    text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(<[u8]>::to_vec).collect()
}

fn fill(cluster: &TestCluster, keys: usize) -> anyhow::Result<()> {
    let mut fill = Program::Keyslot(&[]).command(cluster);
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("commands");
    fs::write(&file, (0..keys).map(|key| format!("SET key:{key} x\n")).collect::<String>())?;
    assert_eq!(Run::of(fill.stdin(fs::File::open(&file)?))?.code, 0);
    Ok(())
}

#[test]
fn keys_are_printed_as_redis_cli_prints_them() -> anyhow::Result<()> {
    let cluster = TestCluster::start(3, 0)?;
    fill(&cluster, 500)?;
    scan(&cluster, &["exec", "HSET", "two words\u{fc}", "a", "1"])?;
    let mut theirs = BTreeSet::new();
    for port in cluster.ports() {
        let run = Run::of(Command::new("redis-cli").args(["-p", &port.to_string(), "--scan"]))?;
        theirs.extend(lines(&run.stdout));
    }
    for args in [&["scan"][..], &["scan", "--parallel", "3", "--count", "10"]] {
        let run = scan(&cluster, args)?;
        assert_eq!((lines(&run.stdout), run.stderr.as_str(), run.code), (theirs.clone(), "", 0), "{args:?}");
    }
    let some = scan(&cluster, &["scan", "--match", "key:7?"])?;
    assert_eq!(lines(&some.stdout).len(), 10);
    let hashes = scan(&cluster, &["--no-raw", "scan", "--type", "hash"])?;
    assert_eq!(hashes.stdout, b"\"two words\\xc3\\xbc\"\n");
    let hashes = scan(&cluster, &["--json", "scan", "--type", "hash"])?;
    assert_eq!(String::from_utf8(hashes.stdout)?, "\"two words\u{fc}\"\n");
    let mut of_nodes = 0;
    for node in cluster.addresses() {
        of_nodes += lines(&scan(&cluster, &["scan", "--node", &node])?.stdout).len();
    }
    assert_eq!(of_nodes, theirs.len());
    Ok(())
}

#[test]
fn a_scan_that_ended_early_goes_on_from_its_token() -> anyhow::Result<()> {
    let cluster = TestCluster::builder()
        .primaries(3)
        .replicas(0)
        .args(["--cluster-require-full-coverage", "no", "--save", ""])
        .start()?;
    fill(&cluster, 600)?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("token");
    let path = file.to_str().context("a path that is UTF-8")?;
    let args = ["--request-timeout", "2", "scan", "--token", path];
    cluster.kill(1)?;
    let first = scan(&cluster, &args)?;
    assert_eq!((first.code, first.stderr.lines().count()), (3, 1), "{}", first.stderr);
    assert!(file.exists());
    cluster.restart(1)?;
    scan(&cluster, &["exec", "SET", "{6}new", "x"])?;
    let second = scan(&cluster, &args)?;
    assert_eq!((second.code, second.stderr.as_str()), (0, ""));
    assert!(!file.exists(), "the scan is over");
    let (first, second) = (lines(&first.stdout), lines(&second.stdout));
    assert!(first.len() > 300 && first.is_disjoint(&second), "{} and {}", first.len(), second.len());

    fs::write(&file, "no token")?;
    let wrong = scan(&cluster, &args)?;
    assert_eq!((wrong.code, wrong.stderr.lines().count()), (2, 1), "{}", wrong.stderr);
    assert!(wrong.stderr.contains("token"), "{}", wrong.stderr);
    Ok(())
}
