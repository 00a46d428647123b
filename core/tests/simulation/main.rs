//! Shows that the machine keeps its promises on networks and servers that do not.
//!
//! A [`World`](simulator::world::World) is a whole cluster under a virtual clock, driven from one
//! seed: servers that speak RESP, a network that splits, delays and cuts, and the real
//! [`Cluster`](keyslot_core::cluster::Cluster) as the client. Twenty thousand seeds run random
//! requests, borrowers, settings and faults; [`directed`], [`disasters`], [`replicas`], [`scans`],
//! [`pool`], [`liveness`], [`refresh`], [`start`], [`contact`] and [`identity`] have the cases that
//! deserve a name, and [`servers`] shows that the simulated servers are true to the real ones.
//!
//! | variable | what it does |
//! |---|---|
//! | `KEYSLOT_SIM_SEEDS` | so many seeds run |
//! | `KEYSLOT_SIM_FIRST` | the first of them |
//! | `KEYSLOT_SIM_SEED` | only this one runs, and everything that happens in it is printed |
//! | `KEYSLOT_SIM_DIGEST` | so many seeds run, and one number is printed that stands for all that the machine did in them |
//!
//! A change that only moves code keeps the digest. Run this before and after it:
//!
//! ```text
//! KEYSLOT_SIM_DIGEST=2000 cargo test -p keyslot-core --test simulation -- --nocapture digest
//! ```

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
mod simulator;
mod start;
mod unread;

use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use simulator::choices::Choices;
use simulator::coverage::Coverage;
use simulator::digest::Digest;
use simulator::scenario;

/// So many seeds run, unless asked otherwise.
const SEEDS: u64 = 12_000;

/// Failing seeds that are reported before the run gives up.
const FAILURES_MAX: usize = 10;

#[test]
fn every_seed_keeps_the_promises() {
    if let Some(seed) = number("KEYSLOT_SIM_SEED") {
        scenario::run(Choices::Seeded(seed), true);
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
            let run = AssertUnwindSafe(|| scenario::run(Choices::Seeded(seed), false));
            match catch_unwind(run) {
                Ok(covered) => coverage.lock().unwrap().merge(&covered),
                Err(panic) => failures.lock().unwrap().push((seed, message(&*panic))),
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        scope.spawn(work);
    });
    let mut failures = failures.into_inner().unwrap();
    failures.sort();
    let line = |(seed, message): &(u64, String)| {
        format!(
            "{message}\n    KEYSLOT_SIM_SEED={seed} cargo test -p keyslot-core --test simulation -- --nocapture every_seed\n"
        )
    };
    let lines: Vec<_> = failures.iter().map(line).collect();
    assert!(lines.is_empty(), "{} of the seeds from {first} failed:\n{}", lines.len(), lines.concat());
    let coverage = coverage.into_inner().unwrap();
    println!("what the {seeds} seeds from {first} have come to:\n{coverage}");
    let missing = coverage.missing();
    assert!(missing.is_empty() || seeds < SEEDS, "{seeds} seeds never came to: {}", missing.join("; "));
}

#[test]
fn runs_that_bytes_steer_keep_the_promises() {
    for byte in 0..=255u8 {
        let bytes =
            (0..2_000u32).map(|at| byte.wrapping_mul(31).wrapping_add(((at * at) >> 3) as u8)).collect();
        scenario::run(Choices::Steered { bytes, at: 0 }, false);
    }
    scenario::run(Choices::Steered { bytes: Vec::new(), at: 0 }, false);
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
            let digest = scenario::digest(Choices::Seeded(seed));
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

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without a text").to_string()
}
