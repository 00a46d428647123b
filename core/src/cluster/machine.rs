//! What the machine keeps, and how far it has come.
//!
//! This file knows the parts and none of the steps; every step knows this file.

use alloc::collections::VecDeque;

use super::context::Context;
use super::ids::NodeKey;
use super::links::Links;
use super::news::News;
use super::nodes::Nodes;
use super::pool::Pool;
use super::requests::Requests;
use super::requests::route::Known;
use super::scans::Scans;
use super::topology::ClusterMap;
use super::topology::start::Start;

/// The client.
///
/// ```text
///   Starting ── topology known ──→ Running ── close ──→ Closed
///      └── no seed can be used ─────────────────────────↑
/// ```
#[derive(Debug)]
pub struct Cluster {
    pub(super) cx: Context,
    pub(super) phase: Phase,
    pub(super) nodes: Nodes,
    pub(super) links: Links,
    pub(super) requests: Requests,
    pub(super) pool: Pool,
    pub(super) scans: Scans,
    pub(super) map: ClusterMap,
    /// What steps have told, in order. It is empty whenever the driver has the word.
    pub(super) news: VecDeque<News>,
}

/// How far the client has come.
#[derive(Debug)]
pub(super) enum Phase {
    Starting(Start),
    /// The seeds are a cluster's.
    Clustered,
    /// This one server is all there is.
    Standalone(NodeKey),
    Closed,
}

impl Phase {
    /// How much is known of the cluster.
    pub(super) fn known(&self) -> Known {
        match self {
            Self::Starting(_) => Known::Nothing,
            Self::Clustered => Known::Cluster,
            Self::Standalone(node) => Known::Server(*node),
            Self::Closed => Known::Closed,
        }
    }
}
