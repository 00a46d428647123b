//! Builds the component and names it to `include_bytes!` in src/engine.rs.
//!
//! With the feature `bundled`, which is on by default, the component is built from ../guest by a
//! cargo of its own, with a target folder of its own: the two may not wait for each other's lock.
//! `KEYSLOT_COMPONENT` names a file to embed instead. Where documentation is built without the
//! other folders (docs.rs), nothing is embedded.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const TARGET: &str = "wasm32-wasip2";
/// A host has room for the fast one.
const PROFILE: &str = "component-fast";

/// What the component is made of, beside the workspace's own manifest and lock file.
const SOURCES: [&str; 6] = ["guest", "core/src", "core/Cargo.toml", "wit", "Cargo.toml", "Cargo.lock"];

/// Settings of the outer build that would have the component built another way: flags for the
/// host's target, and the wrapper by which clippy stands in for rustc.
const OUTER_SETTINGS: [&str; 6] = [
    "RUSTFLAGS",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_BUILD_TARGET",
    "RUSTC_WORKSPACE_WRAPPER",
    "CLIPPY_ARGS",
];

fn main() -> ExitCode {
    println!("cargo::rustc-check-cfg=cfg(keyslot_embedded)");
    println!("cargo::rerun-if-env-changed=KEYSLOT_COMPONENT");
    println!("cargo::rerun-if-changed=build.rs");
    if variable("CARGO_FEATURE_BUNDLED").is_none() || variable("DOCS_RS").is_some() {
        return ExitCode::SUCCESS;
    }
    let component = match variable("KEYSLOT_COMPONENT").filter(|file| !file.is_empty()) {
        Some(file) => given(Path::new(&file)),
        None => build(),
    };
    match component {
        Ok(file) => {
            println!("cargo::rustc-cfg=keyslot_embedded");
            println!("cargo::rustc-env=KEYSLOT_COMPONENT_FILE={}", file.display());
            ExitCode::SUCCESS
        }
        Err(message) => {
            println!("cargo::error={message}");
            ExitCode::FAILURE
        }
    }
}

/// The file that `KEYSLOT_COMPONENT` names.
fn given(file: &Path) -> Result<PathBuf, String> {
    println!("cargo::rerun-if-changed={}", file.display());
    file.canonicalize().map_err(|error| format!("KEYSLOT_COMPONENT names {}: {error}", file.display()))
}

/// Builds the component and gives its file.
fn build() -> Result<PathBuf, String> {
    let workspace = required("CARGO_MANIFEST_DIR").map(|directory| PathBuf::from(directory).join(".."))?;
    for source in SOURCES {
        let path = workspace.join(source);
        if !path.exists() {
            return Err(format!(
                "the component's sources are not there ({} is missing): let KEYSLOT_COMPONENT name a \
                 built component, or build without the feature `bundled`",
                path.display()
            ));
        }
        println!("cargo::rerun-if-changed={}", path.display());
    }
    check_target()?;

    let target_directory = target_directory()?;
    let mut cargo = Command::new(required("CARGO")?);
    cargo
        .current_dir(&workspace)
        .args(["build", "--package", "keyslot-guest"])
        .args(["--target", TARGET, "--profile", PROFILE])
        .arg("--target-dir")
        .arg(&target_directory);
    for setting in OUTER_SETTINGS {
        cargo.env_remove(setting);
    }
    let output = cargo.output().map_err(|error| format!("cargo cannot be started: {error}"))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        eprintln!("{text}");
        let first = text.lines().find(|line| line.starts_with("error"));
        return Err(format!(
            "the component does not build: {} (cargo build -p keyslot-guest --target {TARGET})",
            first.unwrap_or("cargo failed")
        ));
    }
    let file = target_directory.join(TARGET).join(PROFILE).join("keyslot_redis.wasm");
    if file.is_file() { Ok(file) } else { Err(format!("cargo made no {}", file.display())) }
}

/// Whether this toolchain can build for the component's target; the error says how to make it so.
fn check_target() -> Result<(), String> {
    let output = Command::new(required("RUSTC")?)
        .args(["--print", "target-libdir", "--target", TARGET])
        .output()
        .map_err(|error| format!("rustc cannot be started: {error}"))?;
    let directory = String::from_utf8_lossy(&output.stdout);
    if output.status.success() && Path::new(directory.trim()).is_dir() {
        return Ok(());
    }
    Err(format!(
        "the toolchain has no {TARGET}, which the component is built for: rustup target add {TARGET}"
    ))
}

/// A folder next to the profile's folders in the target folder, so that debug and release builds
/// share it.
fn target_directory() -> Result<PathBuf, String> {
    // target/PROFILE/build/keyslot-HASH/out
    let out = PathBuf::from(required("OUT_DIR")?);
    let target = out.ancestors().nth(4).ok_or_else(|| format!("OUT_DIR is {}", out.display()))?;
    Ok(target.join("keyslot-component"))
}

fn variable(name: &str) -> Option<OsString> {
    env::var_os(name)
}

fn required(name: &str) -> Result<OsString, String> {
    variable(name).ok_or_else(|| format!("cargo sets no {name}"))
}
