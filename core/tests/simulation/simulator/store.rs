//! What the servers remember: each key's versions in the order of their writes, so that a replica
//! can answer with an older one, and a failover can lose the newest.
//!
//! All nodes share one key space: at any time each key lies at exactly one node, so only *where*
//! has to be kept. A primary that was replaced without hearing of it has a fork: the shared
//! versions up to its replacement, and what it wrote since.

use std::collections::BTreeMap;

/// Which state of the keys a node works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The latest: the node is the primary.
    Primary,
    /// That of this node, which was replaced and believes that it still is the primary.
    Fork(usize),
    /// What was written until then: the node is a replica.
    Replica { applied: u64 },
}

#[derive(Debug)]
struct Version {
    /// Versions of all keys are numbered in one row, from 1.
    serial: u64,
    at: u64,
    /// `None` when deleted.
    value: Option<Vec<u8>>,
}

#[derive(Debug)]
struct Fork {
    /// The last shared version.
    base: u64,
    written: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

/// One read of a register, as it was answered.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) key: Vec<u8>,
    pub(crate) value: Option<Vec<u8>>,
    /// Where from; all but the primary may be behind.
    pub(crate) source: Source,
}

#[derive(Debug, Default)]
pub(crate) struct Store {
    versions: BTreeMap<Vec<u8>, Vec<Version>>,
    serial: u64,
    forks: BTreeMap<usize, Fork>,
    /// The reads of registers, in order.
    pub(crate) reads: Vec<Read>,
}

impl Store {
    pub(crate) fn value(&self, source: Source, key: &[u8]) -> Option<Vec<u8>> {
        let versions = self.versions.get(key).map(Vec::as_slice).unwrap_or_default();
        let version = match source {
            Source::Primary => versions.last(),
            Source::Replica { applied } => versions.iter().rfind(|version| version.at <= applied),
            Source::Fork(node) => {
                let fork = &self.forks[&node];
                if let Some(value) = fork.written.get(key) {
                    return value.clone();
                }
                versions.iter().rfind(|version| version.serial <= fork.base)
            }
        };
        version.map_or_else(|| initial(key), |version| version.value.clone())
    }

    pub(crate) fn write(&mut self, source: Source, now: u64, key: &[u8], value: Option<Vec<u8>>) {
        self.serial += 1;
        match source {
            Source::Fork(node) => {
                self.forks.get_mut(&node).expect("a fork").written.insert(key.to_vec(), value);
            }
            Source::Primary | Source::Replica { .. } => {
                let version = Version { serial: self.serial, at: now, value };
                self.versions.entry(key.to_vec()).or_default().push(version);
            }
        }
    }

    /// The number of the latest version of the key that has this value; zero for the value that it
    /// began with.
    pub(crate) fn serial_of(&self, key: &[u8], value: Option<&[u8]>) -> u64 {
        let mut versions = self.versions.get(key).into_iter().flatten();
        versions.rfind(|version| version.value.as_deref() == value).map_or(0, |version| version.serial)
    }

    /// The node is replaced and does not hear of it.
    pub(crate) fn fork(&mut self, node: usize) {
        self.forks.insert(node, Fork { base: self.serial, written: BTreeMap::new() });
    }

    /// The node has heard of its replacement: what it wrote since is lost.
    pub(crate) fn unfork(&mut self, node: usize) {
        self.forks.remove(&node);
    }

    /// Takes back what was written to these keys after `applied`: the node that has them now never
    /// had it.
    pub(crate) fn roll_back(&mut self, now: u64, applied: u64, is_concerned: impl Fn(&[u8]) -> bool) {
        let behind = |versions: &[Version]| versions.last().is_some_and(|version| version.at > applied);
        let keys: Vec<_> = self
            .versions
            .iter()
            .filter(|(key, versions)| is_concerned(key) && behind(versions))
            .map(|(key, _)| key.clone())
            .collect();
        for key in keys {
            let value = self.value(Source::Replica { applied }, &key);
            self.write(Source::Primary, now, &key, value);
        }
    }
}

/// What a key has from the start: its kind and number, so that a reply shows which request it
/// belongs to. Kind `s` (SET) and the registers have to be created.
fn initial(key: &[u8]) -> Option<Vec<u8>> {
    let suffix = key.splitn(2, |byte| *byte == b':').nth(1)?;
    match suffix.first()? {
        b's' | b'v' => None,
        b'i' => Some((number_of(key)? * 1000).to_string().into_bytes()),
        _ => Some(suffix.to_vec()),
    }
}

/// Whether the key is a register, which many requests write and read.
pub(crate) fn is_register(key: &[u8]) -> bool {
    key.splitn(2, |byte| *byte == b':').nth(1).is_some_and(|suffix| suffix.starts_with(b"v:"))
}

/// The request number that a key or a register's value ends in.
pub(crate) fn number_of(word: &[u8]) -> Option<u64> {
    std::str::from_utf8(word.rsplit(|byte| *byte == b':').next()?).ok()?.parse().ok()
}
