//! `cargo xtask commands`: writes the core's command table and the prompt's help from what servers
//! say.
//!
//! core/commands holds the answers of Redis 7.0.15, Redis 8.0.6 and Valkey 9.1.2 to COMMAND, and to
//! COMMAND DOCS. The table has every command that any of them knows. Where they disagree, the
//! newest server that knows the command decides, Valkey 9.1.2 before Redis 8.0.6 before Redis
//! 7.0.15:
//!
//! - Arity: in each case the newest is the most lenient (ZRANK, ZREVRANK, COMMAND GETKEYS, CLUSTER
//!   REPLICATE, SCRIPT DEBUG), so nothing is refused that some server takes.
//! - Flags: they differ in `noscript`, `loading`, `stale`, `allow_busy` and `no_multi`, and in
//!   WAIT, which only the newer servers flag `blocking`. None of them tells reads from writes.
//! - Policies: the newest also decides that there are none. Redis 7.0.15 has `multi_shard` for
//!   MSETNX, which the newer servers took back: a split MSETNX is no longer all or nothing.
//! - Key specifications: their positions are the same everywhere. Only their flags differ
//!   (GEORADIUS, GEORADIUSBYMEMBER, HSETEX, SINTERSTORE), and those the table does not keep. A new
//!   difference stops the generator.
//!
//! What the servers do not say stands in [`decisions`].

mod decisions;
mod help;
mod table;

use anyhow::{Context, bail};
use serde::de::DeserializeOwned;
use std::fs;
use std::path::{Path, PathBuf};

/// The servers, newest first. A release number stands in the names of the files with its answers.
pub(crate) const SERVERS: [&str; 3] = ["valkey-9.1.2", "redis-8.0.6", "redis-7.0.15"];

/// Writes the generated files, or, to check them, compares them with what is there.
pub(crate) fn run(check: bool) -> anyhow::Result<()> {
    for (path, text) in [
        ("core/src/command/table.rs", table::render(&answers("command")?)?),
        ("host/src/help_table.rs", help::render(&answers("command-arguments")?)?),
    ] {
        let file = root().join(path);
        if !check {
            fs::write(&file, text).with_context(|| format!("cannot write {path}"))?;
        } else if fs::read_to_string(&file).ok().as_deref() != Some(&text) {
            bail!("{path} is stale: run cargo xtask commands");
        }
    }
    Ok(())
}

/// Each server's answer of one kind, in the order of [`SERVERS`].
fn answers<T: DeserializeOwned>(kind: &str) -> anyhow::Result<Vec<T>> {
    let mut answers = Vec::new();
    for server in SERVERS {
        let path = root().join(format!("core/commands/{kind}-{server}.json"));
        let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        answers.push(serde_json::from_slice(&text).with_context(|| format!("in {}", path.display()))?);
    }
    Ok(answers)
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_generated_files_are_not_stale() {
        super::run(true).unwrap();
    }
}
