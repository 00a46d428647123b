//! Commands that block: each has a connection lent for itself, and a time-out that follows its own
//! argument. And those that must not wait: what ends a script.
//!
//! On a connection that others share it would hold up what was sent after it. When it is given up,
//! it is ended from the connection that all share, and its own is closed, so that the server takes
//! nothing from a list for nobody.
//!
//! SCRIPT KILL, FUNCTION KILL, FUNCTION STATS and SHUTDOWN are about a script that runs, and are
//! served while it does (the servers' flag `allow_busy`; Redis documentation, "Redis
//! programmability", "Maximum execution time"). A server answers the commands of one connection in
//! their order: behind the script, or anything else that is due, they would come too late. So they
//! have a connection for themselves then.

use alloc::string::String;
use alloc::vec::Vec;

use crate::cluster::ids::{ConnId, LeaseId, NodeKey, RequestId};
use crate::cluster::links::connection::{Connection, Expected};
use crate::cluster::machine::Cluster;
use crate::cluster::pool::Lending;
use crate::cluster::requests::request::Target;
use crate::command::blocking::after_blocking;
use crate::command::prepared::Command;
use crate::error::Error;
use crate::time::Instant;

impl Cluster {
    /// The same for one over a lent connection, where it may be behind one that blocks.
    pub(in crate::cluster) fn deadline_on_lease(&mut self, command: &Command, id: LeaseId) -> Instant {
        let (now, timeout) = (self.cx.now, self.cx.config.request_timeout);
        let Some(lease) = self.pool.get_mut(id) else {
            return self.cx.deadline_of(command);
        };
        let conn = lease.connection();
        let is_idle =
            conn.and_then(|conn| self.links.get(conn)).is_some_and(|conn| conn.expected().is_empty());
        let free_at = if is_idle { now } else { lease.blocks_until.max(now) };
        lease.blocks_until = after_blocking(free_at, command);
        lease.blocks_until + timeout
    }

    /// A command has blocked and is answered: those behind it on its lent connection have their
    /// usual time from now on.
    pub(in crate::cluster) fn start_clocks_behind(&mut self, conn: ConnId, id: LeaseId) {
        let waiting = self.links.get(conn).map(Connection::expected);
        let behind: Vec<_> = waiting.into_iter().flatten().filter_map(Expected::request).collect();
        let (timeout, mut free_at) = (self.cx.config.request_timeout, self.cx.now);
        for request_id in behind {
            if let Some(request) = self.requests.get(request_id) {
                free_at = after_blocking(free_at, request.command());
                let deadline = free_at + timeout;
                if deadline < request.deadline() {
                    self.requests.set_deadline(request_id, deadline);
                }
            }
        }
        if let Some(lease) = self.pool.get_mut(id) {
            lease.blocks_until = free_at;
        }
    }

    /// Puts a request on a connection of its own, which it has until it ends.
    pub(in crate::cluster) fn send_alone(&mut self, id: RequestId) {
        let Some(request) = self.requests.get(id) else {
            return;
        };
        let place = match request.target() {
            Some(Target::Node(address)) => {
                let address = address.clone();
                self.node_for_caller(&address).map(Lending::At)
            }
            _ => Some(request.command().route.slot().map_or(Lending::Anywhere, Lending::Owner)),
        };
        let Some(place) = place else {
            let text = String::from("the topology has as many nodes as there may be");
            return self.finish(id, Err(Error::Connect(text)));
        };
        self.send_on_own(id, place);
    }

    /// Whether a request must not wait for the replies that are due on its node's connection.
    pub(in crate::cluster) fn goes_around(&self, id: RequestId, node: NodeKey) -> bool {
        let shared = self.nodes.get(node).and_then(|node| self.links.get(node.connection()?));
        let is_kept = shared.is_some_and(|shared| shared.is_ready() && !shared.expected().is_empty());
        is_kept && self.requests.get(id).is_some_and(|request| request.command().while_busy)
    }

    /// Sends a request to this node, or to the one that its slot will have, over a connection on
    /// which nothing is due.
    pub(in crate::cluster) fn send_around(&mut self, id: RequestId, node: NodeKey) {
        let request = self.requests.get(id).filter(|request| request.target().is_none());
        let slot = request.and_then(|request| request.command().route.slot());
        self.send_on_own(id, slot.map_or(Lending::At(node), Lending::Owner));
    }

    /// Lends a request a connection, and sends it there.
    fn send_on_own(&mut self, id: RequestId, place: Lending) {
        // Like any request, it waits for its node as long as its own time lasts.
        let lease = self.open_lease(place, self.cx.config.request_timeout);
        if let Some(request) = self.requests.get_mut(id) {
            request.take_own(lease);
        }
        self.send_on_lease(id, lease);
    }
}
