//! Requests over a dedicated connection, or behind one that is still to come.

use alloc::format;
use alloc::string::{String, ToString};

use super::lease::{Lease, LeaseState, given_back};
use crate::cluster::ids::{LeaseId, RequestId};
use crate::cluster::links::connection::Expected;
use crate::cluster::machine::{Cluster, Phase};
use crate::cluster::requests::request::{Request, Stage};
use crate::command::route::Route;

impl Cluster {
    /// Lets a request wait for its lease's next connection.
    pub(in crate::cluster) fn wait_at_lease(&mut self, id: RequestId, lease: Option<LeaseId>) {
        if let Some((id_of_lease, lease)) = lease.and_then(|id| Some((id, self.pool.get_mut(id)?)))
            && self.requests.contains(id)
        {
            lease.queue.push_back(id);
            self.requests.set_stage(id, Stage::AtLease(id_of_lease));
        }
    }

    /// Puts a request on the connection that its caller has been lent.
    pub(in crate::cluster) fn send_on_lease(&mut self, id: RequestId, lease: LeaseId) {
        let (conn, is_asked) = match self.pool.get_mut(lease) {
            Some(Lease { state: LeaseState::Held(conn), asked, sent, .. }) => {
                *sent += 1;
                (*conn, asked.is_some())
            }
            Some(Lease { state: LeaseState::Ended(error), .. }) => {
                let error = error.clone();
                return self.finish(id, Err(error));
            }
            Some(waiting) => {
                waiting.queue.push_back(id);
                return self.requests.set_stage(id, Stage::AtLease(lease));
            }
            None => return self.finish(id, Err(given_back(String::new(), false))),
        };
        let Some(connection) = self.links.get_mut(conn) else {
            return;
        };
        // What is queued after MULTI could not be mended.
        let in_multi = connection.dedicated().is_some_and(|dedicated| dedicated.is_in_multi());
        let run: &[u32] = if in_multi { &[] } else { connection.scripts() };
        let Some(request) = self.requests.prepare(&self.cx, id, run) else {
            return;
        };
        if let Some(dedicated) = connection.dedicated() {
            dedicated.note(request.command().effect);
            dedicated.note_blocks(request.command().blocks.is_some());
        }
        let key = connection.node();
        if is_asked {
            self.links.send_words(&mut self.cx, conn, &["ASKING"], Expected::Asking);
        }
        self.links.send(&mut self.cx, conn, request.command(), id);
        if let Some(node) = self.nodes.get_mut(key) {
            node.statistics_mut().commands += 1;
        }
        self.requests.set_stage(id, Stage::OnConnection(conn));
    }

    /// Why no node could serve a request for a holder: its keys, or those of a transaction and what
    /// is watched, are in several slots.
    pub(in crate::cluster) fn spans_slots(&self, request: &Request, lease: LeaseId) -> Option<String> {
        let own = self.pool.get(lease)?.slot();
        match &request.command().route {
            _ if !matches!(self.phase, Phase::Clustered) => None,
            Route::CrossSlot(why) => Some(why.to_string()),
            Route::Slot(slot)
                if request.command().queued.is_some() && own.is_some_and(|own| own != *slot) =>
            {
                let own = own?;
                Some(format!("the transaction is for slot {slot}, the connection was lent for slot {own}"))
            }
            Route::Slot(_) | Route::Any | Route::OneNode => None,
        }
    }
}
