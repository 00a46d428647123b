//! Runs `keyslot` and `redis-cli`, into a pipe and on a terminal.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use keyslot_testcluster::TestCluster;

/// Stands between the outputs of two commands on a terminal.
const MARK: &str = "-=-=- next -=-=-";

/// The `keyslot` program, which cargo builds for this test.
pub(super) fn keyslot() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_keyslot"))
}

/// One of the two programs, with the options that stand before the command.
pub(super) enum Program<'a> {
    Keyslot(&'a [&'a str]),
    RedisCli(&'a [&'a str]),
}

impl Program<'_> {
    /// The program, told where the cluster is; for a test that adds the rest.
    pub(super) fn command(&self, cluster: &TestCluster) -> Command {
        let words = self.words(cluster);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        command
    }

    fn words(&self, cluster: &TestCluster) -> Vec<String> {
        let (start, options) = match self {
            Self::Keyslot(options) => {
                (vec![keyslot().display().to_string(), "--url".into(), cluster.urls()[0].clone()], options)
            }
            Self::RedisCli(options) => {
                let port = cluster.ports()[0].to_string();
                (vec!["redis-cli".into(), "-c".into(), "-p".into(), port], options)
            }
        };
        start.into_iter().chain(options.iter().map(ToString::to_string)).collect()
    }

    /// The words that run one line as a command of its own process.
    fn words_for(&self, cluster: &TestCluster, line: &str) -> Vec<String> {
        let mut words = self.words(cluster);
        if let Self::Keyslot(_) = self {
            words.push("exec".to_owned());
        }
        words.extend(split(line));
        words
    }
}

/// Runs each line as a process of its own and returns what each printed.
pub(super) fn each(
    program: &Program<'_>,
    cluster: &TestCluster,
    lines: &[&str],
    terminal: bool,
) -> anyhow::Result<Vec<Vec<u8>>> {
    let commands = lines.iter().map(|line| program.words_for(cluster, line));
    if terminal {
        return on_terminal(commands);
    }
    commands
        .map(|words| {
            let run = Run::of(Command::new(&words[0]).args(&words[1..]).stdin(Stdio::null()))?;
            Ok([run.stdout, run.stderr.into_bytes()].concat())
        })
        .collect()
}

/// Runs commands one after the other on one terminal, that of the program `script`.
fn on_terminal(commands: impl Iterator<Item = Vec<String>>) -> anyhow::Result<Vec<Vec<u8>>> {
    let mut text = String::from("stty -echo -onlcr\n");
    let mut count = 0;
    for words in commands {
        let quoted: Vec<_> = words.iter().map(|word| format!("'{}'", word.replace('\'', "'\\''"))).collect();
        text += &format!("printf '%s' '{MARK}'\n{} < /dev/null\n", quoted.join(" "));
        count += 1;
    }
    let text = script(&text)?;
    let mark = MARK.as_bytes();
    let starts: Vec<_> = (0..text.len()).filter(|&at| text[at..].starts_with(mark)).collect();
    ensure!(
        starts.len() == count,
        "{} of {count} commands ran: {}",
        starts.len(),
        String::from_utf8_lossy(&text)
    );
    let ends = starts.iter().skip(1).copied().chain([text.len()]);
    Ok(starts.iter().zip(ends).map(|(start, end)| text[start + mark.len()..end].to_vec()).collect())
}

/// Runs a shell's script on a terminal of the program `script`, and returns what was written there.
pub(super) fn script(text: &str) -> anyhow::Result<Vec<u8>> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("commands.sh");
    fs::write(&file, text)?;
    let run = Run::of(
        Command::new("script")
            .args(["-q", "-e", "-c", &format!("sh {}; true", file.display()), "/dev/null"])
            .env("TERM", "xterm")
            .stdin(Stdio::null()),
    )
    .context("the program 'script' (util-linux) is needed for a terminal")?;
    Ok(run.stdout)
}

/// How a process ended and what it printed.
pub(super) struct Run {
    pub(super) code: i32,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: String,
}

impl Run {
    pub(super) fn of(command: &mut Command) -> anyhow::Result<Self> {
        for variable in ["KEYSLOT_URL", "REDISCLI_AUTH", "KEYSLOT_PASSWORD"] {
            if !command.get_envs().any(|(name, _)| name == variable) {
                command.env_remove(variable);
            }
        }
        let output = command.output().with_context(|| format!("{command:?}"))?;
        Ok(Self {
            code: output.status.code().unwrap_or(-1),
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Standard output without what `redis-cli` says about a redirect that it follows, and without
    /// the name of the program in what both say about a wrong count.
    pub(super) fn without_notices(&self) -> String {
        let text = self.stdout.escape_ascii().to_string().replace("\\n", "\n");
        text.split_inclusive('\n')
            .filter(|line| !line.starts_with("-> Redirected to slot"))
            .map(|line| line.replace("Invalid keyslot repeat", "Invalid redis-cli repeat"))
            .collect()
    }
}

/// The words of a line: separated by blanks, or between double quotes, which have no escapes.
fn split(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (index, part) in line.split('"').enumerate() {
        if index % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}
