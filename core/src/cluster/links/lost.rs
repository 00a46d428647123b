//! What becomes of all that was on a connection, and of its node, when it has ended.

use alloc::string::String;

use super::connection::Expected;
use super::ended::{Loss, is_final};
use crate::cluster::ids::ConnId;
use crate::cluster::machine::{Cluster, Phase};

impl Cluster {
    /// The host has no socket for a connection.
    pub(in crate::cluster) fn on_no_socket(&mut self, conn: ConnId, reason: String) {
        let open = self.links.len().saturating_sub(1);
        if open == 0 || matches!(self.phase, Phase::Starting(_)) {
            return self.on_closed(conn, reason);
        }
        let Some(connection) = self.detach(conn) else {
            return;
        };
        self.map.forget_connection(conn);
        self.links.shorten(&mut self.cx, open, reason.clone());
        let key = connection.node;
        let Some(node) = self.nodes.get_mut(key) else {
            return;
        };
        if node.stop_sharing(conn) {
            node.note_not_dialled();
        }
        if !connection.is_shared() {
            self.on_dedicated_lost(conn, key, connection.lease(), false, &reason);
        }
        self.drop_if_retired(key);
        // It takes an idle connection's place, or is listed.
        self.tend_node(key);
        self.seek_contact();
    }

    /// Decides for everything that was on a connection which has ended, and for its node.
    pub(in crate::cluster) fn on_lost(&mut self, loss: Loss) {
        let Loss { conn, mut connection, address, was_current, error, reason } = loss;
        let (key, lease) = (connection.node, connection.lease());
        // A holder who has not used it yet gets another one, and notices nothing.
        let is_fresh = lease.is_some() && connection.dedicated().is_some_and(|dedicated| !dedicated.used);
        for (waiting, sent) in connection.take_expected() {
            match waiting {
                Expected::Request(id) if is_fresh => self.wait_at_lease(id, lease),
                Expected::Request(id) => self.on_unanswered(conn, id, sent, &address, &reason),
                _ => {}
            }
        }
        if !connection.is_shared() {
            self.on_dedicated_lost(conn, key, lease, connection.is_ready() && !is_fresh, &reason);
        }
        let hopeless = is_final(&error);
        if was_current {
            self.release_queue(key, hopeless.then_some(&error));
        }
        if hopeless {
            self.refuse_waiters(key, &error);
        }
        if let Phase::Starting(_) = self.phase {
            self.on_seed_failed(&address, error, connection.is_not_now);
        }
        self.drop_if_retired(key);
        self.tend_node(key);
        self.seek_contact();
    }
}
