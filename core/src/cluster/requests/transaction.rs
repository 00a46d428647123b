//! Transactions: MULTI, commands and EXEC as one request, in one write.
//!
//! ```text
//!   MULTI ─→ +OK   command ─→ +QUEUED or an error …   EXEC ─→ the replies, null, or an error: then none has run
//! ```
//!
//! All go to the node of their one slot, one behind the other, so nothing comes between them on a connection that others
//! share. When EXEC answers with an error, nothing was executed, and the reason decides what becomes of the whole: a redirect is
//! followed, a passing state waited for, and the transaction sent again; anything else is the caller's.
//!
//! One without commands is still asked of a server where keys are watched, to learn whether one of them has changed. Elsewhere there is
//! nothing to ask.
//!
//! Sources: Redis documentation, "Transactions"; `multi.c`, and `processCommand` in `server.c`, of Redis and Valkey.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::cluster::links::loss::Driver;
use crate::cluster::requests::request::Stage;
use crate::cluster::{Cluster, ConnId, RequestId};
use crate::error::{Error, ServerError};
use crate::resp::RawReply;

/// So many refusals are told.
const TOLD_MAX: usize = 4;

/// How EXEC begins to say that something was wrong with itself.
const BECAUSE: &str = "Transaction discarded because of: ";

/// What the servers have said of a transaction's commands before EXEC's answer.
#[derive(Debug, Default)]
pub(in crate::cluster) struct Queueing {
    /// How many have been answered, MULTI first.
    answers: u32,
    /// The first of the commands that were refused, by their numbers from 1 on; MULTI is 0.
    refusals: Vec<(u32, ServerError)>,
    /// Something else than `+QUEUED` came: there is no transaction, and it was executed at once.
    is_executed: bool,
}

/// Why answers are no answers to a transaction, and whether the connection is in doubt for it.
pub(super) struct Misfit {
    error: Error,
    in_doubt: bool,
}

impl Cluster {
    /// The answer to MULTI, or to a command after it.
    pub(in crate::cluster) fn on_queued(&mut self, conn: ConnId, id: RequestId, reply: &RawReply) {
        let Some(request) = self.requests.get_mut(id) else {
            return;
        };
        if request.stage != Stage::OnConnection(conn) {
            return;
        }
        let queueing = request.queueing.get_or_insert_default();
        let number = queueing.answers;
        queueing.answers += 1;
        match reply.as_kept_error() {
            Some(error) if queueing.refusals.len() < TOLD_MAX => queueing.refusals.push((number, error)),
            Some(_) => {}
            None => {
                let expected: &[u8] = if number == 0 { b"+OK\r\n" } else { b"+QUEUED\r\n" };
                queueing.is_executed |= **reply.as_bytes() != *expected;
            }
        }
    }

    /// The error in a request's reply, if it is one. What fits no answer to a transaction is told apart.
    pub(super) fn error_in(
        &self,
        conn: ConnId,
        id: RequestId,
        reply: &RawReply,
    ) -> Result<Option<ServerError>, Misfit> {
        let is_transaction =
            self.requests.on(conn, id).is_some_and(|request| request.command.queued.is_some());
        if !is_transaction {
            return Ok(reply.as_kept_error());
        }
        if let Some((error, in_doubt)) = self.executed_without_multi(id) {
            return Err(Misfit { error, in_doubt });
        }
        if let Some(error) = self.misfit_of_exec(id, reply) {
            return Err(Misfit { error, in_doubt: true });
        }
        Ok(self.why_discarded(id, reply))
    }

    /// Ends a transaction whose answers are none, and its connection when that is in doubt.
    pub(super) fn on_misfit(&mut self, conn: ConnId, id: RequestId, Misfit { error, in_doubt }: Misfit) {
        self.finish(id, Err(error.clone()));
        if in_doubt {
            self.lose(conn, error, Driver::MustClose);
        }
    }

    /// What is wrong when the server has refused MULTI, and taken the commands each for itself; and whether its answers
    /// are no answers to a transaction at all, which leaves the connection in doubt.
    fn executed_without_multi(&self, id: RequestId) -> Option<(Error, bool)> {
        let queueing = self.requests.get(id)?.queueing.as_ref().filter(|queueing| queueing.is_executed)?;
        let (why, in_doubt) = match queueing.refusals.first() {
            Some((0, error)) => (format!("refused MULTI ({error})"), false),
            _ => (String::from("did not answer +OK and +QUEUED"), true),
        };
        let text = format!("the server {why} and has executed commands of the transaction one by one");
        Some((Error::Protocol(text), in_doubt))
    }

    /// What is wrong with EXEC's answer, which is no error: it is null, or has one result for each command.
    fn misfit_of_exec(&self, id: RequestId, reply: &RawReply) -> Option<Error> {
        let queued = self.requests.get(id)?.command.queued? as usize;
        let root = reply.root()?;
        let results = || reply.children().take(queued + 1).count();
        let is_error = matches!(root.marker, b'-' | b'!');
        if is_error || root.is_null() || (root.marker == b'*' && results() == queued) {
            return None;
        }
        let text = format!("EXEC was answered with {}, not with {queued} results", root.kind());
        Some(Error::Protocol(text))
    }

    /// The error that EXEC has answered, with its reason where that is known.
    fn why_discarded(&self, id: RequestId, reply: &RawReply) -> Option<ServerError> {
        let error = reply.as_kept_error()?;
        let queueing = self.requests.get(id).and_then(|request| request.queueing.as_ref());
        let refusals = queueing.map_or(&[][..], |queueing| &queueing.refusals);
        // Without MULTI there is no transaction that EXEC could end.
        if let Some((0, refusal)) = refusals.first() {
            return Some(refusal.clone());
        }
        if error.code != "EXECABORT" {
            return Some(error);
        }
        if let Some(reason) = error.message.strip_prefix(BECAUSE) {
            let (code, message) = reason.trim_start_matches('-').split_once(' ').unwrap_or((reason, ""));
            return Some(ServerError { code: code.into(), message: message.into() });
        }
        match refusals {
            [] => Some(error),
            // It decides what is done.
            [(_, refusal), ..] if is_passing(refusal) => Some(refusal.clone()),
            _ => {
                let told = refusals.iter().map(|(number, refusal)| format!("command {number}: {refusal}"));
                let message = format!("{} ({})", error.message, told.collect::<Vec<_>>().join("; "));
                Some(ServerError { code: error.code, message })
            }
        }
    }
}

/// Whether a command was refused for what the client deals with itself.
fn is_passing(error: &ServerError) -> bool {
    matches!(error.code.as_str(), "MOVED" | "ASK") || crate::cluster::requests::error_policy::passes(error)
}

/// As it is kept in a request.
pub(in crate::cluster) type QueueingBox = Box<Queueing>;
