//! When a server refuses what was sent over a lent connection.
//!
//! The first command decides where a holder belongs: when it is redirected, or has to wait, the
//! holder moves on with it, to a connection of the node where the slot is. From the second on there
//! may be a WATCH that moving would lose: then the server's word is the caller's.

use alloc::format;

use crate::cluster::ids::{LeaseId, NodeKey, RequestId};
use crate::cluster::machine::{Cluster, Phase};
use crate::cluster::requests::PROMPT_REDIRECTS;
use crate::cluster::requests::error_policy::ErrorAction;
use crate::cluster::requests::request::Target;
use crate::error::{Error, ServerError};
use crate::resp::RawReply;

impl Cluster {
    /// Decides about a request on a lent connection that was answered with an error that is not its
    /// own.
    pub(in crate::cluster) fn on_lent_refused(
        &mut self,
        id: RequestId,
        key: NodeKey,
        action: ErrorAction,
        error: &ServerError,
    ) {
        let Some(request) = self.requests.get(id) else {
            return;
        };
        let Some(&Target::Lent(lease)) = request.target() else {
            return;
        };
        let is_transaction = request.command().queued.is_some();
        let slot = match &action {
            ErrorAction::FollowMoved(slot, _) | ErrorAction::FollowAsk(slot, _) => Some(*slot),
            _ => None,
        };
        let moves = self.pool.get(lease).is_some_and(|lease| lease.may_move(slot))
            && (slot.is_none() || matches!(self.phase, Phase::Clustered));
        if moves {
            self.requests.give_time_back(&self.cx, id);
        }
        match action {
            // What was watched is elsewhere, or may have changed: as if it had.
            _ if !moves && is_transaction => self.finish(id, Ok(RawReply::null())),
            _ if !moves => self.finish(id, Err(Error::Server(error.clone()))),
            ErrorAction::FollowMoved(..) => self.follow_lent(id, lease, None, error),
            ErrorAction::FollowAsk(_, address) => {
                self.cx.statistics.ask += 1;
                let node = self.nodes.redirect_target(&self.cx, &address);
                self.follow_lent(id, lease, node, error);
            }
            ErrorAction::WaitAndRetry | ErrorAction::RefreshAndRetry => {
                if action == ErrorAction::RefreshAndRetry {
                    self.map.want_refresh();
                }
                self.delay(id, key, error);
                self.pause_lease(id, lease);
            }
            ErrorAction::Authentication | ErrorAction::Surface => {
                self.finish(id, Err(Error::Server(error.clone())));
            }
        }
    }

    /// Sends a holder's first command where a redirect points.
    fn follow_lent(&mut self, id: RequestId, lease: LeaseId, asked: Option<NodeKey>, error: &ServerError) {
        let max_redirects = self.cx.config.max_redirects;
        let Some(request) = self.requests.get_mut(id) else {
            return;
        };
        let redirects = request.note_redirect();
        if redirects > max_redirects {
            let text = format!("the last of {redirects} was {error}");
            return self.finish(id, Err(Error::RedirectLimit(text)));
        }
        if asked.is_some() || redirects <= PROMPT_REDIRECTS {
            self.move_lease(lease, asked);
            return self.dispatch(id);
        }
        self.requests.delay_redirect(&mut self.cx, id, redirects);
        self.pause_lease(id, lease);
    }
}
