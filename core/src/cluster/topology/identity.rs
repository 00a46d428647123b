//! Who is at an address.
//!
//! A node's id is its identity for ever (cluster specification, "Cluster nodes attributes"); an
//! address is only where it was reached last. Containers reuse addresses, and then another
//! cluster's node answers, with everything right but the data. So, once ids are known:
//!
//! ```text
//!   handshake with CLUSTER MYID ─→ the id that the topology has there ─→ Ready
//!       │ another id
//!       ↓
//!    Strange: asked for its view, and for nothing else
//!       ├── its view is another cluster's ─────────────→ closed; a failure of the node
//!       ├── the present topology has the id there now ─→ Ready
//!       └── its view names its own address otherwise ──→ ids tell nothing at this address ─→ Ready
//! ```
//!
//! | what is at the address | checked |
//! |---|---|
//! | one id by the topology | yes: shared and lent connections, primaries and replicas |
//! | several ids: all nodes behind one balancer | no |
//! | none; a redirect named it | the id that the first connection gave, unless it is a seed's address |
//! | a server that refuses CLUSTER MYID, or answers no id | no |
//!
//! A view is *kin* when it shares an id with the present topology, or when who gave it is of the
//! present topology by its id. Epochs say something among kin alone. A view that is not kin counts
//! only when no known node answers for some rounds: then all nodes were replaced.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::address::NodeAddr;
use crate::cluster::ids::{ConnId, NodeKey};
use crate::cluster::links::connection::{Connection, State};
use crate::cluster::links::ended::Driver;
use crate::cluster::machine::Cluster;
use crate::cluster::news::News;
use crate::cluster::nodes::node::Node;
use crate::error::Error;
use crate::topology::Topology;

impl Cluster {
    /// The id that a connection to this node has to give, where one is known.
    fn expected_id<'a>(&'a self, node: &'a Node) -> Option<&'a str> {
        if node.is_unchecked() {
            return None;
        }
        let members = self.map.members_at(node.address());
        let mut ids = members.map(|(_, member)| member.id.as_str()).filter(|id| !id.is_empty());
        match ids.next() {
            Some(id) => ids.all(|other| other == id).then_some(id),
            None => node.id(),
        }
    }

    /// Whether a connection is with another node than the topology has at its address: both ids.
    fn mismatch<'a>(&'a self, connection: &'a Connection) -> Option<(&'a str, &'a str)> {
        let id = connection.node_id()?;
        let expected = self.expected_id(self.nodes.get(connection.node())?)?;
        (id != expected).then_some((id, expected))
    }

    /// Says who else is at the address, for people.
    fn who_else(&self, connection: &Connection) -> String {
        match self.mismatch(connection) {
            Some((id, expected)) => {
                format!("the address belongs to another node now: its id is {id}, not {expected}")
            }
            None => "the node at the address has not told who it is".to_string(),
        }
    }

    /// A handshake is over. Whether the connection may be used; else it is asked for its view
    /// first.
    pub(in crate::cluster) fn is_recognised(&mut self, conn: ConnId) -> bool {
        let Some(connection) = self.links.get(conn) else {
            return false;
        };
        let (key, id, is_shared) =
            (connection.node(), connection.node_id().map(String::from), connection.is_shared());
        let is_strange = self.mismatch(connection).is_some();
        let is_seed = self.nodes.get(key).is_some_and(|node| self.cx.config.seeds.contains(node.address()));
        let Some(node) = self.nodes.get_mut(key) else {
            return false;
        };
        if !is_strange {
            node.recognise(id, is_seed);
            return true;
        }
        node.note_stranger(id);
        let deadline = self.cx.now + self.cx.config.connect_timeout;
        if let Some(connection) = self.links.get_mut(conn) {
            connection.note_strange(deadline);
        }
        self.links.watch(&self.cx, conn);
        self.map.want_refresh();
        // Reads need not wait for a replica that has gone.
        if is_shared {
            self.release_queue(key, None);
        }
        false
    }

    /// Why a connection that said another id is given up.
    pub(in crate::cluster) fn why_strange(&self, conn: ConnId) -> String {
        self.links.get(conn).map(|connection| self.who_else(connection)).unwrap_or_default()
    }

    /// Whether a view is one of the present cluster.
    pub(super) fn is_kin(&self, conn: ConnId, view: &Topology) -> bool {
        let id = self.links.get(conn).and_then(|connection| connection.node_id());
        let is_member = id.is_some_and(|id| self.map.member_with_id(id).is_some());
        is_member || self.map.is_kin(view)
    }

    /// A view came from a connection that had said another id, and it is kin: whether it may be
    /// used now.
    pub(super) fn reconsider(&mut self, conn: ConnId, view: &Topology) {
        let Some(connection) = self.links.get_mut(conn).filter(|own| own.state() == State::Strange) else {
            return;
        };
        let key = connection.node();
        let Some(node) = self.nodes.get_mut(key) else {
            return;
        };
        let id = connection.node_id().unwrap_or_default();
        node.note_named_otherwise(is_named_otherwise(view, node.address(), id));
        // What the first connection said binds nobody when the topology does not say it.
        node.forget_id();
        match self.links.get(conn).and_then(|connection| self.mismatch(connection)) {
            None => self.news.push_back(News::Greeted(conn)),
            Some(_) => self.lose(conn, Error::Connect(self.why_strange(conn)), Driver::MustClose),
        }
    }

    /// The node at this connection has another cluster's view: nothing more is sent to it.
    pub(super) fn on_stranger(&mut self, conn: ConnId) {
        let Some(connection) = self.links.get(conn) else {
            return;
        };
        let key = connection.node();
        let mut reason = "the node at the address is of another cluster".to_string();
        if let Some((id, expected)) = self.mismatch(connection) {
            reason.push_str(&format!(": its id is {id}, not {expected}"));
        }
        if !connection.is_ready() {
            return self.lose(conn, Error::Connect(reason), Driver::MustClose);
        }
        self.leave_connections(key);
        self.nodes.fail(&mut self.cx, key, &reason, true);
        self.map.want_refresh();
        self.close_if_drained(conn);
        self.nodes.look_after(&self.cx, key);
    }

    /// Whether no node of the topology answers: each was tried, and failed.
    pub(super) fn is_forsaken(&self) -> bool {
        let members = self.map.topology.members().filter_map(|(_, member)| self.nodes.at(&member.address));
        let mut nodes = members.filter_map(|key| self.nodes.get(key));
        let is_strange = |conn| self.links.get(conn).is_some_and(|own| own.state() == State::Strange);
        let fails =
            |node: &Node| node.connection().is_some_and(is_strange) || self.links.is_out_of_reach(node);
        nodes.all(fails)
    }

    /// The topology is another: connections with nodes that it does not have at their addresses
    /// take nothing new, and nodes that it has are dialled at once.
    pub(super) fn recognise_anew(&mut self) {
        let is_misplaced = |connection: &Connection| {
            connection.is_ready() && !connection.is_draining() && self.mismatch(connection).is_some()
        };
        let misplaced = self.links.iter().filter(|(_, connection)| is_misplaced(connection));
        let misplaced: Vec<_> = misplaced.map(|(conn, _)| conn).collect();
        for conn in misplaced {
            self.leave_connection(conn);
            self.close_if_drained(conn);
        }
        let is_found = |node: &Node| node.stranger().is_some() && self.expected_id(node) == node.stranger();
        let found: Vec<_> =
            self.nodes.iter().filter(|(_, node)| is_found(node)).map(|(key, _)| key).collect();
        for key in found {
            if let Some(node) = self.nodes.get_mut(key) {
                node.note_found(self.cx.now);
            }
            self.tend_node(key);
        }
    }

    /// Puts nothing more on any of a node's connections, and tells why when that is news.
    pub(in crate::cluster) fn leave_connections(&mut self, key: NodeKey) {
        let own = self.nodes.get(key).map(|node| node.connections().to_vec()).unwrap_or_default();
        for conn in own {
            if self.links.get(conn).is_some_and(Connection::is_ready) {
                self.leave_connection(conn);
            }
        }
    }

    /// Puts nothing more on a connection. Replies that are due may still come; a holder keeps it
    /// until he gives it back, unless the node is none of the cluster's: no request goes there.
    fn leave_connection(&mut self, conn: ConnId) {
        let Some(connection) = self.links.get(conn) else {
            return;
        };
        let is_foreign = connection.node_id().is_some_and(|id| self.map.member_with_id(id).is_none());
        if is_foreign && connection.lease().is_some() {
            return self.lose(conn, Error::Connect(self.who_else(connection)), Driver::MustClose);
        }
        let Some(connection) = self.links.get_mut(conn) else {
            return;
        };
        let key = connection.node();
        match connection.dedicated() {
            None => {
                connection.drain();
                if let Some(node) = self.nodes.get_mut(key) {
                    node.stop_sharing(conn);
                }
            }
            Some(dedicated) if dedicated.lease().is_some() => dedicated.mark_dirty(),
            Some(_) => self.discard(conn),
        }
    }
}

/// Whether a view has other nodes at this address, and not the one with this id.
pub(super) fn is_named_otherwise(view: &Topology, address: &NodeAddr, id: &str) -> bool {
    let at = view.members().filter(|(_, member)| member.address == *address && !member.id.is_empty());
    let mut ids = at.map(|(_, member)| member.id.as_str()).peekable();
    ids.peek().is_some() && ids.all(|other| other != id)
}
