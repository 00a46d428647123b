//! `cargo xtask check-imports`: what the release component asks of its runtime, and what it weighs.
//!
//! The component is to run in any WASI 0.2 runtime that grants sockets and nothing else, and to be
//! small enough for an edge platform; a dependency that drags in files, the environment or its own
//! size shows here.

use std::fs;

use anyhow::{Context as _, bail};
use wasmparser::{Parser, Payload};

use crate::{setup, step};

/// What the component may import: whole interfaces, or packages that end with `/`.
const ALLOWED: [&str; 4] = ["wasi:io/", "wasi:clocks/monotonic-clock", "wasi:sockets/", "wasi:random/"];

/// The profiles that the component is built with, and what it stays under with each.
const PROFILES: [(&str, usize); 2] = [("component", 630_000), ("component-fast", 915_000)];

/// Builds the component with each of its profiles, prints its imports and its size, and fails when
/// either is too much.
pub(crate) fn run() -> anyhow::Result<()> {
    setup::wasm_target()?;
    PROFILES.iter().try_for_each(|(profile, bytes_max)| check(profile, *bytes_max))
}

fn check(profile: &str, bytes_max: usize) -> anyhow::Result<()> {
    println!("profile {profile}");
    let build = ["build", "--profile", profile, "--target", "wasm32-wasip2", "--package", "keyslot-guest"];
    step::run(&mut step::cargo(&build))?;
    let folder = target_folder()?.join("wasm32-wasip2").join(profile);
    let path = folder.join("keyslot_redis.wasm");
    let component = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;

    let imports = imports(&component).with_context(|| format!("in {}", path.display()))?;
    for import in &imports {
        println!("{import}");
    }
    println!("{} bytes", component.len());

    let forbidden: Vec<&str> =
        imports.iter().map(String::as_str).filter(|import| !is_allowed(import)).collect();
    if !forbidden.is_empty() {
        bail!("the component must not import {}", forbidden.join(", "));
    }
    if component.len() >= bytes_max {
        bail!("the component has {} bytes; it is to stay under {bytes_max}", component.len());
    }
    Ok(())
}

/// The names of the imports of the outermost component.
fn imports(component: &[u8]) -> anyhow::Result<Vec<String>> {
    let mut imports = Vec::new();
    // How many components and modules the parser is inside of.
    let mut depth = 0;
    let mut is_component = false;
    for payload in Parser::new(0).parse_all(component) {
        match payload? {
            Payload::Version { encoding, .. } if depth == 0 => {
                is_component = encoding == wasmparser::Encoding::Component;
            }
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth -= 1,
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    imports.push(import?.name.name.to_owned());
                }
            }
            _ => {}
        }
    }
    if !is_component {
        bail!("this is a core module, not a component");
    }
    Ok(imports)
}

fn is_allowed(import: &str) -> bool {
    let interface = import.split_once('@').map_or(import, |(interface, _)| interface);
    ALLOWED.iter().any(|allowed| {
        if allowed.ends_with('/') { interface.starts_with(allowed) } else { interface == *allowed }
    })
}

/// Where cargo puts what it builds.
fn target_folder() -> anyhow::Result<std::path::PathBuf> {
    let metadata = step::output(&mut step::cargo(&["metadata", "--no-deps", "--format-version", "1"]))
        .context("cargo metadata failed")?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata)?;
    let folder = metadata["target_directory"].as_str().context("cargo metadata names no target folder")?;
    Ok(folder.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sockets_and_what_they_need_are_allowed() {
        for (import, allowed) in [
            ("wasi:io/poll@0.2.6", true),
            ("wasi:sockets/tcp@0.2.0", true),
            ("wasi:clocks/monotonic-clock@0.2.0", true),
            ("wasi:clocks/wall-clock@0.2.0", false),
            ("wasi:cli/environment@0.2.0", false),
            ("wasi:iota/poll", false),
        ] {
            assert_eq!(is_allowed(import), allowed, "{import}");
        }
    }

    #[test]
    fn a_core_module_is_no_component() {
        assert!(imports(b"\0asm\x01\0\0\0").is_err());
        assert_eq!(imports(b"\0asm\x0d\0\x01\0").unwrap(), Vec::<String>::new());
    }
}
