//! Shows that the machine keeps its promises on networks and servers that do not.
//!
//! A [`World`](simulator::world::World) is a whole cluster under a virtual clock, driven from one
//! seed: servers that speak RESP, a network that splits, delays and cuts, and the real
//! [`Cluster`](keyslot_core::cluster::Cluster) as the client. Twelve thousand seeds run random
//! requests, borrowers, settings and faults; [`directed`], [`disasters`], [`replicas`], [`scans`],
//! [`pool`], [`liveness`], [`refresh`], [`start`], [`contact`] and [`identity`] have the cases that
//! deserve a name, and [`servers`] shows that the simulated servers are true to the real ones.
//!
//! | variable | what it does |
//! |---|---|
//! | `KEYSLOT_SIM_SEEDS` | so many seeds run |
//! | `KEYSLOT_SIM_FIRST` | the first of them |
//! | `KEYSLOT_SIM_SEED` | only this one runs, and everything that happens in it is printed |
//! | `KEYSLOT_SIM_KEEP` | with it: only these parts of its plan are done, such as `0,4-7,12` |
//! | `KEYSLOT_SIM_DIGEST` | so many seeds run, and one number is printed that stands for all that the machine did in them |
//!
//! A seed that fails is [shrunk](shrink) before it is printed: run again with fewer requests and
//! fewer faults, as long as it breaks the same promise. The report lists what is left, with times,
//! and the command that runs just that. `KEYSLOT_SIM_FIRST=… KEYSLOT_SIM_SEEDS=1` shrinks one seed.
//!
//! A change that only moves code keeps the digest. Run this before and after it:
//!
//! ```text
//! KEYSLOT_SIM_DIGEST=2000 cargo test -p keyslot-core --test simulation -- --nocapture digest
//! ```

mod broken;
mod busy;
mod contact;
mod directed;
mod disasters;
mod identity;
mod lab;
mod liveness;
mod many_keys;
mod own_connections;
mod pool;
mod refresh;
mod replicas;
mod scans;
mod servers;
mod shrink;
mod simulator;
mod start;
mod unread;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use broken::{Broken, caught};
use shrink::{TIME_MAX, shrink};
use simulator::coverage::Coverage;
use simulator::digest::Digest;
use simulator::flaw::Flaw;
use simulator::plan::Keep;
use simulator::scenario::{self, Case};

/// So many seeds run, unless asked otherwise.
const SEEDS: u64 = 12_000;

/// Failing seeds that are reported before the run gives up.
const FAILURES_MAX: usize = 10;

/// And so many of them are shrunk, each for another broken promise.
const SHRUNK_MAX: usize = 3;

#[test]
fn every_seed_keeps_the_promises() {
    if let Some(seed) = number("KEYSLOT_SIM_SEED") {
        scenario::run(Case { keep: keep(), ..Case::seeded(seed) }, true);
        return;
    }
    let (seeds, first) =
        (number("KEYSLOT_SIM_SEEDS").unwrap_or(SEEDS), number("KEYSLOT_SIM_FIRST").unwrap_or(0));
    let next = AtomicU64::new(first);
    let failures = Mutex::new(Vec::new());
    let coverage = Mutex::new(Coverage::default());
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + seeds || failures.lock().unwrap().len() >= FAILURES_MAX {
                return;
            }
            match caught(|| scenario::run(Case::seeded(seed), false)) {
                Ok(covered) => coverage.lock().unwrap().merge(&covered),
                Err(broken) => failures.lock().unwrap().push((seed, broken)),
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        scope.spawn(work);
    });
    let mut failures = failures.into_inner().unwrap();
    failures.sort();
    assert!(failures.is_empty(), "{} of the seeds from {first} failed:\n{}", failures.len(), told(failures));
    let coverage = coverage.into_inner().unwrap();
    println!("what the {seeds} seeds from {first} have come to:\n{coverage}");
    let missing = coverage.missing();
    assert!(missing.is_empty() || seeds < SEEDS, "{seeds} seeds never came to: {}", missing.join("; "));
}

/// What is printed of failing seeds: the first of each broken promise is shrunk.
fn told(failures: Vec<(u64, Broken)>) -> String {
    let mut places = BTreeSet::new();
    let mut text = String::new();
    for (seed, broken) in failures {
        text += &match places.len() < SHRUNK_MAX && places.insert(broken.place.clone()) {
            true => shrink(seed, Flaw::None, broken, TIME_MAX).to_string(),
            false => {
                format!("seed {seed}: {}\n    {}\n", broken.message, shrink::command(seed, &Keep::All))
            }
        };
    }
    text
}

#[test]
fn runs_that_bytes_steer_keep_the_promises() {
    for byte in 0..=255u8 {
        let bytes =
            (0..2_000u32).map(|at| byte.wrapping_mul(31).wrapping_add(((at * at) >> 3) as u8)).collect();
        scenario::run(Case::steered(bytes), false);
    }
    scenario::run(Case::steered(Vec::new()), false);
}

/// Prints the digest when it is asked for. That it is the same each time holds for a few seeds
/// always.
#[test]
fn digest_of_all_outputs() {
    let asked = number("KEYSLOT_SIM_DIGEST");
    let first = number("KEYSLOT_SIM_FIRST").unwrap_or(0);
    let seeds = first..first + asked.unwrap_or(20);
    let digest = digest_of(seeds.clone());
    match asked {
        Some(_) => println!("digest of the seeds {seeds:?}: {digest:016x}"),
        None => {
            assert_eq!(digest, digest_of(seeds.clone()), "the same seeds have the same digest");
            assert_ne!(digest, digest_of(seeds.start..seeds.end - 1), "each seed counts");
        }
    }
}

/// The digest of the runs of these seeds.
fn digest_of(seeds: Range<u64>) -> u64 {
    let next = AtomicU64::new(seeds.start);
    let digests = Mutex::new(BTreeMap::new());
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return;
            }
            let digest = scenario::digest(Case::seeded(seed));
            digests.lock().unwrap().insert(seed, digest);
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        scope.spawn(work);
    });
    let mut whole = Digest::new();
    for (seed, digest) in digests.into_inner().unwrap() {
        whole.note(seed, digest);
    }
    whole.number()
}

/// The number in an environment variable.
fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// The parts of the plan that are kept.
fn keep() -> Keep {
    let Ok(text) = std::env::var("KEYSLOT_SIM_KEEP") else { return Keep::All };
    text.parse().unwrap_or_else(|why| panic!("KEYSLOT_SIM_KEEP={text}: {why}"))
}
