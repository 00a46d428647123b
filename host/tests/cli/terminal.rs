//! Shows that nothing that a server writes is obeyed by the terminal, wherever the command prints
//! it, and that a pipe gets the server's bytes, as from `redis-cli`.

use std::fs;
use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use crate::hostile::{self, EVIL, Kind, evil_bytes, evil_text};
use crate::run::{self, Run};

/// What in a text a terminal would obey, but for line ends and tabs.
fn obeyed(text: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    for chunk in text.utf8_chunks() {
        let mut before = ' ';
        for character in chunk.valid().chars().chain(['\0']) {
            let ends_line = before == '\r' && character == '\n';
            let is_safe = !before.is_control() || matches!(before, '\n' | '\t') || ends_line;
            if !is_safe || matches!(before, '\u{2028}'..='\u{202e}') {
                found.push(before.escape_unicode().to_string());
            }
            before = character;
        }
        found.extend((!chunk.invalid().is_empty()).then(|| chunk.invalid().escape_ascii().to_string()));
    }
    found
}

/// Runs keyslot with these words, once on a terminal, where standard error goes, too, and once into
/// pipes.
fn both_ways(port: u16, words: &str) -> anyhow::Result<(Vec<u8>, Run)> {
    let keyslot = run::keyslot().display();
    let line = format!("NO_COLOR=1 {keyslot} --url redis://127.0.0.1:{port} {words}");
    let on_terminal = run::script(&format!("stty -echo -onlcr\n{line}\n"))?;
    let piped = Run::of(Command::new("sh").args(["-c", &line]).stdin(Stdio::null()))?;
    Ok((on_terminal, piped))
}

/// Whether what is printed may hold line breaks of the server: text for people.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Text {
    Line,
    Lines,
}

/// What is run against which server, what its output may hold, and whether its standard output, in
/// the format for pipes, is not bytes of the server.
const CASES: [(Kind, &str, Text, bool); 37] = [
    (Kind::Single, "exec STATUS", Text::Line, false),
    (Kind::Single, "exec ERROR", Text::Line, false),
    (Kind::Single, "exec BULK", Text::Line, false),
    (Kind::Single, "-3 exec VERBATIM", Text::Lines, false),
    (Kind::Single, "-3 exec NESTED", Text::Line, false),
    (Kind::Single, "-3 --no-raw exec NESTED", Text::Line, true),
    (Kind::Single, "--no-raw exec STATUS", Text::Line, true),
    (Kind::Single, "--no-raw exec INFO", Text::Lines, true),
    (Kind::Single, "--raw exec STATUS", Text::Lines, false),
    (Kind::Single, "--raw exec BULK", Text::Lines, false),
    (Kind::Single, "-3 --raw exec NESTED", Text::Lines, false),
    (Kind::Single, "exec INFO", Text::Lines, false),
    (Kind::Single, "exec LOLWUT", Text::Lines, false),
    (Kind::Single, "exec CLUSTER INFO", Text::Lines, false),
    (Kind::Single, "exec CLUSTER NODES", Text::Lines, false),
    (Kind::Single, "exec CLIENT LIST", Text::Lines, false),
    (Kind::Single, "exec MEMORY DOCTOR", Text::Lines, false),
    (Kind::Single, "-3 --json exec NESTED", Text::Line, true),
    (Kind::Single, "--json exec INFO", Text::Line, true),
    (Kind::Single, "--json exec ERROR", Text::Line, true),
    (Kind::Single, "exec GARBAGE", Text::Line, true),
    (Kind::Single, "-v exec RETRIED", Text::Line, true),
    (Kind::Single, "scan", Text::Line, false),
    (Kind::Single, "--raw scan", Text::Line, false),
    (Kind::Single, "--no-raw scan", Text::Line, true),
    (Kind::Single, "--json scan", Text::Line, true),
    (Kind::Cluster, "topology", Text::Line, true),
    (Kind::Cluster, "--json topology", Text::Line, true),
    (Kind::Cluster, "health", Text::Line, true),
    (Kind::Cluster, "--json health", Text::Line, true),
    (Kind::Cluster, "slot \"$(printf 'k\\033[2J\\007\\nforged')\"", Text::Line, true),
    (Kind::Cluster, "--json slot \"$(printf 'k\\033[2J\\007\\nforged')\"", Text::Line, true),
    (Kind::Cluster, "exec MOVED", Text::Line, false),
    (Kind::Cluster, "-v exec MOVED", Text::Line, false),
    (Kind::Refusing, "exec STATUS", Text::Line, true),
    (Kind::Refusing, "topology", Text::Line, true),
    (Kind::Refusing, "-v health", Text::Line, true),
];

#[test]
fn nothing_that_a_server_writes_is_obeyed_by_the_terminal() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let file = |name: &str, text: &str| -> anyhow::Result<String> {
        let file = folder.path().join(name);
        fs::write(&file, text)?;
        Ok(file.display().to_string())
    };
    let lines = file("lines", "STATUS\nERROR\nBULK\nhelp @\u{1b}]0;title\u{7}\nhelp \u{1b}[2J\nGARBAGE\n")?;
    let commands = file("commands", "ERROR\nCODE\nCODE\nSTATUS\n")?;
    let token = file("token", &format!("no token {EVIL}"))?;
    let of_files: [(Kind, &str, Text, bool); 4] = [
        (Kind::Single, &format!("scan --token {token}"), Text::Line, true),
        (Kind::Single, &format!("< {lines}"), Text::Line, false),
        (Kind::Single, &format!("pipe < {commands} 2> /dev/null"), Text::Line, true),
        (Kind::Single, &format!("--json pipe < {commands} 2> /dev/null"), Text::Line, true),
    ];
    let (single, cluster) = (hostile::start(Kind::Single)?, hostile::start(Kind::Cluster)?);
    let refusing = hostile::start(Kind::Refusing)?;
    let mut wrong = String::new();
    for (kind, words, text, is_own) in CASES.into_iter().chain(of_files) {
        let port = match kind {
            Kind::Single => single,
            Kind::Cluster => cluster,
            Kind::Refusing => refusing,
        };
        let (on_terminal, piped) = both_ways(port, words)?;
        let mut check = |place: &str, printed: &[u8]| {
            let found = obeyed(printed);
            let forged = text == Text::Line
                && printed.split(|byte| b"\r\n".contains(byte)).any(|line| line.starts_with(b"forged"));
            if !found.is_empty() || forged {
                wrong +=
                    &format!("{words}, {place}: {found:?}, forged: {forged}: {}\n", printed.escape_ascii());
            }
        };
        check("terminal", &on_terminal);
        check("standard error", piped.stderr.as_bytes());
        if is_own {
            check("pipe", &piped.stdout);
        }
        ensure!(!on_terminal.is_empty(), "{words} prints nothing");
    }
    ensure!(wrong.is_empty(), "{wrong}");
    Ok(())
}

#[test]
fn a_pipe_gets_the_bytes_that_redis_cli_gives() -> anyhow::Result<()> {
    let port = hostile::start(Kind::Single)?;
    for words in ["STATUS", "ERROR", "BULK", "TEXT", "VERBATIM", "INFO", "CLIENT LIST", "CLUSTER NODES"] {
        let (_, ours) = both_ways(port, &format!("-3 exec {words}"))?;
        let mut redis_cli = Command::new("redis-cli");
        let theirs = Run::of(redis_cli.args(["-3", "-p", &port.to_string()]).args(words.split(' ')))?;
        assert_eq!(
            ours.stdout.escape_ascii().to_string(),
            theirs.stdout.escape_ascii().to_string(),
            "{words}"
        );
    }
    let (_, keys) = both_ways(port, "scan")?;
    assert_eq!(keys.stdout, [&evil_bytes()[..], b"\n"].concat());
    Ok(())
}

#[test]
fn json_is_one_line_that_says_what_the_server_said() -> anyhow::Result<()> {
    let (single, cluster) = (hostile::start(Kind::Single)?, hostile::start(Kind::Cluster)?);
    let json = |port, words: &str| -> anyhow::Result<Value> {
        let (_, run) = both_ways(port, &format!("-3 --json {words}"))?;
        let text = str::from_utf8(&run.stdout)?;
        let line = text.strip_suffix('\n').with_context(|| format!("{words}: {text:?}"))?;
        ensure!(
            !line.contains(|c: char| c.is_control() || ('\u{2028}'..='\u{202e}').contains(&c)),
            "{line:?}"
        );
        Ok(serde_json::from_str(line)?)
    };
    assert_eq!(json(single, "exec STATUS")?, format!("ok {EVIL}"));
    assert_eq!(json(single, "exec VERBATIM")?, evil_text());
    assert_eq!(json(single, "exec ERROR")?["error"]["message"], EVIL);
    assert_eq!(json(cluster, "topology")?[0]["nodes"][0]["zone"], evil_text());
    assert_eq!(json(cluster, "slot \"$(printf 'a\\nb')\" \"$(printf '\\377')\"")?[0]["key"], "a\nb");
    Ok(())
}

#[test]
fn a_host_that_is_none_is_no_node() -> anyhow::Result<()> {
    let port = hostile::start(Kind::Cluster)?;
    let (_, topology) = both_ways(port, "--json topology")?;
    let topology: Value = serde_json::from_slice(&topology.stdout)?;
    let nodes = topology[0]["nodes"].as_array().context("a list")?;
    assert_eq!((nodes.len(), &nodes[0]["address"]), (1, &Value::from(format!("127.0.0.1:{port}"))));
    let (_, redirected) = both_ways(port, "--json exec MOVED")?;
    let error: Value = serde_json::from_slice(&redirected.stdout)?;
    assert_eq!((redirected.code, &error["error"]["code"]), (1, &Value::from("MOVED")));
    for words in ["--map-address 'a*b=c' exec PING", "--url 'redis://a*b' exec PING"] {
        let (_, refused) = both_ways(port, words)?;
        ensure!(refused.code == 2 && refused.stderr.contains("a*b"), "{words}: {}", refused.stderr);
    }
    Ok(())
}

#[test]
fn the_prompt_shows_no_control_characters_of_servers_and_files() -> anyhow::Result<()> {
    let port = hostile::start(Kind::Single)?;
    let folder = tempfile::tempdir()?;
    let history = folder.path().join("history");
    fs::write(&history, "GET old\u{1b}]0;title\u{7}\u{9b}31m\n")?;
    let mut prompt = Prompt::start(port, &history.display().to_string())?;
    prompt.wait_for("keyslot> ")?;
    prompt.write("\u{1b}[A")?;
    prompt.wait_for("GET old\\x1b]0;title\\a\\xc2\\x9b31m")?;
    // Given up; and then as a hint.
    prompt.write("\u{3}")?;
    prompt.wait_for("keyslot> ")?;
    prompt.write("GET o")?;
    prompt.wait_for("ld\\x1b]0;title")?;
    prompt.write("\u{3}")?;
    prompt.wait_for("keyslot> ")?;
    prompt.write("STATUS\r")?;
    prompt.wait_for("ok \\x1b]0;title\\a\\x1b[2J")?;
    prompt.wait_for("keyslot> ")?;
    prompt.write("ERROR\r")?;
    prompt.wait_for("(error) ERR \\x1b]0;title")?;
    prompt.wait_for("keyslot> ")?;
    prompt.write("INFO\r")?;
    prompt.wait_for("second:")?;
    prompt.wait_for("keyslot> ")?;
    prompt.write("quit\r")?;
    let printed = prompt.end()?;
    for obeyed in ["\u{1b}]0;title", "\u{7}", "\u{9b}", "\u{202e}", "\u{85}", "\u{b}"] {
        ensure!(!printed.contains(obeyed), "{obeyed:?} in {printed:?}");
    }
    Ok(())
}

/// `keyslot` on a terminal, and somebody who types.
struct Prompt {
    child: Child,
    printed: Arc<Mutex<Vec<u8>>>,
    input: Arc<Mutex<std::process::ChildStdin>>,
    /// What has been waited for ends here.
    seen: usize,
}

impl Prompt {
    fn start(port: u16, history: &str) -> anyhow::Result<Self> {
        let line = format!("{} --url redis://127.0.0.1:{port}", run::keyslot().display());
        let mut child = Command::new("script")
            .args(["-q", "-e", "-c", &line, "/dev/null"])
            .envs([("TERM", "xterm"), ("NO_COLOR", "1"), ("KEYSLOT_HISTORY", history)])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let input = Arc::new(Mutex::new(child.stdin.take().context("a pipe")?));
        let printed = Arc::new(Mutex::new(Vec::new()));
        let mut output = child.stdout.take().context("a pipe")?;
        let (into, answers) = (Arc::clone(&printed), Arc::clone(&input));
        std::thread::spawn(move || {
            let mut buffer = [0; 4_096];
            while let Ok(length @ 1..) = output.read(&mut buffer) {
                into.lock().unwrap_or_else(PoisonError::into_inner).extend(&buffer[..length]);
                // The editor asks where the cursor is.
                for _ in buffer[..length].windows(4).filter(|bytes| *bytes == b"\x1b[6n") {
                    let _ = answers.lock().unwrap_or_else(PoisonError::into_inner).write_all(b"\x1b[1;1R");
                }
            }
        });
        Ok(Self { child, printed, input, seen: 0 })
    }

    fn write(&self, keys: &str) -> anyhow::Result<()> {
        Ok(self.input.lock().unwrap_or_else(PoisonError::into_inner).write_all(keys.as_bytes())?)
    }

    fn printed(&self) -> String {
        String::from_utf8_lossy(&self.printed.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    fn wait_for(&mut self, text: &str) -> anyhow::Result<()> {
        let started = Instant::now();
        loop {
            let printed = self.printed();
            if let Some(at) = printed.get(self.seen..).and_then(|rest| rest.find(text)) {
                self.seen += at + text.len();
                return Ok(());
            }
            if started.elapsed() > Duration::from_secs(30) {
                bail!("no {text:?} after {} bytes of {printed:?}", self.seen);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn end(mut self) -> anyhow::Result<String> {
        self.child.wait()?;
        Ok(self.printed())
    }
}

impl Drop for Prompt {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
