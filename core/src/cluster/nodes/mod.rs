//! Nodes: what is known of them, and of addresses at which connections failed.

pub(in crate::cluster) mod failures;
pub(in crate::cluster) mod node;
