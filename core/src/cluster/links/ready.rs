//! A connection has come into use.

use super::connection::State;
use crate::cluster::events::Event;
use crate::cluster::ids::ConnId;
use crate::cluster::machine::{Cluster, Phase};

impl Cluster {
    /// A handshake is over: the connection comes into use, when it is with whom it should be.
    pub(in crate::cluster) fn on_greeted(&mut self, conn: ConnId) {
        if !self.is_recognised(conn) {
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
        let dials = self.nodes.get_mut(key).map_or(0, |node| core::mem::take(&mut node.dials));
        // One that takes the place of a connection that was too old is no news.
        if let Some(node) = self.nodes.get_mut(key).filter(|node| !node.told_up) {
            node.told_up = true;
            let address = node.address.clone();
            let event = match node.failures {
                0 => Event::Connected { node: address },
                _ => Event::Reconnected {
                    node: address,
                    after: self.cx.now.saturating_since(node.failed_at),
                    attempts: dials,
                },
            };
            self.cx.tell(event);
        }
        if let Phase::Starting(_) = self.phase {
            self.on_seed_ready(conn);
        }
        self.send_queue(key);
        self.serve_waiters(key);
    }
}
