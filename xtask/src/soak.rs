//! `cargo xtask soak`: one client against a cluster that is hurt all the time, in one command.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Context as _;

use crate::{setup, step};

const EXAMPLES: &str = "\
Examples:
  cargo xtask soak --minutes 10           ten minutes, with faults in a new order
  cargo xtask soak --minutes 1 --seed 7   one minute, with the faults of seed 7
  cargo xtask soak --minutes 60 --out /tmp/soak
                                          an hour; the plot is /tmp/soak/soak.svg

Exit codes: 0 all promises held, 1 one was broken, 2 the soak could not run.";

/// Nodes are killed, stopped, replaced and resharded while callers of one client count and read. At
/// the end come a table of faults and promises, and a plot of rate, errors, memory and sockets over
/// time. Ctrl-C ends it early, with its report.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// How long, in minutes; parts of one are fine.
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// Chooses the faults, the protocol and the load; without it, a new one each time.
    #[arg(long)]
    seed: Option<u64>,
    /// The folder for the plot; `soak` in cargo's target folder unless given.
    #[arg(long)]
    out: Option<PathBuf>,
}

/// Sets up, builds, and becomes the program `soak`: Ctrl-C and the exit code are its own.
///
/// It builds as `cargo xtask demo` does, for the same reason.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    setup::wasm_target()?;
    setup::redis(&["redis-server"])?;
    let mut build =
        step::cargo(&["build", "--workspace", "--exclude", "keyslot-guest", "--exclude", "counter"]);
    step::run(build.args(["--bin", "soak"]))?;
    // Cargo puts it beside this program, in a folder of the target folder.
    let xtask = std::env::current_exe().context("this program has no path")?;
    let soak = xtask.with_file_name(format!("soak{}", std::env::consts::EXE_SUFFIX));
    let target = xtask.ancestors().nth(2).context("this program is in no target folder")?;

    let mut command = Command::new(soak);
    command.arg("--minutes").arg(arguments.minutes.to_string());
    if let Some(seed) = arguments.seed {
        command.arg("--seed").arg(seed.to_string());
    }
    command.arg("--out").arg(arguments.out.clone().unwrap_or_else(|| target.join("soak")));
    if step::output(Command::new("setsid").arg("--version")).is_some() {
        // A terminal sends Ctrl-C to all programs that run in it: the servers are put out of its
        // reach, for the soak still compares what they hold.
        let server = std::env::var("KEYSLOT_REDIS_SERVER").ok().filter(|server| !server.is_empty());
        let server = server.as_deref().unwrap_or("redis-server");
        command.env("KEYSLOT_REDIS_SERVER", format!("setsid {server}"));
    }
    become_it(command)
}

#[cfg(unix)]
fn become_it(mut command: Command) -> anyhow::Result<()> {
    use std::os::unix::process::CommandExt as _;
    Err(command.exec()).context("cannot run the soak")
}

#[cfg(not(unix))]
fn become_it(_: Command) -> anyhow::Result<()> {
    anyhow::bail!("the soak stops and wakes servers with signals, which this system does not have")
}
