//! What a task needs and a clone does not bring: the WebAssembly target, and a Redis server.
//!
//! Each is looked for, and installed where that can be done without asking anybody; otherwise
//! [`Missing`] says in one line what to type.

use std::process::{Command, Stdio};

use anyhow::Context as _;

use crate::step;

/// The target the component is built for.
const WASM_TARGET: &str = "wasm32-wasip2";

/// Something that has to be installed by hand; the text says how. The exit code is 2.
#[derive(Debug)]
pub(crate) struct Missing(String);

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Missing {}

/// Makes sure that Rust can build the component.
pub(crate) fn wasm_target() -> anyhow::Result<()> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let sysroot = step::output(Command::new(rustc).args(["--print", "sysroot"]))
        .context("cannot ask rustc for its sysroot")?;
    let library = std::path::Path::new(&sysroot).join("lib/rustlib").join(WASM_TARGET);
    if library.is_dir() {
        return Ok(());
    }
    if step::output(Command::new("rustup").arg("--version")).is_none() {
        let text =
            format!("this Rust has no {WASM_TARGET}: use rustup (https://rustup.rs), or install that target");
        return Err(Missing(text).into());
    }
    step::run(Command::new("rustup").args(["target", "add", WASM_TARGET]))
}

/// Makes sure that these programs of Redis's are there: `redis-server`, `redis-cli`. Nothing is
/// installed when `KEYSLOT_REDIS_SERVER` names a server.
pub(crate) fn redis(programs: &[&str]) -> anyhow::Result<()> {
    if let Some(server) = std::env::var_os("KEYSLOT_REDIS_SERVER").filter(|server| !server.is_empty()) {
        eprintln!("xtask: the server is {}", server.to_string_lossy());
        return Ok(());
    }
    if programs.iter().all(|program| is_there(program)) {
        return Ok(());
    }
    if is_there("apt-get") {
        return apt_get();
    }
    if is_there("brew") {
        return step::run(Command::new("brew").args(["install", "redis"]));
    }
    let text = "there is no redis-server: install Redis or Valkey, or name a server in KEYSLOT_REDIS_SERVER";
    Err(Missing(text.to_owned()).into())
}

fn apt_get() -> anyhow::Result<()> {
    if step::output(Command::new("id").arg("-u")).as_deref() != Some("0") {
        let text = "there is no redis-server: type sudo apt-get install redis-server redis-tools";
        return Err(Missing(text.to_owned()).into());
    }
    let apt_get = || {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
        command
    };
    step::run(apt_get().args(["-qq", "update"]))?;
    step::run(apt_get().args(["-qq", "install", "-y", "redis-server", "redis-tools"]))
}

/// Whether a program of this name runs.
fn is_there(program: &str) -> bool {
    let mut command = Command::new(program);
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
