//! One connection: its way from dialling to use, what it has sent, and whose replies it waits for.
//!
//! ```text
//!   Resolving ─→ Dialling ─→ Handshaking ─→ Ready
//!        └───────────┴────────────┴───────────┴──→ dropped: the machine removes it
//! ```
//!
//! Replies come in the order of the commands (RESP has no other way to tell them apart), so a connection is a queue:
//! `waiting` has one entry for each command whose reply is still to come, whoever has given it up meanwhile.

use alloc::collections::VecDeque;
use alloc::string::String;
use core::net::IpAddr;

use bytes::{Bytes, BytesMut};

use super::handshake::Step;
use super::{NodeKey, RequestId};
use crate::resp::{Decoder, Limits, encode_command};
use crate::time::Instant;

/// Whose reply comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waiting {
    /// A request's; it is dropped when the request is gone.
    Request(RequestId),
    /// One of the handshake's.
    Handshake(Step),
    /// ASKING's: `+OK`, for nobody.
    Asking,
    /// CLUSTER SLOTS of the query with this number.
    Slots(u64),
    /// CLUSTER SHARDS of the query with this number.
    Shards(u64),
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum State {
    /// The host is being looked up.
    Resolving,
    /// A socket is being opened to the first address; the others are there for when it fails.
    Dialling { others: VecDeque<IpAddr> },
    /// The handshake's batch is out. `falling_back`: HELLO was not understood, the rest of its batch does not count.
    Handshaking { falling_back: bool },
    /// In use.
    Ready,
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) node: NodeKey,
    pub(super) state: State,
    /// Until when it has to be `Ready`; while dialling one of several addresses, until when that one has to answer.
    pub(super) deadline: Instant,
    /// Until when it has to be `Ready`, whichever address is tried.
    pub(super) last_deadline: Instant,
    pub(super) decoder: Decoder,
    pub(super) waiting: VecDeque<Waiting>,
    /// How many of the last in `waiting` are still in `out`: nobody but us has seen them.
    unsent: usize,
    out: BytesMut,
    /// When bytes last came in, or the connection was made.
    pub(super) heard_at: Instant,
    /// Takes no new commands: it stopped answering, and stays only for the replies that may still come.
    pub(super) draining: bool,
}

impl Connection {
    pub(super) fn new(node: NodeKey, limits: Limits, now: Instant, deadline: Instant) -> Self {
        Self {
            node,
            state: State::Resolving,
            deadline,
            last_deadline: deadline,
            decoder: Decoder::new(limits),
            waiting: VecDeque::new(),
            unsent: 0,
            out: BytesMut::new(),
            heard_at: now,
            draining: false,
        }
    }

    /// Queues an encoded command for the next flush.
    pub(super) fn send(&mut self, frame: &[u8], waiting: Waiting) {
        self.out.extend_from_slice(frame);
        self.waiting.push_back(waiting);
        self.unsent += 1;
    }

    /// Encodes and queues a command of the client's own.
    pub(super) fn send_words<A: AsRef<[u8]>>(&mut self, words: &[A], waiting: Waiting) {
        encode_command(words, &mut self.out);
        self.waiting.push_back(waiting);
        self.unsent += 1;
    }

    /// Everything queued since the last flush.
    pub(super) fn flush(&mut self) -> Bytes {
        self.unsent = 0;
        self.out.split().freeze()
    }

    /// Whose reply just came; `None` when nobody asked.
    pub(super) fn replied(&mut self) -> Option<Waiting> {
        let waiting = self.waiting.pop_front()?;
        // A reply to a command that was never sent answers nothing either.
        if self.waiting.len() < self.unsent {
            self.waiting.push_front(waiting);
            return None;
        }
        Some(waiting)
    }

    /// Takes what is waited for, each with whether it has been handed to the driver.
    pub(super) fn take_waiting(&mut self) -> impl Iterator<Item = (Waiting, bool)> + use<> {
        let sent = self.waiting.len() - self.unsent.min(self.waiting.len());
        core::mem::take(&mut self.waiting)
            .into_iter()
            .enumerate()
            .map(move |(index, waiting)| (waiting, index < sent))
    }

    pub(super) fn is_ready(&self) -> bool {
        self.state == State::Ready
    }
}

/// What is known of a node that the client may connect to.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) address: crate::address::NodeAddr,
    pub(super) connection: Option<super::ConnId>,
    /// Requests for when it is connected, in order.
    pub(super) queue: VecDeque<RequestId>,
    /// Connections that failed in a row.
    pub(super) failures: u32,
    /// No dial before this.
    pub(super) redial_at: Instant,
    /// Why the last connection failed or ended.
    pub(super) last_error: String,
}

impl Node {
    pub(super) fn new(address: crate::address::NodeAddr) -> Self {
        Self {
            address,
            connection: None,
            queue: VecDeque::new(),
            failures: 0,
            redial_at: Instant::default(),
            last_error: String::new(),
        }
    }
}
