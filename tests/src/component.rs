//! The component's file, for the tests that run it without the crate.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Builds a member of the workspace for wasm32-wasip2 and gives the file.
///
/// It has a target folder of its own, since the outer cargo holds the lock of the usual one.
///
/// # Errors
/// When it does not build.
pub fn build(package: &str, file: &str) -> Result<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("tests/ has a parent")?;
    let target = target_folder()?.join("keyslot-component");
    let status = Command::new(env!("CARGO"))
        .current_dir(root)
        .args(["build", "--quiet", "--profile", "component", "--target", "wasm32-wasip2"])
        .args(["--package", package])
        .env("CARGO_TARGET_DIR", &target)
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .status()?;
    ensure!(status.success(), "{package} does not build");
    let file = target.join("wasm32-wasip2/component").join(file);
    std::fs::read(&file).with_context(|| file.display().to_string())
}

/// The folder that holds `debug/deps/`, where this test is.
fn target_folder() -> Result<PathBuf> {
    let test = std::env::current_exe()?;
    Ok(test.ancestors().nth(3).context("the test lies in target/PROFILE/deps")?.to_path_buf())
}
