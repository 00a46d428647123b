//! What the driver can ask about.

use alloc::vec::Vec;

use super::events::Event;
use super::ids::RequestId;
use super::machine::{Cluster, Phase};
use super::nodes::node::Node;
use super::statistics::{NodeStatistics, Statistics};
use crate::address::NodeAddr;
use crate::slot::Slot;
use crate::time::Instant;
use crate::topology::Topology;

impl Cluster {
    /// The topology as now known; without shards before the start's end.
    #[must_use]
    pub fn topology(&self) -> &Topology {
        self.map.topology()
    }

    /// The primary that serves this slot, as now known.
    #[must_use]
    pub fn primary_of(&self, slot: Slot) -> Option<&NodeAddr> {
        let node = match self.phase {
            Phase::Standalone(node) => node,
            _ => self.map.owner(slot)?,
        };
        self.nodes.get(node).map(Node::address)
    }

    /// The counters.
    #[must_use]
    pub fn statistics(&self) -> &Statistics {
        &self.cx.statistics
    }

    /// How many bytes of memory replies hold: what has come in and is not whole, and whole replies
    /// until the last who has them lets go. Small ones that came whole are left out.
    #[must_use]
    pub fn received_bytes(&self) -> usize {
        self.cx.meter.bytes() as usize
    }

    /// What is counted for each node that the client knows, and how many of its requests are under
    /// way on connections.
    pub fn node_statistics(&self) -> impl Iterator<Item = (&NodeAddr, &NodeStatistics, usize)> {
        self.nodes.in_order().map(|node| {
            let own = node.connections().iter().filter_map(|conn| self.links.get(*conn));
            let in_flight = own.map(|connection| connection.expected().len()).sum();
            (node.address(), node.statistics(), in_flight)
        })
    }

    /// What has happened since this was last asked, oldest first, and how many events before that
    /// were dropped because nobody had asked for long.
    pub fn take_events(&mut self) -> (Vec<(Instant, Event)>, u64) {
        self.cx.events.take()
    }

    /// Whether this request is under way: its [`Output::Done`](super::Output::Done) is still to be
    /// made.
    #[must_use]
    pub fn is_pending(&self, id: RequestId) -> bool {
        self.requests.contains(id)
    }

    /// How many requests are under way.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.requests.len()
    }

    /// How many things of any kind the machine holds: requests, connections and what waits on them,
    /// nodes, timers. For tests of the promise that nothing grows without bound.
    #[must_use]
    pub fn footprint(&self) -> usize {
        let [alarms, dials] = self.links.swept();
        let [deadlines, tended] = self.pool.swept();
        // What is swept now and then may have this much for each thing that is counted already.
        let beyond = |entries: usize, counted: usize| entries.saturating_sub(256 + 4 * counted);
        self.requests.footprint()
            + self.links.footprint()
            + self.nodes.footprint()
            + self.pool.len()
            + self.scans.footprint()
            + beyond(alarms, self.links.len())
            + beyond(self.nodes.swept(), self.nodes.len())
            + beyond(deadlines, self.pool.len())
            + beyond(tended, self.nodes.len())
            + beyond(self.scans.swept(), self.scans.len())
            + beyond(dials, self.nodes.len() + self.links.len())
            + self.cx.outputs.len()
            + self.map.footprint()
    }
}
