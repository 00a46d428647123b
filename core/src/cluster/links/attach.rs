//! A connection's entry into the lists of those that there are, and its leaving them; the look-ups
//! of names, a few at a time.

use alloc::string::ToString;

use crate::cluster::ids::ConnId;
use crate::cluster::io::Output;
use crate::cluster::links::connection::{Connection, State};
use crate::cluster::machine::Cluster;
use crate::time::Instant;

/// So many names are looked up at a time.
const LOOK_UPS_MAX: usize = 8;

impl Cluster {
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
        let (key, is_shared) = (connection.node, connection.is_shared());
        if let Some(node) = self.nodes.get_mut(key) {
            node.attach(conn, is_shared);
        }
        self.pool.tend_soon(&self.cx, &mut self.nodes, key);
    }

    /// Takes a connection out.
    pub(super) fn detach(&mut self, conn: ConnId) -> Option<Connection> {
        let connection = self.links.all.remove(conn)?;
        if !connection.is_ready() {
            self.links.note_ready();
        }
        if let Some(node) = self.nodes.get_mut(connection.node) {
            node.detach(conn, connection.is_shared());
        }
        if !connection.is_shared() {
            self.pool.tend_soon(&self.cx, &mut self.nodes, connection.node);
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
            let host = node.map(|node| node.address().host()).unwrap_or_default().to_string();
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
}
