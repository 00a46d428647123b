//! The simulator: servers, a network and a virtual clock around the real machine, and random runs over
//! them. The seeds of this test and the fuzz target `operations` share it.
//!
//! | module | what it is |
//! |---|---|
//! | [`choices`] | every decision: from a seed or from a fuzzer's bytes |
//! | [`wire`] | RESP on the servers' side |
//! | [`server`] | the nodes: slots, moves, redirects, commands |
//! | [`world`] | the clock, the network, the driver loop and its checks |
//! | [`ledger`] | what was asked and answered, and whether it goes together |
//! | [`scenario`] | one random run: workload, faults, healing, the end |

pub(crate) mod choices;
pub(crate) mod ledger;
pub(crate) mod scenario;
pub(crate) mod server;
pub(crate) mod wire;
pub(crate) mod world;
