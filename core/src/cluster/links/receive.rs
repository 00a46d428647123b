//! What comes in on a connection: the handshake's answers, replies, pushes; and when it is ready.

use alloc::format;
use alloc::string::{String, ToString};

use bytes::Bytes;

use crate::cluster::ids::ConnId;
use crate::cluster::links::answers::ZONE_LENGTH_MAX;
use crate::cluster::links::connection::Expected;
use crate::cluster::links::connection::{Connection, State};
use crate::cluster::links::handshake::HandshakeStep;
use crate::cluster::links::handshake::id_in;
use crate::cluster::machine::Cluster;
use crate::cluster::news::News;
use crate::error::Error;
use crate::resp::{DecodeError, Frame, RawReply, Reply, ReplyRef};

use crate::cluster::links::ended::Driver;
use crate::cluster::links::handshake;

impl Cluster {
    /// Takes bytes in.
    pub(in crate::cluster) fn on_received(&mut self, conn: ConnId, bytes: Bytes) {
        let length = bytes.len();
        self.cx.statistics.bytes_in += length as u64;
        if let Some(connection) = self.links.get_mut(conn) {
            if let Some(node) = self.nodes.get_mut(connection.node) {
                node.statistics_mut().bytes_in += length as u64;
            }
            connection.receive(bytes, self.cx.now);
        }
    }

    /// Takes the next frame of what a connection has received to whom it is for. False when there
    /// is none that is whole.
    ///
    /// A reply may be the connection's last, so it is looked up for each.
    pub(in crate::cluster) fn take_frame(&mut self, conn: ConnId) -> bool {
        self.limit_next_reply(conn);
        let Some(connection) = self.links.get_mut(conn) else {
            return false;
        };
        match connection.decoder.poll_raw() {
            Ok(None) => {
                self.check_unfinished(conn);
                return false;
            }
            Ok(Some(Frame::Push(_))) if connection.speaks_resp3 => {}
            Ok(Some(Frame::Push(_))) => {
                let text = "the server sent a push, which RESP2 does not have".to_string();
                self.lose(conn, Error::Protocol(text), Driver::MustClose);
            }
            Ok(Some(Frame::Reply(reply))) => match connection.replied() {
                Some(waiting) => self.on_awaited(conn, waiting, reply),
                None => self.lose(conn, Error::Protocol(unasked(&reply)), Driver::MustClose),
            },
            // A push that is too deep is passed over like any.
            Err(DecodeError::Dropped { is_push: true, .. }) if connection.speaks_resp3 => {}
            Err(error @ DecodeError::Dropped { is_push: false, .. }) => self.on_dropped(conn, &error),
            Err(error) => self.on_unreadable(conn, self.why_undecodable(conn, &error)),
        }
        true
    }

    /// All frames that have come are taken.
    pub(in crate::cluster) fn end_receive(&mut self, conn: ConnId, length: usize) {
        self.note_progress(conn, length);
        self.close_if_drained(conn);
        self.links.watch(&self.cx, conn);
        if let Some(key) = self.links.node_of(conn) {
            self.drop_if_retired(key);
        }
    }

    /// Looks at what has come of a frame that is not yet whole: whether it can be an answer.
    fn check_unfinished(&mut self, conn: ConnId) {
        let Some(connection) = self.links.get(conn) else {
            return;
        };
        if connection.has_unasked() {
            let text = "the server began to send a reply that answers no command".to_string();
            self.lose(conn, Error::Protocol(text), Driver::MustClose);
        }
    }

    /// Gives a reply to whoever waits for it.
    fn on_awaited(&mut self, conn: ConnId, waiting: Expected, reply: RawReply) {
        if let Some(error) = waiting.question().and_then(|question| question.misfit(&reply)) {
            // Its connection's end would not come back to it.
            if let Expected::Slots(query) | Expected::Shards(query) | Expected::Info(query) = waiting {
                self.map.abandon_query(query);
            }
            return self.lose(conn, error, Driver::MustClose);
        }
        match waiting {
            Expected::Request(id) => {
                self.mark_healthy(conn);
                if reply.as_error().is_some() {
                    self.note_refusal(conn, id);
                }
                self.on_reply(conn, id, reply);
            }
            Expected::Queued(id) => {
                self.mark_healthy(conn);
                self.requests.on_queued(conn, id, &reply);
            }
            Expected::Handshake(step) => self.on_handshake(conn, step, &reply),
            Expected::Asking => {
                if let Some(error) = reply.as_kept_error() {
                    self.links.on_asking_refused(conn, error);
                }
            }
            Expected::ReadOnly => self.on_read_only(conn, reply.as_kept_error().as_ref()),
            Expected::Unblocking => {
                if let Some(error) = reply.as_kept_error() {
                    self.tell_refused(conn, "CLIENT UNBLOCK", &error);
                }
            }
            Expected::Slots(query) => self.on_slots(conn, query, &reply.decode()),
            Expected::Shards(query) => self.on_shards(conn, query, &reply.decode()),
            Expected::Info(query) => self.on_info(conn, query, &reply.decode()),
            Expected::Ping => self.on_pong(conn),
            Expected::Cleaning => self.on_cleaned(conn, &reply.decode()),
        }
    }

    fn on_handshake(&mut self, conn: ConnId, step: HandshakeStep, reply: &RawReply) {
        let Some(connection) = self.links.get_mut(conn) else {
            return;
        };
        let error = reply.as_kept_error();
        if step == HandshakeStep::Id {
            connection.client_id = reply.root().and_then(|root| root.as_integer());
        }
        if step == HandshakeStep::Identity {
            connection.node_id = id_in(reply);
        }
        connection.speaks_resp3 |= step == HandshakeStep::Hello && error.is_none();
        if error.is_some() {
            connection.last_word.clone_from(&error);
        }
        let falling_back = connection.state() == State::Handshaking { falling_back: true };
        let last = connection.expected.is_empty();
        if !falling_back {
            match handshake::classify(step, error.as_ref(), self.cx.config.resp_version) {
                handshake::HandshakeAction::Continue => {
                    if step == HandshakeStep::Hello
                        && let Err(error) = self.on_hello(conn, &reply.decode())
                    {
                        return self.lose(conn, error, Driver::MustClose);
                    }
                    match (step, &error) {
                        (HandshakeStep::ReadOnly, error) => self.on_read_only(conn, error.as_ref()),
                        (HandshakeStep::Id, Some(error)) => self.tell_refused(conn, "CLIENT ID", error),
                        _ => {}
                    }
                    if last {
                        self.news.push_back(News::Greeted(conn));
                    }
                    return;
                }
                handshake::HandshakeAction::NotNow(error) => {
                    connection.is_not_now = true;
                    return self.lose(conn, error, Driver::MustClose);
                }
                handshake::HandshakeAction::Fail(error) => {
                    return self.lose(conn, error, Driver::MustClose);
                }
                handshake::HandshakeAction::FallBack => {
                    connection.set_state(State::Handshaking { falling_back: true });
                }
            }
        }
        if last {
            let batch = handshake::resp2_batch(&self.cx.config, connection.is_shared());
            self.send_handshake(conn, &batch);
        }
    }

    /// Reads what a server says of itself.
    fn on_hello(&mut self, conn: ConnId, reply: &Reply) -> Result<(), Error> {
        let value = |name: &str| reply.cursor().and_then(|hello| hello.value(name));
        if let Some(connection) = self.links.get_mut(conn) {
            connection.is_standalone = value("mode").and_then(ReplyRef::as_str) == Some("standalone");
        }
        if value("proto").is_some_and(|protocol| protocol.as_integer() != Some(3)) {
            return Err(Error::Protocol("HELLO 3 was answered with another protocol than 3".to_string()));
        }
        let zone = value("availability_zone").and_then(ReplyRef::as_str);
        let zone = zone.filter(|zone| (1..=ZONE_LENGTH_MAX).contains(&zone.len()));
        let node = self.links.get(conn).and_then(|connection| self.nodes.get_mut(connection.node));
        if let (Some(node), Some(zone)) = (node, zone) {
            node.set_availability_zone(zone);
            self.map.name_zone(node.address(), zone);
        }
        Ok(())
    }

    /// What came is no RESP, or too large. The one whose reply it was is told so; the others'
    /// replies are lost with the connection.
    fn on_unreadable(&mut self, conn: ConnId, told: Error) {
        let waiting = self.links.get_mut(conn).and_then(Connection::replied);
        if let Some(Expected::Request(id) | Expected::Queued(id)) = waiting
            && self.requests.on(conn, id).is_some()
        {
            self.finish(id, Err(told.clone()));
        }
        self.lose(conn, told, Driver::MustClose);
    }
}

/// What a reply that nobody asked for is called.
fn unasked(reply: &RawReply) -> String {
    match reply.as_kept_error() {
        Some(error) => format!("the server sent an error that answers no command: {error}"),
        None => "the server sent a reply that answers no command".to_string(),
    }
}
