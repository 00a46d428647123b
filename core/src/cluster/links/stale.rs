//! Connections that are with another node than their address means by now.
//!
//! Behind a name, or a balancer, there may be another node today than when a connection was made. The old node says so: it redirects to
//! the very address that it was reached at, or, as a server alone, that it is a replica (READONLY). Over the same connection it says so for
//! ever. So the connection takes nothing more, the name is looked up anew, and what was refused goes over a new connection. When that
//! one says the same, it is no old connection but the truth: then it is waited for (a cluster), or the caller is told (a server alone).

use alloc::string::ToString;
use core::time::Duration;

use crate::cluster::{Cluster, ConnId, Event};
use crate::time::Instant;

/// What a connection says that was made within this time after one was given up is believed. It doubles while nothing changes.
const BELIEVED: Duration = Duration::from_millis(500);

/// It doubles so often at most: half a minute.
const DOUBLED_MAX: u32 = 6;

/// When a node's connections were given up last.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::cluster) struct Staleness {
    at: Option<Instant>,
    /// How often in a row the new connection has said the same.
    rounds: u32,
}

impl Cluster {
    /// A connection says that its address has another node. Whether a new connection is to be tried; else this one is new.
    pub(in crate::cluster) fn leave_stale(&mut self, conn: ConnId) -> bool {
        let Some(connection) = self.links.get(conn) else {
            return false;
        };
        let (key, made_at) = (connection.node, connection.made_at);
        let Some(node) = self.nodes.get_mut(key) else {
            return false;
        };
        let Staleness { at, rounds } = node.stale;
        let believed = BELIEVED * (1 << rounds.min(DOUBLED_MAX));
        let rounds = match at {
            // It was given up already, and this was under way.
            Some(at) if made_at < at => return true,
            Some(at) if self.cx.now < at + believed => return false,
            Some(at) if self.cx.now < at + 2 * believed => rounds.saturating_add(1),
            _ => 0,
        };
        node.stale = Staleness { at: Some(self.cx.now), rounds };
        if core::mem::take(&mut node.told_up) {
            let node = node.address.clone();
            let reason = "it says that another node is at its address now".to_string();
            self.cx.tell(Event::Disconnected { node, reason });
        }
        self.leave_connections(key);
        true
    }
}
