//! Connections that are with another node than their address means by now.
//!
//! Behind a name, or a balancer, there may be another node today than when a connection was made.
//! The old node says so: it redirects to the very address that it was reached at, or, as a server
//! alone, that it is a replica (READONLY). Over the same connection it says so for ever. So the
//! connection takes nothing more, the name is looked up anew, and what was refused goes over a new
//! connection. When that one says the same, it is no old connection but the truth: then it is
//! waited for (a cluster), or the caller is told (a server alone).

use alloc::string::ToString;

use crate::cluster::events::Event;
use crate::cluster::ids::ConnId;
use crate::cluster::machine::Cluster;
use crate::cluster::nodes::staleness::Leave;

impl Cluster {
    /// A connection says that its address has another node. Whether a new connection is to be
    /// tried; else this one is new.
    pub(in crate::cluster) fn leave_stale(&mut self, conn: ConnId) -> bool {
        let Some(connection) = self.links.get(conn) else {
            return false;
        };
        let (key, made_at) = (connection.node, connection.made_at);
        let Some(node) = self.nodes.get_mut(key) else {
            return false;
        };
        match node.leave_stale(made_at, self.cx.now) {
            Leave::Already => return true,
            Leave::Believed => return false,
            Leave::Now => {}
        }
        if node.take_told_up() {
            let node = node.address().clone();
            let reason = "it says that another node is at its address now".to_string();
            self.cx.tell(Event::Disconnected { node, reason });
        }
        self.leave_connections(key);
        true
    }
}
