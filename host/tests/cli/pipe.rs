//! Shows what `keyslot pipe` runs, counts and reports: lines and RESP, from files and from pipes,
//! with mistakes.

use std::fs;
use std::io::Write as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use keyslot_testcluster::{TestCluster, TestServer};
use serde_json::{Value, json};

use crate::run::{Program, Run, keyslot};

/// Starts `keyslot pipe` with these options and a pipe as its standard input.
pub(super) fn start(cluster: &TestCluster, options: &[&str]) -> anyhow::Result<Child> {
    let mut command = Program::Keyslot(options).command(cluster);
    command.arg("pipe").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Ok(command.spawn()?)
}

pub(super) fn end(child: Child) -> anyhow::Result<Run> {
    let output = child.wait_with_output()?;
    Ok(Run {
        code: output.status.code().unwrap_or(-1),
        stdout: output.stdout,
        stderr: String::from_utf8(output.stderr)?,
    })
}

/// Runs `keyslot pipe` over this input, from a pipe.
fn pipe(cluster: &TestCluster, options: &[&str], input: &[u8]) -> anyhow::Result<Run> {
    let mut child = start(cluster, options)?;
    child.stdin.take().context("a pipe")?.write_all(input)?;
    end(child)
}

/// The same, and what it says in JSON.
fn pipe_json(cluster: &TestCluster, input: &[u8]) -> anyhow::Result<(Run, Value)> {
    let run = pipe(cluster, &["--json"], input)?;
    let summary = serde_json::from_slice(&run.stdout).with_context(|| run.stderr.clone())?;
    Ok((run, summary))
}

pub(super) fn resp(words: &[&str]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend(format!("${}\r\n{word}\r\n", word.len()).bytes());
    }
    bytes
}

fn keys(cluster: &TestCluster) -> anyhow::Result<i64> {
    let sizes = cluster
        .primaries()?
        .into_iter()
        .map(|node| -> anyhow::Result<i64> { Ok(cluster.connection(node)?.integer(&["DBSIZE"])?) });
    sizes.sum()
}

pub(super) fn list(cluster: &TestCluster, key: &str) -> anyhow::Result<Vec<String>> {
    let run =
        Run::of(Program::Keyslot(&["--raw"]).command(cluster).args(["exec", "LRANGE", key, "0", "-1"]))?;
    Ok(str::from_utf8(&run.stdout)?.lines().map(str::to_owned).collect())
}

#[test]
fn lines_and_resp_are_run_in_order_from_files_and_pipes() -> anyhow::Result<()> {
    const COMMANDS: usize = 20_000;
    let cluster = TestCluster::start(3, 0)?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("commands");
    // Each list gets its numbers in the order of the input.
    let key = |number: usize| format!("list:{}", number % 100);
    let lines: String = (0..COMMANDS).map(|n| format!("RPUSH '{}' \"{n}\"\n", key(n))).collect();
    let requests: Vec<u8> = (0..COMMANDS).flat_map(|n| resp(&["RPUSH", &key(n), &n.to_string()])).collect();
    // The last line does without its end.
    for input in [lines.trim_end().as_bytes(), &requests] {
        fs::write(&file, input)?;
        for from_file in [true, false] {
            let run = if from_file {
                let mut command = Program::Keyslot(&[]).command(&cluster);
                Run::of(command.arg("pipe").stdin(fs::File::open(&file)?))?
            } else {
                pipe(&cluster, &[], input)?
            };
            let text = str::from_utf8(&run.stdout)?;
            ensure!((run.code, run.stderr.as_str()) == (0, ""), "{} {text}", run.stderr);
            let rows: Vec<Vec<_>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
            ensure!(rows.len() == 2 && rows[1][..3] == ["20,000", "20,000", "0"], "{text}");
            for place in [0, 50, 99] {
                let expected: Vec<_> = (place..COMMANDS).step_by(100).map(|n| n.to_string()).collect();
                ensure!(list(&cluster, &key(place))? == expected, "list {place} is in another order");
            }
            super::empty(&cluster)?;
        }
    }
    Ok(())
}

#[test]
fn what_fails_is_counted_by_code_and_the_rest_goes_on() -> anyhow::Result<()> {
    let cluster = TestCluster::start(3, 0)?;
    let input = b"RPUSH l 1\n\nINCR l\nSET \"a\nINCR l\nMULTI\nNOSUCH\nRENAME a b\n2 INCR n\nSET last x";
    let (run, summary) = pipe_json(&cluster, input)?;
    ensure!((run.code, run.stderr.as_str()) == (1, ""), "{} {summary}", run.stderr);
    ensure!((&summary["commands"], &summary["replies"]) == (&json!(9), &json!(7)), "{summary}");
    ensure!((&summary["errors"], &summary["unknown"]) == (&json!(6), &json!(0)), "{summary}");
    ensure!(summary["interrupted"] == json!(false), "{summary}");
    let codes: Vec<_> = summary["codes"].as_array().context("a list")?.iter().collect();
    let told = |code: &str| codes.iter().find(|told| told["code"] == code).copied();
    for (code, errors, line, part) in [
        ("WRONGTYPE", 2, 3, "Operation against a key"),
        ("SYNTAX", 1, 4, "quotes"),
        ("KEYSLOT.INVALID-ARGUMENT", 1, 6, "MULTI cannot be sent"),
        ("ERR", 1, 7, "unknown command"),
        ("KEYSLOT.CROSS-SLOT", 1, 8, "different slots"),
    ] {
        let told = told(code).with_context(|| format!("no {code} in {summary}"))?;
        ensure!((&told["errors"], &told["first"]["line"]) == (&json!(errors), &json!(line)), "{told}");
        ensure!(told["first"]["message"].as_str().is_some_and(|text| text.contains(part)), "{told}");
    }
    ensure!(codes[0]["code"] == "WRONGTYPE" && codes.len() == 5, "{summary}");
    let run = Run::of(Program::Keyslot(&[]).command(&cluster).args(["exec", "MGET", "n", "last"]))?;
    ensure!(run.stdout == b"2\nx\n", "{:?}", run.stdout);

    let run = pipe(&cluster, &[], input)?;
    let text = str::from_utf8(&run.stdout)?;
    ensure!(text.contains("\nSYNTAX ") && text.contains("  line 4: the quotes do not match"), "{text}");
    Ok(())
}

#[test]
fn broken_resp_ends_the_input_and_is_told() -> anyhow::Result<()> {
    let cluster = TestCluster::start(3, 0)?;
    let whole: Vec<u8> = (0..1_000).flat_map(|n| resp(&["SET", &format!("key:{n}"), "\r\n"])).collect();
    let input = [&whole, &b"SET k v\r\n"[..], &resp(&["SET", "behind", "it"])].concat();
    let (run, summary) = pipe_json(&cluster, &input)?;
    ensure!(run.code == 1, "{summary}");
    ensure!(
        run.stderr.starts_with(&format!("keyslot: byte {}: a request begins with", whole.len())),
        "{}",
        run.stderr
    );
    ensure!(
        run.stderr.lines().count() == 1 && run.stderr.contains("nothing from there on was run"),
        "{}",
        run.stderr
    );
    ensure!((&summary["replies"], &summary["errors"]) == (&json!(1_000), &json!(1)), "{summary}");
    ensure!(summary["codes"][0]["code"] == "SYNTAX", "{summary}");
    ensure!(summary["codes"][0]["first"]["byte"] == json!(whole.len()), "{summary}");
    ensure!(keys(&cluster)? == 1_000, "another number of keys than was said");
    Ok(())
}

#[test]
fn nothing_is_waited_for_before_what_there_is_is_run() -> anyhow::Result<()> {
    let cluster = TestCluster::start(3, 0)?;
    let mut child = start(&cluster, &[])?;
    let mut stdin = child.stdin.take().context("a pipe")?;
    for number in 1..=3 {
        stdin.write_all(format!("SET key:{number} value\nSET half").as_bytes())?;
        until("the line is run", || Ok(keys(&cluster)? == number))?;
        stdin.write_all(b":key value\nDEL half:key\n")?;
    }
    drop(stdin);
    let run = end(child)?;
    ensure!(run.code == 0, "{} {:?}", run.stderr, run.stdout);
    Ok(())
}

#[cfg(unix)]
#[test]
fn an_interruption_ends_the_input_and_prints_the_summary() -> anyhow::Result<()> {
    let cluster = TestCluster::start(3, 0)?;
    let mut child = start(&cluster, &["--json"])?;
    // It stays open.
    let mut stdin = child.stdin.take().context("a pipe")?;
    stdin.write_all(b"SET a 1\n\nSET b 2\nSET c")?;
    until("the lines are run", || Ok(keys(&cluster)? == 2))?;
    Command::new("kill").args(["-INT", &child.id().to_string()]).status()?;
    let run = end(child)?;
    let summary: Value = serde_json::from_slice(&run.stdout)?;
    ensure!(run.code == 130 && summary["interrupted"] == json!(true), "{} {summary}", run.code);
    ensure!((&summary["commands"], &summary["replies"]) == (&json!(2), &json!(2)), "{summary}");
    ensure!(
        run.stderr == "keyslot: line 3 was the last that was run\nkeyslot: interrupted\n",
        "{}",
        run.stderr
    );
    Ok(())
}

#[test]
fn a_terminal_is_shown_progress_and_it_is_taken_away() -> anyhow::Result<()> {
    let cluster = TestCluster::start(1, 0)?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("commands");
    let lines: String = (0..50_000).map(|number| format!("SET key:{number} value\n")).collect();
    fs::write(&file, &lines)?;
    let url = &cluster.urls()[0];
    let command = format!("{} --url {url} pipe < {}", keyslot().display(), file.display());
    let run = Run::of(
        Command::new("script")
            .args(["-q", "-e", "-c", &command, "/dev/null"])
            .env("TERM", "xterm")
            .stdin(Stdio::null()),
    )
    .context("the program 'script' (util-linux) is needed for a terminal")?;
    let text = String::from_utf8(run.stdout)?;
    ensure!(run.code == 0 && text.contains(" replies, ") && text.contains(" left"), "{text:?}");
    ensure!(text.contains("50,000   50,000       0"), "{text:?}");
    Ok(())
}

#[test]
fn wrong_usage_and_servers_that_are_not_there_have_their_codes() -> anyhow::Result<()> {
    let mut server = TestServer::start()?;
    let url = server.url();
    server.kill()?;
    for (args, code) in [(&["pipe", "file"][..], 2), (&["pipe", "--no-such"], 2), (&["pipe"], 3)] {
        let mut command = Command::new(keyslot());
        let run = Run::of(
            command.args(["--url", &url, "--connect-timeout", "3s"]).args(args).stdin(Stdio::null()),
        )?;
        ensure!((run.code, run.stderr.lines().count()) == (code, 1), "{args:?}: {}", run.stderr);
        ensure!(run.stdout.is_empty(), "{args:?}: {:?}", run.stdout);
    }
    Ok(())
}

/// Waits until it is true, for ten seconds at most.
pub(super) fn until(what: &str, holds: impl Fn() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds()? {
        ensure!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
