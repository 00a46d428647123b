//! `cargo xtask bench`: the client beside its peers, in one command.

use std::process::Command;

use anyhow::Context as _;

use crate::{setup, step};

const EXAMPLES: &str = "\
Examples:
  cargo xtask bench                       all rows, in some minutes
  cargo xtask bench --quick               the same in less time, and less exact
  cargo xtask bench --rows decode,get     the rows whose names contain `decode` or `get`
  cargo xtask bench --json bench.json     everything as JSON, beside the table
  cargo xtask bench -- --help             all options

Exit codes: 0 all was measured, whether it reached its goal or not; 2 the benchmark could not run.";

/// Measures Keyslot beside redis-rs (on this machine and in wasm), redis-protocol and a bare socket, and prints times and
/// ratios. The first build compiles wasmtime once more, in the release profile.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// What goes to the program `bench`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTION")]
    rest: Vec<String>,
}

/// Sets up, builds, and runs the program `bench`: it, redis-rs as a component, and the component that is measured, which
/// is the one that the crate `keyslot` embeds.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    setup::wasm_target()?;
    setup::redis(&["redis-server"])?;
    for (package, profile) in [("keyslot-guest", "component"), ("keyslot-bench-peer", "peer")] {
        let target = ["--target", "wasm32-wasip2", "--profile", profile];
        step::run(step::cargo(&["build", "--package", package]).args(target))?;
    }
    step::run(&mut step::cargo(&["build", "--release", "--package", "keyslot-benches"]))?;

    // This program is in a folder of the target folder, and the others are in folders beside that.
    let xtask = std::env::current_exe().context("this program has no path")?;
    let target = xtask.ancestors().nth(2).context("this program is in no target folder")?;
    let wasm = target.join("wasm32-wasip2");
    let mut bench =
        Command::new(target.join("release").join(format!("bench{}", std::env::consts::EXE_SUFFIX)));
    bench.arg("--component").arg(wasm.join("component/keyslot_redis.wasm"));
    bench.arg("--peer").arg(wasm.join("peer/keyslot_bench_peer.wasm"));
    let status = bench.args(&arguments.rest).status().context("cannot run the benchmark")?;
    // Its exit code is this task's.
    std::process::exit(status.code().unwrap_or(2))
}
