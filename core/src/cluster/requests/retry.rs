//! Going around again: redirects that are followed, waits, connections that ended.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::ToString;
use core::time::Duration;

use super::PROMPT_REDIRECTS;
use super::end::{interrupted, last_word};
use crate::address::NodeAddr;
use crate::cluster::events::Event;
use crate::cluster::ids::{ConnId, NodeKey, RequestId};
use crate::cluster::machine::Cluster;
use crate::cluster::requests::request::{Stage, Target};
use crate::error::{Error, ServerError};

/// So long a replica that could not serve a read gets no other.
const AVOID: Duration = Duration::from_secs(1);

impl Cluster {
    /// Sends a request where a redirect points.
    pub(super) fn follow(&mut self, id: RequestId, target: Target, error: &ServerError) {
        let reachable = match &target {
            Target::Moved(address) | Target::Ask(address) => {
                let address = address.clone();
                self.nodes.redirect_target(&self.cx, &address).is_some()
            }
            Target::Node(_) | Target::Lent(_) | Target::Scan(_) => true,
        };
        let max_redirects = self.cx.config.max_redirects;
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
        if self.requests.hold_behind_earlier(id) || (is_ask && self.requests.hold_asked(id)) {
            return;
        }
        // The nodes disagree: what comes later must not find them agreed before.
        if redirects > 1 {
            self.requests.block_later(id);
        }
        if is_ask || redirects <= PROMPT_REDIRECTS {
            return self.dispatch(id);
        }
        self.requests.delay_redirect(&mut self.cx, id, redirects);
    }

    /// Lets a request wait before it is routed anew.
    pub(in crate::cluster) fn delay(&mut self, id: RequestId, key: NodeKey, error: &ServerError) {
        let retry = self.cx.config.retry;
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
        if self.requests.hold_behind_earlier(id) {
            return;
        }
        self.requests.block_later(id);
        let wait = self.cx.random.backoff(retry.base, retry.cap, retries);
        self.requests.wait_until(id, self.cx.now + wait);
    }

    /// Sends a request again that has the whole script now.
    pub(super) fn send_whole_script(&mut self, id: RequestId) {
        if self.requests.hold_behind_earlier(id) {
            return;
        }
        self.requests.block_later(id);
        self.dispatch(id);
    }

    /// Counts that a request is sent again, from the beginning.
    pub(in crate::cluster) fn send_again(&mut self, id: RequestId, node: Option<NodeKey>, reason: &str) {
        let Some(request) = self.requests.get_mut(id) else {
            return;
        };
        request.retries += 1;
        request.redirects = 0;
        request.target.take_if(|target| !target.is_fixed());
        self.cx.statistics.retries += 1;
        let attempt = request.retries;
        if let Some(node) = node.and_then(|key| self.nodes.get_mut(key)) {
            node.statistics_mut().retries += 1;
            let event = Event::Retried { node: node.address().clone(), reason: reason.to_string(), attempt };
            self.cx.tell(event);
        }
    }

    /// A delayed request's wait is over.
    pub(in crate::cluster) fn retry(&mut self, id: RequestId) {
        let is_due = self.requests.get(id).is_some_and(|request| request.stage == Stage::Delayed);
        if is_due && !self.requests.hold_behind_earlier(id) {
            self.requests.set_stage(id, Stage::Nowhere);
            if !self.resume_lease(id) {
                self.dispatch(id);
            }
        }
    }

    /// A request's connection ended before its reply. `sent`: its bytes have left the machine.
    pub(in crate::cluster) fn on_unanswered(
        &mut self,
        conn: ConnId,
        id: RequestId,
        sent: bool,
        node: &NodeAddr,
        reason: &str,
    ) {
        let Some(request) = self.requests.get(id) else {
            return;
        };
        if request.stage != Stage::OnConnection(conn) {
            return;
        }
        let is_fixed = request.target.as_ref().is_some_and(Target::is_fixed);
        if is_fixed || (sent && !self.requests.may_resend(&self.cx.config, id)) {
            let lost = interrupted(Some(node), reason.to_string(), sent);
            return self.finish(id, Err(Error::ConnectionLost(lost)));
        }
        let key = self.nodes.at(node);
        if let Some(request) = self.requests.get_mut(id) {
            request.primary_only |= request.at_replica;
            request.target = None;
            request.stalled &= !sent;
        }
        if sent {
            self.send_again(id, key, reason);
        }
        self.requests.set_stage(id, Stage::Nowhere);
        self.dispatch(id);
    }

    /// Sends a read to the primary that a replica could not serve.
    pub(in crate::cluster) fn fall_back(&mut self, id: RequestId, key: NodeKey, error: &ServerError) {
        if let Some(node) = self.nodes.get_mut(key) {
            node.avoid_reads_until(self.cx.now + AVOID);
        }
        self.map.want_refresh();
        self.send_again(id, Some(key), &error.to_string());
        if let Some(request) = self.requests.get_mut(id) {
            request.primary_only = true;
        }
        self.requests.set_stage(id, Stage::Nowhere);
        self.dispatch(id);
    }
}
