//! The parts of a request that several nodes answer, and how their results become one.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::cluster::ids::RequestId;
use crate::command::merge::{self, Merge};
use crate::command::prepared::Command;
use crate::command::route::quoted;
use crate::command::split;
use crate::command::{ResponsePolicy, find};
use crate::error::{Error, Interrupted, ServerError};
use crate::resp::RawReply;

/// How many keys or nodes an error names.
const NAMED_MAX: usize = 8;

/// Enough when one has done it.
const ONE_SUCCEEDED: Merge = Merge::By(ResponsePolicy::OneSucceeded);

/// The parts of one request.
#[derive(Debug, Default)]
pub(in crate::cluster) struct Gather {
    pub(super) parts: Vec<PartState>,
    /// How many have not ended.
    pub(super) open: usize,
    /// How large the replies are together.
    pub(super) size: u64,
}

impl Gather {
    /// The parts that have not ended.
    pub(super) fn under_way(&self) -> impl Iterator<Item = RequestId> {
        self.parts.iter().filter_map(|part| part.id)
    }
}

#[derive(Debug)]
pub(super) struct PartState {
    pub(super) id: Option<RequestId>,
    /// For errors: whose part it is.
    pub(super) name: String,
    /// Which of the command's keys it has; none for a part that is a whole command.
    pub(super) keys: Vec<u32>,
    pub(super) outcome: Option<Result<RawReply, Error>>,
}

/// One result of all parts' results.
pub(super) fn conclude(command: &Command, gather: Gather, chance: usize) -> Result<RawReply, Error> {
    let tolerates = command.merge == ONE_SUCCEEDED;
    let is_ok = |part: &PartState| matches!(part.outcome, Some(Ok(_)));
    let enough = if tolerates { gather.parts.iter().any(is_ok) } else { gather.parts.iter().all(is_ok) };
    if !enough {
        return Err(failure(command, &gather));
    }
    if let Some(error) = disagreement(command, &gather) {
        return Err(error);
    }
    let answered = |part: PartState| Some((part.keys, part.outcome?.ok()?));
    let parts: Vec<_> = gather.parts.into_iter().filter_map(answered).collect();
    merge::merge(command.merge, &parts, chance).map_err(Error::Protocol)
}

/// The error when all are to say the same, and some have said otherwise: a success that some have
/// not had is none.
fn disagreement(command: &Command, gather: &Gather) -> Option<Error> {
    if command.merge != Merge::By(ResponsePolicy::AllSucceeded) {
        return None;
    }
    let mut answers = gather.parts.iter().filter_map(|part| match &part.outcome {
        Some(Ok(reply)) => Some((part, reply)),
        _ => None,
    });
    let (first, reply) = answers.next()?;
    let others = answers.filter(|(_, other)| !merge::is_the_same(reply, other)).map(|(part, _)| part);
    others.clone().next()?;
    let message = format!(
        "the parts were not answered alike; one answer to {}, another to {}",
        title(command, &[first].into_iter()),
        title(command, &others),
    );
    Some(Error::PartlyExecuted(Interrupted { node: String::new(), message, possibly_executed: true }))
}

/// Whether a part's error leaves it open that it was executed.
fn may_have_run(error: &Error) -> bool {
    match error {
        Error::ConnectionLost(interrupted) | Error::Timeout(interrupted) => interrupted.possibly_executed,
        Error::Protocol(_) | Error::LimitExceeded(_) => true,
        _ => false,
    }
}

/// Whether two servers refuse in the same words. What they quote of the arguments differs where
/// each has its own.
fn is_the_same_refusal(one: &Error, other: &Error) -> bool {
    let words = |error: &ServerError| {
        let quoted = error.message.find(", with args beginning with:");
        error.message.get(..quoted.unwrap_or(error.message.len())).map(String::from)
    };
    match (one, other) {
        (Error::Server(one), Error::Server(other)) => {
            one == other || (one.code == other.code && words(one) == words(other))
        }
        _ => one == other,
    }
}

/// The error of a command of which some parts failed: the one that all have, or the first one's,
/// with what became of the others.
fn failure(command: &Command, gather: &Gather) -> Error {
    let done = gather.parts.iter().filter(|part| matches!(part.outcome, Some(Ok(_)))).count();
    let failed = gather.parts.iter().filter_map(|part| match &part.outcome {
        Some(Err(error)) => Some((part, error)),
        _ => None,
    });
    let Some((first, error)) = failed.clone().next() else {
        return Error::Protocol("a part has no result".to_string());
    };
    if done == 0 && failed.clone().all(|(_, other)| is_the_same_refusal(error, other)) {
        return error.clone();
    }
    // What says most: that a part may have been executed although none has answered; or, of those
    // that have nothing to kill, the one that has.
    let says_more = |(_, error): &(&PartState, &Error)| match error {
        Error::Server(error) => command.merge == ONE_SUCCEEDED && error.code != "NOTBUSY",
        error => done == 0 && may_have_run(error),
    };
    let (first, error) = failed.clone().find(says_more).unwrap_or((first, error));
    let all = gather.parts.len();
    let mut text =
        format!("{done} of {all} parts succeeded; failed: {}", title(command, &[first].into_iter()));
    let others = failed.clone().map(|(part, _)| part).filter(|part| !core::ptr::eq(*part, first));
    if others.clone().next().is_some() {
        text.push_str("; also, for other reasons or the same: ");
        text.push_str(&title(command, &others));
    }
    let possibly_executed = done > 0 || failed.clone().any(|(_, error)| may_have_run(error));
    let interrupted = |node: &str, why: &dyn core::fmt::Display| Interrupted {
        node: node.to_string(),
        message: format!("{why} ({text})"),
        possibly_executed,
    };
    match error {
        Error::Timeout(late) => Error::Timeout(interrupted(&late.node, &late.message)),
        Error::ConnectionLost(lost) => Error::ConnectionLost(interrupted(&lost.node, &lost.message)),
        Error::Closed => Error::Closed,
        // No other error would say that a part of it was executed.
        other if possibly_executed && !command.read_only => Error::PartlyExecuted(interrupted("", other)),
        Error::Server(error) => Error::Server(ServerError {
            code: error.code.clone(),
            message: format!("{} ({text})", error.message),
        }),
        Error::Connect(why) => Error::Connect(format!("{why} ({text})")),
        Error::ClusterDown(why) => Error::ClusterDown(format!("{why} ({text})")),
        Error::RedirectLimit(why) => Error::RedirectLimit(format!("{why} ({text})")),
        Error::Authentication(why) => Error::Authentication(format!("{why} ({text})")),
        Error::LimitExceeded(why) => Error::LimitExceeded(format!("{why} ({text})")),
        Error::Protocol(why) => Error::Protocol(format!("{why} ({text})")),
        other => other.clone(),
    }
}

/// Whose parts these are, for people: their keys, or their nodes.
fn title<'a>(command: &Command, parts: &(impl Iterator<Item = &'a PartState> + Clone)) -> String {
    let args = command.args();
    let of_keys = |part: &'a PartState| {
        let key = |number: &u32| split::key_at(find(&args), &args, *number as usize).map(quoted);
        part.keys.iter().filter_map(key).collect::<Vec<_>>()
    };
    let names = parts
        .clone()
        .flat_map(|part| if part.keys.is_empty() { Vec::from([part.name.clone()]) } else { of_keys(part) });
    let count = names.clone().count();
    let mut text = names.take(NAMED_MAX).collect::<Vec<_>>().join(", ");
    if count > NAMED_MAX {
        text.push_str(&format!(" and {} more", count - NAMED_MAX));
    }
    text
}
