//! How a connection ends: it was closed, or it is given up, or it has drained.

use alloc::boxed::Box;
use alloc::string::{String, ToString};

use super::connection::{Expected, State};
use super::ended::{Driver, Loss};
use super::handshake;
use crate::cluster::ids::ConnId;
use crate::cluster::io::Output;
use crate::cluster::machine::Cluster;
use crate::cluster::news::News;
use crate::error::Error;

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

    /// Ends a connection. What becomes of all that was on it is news.
    ///
    /// One that is not in use yet goes on to its host's next address instead.
    pub(in crate::cluster) fn lose(&mut self, conn: ConnId, error: Error, driver: Driver) {
        if self.goes_on(conn, &error, driver) {
            return;
        }
        let Some(connection) = self.detach(conn) else {
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
        node.statistics_mut().disconnects += 1;
        node.line_mut().forget(conn);
        let address = node.address().clone();
        // One that drains was told of, and counted as a failure, when it began to.
        let was_current = node.stop_sharing(conn);
        if was_current || !(connection.is_shared() || connection.is_ready()) {
            self.nodes.fail(&mut self.cx, key, &reason, connection.is_ready());
        }
        self.map.want_refresh();
        for waiting in &connection.expected {
            if let Expected::Slots(query) | Expected::Shards(query) | Expected::Info(query) = *waiting {
                self.map.abandon_query(query);
            }
        }
        let loss = Loss { conn, connection, address, was_current, error, reason };
        self.news.push_back(News::Lost(Box::new(loss)));
    }

    /// Closes a connection that takes no new commands, once nobody waits for its replies.
    pub(in crate::cluster) fn close_if_drained(&mut self, conn: ConnId) {
        let drained = self
            .links
            .get(conn)
            .is_some_and(|connection| connection.draining && !self.requests.is_awaited(conn, connection));
        if drained {
            self.lose(conn, Error::Connect("the node stopped answering".to_string()), Driver::MustClose);
        }
    }
}
