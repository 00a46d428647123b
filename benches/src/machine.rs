//! What the numbers were measured on and with.

use std::fmt;

/// The workspace's lock file: which versions of the crates this program was built with.
const LOCK_FILE: &str = include_str!("../../Cargo.lock");

/// The crates whose versions matter.
const CRATES: [&str; 5] = ["keyslot", "redis", "redis-protocol", "tokio", "wasmtime"];

pub(crate) struct Machine {
    pub(crate) cores: usize,
    pub(crate) processor: Option<String>,
    pub(crate) system: String,
    /// Name and version of the servers; none when no row needed them.
    pub(crate) server: Option<String>,
    /// Names and versions.
    pub(crate) crates: Vec<(&'static str, &'static str)>,
}

impl Machine {
    pub(crate) fn new(server: Option<String>) -> Self {
        Self {
            cores: std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
            processor: std::fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| processor(&text)),
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            server,
            crates: CRATES.iter().filter_map(|name| Some((*name, version(LOCK_FILE, name)?))).collect(),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cores", self.cores)?;
        if let Some(processor) = &self.processor {
            write!(f, " of {processor}")?;
        }
        write!(f, ", {}", self.system)?;
        if let Some(server) = &self.server {
            write!(f, ", {server}")?;
        }
        self.crates.iter().try_for_each(|(name, version)| write!(f, ", {name} {version}"))
    }
}

/// The processor's name in Linux's list of them.
fn processor(list: &str) -> Option<String> {
    let line = list.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// A crate's version in a lock file.
fn version<'a>(lock_file: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = lock_file.split_once(&format!("\nname = \"{name}\"\nversion = \""))?;
    Some(rest.split_once('"')?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_versions_are_known() {
        let machine = Machine::new(None);
        assert_eq!(machine.crates.len(), CRATES.len(), "{machine}");
    }

    #[test]
    fn the_processor_is_named() {
        let list = "processor\t: 0\nmodel name\t: A Fast One\n\nprocessor\t: 1\nmodel name\t: A Fast One\n";
        assert_eq!(processor(list).as_deref(), Some("A Fast One"));
        assert_eq!(processor("processor\t: 0\n"), None);
    }
}
