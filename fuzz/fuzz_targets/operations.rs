//! Shows that no order of operations, faults and cuts makes the machine break a promise.
//!
//! The bytes make every decision of a run of the simulation in `core/tests/simulation`: which
//! cluster, which requests, which faults, when. The checks are the same. Long inputs make longer
//! runs, and `operations.dict` has words for them. `Cargo.toml` says how to run the target.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[allow(dead_code, reason = "the directed tests use more of the simulator than a random run does")]
#[path = "../../core/tests/simulation/simulator/mod.rs"]
mod simulator;

use simulator::scenario::Case;

fuzz_target!(|input: &[u8]| {
    simulator::scenario::run(Case::steered(input.to_vec()), false);
});
