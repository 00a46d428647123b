//! `cargo xtask bench`: the client beside its peers, in one command.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use crate::{setup, step};

const EXAMPLES: &str = "\
Examples:
  cargo xtask bench                       all rows, in some minutes
  cargo xtask bench --quick               the same in less time, and less exact
  cargo xtask bench --rows decode,get     the rows whose names contain `decode` or `get`
  cargo xtask bench --json bench.json     everything as JSON, beside the table
  cargo xtask bench --profile --rows set-1000 --only typed
                                          and where that contestant's time goes; needs Linux's perf
  cargo xtask bench -- --help             all options

Exit codes: 0 all was measured, whether it reached its goal or not; 2 the benchmark could not run.";

/// Measures Keyslot beside redis-rs (on this machine and in wasm), redis-protocol and a bare
/// socket, and prints times and ratios. The first build compiles wasmtime once more, in the release
/// profile.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Shows a profile after the table. Must stand before what goes to the program.
    #[arg(long)]
    profile: bool,
    /// What goes to the program `bench`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTION")]
    rest: Vec<String>,
}

/// Sets up, builds, and runs the program `bench`: it, redis-rs as a component, and the component
/// that is measured, which is the one that the crate `keyslot` embeds. For a profile the components
/// keep the names of their functions.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    setup::wasm_target()?;
    setup::redis(&["redis-server"])?;
    // This program is in a folder of the target folder.
    let xtask = std::env::current_exe().context("this program has no path")?;
    let target = xtask.ancestors().nth(2).context("this program is in no target folder")?;
    let profile = arguments.profile.then(|| Profile { folder: target.join("profiled") });
    let guests = profile.as_ref().map_or(target, |profile| &profile.folder);
    for (package, profile) in [("keyslot-guest", "component-fast"), ("keyslot-bench-peer", "peer")] {
        let mut build = step::cargo(&["build", "--package", package, "--profile", profile]);
        build.args(["--target", "wasm32-wasip2", "--target-dir"]).arg(guests);
        if arguments.profile {
            build.env(format!("CARGO_PROFILE_{}_STRIP", profile.to_uppercase()), "false");
        }
        step::run(&mut build)?;
    }
    step::run(&mut step::cargo(&["build", "--release", "--package", "keyslot-benches"]))?;

    let program = target.join("release").join(format!("bench{}", std::env::consts::EXE_SUFFIX));
    let mut bench = match &profile {
        Some(profile) => profile.record(&program)?,
        None => Command::new(program),
    };
    let wasm = guests.join("wasm32-wasip2");
    bench.arg("--component").arg(wasm.join("component-fast/keyslot_redis.wasm"));
    bench.arg("--peer").arg(wasm.join("peer/keyslot_bench_peer.wasm"));
    let status = bench.args(&arguments.rest).status();
    let status = status.with_context(|| format!("cannot run {}", bench.get_program().display()))?;
    if let Some(profile) = profile.filter(|_| status.success()) {
        profile.report()?;
    }
    // Its exit code is this task's.
    std::process::exit(status.code().unwrap_or(2))
}

/// A profile by Linux's perf, of the rounds alone.
struct Profile {
    folder: PathBuf,
}

impl Profile {
    /// The command that records this program.
    fn record(&self, program: &Path) -> anyhow::Result<Command> {
        let fifo = self.folder.join("perf.control");
        if !fifo.exists() {
            step::run(Command::new("mkfifo").arg(&fifo))?;
        }
        let mut command = Command::new("perf");
        command.args(["record", "--freq", "1999", "--delay=-1"]);
        command.arg(format!("--control=fifo:{}", fifo.display()));
        command.arg("--output").arg(self.data()).arg(program).arg("--perf").arg(fifo);
        Ok(command)
    }

    /// Prints where the time went in the threads of the program, the servers left out: by library,
    /// and by function.
    fn report(&self) -> anyhow::Result<()> {
        for sort in ["comm,dso", "comm,dso,symbol"] {
            let mut command = Command::new("perf");
            command.args(["report", "--stdio", "--percent-limit", "0.5", "--percentage", "relative"]);
            command.args(["--comms", "bench,tokio-rt-worker", "--sort", sort, "--input"]);
            step::run(command.arg(self.data()))?;
        }
        Ok(())
    }

    fn data(&self) -> PathBuf {
        self.folder.join("perf.data")
    }
}
