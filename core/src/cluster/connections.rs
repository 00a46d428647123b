//! A connection's way: dial, handshake, replies, loss. And when a node is dialled again.

use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use bytes::Bytes;

use super::connection::Waiting;
use super::handshake::{self, Step};
use super::{Cluster, ConnId, Connection, Node, NodeKey, Output, Phase, State};
use crate::error::Error;
use crate::resp::{DecodeError, Frame, Reply};
use crate::time::Instant;

/// The first wait before a node is dialled again.
const REDIAL_BASE: Duration = Duration::from_millis(20);
/// The longest wait before a node is dialled again.
const REDIAL_CAP: Duration = Duration::from_secs(2);

impl Cluster {
    /// Dials a node that has no connection, unless it is too early to try again; `redial` comes back to it then.
    pub(super) fn ensure_connection(&mut self, node_key: NodeKey) {
        let Some(node) = self.nodes.get_mut(node_key) else {
            return;
        };
        if node.connection.is_some() || node.redial_at > self.now {
            return;
        }
        let deadline = self.now + self.config.connect_timeout;
        let conn = self.connections.insert(Connection::new(node_key, self.config.limits, self.now, deadline));
        node.connection = Some(conn);
        match node.address.ip() {
            Some(ip) => self.dial(conn, VecDeque::from([ip])),
            None => {
                let host = node.address.host().to_string();
                self.outputs.push_back(Output::Resolve { conn, host });
            }
        }
    }

    /// Whether anything waits for a connection to this node.
    pub(super) fn wants_connection(&self, node: &Node) -> bool {
        !node.queue.is_empty() || self.refresh_wants_connections()
    }

    /// Dials the nodes whose wait is over.
    pub(super) fn redial(&mut self) {
        let due: Vec<_> = self
            .nodes
            .iter()
            .filter(|(_, node)| {
                node.connection.is_none() && node.redial_at <= self.now && self.wants_connection(node)
            })
            .map(|(key, _)| key)
            .collect();
        for node in due {
            self.ensure_connection(node);
        }
    }

    pub(super) fn on_resolved(&mut self, conn: ConnId, result: Result<Vec<IpAddr>, String>) {
        match result {
            Ok(addresses) if addresses.is_empty() => {
                self.lose(conn, Error::Connect("the name has no address".to_string()), Driver::MustClose);
            }
            Ok(addresses) => self.dial(conn, addresses.into()),
            Err(reason) => self.lose(conn, Error::Connect(reason), Driver::MustClose),
        }
    }

    /// Tries the first of the addresses. Each gets its share of the time that is left.
    fn dial(&mut self, conn: ConnId, mut addresses: VecDeque<IpAddr>) {
        let Some(connection) = self.connections.get_mut(conn) else {
            return;
        };
        let (Some(node), Some(ip)) = (self.nodes.get(connection.node), addresses.pop_front()) else {
            return;
        };
        let left = connection.last_deadline.saturating_since(self.now);
        let tries = u32::try_from(addresses.len()).unwrap_or(u32::MAX).saturating_add(1);
        connection.deadline = self.now + left / tries;
        connection.state = State::Dialling { others: addresses };
        self.outputs.push_back(Output::Connect { conn, address: SocketAddr::new(ip, node.address.port()) });
    }

    pub(super) fn on_connected(&mut self, conn: ConnId) {
        let Some(connection) = self.connections.get_mut(conn) else {
            return;
        };
        self.statistics.connects += 1;
        connection.heard_at = self.now;
        connection.deadline = connection.last_deadline;
        let batch = handshake::first_batch(&self.config);
        self.send_handshake(conn, &batch);
    }

    fn send_handshake(&mut self, conn: ConnId, batch: &[(Step, Vec<String>)]) {
        if let Some(connection) = self.connections.get_mut(conn) {
            connection.state = State::Handshaking { falling_back: false };
            for (step, words) in batch {
                connection.send_words(words, Waiting::Handshake(*step));
                self.statistics.commands += 1;
            }
            self.mark_unflushed(conn);
        }
    }

    pub(super) fn on_received(&mut self, conn: ConnId, bytes: Bytes) {
        self.statistics.bytes_in += bytes.len() as u64;
        if let Some(connection) = self.connections.get_mut(conn) {
            connection.heard_at = self.now;
            connection.decoder.feed(bytes);
        }
        // A reply may be the connection's last, so it is looked up for each.
        while let Some(connection) = self.connections.get_mut(conn) {
            match connection.decoder.poll() {
                Ok(None) => break,
                Ok(Some(Frame::Push(_))) => {}
                Ok(Some(Frame::Reply(reply))) => match connection.replied() {
                    Some(waiting) => self.on_awaited(conn, waiting, reply),
                    None => self.lose(conn, Error::Protocol(unasked(&reply)), Driver::MustClose),
                },
                Err(error) => self.on_undecodable(conn, &error),
            }
        }
        self.close_if_drained(conn);
    }

    /// Gives a reply to whoever waits for it.
    fn on_awaited(&mut self, conn: ConnId, waiting: Waiting, reply: Reply) {
        match waiting {
            Waiting::Request(id) => {
                self.forgive(conn);
                self.on_reply(conn, id, reply);
            }
            Waiting::Handshake(step) => self.on_handshake(conn, step, &reply),
            Waiting::Asking => {}
            Waiting::Slots(query) => self.on_slots(conn, query, &reply),
            Waiting::Shards(query) => {
                self.forgive(conn);
                self.on_shards(query, &reply);
            }
        }
    }

    /// A node that answers is well: it is dialled at once when its connection ends.
    fn forgive(&mut self, conn: ConnId) {
        if let Some(node) =
            self.connections.get(conn).and_then(|connection| self.nodes.get_mut(connection.node))
        {
            node.failures = 0;
            node.last_error.clear();
        }
    }

    fn on_handshake(&mut self, conn: ConnId, step: Step, reply: &Reply) {
        let Some(connection) = self.connections.get_mut(conn) else {
            return;
        };
        let falling_back = connection.state == State::Handshaking { falling_back: true };
        let last = connection.waiting.is_empty();
        if !falling_back {
            match handshake::judge(step, reply.as_error(), self.config.protocol) {
                handshake::Verdict::Continue if !last => return,
                handshake::Verdict::Continue => return self.on_ready(conn),
                handshake::Verdict::Fail(error) => {
                    return self.lose(conn, error, Driver::MustClose);
                }
                handshake::Verdict::FallBack => connection.state = State::Handshaking { falling_back: true },
            }
        }
        if last {
            let batch = handshake::resp2_batch(&self.config);
            self.send_handshake(conn, &batch);
        }
    }

    fn on_ready(&mut self, conn: ConnId) {
        let Some(connection) = self.connections.get_mut(conn) else {
            return;
        };
        connection.state = State::Ready;
        let node = connection.node;
        if let Phase::Starting(_) = self.phase {
            self.on_seed_ready(conn);
        }
        self.send_queue(node);
    }

    /// What came is no RESP, or too large. The one whose reply it was is told so; the others' replies
    /// are lost with the connection.
    fn on_undecodable(&mut self, conn: ConnId, error: &DecodeError) {
        let told = if error.is_limit() {
            Error::LimitExceeded(error.to_string())
        } else {
            Error::Protocol(error.to_string())
        };
        let waiting = self.connections.get_mut(conn).and_then(Connection::replied);
        if let Some(Waiting::Request(id)) = waiting {
            self.finish(id, Err(told.clone()));
        }
        self.lose(conn, told, Driver::MustClose);
    }

    pub(super) fn on_closed(&mut self, conn: ConnId, reason: String) {
        let Some(connection) = self.connections.get_mut(conn) else {
            return;
        };
        match &mut connection.state {
            State::Dialling { others } if !others.is_empty() => {
                let others = core::mem::take(others);
                self.dial(conn, others);
            }
            _ => self.lose(conn, Error::Connect(reason), Driver::HasClosed),
        }
    }

    /// Ends a connection, and decides for everything that waited on it.
    pub(super) fn lose(&mut self, conn: ConnId, error: Error, driver: Driver) {
        let Some(mut connection) = self.connections.remove(conn) else {
            return;
        };
        if driver == Driver::MustClose {
            self.outputs.push_back(Output::Close { conn });
        }
        self.statistics.disconnects += 1;
        let reason = match &error {
            Error::Connect(reason) => reason.clone(),
            other => other.to_string(),
        };
        let Some(node) = self.nodes.get_mut(connection.node) else {
            return;
        };
        let address = node.address.clone();
        if node.connection == Some(conn) {
            node.connection = None;
            node.last_error.clone_from(&reason);
            // The first time it is dialled again at once.
            if node.failures > 0 {
                node.redial_at = self.now + self.random.backoff(REDIAL_BASE, REDIAL_CAP, node.failures - 1);
            }
            node.failures = node.failures.saturating_add(1);
        }
        self.want_refresh();
        for (waiting, sent) in connection.take_waiting() {
            match waiting {
                Waiting::Request(id) => self.on_lost(id, sent, &address, &reason),
                Waiting::Slots(query) | Waiting::Shards(query) => self.abandon_query(query),
                Waiting::Handshake(_) | Waiting::Asking => {}
            }
        }
        let hopeless = matches!(error, Error::Authentication(_) | Error::Tls(_));
        if hopeless && let Some(node) = self.nodes.get_mut(connection.node) {
            for id in core::mem::take(&mut node.queue) {
                self.finish(id, Err(error.clone()));
            }
        }
        if let Phase::Starting(_) = self.phase {
            self.on_seed_failed(&address, error);
        }
        self.redial();
    }

    /// Something sent at `asked_at` or before got no answer in time. When nothing at all has come since, the
    /// node is taken for stalled: what is on the connection may still be answered, but nothing more is put on it.
    pub(super) fn suspect(&mut self, conn: ConnId, asked_at: Instant) {
        let Some(connection) = self.connections.get_mut(conn) else {
            return;
        };
        let silent = connection.heard_at <= asked_at;
        if silent && connection.is_ready() && !connection.draining {
            connection.draining = true;
            let key = connection.node;
            if let Some(node) = self.nodes.get_mut(key)
                && node.connection == Some(conn)
            {
                node.connection = None;
                node.failures = node.failures.saturating_add(1);
                let silent_for = self.now.saturating_since(connection.heard_at);
                node.last_error = format!("no answer for {silent_for:?}");
            }
            self.want_refresh();
        }
        self.close_if_drained(conn);
    }

    /// Closes a connection that takes no new commands, once nobody waits for its replies.
    fn close_if_drained(&mut self, conn: ConnId) {
        let requests = &self.requests;
        let drained = self.connections.get(conn).is_some_and(|connection| {
            let is_live =
                |waiting: &Waiting| matches!(waiting, Waiting::Request(id) if requests.contains_key(*id));
            connection.draining && !connection.waiting.iter().any(is_live)
        });
        if drained {
            self.lose(conn, Error::Connect("the node stopped answering".to_string()), Driver::MustClose);
        }
    }

    /// Ends the connections that did not come up in time.
    pub(super) fn check_connection_deadlines(&mut self) {
        let late: Vec<_> = self
            .connections
            .iter()
            .filter(|(_, connection)| !connection.is_ready() && connection.deadline <= self.now)
            .map(|(conn, _)| conn)
            .collect();
        for conn in late {
            let within = self.config.connect_timeout;
            let Some(connection) = self.connections.get_mut(conn) else {
                continue;
            };
            match &mut connection.state {
                State::Dialling { others } if !others.is_empty() => {
                    let others = core::mem::take(others);
                    self.outputs.push_back(Output::Close { conn });
                    self.dial(conn, others);
                }
                state => {
                    let what = match state {
                        State::Resolving => "the name was not resolved",
                        State::Dialling { .. } => "no answer",
                        State::Handshaking { .. } | State::Ready => {
                            "connected, but no answer to the handshake"
                        }
                    };
                    let reason = format!("{what} within {within:?}");
                    self.lose(conn, Error::Connect(reason), Driver::MustClose);
                }
            }
        }
    }
}

/// Whether the driver still has the connection that is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Driver {
    /// It told of the end itself.
    HasClosed,
    /// It is to drop it.
    MustClose,
}

/// What a reply that nobody asked for is called.
fn unasked(reply: &Reply) -> String {
    match reply.as_error() {
        Some(error) => format!("the server sent an error that answers no command: {error}"),
        None => "the server sent a reply that answers no command".to_string(),
    }
}
