//! A request's way through the machine: to a node, back with a reply, or around again.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use core::time::Duration;

use super::connection::{Connection, Waiting};
use super::connections::Driver;
use super::request::{Command, Parent, Place, Request, Route, Spread, Target};
use super::scripts::ScriptUse;
use super::verdict::{Verdict, judge};
use super::{Cluster, ConnId, Event, NodeKey, Output, Phase, RequestId};
use crate::address::NodeAddr;
use crate::config::RetryWrites;
use crate::error::{Error, Interrupted, ServerError, Within};
use crate::resp::RawReply;
use crate::topology::NODES_MAX;

/// So many redirects are followed at once. Beyond, the nodes disagree, as they do for a moment at the end of
/// every slot's move; running between them faster does not settle it.
pub(super) const PROMPT_REDIRECTS: u32 = 2;
/// Why SCAN with a cursor goes nowhere by itself.
const NAME_A_NODE: &str = "a cursor of SCAN is good at the node that gave it, and only there: iterate with `scan`, which knows \
                           the nodes, or send each SCAN to a node that you name";
/// The first wait between two redirects.
const REDIRECT_BASE: Duration = Duration::from_millis(1);
/// The longest wait between two redirects.
const REDIRECT_CAP: Duration = Duration::from_millis(100);

impl Cluster {
    /// Takes a request in and sends it on its way.
    pub(super) fn accept(&mut self, command: Command, target: Option<Target>) -> RequestId {
        self.statistics.requests += 1;
        let deadline = match &target {
            Some(Target::Lent(lease)) => self.deadline_on_lease(&command, *lease),
            _ => self.deadline_of(&command),
        };
        let serial = self.order.next();
        let id = self.requests.insert(Request::new(command, target, serial, self.now, deadline));
        self.dispatch(id);
        if self.requests.contains_key(id) {
            self.deadlines.insert(deadline, id);
            self.refuse_beyond_limits(id);
        }
        id
    }

    /// Ends a new request that would wait for a node that is down, when too much waits already.
    pub(super) fn refuse_beyond_limits(&mut self, id: RequestId) {
        let limits = self.config.waiting;
        let waits_for_nobody = match self.requests.get(id).map(|request| request.place) {
            Some(Place::AtNode(node)) => self.nodes.get(node).is_some_and(|node| self.is_out_of_reach(node)),
            Some(Place::Unrouted) => matches!(self.phase, Phase::Clustered),
            Some(Place::AtLease(_)) => true,
            _ => false,
        };
        let Held { requests, bytes } = self.held;
        if waits_for_nobody && (requests > u64::from(limits.requests) || bytes > limits.bytes) {
            let text = format!(
                "{} requests with {bytes} bytes wait for nodes that are down (limits waiting-requests, \
                 waiting-bytes); this one was not sent",
                requests - 1
            );
            self.finish(id, Err(Error::LimitExceeded(text)));
        }
    }

    /// Sends a request where it belongs, or lets it wait for that.
    pub(super) fn dispatch(&mut self, id: RequestId) {
        let Some(request) = self.requests.get(id) else {
            return;
        };
        if request.command.queued == Some(0)
            && request.target.is_none()
            && !matches!(self.phase, Phase::Closed)
        {
            return self.finish(id, Ok(RawReply::empty_array()));
        }
        let is_whole = request.target.is_none() && request.command.spread != Spread::None;
        if is_whole && matches!(self.phase, Phase::Clustered) && self.scatter(id) {
            return;
        }
        let Some(request) = self.requests.get(id) else {
            return;
        };
        if self.blocks_alone(request) {
            return self.send_alone(id);
        }
        let node = match (&self.phase, &request.target, &request.command.route) {
            (Phase::Closed, ..) => return self.finish(id, Err(Error::Closed)),
            (_, Some(Target::Lent(lease)), _) => {
                let lease = *lease;
                if let Some(why) = self.spans_slots(request, lease) {
                    return self.finish(id, Err(Error::CrossSlot(why)));
                }
                return self.send_on_lease(id, lease);
            }
            (_, Some(Target::Scan(scan)), _) => {
                let scan = *scan;
                return self.wait_at_scan(id, scan);
            }
            (Phase::Starting(_), ..) => None,
            (_, Some(Target::Node(address)), _) => {
                let address = address.clone();
                self.node_for_caller(&address)
            }
            (Phase::Standalone(node), _, route) => {
                let (node, slot) = (*node, route.slot());
                let slot = slot.filter(|_| !request.command.while_busy);
                if slot.is_some_and(|slot| self.hold_in_order(id, slot)) {
                    return;
                }
                Some(node)
            }
            (Phase::Clustered, Some(Target::Moved(address) | Target::Ask(address)), _) => {
                let address = address.clone();
                Some(self.node_at(&address))
            }
            (Phase::Clustered, None, Route::Slot(slot)) => {
                let (slot, from_replica) = (*slot, request.command.is_read && !request.primary_only);
                // It must not wait for what it is to end.
                let is_ordered = !request.command.while_busy;
                let owner = self.slots.owner(slot);
                let node = owner.map(|owner| if from_replica { self.reader(slot, owner) } else { owner });
                if let Some(request) = self.requests.get_mut(id) {
                    request.at_replica = node != owner;
                }
                if node == owner && is_ordered && self.hold_in_order(id, slot) {
                    return;
                }
                node
            }
            (Phase::Clustered, None, Route::Any) => self.any_primary(),
            (Phase::Clustered, None, Route::OneNode) => {
                return self.finish(id, Err(Error::InvalidArgument(NAME_A_NODE.to_string())));
            }
            (Phase::Clustered, None, Route::CrossSlot(why)) => {
                let error = Error::CrossSlot(why.to_string());
                return self.finish(id, Err(error));
            }
        };
        match node {
            Some(node) if self.goes_around(id, node) => self.send_around(id, node),
            Some(node) => self.send_to(id, node),
            None => {
                self.place(id, Place::Unrouted);
                self.unrouted.push_back(id);
                self.want_refresh();
            }
        }
    }

    /// A node that the caller names is dialled at once, whatever happened before.
    pub(super) fn node_for_caller(&mut self, address: &NodeAddr) -> Option<NodeKey> {
        let key = self.redirect_target(address)?;
        if let Some(node) = self.nodes.get_mut(key) {
            node.redial_at = node.redial_at.min(self.now);
        }
        self.look_after(key);
        Some(key)
    }

    /// A primary for a command without keys: by chance, but none that cannot be reached while others can.
    pub(super) fn any_primary(&mut self) -> Option<NodeKey> {
        let owners = self.slots.owners();
        let first = self.random.below(owners.len());
        let (before, after) = owners.split_at_checked(first)?;
        let mut in_turn = after.iter().chain(before);
        let reachable =
            |node: &NodeKey| self.nodes.get(*node).is_some_and(|node| !self.is_out_of_reach(node));
        in_turn.clone().find(|node| reachable(node)).or_else(|| in_turn.next()).copied()
    }

    /// Puts a request on its node's connection, or into the node's queue until there is one.
    fn send_to(&mut self, id: RequestId, key: NodeKey) {
        let (Some(node), Some(request)) = (self.nodes.get_mut(key), self.requests.get_mut(id)) else {
            return;
        };
        let current = node.connection.and_then(|conn| Some((conn, self.connections.get_mut(conn)?)));
        let usable = current.filter(|(_, connection)| connection.is_usable());
        match usable {
            Some((conn, connection)) if connection.needs_check(self.config.health_check_after, self.now) => {
                self.check_health(conn);
                self.queue_at(id, key);
                self.look_after(key);
            }
            Some((conn, connection)) => {
                if matches!(request.target, Some(Target::Ask(_))) {
                    connection.send_words(&["ASKING"], Waiting::Asking, self.now);
                    self.statistics.commands += 1;
                }
                if request.at_replica && core::mem::take(&mut connection.reads_refused) {
                    connection.send_words(&["READONLY"], Waiting::ReadOnly, self.now);
                    self.statistics.commands += 1;
                }
                self.scripts.introduce(&mut request.command, &connection.scripts);
                connection.send_request(&request.command, id, self.now);
                request.queueing = None;
                let flushes = request.command.script == ScriptUse::Flushes;
                self.statistics.commands += 1;
                node.statistics.commands += 1;
                request.sent_at = self.now;
                if connection.is_full() && self.full.last() != Some(&conn) {
                    self.full.push(conn);
                }
                self.place(id, Place::OnConnection(conn));
                self.mark_unflushed(conn);
                if flushes {
                    self.forget_sent_scripts();
                }
            }
            None => {
                self.queue_at(id, key);
                self.ensure_connection(key);
            }
        }
    }

    fn queue_at(&mut self, id: RequestId, key: NodeKey) {
        let could_go_elsewhere = self.is_at_replica(id);
        if let Some(node) = self.nodes.get_mut(key) {
            node.queue.push_back(id);
            if could_go_elsewhere {
                node.reads_since.get_or_insert(self.now);
            }
            self.place(id, Place::AtNode(key));
        }
    }

    /// Sends on what waited for this node's connection, in order.
    pub(super) fn send_queue(&mut self, node: NodeKey) {
        let queue = self.nodes.get_mut(node).map(|node| {
            node.reads_since = None;
            node.queue.take()
        });
        for id in queue.into_iter().flatten() {
            match self.requests.get(id).map(|request| &request.target) {
                Some(Some(Target::Ask(_))) => {
                    self.forget_ask(id);
                    self.place(id, Place::Nowhere);
                    self.dispatch(id);
                }
                Some(_) => self.send_to(id, node),
                None => {}
            }
        }
    }

    /// Takes what need not wait for this node out of its queue: reads that the primary can serve, and what the caller
    /// wants of this node alone. With a `reason` nothing else may wait either.
    pub(super) fn release_queue(&mut self, key: NodeKey, reason: Option<&Error>) {
        let Some(node) = self.nodes.get_mut(key) else {
            return;
        };
        node.reads_since = None;
        let (address, is_down, last_error) = (node.address.clone(), node.is_down(), node.last_error.clone());
        for id in node.queue.take() {
            let at_replica = self.is_at_replica(id);
            let Some(request) = self.requests.get_mut(id) else {
                continue;
            };
            if at_replica {
                request.primary_only = true;
                self.dispatch(id);
            } else if let Some(reason) = reason {
                self.finish(id, Err(reason.clone()));
            } else if is_down && matches!(request.target, Some(Target::Node(_))) {
                self.finish(id, Err(Error::Connect(format!("{address}: {last_error}"))));
            } else if let Some(node) = self.nodes.get_mut(key) {
                node.queue.push_back(id);
            }
        }
    }

    /// Routes anew what waits for a node without a connection or for any node at all: the topology has changed.
    pub(super) fn dispatch_waiting(&mut self) {
        let mut waiting = self.unrouted.take();
        for node in self.nodes.values_mut() {
            let usable = node
                .connection
                .and_then(|conn| self.connections.get(conn))
                .is_some_and(Connection::is_usable);
            if !usable {
                node.reads_since = None;
                waiting.append(&mut node.queue.take());
            }
        }
        for id in waiting {
            if let Some(request) = self.requests.get_mut(id) {
                request.target.take_if(|target| !target.is_fixed());
                self.dispatch(id);
            }
        }
    }

    /// Takes a request's reply in.
    pub(super) fn on_reply(&mut self, conn: ConnId, id: RequestId, reply: RawReply) {
        let Some(request) = self.requests.get(id) else {
            return;
        };
        // Sent again meanwhile: the answer is to come from elsewhere.
        if request.place != Place::OnConnection(conn) {
            return;
        }
        let key = self.connections.get(conn).map(|connection| connection.node).unwrap_or_default();
        if let Some(node) = self.nodes.get_mut(key) {
            node.statistics.latency.record(self.now.saturating_since(request.sent_at));
        }
        let has_blocked = request.command.blocks.is_some();
        if let (true, Some(lease)) = (has_blocked, request.lease()) {
            self.start_clocks_behind(conn, lease);
        }
        let Some(request) = self.requests.get(id) else {
            return;
        };
        let is_transaction = request.command.queued.is_some();
        if is_transaction && let Some((error, in_doubt)) = self.executed_without_multi(id) {
            self.finish(id, Err(error.clone()));
            if in_doubt {
                self.lose(conn, error, Driver::MustClose);
            }
            return;
        }
        if is_transaction && let Some(error) = self.misfit_of_exec(id, &reply) {
            self.finish(id, Err(error.clone()));
            return self.lose(conn, error, Driver::MustClose);
        }
        let error = if is_transaction { self.why_discarded(id, &reply) } else { reply.as_kept_error() };
        let Some(request) = self.requests.get(id) else {
            return;
        };
        let Some(error) = error else {
            let is_read = request.command.read_only;
            if is_read && self.hold_behind_earlier(id) {
                return;
            }
            self.note_script(conn, id, &reply);
            return self.answer(id, reply);
        };
        let error = &error;
        let mut asked = String::new();
        if let Some(node) = self.nodes.get_mut(key) {
            node.statistics.count_error(&error.code);
            node.statistics.redirects += u64::from(matches!(error.code.as_str(), "MOVED" | "ASK"));
            asked = node.address.host().to_string();
        }
        let mut verdict = self.reachable(judge(error, &asked, &request.command));
        let not_asking = self.why_not_asking(conn, id);
        if let (Verdict::FollowMoved(..) | Verdict::FollowAsk(..), Some(refusal)) = (&verdict, not_asking) {
            return self.finish(id, Err(Error::Server(refusal)));
        }
        let Some(request) = self.requests.get(id) else {
            return;
        };
        // Of which slot it is for the command that was redirected is a guess where nothing is known of the command.
        let own_slot = request.command.route.slot();
        let points_at = |address| self.by_address.get(address) == Some(&key);
        if let Verdict::FollowMoved(_, address) = &verdict
            && matches!(self.phase, Phase::Clustered)
            && points_at(address)
        {
            // What it says of itself, and is not served: another node is meant.
            self.statistics.moved += 1;
            self.want_refresh();
            if !self.leave_stale(conn) {
                verdict = Verdict::WaitAndRetry;
            }
        } else if error.code == "READONLY"
            && verdict == Verdict::RefreshAndRetry
            && matches!(self.phase, Phase::Standalone(_))
        {
            verdict = if self.leave_stale(conn) { Verdict::WaitAndRetry } else { Verdict::Surface };
        } else if let Verdict::FollowMoved(slot, address) = &verdict
            && matches!(self.phase, Phase::Clustered)
            && let Some(node) = self.redirect_target(address)
        {
            self.statistics.moved += 1;
            if own_slot == Some(*slot) {
                if self.slots.owner(*slot) != Some(node) {
                    self.order.hold(*slot);
                }
                self.slots.patch(*slot, node, self.now);
            }
            self.want_refresh();
        }
        if verdict == Verdict::Surface && self.take_whole_script(id, conn, error) {
            return self.send_whole_script(id);
        }
        let Some(request) = self.requests.get(id) else {
            return;
        };
        let follows = matches!(self.phase, Phase::Clustered);
        let is_redirect = matches!(verdict, Verdict::FollowMoved(..) | Verdict::FollowAsk(..));
        let explained = (is_redirect && !follows).then(|| taken_as_alone(error));
        let error = explained.as_ref().unwrap_or(error);
        match verdict {
            Verdict::Surface => {
                // Unless it has read too early.
                let is_read = request.command.read_only;
                if !(is_read && self.hold_behind_earlier(id)) {
                    self.finish(id, Err(Error::Server(error.clone())));
                }
            }
            Verdict::Authentication => self.finish(id, Err(Error::Authentication(error.to_string()))),
            verdict if matches!(request.target, Some(Target::Lent(_))) => {
                self.on_lent_refused(id, key, verdict, error);
            }
            _ if request.target.as_ref().is_some_and(Target::is_fixed) => {
                self.finish(id, Err(Error::Server(error.clone())));
            }
            _ if is_redirect && !follows => {
                self.finish(id, Err(Error::Server(error.clone())));
            }
            _ if self.is_at_replica(id) => self.fall_back(id, key, error),
            Verdict::FollowMoved(_, address) => self.follow(id, Target::Moved(address), error),
            Verdict::FollowAsk(slot, address) => {
                self.statistics.ask += 1;
                if own_slot == Some(slot) {
                    self.slots.note_move(slot, self.now);
                }
                self.follow(id, Target::Ask(address), error);
            }
            Verdict::WaitAndRetry => self.delay(id, key, error),
            Verdict::RefreshAndRetry => {
                self.want_refresh();
                self.delay(id, key, error);
            }
        }
    }

    /// The verdict, with the address at which the node is reached.
    fn reachable(&self, verdict: Verdict) -> Verdict {
        let map = &self.config.address_map;
        match verdict {
            Verdict::FollowMoved(slot, address) => Verdict::FollowMoved(slot, map.actual(address)),
            Verdict::FollowAsk(slot, address) => Verdict::FollowAsk(slot, map.actual(address)),
            other => other,
        }
    }

    /// The node that a redirect names, unless there are more than a cluster can have.
    pub(super) fn redirect_target(&mut self, address: &NodeAddr) -> Option<NodeKey> {
        let known = self.by_address.contains_key(address) || self.nodes.len() < NODES_MAX;
        known.then(|| self.node_at(address))
    }

    /// Sends a request where a redirect points.
    fn follow(&mut self, id: RequestId, target: Target, error: &ServerError) {
        let reachable = match &target {
            Target::Moved(address) | Target::Ask(address) => {
                let address = address.clone();
                self.redirect_target(&address).is_some()
            }
            Target::Node(_) | Target::Lent(_) | Target::Scan(_) => true,
        };
        let max_redirects = self.config.max_redirects;
        let Some(request) = self.requests.get_mut(id) else {
            return;
        };
        request.redirects += 1;
        let redirects = request.redirects;
        if redirects > max_redirects || !reachable {
            let text = format!("the last of {redirects} was {error}");
            return self.finish(id, Err(Error::RedirectLimit(text)));
        }
        // An ASK is the owner's word, and for now: it is followed at once.
        let is_ask = matches!(target, Target::Ask(_));
        request.target = Some(target);
        if self.hold_behind_earlier(id) || (is_ask && self.hold_asked(id)) {
            return;
        }
        // The nodes disagree: what comes later must not find them agreed before.
        if redirects > 1 {
            self.lead(id);
        }
        if is_ask || redirects <= PROMPT_REDIRECTS {
            return self.dispatch(id);
        }
        self.delay_redirect(id, redirects);
    }

    /// Lets a request wait that has been redirected so often.
    pub(super) fn delay_redirect(&mut self, id: RequestId, redirects: u32) {
        let wait = self.random.backoff(REDIRECT_BASE, REDIRECT_CAP, redirects - PROMPT_REDIRECTS - 1);
        self.place(id, Place::Delayed);
        self.delayed.insert(self.now + wait, id);
    }

    /// An ASK holds for now. After a wait the slot may have come and gone, and a key that the node imports from elsewhere
    /// would be written where it is not: the owner is asked again.
    fn forget_ask(&mut self, id: RequestId) {
        if let Some(request) = self.requests.get_mut(id) {
            request.target.take_if(|target| matches!(target, Target::Ask(_)));
        }
    }

    /// Lets a request wait before it is routed anew.
    pub(super) fn delay(&mut self, id: RequestId, key: NodeKey, error: &ServerError) {
        let retry = self.config.retry;
        let Some(request) = self.requests.get_mut(id) else {
            return;
        };
        let retries = request.retries;
        if retries >= retry.attempts_max {
            let error = last_word(error.clone(), request.may_have_run);
            return self.finish(id, Err(error));
        }
        request.last_error = Some(Box::new(error.clone()));
        self.send_again(id, Some(key), &error.to_string());
        if self.hold_behind_earlier(id) {
            return;
        }
        self.lead(id);
        let wait = self.random.backoff(retry.base, retry.cap, retries);
        self.place(id, Place::Delayed);
        self.delayed.insert(self.now + wait, id);
    }

    /// Sends a request again that has the whole script now.
    fn send_whole_script(&mut self, id: RequestId) {
        if self.hold_behind_earlier(id) {
            return;
        }
        self.lead(id);
        self.dispatch(id);
    }

    /// Counts that a request is sent again, from the beginning.
    pub(super) fn send_again(&mut self, id: RequestId, node: Option<NodeKey>, reason: &str) {
        let Some(request) = self.requests.get_mut(id) else {
            return;
        };
        request.retries += 1;
        request.redirects = 0;
        request.target.take_if(|target| !target.is_fixed());
        self.statistics.retries += 1;
        let attempt = request.retries;
        if let Some(node) = node.and_then(|key| self.nodes.get_mut(key)) {
            node.statistics.retries += 1;
            let event = Event::Retried { node: node.address.clone(), reason: reason.to_string(), attempt };
            self.tell(event);
        }
    }

    /// A delayed request's wait is over.
    pub(super) fn retry(&mut self, id: RequestId) {
        let is_due = self.requests.get(id).is_some_and(|request| request.place == Place::Delayed);
        if is_due && !self.hold_behind_earlier(id) {
            self.place(id, Place::Nowhere);
            if !self.resume_lease(id) {
                self.dispatch(id);
            }
        }
    }

    /// Whether a request may be sent again after it may have been executed.
    pub(super) fn may_resend(&mut self, id: RequestId) -> bool {
        let retry = self.config.retry;
        let Some(request) = self.requests.get_mut(id) else {
            return false;
        };
        let is_fixed = request.target.as_ref().is_some_and(Target::is_fixed);
        let allowed = request.command.read_only || retry.writes == RetryWrites::AtLeastOnce;
        let may = allowed && !is_fixed && request.retries < retry.attempts_max;
        request.may_have_run |= may && !request.command.read_only;
        may
    }

    /// A request's connection ended before its reply. `sent`: its bytes have left the machine.
    pub(super) fn on_lost(&mut self, conn: ConnId, id: RequestId, sent: bool, node: &NodeAddr, reason: &str) {
        let Some(request) = self.requests.get(id) else {
            return;
        };
        if request.place != Place::OnConnection(conn) {
            return;
        }
        let is_fixed = request.target.as_ref().is_some_and(Target::is_fixed);
        if is_fixed || (sent && !self.may_resend(id)) {
            let lost = interrupted(Some(node), reason.to_string(), sent);
            return self.finish(id, Err(Error::ConnectionLost(lost)));
        }
        let key = self.by_address.get(node).copied();
        if let Some(request) = self.requests.get_mut(id) {
            request.primary_only |= request.at_replica;
            request.target = None;
            request.stalled &= !sent;
        }
        if sent {
            self.send_again(id, key, reason);
        }
        self.place(id, Place::Nowhere);
        self.dispatch(id);
    }

    /// A request's time has run out.
    pub(super) fn time_out(&mut self, id: RequestId) {
        let Some(request) = self.requests.get(id) else {
            return;
        };
        // Its parts end at the same time, each with its own reason. One that waits anew has more time.
        if request.place == Place::Gathering || request.deadline > self.now {
            return;
        }
        if let Place::AtScan(scan) = request.place {
            return self.time_out_at_scan(id, scan);
        }
        let (place, last_error) = (request.place, request.last_error.clone());
        let (stalled, may_have_run) = (request.stalled, request.may_have_run);
        // Without a server's error, it was sent again because its connection had ended.
        let lost = request.retries;
        let within = Within(self.config.request_timeout).to_string();
        let conn = if let Place::OnConnection(conn) = place { self.connections.get(conn) } else { None };
        let is_unsent = conn.is_some_and(|connection| connection.has_unsent(id));
        let error = match (place, last_error) {
            (Place::OnConnection(conn), _) => {
                let node = self.connections.get(conn).and_then(|connection| self.nodes.get(connection.node));
                let address = node.map(|node| &node.address);
                match is_unsent {
                    true => Error::Timeout(interrupted(address, format!("not sent within {within}"), false)),
                    false => Error::Timeout(interrupted(address, format!("no reply within {within}"), true)),
                }
            }
            (_, Some(error)) => last_word(*error, may_have_run),
            (Place::AtLease(lease), None) => self.lease_error(lease),
            (Place::AtNode(node), None) if lost > 0 => {
                let node = self.nodes.get(node);
                let reason = node.map(|node| node.last_error.clone()).unwrap_or_default();
                let address = node.map(|node| &node.address);
                let message =
                    format!("sent {lost} times within {within} without an answer, at last: {reason}");
                let interrupted = interrupted(address, message, true);
                if stalled { Error::Timeout(interrupted) } else { Error::ConnectionLost(interrupted) }
            }
            (Place::AtNode(node), None) => match self.nodes.get(node) {
                Some(node) if !node.last_error.is_empty() => {
                    Error::Connect(format!("{}: {}", node.address, node.last_error))
                }
                other => {
                    let address = other.map(|node| &node.address);
                    let mut message = format!("no connection within {within}");
                    if self.lacks_room(node) {
                        message.push_str(": ");
                        message.push_str(&self.why_no_room());
                    }
                    Error::Timeout(interrupted(address, message, false))
                }
            },
            (Place::Unrouted, None) if matches!(self.phase, Phase::Clustered) => {
                Error::ClusterDown(match self.requests.get(id).map(|request| &request.command.route) {
                    Some(Route::Slot(slot)) => {
                        format!("no node serves slot {slot}, and none turned up within {within}")
                    }
                    _ => format!("no node serves any slot, and none turned up within {within}"),
                })
            }
            (_, None) => Error::Timeout(interrupted(None, format!("not sent within {within}"), false)),
        };
        self.finish(id, Err(error.clone()));
        match place {
            // It must not be sent after all. What is queued with it goes over another connection.
            Place::OnConnection(conn) if is_unsent => {
                let reason = "what came in could not be read to its end".to_string();
                self.lose(conn, Error::Connect(reason), Driver::MustClose);
            }
            Place::OnConnection(conn) => self.suspect(conn, id),
            // What was to follow it must not be executed without it: a transaction without its MULTI.
            Place::AtLease(lease) => self.end_lease(lease, &error),
            _ => {}
        }
    }

    /// Ends a request that is on a connection, with its reply. As `finish`, the short way.
    fn answer(&mut self, id: RequestId, reply: RawReply) {
        let Some(mut request) = self.requests.remove(id) else {
            return;
        };
        self.order.count(&mut request, false);
        self.order.end(id, &request);
        self.forget_timers();
        if let Some(lease) = request.own_lease {
            self.give_back(lease);
        }
        match request.parent {
            Some(parent) => self.tell_parent(parent, request.place, Ok(reply)),
            None => self.outputs.push_back(Output::Done { id, result: Ok(reply) }),
        }
    }

    /// Ends a request.
    pub(super) fn finish(&mut self, id: RequestId, result: Result<RawReply, Error>) {
        let Some(request) = self.requests.get(id) else {
            return;
        };
        // A copy that got no answer may have run, whatever has become of the last.
        let result = if request.may_have_run { result.map_err(doubt) } else { result };
        let (parent, place) = (request.parent, request.place);
        self.abandon(id);
        match parent {
            Some(parent) => self.tell_parent(parent, place, result),
            None => self.outputs.push_back(Output::Done { id, result }),
        }
    }

    fn tell_parent(&mut self, parent: Parent, place: Place, result: Result<RawReply, Error>) {
        match parent {
            Parent::Whole { id, part } => self.on_part(id, part, result),
            Parent::Pass { scan, number } => self.on_pass(scan, number, place, result),
        }
    }

    /// Takes a request out, wherever it is. What a connection still receives for it is dropped.
    pub(super) fn abandon(&mut self, id: RequestId) {
        let Some(place) = self.requests.get(id).map(|request| request.place) else {
            return;
        };
        if let Some(request) = self.requests.get(id) {
            self.order.end(id, request);
        }
        self.place(id, Place::Nowhere);
        let request = self.requests.remove(id);
        let lease = request.as_ref().and_then(Request::lease);
        let own_lease = request.as_ref().and_then(|request| request.own_lease);
        self.abandon_parts(request.and_then(|request| request.gather));
        match place {
            Place::AtNode(node) => {
                if let Some(node) = self.nodes.get_mut(node) {
                    let requests = &self.requests;
                    node.queue.forget(id, |id| requests.contains_key(id));
                }
            }
            Place::Unrouted => {
                let requests = &self.requests;
                self.unrouted.forget(id, |id| requests.contains_key(id));
            }
            Place::AtLease(lease) => self.forget_at_lease(lease, id),
            Place::Delayed => {
                if let Some(lease) = lease {
                    self.end_paused(lease);
                }
            }
            Place::AtScan(scan) => self.forget_at_scan(scan, id),
            Place::Nowhere | Place::OnConnection(_) | Place::InOrder(_) | Place::Gathering => {}
        }
        // With a reply outstanding it is closed: nothing is taken from a list for nobody.
        if let Some(lease) = own_lease {
            self.give_back(lease);
        }
        self.forget_timers();
    }

    /// Lets go of the timers of requests that have ended.
    fn forget_timers(&mut self) {
        let requests = &self.requests;
        self.deadlines.sweep(requests.len(), |_, id| requests.contains_key(id));
        self.delayed.sweep(requests.len(), |_, id| requests.contains_key(id));
    }

    /// Notes where a request is, and counts what waits.
    pub(super) fn place(&mut self, id: RequestId, place: Place) {
        let Some(request) = self.requests.get_mut(id) else {
            return;
        };
        // What is held in order waits for others, not for a node.
        let waits =
            |place| matches!(place, Place::AtNode(_) | Place::Unrouted | Place::Delayed | Place::AtLease(_));
        if let Some(bytes) = request.held_bytes.take() {
            self.held = Held { requests: self.held.requests - 1, bytes: self.held.bytes - bytes };
        }
        if waits(place) {
            let bytes = request.command.frame.len() as u64;
            self.held = Held { requests: self.held.requests + 1, bytes: self.held.bytes + bytes };
            request.held_bytes = Some(bytes);
        }
        request.place = place;
        let under_way = matches!(place, Place::AtNode(_) | Place::OnConnection(_) | Place::Unrouted);
        self.order.count(request, under_way);
    }
}

/// What waits for a node, a connection or a retry.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Held {
    requests: u64,
    bytes: u64,
}

/// A redirect from a server that is taken for all there is: what the caller can do about it.
fn taken_as_alone(error: &ServerError) -> ServerError {
    const WHY: &str =
        "the server is a cluster's node, but is taken as one that is alone: set `mode` to cluster";
    ServerError { code: error.code.clone(), message: format!("{} ({WHY})", error.message) }
}

/// What a request ends with that was never answered with anything but passing errors.
fn last_word(error: ServerError, may_have_run: bool) -> Error {
    match may_have_run {
        true => Error::ConnectionLost(interrupted(None, format!("sent again, and then: {error}"), true)),
        false => Error::Server(error),
    }
}

/// An error that says "not executed", of a request of which an earlier copy may have been.
fn doubt(error: Error) -> Error {
    let message = match error {
        Error::ConnectionLost(lost) => {
            return Error::ConnectionLost(Interrupted { possibly_executed: true, ..lost });
        }
        Error::Timeout(late) => return Error::Timeout(Interrupted { possibly_executed: true, ..late }),
        // The server's word is about the last copy only.
        error @ (Error::Server(_)
        | Error::Connect(_)
        | Error::ClusterDown(_)
        | Error::RedirectLimit(_)
        | Error::Authentication(_)) => error.to_string(),
        other => return other,
    };
    let message = format!("it was sent again after a lost connection: {message}");
    Error::ConnectionLost(interrupted(None, message, true))
}

fn interrupted(node: Option<&NodeAddr>, message: String, possibly_executed: bool) -> Interrupted {
    Interrupted { node: node.map(ToString::to_string).unwrap_or_default(), message, possibly_executed }
}
