//! How many connections there are, and which node is dialled next.
//!
//! A server's list may name thousands of nodes, and each connection is a descriptor of the host's
//! process. So there is a limit on all connections together (`limit connections`), and what nobody
//! waits for is dialled in rounds. A node that cannot be dialled for lack of room is listed; those
//! that requests or waiters wait for come first, and for them a connection is closed that nothing
//! is under way on. Of the host's resolver only a few names are asked at a time.

use core::time::Duration;

use crate::cluster::ids::NodeKey;
use crate::cluster::links::connection::Connection;
use crate::cluster::machine::{Cluster, Phase};
use crate::cluster::nodes::node::Listed;
use crate::cluster::nodes::node::Node;

/// So many connections are looked at to find one that can be closed.
const LOOKED_AT_MAX: usize = 64;

/// One that was used within this time is closed only when there is no other.
const IN_USE: Duration = Duration::from_secs(1);

impl Cluster {
    /// Whether somebody waits for a connection to this node.
    fn is_awaited_at(&self, node: &Node) -> bool {
        let starts = matches!(self.phase, Phase::Starting(_));
        starts || node.is_awaited()
    }

    /// Whether a node may be dialled now; else it is listed.
    pub(in crate::cluster) fn has_room_for(&mut self, key: NodeKey) -> bool {
        let Some(node) = self.nodes.get(key) else {
            return false;
        };
        let is_awaited = self.is_awaited_at(node);
        let has_room = if is_awaited { self.make_room() } else { self.links.has_room_for_spare(&self.cx) };
        if !has_room {
            self.list(key, if is_awaited { Listed::Next } else { Listed::Later });
        }
        has_room
    }

    fn list(&mut self, key: NodeKey, listed: Listed) {
        let Some(node) = self.nodes.get_mut(key) else {
            return;
        };
        if node.listed() == listed || node.listed() == Listed::Next {
            return;
        }
        node.set_listed(listed);
        match listed {
            Listed::Next => self.links.dials.next.push_back(key),
            _ => self.links.dials.later.push_back(key),
        }
        // Nodes that were dialled sooner after all have left entries.
        let nodes = &self.nodes;
        for (list, kind) in
            [(&mut self.links.dials.next, Listed::Next), (&mut self.links.dials.later, Listed::Later)]
        {
            if list.len() > 64 + 2 * nodes.len() {
                list.clear();
                let listed = nodes.iter().filter(|(_, node)| node.listed() == kind);
                list.extend(listed.map(|(key, _)| key));
            }
        }
    }

    pub(in crate::cluster) fn next_listed(&mut self) -> Option<NodeKey> {
        while let Some(key) = self.links.dials.next.front().copied() {
            if self.nodes.get(key).is_some_and(|node| node.listed() == Listed::Next) {
                if !self.make_room() {
                    return None;
                }
                return self.links.dials.next.pop_front();
            }
            self.links.dials.next.pop_front();
        }
        while let Some(key) = self.links.dials.later.front().copied() {
            if self.nodes.get(key).is_some_and(|node| node.listed() == Listed::Later) {
                if !self.links.has_room_for_spare(&self.cx) {
                    return None;
                }
                return self.links.dials.later.pop_front();
            }
            self.links.dials.later.pop_front();
        }
        None
    }

    /// Whether there is room for one more connection, after others were closed if need be: one, or
    /// more when the host has no socket for as many as there are.
    fn make_room(&mut self) -> bool {
        while self.links.len() >= self.links.connections_max(&self.cx) {
            if !self.close_spare() {
                return false;
            }
        }
        true
    }

    /// Closes a connection that nothing is under way on. False when there is none.
    fn close_spare(&mut self) -> bool {
        let mut second = None;
        for _ in 0..LOOKED_AT_MAX.min(self.links.dials.ring.len()) {
            let Some(conn) = self.links.dials.ring.pop_front() else {
                break;
            };
            let Some(connection) = self.links.all.get(conn) else {
                continue;
            };
            self.links.dials.ring.push_back(conn);
            if !self.can_be_spared(connection) {
                continue;
            }
            if self.cx.now.saturating_since(connection.answered_at) >= IN_USE {
                second = Some(conn);
                break;
            }
            second = second.or(Some(conn));
        }
        match second {
            Some(conn) => {
                let key = self.links.node_of(conn).unwrap_or_default();
                self.close_quietly(conn);
                self.drop_if_retired(key);
                true
            }
            None => false,
        }
    }

    /// Whether nothing is under way on a connection, and nobody has it.
    fn can_be_spared(&self, connection: &Connection) -> bool {
        let is_unused =
            connection.is_usable() && connection.expected.is_empty() && connection.lease().is_none();
        // What waits in the node's queue cannot use a connection that is dedicated to one caller at
        // a time.
        let is_awaited = |node: &Node| match connection.is_shared() {
            true => !node.queue().is_empty(),
            false => node.line().has_waiters(),
        };
        is_unused && !self.nodes.get(connection.node).is_some_and(is_awaited)
    }
}
