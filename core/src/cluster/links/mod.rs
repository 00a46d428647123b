//! Connections: dialled, shaken hands with, written to, read from, watched, lost.
//!
//! | file | what is there |
//! |---|---|
//! | `connection.rs` | one connection and its states |
//! | `expected.rs`, `dedicated.rs` | whose reply comes next; what a holder has left |
//! | `dial.rs`, `attach.rs`, `greet.rs`, `ready.rs` | a connection's beginning: addresses, look-ups, first words, use |
//! | `dials.rs`, `dial_list.rs` | how many there are, and which node is next |
//! | `shortage.rs` | how many there may be while the host has no socket left |
//! | `handshake.rs`, `refused.rs` | the first words; what servers refuse of the client's own |
//! | `outgoing.rs` | what is queued for a connection's socket |
//! | `receive.rs`, `answers.rs` | what comes in; how large the client's own answers may be, and of which types |
//! | `alarms.rs`, `liveness.rs` | when one wants attention; whether it is alive |
//! | `ended.rs`, `loss.rs`, `lost.rs` | one that has ended; how it ends; what becomes of what was on it |
//! | `close.rs`, `stale.rs` | one that nobody needs; those whose address has another node by now |

mod alarms;
mod answers;
mod attach;
mod close;
pub(in crate::cluster) mod connection;
mod dedicated;
mod dial;
mod dial_list;
mod dials;
pub(in crate::cluster) mod ended;
mod expected;
mod greet;
pub(in crate::cluster) mod handshake;
mod liveness;
mod loss;
mod lost;
mod outgoing;
mod ready;
mod receive;
mod refused;
mod shortage;
mod stale;

use alloc::vec::Vec;

use bytes::Bytes;
use slotmap::SlotMap as Arena;

use super::context::Context;
use super::ids::{ConnId, NodeKey, RequestId};
use super::io::Output;
use super::nodes::node::Node;
use super::timers::Timers;
use crate::command::Command;
use crate::error::ServerError;
use crate::time::Instant;
use connection::{Connection, Expected};
use dial_list::Dials;

/// So many connections are coming up at a time of which those are for nodes that nobody waits for.
const DIALLING_MAX: usize = 64;

/// All connections, when each wants attention, and what is to be written.
#[derive(Debug, Default)]
pub(in crate::cluster) struct Links {
    all: Arena<ConnId, Connection>,
    alarms: Timers<ConnId>,
    dials: Dials,
    /// The connection that came into use last.
    contact: Option<ConnId>,
    /// Connections with something to flush.
    unflushed: Vec<ConnId>,
    /// Those of them that have much.
    full: Vec<ConnId>,
}

impl Links {
    pub(in crate::cluster) fn get(&self, conn: ConnId) -> Option<&Connection> {
        self.all.get(conn)
    }

    pub(in crate::cluster) fn get_mut(&mut self, conn: ConnId) -> Option<&mut Connection> {
        self.all.get_mut(conn)
    }

    pub(in crate::cluster) fn iter(&self) -> impl Iterator<Item = (ConnId, &Connection)> {
        self.all.iter()
    }

    pub(in crate::cluster) fn values_mut(&mut self) -> impl Iterator<Item = &mut Connection> {
        self.all.values_mut()
    }

    pub(in crate::cluster) fn len(&self) -> usize {
        self.all.len()
    }

    /// The node that a connection is with.
    pub(in crate::cluster) fn node_of(&self, conn: ConnId) -> Option<NodeKey> {
        self.all.get(conn).map(|connection| connection.node)
    }

    /// Puts a request's command on a connection.
    pub(in crate::cluster) fn send(
        &mut self,
        cx: &mut Context,
        conn: ConnId,
        command: &Command,
        id: RequestId,
    ) {
        let Some(connection) = self.all.get_mut(conn) else {
            return;
        };
        connection.send_request(command, id, cx.now);
        cx.statistics.commands += 1;
        if connection.is_shared() && connection.is_full() && self.full.last() != Some(&conn) {
            self.full.push(conn);
        }
        self.mark_unflushed(cx, conn);
    }

    /// Puts a command of the client's own on a connection.
    pub(in crate::cluster) fn send_words(
        &mut self,
        cx: &mut Context,
        conn: ConnId,
        words: &[&str],
        expected: Expected,
    ) {
        if let Some(connection) = self.all.get_mut(conn) {
            connection.send_words(words, expected, cx.now);
            cx.statistics.commands += 1;
            self.mark_unflushed(cx, conn);
        }
    }

    fn mark_unflushed(&mut self, cx: &Context, conn: ConnId) {
        let connection = self.all.get_mut(conn);
        if connection.is_some_and(|connection| !core::mem::replace(&mut connection.is_unflushed, true)) {
            self.unflushed.push(conn);
            self.watch(cx, conn);
        }
    }

    /// A connection for which so much is queued that it is worth a write of its own.
    pub(in crate::cluster) fn next_full(&mut self) -> Option<ConnId> {
        self.full.pop()
    }

    pub(in crate::cluster) fn unflushed(&self) -> impl Iterator<Item = ConnId> {
        self.unflushed.iter().copied()
    }

    /// The next connection that is to be written to, and may be.
    pub(in crate::cluster) fn next_unflushed(&mut self) -> Option<ConnId> {
        self.full.clear();
        while let Some(conn) = self.unflushed.pop() {
            if let Some(connection) = self.all.get_mut(conn) {
                if !connection.may_be_written() {
                    connection.is_held = true;
                    continue;
                }
                connection.is_unflushed = false;
            }
            return Some(conn);
        }
        None
    }

    /// Lists a connection that was flushed, when it has more.
    pub(in crate::cluster) fn mark_rest_unflushed(&mut self, cx: &Context, conn: ConnId) {
        if self.all.get(conn).is_some_and(Connection::has_unflushed) {
            self.mark_unflushed(cx, conn);
        }
    }

    /// Takes the next of what a connection has queued.
    pub(in crate::cluster) fn flush(&mut self, cx: &mut Context, conn: ConnId) -> Option<Bytes> {
        let connection = self.all.get_mut(conn).filter(|connection| connection.may_be_written())?;
        let bytes = connection.flush()?;
        // A batch may have several pieces.
        if !connection.has_unflushed() {
            cx.statistics.flushes += 1;
        }
        cx.statistics.bytes_out += bytes.len() as u64;
        Some(bytes)
    }

    pub(in crate::cluster) fn set_unread(&mut self, conn: ConnId, is_unread: bool) {
        if let Some(connection) = self.all.get_mut(conn) {
            connection.is_unread = is_unread;
            if !is_unread && core::mem::take(&mut connection.is_held) {
                self.unflushed.push(conn);
            }
        }
    }

    /// Whether there is a connection that could be asked for the topology.
    pub(in crate::cluster) fn has_contact(&self) -> bool {
        let is_contact = |connection: &Connection| connection.is_usable() && connection.is_shared();
        let last = self.contact.and_then(|conn| self.all.get(conn));
        last.is_some_and(is_contact) || self.all.values().any(is_contact)
    }

    /// Sets a connection's alarm: something may be due earlier than before.
    pub(in crate::cluster) fn watch(&mut self, cx: &Context, conn: ConnId) {
        if let Some(connection) = self.all.get_mut(conn) {
            let due = connection.due_at(&cx.config);
            connection.alarm.set(due, conn, &mut self.alarms);
        }
        let all = &self.all;
        self.alarms.sweep(all.len(), |at, conn| {
            all.get(conn).is_some_and(|connection| connection.alarm.is_set_to(at))
        });
    }

    /// When a connection wants attention. What has been done meanwhile, or is due later by now, is
    /// no reason to wake up.
    pub(in crate::cluster) fn next_deadline(&mut self, cx: &Context) -> Option<Instant> {
        while let Some((at, conn)) = self.alarms.first() {
            let connection = self.all.get(conn).filter(|connection| connection.alarm.is_set_to(at));
            if connection.and_then(|connection| connection.due_at(&cx.config)).is_some_and(|due| due <= at) {
                return Some(at);
            }
            self.alarms.pop_entry(at);
            if self.all.get_mut(conn).is_some_and(|connection| connection.alarm.goes_off(at)) {
                self.watch(cx, conn);
            }
        }
        None
    }

    /// Takes out the connections whose alarms go off.
    pub(in crate::cluster) fn due(&mut self, cx: &Context) -> Vec<ConnId> {
        core::iter::from_fn(|| self.expire(cx)).collect()
    }

    fn expire(&mut self, cx: &Context) -> Option<ConnId> {
        while let Some((at, conn)) = self.alarms.pop_entry(cx.now) {
            if self.all.get_mut(conn).is_some_and(|connection| connection.alarm.goes_off(at)) {
                return Some(conn);
            }
        }
        None
    }

    /// Closes all connections.
    pub(in crate::cluster) fn shut_down(&mut self, cx: &mut Context) {
        for (conn, connection) in self.all.drain() {
            if connection.is_announced() {
                cx.output(Output::Close { conn });
            }
        }
        // Whoever asks for a connection that was gets none: the arena remembers.
        let all = core::mem::take(&mut self.all);
        *self = Self { all, ..Self::default() };
    }

    /// How many things it holds: connections and the replies that are to come on them.
    pub(in crate::cluster) fn footprint(&self) -> usize {
        self.all.len() + self.all.values().map(|connection| connection.expected.len()).sum::<usize>()
    }

    /// How many entries its queues have, which are swept now and then.
    pub(in crate::cluster) fn swept(&self) -> [usize; 2] {
        [self.alarms.len(), self.dials.footprint()]
    }

    /// The answer to ASKING is an error: it is that of the request which comes next, should its
    /// node send it away.
    fn on_asking_refused(&mut self, conn: ConnId, error: ServerError) {
        if let Some(connection) = self.get_mut(conn)
            && let Some(id) = connection.expected.front().and_then(Expected::of_request)
        {
            connection.asking_refused = Some((id, error));
        }
    }

    /// Why the ASKING before this request was refused.
    pub(in crate::cluster) fn why_not_asking(&mut self, conn: ConnId, id: RequestId) -> Option<ServerError> {
        let refused = self.get_mut(conn)?.asking_refused.take()?;
        (refused.0 == id).then_some(refused.1)
    }

    /// No server knows a script any more.
    pub(in crate::cluster) fn forget_sent_scripts(&mut self) {
        for connection in self.values_mut() {
            connection.scripts.clear();
        }
    }

    /// The start has ended: what its connections have is theirs.
    pub(in crate::cluster) fn forget_other_addresses(&mut self) {
        for connection in self.values_mut().filter(|connection| connection.is_ready()) {
            if !core::mem::take(&mut connection.others).is_empty() {
                connection.check_until = None;
            }
        }
    }

    /// One that had come into use has gone back to dialling.
    fn note_coming_up(&mut self) {
        self.dials.coming_up += 1;
    }

    /// A connection has come into use.
    fn note_ready(&mut self) {
        self.dials.coming_up = self.dials.coming_up.saturating_sub(1);
    }

    /// Whether a node's last connection failed, and no new one is up.
    pub(in crate::cluster) fn is_out_of_reach(&self, node: &Node) -> bool {
        let current = node.connection().and_then(|conn| self.get(conn));
        node.is_down() && !current.is_some_and(Connection::is_ready)
    }
}
