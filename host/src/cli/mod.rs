//! The `keyslot` command: its arguments, its subcommands (a file each), and its exit codes.
//!
//! Nothing here knows how a cluster works: subcommands ask the library's [`keyslot::Client`] and
//! print what it answers. What replies look like is `format`'s, what ends the command with which
//! code is `failure`'s.

mod connection;
mod demo;
mod exec;
mod failure;
mod format;
mod global;
mod health;
mod help;
mod line;
mod pipe;
mod prompt;
mod scan;
mod session;
mod settings;
mod signal;
mod slot;
mod topology;
mod topology_json;
mod watch;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use keyslot_terminal::escape;
use tracing_subscriber::EnvFilter;

use self::failure::Failure;
use self::global::Global;
use self::watch::Watch;

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "keyslot",
    version,
    about = "A Redis and Valkey Cluster client whose logic is a WebAssembly component",
    long_about = "A Redis and Valkey Cluster client whose logic is a WebAssembly component.\n\n\
                  Without a subcommand it is a prompt; when standard input is not a terminal, it reads commands \
                  from there, one a line, as redis-cli does.",
    after_long_help = AFTER_HELP,
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Option<Subcommands>,
}

const AFTER_HELP: &str = "\
Examples:
  keyslot exec SET greeting hello        run one command
  keyslot                                open a prompt; 'help GET' explains a command there
  keyslot < commands.txt                 run a file of commands, one a line
  keyslot pipe < commands.txt            the same for millions, pipelined; also RESP
  keyslot --url redis://10.0.0.1:6379 --url redis://10.0.0.2:6379 topology
  keyslot scan --match 'user:*'          print keys, one a line
  keyslot slot '{user:7}:name' '{user:7}:mail'
  keyslot health                         ask every node whether it answers
  keyslot -v --replica-reads round-robin exec GET greeting
  keyslot --url 'redis://10.0.0.1,10.0.0.2/0?request-timeout=2s&replica-reads=random' exec GET greeting
  keyslot --map-address 172.17.0.2=10.0.0.1 --map-address 172.17.0.3:6379=10.0.0.1:6380 topology
  keyslot demo                           start a local cluster and show what a client does

Exit codes:
  0  all went well; also when commands that were read from a prompt or from standard input got an error
     from the server, as redis-cli has it
  1  the server answered with an error, or refused the user or the password; health: a node does not answer;
     pipe: a command failed
  2  the command line or a setting is wrong
  3  no usable answer: nothing could be reached, or the connection was lost, or the time ran out";

#[derive(Debug, Subcommand)]
enum Subcommands {
    Exec(exec::Exec),
    Pipe(pipe::Pipe),
    Scan(scan::Scan),
    Slot(slot::Slot),
    Topology(topology::Topology),
    Health(health::Health),
    Demo(demo::Demo),
}

/// Runs the command that the process's arguments ask for.
pub(crate) fn main() -> ExitCode {
    let mut cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if !error.use_stderr() => {
            // `--help` and `--version`. A closed pipe is no reason to complain.
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
        Err(error) => return report(&Failure::Usage(usage(&error.to_string()))),
    };
    if cli.global.verbose {
        start_tracing();
        cli.global.connection.watch = Some(Watch::default());
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return report(&Failure::Output(error)),
    };
    let outcome = runtime.block_on(Box::pin(cli.run()));
    // A look-up of a name that nobody answers for has a thread of its own, for many seconds.
    // Nothing waits for it.
    runtime.shutdown_background();
    match outcome {
        Ok(code) => code,
        Err(failure) => report(&failure),
    }
}

impl Cli {
    async fn run(self) -> Result<ExitCode, Failure> {
        let global = &self.global;
        let outcome = match self.command {
            None => prompt::run(global).await,
            Some(Subcommands::Exec(exec)) => exec.run(global).await,
            Some(Subcommands::Pipe(pipe)) => pipe.run(global).await,
            Some(Subcommands::Scan(scan)) => scan.run(global).await,
            Some(Subcommands::Slot(slot)) => slot.run(global).await,
            Some(Subcommands::Topology(topology)) => topology.run(global).await,
            Some(Subcommands::Health(health)) => health.run(global).await,
            Some(Subcommands::Demo(demo)) => demo.run(global).await,
        };
        if let Some(watch) = &global.connection.watch {
            watch.end().await;
        }
        outcome
    }
}

/// Says on standard error what went wrong. A reader that has gone away is nothing to talk about.
fn report(failure: &Failure) -> ExitCode {
    if !failure.is_closed_pipe() {
        let _ = writeln!(io::stderr(), "keyslot: {}", escape::message(&failure.to_string()));
    }
    failure.exit_code()
}

/// What clap says about a wrong command line, without the usage, which `--help` has.
fn usage(text: &str) -> String {
    let paragraphs = text.trim().trim_start_matches("error: ").split("\n\n");
    let said: Vec<_> = paragraphs
        .filter(|paragraph| {
            !paragraph.starts_with("Usage:") && !paragraph.starts_with("For more information")
        })
        .map(|paragraph| paragraph.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    format!("{} (see 'keyslot --help')", said.join("; "))
}

fn start_tracing() {
    // The events are shown by `watch`.
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn,keyslot::events=off"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).init();
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use clap::CommandFactory;

    use super::*;
    use crate::cli::format::Format;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split(' '))
    }

    fn exec_words(line: &str) -> Vec<OsString> {
        match parse(line).unwrap().command {
            Some(Subcommands::Exec(exec)) => exec.command,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_follows_the_command_word_is_not_an_option() {
        assert_eq!(exec_words("keyslot exec SET k -1"), ["SET", "k", "-1"]);
        assert_eq!(exec_words("keyslot exec ZADD z -1 a"), ["ZADD", "z", "-1", "a"]);
        assert_eq!(exec_words("keyslot exec ECHO --json"), ["ECHO", "--json"]);
        assert_eq!(exec_words("keyslot exec ECHO --"), ["ECHO", "--"]);
        assert_eq!(exec_words("keyslot exec -- -x"), ["-x"]);
        assert!(parse("keyslot exec --json ECHO -x").unwrap().global.json);
    }

    #[test]
    fn usage_is_one_line() {
        let error = parse("keyslot exec").unwrap_err();
        assert_eq!(
            usage(&error.to_string()),
            "the following required arguments were not provided: <COMMAND>... (see 'keyslot --help')"
        );
        let error = parse("keyslot exce").unwrap_err();
        assert!(usage(&error.to_string()).contains("unrecognized subcommand 'exce'; tip: "));
    }

    #[test]
    fn output_options_override_each_other_in_order() {
        let format = |line, is_terminal| parse(line).unwrap().global.format_on(is_terminal);
        assert_eq!(format("keyslot --no-raw --raw", false), Format::Raw);
        assert_eq!(format("keyslot --no-raw --raw", true), Format::RawOnTerminal);
        for is_terminal in [false, true] {
            assert_eq!(format("keyslot --raw --no-raw", is_terminal), Format::Terminal);
            assert_eq!(format("keyslot --json", is_terminal), Format::Json);
        }
        assert!(parse("keyslot --raw --json").is_err());
    }
}
