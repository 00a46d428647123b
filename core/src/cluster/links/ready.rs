//! A connection has come into use.

use super::connection::State;
use crate::cluster::ids::ConnId;
use crate::cluster::machine::{Cluster, Phase};

impl Cluster {
    /// A handshake is over: the connection comes into use, when it is with whom it should be.
    pub(in crate::cluster) fn on_greeted(&mut self, conn: ConnId) {
        let greets = |state| matches!(state, State::Handshaking { .. } | State::Strange);
        if !self.links.get(conn).is_some_and(|own| greets(own.state())) || !self.is_recognised(conn) {
            return;
        }
        let Some(connection) = self.links.get_mut(conn) else {
            return;
        };
        connection.set_state(State::Ready);
        if !matches!(self.phase, Phase::Starting(_)) || !connection.is_shared() {
            connection.others.clear();
        }
        let (key, is_shared) = (connection.node, connection.is_shared());
        self.links.note_ready();
        if !is_shared {
            return self.on_dedicated_ready(conn);
        }
        self.links.contact = Some(conn);
        if let Some(event) = self.nodes.get_mut(key).and_then(|node| node.note_ready(self.cx.now)) {
            self.cx.tell(event);
        }
        if let Phase::Starting(_) = self.phase {
            self.on_seed_ready(conn);
        }
        self.send_queue(key);
        self.serve_waiters(key);
    }
}
