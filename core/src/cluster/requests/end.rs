//! A request's one end.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};

use super::Ended;
use crate::address::NodeAddr;
use crate::cluster::ids::RequestId;
use crate::cluster::io::Output;
use crate::cluster::machine::Cluster;
use crate::cluster::news::News;
use crate::cluster::requests::parts::Gather;
use crate::cluster::requests::request::Stage;
use crate::error::{Error, Interrupted, ServerError};
use crate::resp::RawReply;

impl Cluster {
    /// Ends a request that is on a connection, with its reply. As `finish`, the short way.
    pub(super) fn answer(&mut self, id: RequestId, reply: RawReply) {
        let Some(request) = self.requests.remove_answered(id) else {
            return;
        };
        if let Some(lease) = request.own_lease {
            self.news.push_back(News::LeaseIsOver(lease));
        }
        match request.parent {
            Some(parent) => {
                self.news.push_back(News::PartEnded { parent, stage: request.stage, result: Ok(reply) });
            }
            None => self.cx.output(Output::Done { token: request.token, result: Ok(reply) }),
        }
    }

    /// Ends a request.
    pub(in crate::cluster) fn finish(&mut self, id: RequestId, result: Result<RawReply, Error>) {
        let Some(request) = self.requests.get(id) else {
            return;
        };
        // A copy that got no answer may have run, whatever has become of the last.
        let result = if request.may_have_run { result.map_err(doubt) } else { result };
        let (parent, stage, token) = (request.parent, request.stage, request.token);
        self.abandon(id);
        match parent {
            Some(parent) => self.news.push_back(News::PartEnded { parent, stage, result }),
            None => self.cx.output(Output::Done { token, result }),
        }
    }

    /// Takes a request out, wherever it is. What a connection still receives for it is dropped.
    pub(in crate::cluster) fn abandon(&mut self, id: RequestId) {
        let Some(Ended { stage, lease, own_lease, gather }) = self.requests.remove(id) else {
            return;
        };
        self.abandon_parts(gather);
        match stage {
            Stage::AtNode(node) => {
                if let Some(node) = self.nodes.get_mut(node) {
                    node.queue_mut().forget(id, |id| self.requests.contains(id));
                }
            }
            Stage::AtLease(lease) => {
                self.pool.forget_waiting(&self.cx, lease, id, |id| self.requests.contains(id));
            }
            Stage::Delayed => {
                if let Some(lease) = lease {
                    self.news.push_back(News::FirstIsGone(lease));
                }
            }
            Stage::AtScan(scan) => self.scans.forget_waiting(scan, id, |id| self.requests.contains(id)),
            Stage::Nowhere
            | Stage::Unrouted
            | Stage::OnConnection(_)
            | Stage::InOrder(_)
            | Stage::Gathering => {}
        }
        // With a reply outstanding it is closed: nothing is taken from a list for nobody.
        if let Some(lease) = own_lease {
            self.news.push_back(News::LeaseIsOver(lease));
        }
        self.requests.sweep();
    }

    /// Gives the parts of a request up with it.
    pub(super) fn abandon_parts(&mut self, gather: Option<Box<Gather>>) {
        for part in gather.map(|gather| gather.parts).into_iter().flatten() {
            if let Some(id) = part.id {
                self.abandon(id);
            }
        }
    }
}

/// What a request ends with that was never answered with anything but passing errors.
pub(super) fn last_word(error: ServerError, may_have_run: bool) -> Error {
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

pub(super) fn interrupted(node: Option<&NodeAddr>, message: String, possibly_executed: bool) -> Interrupted {
    Interrupted { node: node.map(ToString::to_string).unwrap_or_default(), message, possibly_executed }
}
