//! Connections that end without anything being wrong, and nodes that go with their last one.

use alloc::vec::Vec;

use crate::cluster::ids::{ConnId, NodeKey};
use crate::cluster::io::Output;
use crate::cluster::machine::Cluster;

impl Cluster {
    /// Nobody has used it for long, or it is too old: it goes without anything being wrong.
    pub(in crate::cluster) fn close_quietly(&mut self, conn: ConnId) {
        let Some(connection) = self.detach(conn) else {
            return;
        };
        if connection.is_announced() {
            self.cx.output(Output::Close { conn });
        }
        self.cx.statistics.disconnects += 1;
        if let Some(node) = self.nodes.get_mut(connection.node) {
            node.statistics_mut().disconnects += 1;
            node.line_mut().forget(conn);
            node.stop_sharing(conn);
        }
        self.map.forget_connection(conn);
        self.nodes.look_after(&self.cx, connection.node);
    }

    /// Closes a retired node's connections when nobody waits for their replies, and forgets it when
    /// it has none left.
    pub(in crate::cluster) fn drop_if_retired(&mut self, key: NodeKey) {
        let Some(node) = self.nodes.get(key).filter(|node| node.is_retired()) else {
            return;
        };
        if node.is_awaited() {
            return;
        }
        let own = node.connections().iter();
        let own = own.filter_map(|conn| Some((*conn, self.links.get(*conn)?)));
        let (mut unused, mut used) = (Vec::new(), 0);
        for (conn, connection) in own {
            match connection.lease().is_some() || self.requests.is_awaited(conn, connection) {
                true => used += 1,
                false => unused.push(conn),
            }
        }
        for conn in unused {
            self.close_quietly(conn);
        }
        if used == 0 {
            self.nodes.forget(&self.cx, key);
        }
    }
}
