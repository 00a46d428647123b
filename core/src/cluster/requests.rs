//! A request's way through the machine: to a node, back with a reply, or around again.

use alloc::format;
use alloc::string::{String, ToString};
use core::time::Duration;

use super::request::{Command, Place, Redirect, Request, Route};
use super::verdict::{Verdict, judge};
use super::{Cluster, ConnId, NodeKey, Output, Phase, RequestId};
use crate::address::NodeAddr;
use crate::cluster::connection::{Connection, Waiting};
use crate::error::{Error, Interrupted, ServerError};
use crate::resp::Reply;
use crate::topology::NODES_MAX;

/// The first wait before a request is sent again.
const RETRY_BASE: Duration = Duration::from_millis(10);
/// The longest wait before a request is sent again.
const RETRY_CAP: Duration = Duration::from_secs(1);
/// So many redirects are followed at once. Beyond, the nodes disagree, as they do for a moment at the end of
/// every slot's move; running between them faster does not settle it.
const PROMPT_REDIRECTS: u32 = 2;
/// The first wait between two redirects.
const REDIRECT_BASE: Duration = Duration::from_millis(1);
/// The longest wait between two redirects.
const REDIRECT_CAP: Duration = Duration::from_millis(100);

impl Cluster {
    /// Takes a request in and sends it on its way.
    pub(super) fn accept(&mut self, command: Command) -> RequestId {
        self.statistics.requests += 1;
        let deadline = self.now + self.config.request_timeout;
        let id = self.requests.insert(Request {
            command,
            target: None,
            redirects: 0,
            retries: 0,
            last_error: None,
            place: Place::Nowhere,
            sent_at: self.now,
        });
        self.dispatch(id);
        if self.requests.contains_key(id) {
            self.deadlines.insert(deadline, id);
        }
        id
    }

    /// Sends a request where it belongs, or lets it wait for that.
    pub(super) fn dispatch(&mut self, id: RequestId) {
        let Some(request) = self.requests.get(id) else {
            return;
        };
        let node = match (&self.phase, &request.target, &request.command.route) {
            (Phase::Closed, ..) => return self.finish(id, Err(Error::Closed)),
            (Phase::Starting(_), ..) => None,
            (Phase::Standalone(node), ..) => Some(*node),
            (Phase::Clustered, Some(redirect), _) => {
                let address = redirect.address.clone();
                Some(self.node_at(&address))
            }
            (Phase::Clustered, None, Route::Slot(slot)) => self.slots.owner(*slot),
            (Phase::Clustered, None, Route::Any) => self.any_primary(),
            (Phase::Clustered, None, Route::CrossSlot(why)) => {
                let error = Error::CrossSlot(why.clone());
                return self.finish(id, Err(error));
            }
        };
        match node {
            Some(node) => self.send_to(id, node),
            None => {
                self.place(id, Place::Unrouted);
                self.unrouted.push_back(id);
                self.want_refresh();
            }
        }
    }

    /// A primary for a command without keys: by chance, but none that cannot be reached while others can.
    fn any_primary(&mut self) -> Option<NodeKey> {
        let owners = self.slots.owners();
        let first = self.random.below(owners.len());
        let (before, after) = owners.split_at_checked(first)?;
        let mut in_turn = after.iter().chain(before);
        let reachable = |node: &NodeKey| self.nodes.get(*node).is_some_and(|node| node.failures == 0);
        in_turn.clone().find(|node| reachable(node)).or_else(|| in_turn.next()).copied()
    }

    /// Puts a request on its node's connection, or into the node's queue until there is one.
    fn send_to(&mut self, id: RequestId, node_key: NodeKey) {
        let (Some(node), Some(request)) = (self.nodes.get_mut(node_key), self.requests.get_mut(id)) else {
            return;
        };
        let ready = node.connection.and_then(|conn| Some((conn, self.connections.get_mut(conn)?)));
        match ready.filter(|(_, connection)| connection.is_ready()) {
            Some((conn, connection)) => {
                if request.target.as_ref().is_some_and(|redirect| redirect.asking) {
                    connection.send_words(&["ASKING"], Waiting::Asking);
                    self.statistics.commands += 1;
                }
                connection.send(&request.command.frame, Waiting::Request(id));
                self.statistics.commands += 1;
                request.place = Place::OnConnection(conn);
                request.sent_at = self.now;
                self.mark_unflushed(conn);
            }
            None => {
                node.queue.push_back(id);
                request.place = Place::AtNode(node_key);
                self.ensure_connection(node_key);
            }
        }
    }

    /// Sends on what waited for this node's connection, in order.
    pub(super) fn send_queue(&mut self, node: NodeKey) {
        let queue = self.nodes.get_mut(node).map(|node| core::mem::take(&mut node.queue)).unwrap_or_default();
        for id in queue {
            if self.requests.contains_key(id) {
                self.send_to(id, node);
            }
        }
    }

    /// Routes anew what waits for a node without a connection or for any node at all: the topology has changed.
    pub(super) fn dispatch_waiting(&mut self) {
        let mut waiting = core::mem::take(&mut self.unrouted);
        for node in self.nodes.values_mut() {
            let ready =
                node.connection.and_then(|conn| self.connections.get(conn)).is_some_and(Connection::is_ready);
            if !ready {
                waiting.append(&mut node.queue);
            }
        }
        for id in waiting {
            if let Some(request) = self.requests.get_mut(id) {
                request.target = None;
                self.dispatch(id);
            }
        }
    }

    /// Takes a request's reply in.
    pub(super) fn on_reply(&mut self, conn: ConnId, id: RequestId, reply: Reply) {
        if !self.requests.contains_key(id) {
            return;
        }
        let Some(error) = reply.as_error() else {
            return self.finish(id, Ok(reply));
        };
        let node = self.connections.get(conn).and_then(|connection| self.nodes.get(connection.node));
        let asked = node.map(|node| node.address.host()).unwrap_or_default();
        let Some(request) = self.requests.get(id) else {
            return;
        };
        match judge(error, asked, &request.command) {
            Verdict::FollowMoved(..) | Verdict::FollowAsk(_) if !matches!(self.phase, Phase::Clustered) => {
                self.finish(id, Err(Error::Server(error.clone())));
            }
            Verdict::FollowMoved(slot, address) => {
                if let Some(node) = self.redirect_target(&address) {
                    self.statistics.moved += 1;
                    self.slots.patch(slot, node, self.now);
                    self.want_refresh();
                }
                self.follow(id, Redirect { address, asking: false }, error);
            }
            Verdict::FollowAsk(address) => {
                self.statistics.ask += 1;
                self.follow(id, Redirect { address, asking: true }, error);
            }
            Verdict::WaitAndRetry => self.delay(id, error),
            Verdict::RefreshAndRetry => {
                self.want_refresh();
                self.delay(id, error);
            }
            Verdict::Authentication => self.finish(id, Err(Error::Authentication(error.to_string()))),
            Verdict::Surface => self.finish(id, Err(Error::Server(error.clone()))),
        }
    }

    /// The node that a redirect names, unless there are more than a cluster can have.
    fn redirect_target(&mut self, address: &NodeAddr) -> Option<NodeKey> {
        let known = self.by_address.contains_key(address) || self.nodes.len() < NODES_MAX;
        known.then(|| self.node_at(address))
    }

    /// Sends a request where a redirect points.
    fn follow(&mut self, id: RequestId, redirect: Redirect, error: &ServerError) {
        let reachable = self.redirect_target(&redirect.address).is_some();
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
        request.target = Some(redirect);
        if redirects <= PROMPT_REDIRECTS {
            return self.dispatch(id);
        }
        let wait = self.random.backoff(REDIRECT_BASE, REDIRECT_CAP, redirects - PROMPT_REDIRECTS - 1);
        self.place(id, Place::Delayed);
        self.delayed.insert(self.now + wait, id);
    }

    /// Lets a request wait before it is routed anew.
    fn delay(&mut self, id: RequestId, error: &ServerError) {
        let Some(request) = self.requests.get_mut(id) else {
            return;
        };
        let wait = self.random.backoff(RETRY_BASE, RETRY_CAP, request.retries);
        request.retries += 1;
        request.redirects = 0;
        request.target = None;
        request.last_error = Some(error.clone());
        request.place = Place::Delayed;
        self.statistics.retries += 1;
        self.delayed.insert(self.now + wait, id);
    }

    /// A delayed request's wait is over.
    pub(super) fn retry(&mut self, id: RequestId) {
        if self.requests.get(id).is_some_and(|request| request.place == Place::Delayed) {
            self.place(id, Place::Nowhere);
            self.dispatch(id);
        }
    }

    /// A request's connection ended before its reply. `sent`: its bytes have left the machine.
    pub(super) fn on_lost(&mut self, id: RequestId, sent: bool, node: &NodeAddr, reason: &str) {
        let Some(request) = self.requests.get_mut(id) else {
            return;
        };
        if sent && !request.command.read_only {
            let lost = interrupted(Some(node), reason.to_string(), true);
            return self.finish(id, Err(Error::ConnectionLost(lost)));
        }
        if sent {
            request.retries += 1;
            self.statistics.retries += 1;
        }
        request.target = None;
        self.dispatch(id);
    }

    /// A request's time has run out.
    pub(super) fn time_out(&mut self, id: RequestId) {
        let Some(request) = self.requests.get(id) else {
            return;
        };
        let (place, sent_at, last_error) = (request.place, request.sent_at, request.last_error.clone());
        // Without a server's error, it was sent again because its connection had ended.
        let lost = request.retries;
        let within = format!("{:?}", self.config.request_timeout);
        let error = match (place, last_error) {
            (Place::OnConnection(conn), _) => {
                let node = self.connections.get(conn).and_then(|connection| self.nodes.get(connection.node));
                let address = node.map(|node| &node.address);
                Error::Timeout(interrupted(address, format!("no reply within {within}"), true))
            }
            (_, Some(error)) => Error::Server(error),
            (Place::AtNode(node), None) if lost > 0 => {
                let node = self.nodes.get(node);
                let reason = node.map(|node| node.last_error.clone()).unwrap_or_default();
                let message = format!("its connection ended {lost} times within {within}, at last: {reason}");
                Error::ConnectionLost(interrupted(node.map(|node| &node.address), message, true))
            }
            (Place::AtNode(node), None) => match self.nodes.get(node) {
                Some(node) if !node.last_error.is_empty() => {
                    Error::Connect(format!("{}: {}", node.address, node.last_error))
                }
                node => {
                    let address = node.map(|node| &node.address);
                    Error::Timeout(interrupted(address, format!("no connection within {within}"), false))
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
        self.finish(id, Err(error));
        if let Place::OnConnection(conn) = place {
            self.suspect(conn, sent_at);
        }
    }

    /// Ends a request.
    pub(super) fn finish(&mut self, id: RequestId, result: Result<Reply, Error>) {
        if self.abandon(id) {
            self.outputs.push_back(Output::Done { id, result });
        }
    }

    /// Takes a request out, wherever it is. What a connection still receives for it is dropped.
    pub(super) fn abandon(&mut self, id: RequestId) -> bool {
        let Some(request) = self.requests.remove(id) else {
            return false;
        };
        match request.place {
            Place::AtNode(node) => {
                if let Some(node) = self.nodes.get_mut(node) {
                    remove(&mut node.queue, id);
                }
            }
            Place::Unrouted => remove(&mut self.unrouted, id),
            Place::Nowhere | Place::OnConnection(_) | Place::Delayed => {}
        }
        let requests = &self.requests;
        self.deadlines.sweep(requests.len(), |id| requests.contains_key(id));
        self.delayed.sweep(requests.len(), |id| requests.contains_key(id));
        true
    }

    fn place(&mut self, id: RequestId, place: Place) {
        if let Some(request) = self.requests.get_mut(id) {
            request.place = place;
        }
    }
}

/// Takes `id` out of a queue. It is mostly the first: requests time out in the order they came.
fn remove(queue: &mut alloc::collections::VecDeque<RequestId>, id: RequestId) {
    if let Some(index) = queue.iter().position(|queued| *queued == id) {
        queue.remove(index);
    }
}

fn interrupted(node: Option<&NodeAddr>, message: String, possibly_executed: bool) -> Interrupted {
    Interrupted { node: node.map(ToString::to_string).unwrap_or_default(), message, possibly_executed }
}
