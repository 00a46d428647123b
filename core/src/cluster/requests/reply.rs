//! What a request's reply means: its end, or where it goes next.

use alloc::format;
use alloc::string::{String, ToString};

use crate::cluster::ids::{ConnId, NodeKey, RequestId};
use crate::cluster::machine::{Cluster, Phase};
use crate::cluster::requests::error_policy::{ErrorAction, classify};
use crate::cluster::requests::request::{Stage, Target};
use crate::error::{Error, ServerError};
use crate::resp::RawReply;

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
            node.statistics_mut().latency.record(self.cx.now.saturating_since(request.sent_at));
        }
        let has_blocked = request.command.blocks.is_some();
        if let (true, Some(lease)) = (has_blocked, request.lease()) {
            self.start_clocks_behind(conn, lease);
        }
        let error = match self.requests.error_in(conn, id, &reply) {
            Ok(error) => error,
            Err(misfit) => return self.on_misfit(conn, id, misfit),
        };
        match error {
            Some(error) => self.on_error(conn, key, id, &error),
            None if self.requests.has_read_too_early(id) => {}
            None => {
                self.note_script(conn, id, &reply);
                self.answer(id, reply);
            }
        }
    }

    /// A server has refused a request, or sent it elsewhere.
    fn on_error(&mut self, conn: ConnId, key: NodeKey, id: RequestId, error: &ServerError) {
        let Some(request) = self.requests.get(id) else {
            return;
        };
        let mut asked = String::new();
        if let Some(node) = self.nodes.get_mut(key) {
            node.statistics_mut().count_error(&error.code);
            node.statistics_mut().redirects += u64::from(matches!(error.code.as_str(), "MOVED" | "ASK"));
            asked = node.address().host().to_string();
        }
        let action = self.reachable(classify(error, &asked, &request.command));
        let not_asking = self.links.why_not_asking(conn, id);
        if let (ErrorAction::FollowMoved(..) | ErrorAction::FollowAsk(..), Some(refusal)) =
            (&action, not_asking)
        {
            return self.finish(id, Err(Error::Server(refusal)));
        }
        let action = self.learn(conn, key, id, action, error);
        if action == ErrorAction::Surface && self.take_whole_script(id, conn, error) {
            return self.send_whole_script(id);
        }
        let is_redirect = matches!(action, ErrorAction::FollowMoved(..) | ErrorAction::FollowAsk(..));
        if is_redirect && !matches!(self.phase, Phase::Clustered) {
            self.act(key, id, action, &taken_as_alone(error));
        } else {
            self.act(key, id, action, error);
        }
    }

    /// Learns from an error what it says of the slots and of the connection. Gives what is to be
    /// done then.
    fn learn(
        &mut self,
        conn: ConnId,
        key: NodeKey,
        id: RequestId,
        action: ErrorAction,
        error: &ServerError,
    ) -> ErrorAction {
        // Of which slot it is for the command that was redirected is a guess where nothing is known
        // of the command.
        let own_slot = self.requests.get(id).and_then(|request| request.command.route.slot());
        match (&self.phase, &action) {
            // What it says of itself, and is not served: another node is meant.
            (Phase::Clustered, ErrorAction::FollowMoved(_, address))
                if self.nodes.at(address) == Some(key) =>
            {
                self.cx.statistics.moved += 1;
                self.map.want_refresh();
                if self.leave_stale(conn) { action } else { ErrorAction::WaitAndRetry }
            }
            (Phase::Standalone(_), ErrorAction::RefreshAndRetry) if error.code == "READONLY" => {
                if self.leave_stale(conn) { ErrorAction::WaitAndRetry } else { ErrorAction::Surface }
            }
            (Phase::Clustered, ErrorAction::FollowMoved(slot, address)) => {
                let slot = *slot;
                if let Some(node) = self.nodes.redirect_target(&self.cx, &address.clone()) {
                    self.cx.statistics.moved += 1;
                    if own_slot == Some(slot) {
                        if self.map.owner(slot) != Some(node) {
                            self.requests.hold_slot(slot);
                        }
                        self.map.patch(slot, node, self.cx.now);
                    }
                    self.map.want_refresh();
                }
                action
            }
            _ => action,
        }
    }

    /// Does with a request what an error asks for.
    fn act(&mut self, key: NodeKey, id: RequestId, action: ErrorAction, error: &ServerError) {
        let Some(request) = self.requests.get(id) else {
            return;
        };
        let own_slot = request.command.route.slot();
        let is_redirect = matches!(action, ErrorAction::FollowMoved(..) | ErrorAction::FollowAsk(..));
        let is_lent = matches!(request.target, Some(Target::Lent(_)));
        let is_fixed = request.target.as_ref().is_some_and(Target::is_fixed);
        match action {
            ErrorAction::Surface => {
                if !self.requests.has_read_too_early(id) {
                    self.finish(id, Err(Error::Server(error.clone())));
                }
            }
            ErrorAction::Authentication => self.finish(id, Err(Error::Authentication(error.to_string()))),
            action if is_lent => self.on_lent_refused(id, key, action, error),
            _ if is_fixed || (is_redirect && !matches!(self.phase, Phase::Clustered)) => {
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
    fn reachable(&self, action: ErrorAction) -> ErrorAction {
        let map = &self.cx.config.address_map;
        match action {
            ErrorAction::FollowMoved(slot, address) => ErrorAction::FollowMoved(slot, map.actual(address)),
            ErrorAction::FollowAsk(slot, address) => ErrorAction::FollowAsk(slot, map.actual(address)),
            other => other,
        }
    }
}

/// A redirect from a server that is taken for all there is: what the caller can do about it.
fn taken_as_alone(error: &ServerError) -> ServerError {
    const WHY: &str =
        "the server is a cluster's node, but is taken as one that is alone: set `mode` to cluster";
    ServerError { code: error.code.clone(), message: format!("{} ({WHY})", error.message) }
}
