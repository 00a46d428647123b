//! How many connections there are, and which node is dialled next.
//!
//! A server's list may name thousands of nodes, and each connection is a descriptor of the host's process. So there is a limit
//! on all connections together (`limit connections`), and what nobody waits for is dialled in rounds. A node that cannot be
//! dialled for lack of room is listed; those that requests or borrowers wait for come first, and for them a connection is closed
//! that nothing is under way on. Of the host's resolver only a few names are asked at a time.

use alloc::collections::VecDeque;
use alloc::string::ToString;
use core::time::Duration;

use super::connection::Connection;
use super::{Cluster, ConnId, Node, NodeKey, Output, Phase, State};
use crate::time::Instant;

/// So many connections are coming up at a time of which those are for nodes that nobody waits for.
pub(super) const DIALLING_MAX: usize = 64;

/// So many names are looked up at a time.
const LOOK_UPS_MAX: usize = 8;

/// So many connections are looked at to find one that can be closed.
const LOOKED_AT_MAX: usize = 64;

/// One that was used within this time is closed only when there is no other.
const IN_USE: Duration = Duration::from_secs(1);

/// Whether a node is on a list of those to dial.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Listed {
    #[default]
    No,
    /// Nobody waits for it.
    Later,
    /// Somebody does.
    Next,
}

/// What is to be dialled and looked up once there is room.
#[derive(Debug, Default)]
pub(super) struct Dials {
    next: VecDeque<NodeKey>,
    later: VecDeque<NodeKey>,
    /// Connections that are not in use yet.
    coming_up: usize,
    /// Names that are being looked up, and connections whose name is to be.
    look_ups: usize,
    unresolved: VecDeque<ConnId>,
    /// All connections, for finding one to close; some may have ended.
    ring: VecDeque<ConnId>,
    /// Whether any connection would do, because there is none to ask for the topology.
    pub(super) seeks_contact: bool,
}

impl Dials {
    pub(super) fn footprint(&self) -> usize {
        self.next.len() + self.later.len() + self.unresolved.len() + self.ring.len()
    }
}

impl Cluster {
    /// Whether somebody waits for a connection to this node.
    fn is_awaited_at(&self, node: &Node) -> bool {
        let starts = matches!(self.phase, Phase::Starting(_));
        starts || !node.queue.is_empty() || !node.borrowers.is_empty()
    }

    /// Whether a node may be dialled now; else it is listed.
    pub(super) fn has_room_for(&mut self, key: NodeKey) -> bool {
        let Some(node) = self.nodes.get(key) else {
            return false;
        };
        let is_awaited = self.is_awaited_at(node);
        let has_room = if is_awaited { self.make_room() } else { self.has_room_for_spare() };
        if !has_room {
            self.list(key, if is_awaited { Listed::Next } else { Listed::Later });
        }
        has_room
    }

    /// Whether a connection may be opened that nobody waits for.
    pub(super) fn has_room_for_spare(&self) -> bool {
        self.connections.len() < self.config.connections_max as usize && self.dials.coming_up < DIALLING_MAX
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
            Listed::Next => self.dials.next.push_back(key),
            _ => self.dials.later.push_back(key),
        }
        // Nodes that were dialled sooner after all have left entries.
        let nodes = &self.nodes;
        for (list, kind) in [(&mut self.dials.next, Listed::Next), (&mut self.dials.later, Listed::Later)] {
            if list.len() > 64 + 2 * nodes.len() {
                list.clear();
                let listed = nodes.iter().filter(|(_, node)| node.listed == kind);
                list.extend(listed.map(|(key, _)| key));
            }
        }
    }

    /// Dials nodes that are listed, as far as there is room.
    pub(super) fn drive_dials(&mut self) {
        while let Some(key) = self.next_listed() {
            if let Some(node) = self.nodes.get_mut(key) {
                node.listed = Listed::No;
            }
            self.tend_node(key);
        }
    }

    fn next_listed(&mut self) -> Option<NodeKey> {
        while let Some(key) = self.dials.next.front().copied() {
            if self.nodes.get(key).is_some_and(|node| node.listed == Listed::Next) {
                if !self.make_room() {
                    return None;
                }
                return self.dials.next.pop_front();
            }
            self.dials.next.pop_front();
        }
        while let Some(key) = self.dials.later.front().copied() {
            if self.nodes.get(key).is_some_and(|node| node.listed == Listed::Later) {
                if !self.has_room_for_spare() {
                    return None;
                }
                return self.dials.later.pop_front();
            }
            self.dials.later.pop_front();
        }
        None
    }

    /// Whether there is room for one more connection, after one was closed if need be.
    fn make_room(&mut self) -> bool {
        if self.connections.len() < self.config.connections_max as usize {
            return true;
        }
        let mut second = None;
        for _ in 0..LOOKED_AT_MAX.min(self.dials.ring.len()) {
            let Some(conn) = self.dials.ring.pop_front() else {
                break;
            };
            let Some(connection) = self.connections.get(conn) else {
                continue;
            };
            self.dials.ring.push_back(conn);
            if !self.can_be_spared(connection) {
                continue;
            }
            if self.now.saturating_since(connection.answered_at) >= IN_USE {
                second = Some(conn);
                break;
            }
            second = second.or(Some(conn));
        }
        match second {
            Some(conn) => {
                let key = self.connections.get(conn).map(|connection| connection.node).unwrap_or_default();
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
            connection.is_usable() && connection.waiting.is_empty() && connection.lease().is_none();
        // What waits in the node's queue cannot use a connection that is for borrowers.
        let is_awaited = |node: &Node| match connection.is_shared() {
            true => !node.queue.is_empty(),
            false => !node.borrowers.is_empty(),
        };
        is_unused && !self.nodes.get(connection.node).is_some_and(is_awaited)
    }

    /// A connection has been made.
    pub(super) fn note_open(&mut self, conn: ConnId) {
        self.dials.coming_up += 1;
        self.dials.ring.push_back(conn);
        let connections = &self.connections;
        if self.dials.ring.len() > 64 + 2 * connections.len() {
            self.dials.ring.retain(|conn| connections.contains_key(*conn));
        }
        let Some(connection) = self.connections.get(conn) else {
            return;
        };
        let is_shared = connection.is_shared();
        if let Some(node) = self.nodes.get_mut(connection.node) {
            node.connections.push(conn);
            node.exclusive += u32::from(!is_shared);
        }
    }

    /// One that had come into use has gone back to dialling.
    pub(super) fn note_coming_up(&mut self) {
        self.dials.coming_up += 1;
    }

    /// A connection has come into use.
    pub(super) fn note_ready(&mut self) {
        self.dials.coming_up = self.dials.coming_up.saturating_sub(1);
    }

    /// Takes a connection out.
    pub(super) fn detach(&mut self, conn: ConnId) -> Option<Connection> {
        let connection = self.connections.remove(conn)?;
        if !connection.is_ready() {
            self.note_ready();
        }
        if let Some(node) = self.nodes.get_mut(connection.node) {
            if let Some(index) = node.connections.iter().position(|own| *own == conn) {
                node.connections.swap_remove(index);
            }
            node.exclusive -= u32::from(!connection.is_shared());
        }
        if connection.looks_up {
            self.end_look_up();
        }
        Some(connection)
    }

    /// Looks a connection's host up as soon as there is room. Its time begins then.
    pub(super) fn look_up(&mut self, conn: ConnId) {
        if let Some(connection) = self.connections.get_mut(conn) {
            (connection.deadline, connection.last_deadline) = (Instant::NEVER, Instant::NEVER);
        }
        self.dials.unresolved.push_back(conn);
        self.begin_look_ups();
    }

    fn begin_look_ups(&mut self) {
        while self.dials.look_ups < LOOK_UPS_MAX
            && let Some(conn) = self.dials.unresolved.pop_front()
        {
            let deadline = self.now + self.config.connect_timeout;
            let Some(connection) = self.connections.get_mut(conn) else {
                continue;
            };
            connection.looks_up = true;
            (connection.deadline, connection.last_deadline) = (deadline, deadline);
            self.dials.look_ups += 1;
            let node = self.nodes.get(connection.node);
            let host = node.map(|node| node.address.host()).unwrap_or_default().to_string();
            self.outputs.push_back(Output::Resolve { conn, host });
            self.watch(conn);
        }
    }

    /// A name has been looked up, or nobody waits for it any more.
    fn end_look_up(&mut self) {
        self.dials.look_ups = self.dials.look_ups.saturating_sub(1);
        self.begin_look_ups();
    }

    /// The answer of a look-up has come. False when nothing was asked.
    pub(super) fn note_resolved(&mut self, conn: ConnId) -> bool {
        let connection = self.connections.get_mut(conn);
        let asked = connection.is_some_and(|connection| {
            core::mem::take(&mut connection.looks_up) && connection.state == State::Resolving
        });
        if asked {
            self.end_look_up();
        }
        asked
    }

    /// Whether a node is not dialled because there are as many connections as there may be.
    pub(super) fn lacks_room(&self, key: NodeKey) -> bool {
        self.nodes.get(key).is_some_and(|node| node.listed == Listed::Next)
    }

    /// Whether there is a connection that could be asked for the topology.
    pub(super) fn has_contact(&self) -> bool {
        let is_contact = |connection: &Connection| connection.is_usable() && connection.is_shared();
        let last = self.contact.and_then(|conn| self.connections.get(conn));
        last.is_some_and(is_contact) || self.connections.values().any(is_contact)
    }

    /// Dials all nodes, a few at a time, when the topology is in doubt and there is nobody to ask.
    pub(super) fn seek_contact(&mut self) {
        let seeks = self.refresh_wants_connections();
        let begins = seeks && !core::mem::replace(&mut self.dials.seeks_contact, seeks);
        if begins {
            for key in self.nodes.keys().collect::<alloc::vec::Vec<_>>() {
                self.ensure_connection(key);
            }
        }
    }
}
