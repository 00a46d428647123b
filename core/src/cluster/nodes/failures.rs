//! What is remembered of addresses at which connections failed, beyond the time that the node is
//! known.
//!
//! A node that only redirects name goes with the next topology, and comes back with the next
//! redirect. Were its failures forgotten in between, it would be dialled as often as it is named.

use alloc::collections::VecDeque;
use alloc::string::String;
use core::time::Duration;

use litemap::LiteMap;

use crate::address::NodeAddr;
use crate::cluster::nodes::node::Node;
use crate::time::Instant;

/// So many addresses are remembered.
const REMEMBERED_MAX: usize = 1_024;

/// The addresses of forgotten nodes that were not well.
#[derive(Debug, Default)]
pub(in crate::cluster) struct Failures {
    by_address: LiteMap<NodeAddr, Failure>,
    /// In the order in which they were forgotten, with the time until which each is remembered.
    order: VecDeque<(Instant, NodeAddr)>,
}

#[derive(Debug)]
struct Failure {
    until: Instant,
    count: u32,
    failed_at: Instant,
    redial_at: Instant,
    last_error: String,
}

impl Failures {
    /// A node is forgotten: its failures are remembered for `time` after it may be dialled again.
    pub(super) fn remember(&mut self, node: &Node, now: Instant, time: Duration) {
        if !node.is_down() {
            return;
        }
        let until = node.redial_at.max(now) + time;
        let failure = Failure {
            until,
            count: node.failures,
            failed_at: node.failed_at,
            redial_at: node.redial_at,
            last_error: node.last_error.clone(),
        };
        self.by_address.insert(node.address.clone(), failure);
        self.order.push_back((until, node.address.clone()));
        self.drop_old(now);
    }

    /// A node is new: it has the failures that its address had.
    pub(super) fn recall(&mut self, node: &mut Node, now: Instant) {
        self.drop_old(now);
        if let Some(failure) = self.by_address.remove(&node.address).filter(|failure| failure.until > now) {
            node.failures = failure.count;
            node.failed_at = failure.failed_at;
            node.redial_at = failure.redial_at;
            node.last_error = failure.last_error;
        }
    }

    /// Drops what is remembered long enough.
    pub(super) fn drop_old(&mut self, now: Instant) {
        while let Some((until, address)) = self.order.front()
            && (*until <= now || self.order.len() > REMEMBERED_MAX)
        {
            // It may have been remembered anew.
            if self.by_address.get(address).is_some_and(|failure| failure.until == *until) {
                self.by_address.remove(address);
            }
            self.order.pop_front();
        }
    }

    /// How many are remembered.
    pub(in crate::cluster) fn len(&self) -> usize {
        self.by_address.len().max(self.order.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Instant {
        Instant::from_nanoseconds(milliseconds * 1_000_000)
    }

    fn node(port: u16, failures: u32) -> Node {
        let mut node = Node::new(NodeAddr::new("host", port));
        (node.failures, node.redial_at) = (failures, at(1_000));
        node
    }

    #[test]
    fn failures_are_remembered_for_as_long_as_was_said() {
        let mut failures = Failures::default();
        let recalled = |failures: &mut Failures, now| {
            let mut new = node(1, 0);
            failures.recall(&mut new, now);
            new.failures
        };
        for (asked_at, expected) in [(1_499, 7), (1_500, 0)] {
            failures.remember(&node(1, 7), at(900), Duration::from_millis(500));
            assert_eq!(recalled(&mut failures, at(asked_at)), expected);
            assert_eq!(recalled(&mut failures, at(asked_at)), 0, "the node has them now");
        }
        failures.remember(&node(1, 0), at(900), Duration::from_millis(500));
        assert_eq!(failures.len(), 0);
    }

    #[test]
    fn not_more_are_remembered_than_there_is_room_for() {
        let mut failures = Failures::default();
        for port in 1..=5_000 {
            failures.remember(&node(port, 1), at(900), Duration::from_secs(1));
            assert!(failures.len() <= REMEMBERED_MAX);
        }
        let mut last = node(5_000, 0);
        failures.recall(&mut last, at(901));
        assert_eq!(last.failures, 1);
    }
}
