//! Whether a connection that is open is alive: the PING after a silence, and nodes that stop
//! answering.
//!
//! Only what is due is a sign of life: a whole reply, or a part of the next one as long as its
//! request waits for it. So a value of any size may take its request's whole time. No sign are
//! pushes, however many; a part that has no more than a drip's bytes; and a part of a reply whose
//! request has been given up. A reply that is due for longer than a request may take is
//! given up too, whoever asked.
//!
//! | who waits | what ends it |
//! |---|---|
//! | a shared connection, RESP2 or RESP3 | the stall, here: it takes nothing new, and drains |
//! | a lent one | its holder, who gives it back, and then it is closed; silence is right while a command blocks |
//! | a PING, or what cleans a connection | `check_until` |
//! | a handshake | the connect time-out |
//! | a question for the topology | the round's end; its connection: the stall |

use alloc::format;
use alloc::vec::Vec;
use core::time::Duration;

use crate::cluster::context::Context;
use crate::cluster::ids::{ConnId, RequestId};
use crate::cluster::links::Links;
use crate::cluster::links::connection::Expected;
use crate::cluster::machine::Cluster;
use crate::cluster::requests::request::Stage;
use crate::error::Within;

/// So long a connection has for the answer to the health check's PING, or to what cleans it.
const CHECK_TIMEOUT: Duration = Duration::from_secs(1);

impl Links {
    /// Asks a connection whether it is alive. Until it answers nothing else is put on it.
    pub(in crate::cluster) fn check_health(&mut self, cx: &mut Context, conn: ConnId) {
        self.check_with(cx, conn, "PING", Expected::Ping);
    }

    /// Sends a word that has to be answered before anything else is put on the connection.
    pub(in crate::cluster) fn check_with(
        &mut self,
        cx: &mut Context,
        conn: ConnId,
        word: &str,
        expected: Expected,
    ) {
        let within = CHECK_TIMEOUT.min(cx.config.connect_timeout);
        if let Some(connection) = self.get_mut(conn) {
            connection.check_until = Some(cx.now + within);
            self.send_words(cx, conn, &[word], expected);
            self.watch(cx, conn);
        }
    }
}

impl Cluster {
    /// The answer to the PING: whatever it says, the node is there.
    pub(super) fn on_pong(&mut self, conn: ConnId) {
        self.mark_healthy(conn);
        let Some(connection) = self.links.get_mut(conn) else {
            return;
        };
        connection.check_until = None;
        let node = connection.node;
        if connection.is_shared() {
            self.send_queue(node);
        } else {
            self.on_dedicated_ready(conn);
        }
    }

    /// This request got no answer in time. When it would have been the next, what has come of it
    /// does not count, and the connection has stalled as soon as that was due for the time of a
    /// stall: mostly now.
    pub(in crate::cluster) fn check_stalled(&mut self, conn: ConnId, id: RequestId) {
        if let Some(connection) = self.links.get_mut(conn)
            && connection.expected.front().and_then(Expected::of_request) == Some(id)
        {
            connection.discount_progress();
            self.stall_if_due(conn);
            self.links.watch(&self.cx, conn);
        }
        self.close_if_drained(conn);
    }

    /// So many bytes came on a connection.
    pub(super) fn note_progress(&mut self, conn: ConnId, length: usize) {
        let next = self.links.get(conn).and_then(|connection| connection.expected.front());
        let is_given_up =
            next.and_then(Expected::of_request).is_some_and(|id| self.requests.on(conn, id).is_none());
        if !is_given_up && let Some(connection) = self.links.get_mut(conn) {
            connection.note_progress(length);
        }
    }

    /// Looks whether answers are due on a connection and nothing comes.
    pub(super) fn stall_if_due(&mut self, conn: ConnId) {
        let stalls_at = self.links.get(conn).and_then(|connection| connection.stalls_at(&self.cx.config));
        if stalls_at.is_some_and(|at| at <= self.cx.now) {
            self.stall(conn);
            self.close_if_drained(conn);
        }
    }

    /// Puts nothing more on a connection. What is on it may still be answered, and what only reads
    /// is sent again.
    fn stall(&mut self, conn: ConnId) {
        let Some(connection) = self.links.get_mut(conn) else {
            return;
        };
        if !connection.is_usable() || !connection.is_shared() {
            return;
        }
        connection.draining = true;
        let reason =
            format!("no answer for {}", Within(self.cx.now.saturating_since(connection.due_since())));
        let requests: Vec<_> = connection.expected.iter().filter_map(Expected::request).collect();
        // A command that blocks is silent for good reasons.
        let blocks = requests.first().and_then(|id| self.requests.get(*id));
        let blocks = blocks.is_some_and(|request| request.command().blocks.is_some());
        let (key, ip) = (connection.node, connection.ip);
        if let Some(node) = self.nodes.get_mut(key)
            && node.stop_sharing(conn)
            && !blocks
        {
            node.note_failed_ip(ip);
            self.nodes.fail(&mut self.cx, key, &reason, true);
        }
        if !blocks {
            self.map.want_refresh();
        }
        self.requests.exclude_stalled(&requests, conn);
        for id in requests {
            self.resend_stalled(conn, id, &reason);
        }
        self.nodes.look_after(&self.cx, key);
    }

    /// Sends a request again that got no answer from a stalled node, if that does no harm.
    fn resend_stalled(&mut self, conn: ConnId, id: RequestId, reason: &str) {
        let may = self.requests.may_resend(&self.cx.config, id);
        let Some(request) = self.requests.get_mut(id) else {
            return;
        };
        if request.stage() != Stage::OnConnection(conn) || request.command().blocks.is_some() || !may {
            return;
        }
        let node = self.links.node_of(conn);
        request.note_stalled();
        self.send_again(id, node, reason);
        self.dispatch(id);
    }

    /// A node that answers is well: it is dialled at once when its connection ends.
    pub(in crate::cluster) fn mark_healthy(&mut self, conn: ConnId) {
        if let Some(key) = self.links.node_of(conn)
            && self.nodes.mark_healthy(key)
        {
            self.pool.tend_soon(&self.cx, &mut self.nodes, key);
        }
    }
}
