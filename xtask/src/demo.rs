//! `cargo xtask demo`: the main job, on a real cluster, in one command.

use crate::{setup, step};

/// Sets up, builds, and runs `keyslot demo`.
pub(crate) fn run() -> anyhow::Result<()> {
    setup::wasm_target()?;
    setup::redis(&["redis-server"])?;
    step::run(&mut step::cargo(&["run", "--release", "--package", "keyslot", "--", "demo"]))
}
