//! What a request ends with whose time has run out: it says what it was waiting for.

use alloc::format;
use alloc::string::ToString;

use super::end::{interrupted, last_word};
use super::request::Request;
use crate::cluster::ids::RequestId;
use crate::cluster::links::ended::Driver;
use crate::cluster::machine::{Cluster, Phase};
use crate::cluster::news::News;
use crate::cluster::nodes::node::Node;
use crate::cluster::requests::request::Stage;
use crate::command::route::Route;
use crate::error::{Error, Within};

impl Cluster {
    /// A request's time has run out.
    pub(in crate::cluster) fn time_out(&mut self, id: RequestId) {
        let Some(request) = self.requests.get(id) else {
            return;
        };
        // Its parts end at the same time, each with its own reason. One that waits anew has more
        // time.
        if request.stage == Stage::Gathering || request.deadline > self.cx.now {
            return;
        }
        if let Stage::AtScan(scan) = request.stage {
            // What was asked for it says why, and is as late.
            for asked in self.scans.asked(scan) {
                self.time_out(asked);
            }
            return self.news.push_back(News::BatchIsLate(id, scan));
        }
        let stage = request.stage;
        let conn = if let Stage::OnConnection(conn) = stage { self.links.get(conn) } else { None };
        let is_unsent = conn.is_some_and(|connection| connection.has_unsent(id));
        let error = self.why_late(request, is_unsent);
        self.finish(id, Err(error.clone()));
        match stage {
            // It must not be sent after all. What is queued with it goes over another connection.
            Stage::OnConnection(conn) if is_unsent => {
                let reason = "what came in could not be read to its end".to_string();
                self.lose(conn, Error::Connect(reason), Driver::MustClose);
            }
            Stage::OnConnection(conn) => self.check_stalled(conn, id),
            // What was to follow it must not be executed without it: a transaction without its
            // MULTI.
            Stage::AtLease(lease) => self.end_lease(lease, &error),
            _ => {}
        }
    }

    /// What a request ends with whose time has run out: by where it is, and what it was refused
    /// with before.
    fn why_late(&self, request: &Request, is_unsent: bool) -> Error {
        let (stage, last_error) = (request.stage, request.last_error.clone());
        let (stalled, may_have_run) = (request.stalled, request.may_have_run);
        // Without a server's error, it was sent again because its connection had ended.
        let lost = request.retries;
        let within = Within(self.cx.config.request_timeout).to_string();
        match (stage, last_error) {
            (Stage::OnConnection(conn), _) => {
                let node = self.links.get(conn).and_then(|connection| self.nodes.get(connection.node()));
                let address = node.map(Node::address);
                match is_unsent {
                    true => Error::Timeout(interrupted(address, format!("not sent within {within}"), false)),
                    false => Error::Timeout(interrupted(address, format!("no reply within {within}"), true)),
                }
            }
            (_, Some(error)) => last_word(*error, may_have_run),
            (Stage::AtLease(lease), None) => self.lease_error(lease),
            (Stage::AtNode(node), None) if lost > 0 => {
                let node = self.nodes.get(node);
                let reason = node.map(|node| node.last_error().to_string()).unwrap_or_default();
                let address = node.map(Node::address);
                let message =
                    format!("sent {lost} times within {within} without an answer, at last: {reason}");
                let interrupted = interrupted(address, message, true);
                if stalled { Error::Timeout(interrupted) } else { Error::ConnectionLost(interrupted) }
            }
            (Stage::AtNode(node), None) => match self.nodes.get(node) {
                Some(node) if !node.last_error().is_empty() => {
                    Error::Connect(format!("{}: {}", node.address(), node.last_error()))
                }
                other => {
                    let address = other.map(Node::address);
                    let mut message = format!("no connection within {within}");
                    if self.nodes.lacks_room(node) {
                        message.push_str(": ");
                        message.push_str(&self.links.why_no_room(&self.cx));
                    }
                    Error::Timeout(interrupted(address, message, false))
                }
            },
            (Stage::Unrouted, None) if matches!(self.phase, Phase::Clustered) => {
                Error::ClusterDown(match &request.command.route {
                    Route::Slot(slot) => {
                        format!("no node serves slot {slot}, and none turned up within {within}")
                    }
                    _ => format!("no node serves any slot, and none turned up within {within}"),
                })
            }
            (_, None) => Error::Timeout(interrupted(None, format!("not sent within {within}"), false)),
        }
    }
}
