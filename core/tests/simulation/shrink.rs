//! Makes a failing run small before it is printed.
//!
//! The seed is run again without some of its plan's parts: requests, borrowers, scans, faults, and
//! the network's nuisances. What is not needed to break the same promise stays out. What happens
//! at one time is drawn from the seed and that time ([`Choices::turn_to`]), so that a part that is
//! left out changes little of the rest.
//!
//! [`Choices::turn_to`]: crate::simulator::choices::Choices::turn_to

use std::time::{Duration, Instant};

use crate::broken::{Broken, caught};
use crate::simulator::flaw::Flaw;
use crate::simulator::plan::{Keep, Plan};
use crate::simulator::scenario::{self, Case};

/// How many times a seed is run again, and for how long.
const RUNS_MAX: usize = 500;
pub(crate) const TIME_MAX: Duration = Duration::from_secs(20);

/// A failing seed, and what is left of its plan.
#[derive(Debug)]
pub(crate) struct Shrunk {
    seed: u64,
    flaw: Flaw,
    /// Of the run that is left.
    broken: Broken,
    keep: Keep,
    runs: usize,
}

/// Leaves out what this seed does not need to break the promise.
pub(crate) fn shrink(seed: u64, flaw: Flaw, broken: Broken, time_max: Duration) -> Shrunk {
    let mut shrunk = Shrunk { seed, flaw, broken, keep: Keep::All, runs: 0 };
    let until = Instant::now() + time_max;
    let parts = (0..scenario::plan(Case::seeded(seed)).len()).collect();
    let fails = |parts: &[usize]| {
        if shrunk.runs >= RUNS_MAX || Instant::now() >= until {
            return None;
        }
        shrunk.runs += 1;
        let keep = Keep::Only(parts.iter().copied().collect());
        let case = Case { keep: keep.clone(), flaw, ..Case::seeded(seed) };
        let broken = caught(|| scenario::run(case, false)).err();
        let broken = broken.filter(|broken| broken.place == shrunk.broken.place);
        let fails = broken.is_some();
        if let Some(broken) = broken {
            (shrunk.broken, shrunk.keep) = (broken, keep);
        }
        Some(fails)
    };
    minimal(parts, fails);
    shrunk
}

/// The smallest part of `all` that still fails and that leaving out one thing after the other comes
/// to: first halves, then quarters, and so on (delta debugging). `fails` says `None` when it has
/// had enough.
fn minimal(all: Vec<usize>, mut fails: impl FnMut(&[usize]) -> Option<bool>) -> Vec<usize> {
    let mut kept = all;
    let mut length = kept.len().div_ceil(2);
    while length > 0 {
        let before = kept.len();
        let mut at = 0;
        while at < kept.len() {
            let end = (at + length).min(kept.len());
            let fewer = [&kept[..at], &kept[end..]].concat();
            match fails(&fewer) {
                None => return kept,
                Some(true) => kept = fewer,
                Some(false) => at = end,
            }
        }
        // One at a time until no one can go.
        let is_done = length == 1 && kept.len() == before;
        length = if is_done { 0 } else { (length / 2).max(1) };
    }
    kept
}

/// The command that runs a seed, or what is kept of it, alone.
pub(crate) fn command(seed: u64, keep: &Keep) -> String {
    let keep = if *keep == Keep::All { String::new() } else { format!(" KEYSLOT_SIM_KEEP={keep}") };
    format!(
        "KEYSLOT_SIM_SEED={seed}{keep} cargo test -p keyslot-core --test simulation -- --nocapture every_seed"
    )
}

impl Shrunk {
    /// How many parts are left, and how many there were.
    fn sizes(&self) -> (usize, usize) {
        let mut plan = scenario::plan(Case::seeded(self.seed));
        let all = plan.len();
        plan.keep(&self.keep);
        (plan.len(), all)
    }
}

impl std::fmt::Display for Shrunk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { seed, broken, keep, runs, .. } = self;
        let mut plan = scenario::plan(Case::seeded(*seed));
        let listed = plan.listed(keep);
        let count = |plan: &Plan| {
            let faults = plan.faults();
            format!("{} requests, borrowers' steps and scans, {faults} faults", plan.len() - faults)
        };
        let before = count(&plan);
        plan.keep(keep);
        writeln!(f, "seed {seed}: {}", broken.message)?;
        writeln!(f, "    at {}", broken.place)?;
        writeln!(f, "  left after {runs} runs: {}; of {before}", count(&plan))?;
        write!(f, "{listed}")?;
        if self.flaw != Flaw::None {
            writeln!(f, "  with the flaw {:?}", self.flaw)?;
        }
        writeln!(f, "  {}", command(*seed, keep))
    }
}

/// The first seed that breaks this promise with this flaw, and is long.
fn failing(flaw: Flaw, promise: &str) -> (u64, Broken) {
    let broken = |seed| {
        let case = Case { flaw, ..Case::seeded(seed) };
        Some((seed, caught(|| scenario::run(case, false)).err()?))
    };
    let is_it = |broken: &Broken| broken.message.contains(promise);
    let is_long = |seed: &u64| scenario::plan(Case::seeded(*seed)).len() >= 40;
    (0..1_000)
        .filter(is_long)
        .filter_map(broken)
        .find(|(_, broken)| is_it(broken))
        .expect("the flaw is noticed")
}

/// What is left of the first seed in which the flaw breaks this promise. It still breaks it.
fn shrunk(flaw: Flaw, promise: &str) -> Shrunk {
    let (seed, broken) = failing(flaw, promise);
    let place = broken.place.clone();
    // However slow the machine is.
    let shrunk = shrink(seed, flaw, broken, 20 * TIME_MAX);
    println!("{shrunk}");
    let keep = shrunk.keep.to_string().parse().unwrap();
    let case = Case { keep, flaw, ..Case::seeded(seed) };
    assert_eq!(caught(|| scenario::run(case, false)).err().map(|broken| broken.place), Some(place));
    shrunk
}

#[test]
fn a_client_that_repeats_writes_is_found_out_by_a_write_and_a_fault() {
    let shrunk = shrunk(Flaw::RepeatsWrites, "INVARIANT: no write is executed twice");
    let (left, all) = shrunk.sizes();
    assert!(left * 8 <= all, "{left} of {all}: {shrunk}");
}

#[test]
fn a_client_that_loses_outcomes_is_found_out_by_as_many_requests_as_it_takes() {
    let shrunk = shrunk(Flaw::LosesOutcomes { after: 5 }, "INVARIANT: no request is left behind");
    let (left, all) = shrunk.sizes();
    assert!(left <= 6 && all >= 40, "{left} of {all}: {shrunk}");
}

#[test]
fn what_is_not_needed_is_left_out() {
    let mut runs = 0;
    let mut fails = |parts: &[usize]| {
        runs += 1;
        Some([3, 40, 41].iter().all(|part| parts.contains(part)))
    };
    assert_eq!(minimal((0..64).collect(), &mut fails), [3, 40, 41]);
    assert!(runs < 60, "{runs} runs");
    assert_eq!(minimal((0..64).collect(), |_| Some(true)), [0usize; 0]);
    assert_eq!(minimal((0..8).collect(), |_| None), (0..8).collect::<Vec<_>>());
}

#[test]
fn what_is_kept_is_read_as_it_is_written() {
    for text in ["all", "none", "0", "0,4-7,12", "3-4"] {
        assert_eq!(text.parse::<Keep>().unwrap().to_string(), text);
    }
    assert!("1,x".parse::<Keep>().is_err() && "".parse::<Keep>().is_err());
}
