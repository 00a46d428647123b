//! What a request's reply means: its end, or where it goes next.

use alloc::format;
use alloc::string::{String, ToString};

use crate::address::NodeAddr;
use crate::cluster::links::loss::Driver;
use crate::cluster::requests::error_policy::{ErrorAction, classify};
use crate::cluster::requests::request::{Stage, Target};
use crate::cluster::{Cluster, ConnId, NodeKey, Phase, RequestId};
use crate::error::{Error, ServerError};
use crate::resp::RawReply;
use crate::topology::NODES_MAX;

impl Cluster {
    /// Takes a request's reply in.
    pub(in crate::cluster) fn on_reply(&mut self, conn: ConnId, id: RequestId, reply: RawReply) {
        let Some(request) = self.requests.get(id) else {
            return;
        };
        // Sent again meanwhile: the answer is to come from elsewhere.
        if request.stage != Stage::OnConnection(conn) {
            return;
        }
        let key = self.links.node_of(conn).unwrap_or_default();
        if let Some(node) = self.nodes.get_mut(key) {
            node.statistics.latency.record(self.cx.now.saturating_since(request.sent_at));
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
            if is_read && self.requests.hold_behind_earlier(id) {
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
        let mut action = self.reachable(classify(error, &asked, &request.command));
        let not_asking = self.why_not_asking(conn, id);
        if let (ErrorAction::FollowMoved(..) | ErrorAction::FollowAsk(..), Some(refusal)) =
            (&action, not_asking)
        {
            return self.finish(id, Err(Error::Server(refusal)));
        }
        let Some(request) = self.requests.get(id) else {
            return;
        };
        // Of which slot it is for the command that was redirected is a guess where nothing is known of the command.
        let own_slot = request.command.route.slot();
        let points_at = |address| self.nodes.at(address) == Some(key);
        if let ErrorAction::FollowMoved(_, address) = &action
            && matches!(self.phase, Phase::Clustered)
            && points_at(address)
        {
            // What it says of itself, and is not served: another node is meant.
            self.cx.statistics.moved += 1;
            self.map.want_refresh();
            if !self.leave_stale(conn) {
                action = ErrorAction::WaitAndRetry;
            }
        } else if error.code == "READONLY"
            && action == ErrorAction::RefreshAndRetry
            && matches!(self.phase, Phase::Standalone(_))
        {
            action = if self.leave_stale(conn) { ErrorAction::WaitAndRetry } else { ErrorAction::Surface };
        } else if let ErrorAction::FollowMoved(slot, address) = &action
            && matches!(self.phase, Phase::Clustered)
            && let Some(node) = self.redirect_target(address)
        {
            self.cx.statistics.moved += 1;
            if own_slot == Some(*slot) {
                if self.map.owner(*slot) != Some(node) {
                    self.requests.hold_slot(*slot);
                }
                self.map.patch(*slot, node, self.cx.now);
            }
            self.map.want_refresh();
        }
        if action == ErrorAction::Surface && self.take_whole_script(id, conn, error) {
            return self.send_whole_script(id);
        }
        let Some(request) = self.requests.get(id) else {
            return;
        };
        let follows = matches!(self.phase, Phase::Clustered);
        let is_redirect = matches!(action, ErrorAction::FollowMoved(..) | ErrorAction::FollowAsk(..));
        let explained = (is_redirect && !follows).then(|| taken_as_alone(error));
        let error = explained.as_ref().unwrap_or(error);
        match action {
            ErrorAction::Surface => {
                // Unless it has read too early.
                let is_read = request.command.read_only;
                if !(is_read && self.requests.hold_behind_earlier(id)) {
                    self.finish(id, Err(Error::Server(error.clone())));
                }
            }
            ErrorAction::Authentication => self.finish(id, Err(Error::Authentication(error.to_string()))),
            action if matches!(request.target, Some(Target::Lent(_))) => {
                self.on_lent_refused(id, key, action, error);
            }
            _ if request.target.as_ref().is_some_and(Target::is_fixed) => {
                self.finish(id, Err(Error::Server(error.clone())));
            }
            _ if is_redirect && !follows => {
                self.finish(id, Err(Error::Server(error.clone())));
            }
            _ if self.requests.is_at_replica(id) => self.fall_back(id, key, error),
            ErrorAction::FollowMoved(_, address) => self.follow(id, Target::Moved(address), error),
            ErrorAction::FollowAsk(slot, address) => {
                self.cx.statistics.ask += 1;
                if own_slot == Some(slot) {
                    self.map.note_move(slot, self.cx.now);
                }
                self.follow(id, Target::Ask(address), error);
            }
            ErrorAction::WaitAndRetry => self.delay(id, key, error),
            ErrorAction::RefreshAndRetry => {
                self.map.want_refresh();
                self.delay(id, key, error);
            }
        }
    }

    /// The same, with the address at which the node is reached.
    pub(super) fn reachable(&self, action: ErrorAction) -> ErrorAction {
        let map = &self.cx.config.address_map;
        match action {
            ErrorAction::FollowMoved(slot, address) => ErrorAction::FollowMoved(slot, map.actual(address)),
            ErrorAction::FollowAsk(slot, address) => ErrorAction::FollowAsk(slot, map.actual(address)),
            other => other,
        }
    }

    /// The node that a redirect names, unless there are more than a cluster can have.
    pub(in crate::cluster) fn redirect_target(&mut self, address: &NodeAddr) -> Option<NodeKey> {
        let known = self.nodes.at(address).is_some() || self.nodes.len() < NODES_MAX;
        known.then(|| self.nodes.find(&self.cx, address))
    }
}

/// A redirect from a server that is taken for all there is: what the caller can do about it.
fn taken_as_alone(error: &ServerError) -> ServerError {
    const WHY: &str =
        "the server is a cluster's node, but is taken as one that is alone: set `mode` to cluster";
    ServerError { code: error.code.clone(), message: format!("{} ({WHY})", error.message) }
}
