//! Lending whole connections, for what cannot share one: WATCH to EXEC, commands that block.
//!
//! ```text
//!   lend ─→ Waiting ─→ Opening ─→ Held ─→ give_back ─→ clean? ─ yes ─→ idle, for the next
//!            │ ↑          │        │                     └── no ────→ closed
//!            │ └─ failed ─┘        │
//!            └──── time is up ─────┴─ ended ─→ Ended
//! ```
//!
//! Lending takes no time: requests for a connection that is still to come wait for it.
//! A borrower waits its turn in its node's queue. An idle connection that has not been used for a while answers a
//! PING first. One that comes back with a WATCH or an open MULTI is cleaned by UNWATCH or DISCARD; one whose replies
//! are not all there, or whose state was changed in another way, is closed.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

use super::connection::{Connection, Exclusive, Usage, Waiting};
use super::queue::Queue;
use super::request::{Effect, Place, Request, Target};
use super::{Cluster, ConnId, LeaseId, NodeKey, Phase, RequestId};
use crate::error::{Error, Interrupted, Within};
use crate::resp::Reply;
use crate::slot::Slot;
use crate::time::Instant;
use crate::topology::in_order;

/// How often idle connections are looked through.
const TEND_INTERVAL: Duration = Duration::from_millis(500);

/// How many are opened to a node at a time to have as many idle as are wanted.
const OPENED_MAX: usize = 4;

/// Somebody who has, or waits for, a connection.
#[derive(Debug)]
pub(super) struct Lease {
    state: LeaseState,
    /// Requests for when it is there, in order.
    queue: Queue,
    place: Lending,
    /// The node that an ASK has named, for as long as it has the connection: ASKING goes before each of its commands.
    asked: Option<NodeKey>,
    /// When what was sent over it has stopped blocking, as it says itself.
    pub(super) blocks_until: Instant,
    /// How many requests have been put on its connection.
    sent: u32,
    /// How long it waits for a connection, and until when.
    patience: Duration,
    deadline: Instant,
}

/// Whose connection is lent.
#[derive(Clone, Copy, Debug)]
pub(super) enum Lending {
    /// That of the primary of this slot.
    Owner(Slot),
    /// That of this node.
    At(NodeKey),
    /// Any primary's.
    Anywhere,
}

#[derive(Debug, PartialEq)]
enum LeaseState {
    /// For a node's connection, or for a node.
    Waiting(Option<NodeKey>),
    /// For its first command's retry.
    Paused,
    /// For this connection to come up, or to answer its PING.
    Opening(ConnId),
    Held(ConnId),
    /// There is none, or it has ended under its borrower: what every request is told from now on.
    Ended(Error),
}

impl Cluster {
    /// Lends a connection of one's own to the primary of a slot, or to any, until [`give_back`](Self::give_back).
    ///
    /// It may have to be opened, or to come back from somebody else: requests wait for it. When none is there within
    /// the check-out time-out, they end with the reason, and so does every one after them.
    pub fn lend(&mut self, now: Instant, slot: Option<Slot>) -> LeaseId {
        if now > self.now {
            self.advance(now);
        }
        let place = slot.map_or(Lending::Anywhere, Lending::Owner);
        let id = self.open_lease(place, self.config.pool.checkout_timeout);
        self.drive_refresh();
        id
    }

    /// As `lend`, while the machine is at work.
    pub(super) fn open_lease(&mut self, place: Lending, patience: Duration) -> LeaseId {
        let lease = Lease {
            state: LeaseState::Waiting(None),
            queue: Queue::default(),
            place,
            asked: None,
            blocks_until: self.now,
            sent: 0,
            patience,
            deadline: self.now + patience,
        };
        let id = self.leases.insert(lease);
        self.set_lease_deadline(id);
        self.place_lease(id);
        id
    }

    /// Lets a borrower begin anew, at its slot's owner or at the node that an ASK has named.
    pub(super) fn move_lease(&mut self, id: LeaseId, asked: Option<NodeKey>) {
        let Some(lease) = self.leases.get_mut(id) else {
            return;
        };
        (lease.asked, lease.sent) = (asked, 0);
        let before = core::mem::replace(&mut lease.state, LeaseState::Waiting(None));
        self.set_lease_deadline(id);
        self.leave(id, &before);
        self.place_lease(id);
    }

    /// Gives a connection back, or stops waiting for one. Requests that are under way on it end.
    pub fn give_back(&mut self, lease: LeaseId) {
        let Some(Lease { state, mut queue, .. }) = self.leases.remove(lease) else {
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
                    node.borrowers.retain(|borrower| *borrower != lease);
                }
            }
            // Whoever comes next has it.
            LeaseState::Opening(conn) => {
                if let Some(exclusive) = self.connections.get_mut(conn).and_then(|conn| conn.exclusive()) {
                    exclusive.lease = None;
                }
            }
            LeaseState::Held(conn) => self.take_back(conn),
            LeaseState::Paused | LeaseState::Ended(_) => {}
        }
    }

    /// Lets a borrower wait, without a connection, while its first command waits for its retry. What it sends meanwhile
    /// comes after that.
    pub(super) fn pause_lease(&mut self, first: RequestId, id: LeaseId) {
        let waits = self.requests.get(first).is_some_and(|request| request.place == Place::Delayed);
        if let Some(lease) = self.leases.get_mut(id).filter(|_| waits) {
            let before = core::mem::replace(&mut lease.state, LeaseState::Paused);
            self.leave(id, &before);
        }
    }

    /// The first command's wait is over: its borrower goes where the slot is now. False when it is no borrower's.
    pub(super) fn resume_lease(&mut self, first: RequestId) -> bool {
        let target = self.requests.get(first).and_then(|request| request.target.as_ref());
        let Some(&Target::Lent(id)) = target else {
            return false;
        };
        let Some(lease) = self.leases.get_mut(id).filter(|lease| lease.state == LeaseState::Paused) else {
            return false;
        };
        lease.queue.push_front(first);
        self.place(first, Place::AtLease(id));
        self.move_lease(id, None);
        true
    }

    /// A first command has ended while it waited for its retry: what was to follow is not sent without it.
    pub(super) fn end_paused(&mut self, id: LeaseId) {
        if self.leases.get(id).is_some_and(|lease| lease.state == LeaseState::Paused) {
            self.end_given_up(id);
        }
    }

    /// What was to follow a command that was given up is not sent.
    pub(super) fn end_given_up(&mut self, id: LeaseId) {
        let message = "the command before it was given up".to_string();
        let error = Interrupted { node: String::new(), message, possibly_executed: false };
        self.end_lease(id, &Error::ConnectionLost(error));
    }

    fn take_back(&mut self, conn: ConnId) {
        let lifetime = self.config.pool.lifetime_max;
        let Some(connection) = self.connections.get_mut(conn) else {
            return;
        };
        let old = self.now.saturating_since(connection.made_at) >= lifetime;
        let unanswered: Vec<_> = connection.waiting.iter().filter_map(Waiting::request).collect();
        let in_doubt = !connection.waiting.is_empty();
        let Some(exclusive) = connection.exclusive() else {
            return;
        };
        exclusive.lease = None;
        let blocks = core::mem::take(&mut exclusive.blocks) && in_doubt;
        if in_doubt || exclusive.spoilt || old {
            let (key, client_id) = (connection.node, connection.client_id);
            if blocks && let Some(client_id) = client_id {
                self.unblock(key, client_id);
            }
            let node = self.nodes.get(key).map(|node| node.address.to_string()).unwrap_or_default();
            for id in unanswered {
                self.finish(id, Err(given_back(node.clone(), true)));
            }
            return self.discard(conn);
        }
        let undo = match exclusive {
            Exclusive { in_multi: true, .. } => Some("DISCARD"),
            Exclusive { watching: true, .. } => Some("UNWATCH"),
            _ => None,
        };
        match undo {
            Some(word) => {
                exclusive.note(Effect::Ends);
                self.check_with(conn, word, Waiting::Cleaning);
            }
            None => self.on_exclusive_ready(conn),
        }
    }

    /// What a WATCH, MULTI or EXEC that was refused has left behind is not known.
    pub(super) fn note_refusal(&mut self, conn: ConnId, id: RequestId) {
        let is_harmless = |request: &Request| request.command.effect == Effect::None;
        if !self.requests.get(id).is_some_and(is_harmless)
            && let Some(exclusive) = self.connections.get_mut(conn).and_then(Connection::exclusive)
        {
            exclusive.spoilt = true;
        }
    }

    /// What the last borrower left is undone, unless the server says otherwise.
    pub(super) fn on_cleaned(&mut self, conn: ConnId, reply: &Reply) {
        if reply.as_error().is_some() {
            return self.discard(conn);
        }
        if let Some(connection) = self.connections.get_mut(conn) {
            connection.check_until = None;
        }
        self.on_exclusive_ready(conn);
    }

    /// Closes a connection that nobody has; another may take its place.
    pub(super) fn discard(&mut self, conn: ConnId) {
        let key = self.connections.get(conn).map(|connection| connection.node).unwrap_or_default();
        self.close_quietly(conn);
        self.serve_borrowers(key);
        self.drop_if_retired(key);
    }

    /// A connection of its own is ready for its borrower, or for the next.
    pub(super) fn on_exclusive_ready(&mut self, conn: ConnId) {
        let Some(connection) = self.connections.get(conn) else {
            return;
        };
        let key = connection.node;
        if let Some(lease) = connection.lease() {
            return self.grant(lease, conn);
        }
        let Some(node) = self.nodes.get_mut(key) else {
            return;
        };
        if node.retired {
            return self.discard(conn);
        }
        node.idle.push(conn);
        self.serve_borrowers(key);
    }

    fn grant(&mut self, id: LeaseId, conn: ConnId) {
        let Some(lease) = self.leases.get_mut(id) else {
            return;
        };
        lease.state = LeaseState::Held(conn);
        lease.sent = 0;
        if let Some(exclusive) = self.connections.get_mut(conn).and_then(Connection::exclusive) {
            exclusive.used = false;
        }
        for request in lease.queue.take() {
            self.send_on_lease(request, id);
        }
    }

    /// Puts a borrower into the queue of the node that it belongs to.
    fn place_lease(&mut self, id: LeaseId) {
        let Some(lease) = self.leases.get(id) else {
            return;
        };
        let node = match (&self.phase, lease.place) {
            (Phase::Clustered, Lending::Owner(_)) if lease.asked.is_some() => lease.asked,
            (Phase::Closed, _) => return self.end_lease(id, &Error::Closed),
            (Phase::Starting(_), _) => None,
            (Phase::Standalone(node), _) => Some(*node),
            (Phase::Clustered, Lending::Owner(slot)) => self.slots.owner(slot),
            (Phase::Clustered, Lending::At(node)) => Some(node),
            (Phase::Clustered, Lending::Anywhere) => self.any_primary(),
        };
        if let Some(lease) = self.leases.get_mut(id) {
            lease.state = LeaseState::Waiting(node);
        }
        match node.and_then(|key| Some((key, self.nodes.get_mut(key)?))) {
            Some((key, node)) => {
                node.borrowers.push_back(id);
                self.serve_borrowers(key);
            }
            None => self.want_refresh(),
        }
    }

    /// The topology has changed: those who wait go where they belong now.
    pub(super) fn place_waiting_leases(&mut self) {
        for node in self.nodes.values_mut() {
            node.borrowers.clear();
        }
        let is_waiting = |lease: &Lease| matches!(lease.state, LeaseState::Waiting(_));
        let waiting = self.leases.iter().filter(|(_, lease)| is_waiting(lease));
        let waiting: Vec<_> = waiting.map(|(id, lease)| (lease.deadline, id)).collect();
        // Who came first is served first.
        for (_, id) in in_order(waiting, |(deadline, _)| *deadline) {
            // After a wait the ASK may hold no more: the owner is asked again.
            if let Some(lease) = self.leases.get_mut(id) {
                lease.asked = None;
            }
            self.place_lease(id);
        }
    }

    /// Hands idle connections to those who wait, and opens more where there may be more.
    pub(super) fn serve_borrowers(&mut self, key: NodeKey) {
        while let Some(node) = self.nodes.get_mut(key) {
            let Some(id) = node.borrowers.front().copied() else {
                return;
            };
            if let Some(conn) = node.idle.pop() {
                node.borrowers.pop_front();
                self.lend_idle(id, conn);
                continue;
            }
            let may_dial = node.redial_at <= self.now;
            let is_full = node.exclusive >= self.config.pool.connections_max;
            if !may_dial {
                return self.look_after(key);
            }
            if is_full || !self.has_room_for(key) {
                return;
            }
            let usage = Usage::Exclusive(Exclusive { lease: Some(id), ..Exclusive::default() });
            let Some(conn) = self.open(key, usage) else {
                return;
            };
            if let Some(node) = self.nodes.get_mut(key) {
                node.borrowers.pop_front();
            }
            if let Some(lease) = self.leases.get_mut(id) {
                lease.state = LeaseState::Opening(conn);
            }
        }
    }

    fn lend_idle(&mut self, id: LeaseId, conn: ConnId) {
        let after = self.config.health_check_after;
        let Some(connection) = self.connections.get_mut(conn) else {
            return;
        };
        let needs_check = connection.needs_check(after, self.now);
        if let Some(exclusive) = connection.exclusive() {
            exclusive.lease = Some(id);
        }
        if !needs_check {
            return self.grant(id, conn);
        }
        if let Some(lease) = self.leases.get_mut(id) {
            lease.state = LeaseState::Opening(conn);
        }
        self.check_health(conn);
    }

    /// A connection for exclusive use has ended.
    pub(super) fn on_exclusive_lost(
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
        node.idle.retain(|idle| *idle != conn);
        let Some(id) = lease else {
            return;
        };
        let Some(lease) = self.leases.get_mut(id) else {
            return;
        };
        match lease.state {
            LeaseState::Held(_) if was_used => {
                let (node, message) = (node.address.to_string(), reason.to_string());
                let lost = Interrupted { node, message, possibly_executed: false };
                lease.state = LeaseState::Ended(Error::ConnectionLost(lost));
            }
            // It waits again, as the first in the queue, unless its place is elsewhere by now. `lose` serves it when the node may be
            // dialled.
            _ => {
                let was_held = matches!(lease.state, LeaseState::Held(_));
                lease.state = LeaseState::Waiting(Some(key));
                let is_retired = node.retired;
                if !is_retired {
                    node.borrowers.push_front(id);
                }
                if was_held {
                    self.set_lease_deadline(id);
                }
                if is_retired {
                    self.place_lease(id);
                }
            }
        }
    }

    /// Lets a request wait for its lease's next connection.
    pub(super) fn wait_at_lease(&mut self, id: RequestId, lease: Option<LeaseId>) {
        if let Some((id_of_lease, lease)) = lease.and_then(|id| Some((id, self.leases.get_mut(id)?)))
            && self.requests.contains_key(id)
        {
            lease.queue.push_back(id);
            self.place(id, Place::AtLease(id_of_lease));
        }
    }

    /// A node's log-in fails: nobody gets a connection to it.
    pub(super) fn refuse_borrowers(&mut self, key: NodeKey, error: &Error) {
        let borrowers = self.nodes.get_mut(key).map(|node| core::mem::take(&mut node.borrowers));
        for id in borrowers.into_iter().flatten() {
            self.end_lease(id, error);
        }
    }

    /// Nothing comes of it: those who wait are told why, and those who come later.
    pub(super) fn end_lease(&mut self, id: LeaseId, error: &Error) {
        let Some(lease) = self.leases.get_mut(id) else {
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
    pub(super) fn check_lease_deadlines(&mut self) {
        while let Some(id) = self.lease_deadlines.pop_due(self.now) {
            let is_late = |lease: &Lease| lease.is_waiting() && lease.deadline <= self.now;
            if self.leases.get(id).is_some_and(is_late) {
                let error = self.lease_error(id);
                self.end_lease(id, &error);
            }
        }
    }

    /// When the next borrower has waited long enough.
    pub(super) fn next_lease_deadline(&mut self) -> Option<Instant> {
        while let Some((at, id)) = self.lease_deadlines.first() {
            let lease = self.leases.get(id);
            if lease.is_some_and(|lease| lease.is_waiting() && lease.deadline == at) {
                return Some(at);
            }
            self.lease_deadlines.pop_entry(at);
        }
        None
    }

    /// Notes until when a lease waits.
    fn set_lease_deadline(&mut self, id: LeaseId) {
        if let Some(lease) = self.leases.get_mut(id) {
            lease.deadline = self.now + lease.patience;
            self.lease_deadlines.insert(lease.deadline, id);
        }
        let leases = &self.leases;
        self.lease_deadlines.sweep(leases.len(), |at, id| {
            leases.get(id).is_some_and(|lease| lease.is_waiting() && lease.deadline == at)
        });
    }

    /// Why a connection has not come.
    pub(super) fn lease_error(&self, id: LeaseId) -> Error {
        let within = self.leases.get(id).map_or(self.config.pool.checkout_timeout, |lease| lease.patience);
        let conn_node = |conn: ConnId| self.connections.get(conn).map(|connection| connection.node);
        let key = match self.leases.get(id).map(|lease| &lease.state) {
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
        let address = &node.address;
        let most = self.config.pool.connections_max;
        if node.is_down() && !node.last_error.is_empty() {
            Error::Connect(format!("{address}: {}", node.last_error))
        } else if node.exclusive >= most {
            Error::LimitExceeded(format!(
                "all {most} connections of {address} are lent, and none came back within {} \
                 (pool max-connections, checkout-timeout-ms)",
                Within(within)
            ))
        } else if self.lacks_room(key) {
            let reason = self.why_no_room();
            Error::LimitExceeded(format!("{address}: none came free within {}: {reason}", Within(within)))
        } else {
            Error::Connect(format!("{address}: no connection within {}", Within(within)))
        }
    }

    /// Puts a request on the connection that its caller has been lent.
    pub(super) fn send_on_lease(&mut self, id: RequestId, lease: LeaseId) {
        let (conn, is_asked) = match self.leases.get_mut(lease) {
            Some(Lease { state: LeaseState::Held(conn), asked, sent, .. }) => {
                *sent += 1;
                (*conn, asked.is_some())
            }
            Some(Lease { state: LeaseState::Ended(error), .. }) => {
                let error = error.clone();
                return self.finish(id, Err(error));
            }
            Some(waiting) => {
                waiting.queue.push_back(id);
                return self.place(id, Place::AtLease(lease));
            }
            None => return self.finish(id, Err(given_back(String::new(), false))),
        };
        let (Some(connection), Some(request)) = (self.connections.get_mut(conn), self.requests.get_mut(id))
        else {
            return;
        };
        if is_asked {
            connection.send_words(&["ASKING"], Waiting::Asking, self.now);
        }
        // What is queued after MULTI could not be mended.
        let in_multi = connection.exclusive().is_some_and(|exclusive| exclusive.in_multi);
        let run: &[u32] = if in_multi { &[] } else { &connection.scripts };
        self.scripts.introduce(&mut request.command, run);
        connection.send_request(&request.command, id, self.now);
        request.queueing = None;
        if let Some(exclusive) = connection.exclusive() {
            exclusive.note(request.command.effect);
            exclusive.blocks |= request.command.blocks.is_some();
        }
        request.sent_at = self.now;
        self.statistics.commands += 1;
        if let Some(node) = self.nodes.get_mut(connection.node) {
            node.statistics.commands += 1;
        }
        self.place(id, Place::OnConnection(conn));
        self.mark_unflushed(conn);
    }

    /// A request that waited for a connection is gone.
    pub(super) fn forget_at_lease(&mut self, lease: LeaseId, id: RequestId) {
        if let Some(lease) = self.leases.get_mut(lease) {
            // It may have been the one that blocks.
            lease.blocks_until = self.now;
            let requests = &self.requests;
            lease.queue.forget(id, |id| requests.contains_key(id));
        }
    }

    /// Closes what has been idle too long or lives too long, and keeps as many idle as are wanted. Done in passing, when the
    /// client is used: nothing wakes it up for this.
    pub(super) fn tend_pools(&mut self) {
        if self.tended_at + TEND_INTERVAL > self.now
            || !matches!(self.phase, Phase::Clustered | Phase::Standalone(_))
        {
            return;
        }
        self.tended_at = self.now;
        self.failures.drop_old(self.now);
        let pool = self.config.pool;
        for key in self.nodes.keys().collect::<Vec<_>>() {
            let keeps = self.is_primary(key);
            let Some(node) = self.nodes.get(key) else {
                continue;
            };
            let least = if keeps { pool.idle_min as usize } else { 0 };
            let mut spare = node.idle.len().saturating_sub(least);
            let is_down = node.is_down();
            // The one used longest ago is the first.
            for conn in node.idle.iter().copied().chain(node.connection).collect::<Vec<_>>() {
                let Some(connection) = self.connections.get(conn) else {
                    continue;
                };
                let is_old = self.now.saturating_since(connection.made_at) >= pool.lifetime_max;
                let is_idle = self.now.saturating_since(connection.answered_at) >= pool.idle_timeout;
                let is_free = connection.is_ready() && connection.waiting.is_empty();
                let is_spare = !connection.is_shared() && spare > 0;
                if is_free && (is_old || (is_idle && is_spare)) {
                    spare = spare.saturating_sub(usize::from(!connection.is_shared()));
                    self.forgive(conn);
                    self.close_quietly(conn);
                }
            }
            let Some(node) = self.nodes.get(key).filter(|_| least > 0 && !is_down) else {
                continue;
            };
            let own = node.connections.iter().filter_map(|conn| self.connections.get(*conn));
            let ready = own.filter(|own| !own.is_shared() && own.lease().is_none()).count();
            let room = pool.connections_max.saturating_sub(node.exclusive) as usize;
            for _ in 0..least.saturating_sub(ready).min(room).min(OPENED_MAX) {
                if self.has_room_for_spare() {
                    self.open(key, Usage::Exclusive(Exclusive::default()));
                }
            }
        }
    }
}

fn given_back(node: String, possibly_executed: bool) -> Error {
    let message = "the connection was given back before the reply".to_string();
    Error::ConnectionLost(Interrupted { node, message, possibly_executed })
}

impl Lease {
    pub(super) fn slot(&self) -> Option<Slot> {
        match self.place {
            Lending::Owner(slot) => Some(slot),
            Lending::At(_) | Lending::Anywhere => None,
        }
    }

    /// The connection that its borrower has.
    pub(super) fn connection(&self) -> Option<ConnId> {
        match self.state {
            LeaseState::Held(conn) => Some(conn),
            _ => None,
        }
    }

    /// Whether its borrower loses nothing when it moves, to where `slot` is if it is redirected: only one request was sent.
    pub(super) fn may_move(&self, slot: Option<Slot>) -> bool {
        let own = self.slot();
        let is_its_own = slot.is_none() || slot == own;
        let is_first = matches!(self.state, LeaseState::Held(_)) && self.sent <= 1 && self.queue.is_empty();
        own.is_some() && is_its_own && is_first
    }

    fn is_waiting(&self) -> bool {
        matches!(self.state, LeaseState::Waiting(_) | LeaseState::Opening(_))
    }
}
