//! How a connection ends: it was closed, it is given up, or nobody needs it any more.

use alloc::format;
use alloc::string::{String, ToString};

use super::connection::{Candidate, Expected, State};
use super::handshake;
use crate::cluster::ids::ConnId;
use crate::cluster::io::Output;
use crate::cluster::{Cluster, Phase};
use crate::error::{Error, Within};

impl Cluster {
    pub(in crate::cluster) fn on_closed(&mut self, conn: ConnId, reason: String) {
        let Some(connection) = self.links.get_mut(conn) else {
            return;
        };
        let error = match connection.state() {
            State::Handshaking { .. } => match handshake::why_ended(connection.last_word.as_ref(), &reason) {
                handshake::HandshakeAction::NotNow(error) => {
                    connection.is_not_now = true;
                    error
                }
                handshake::HandshakeAction::Fail(error) => error,
                handshake::HandshakeAction::Continue | handshake::HandshakeAction::FallBack => {
                    Error::Connect(reason)
                }
            },
            State::Resolving | State::Dialling | State::Strange | State::Ready => Error::Connect(reason),
        };
        self.lose(conn, error, Driver::HasClosed);
    }

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
        if node.connection == Some(conn) {
            node.connection = None;
            // It was not dialled.
            node.dials = node.dials.saturating_sub(1);
        }
        if !connection.is_shared() {
            self.on_dedicated_lost(conn, key, connection.lease(), false, &reason);
        }
        self.drop_if_retired(key);
        // It takes an idle connection's place, or is listed.
        self.tend_node(key);
        self.seek_contact();
    }

    /// Ends a connection, and decides for everything that waited on it.
    ///
    /// One that is not in use yet goes on to its host's next address instead.
    pub(in crate::cluster) fn lose(&mut self, conn: ConnId, error: Error, driver: Driver) {
        if self.goes_on(conn, &error, driver) {
            return;
        }
        let Some(mut connection) = self.detach(conn) else {
            return;
        };
        if driver == Driver::MustClose && connection.is_announced() {
            self.cx.output(Output::Close { conn });
        }
        self.cx.statistics.disconnects += 1;
        let reason = match &error {
            Error::Connect(reason) => reason.clone(),
            other => other.to_string(),
        };
        let key = connection.node;
        let Some(node) = self.nodes.get_mut(key) else {
            return;
        };
        node.statistics.disconnects += 1;
        let address = node.address.clone();
        // One that drains was told of, and counted as a failure, when it began to.
        let is_current = node.connection == Some(conn);
        if is_current {
            node.connection = None;
        }
        if is_current || !(connection.is_shared() || connection.is_ready()) {
            self.nodes.fail(&mut self.cx, key, &reason, connection.is_ready());
        }
        self.map.want_refresh();
        let lease = connection.lease();
        // A holder who has not used it yet gets another one, and notices nothing.
        let is_fresh = lease.is_some() && connection.dedicated().is_some_and(|dedicated| !dedicated.used);
        for (waiting, sent) in connection.take_expected() {
            match waiting {
                Expected::Request(id) if is_fresh => self.wait_at_lease(id, lease),
                Expected::Request(id) => self.on_lost(conn, id, sent, &address, &reason),
                Expected::Slots(query) | Expected::Shards(query) | Expected::Info(query) => {
                    self.map.abandon_query(query);
                }
                Expected::Queued(_)
                | Expected::Handshake(_)
                | Expected::Asking
                | Expected::ReadOnly
                | Expected::Unblocking
                | Expected::Ping
                | Expected::Cleaning => {}
            }
        }
        if !connection.is_shared() {
            self.on_dedicated_lost(conn, key, lease, connection.is_ready() && !is_fresh, &reason);
        }
        let hopeless = is_final(&error);
        if is_current {
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
            node.statistics.disconnects += 1;
            node.line.forget(conn);
            if node.connection == Some(conn) {
                node.connection = None;
            }
        }
        self.map.forget_connection(conn);
        self.nodes.look_after(&self.cx, connection.node);
    }

    /// Ends a connection that did not come up, or did not answer its PING, in time.
    pub(super) fn give_up(&mut self, conn: ConnId) {
        let within = self.cx.config.connect_timeout;
        let Some(connection) = self.links.get_mut(conn) else {
            return;
        };
        // An address that only took long has another turn, when all have had theirs.
        if let (State::Dialling, Some(ip)) = (connection.state(), connection.ip)
            && !connection.others.is_empty()
            && connection.deadline < connection.last_deadline
        {
            let is_first = !connection.is_second_try;
            connection.others.extend(is_first.then_some(Candidate { ip, is_second: true }));
        }
        let reason = match connection.state() {
            State::Resolving => format!("the name was not resolved within {}", Within(within)),
            State::Dialling => format!("no answer within {}", Within(within)),
            State::Handshaking { .. } => {
                format!("connected, but no answer to the handshake within {}", Within(within))
            }
            State::Ready if matches!(self.phase, Phase::Starting(_)) => {
                "no answer to the question for the topology".to_string()
            }
            State::Strange => self.why_strange(conn),
            State::Ready => "no answer to the health check".to_string(),
        };
        self.lose(conn, Error::Connect(reason), Driver::MustClose);
    }
}

/// Whether the driver still has the connection that is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cluster) enum Driver {
    /// It told of the end itself.
    HasClosed,
    /// It is to drop it.
    MustClose,
}

/// Whether it makes no sense to try again, or elsewhere.
pub(super) fn is_final(error: &Error) -> bool {
    matches!(error, Error::Authentication(_) | Error::Tls(_))
}
