//! `cargo xtask demo`: the main job, on a real cluster, in one command.

use crate::{setup, step};

/// Sets up, builds, and runs `keyslot demo`.
///
/// In the development profile, and for all members, as `cargo xtask test` builds them: what the one has built the
/// other need not. Dependencies are optimised in it, wasmtime with them, and the component always is.
pub(crate) fn run() -> anyhow::Result<()> {
    setup::wasm_target()?;
    setup::redis(&["redis-server"])?;
    step::run(&mut step::cargo(&["run", "--bin", "keyslot", "--", "demo"]))
}
