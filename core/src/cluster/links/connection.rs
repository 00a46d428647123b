//! One connection: its way from dialling to use, what it has sent, and whose replies it waits for.
//!
//! ```text
//!   Resolving ─→ Dialling ─→ Handshaking ─→ Ready
//!        │           ↑ next address│  └→ Strange ┤
//!        └───────────┴─────────────┴─────────────┴──→ dropped: the machine removes it
//! ```
//!
//! A name may have several addresses. Those that were not tried are kept until the connection is
//! ready (a seed's: until the start has a topology), and the next one is dialled when one fails,
//! wherever on its way.
//!
//! Replies come in the order of the commands (RESP has no other way to tell them apart), so a
//! connection is a queue: `expected` has one entry for each command whose reply is still to come,
//! whoever has given it up meanwhile.

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;

use bytes::Bytes;

use crate::cluster::ids::{LeaseId, NodeKey, RequestId};
pub(in crate::cluster) use crate::cluster::links::dedicated::{Dedicated, Usage};
pub(in crate::cluster) use crate::cluster::links::expected::Expected;
use crate::cluster::links::outgoing::{Outgoing, PIECE};
use crate::cluster::timers::Alarm;
use crate::command::prepared::Command;
use crate::config::Config;
use crate::error::ServerError;
use crate::resp::{Begun, Decoder};
use crate::time::Instant;

/// Fewer bytes of a reply within the time of a stall are a drip, and no sign of life. TCP's
/// smallest usual segment carries 536 (RFC 9293, 3.7.1), unless it has the end of what was sent:
/// then the reply is whole.
const PROGRESS_MIN: usize = 512;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cluster) enum State {
    /// The host is being looked up.
    Resolving,
    /// A socket is being opened.
    Dialling,
    /// The handshake's batch is out. `falling_back`: HELLO was not understood, the rest of its
    /// batch does not count.
    Handshaking { falling_back: bool },
    /// It is with another node than the one that should be there: it is asked for its view, and for
    /// nothing else.
    Strange,
    /// In use.
    Ready,
}

impl State {
    /// Whether a connection may go from here to there.
    fn may_become(self, next: Self) -> bool {
        match (self, next) {
            // The first address, or the next when one was of no use.
            (_, Self::Dialling) => true,
            (Self::Dialling | Self::Handshaking { .. }, Self::Handshaking { .. }) => true,
            (Self::Handshaking { .. }, Self::Strange | Self::Ready) | (Self::Strange, Self::Ready) => true,
            _ => false,
        }
    }
}

/// An address that may be tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cluster) struct Candidate {
    pub(super) ip: IpAddr,
    /// Whether it has already been given up once because it took long, and has its share of all the
    /// time now.
    pub(super) is_second: bool,
}

#[derive(Debug)]
pub(in crate::cluster) struct Connection {
    pub(super) node: NodeKey,
    pub(super) usage: Usage,
    state: State,
    pub(super) made_at: Instant,
    /// Until when it has to be `Ready`; with several addresses, until when this one has to get it
    /// there.
    pub(super) deadline: Instant,
    /// Until when it has to be `Ready`, whichever address is tried.
    pub(super) last_deadline: Instant,
    /// The address that is tried, or was taken.
    pub(super) ip: Option<IpAddr>,
    pub(super) is_second_try: bool,
    /// The host's other addresses, for when this one fails.
    pub(super) others: VecDeque<Candidate>,
    /// The last error that the handshake was answered with.
    pub(super) last_word: Option<ServerError>,
    /// Whether the server has said that it does not want it, or cannot serve, now: that passes.
    pub(super) is_not_now: bool,
    /// Whether the server calls itself one without cluster (HELLO's `mode`).
    pub(super) is_standalone: bool,
    /// The request whose ASKING was refused, and how.
    pub(super) asking_refused: Option<(RequestId, ServerError)>,
    /// Whether READONLY was refused.
    pub(super) reads_refused: bool,
    /// When it wants attention.
    pub(super) alarm: Alarm,
    /// Whether its host is being looked up.
    pub(super) looks_up: bool,
    pub(super) decoder: Decoder,
    pub(super) expected: VecDeque<Expected>,
    /// What the driver has not taken yet. Its replies are the last in `expected`: nobody but us has
    /// seen the commands.
    out: Outgoing,
    /// Whether it is on the machine's list of those to flush.
    pub(super) is_unflushed: bool,
    /// Whether it was taken off that list because it may not be written to yet.
    pub(super) is_held: bool,
    /// Whether its socket may hold more than was read.
    pub(super) is_unread: bool,
    /// When it last gave a whole reply that was due, or the connection was made.
    pub(super) answered_at: Instant,
    /// While answers are due: since when the next of them is.
    due_since: Instant,
    /// While answers are due: since when nothing has come that counts (see `note_progress`).
    silent_since: Instant,
    /// What has come of the next reply since then, in bytes.
    crumbs: usize,
    /// When bytes last came in.
    received_at: Instant,
    /// While a PING or what cleans it is out, which has to be answered before the connection is
    /// used: until when.
    pub(super) check_until: Option<Instant>,
    /// The id of the node that it is with, where that has told it (CLUSTER MYID).
    pub(super) node_id: Option<String>,
    /// What the server calls it (CLIENT ID).
    pub(super) client_id: Option<i64>,
    /// Whether HELLO has made it speak RESP3: only then there are pushes.
    pub(super) speaks_resp3: bool,
    /// The numbers of the scripts that have run over it.
    pub(super) scripts: Vec<u32>,
    /// Takes no new commands: it stopped answering, and stays only for the replies that may still
    /// come.
    pub(super) draining: bool,
}

impl Connection {
    pub(in crate::cluster) fn new(
        node: NodeKey,
        usage: Usage,
        decoder: Decoder,
        now: Instant,
        deadline: Instant,
    ) -> Self {
        Self {
            node,
            usage,
            made_at: now,
            state: State::Resolving,
            deadline,
            last_deadline: deadline,
            ip: None,
            is_second_try: false,
            others: VecDeque::new(),
            last_word: None,
            is_not_now: false,
            is_standalone: false,
            asking_refused: None,
            reads_refused: false,
            alarm: Alarm::default(),
            looks_up: false,
            decoder,
            expected: VecDeque::new(),
            out: Outgoing::default(),
            is_unflushed: false,
            is_held: false,
            is_unread: false,
            answered_at: now,
            due_since: now,
            silent_since: now,
            crumbs: 0,
            received_at: now,
            check_until: None,
            node_id: None,
            client_id: None,
            speaks_resp3: false,
            scripts: Vec::new(),
            draining: false,
        }
    }

    pub(in crate::cluster) fn node(&self) -> NodeKey {
        self.node
    }

    pub(in crate::cluster) fn made_at(&self) -> Instant {
        self.made_at
    }

    /// When it last gave a whole reply that was due, or the connection was made.
    pub(in crate::cluster) fn answered_at(&self) -> Instant {
        self.answered_at
    }

    /// Whose replies are to come, in order.
    pub(in crate::cluster) fn expected(&self) -> &VecDeque<Expected> {
        &self.expected
    }

    /// What the server calls it (CLIENT ID).
    pub(in crate::cluster) fn client_id(&self) -> Option<i64> {
        self.client_id
    }

    /// The id of the node that it is with, where that has told it (CLUSTER MYID).
    pub(in crate::cluster) fn node_id(&self) -> Option<&str> {
        self.node_id.as_deref()
    }

    /// Whether the server calls itself one without cluster.
    pub(in crate::cluster) fn is_standalone(&self) -> bool {
        self.is_standalone
    }

    /// The server has said that it cannot serve now: that passes.
    pub(in crate::cluster) fn note_not_now(&mut self) {
        self.is_not_now = true;
    }

    /// It is with another node than the one that should be there, and has until then to turn out to
    /// be the right one.
    pub(in crate::cluster) fn note_strange(&mut self, deadline: Instant) {
        self.set_state(State::Strange);
        (self.deadline, self.last_deadline) = (deadline, deadline);
    }

    pub(in crate::cluster) fn is_draining(&self) -> bool {
        self.draining
    }

    /// It takes no new commands from now on.
    pub(in crate::cluster) fn drain(&mut self) {
        self.draining = true;
    }

    pub(in crate::cluster) fn has_other_addresses(&self) -> bool {
        !self.others.is_empty()
    }

    /// It has its share of the time for what it is asked next.
    pub(in crate::cluster) fn limit_check(&mut self, now: Instant) {
        self.check_until = Some(now + self.share(now));
    }

    /// What it had to answer first is answered.
    pub(in crate::cluster) fn end_check(&mut self) {
        self.check_until = None;
    }

    /// Whether READONLY was refused, and it is to be tried again.
    pub(in crate::cluster) fn take_reads_refused(&mut self) -> bool {
        core::mem::take(&mut self.reads_refused)
    }

    /// The numbers of the scripts that have run over it.
    pub(in crate::cluster) fn scripts(&self) -> &[u32] {
        &self.scripts
    }

    pub(in crate::cluster) fn note_script(&mut self, number: u32) {
        if !self.scripts.contains(&number) {
            self.scripts.push(number);
        }
    }

    pub(in crate::cluster) fn forget_script(&mut self, number: u32) {
        self.scripts.retain(|run| *run != number);
    }

    pub(in crate::cluster) fn forget_scripts(&mut self) {
        self.scripts.clear();
    }

    /// What each address that is left has of the time, this one included.
    pub(in crate::cluster) fn share(&self, now: Instant) -> Duration {
        let left = self.last_deadline.saturating_since(now);
        left / u32::try_from(self.others.len()).unwrap_or(u32::MAX).saturating_add(1)
    }

    /// Begins anew, with the next address: nothing of what was said over the last one counts.
    pub(in crate::cluster) fn begin_anew(&mut self, decoder: Decoder) {
        self.set_state(State::Dialling);
        self.decoder = decoder;
        self.expected.clear();
        self.out = Outgoing::default();
        (self.is_unread, self.check_until) = (false, None);
        (self.speaks_resp3, self.is_standalone, self.client_id) = (false, false, None);
        (self.last_word, self.reads_refused, self.node_id) = (None, false, None);
    }

    /// Whether so much is queued that it is worth a write of its own, while more commands are
    /// handed in: the server works on them meanwhile.
    pub(in crate::cluster) fn is_full(&self) -> bool {
        self.out.length() >= PIECE
    }

    /// Whether anything is queued.
    pub(super) fn has_unflushed(&self) -> bool {
        self.out.length() > 0
    }

    /// Queues a request's command: a transaction has a reply for each of its own, and for MULTI.
    pub(super) fn send_request(&mut self, command: &Command, id: RequestId, now: Instant) {
        self.out.push(&command.frame);
        if let Some(queued) = command.queued {
            for _ in 0..=queued {
                self.owe_reply(Expected::Queued(id), now);
            }
        }
        self.owe_reply(Expected::Request(id), now);
    }

    /// Encodes and queues a command of the client's own.
    pub(in crate::cluster) fn send_words<A: AsRef<[u8]>>(
        &mut self,
        words: &[A],
        expected: Expected,
        now: Instant,
    ) {
        self.out.push_words(words);
        self.owe_reply(expected, now);
    }

    /// Remembers whose reply is to come.
    fn owe_reply(&mut self, expected: Expected, now: Instant) {
        if self.expected.is_empty() {
            self.expect_next(now);
        }
        self.expected.push_back(expected);
        self.out.expect_reply();
    }

    /// From now on the next reply is due.
    fn expect_next(&mut self, now: Instant) {
        (self.due_since, self.silent_since, self.crumbs) = (now, now, 0);
    }

    /// Takes bytes in.
    pub(super) fn receive(&mut self, bytes: Bytes, now: Instant) {
        self.received_at = now;
        self.decoder.feed(bytes);
    }

    /// So many bytes came, and their frames have been taken out. When they are part of the reply
    /// that is due they are a sign of life, unless they only drip. A push is none: it says
    /// nothing about the reply.
    pub(super) fn note_progress(&mut self, length: usize) {
        if self.decoder.begun() != Some(Begun::Reply) {
            return;
        }
        self.crumbs = self.crumbs.saturating_add(length);
        if self.crumbs >= PROGRESS_MIN {
            (self.silent_since, self.crumbs) = (self.received_at, 0);
        }
    }

    /// Nobody waits for the next reply any more, because its time was over: what had come of it was
    /// no sign of life.
    pub(super) fn discount_progress(&mut self) {
        self.silent_since = self.due_since;
    }

    /// Whether what is queued may be handed to the driver. What has come in without being asked
    /// for, and is still unread, must not be taken for its answer.
    pub(super) fn may_be_written(&self) -> bool {
        !self.is_unread || self.next_due().is_some()
    }

    /// Whether a request's command is still here, and the driver has none of it.
    pub(in crate::cluster) fn has_unsent(&self, id: RequestId) -> bool {
        self.expected.iter().rev().take(self.out.replies()).any(|expected| expected.of_request() == Some(id))
    }

    /// The next of what is queued.
    pub(in crate::cluster) fn flush(&mut self) -> Option<Bytes> {
        let bytes = self.out.take()?;
        if let Some(dedicated) = self.dedicated() {
            dedicated.used = dedicated.lease.is_some();
        }
        Some(bytes)
    }

    /// Whose reply the server has to send next; `None` when it has been sent nothing that is not
    /// answered.
    pub(super) fn next_due(&self) -> Option<&Expected> {
        if self.expected.len() > self.out.replies() { self.expected.front() } else { None }
    }

    /// Whether a frame has begun that answers nothing: no reply is due, and it is no push. Its end
    /// must not be taken for the reply to what is sent next, so the connection is closed. That
    /// is looked for whenever something has come in; a reply is no longer due only after that,
    /// so there is none when something is sent.
    pub(super) fn has_unasked(&self) -> bool {
        let begun = self.decoder.begun();
        self.next_due().is_none() && begun.is_some_and(|begun| begun == Begun::Reply || !self.speaks_resp3)
    }

    /// Whose reply just came; `None` when nobody asked.
    pub(super) fn replied(&mut self) -> Option<Expected> {
        // A reply to a command that was never sent answers nothing either.
        self.next_due()?;
        let expected = self.expected.pop_front();
        self.answered_at = self.received_at;
        self.expect_next(self.received_at);
        expected
    }

    /// Takes what is waited for, each with whether it has been handed to the driver.
    pub(super) fn take_expected(&mut self) -> impl Iterator<Item = (Expected, bool)> + use<> {
        let sent = self.expected.len() - self.out.replies().min(self.expected.len());
        core::mem::take(&mut self.expected)
            .into_iter()
            .enumerate()
            .map(move |(index, expected)| (expected, index < sent))
    }

    pub(in crate::cluster) fn state(&self) -> State {
        self.state
    }

    /// Takes it further on its way.
    pub(in crate::cluster) fn set_state(&mut self, next: State) {
        debug_assert!(self.state.may_become(next), "{:?} does not become {next:?}", self.state);
        self.state = next;
    }

    pub(in crate::cluster) fn is_ready(&self) -> bool {
        self.state == State::Ready
    }

    /// Whether commands may be put on it now.
    pub(in crate::cluster) fn is_usable(&self) -> bool {
        self.is_ready() && !self.draining && self.check_until.is_none()
    }

    /// Whether it has not answered for so long that it has to answer a PING first.
    pub(in crate::cluster) fn needs_check(&self, after: Duration, now: Instant) -> bool {
        self.expected.is_empty() && now.saturating_since(self.answered_at) >= after
    }

    /// When it is given up: it does not come up, or does not answer the check.
    pub(super) fn gives_up_at(&self) -> Option<Instant> {
        if self.is_ready() { self.check_until } else { Some(self.deadline) }
    }

    /// When it is given up, or taken for stalled.
    pub(super) fn due_at(&self, config: &Config) -> Option<Instant> {
        self.gives_up_at().into_iter().chain(self.stalls_at(config)).min()
    }

    /// When it is taken for stalled: after such a silence, or when one reply takes so long as a
    /// whole.
    pub(super) fn stalls_at(&self, config: &Config) -> Option<Instant> {
        let (silence, whole) = (config.stall_after(), config.request_timeout);
        let watched = self.is_usable() && self.is_shared() && !self.expected.is_empty();
        watched.then(|| (self.silent_since + silence).min(self.due_since + whole))
    }

    /// Since when the next reply is due.
    pub(super) fn due_since(&self) -> Instant {
        self.due_since
    }

    /// Whether the driver has heard of it. Of one whose look-up waits for its turn it has not.
    pub(super) fn is_announced(&self) -> bool {
        self.last_deadline != Instant::NEVER
    }

    pub(in crate::cluster) fn is_shared(&self) -> bool {
        matches!(self.usage, Usage::Shared)
    }

    pub(in crate::cluster) fn dedicated(&mut self) -> Option<&mut Dedicated> {
        match &mut self.usage {
            Usage::Shared => None,
            Usage::Dedicated(dedicated) => Some(dedicated),
        }
    }

    pub(in crate::cluster) fn lease(&self) -> Option<LeaseId> {
        match &self.usage {
            Usage::Shared => None,
            Usage::Dedicated(dedicated) => dedicated.lease,
        }
    }
}
