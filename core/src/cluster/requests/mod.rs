//! Requests: from being taken in to their one end.
//!
//! | file | what is there |
//! |---|---|
//! | `request.rs`, `backlog.rs` | one request and its stages; how much may wait |
//! | `route.rs`, `dispatch.rs` | where one goes next; there, and onto a connection |
//! | `reply.rs`, `error_policy.rs` | what a reply means; the table of errors |
//! | `retry.rs`, `timeout.rs`, `end.rs` | redirects and waits; time that has run out; the one end |
//! | `order.rs`, `ordering.rs` | the order of commands for one key; who has to wait for it |
//! | `parts.rs`, `gather.rs` | commands that several nodes answer together |
//! | `queueing.rs`, `transaction.rs`, `scripts.rs` | MULTI to EXEC; EVALSHA |

mod backlog;
mod dispatch;
mod end;
pub(in crate::cluster) mod error_policy;
mod gather;
mod order;
mod ordering;
mod parts;
mod queueing;
mod reply;
pub(in crate::cluster) mod request;
pub(in crate::cluster) mod retry;
pub(in crate::cluster) mod route;
mod scripts;
mod timeout;
mod transaction;

use alloc::boxed::Box;
use alloc::collections::VecDeque;

use bytes::BytesMut;
use slotmap::SlotMap as Arena;

use super::context::Context;
use super::ids::{ConnId, LeaseId, RequestId, Token};
use super::links::connection::{Connection, Expected};
use super::queue::Queue;
use super::timers::Timers;
use crate::command::Command;
use crate::command::blocking::Blocks;
use crate::command::script::Scripts;
use crate::config::{Config, RetryWrites};
use crate::error::Error;
use crate::error::ServerError;
use crate::resp::RawReply;
use crate::resp::encode_command;
use crate::time::Instant;
use alloc::vec::Vec;
use backlog::Backlog;
use core::time::Duration;
use order::Order;
use parts::Gather;
use queueing::{Misfit, error_of_exec};
use request::{Parent, Request, Stage, Target};

/// So many redirects are followed at once. Beyond, the nodes disagree, as they do for a moment at
/// the end of every slot's move; running between them faster does not settle it.
pub(in crate::cluster) const PROMPT_REDIRECTS: u32 = 2;
/// The first wait between two redirects.
const REDIRECT_BASE: Duration = Duration::from_millis(1);
/// The longest wait between two redirects.
const REDIRECT_CAP: Duration = Duration::from_millis(100);

/// All requests under way, their order, what waits, and when their time runs out.
#[derive(Debug, Default)]
pub(in crate::cluster) struct Requests {
    all: Arena<RequestId, Request>,
    /// Those whose slot has no node, until a topology has one; before the start's end, all.
    unrouted: Queue,
    /// What waits, and must not be without bound.
    backlog: Backlog,
    order: Order,
    /// The scripts that are known.
    scripts: Scripts,
    /// When their time runs out.
    deadlines: Timers<RequestId>,
    /// When those that wait for a retry are tried again.
    delayed: Timers<RequestId>,
}

/// What was taken out with a request.
struct Ended {
    stage: Stage,
    lease: Option<LeaseId>,
    own_lease: Option<LeaseId>,
    gather: Option<Box<Gather>>,
}

impl Requests {
    pub(in crate::cluster) fn get(&self, id: RequestId) -> Option<&Request> {
        self.all.get(id)
    }

    pub(in crate::cluster) fn get_mut(&mut self, id: RequestId) -> Option<&mut Request> {
        self.all.get_mut(id)
    }

    pub(in crate::cluster) fn contains(&self, id: RequestId) -> bool {
        self.all.contains_key(id)
    }

    pub(in crate::cluster) fn keys(&self) -> impl Iterator<Item = RequestId> {
        self.all.keys()
    }

    pub(in crate::cluster) fn len(&self) -> usize {
        self.all.len()
    }

    /// The request, when it is on this connection.
    pub(in crate::cluster) fn on(&self, conn: ConnId, id: RequestId) -> Option<&Request> {
        self.all.get(id).filter(|request| request.stage == Stage::OnConnection(conn))
    }

    /// Takes a new request in, which has a place of its own in the order.
    fn add(
        &mut self,
        cx: &Context,
        command: Command,
        target: Option<Target>,
        token: Token,
        deadline: Instant,
    ) -> RequestId {
        let serial = self.order.next();
        let request = Request::new(command, target, serial, cx.now, deadline);
        self.all.insert(Request { token, ..request })
    }

    /// Takes in a part of another request, whose place in the order it has.
    fn add_part(
        &mut self,
        cx: &Context,
        command: Command,
        target: Option<Target>,
        serial: u64,
        deadline: Instant,
        parent: Parent,
    ) -> RequestId {
        let request = Request::new(command, target, serial, cx.now, deadline);
        self.all.insert(Request { parent: Some(parent), ..request })
    }

    /// Takes in a question of a scan's pass.
    pub(in crate::cluster) fn add_question(
        &mut self,
        cx: &Context,
        command: Command,
        target: Option<Target>,
        parent: Parent,
        deadline: Instant,
    ) -> RequestId {
        let id = self.add(cx, command, target, Token::default(), deadline);
        if let Some(request) = self.all.get_mut(id) {
            request.parent = Some(parent);
            // Replicas have cursors of their own.
            request.primary_only = true;
        }
        id
    }

    /// Sets when a request's time runs out, as far as it is still under way.
    pub(in crate::cluster) fn set_deadline(&mut self, id: RequestId, deadline: Instant) {
        if let Some(request) = self.all.get_mut(id) {
            request.deadline = deadline;
            self.deadlines.insert(deadline, id);
        }
    }

    /// Notes where a request is, and counts what waits.
    pub(in crate::cluster) fn set_stage(&mut self, id: RequestId, stage: Stage) {
        let Some(request) = self.all.get_mut(id) else {
            return;
        };
        debug_assert!(request.stage.may_become(stage), "{:?} does not become {stage:?}", request.stage);
        if let Some(bytes) = request.held_bytes.take() {
            self.backlog.leave(bytes);
        }
        if stage.is_backlog() {
            let bytes = request.command.frame.len() as u64;
            self.backlog.enter(bytes);
            request.held_bytes = Some(bytes);
        }
        request.stage = stage;
        self.count(id);
    }

    /// Counts a request among those of its slot that are on their way to a node or back, or no
    /// more.
    fn count(&mut self, id: RequestId) {
        let Some(request) = self.all.get_mut(id) else {
            return;
        };
        let is_under_way =
            matches!(request.stage, Stage::AtNode(_) | Stage::OnConnection(_) | Stage::Unrouted);
        let slot = request.ordered_slot().filter(|_| is_under_way);
        if request.counted == slot {
            return;
        }
        if let Some(slot) = slot {
            self.order.begin(slot);
        }
        if let Some(left) = core::mem::replace(&mut request.counted, slot) {
            self.order.leave(left);
        }
    }

    /// Counts a request no more.
    fn count_out(order: &mut Order, request: &mut Request) {
        if let Some(left) = request.counted.take() {
            order.leave(left);
        }
    }

    /// A request is about to end: nobody waits for it any more.
    fn leave_order(&mut self, id: RequestId) {
        if let Some(request) = self.all.get(id) {
            let is_held = matches!(request.stage, Stage::InOrder(_));
            self.order.end(id, request.command.route.slot(), is_held);
        }
    }

    /// Lets a request wait for its slot's node.
    fn wait_unrouted(&mut self, id: RequestId) {
        self.set_stage(id, Stage::Unrouted);
        self.unrouted.push_back(id);
    }

    /// Takes out the queue of those whose slot had no node.
    fn take_unrouted(&mut self) -> VecDeque<RequestId> {
        self.unrouted.take()
    }

    /// Whether any request waits for a slot without a node.
    pub(in crate::cluster) fn has_unrouted(&self) -> bool {
        !self.unrouted.is_empty()
    }

    /// Lets a request wait until this time for its retry.
    fn wait_until(&mut self, id: RequestId, at: Instant) {
        self.set_stage(id, Stage::Delayed);
        self.delayed.insert(at, id);
    }

    /// Why a new request is refused that waits where too much waits already.
    fn excess(&self, config: &Config) -> Option<Error> {
        self.backlog.excess(config.waiting)
    }

    /// Takes a request out that has ended, or is given up.
    fn remove(&mut self, id: RequestId) -> Option<Ended> {
        let stage = self.all.get(id)?.stage;
        self.leave_order(id);
        self.set_stage(id, Stage::Nowhere);
        let request = self.all.remove(id)?;
        if stage == Stage::Unrouted {
            self.unrouted.forget(id, |id| self.all.contains_key(id));
        }
        let (lease, own_lease, gather) = (request.lease(), request.own_lease, request.gather);
        Some(Ended { stage, lease, own_lease, gather })
    }

    /// Takes a request out that is on a connection, and answered.
    fn remove_answered(&mut self, id: RequestId) -> Option<Request> {
        let mut request = self.all.remove(id)?;
        Self::count_out(&mut self.order, &mut request);
        self.order.end(id, request.command.route.slot(), false);
        self.sweep();
        Some(request)
    }

    /// Lets go of the timers of requests that have ended.
    fn sweep(&mut self) {
        let all = &self.all;
        // A request whose deadline was moved has an entry for each that it had.
        let is_live = |at, id| all.get(id).is_some_and(|request: &Request| request.deadline == at);
        self.deadlines.sweep(all.len(), is_live);
        self.delayed.sweep(all.len(), |_, id| all.contains_key(id));
    }

    /// The next request whose time runs out.
    pub(in crate::cluster) fn next_late(&mut self, now: Instant) -> Option<RequestId> {
        self.deadlines.pop_due(now)
    }

    /// The next request whose wait for its retry is over.
    pub(in crate::cluster) fn next_retry(&mut self, now: Instant) -> Option<RequestId> {
        self.delayed.pop_due(now)
    }

    /// When a request's time or its wait is over.
    pub(in crate::cluster) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.next().into_iter().chain(self.delayed.next()).min()
    }

    /// Whether a replica has the request, one that the primary could serve as well.
    fn is_at_replica(&self, id: RequestId) -> bool {
        self.all.get(id).is_some_and(|request| request.at_replica)
    }

    /// An ASK holds for now. After a wait the slot may have come and gone, and a key that the node
    /// imports from elsewhere would be written where it is not: the owner is asked again.
    fn forget_ask(&mut self, id: RequestId) {
        if let Some(request) = self.all.get_mut(id) {
            request.target.take_if(|target| matches!(target, Target::Ask(_)));
        }
    }

    /// Whether a request may be sent again after it may have been executed.
    pub(in crate::cluster) fn may_resend(&mut self, config: &Config, id: RequestId) -> bool {
        let retry = config.retry;
        let Some(request) = self.all.get_mut(id) else {
            return false;
        };
        let is_fixed = request.target.as_ref().is_some_and(Target::is_fixed);
        let allowed = request.command.read_only || retry.writes == RetryWrites::AtLeastOnce;
        let may = allowed && !is_fixed && request.retries < retry.attempts_max;
        request.may_have_run |= may && !request.command.read_only;
        may
    }

    /// Makes a request ready to be put on a connection over which these scripts have run: the text
    /// of its own goes with it if it is none of them.
    pub(in crate::cluster) fn prepare(
        &mut self,
        cx: &Context,
        id: RequestId,
        run: &[u32],
    ) -> Option<&Request> {
        let request = self.all.get_mut(id)?;
        self.scripts.inline_source(&mut request.command, run);
        (request.queueing, request.sent_at) = (None, cx.now);
        Some(request)
    }

    /// Puts the whole script into a request. False when it is not known.
    fn put_whole_script(&mut self, id: RequestId) -> bool {
        let Some(request) = self.all.get_mut(id) else {
            return false;
        };
        let args = request.command.args();
        let Some(whole) = self.scripts.whole(&args) else {
            return false;
        };
        let mut frame = BytesMut::new();
        encode_command(&whole, &mut frame);
        request.command.frame = frame.freeze();
        true
    }

    /// How many things it holds.
    pub(in crate::cluster) fn footprint(&self) -> usize {
        self.all.len()
            + self.unrouted.footprint()
            + self.order.held()
            + self.deadlines.len()
            + self.delayed.len()
    }

    /// Forgets what waits. All requests have ended.
    pub(in crate::cluster) fn shut_down(&mut self) {
        self.unrouted = Queue::default();
        self.deadlines = Timers::default();
        self.delayed = Timers::default();
        self.order = Order::default();
    }

    /// Whether a request waits for a reply on this connection.
    pub(in crate::cluster) fn is_awaited(&self, conn: ConnId, connection: &Connection) -> bool {
        let is_here = |id| self.on(conn, id).is_some();
        // Those that came first are given up first, so the last is the likeliest to be there.
        connection.expected().iter().rev().filter_map(Expected::request).any(is_here)
    }

    /// The connections on which replies to a request, or to its parts, are due.
    pub(in crate::cluster) fn connections_of(&self, id: RequestId) -> Vec<ConnId> {
        let whole = self.get(id);
        let parts = whole.and_then(|request| request.gather.as_ref());
        let parts = parts.into_iter().flat_map(|gather| gather.under_way());
        let requests = whole.into_iter().chain(parts.filter_map(|part| self.get(part)));
        let conn = |request: &Request| match request.stage {
            Stage::OnConnection(conn) => Some(conn),
            _ => None,
        };
        requests.filter_map(conn).collect()
    }

    /// The answer to MULTI, or to a command after it.
    pub(in crate::cluster) fn on_queued(&mut self, conn: ConnId, id: RequestId, reply: &RawReply) {
        if let Some(request) = self.get_mut(id)
            && request.stage == Stage::OnConnection(conn)
        {
            request.queueing.get_or_insert_default().note(reply);
        }
    }

    /// The error in a request's reply, if it is one. What fits no answer to a transaction is told
    /// apart.
    fn error_in(&self, conn: ConnId, id: RequestId, reply: &RawReply) -> Result<Option<ServerError>, Misfit> {
        match self.on(conn, id).map(|request| (request.command.queued, &request.queueing)) {
            Some((Some(queued), queueing)) => error_of_exec(queueing.as_deref(), queued, reply),
            _ => Ok(reply.as_kept_error()),
        }
    }

    /// Lets a request wait that has been redirected so often.
    pub(in crate::cluster) fn delay_redirect(&mut self, cx: &mut Context, id: RequestId, redirects: u32) {
        let wait = cx.random.backoff(REDIRECT_BASE, REDIRECT_CAP, redirects - PROMPT_REDIRECTS - 1);
        self.wait_until(id, cx.now + wait);
    }

    /// A command that blocks is sent again, and waits anew: the time that it has waited is not
    /// taken from it.
    pub(in crate::cluster) fn give_time_back(&mut self, cx: &Context, id: RequestId) {
        let now = cx.now;
        let Some(request) = self.get_mut(id) else {
            return;
        };
        let time = request.command.blocks.and_then(Blocks::time).unwrap_or_default();
        let waited = now.saturating_since(request.sent_at).min(time);
        if !waited.is_zero() && request.deadline != Instant::NEVER {
            let deadline = request.deadline + waited;
            self.set_deadline(id, deadline);
        }
    }
}
