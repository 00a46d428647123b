//! Shows that the `keyslot` command prints what `redis-cli -c` prints, and what it says and how it
//! exits when something is wrong.
//!
//! The same commands go, one process each, through `keyslot exec` and through `redis-cli -c`
//! against the same cluster, emptied in between, once on a terminal (of the program `script`) and
//! once into a pipe. What is allowed to differ stands at [`commands::EXCEPTIONS`].

mod commands;
mod hostile;
mod options;
mod pipe;
mod pipe_held;
mod run;
mod scan;
mod terminal;

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use keyslot_testcluster::{TestCluster, TestServer};

use self::commands::{EXCEPTIONS, LINES, RESP3, TUTORIAL};
use self::run::{Program, Run};

/// A cluster that also answers DEBUG PROTOCOL, which has a reply of every type.
fn cluster() -> anyhow::Result<TestCluster> {
    let cluster =
        TestCluster::builder().primaries(3).replicas(0).arg("--enable-debug-command", "yes").start()?;
    Ok(cluster)
}

/// Removes all keys and scripts.
fn empty(cluster: &TestCluster) -> anyhow::Result<()> {
    for node in cluster.primaries()? {
        cluster.connection(node)?.ok(&["FLUSHALL"])?;
        cluster.connection(node)?.ok(&["SCRIPT", "FLUSH"])?;
    }
    Ok(())
}

#[test]
fn replies_are_printed_as_redis_cli_prints_them() -> anyhow::Result<()> {
    assert!(TUTORIAL.len() >= 60);
    let cluster = cluster()?;
    let suites = [(&[][..], TUTORIAL), (&["-3"][..], RESP3)];
    let mut differences = String::new();
    for (options, lines) in suites {
        for terminal in [false, true] {
            empty(&cluster)?;
            let theirs = run::each(&Program::RedisCli(options), &cluster, lines, terminal)?;
            empty(&cluster)?;
            let ours = run::each(&Program::Keyslot(options), &cluster, lines, terminal)?;
            for ((line, theirs), ours) in lines.iter().zip(theirs).zip(ours) {
                if ours != theirs && !EXCEPTIONS.contains(&(options.len(), line)) {
                    differences += &format!(
                        "{options:?} {line}, terminal: {terminal}\n  redis-cli {:?}\n  keyslot   {:?}\n",
                        String::from_utf8_lossy(&theirs),
                        String::from_utf8_lossy(&ours)
                    );
                }
            }
        }
    }
    assert!(differences.is_empty(), "{differences}");
    Ok(())
}

#[test]
fn lines_of_standard_input_are_run_as_redis_cli_runs_them() -> anyhow::Result<()> {
    let cluster = cluster()?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("commands");
    fs::write(&file, LINES)?;
    for options in [&["--raw"][..], &["--no-raw"][..]] {
        empty(&cluster)?;
        let theirs = Run::of(Program::RedisCli(options).command(&cluster).stdin(fs::File::open(&file)?))?;
        empty(&cluster)?;
        let ours = Run::of(Program::Keyslot(options).command(&cluster).stdin(fs::File::open(&file)?))?;
        assert_eq!(ours.without_notices(), theirs.without_notices(), "{options:?}");
        assert_eq!((ours.code, theirs.code), (0, 0), "{options:?}");
        assert_eq!(ours.stderr, "", "{options:?}");
    }
    Ok(())
}

#[test]
fn exec_takes_bytes_from_standard_input_and_prints_json() -> anyhow::Result<()> {
    let cluster = cluster()?;
    let keyslot = |args: &[&str]| {
        let mut command = Program::Keyslot(&[]).command(&cluster);
        command.args(args);
        command
    };
    let mut set =
        keyslot(&["exec", "-x", "SET", "binary"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    set.stdin.take().expect("a pipe").write_all(b"\0\r\n\xff")?;
    assert_eq!(set.wait_with_output()?.stdout, b"OK\n");
    assert_eq!(Run::of(&mut keyslot(&["exec", "GET", "binary"]))?.stdout, b"\0\r\n\xff\n");

    let json = |args: &[&str]| -> anyhow::Result<(String, i32)> {
        let mut command = keyslot(&["--json"]);
        let run = Run::of(command.args(args))?;
        Ok((String::from_utf8(run.stdout)?, run.code))
    };
    assert_eq!(json(&["exec", "GET", "binary"])?, ("{\"hex\":\"000d0aff\"}\n".to_owned(), 0));
    assert_eq!(json(&["exec", "GET", "none"])?, ("null\n".to_owned(), 0));
    json(&["exec", "HSET", "h", "a", "1"])?;
    assert_eq!(json(&["-3", "exec", "HGETALL", "h"])?, ("{\"a\":\"1\"}\n".to_owned(), 0));
    let (text, code) = json(&["exec", "INCR", "h"])?;
    assert!(text.starts_with("{\"error\":{\"code\":\"WRONGTYPE\",\"message\":\"Operation"), "{text}");
    assert_eq!(code, 1);

    let (slots, _) = json(&["slot", "foo", "{user:7}:name", "{user:7}:mail"])?;
    let slots: serde_json::Value = serde_json::from_str(&slots)?;
    assert_eq!(slots[0]["slot"], 12_182);
    assert_eq!((&slots[1]["slot"], &slots[1]["node"]), (&slots[2]["slot"], &slots[2]["node"]));
    let (topology, _) = json(&["topology"])?;
    let topology: serde_json::Value = serde_json::from_str(&topology)?;
    assert_eq!(topology.as_array().map(Vec::len), Some(3));
    assert_eq!(topology[0]["slots"][0][0], 0);
    Ok(())
}

#[test]
fn a_reader_that_goes_away_is_no_failure() -> anyhow::Result<()> {
    let cluster = cluster()?;
    let mut fill = Program::Keyslot(&[]).command(&cluster);
    Run::of(fill.args(["exec", "SETRANGE", "big", "3000000", "x"]))?;
    let mut get = Program::Keyslot(&[]).command(&cluster);
    let mut child = get.args(["exec", "GET", "big"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    drop(child.stdout.take());
    let output = child.wait_with_output()?;
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    Ok(())
}

#[test]
fn wrong_usage_is_one_line_and_code_2() -> anyhow::Result<()> {
    let cases: &[(&[&str], &str)] = &[
        (&["exec"], "<COMMAND>"),
        (&["exce", "PING"], "exce"),
        (&["slot"], "<KEY>"),
        (&["scan", "--count", "0"], "--count"),
        (&["--request-timeout", "soon", "exec", "PING"], "soon"),
        (&["--mode", "sideways", "exec", "PING"], "sideways"),
        (&["--replica-reads", "nearest", "exec", "PING"], "nearest"),
        (&["--replica-reads", "same-zone", "exec", "PING"], "availability-zone"),
        (&["--map-address", "127.0.0.1", "exec", "PING"], "ANNOUNCED=ACTUAL"),
        (&["--map-address", "=127.0.0.1", "exec", "PING"], "map-address: \"\""),
        (&["--topology", "/no/such/file", "topology"], "/no/such/file"),
        (&["--topology", "/dev/null", "topology"], "/dev/null"),
        (&["health", "--pings", "0"], "0"),
        (&["--url", "http://127.0.0.1:6379", "exec", "PING"], "http"),
        (&["--url", "redis://127.0.0.1:99999", "exec", "PING"], "99999"),
        (&["--url", "redis://127.0.0.1:port", "exec", "PING"], "port"),
        (&["--url", "", "exec", "PING"], ""),
    ];
    for (args, quoted) in cases {
        let run = Run::of(Command::new(run::keyslot()).args(*args))?;
        assert_eq!(run.code, 2, "{args:?}: {}", run.stderr);
        assert_eq!(run.stderr.lines().count(), 1, "{args:?}: {}", run.stderr);
        assert!(
            run.stderr.starts_with("keyslot: ") && run.stderr.contains(quoted),
            "{args:?}: {}",
            run.stderr
        );
        assert_eq!(run.stdout, b"", "{args:?}");
    }
    Ok(())
}

#[test]
fn nobody_listening_is_one_line_and_code_3() -> anyhow::Result<()> {
    // A server that has gone leaves a port where nobody listens.
    let mut server = TestServer::start()?;
    let url = server.url();
    server.kill()?;
    for args in [&["exec", "PING"][..], &["topology"], &["slot", "k"], &["health"], &[]] {
        let mut command = Command::new(run::keyslot());
        let run = Run::of(command.args(["--url", &url, "--connect-timeout", "3s"]).args(args))?;
        assert_eq!(run.code, 3, "{args:?}: {}", run.stderr);
        assert_eq!(run.stderr.lines().count(), 1, "{args:?}: {}", run.stderr);
        assert!(run.stderr.contains(&server.port().to_string()), "{args:?}: {}", run.stderr);
    }
    Ok(())
}

#[test]
fn a_refused_password_is_code_1_and_never_shown() -> anyhow::Result<()> {
    let server = TestServer::builder().password("correct-horse").start()?;
    let refused: [&[&str]; 2] =
        [&["--pass", "battery-staple"], &["--user", "nobody", "--pass", "battery-staple"]];
    for options in refused {
        let mut command = Command::new(run::keyslot());
        let run = Run::of(command.args(["--url", &server.url()]).args(options).args(["exec", "PING"]))?;
        assert_eq!((run.code, run.stderr.lines().count()), (1, 1), "{}", run.stderr);
        for secret in ["battery-staple", "correct-horse"] {
            assert!(!run.stderr.contains(secret), "{}", run.stderr);
        }
    }
    for variable in ["KEYSLOT_PASSWORD", "REDISCLI_AUTH"] {
        let mut command = Command::new(run::keyslot());
        let run = Run::of(command.env(variable, "correct-horse").args([
            "--url",
            &server.address(),
            "exec",
            "PING",
        ]))?;
        assert_eq!((run.code, &run.stdout[..]), (0, &b"PONG\n"[..]), "{}", run.stderr);
    }
    Ok(())
}

#[test]
fn a_server_error_is_printed_and_code_1() -> anyhow::Result<()> {
    let server = TestServer::start()?;
    for (args, printed) in [
        (&["GET"][..], "ERR wrong number of arguments for 'get' command\n\n"),
        (&["NOSUCH", "-1"], "ERR unknown command 'NOSUCH', with args beginning with: '-1' \n\n"),
    ] {
        let mut command = Command::new(run::keyslot());
        let run = Run::of(command.args(["--url", &server.url(), "exec"]).args(args))?;
        assert_eq!((run.code, str::from_utf8(&run.stdout)?, run.stderr.as_str()), (1, printed, ""));
    }
    Ok(())
}
