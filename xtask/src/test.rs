//! `cargo xtask test`: every test, in one command.

use crate::{setup, step};

/// The simulated cluster in core/tests runs 12,000 seeds; KEYSLOT_SIM_SEEDS names another number.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only the tests whose names contain this.
    filter: Option<String>,
    /// What goes to the test programs, after `--`.
    #[arg(last = true)]
    rest: Vec<String>,
}

/// Sets up, and tests all members that build for this machine. The component and the example guest
/// are built, for WebAssembly, by the host's build script and by the tests that run them.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    setup::wasm_target()?;
    setup::redis(&["redis-server", "redis-cli"])?;
    let mut command =
        step::cargo(&["test", "--workspace", "--exclude", "keyslot-guest", "--exclude", "counter"]);
    command.args(&arguments.filter);
    if !arguments.rest.is_empty() {
        command.arg("--").args(&arguments.rest);
    }
    step::run(&mut command)
}
