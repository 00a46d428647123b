//! From asking for a dedicated connection to giving it back.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

use super::lease::{Lease, LeaseState, Lending, given_back};
use super::line::Acquired;
use crate::cluster::ids::{ConnId, LeaseId, NodeKey, RequestId};
use crate::cluster::links::connection::{Connection, Dedicated, Expected, Usage};
use crate::cluster::machine::{Cluster, Phase};
use crate::cluster::nodes::node::Node;
use crate::cluster::queue::Queue;
use crate::cluster::requests::request::{Request, Stage, Target};
use crate::command::prepared::Effect;
use crate::error::{Error, Interrupted, Within};
use crate::resp::Reply;
use crate::topology::in_order;

impl Cluster {
    /// As `lend`, while the machine is at work.
    pub(in crate::cluster) fn open_lease(&mut self, place: Lending, patience: Duration) -> LeaseId {
        let lease = Lease {
            state: LeaseState::Waiting(None),
            queue: Queue::default(),
            place,
            asked: None,
            blocks_until: self.cx.now,
            sent: 0,
            patience,
            deadline: self.cx.now + patience,
        };
        let id = self.pool.all.insert(lease);
        self.pool.set_deadline(&self.cx, id);
        self.place_lease(id);
        id
    }

    /// Lets a holder begin anew, at its slot's owner or at the node that an ASK has named.
    pub(super) fn move_lease(&mut self, id: LeaseId, asked: Option<NodeKey>) {
        let Some(lease) = self.pool.get_mut(id) else {
            return;
        };
        (lease.asked, lease.sent) = (asked, 0);
        let before = core::mem::replace(&mut lease.state, LeaseState::Waiting(None));
        self.pool.set_deadline(&self.cx, id);
        self.leave(id, &before);
        self.place_lease(id);
    }

    /// Takes a connection back, or out of the line who waits for one. Requests that are under way
    /// on it end.
    pub(in crate::cluster) fn release_lease(&mut self, lease: LeaseId) {
        let Some(Lease { state, mut queue, .. }) = self.pool.all.remove(lease) else {
            return;
        };
        for id in queue.take() {
            self.finish(id, Err(given_back(String::new(), false)));
        }
        self.leave(lease, &state);
    }

    /// Leaves the queue, or the connection, that a lease was in.
    fn leave(&mut self, lease: LeaseId, state: &LeaseState) {
        match *state {
            LeaseState::Waiting(node) => {
                if let Some(node) = node.and_then(|key| self.nodes.get_mut(key)) {
                    node.line_mut().leave(lease);
                }
            }
            // Whoever comes next has it.
            LeaseState::Opening(conn) => {
                if let Some(dedicated) = self.links.get_mut(conn).and_then(|conn| conn.dedicated()) {
                    dedicated.set_lease(None);
                }
            }
            LeaseState::Held(conn) => self.reclaim(conn),
            LeaseState::Paused | LeaseState::Ended(_) => {}
        }
    }

    /// Lets a holder wait, without a connection, while its first command waits for its retry. What
    /// it sends meanwhile comes after that.
    pub(super) fn pause_lease(&mut self, first: RequestId, id: LeaseId) {
        let waits = self.requests.get(first).is_some_and(|request| request.stage() == Stage::Delayed);
        if let Some(lease) = self.pool.get_mut(id).filter(|_| waits) {
            let before = core::mem::replace(&mut lease.state, LeaseState::Paused);
            self.leave(id, &before);
        }
    }

    /// The first command's wait is over: its holder goes where the slot is now. False when it is no
    /// holder's.
    pub(in crate::cluster) fn resume_lease(&mut self, first: RequestId) -> bool {
        let target = self.requests.get(first).and_then(|request| request.target());
        let Some(&Target::Lent(id)) = target else {
            return false;
        };
        let Some(lease) = self.pool.get_mut(id).filter(|lease| lease.state == LeaseState::Paused) else {
            return false;
        };
        lease.queue.push_front(first);
        self.requests.set_stage(first, Stage::AtLease(id));
        self.move_lease(id, None);
        true
    }

    /// A first command has ended while it waited for its retry: what was to follow is not sent
    /// without it.
    pub(in crate::cluster) fn end_paused(&mut self, id: LeaseId) {
        if self.pool.get(id).is_some_and(|lease| lease.state == LeaseState::Paused) {
            self.end_given_up(id);
        }
    }

    /// What was to follow a command that was given up is not sent.
    pub(in crate::cluster) fn end_given_up(&mut self, id: LeaseId) {
        let message = "the command before it was given up".to_string();
        let error = Interrupted { node: String::new(), message, possibly_executed: false };
        self.end_lease(id, &Error::ConnectionLost(error));
    }

    fn reclaim(&mut self, conn: ConnId) {
        let lifetime = self.cx.config.pool.lifetime_max;
        let Some(connection) = self.links.get_mut(conn) else {
            return;
        };
        let old = self.cx.now.saturating_since(connection.made_at()) >= lifetime;
        let unanswered: Vec<_> = connection.expected().iter().filter_map(Expected::request).collect();
        let in_doubt = !connection.expected().is_empty();
        let Some(dedicated) = connection.dedicated() else {
            return;
        };
        dedicated.set_lease(None);
        let blocks = dedicated.take_blocks() && in_doubt;
        if in_doubt || dedicated.is_dirty() || old {
            let (key, client_id) = (connection.node(), connection.client_id());
            if blocks && let Some(client_id) = client_id {
                self.unblock(key, client_id);
            }
            let node = self.nodes.get(key).map(|node| node.address().to_string()).unwrap_or_default();
            for id in unanswered {
                self.finish(id, Err(given_back(node.clone(), true)));
            }
            return self.discard(conn);
        }
        match dedicated.undo() {
            Some(word) => {
                dedicated.note(Effect::Ends);
                self.links.check_with(&mut self.cx, conn, word, Expected::Cleaning);
            }
            None => self.on_dedicated_ready(conn),
        }
    }

    /// What a WATCH, MULTI or EXEC that was refused has left behind is not known.
    pub(in crate::cluster) fn note_refusal(&mut self, conn: ConnId, id: RequestId) {
        let is_harmless = |request: &Request| request.command().effect == Effect::None;
        if !self.requests.get(id).is_some_and(is_harmless)
            && let Some(dedicated) = self.links.get_mut(conn).and_then(Connection::dedicated)
        {
            dedicated.mark_dirty();
        }
    }

    /// What the last holder left is undone, unless the server says otherwise.
    pub(in crate::cluster) fn on_cleaned(&mut self, conn: ConnId, reply: &Reply) {
        if reply.as_error().is_some() {
            return self.discard(conn);
        }
        if let Some(connection) = self.links.get_mut(conn) {
            connection.end_check();
        }
        self.on_dedicated_ready(conn);
    }

    /// Closes a connection that nobody has; another may take its place.
    pub(in crate::cluster) fn discard(&mut self, conn: ConnId) {
        let key = self.links.node_of(conn).unwrap_or_default();
        self.close_quietly(conn);
        self.serve_waiters(key);
        self.drop_if_retired(key);
    }

    /// A connection of its own is ready for its holder, or for the next.
    pub(in crate::cluster) fn on_dedicated_ready(&mut self, conn: ConnId) {
        let Some(connection) = self.links.get(conn) else {
            return;
        };
        let key = connection.node();
        if let Some(lease) = connection.lease() {
            return self.grant(lease, conn);
        }
        let Some(node) = self.nodes.get_mut(key) else {
            return;
        };
        if node.is_retired() {
            return self.discard(conn);
        }
        node.line_mut().release(conn);
        self.pool.tend_soon(&self.cx, &mut self.nodes, key);
        self.serve_waiters(key);
    }

    fn grant(&mut self, id: LeaseId, conn: ConnId) {
        let Some(lease) = self.pool.get_mut(id) else {
            return;
        };
        lease.state = LeaseState::Held(conn);
        lease.sent = 0;
        if let Some(dedicated) = self.links.get_mut(conn).and_then(Connection::dedicated) {
            dedicated.begin_use();
        }
        for request in lease.queue.take() {
            self.send_on_lease(request, id);
        }
    }

    /// Puts a lease into the queue of the node that it belongs to.
    fn place_lease(&mut self, id: LeaseId) {
        let Some(lease) = self.pool.get(id) else {
            return;
        };
        let node = match (&self.phase, lease.place) {
            (Phase::Clustered, Lending::Owner(_)) if lease.asked.is_some() => lease.asked,
            (Phase::Closed, _) => return self.end_lease(id, &Error::Closed),
            (Phase::Starting(_), _) => None,
            (Phase::Standalone(node), _) => Some(*node),
            (Phase::Clustered, Lending::Owner(slot)) => self.map.owner(slot),
            (Phase::Clustered, Lending::At(node)) => Some(node),
            (Phase::Clustered, Lending::Anywhere) => self.any_primary(),
        };
        if let Some(lease) = self.pool.get_mut(id) {
            lease.state = LeaseState::Waiting(node);
        }
        match node.and_then(|key| Some((key, self.nodes.get_mut(key)?))) {
            Some((key, node)) => {
                node.line_mut().wait(id);
                self.serve_waiters(key);
            }
            None => self.map.want_refresh(),
        }
    }

    /// The topology has changed: those who wait go where they belong now.
    pub(in crate::cluster) fn place_waiting_leases(&mut self) {
        for node in self.nodes.values_mut() {
            node.line_mut().take_waiters();
        }
        let is_waiting = |lease: &Lease| matches!(lease.state, LeaseState::Waiting(_));
        let waiting = self.pool.all.iter().filter(|(_, lease)| is_waiting(lease));
        let waiting: Vec<_> = waiting.map(|(id, lease)| (lease.deadline, id)).collect();
        // Who came first is served first.
        for (_, id) in in_order(waiting, |(deadline, _)| *deadline) {
            // After a wait the ASK may hold no more: the owner is asked again.
            if let Some(lease) = self.pool.get_mut(id) {
                lease.asked = None;
            }
            self.place_lease(id);
        }
    }

    /// Hands idle connections to those who wait, and opens more where there may be more.
    pub(in crate::cluster) fn serve_waiters(&mut self, key: NodeKey) {
        while let Some(node) = self.nodes.get_mut(key) {
            let may_dial = node.may_be_dialled(self.cx.now);
            let id = match node.line_mut().acquire(self.cx.config.pool.connections_max) {
                Acquired::Nobody => return,
                Acquired::Idle(id, conn) => {
                    self.lend_idle(id, key, conn);
                    continue;
                }
                _ if !may_dial => return self.nodes.look_after(&self.cx, key),
                Acquired::MayOpen(id) if self.has_room_for(key) => id,
                Acquired::MayOpen(_) | Acquired::Full => return,
            };
            let usage = Usage::Dedicated(Dedicated::for_lease(id));
            let Some(conn) = self.open(key, usage) else {
                return;
            };
            if let Some(node) = self.nodes.get_mut(key) {
                node.line_mut().opens();
            }
            if let Some(lease) = self.pool.get_mut(id) {
                lease.state = LeaseState::Opening(conn);
            }
        }
    }

    fn lend_idle(&mut self, id: LeaseId, key: NodeKey, conn: ConnId) {
        let after = self.cx.config.health_check_after;
        let Some(connection) = self.links.get_mut(conn) else {
            return;
        };
        let needs_check = connection.needs_check(after, self.cx.now);
        if let Some(dedicated) = connection.dedicated() {
            dedicated.set_lease(Some(id));
        }
        self.pool.tend_soon(&self.cx, &mut self.nodes, key);
        if !needs_check {
            return self.grant(id, conn);
        }
        if let Some(lease) = self.pool.get_mut(id) {
            lease.state = LeaseState::Opening(conn);
        }
        self.links.check_health(&mut self.cx, conn);
    }

    /// A dedicated connection has ended.
    pub(in crate::cluster) fn on_dedicated_lost(
        &mut self,
        conn: ConnId,
        key: NodeKey,
        lease: Option<LeaseId>,
        was_used: bool,
        reason: &str,
    ) {
        let Some(node) = self.nodes.get_mut(key) else {
            return;
        };
        node.line_mut().forget(conn);
        let Some(id) = lease else {
            return;
        };
        let Some(lease) = self.pool.get_mut(id) else {
            return;
        };
        match lease.state {
            LeaseState::Held(_) if was_used => {
                let (node, message) = (node.address().to_string(), reason.to_string());
                let lost = Interrupted { node, message, possibly_executed: false };
                lease.state = LeaseState::Ended(Error::ConnectionLost(lost));
            }
            // It waits again, as the first in the queue, unless its place is elsewhere by now.
            // `lose` serves it when the node may be dialled.
            _ => {
                let was_held = matches!(lease.state, LeaseState::Held(_));
                lease.state = LeaseState::Waiting(Some(key));
                let is_retired = node.is_retired();
                if !is_retired {
                    node.line_mut().wait_first(id);
                }
                if was_held {
                    self.pool.set_deadline(&self.cx, id);
                }
                if is_retired {
                    self.place_lease(id);
                }
            }
        }
    }

    /// A node's log-in fails: nobody gets a connection to it.
    pub(in crate::cluster) fn refuse_waiters(&mut self, key: NodeKey, error: &Error) {
        let waiters = self.nodes.get_mut(key).map(|node| node.line_mut().take_waiters());
        for id in waiters.into_iter().flatten() {
            self.end_lease(id, error);
        }
    }

    /// Nothing comes of it: those who wait are told why, and those who come later.
    pub(in crate::cluster) fn end_lease(&mut self, id: LeaseId, error: &Error) {
        let Some(lease) = self.pool.get_mut(id) else {
            return;
        };
        let queue = lease.queue.take();
        let before = core::mem::replace(&mut lease.state, LeaseState::Ended(error.clone()));
        for request in queue {
            self.finish(request, Err(error.clone()));
        }
        self.leave(id, &before);
    }

    /// Tells those who have waited long enough why they get nothing.
    pub(in crate::cluster) fn end_late_lease(&mut self, id: LeaseId) {
        let error = self.lease_error(id);
        self.end_lease(id, &error);
    }

    /// Why a connection has not come.
    pub(in crate::cluster) fn lease_error(&self, id: LeaseId) -> Error {
        let within = self.pool.get(id).map_or(self.cx.config.pool.checkout_timeout, |lease| lease.patience);
        let conn_node = |conn: ConnId| self.links.node_of(conn);
        let key = match self.pool.get(id).map(|lease| &lease.state) {
            Some(LeaseState::Waiting(node)) => *node,
            Some(LeaseState::Opening(conn)) => conn_node(*conn),
            _ => None,
        };
        let Some((key, node)) = key.and_then(|key| Some((key, self.nodes.get(key)?))) else {
            return Error::ClusterDown(format!(
                "no node for the connection turned up within {}",
                Within(within)
            ));
        };
        let address = node.address();
        let most = self.cx.config.pool.connections_max;
        if node.is_down() && !node.last_error().is_empty() {
            Error::Connect(format!("{address}: {}", node.last_error()))
        } else if node.line().room(most) == 0 {
            Error::LimitExceeded(format!(
                "all {most} connections of {address} are lent, and none came back within {} \
                 (pool-max-connections, pool-checkout-timeout)",
                Within(within)
            ))
        } else if self.nodes.lacks_room(key) {
            let reason = self.links.why_no_room(&self.cx);
            Error::LimitExceeded(format!("{address}: none came free within {}: {reason}", Within(within)))
        } else {
            Error::Connect(format!("{address}: no connection within {}", Within(within)))
        }
    }

    /// Ends what blocks on another connection of this node. The server hears of a closed connection
    /// only some time later, and would give it what is pushed until then; what this client
    /// sends from now on comes after this.
    pub(in crate::cluster) fn unblock(&mut self, node: NodeKey, client_id: i64) {
        let shared = self.nodes.get(node).and_then(Node::connection);
        let usable = |conn: &ConnId| self.links.get(*conn).is_some_and(Connection::is_usable);
        if let Some(conn) = shared.filter(usable) {
            let words = ["CLIENT", "UNBLOCK", &client_id.to_string()];
            self.links.send_words(&mut self.cx, conn, &words, Expected::Unblocking);
        }
    }
}
