//! How many connections there are, and which node is dialled next.
//!
//! A server's list may name thousands of nodes, and each connection is a descriptor of the host's
//! process. So there is a limit on all connections together (`limit connections`), and what nobody
//! waits for is dialled in rounds. A node that cannot be dialled for lack of room is listed; those
//! that requests or waiters wait for come first, and for them a connection is closed that nothing
//! is under way on. Of the host's resolver only a few names are asked at a time.

use alloc::string::ToString;
use core::time::Duration;

use crate::cluster::ids::{ConnId, NodeKey};
use crate::cluster::io::Output;
use crate::cluster::links::connection::Connection;
use crate::cluster::links::connection::State;
use crate::cluster::nodes::node::Listed;
use crate::cluster::nodes::node::Node;
use crate::cluster::{Cluster, Phase};
use crate::time::Instant;

/// So many names are looked up at a time.
const LOOK_UPS_MAX: usize = 8;

/// So many connections are looked at to find one that can be closed.
const LOOKED_AT_MAX: usize = 64;

/// One that was used within this time is closed only when there is no other.
const IN_USE: Duration = Duration::from_secs(1);

impl Cluster {
    /// Whether somebody waits for a connection to this node.
    fn is_awaited_at(&self, node: &Node) -> bool {
        let starts = matches!(self.phase, Phase::Starting(_));
        starts || !node.queue.is_empty() || node.line.has_waiters()
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
        if node.listed == listed || node.listed == Listed::Next {
            return;
        }
        node.listed = listed;
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
                let listed = nodes.iter().filter(|(_, node)| node.listed == kind);
                list.extend(listed.map(|(key, _)| key));
            }
        }
    }

    /// Dials nodes that are listed, as far as there is room.
    pub(in crate::cluster) fn drive_dials(&mut self) {
        self.links.ease_shortage(&self.cx);
        while let Some(key) = self.next_listed() {
            if let Some(node) = self.nodes.get_mut(key) {
                node.listed = Listed::No;
            }
            self.tend_node(key);
        }
    }

    fn next_listed(&mut self) -> Option<NodeKey> {
        while let Some(key) = self.links.dials.next.front().copied() {
            if self.nodes.get(key).is_some_and(|node| node.listed == Listed::Next) {
                if !self.make_room() {
                    return None;
                }
                return self.links.dials.next.pop_front();
            }
            self.links.dials.next.pop_front();
        }
        while let Some(key) = self.links.dials.later.front().copied() {
            if self.nodes.get(key).is_some_and(|node| node.listed == Listed::Later) {
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
            true => !node.queue.is_empty(),
            false => node.line.has_waiters(),
        };
        is_unused && !self.nodes.get(connection.node).is_some_and(is_awaited)
    }

    /// A connection has been made.
    pub(in crate::cluster) fn note_open(&mut self, conn: ConnId) {
        self.links.dials.coming_up += 1;
        self.links.dials.ring.push_back(conn);
        let connections = &self.links.all;
        if self.links.dials.ring.len() > 64 + 2 * connections.len() {
            self.links.dials.ring.retain(|conn| connections.contains_key(*conn));
        }
        let Some(connection) = self.links.get(conn) else {
            return;
        };
        let is_shared = connection.is_shared();
        if let Some(node) = self.nodes.get_mut(connection.node) {
            node.connections.push(conn);
            if !is_shared {
                node.line.note_open();
            }
        }
    }

    /// Takes a connection out.
    pub(super) fn detach(&mut self, conn: ConnId) -> Option<Connection> {
        let connection = self.links.all.remove(conn)?;
        if !connection.is_ready() {
            self.links.note_ready();
        }
        if let Some(node) = self.nodes.get_mut(connection.node) {
            if let Some(index) = node.connections.iter().position(|own| *own == conn) {
                node.connections.swap_remove(index);
            }
            if !connection.is_shared() {
                node.line.note_closed();
            }
        }
        if connection.looks_up {
            self.end_look_up();
        }
        Some(connection)
    }

    /// Looks a connection's host up as soon as there is room. Its time begins then.
    pub(in crate::cluster) fn look_up(&mut self, conn: ConnId) {
        if let Some(connection) = self.links.get_mut(conn) {
            (connection.deadline, connection.last_deadline) = (Instant::NEVER, Instant::NEVER);
        }
        self.links.dials.unresolved.push_back(conn);
        self.begin_look_ups();
    }

    fn begin_look_ups(&mut self) {
        while self.links.dials.look_ups < LOOK_UPS_MAX
            && let Some(conn) = self.links.dials.unresolved.pop_front()
        {
            let deadline = self.cx.now + self.cx.config.connect_timeout;
            let Some(connection) = self.links.all.get_mut(conn) else {
                continue;
            };
            connection.looks_up = true;
            (connection.deadline, connection.last_deadline) = (deadline, deadline);
            self.links.dials.look_ups += 1;
            let node = self.nodes.get(connection.node);
            let host = node.map(|node| node.address.host()).unwrap_or_default().to_string();
            self.cx.output(Output::Resolve { conn, host });
            self.links.watch(&self.cx, conn);
        }
    }

    /// A name has been looked up, or nobody waits for it any more.
    fn end_look_up(&mut self) {
        self.links.dials.look_ups = self.links.dials.look_ups.saturating_sub(1);
        self.begin_look_ups();
    }

    /// The answer of a look-up has come. False when nothing was asked.
    pub(super) fn note_resolved(&mut self, conn: ConnId) -> bool {
        let connection = self.links.get_mut(conn);
        let asked = connection.is_some_and(|connection| {
            core::mem::take(&mut connection.looks_up) && connection.state() == State::Resolving
        });
        if asked {
            self.end_look_up();
        }
        asked
    }

    /// Dials all nodes, a few at a time, when the topology is in doubt and there is nobody to ask.
    pub(in crate::cluster) fn seek_contact(&mut self) {
        let seeks = self.refresh_wants_connections();
        let has_sought = core::mem::replace(&mut self.nodes.seeks_contact, seeks);
        if seeks && !has_sought {
            for key in self.nodes.keys().collect::<alloc::vec::Vec<_>>() {
                self.ensure_connection(key);
            }
        }
    }
}
