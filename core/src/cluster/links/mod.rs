//! A connection's way: dial, handshake, replies, loss. And when a node is dialled again.

pub(in crate::cluster) mod alarms;
pub(in crate::cluster) mod answers;
pub(in crate::cluster) mod connection;
pub(in crate::cluster) mod dials;
pub(in crate::cluster) mod handshake;
pub(in crate::cluster) mod liveness;
pub(in crate::cluster) mod refused;
pub(in crate::cluster) mod stale;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use bytes::Bytes;

use crate::cluster::links::answers::ZONE_LENGTH_MAX;
use crate::cluster::links::connection::{Candidate, Expected, Usage};
use crate::cluster::links::handshake::HandshakeStep;
use crate::cluster::requests::request::Stage;
use crate::cluster::topology::identity;
use crate::cluster::{Cluster, ConnId, Connection, Event, Node, NodeKey, Output, Phase, State};
use crate::error::{Error, Within};
use crate::resp::{DecodeError, Frame, RawReply, Reply, ReplyRef};

/// So long a host's address has to let a socket be opened, as long as another one has not been tried: the delay between
/// two attempts of RFC 8305 (section 8). One that took longer is tried again, patiently, when all have been.
const ADDRESS_PATIENCE: Duration = Duration::from_millis(250);

impl Cluster {
    /// Dials a node that has no connection, unless it is too early to try again, or there is no room: that comes later then.
    pub(in crate::cluster) fn ensure_connection(&mut self, node_key: NodeKey) {
        let Some(node) = self.nodes.get(node_key) else {
            return;
        };
        let may_dial = node.connection.is_none() && node.redial_at <= self.cx.now;
        if may_dial && self.has_room_for(node_key) {
            let conn = self.open(node_key, Usage::Shared);
            if let Some(node) = self.nodes.get_mut(node_key) {
                node.connection = conn;
                node.is_new = false;
                node.dials = node.dials.saturating_add(1);
            }
        }
        self.look_after(node_key);
    }

    /// Begins to connect to a node. There has to be room.
    pub(in crate::cluster) fn open(&mut self, node_key: NodeKey, usage: Usage) -> Option<ConnId> {
        let ip = self.nodes.get(node_key)?.address.ip();
        let deadline = self.cx.now + self.cx.config.connect_timeout;
        let decoder = self.cx.decoder();
        let connection = Connection::new(node_key, usage, decoder, self.cx.now, deadline);
        let conn = self.connections.insert(connection);
        self.note_open(conn);
        match ip {
            Some(ip) => self.dial(conn, [ip]),
            None => self.look_up(conn),
        }
        Some(conn)
    }

    /// Whether anything waits for the connection to this node that all share.
    pub(in crate::cluster) fn wants_connection(&self, node: &Node) -> bool {
        !node.queue.is_empty() || node.serves_reads || node.is_new || self.dials.seeks_contact
    }

    pub(in crate::cluster) fn on_resolved(&mut self, conn: ConnId, result: Result<Vec<IpAddr>, String>) {
        if !self.note_resolved(conn) {
            return;
        }
        match result {
            Ok(addresses) if addresses.is_empty() => {
                self.lose(conn, Error::Connect("the name has no address".to_string()), Driver::MustClose);
            }
            Ok(mut addresses) => {
                let node = self.connections.get(conn).and_then(|connection| self.nodes.get(connection.node));
                let failed = node.and_then(|node| node.failed_ip);
                if let Some(index) = addresses.iter().position(|ip| Some(*ip) == failed) {
                    addresses.rotate_left(index + 1);
                }
                self.dial(conn, addresses);
            }
            Err(reason) => self.lose(conn, Error::Connect(reason), Driver::MustClose),
        }
    }

    /// Tries these addresses, in this order.
    fn dial(&mut self, conn: ConnId, addresses: impl IntoIterator<Item = IpAddr>) {
        if let Some(connection) = self.connections.get_mut(conn) {
            let candidate = |ip| Candidate { ip, is_second: false };
            connection.others = addresses.into_iter().map(candidate).collect();
            self.dial_next(conn);
        }
    }

    /// Tries the next address. It has its share of the time that is left; [`ADDRESS_PATIENCE`], when others
    /// have not been tried at all.
    fn dial_next(&mut self, conn: ConnId) {
        let decoder = self.cx.decoder();
        let Some(connection) = self.connections.get_mut(conn) else {
            return;
        };
        let (Some(node), Some(next)) = (self.nodes.get(connection.node), connection.others.pop_front())
        else {
            return;
        };
        connection.begin_anew(decoder);
        (connection.ip, connection.is_second_try) = (Some(next.ip), next.is_second);
        let share = connection.share(self.cx.now);
        let is_hasty = !next.is_second && !connection.others.is_empty();
        connection.deadline = self.cx.now + if is_hasty { share.min(ADDRESS_PATIENCE) } else { share };
        let address = SocketAddr::new(next.ip, node.address.port());
        self.cx.output(Output::Connect { conn, address });
        self.watch(conn);
    }

    /// Goes on to the host's next address, if there is one and the connection is not in use; says whether it does.
    fn goes_on(&mut self, conn: ConnId, error: &Error, driver: Driver) -> bool {
        let is_starting = matches!(self.phase, Phase::Starting(_));
        let Some(connection) = self.connections.get_mut(conn) else {
            return false;
        };
        let is_in_use = connection.is_ready() && !(is_starting && connection.is_shared());
        if !is_in_use && let Some(node) = self.nodes.get_mut(connection.node) {
            node.failed_ip = connection.ip;
        }
        let is_over = connection.draining || connection.last_deadline <= self.cx.now;
        if connection.others.is_empty() || is_in_use || is_over || is_final(error) {
            return false;
        }
        if driver == Driver::MustClose {
            self.cx.output(Output::Close { conn });
        }
        if connection.state != State::Dialling {
            self.cx.statistics.disconnects += 1;
            if let Some(node) = self.nodes.get_mut(connection.node) {
                node.statistics.disconnects += 1;
            }
        }
        if connection.is_ready() {
            self.note_coming_up();
        }
        self.refresh.forget_connection(conn);
        self.dial_next(conn);
        true
    }

    pub(in crate::cluster) fn on_connected(&mut self, conn: ConnId) {
        let Some(connection) = self.connections.get_mut(conn) else {
            return;
        };
        self.cx.statistics.connects += 1;
        connection.answered_at = self.cx.now;
        connection.deadline = self.cx.now + connection.share(self.cx.now);
        let batch = handshake::first_batch(&self.cx.config, connection.is_shared());
        if let Some(node) = self.nodes.get_mut(connection.node) {
            node.statistics.connects += 1;
            node.statistics.reconnects += u64::from(node.is_down());
        }
        self.send_handshake(conn, &batch);
    }

    fn send_handshake(&mut self, conn: ConnId, batch: &[(HandshakeStep, Vec<String>)]) {
        let asks_identity = self.asks_identity();
        if let Some(connection) = self.connections.get_mut(conn) {
            connection.state = State::Handshaking { falling_back: false };
            for (step, words) in batch {
                connection.send_words(words, Expected::Handshake(*step), self.cx.now);
                self.cx.statistics.commands += 1;
            }
            if asks_identity {
                let waiting = Expected::Handshake(HandshakeStep::Identity);
                connection.send_words(&["CLUSTER", "MYID"], waiting, self.cx.now);
                self.cx.statistics.commands += 1;
            }
            self.mark_unflushed(conn);
        }
    }

    pub(in crate::cluster) fn on_received(&mut self, conn: ConnId, bytes: Bytes) {
        let length = bytes.len();
        self.cx.statistics.bytes_in += length as u64;
        if let Some(connection) = self.connections.get_mut(conn) {
            if let Some(node) = self.nodes.get_mut(connection.node) {
                node.statistics.bytes_in += length as u64;
            }
            connection.receive(bytes, self.cx.now);
        }
        // A reply may be the connection's last, so it is looked up for each.
        loop {
            self.limit_next_reply(conn);
            let Some(connection) = self.connections.get_mut(conn) else {
                break;
            };
            match connection.decoder.poll_raw() {
                Ok(None) => {
                    self.check_unfinished(conn);
                    break;
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
        }
        self.note_progress(conn, length);
        self.close_if_drained(conn);
        self.watch(conn);
        if let Some(key) = self.connections.get(conn).map(|connection| connection.node) {
            self.drop_if_retired(key);
        }
    }

    /// Looks at what has come of a frame that is not yet whole: whether it can be an answer.
    fn check_unfinished(&mut self, conn: ConnId) {
        let Some(connection) = self.connections.get(conn) else {
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
                self.abandon_query(query);
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
                self.on_queued(conn, id, &reply);
            }
            Expected::Handshake(step) => self.on_handshake(conn, step, &reply),
            Expected::Asking => {
                if let Some(error) = reply.as_kept_error() {
                    self.on_asking_refused(conn, error);
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

    /// A node that answers is well: it is dialled at once when its connection ends.
    pub(in crate::cluster) fn mark_healthy(&mut self, conn: ConnId) {
        let node = self.connections.get(conn).and_then(|connection| self.nodes.get_mut(connection.node));
        if let Some(node) = node.filter(|node| node.is_down()) {
            node.failures = 0;
            node.last_error.clear();
        }
    }

    fn on_handshake(&mut self, conn: ConnId, step: HandshakeStep, reply: &RawReply) {
        let Some(connection) = self.connections.get_mut(conn) else {
            return;
        };
        let error = reply.as_kept_error();
        if step == HandshakeStep::Id {
            connection.client_id = reply.root().and_then(|root| root.as_integer());
        }
        if step == HandshakeStep::Identity {
            connection.node_id = identity::id_in(reply);
        }
        connection.speaks_resp3 |= step == HandshakeStep::Hello && error.is_none();
        if error.is_some() {
            connection.last_word.clone_from(&error);
        }
        let falling_back = connection.state == State::Handshaking { falling_back: true };
        let last = connection.expected.is_empty();
        if !falling_back {
            match handshake::classify(step, error.as_ref(), self.cx.config.protocol) {
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
                        self.on_ready(conn);
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
                    connection.state = State::Handshaking { falling_back: true }
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
        if let Some(connection) = self.connections.get_mut(conn) {
            connection.is_standalone = value("mode").and_then(ReplyRef::as_str) == Some("standalone");
        }
        if value("proto").is_some_and(|protocol| protocol.as_integer() != Some(3)) {
            return Err(Error::Protocol("HELLO 3 was answered with another protocol than 3".to_string()));
        }
        let zone = value("availability_zone").and_then(ReplyRef::as_str);
        let zone = zone.filter(|zone| (1..=ZONE_LENGTH_MAX).contains(&zone.len()));
        let node = self.connections.get(conn).and_then(|connection| self.nodes.get_mut(connection.node));
        if let (Some(node), Some(zone)) = (node, zone) {
            node.availability_zone = Some(zone.to_string());
            let place = self.directory.at(&self.topology, &node.address).next();
            if let Some((place, _)) = place {
                self.topology.name_zone(place, zone);
            }
        }
        Ok(())
    }

    pub(in crate::cluster) fn on_ready(&mut self, conn: ConnId) {
        if !self.is_recognised(conn) {
            return;
        }
        let Some(connection) = self.connections.get_mut(conn) else {
            return;
        };
        connection.state = State::Ready;
        if !matches!(self.phase, Phase::Starting(_)) || !connection.is_shared() {
            connection.others.clear();
        }
        let (key, is_shared) = (connection.node, connection.is_shared());
        self.note_ready();
        if !is_shared {
            return self.on_dedicated_ready(conn);
        }
        self.contact = Some(conn);
        let dials = self.nodes.get_mut(key).map_or(0, |node| core::mem::take(&mut node.dials));
        // One that takes the place of a connection that was too old is no news.
        if let Some(node) = self.nodes.get_mut(key).filter(|node| !node.told_up) {
            node.told_up = true;
            let address = node.address.clone();
            let event = match node.failures {
                0 => Event::Connected { node: address },
                _ => Event::Reconnected {
                    node: address,
                    after: self.cx.now.saturating_since(node.failed_at),
                    attempts: dials,
                },
            };
            self.cx.tell(event);
        }
        if let Phase::Starting(_) = self.phase {
            self.on_seed_ready(conn);
        }
        self.send_queue(key);
        self.serve_waiters(key);
    }

    /// What came is no RESP, or too large. The one whose reply it was is told so; the others' replies
    /// are lost with the connection.
    fn on_unreadable(&mut self, conn: ConnId, told: Error) {
        let waiting = self.connections.get_mut(conn).and_then(Connection::replied);
        if let Some(Expected::Request(id) | Expected::Queued(id)) = waiting
            && self.requests.get(id).is_some_and(|request| request.stage == Stage::OnConnection(conn))
        {
            self.finish(id, Err(told.clone()));
        }
        self.lose(conn, told, Driver::MustClose);
    }

    pub(in crate::cluster) fn on_closed(&mut self, conn: ConnId, reason: String) {
        let Some(connection) = self.connections.get_mut(conn) else {
            return;
        };
        let error = match connection.state {
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
            self.fail_node(key, &reason, connection.is_ready());
        }
        self.want_refresh();
        let lease = connection.lease();
        // A holder who has not used it yet gets another one, and notices nothing.
        let is_fresh = lease.is_some() && connection.dedicated().is_some_and(|dedicated| !dedicated.used);
        for (waiting, sent) in connection.take_expected() {
            match waiting {
                Expected::Request(id) if is_fresh => self.wait_at_lease(id, lease),
                Expected::Request(id) => self.on_lost(conn, id, sent, &address, &reason),
                Expected::Slots(query) | Expected::Shards(query) | Expected::Info(query) => {
                    self.abandon_query(query);
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

    /// Remembers that a node's connection has ended or failed, and when it may be dialled again.
    pub(in crate::cluster) fn fail_node(&mut self, key: NodeKey, reason: &str, was_in_use: bool) {
        let (base, cap) = (self.cx.config.retry.reconnect_base, self.cx.config.retry.reconnect_cap);
        let Some(node) = self.nodes.get_mut(key) else {
            return;
        };
        node.last_error = reason.to_string();
        // The first time it is dialled again at once.
        if node.failures > 0 {
            node.redial_at = self.cx.now + self.cx.random.full_jitter(base, cap, node.failures - 1);
        } else {
            node.failed_at = self.cx.now;
        }
        node.failures = node.failures.saturating_add(1);
        node.told_up &= !was_in_use;
        let (address, attempts, reason) = (node.address.clone(), node.dials.max(1), reason.to_string());
        self.cx.tell(match was_in_use {
            true => Event::Disconnected { node: address, reason },
            false => Event::ConnectFailed { node: address, reason, attempts },
        });
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
            node.idle.retain(|idle| *idle != conn);
            if node.connection == Some(conn) {
                node.connection = None;
            }
        }
        self.refresh.forget_connection(conn);
        self.look_after(connection.node);
    }

    /// Ends a connection that did not come up, or did not answer its PING, in time.
    pub(in crate::cluster) fn give_up(&mut self, conn: ConnId) {
        let within = self.cx.config.connect_timeout;
        let Some(connection) = self.connections.get_mut(conn) else {
            return;
        };
        // An address that only took long has another turn, when all have had theirs.
        if let (State::Dialling, Some(ip)) = (&connection.state, connection.ip)
            && !connection.others.is_empty()
            && connection.deadline < connection.last_deadline
        {
            let is_first = !connection.is_second_try;
            connection.others.extend(is_first.then_some(Candidate { ip, is_second: true }));
        }
        let reason = match &connection.state {
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
fn is_final(error: &Error) -> bool {
    matches!(error, Error::Authentication(_) | Error::Tls(_))
}

/// What a reply that nobody asked for is called.
fn unasked(reply: &RawReply) -> String {
    match reply.as_kept_error() {
        Some(error) => format!("the server sent an error that answers no command: {error}"),
        None => "the server sent a reply that answers no command".to_string(),
    }
}
