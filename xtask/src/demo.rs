//! `cargo xtask demo`: the main job, on a real cluster, in one command.

use std::process::Command;

use anyhow::Context;

use crate::{setup, step};

/// Sets up, builds, and runs `keyslot demo`.
///
/// It builds in the development profile and with all members selected, as `cargo xtask test` does:
/// a selection decides which features of shared dependencies are on, and with others wasmtime would
/// be built once more. Dependencies are optimised in that profile, wasmtime with them, and the
/// component always is.
pub(crate) fn run() -> anyhow::Result<()> {
    setup::wasm_target()?;
    setup::redis(&["redis-server"])?;
    let mut build =
        step::cargo(&["build", "--workspace", "--exclude", "keyslot-guest", "--exclude", "counter"]);
    step::run(build.args(["--bin", "keyslot"]))?;
    // Cargo puts it beside this program.
    let xtask = std::env::current_exe().context("this program has no path")?;
    let keyslot = xtask.with_file_name(format!("keyslot{}", std::env::consts::EXE_SUFFIX));
    step::run(Command::new(keyslot).arg("demo"))
}
