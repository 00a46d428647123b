//! `cargo xtask check`: the quick loop. Everything that needs no server.

use crate::{commands, imports, setup, source, step};

/// What the workspace is built with. Another selection turns on other features, and builds wasmtime
/// once more.
const MEMBERS: [&str; 5] = ["--workspace", "--exclude", "keyslot-guest", "--exclude", "counter"];

/// The component and the example guest build for WebAssembly only.
const GUESTS: [&str; 6] = ["--package", "keyslot-guest", "--package", "counter", "--target", "wasm32-wasip2"];

/// How many seeds the simulation runs here, unless `KEYSLOT_SIM_SEEDS` says otherwise.
const SEEDS: &str = "300";

pub(crate) fn run() -> anyhow::Result<()> {
    setup::wasm_target()?;
    step::run(&mut step::cargo(&["fmt", "--all", "--", "--check"]))?;
    source::run(&source::Arguments::default())?;
    commands::run(true)?;
    let mut tests = step::cargo(&["test", "--quiet", "--package", "keyslot-core"]);
    if std::env::var_os("KEYSLOT_SIM_SEEDS").is_none() {
        tests.env("KEYSLOT_SIM_SEEDS", SEEDS);
    }
    step::run(&mut tests)?;
    let lints = ["--", "--deny", "warnings"];
    step::run(step::cargo(&["clippy", "--quiet", "--all-targets"]).args(MEMBERS).args(lints))?;
    step::run(step::cargo(&["clippy", "--quiet"]).args(GUESTS).args(lints))?;
    step::run(step::cargo(&["doc", "--quiet", "--no-deps"]).env("RUSTDOCFLAGS", "--deny warnings"))?;
    imports::run()
}
