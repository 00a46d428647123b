//! The simulator: servers, a network and a virtual clock around the real machine, and random runs
//! over them. The seeds of this test and the fuzz target `operations` share it.
//!
//! | module | what it is |
//! |---|---|
//! | [`choices`] | every decision: from a seed or from a fuzzer's bytes |
//! | [`wire`] | RESP on the servers' side |
//! | [`server`] | the nodes: commands, redirects, conditions |
//! | [`view`] | who is who, in truth and in each node's view: moves, failovers, partitions, CLUSTER's answers |
//! | [`store`] | the keys' versions: what a replica still answers, what a failover loses |
//! | [`standing`] | keys that are there throughout, and SCAN |
//! | [`stranger`] | a node of another cluster in the place of one of these |
//! | [`transaction`] | MULTI, EXEC and the like |
//! | [`world`] | the driver loop around the machine |
//! | [`clock`] | the virtual time: what happens when |
//! | [`callers`] | how commands are handed in |
//! | [`weather`] | how badly the network behaves |
//! | `tokens` | which request an end is of |
//! | [`network`] | dials, pieces, cuts, links |
//! | [`manners`] | what is odd about a node: greetings, answers of odd shapes and lengths |
//! | [`busy`] | scripts that run until they are killed |
//! | [`coverage`] | what random runs have come to, counted |
//! | [`digest`] | one number for all that the machine does in a run |
//! | [`operation`] | the requests: what they ask for and which replies they can have |
//! | [`history`] | what was asked and answered, and whether it goes together |
//! | [`excuses`] | what settings and faults let the client do |
//! | [`promises`] | events, counters and rounds of questions: whether they make sense |
//! | [`plan`] | what a random run is to do: parts that can be left out |
//! | [`scenario`] | one random run: workload, healing, the end |
//! | [`settings`] | its cluster and its client's settings |
//! | [`scanners`] | scans in it |
//! | [`leases`] | what is done on lent connections in it |
//! | [`faults`] | what goes wrong in it |
//! | [`flaw`] | what is wrong with the client on purpose |

pub(crate) mod busy;
pub(crate) mod callers;
pub(crate) mod choices;
pub(crate) mod clock;
pub(crate) mod coverage;
pub(crate) mod digest;
pub(crate) mod excuses;
pub(crate) mod faults;
pub(crate) mod flaw;
pub(crate) mod history;
pub(crate) mod leases;
pub(crate) mod manners;
pub(crate) mod network;
pub(crate) mod operation;
pub(crate) mod plan;
pub(crate) mod promises;
pub(crate) mod scanners;
pub(crate) mod scenario;
pub(crate) mod server;
pub(crate) mod settings;
pub(crate) mod standing;
pub(crate) mod store;
pub(crate) mod stranger;
mod tokens;
pub(crate) mod transaction;
pub(crate) mod view;
pub(crate) mod weather;
pub(crate) mod wire;
pub(crate) mod world;
