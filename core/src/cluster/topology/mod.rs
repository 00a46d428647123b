//! Who serves what, and how the client learns it: slots, rounds of questions, the start, who is at an address, replicas.

pub(in crate::cluster) mod discovery;
pub(in crate::cluster) mod identity;
pub(in crate::cluster) mod refresh;
pub(in crate::cluster) mod replicas;
pub(in crate::cluster) mod slots;
