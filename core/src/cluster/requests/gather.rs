//! Commands that several nodes have to answer: sent to all at once, merged into one reply.
//!
//! ```text
//!   request ─ scatter ─→ parts, each a request of its own ─ the last one ends ─→ merge ─→ the request's end
//! ```
//!
//! Parts go their own ways: each is redirected, retried and timed out like any request, and all have the whole's
//! deadline. It is not atomic. When parts fail, the error says which keys, or which nodes, did what; it is "possibly executed" as
//! soon as one part is, or has been executed.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::cluster::requests::request::{Parent, Stage, Target};
use crate::cluster::{Cluster, Output, RequestId};
use crate::command::merge::{self, Merge};
use crate::command::prepared::{Command, Spread};
use crate::command::route::{Route, quoted};
use crate::command::split;
use crate::command::{ResponsePolicy, find};
use crate::error::{Error, Interrupted, ServerError};
use crate::resp::RawReply;
use crate::topology::{Health, Role};

/// How many keys or nodes an error names.
const NAMED_MAX: usize = 8;

/// Enough when one has done it.
const ONE_SUCCEEDED: Merge = Merge::By(ResponsePolicy::OneSucceeded);

/// The parts of one request.
#[derive(Debug, Default)]
pub(in crate::cluster) struct Gather {
    parts: Vec<PartState>,
    /// How many have not ended.
    open: usize,
    /// How large the replies are together.
    size: u64,
}

impl Gather {
    /// The parts that have not ended.
    pub(in crate::cluster) fn under_way(&self) -> impl Iterator<Item = RequestId> {
        self.parts.iter().filter_map(|part| part.id)
    }
}

#[derive(Debug)]
struct PartState {
    id: Option<RequestId>,
    /// For errors: whose part it is.
    name: String,
    /// Which of the command's keys it has; none for a part that is a whole command.
    keys: Vec<u32>,
    outcome: Option<Result<RawReply, Error>>,
}

impl Cluster {
    /// Sends the parts of a request that concerns several nodes. False when it concerns one: then it is sent whole.
    pub(in crate::cluster) fn scatter(&mut self, id: RequestId) -> bool {
        let Some(request) = self.requests.get(id) else {
            return false;
        };
        let (deadline, serial) = (request.deadline, request.serial);
        let parts = match request.command.spread {
            Spread::None => return false,
            Spread::Keys if !self.cx.config.split_multi_key => return false,
            Spread::Keys => self.parts_by_slot(&request.command.clone()),
            Spread::Shards => self.parts_by_shard(&request.command.clone()),
            Spread::Nodes => self.parts_by_node(&request.command.clone()),
        };
        if parts.is_empty() {
            return false;
        }
        let states = parts.iter().map(|(_, _, name, keys)| PartState {
            id: None,
            name: name.clone(),
            keys: keys.clone(),
            outcome: None,
        });
        let gather = Gather { parts: states.collect(), open: parts.len(), size: 0 };
        self.requests.set_stage(id, Stage::Gathering);
        if let Some(request) = self.requests.get_mut(id) {
            request.gather = Some(Box::new(gather));
        }
        for (index, (command, target, ..)) in parts.into_iter().enumerate() {
            let parent = Parent::Whole { id, part: u32::try_from(index).unwrap_or(u32::MAX) };
            let part = self.requests.add_part(&self.cx, command, target, serial, deadline, parent);
            if let Some(state) = self.part(id, index) {
                state.id = Some(part);
            }
            self.dispatch(part);
            if self.requests.contains(part) {
                self.requests.set_deadline(part, deadline);
                self.refuse_beyond_limits(part);
            }
        }
        true
    }

    fn part(&mut self, id: RequestId, index: usize) -> Option<&mut PartState> {
        self.requests.get_mut(id)?.gather.as_mut()?.parts.get_mut(index)
    }

    fn parts_by_slot(&self, command: &Command) -> Vec<PartPlan> {
        let args = command.args();
        let parts = split::split(find(&args), &args).unwrap_or_default();
        let parts = parts.into_iter().map(|part| {
            let name = String::new();
            (command.part(part.frame, Route::Slot(part.slot)), None, name, part.keys)
        });
        parts.collect()
    }

    /// One part for the primary of each shard, found by one of its slots: so it follows a failover.
    fn parts_by_shard(&self, command: &Command) -> Vec<PartPlan> {
        let parts = self.map.first_slots().into_iter().filter_map(|(owner, slot)| {
            let name = self.nodes.get(owner)?.address.to_string();
            Some((command.part(command.frame.clone(), Route::Slot(slot)), None, name, Vec::new()))
        });
        parts.collect()
    }

    /// As for the shards, and one for each replica that is well.
    fn parts_by_node(&self, command: &Command) -> Vec<PartPlan> {
        let mut parts = self.parts_by_shard(command);
        let members = self.map.topology().shards.iter().flat_map(|shard| &shard.nodes);
        let is_well = |health| matches!(health, Health::Online | Health::Unknown);
        for member in members.filter(|member| member.role == Role::Replica && is_well(member.health)) {
            let target = Some(Target::Node(member.address.clone()));
            let part = command.part(command.frame.clone(), Route::Any);
            parts.push((part, target, member.address.to_string(), Vec::new()));
        }
        parts
    }

    /// A part has ended.
    pub(in crate::cluster) fn on_part(&mut self, id: RequestId, part: u32, result: Result<RawReply, Error>) {
        let limit = self.cx.config.limits.reply_size;
        let Some(gather) = self.requests.get_mut(id).and_then(|request| request.gather.as_mut()) else {
            return;
        };
        gather.size += result.as_ref().map_or(0, RawReply::size);
        let result = match result {
            Ok(_) if gather.size > limit => Err(Error::LimitExceeded(format!(
                "the parts' replies are larger than {limit} bytes together (limit reply-size)"
            ))),
            result => result,
        };
        let Some(state) = gather.parts.get_mut(part as usize) else {
            return;
        };
        (state.id, state.outcome) = (None, Some(result));
        gather.open -= 1;
        if gather.open > 0 {
            return;
        }
        let Some(gather) = self.requests.get_mut(id).and_then(|request| request.gather.take()) else {
            return;
        };
        let Some(request) = self.requests.get(id) else {
            return;
        };
        let chance = self.cx.random.below(gather.parts.len());
        let result = conclude(&request.command, *gather, chance);
        self.abandon(id);
        self.cx.output(Output::Done { id, result });
    }

    /// Gives the parts of a request up with it.
    pub(in crate::cluster) fn abandon_parts(&mut self, gather: Option<Box<Gather>>) {
        for part in gather.map(|gather| gather.parts).into_iter().flatten() {
            if let Some(id) = part.id {
                self.abandon(id);
            }
        }
    }
}

/// A part's command, where it has to go if not by its slot, whose it is, and which keys it has.
type PartPlan = (Command, Option<Target>, String, Vec<u32>);

/// One result of all parts' results.
fn conclude(command: &Command, gather: Gather, chance: usize) -> Result<RawReply, Error> {
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

/// The error when all are to say the same, and some have said otherwise: a success that some have not had is none.
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

/// Whether two servers refuse in the same words. What they quote of the arguments differs where each has its own.
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

/// The error of a command of which some parts failed: the one that all have, or the first one's, with what became of the others.
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
    // What says most: that a part may have been executed although none has answered; or, of those that have nothing to kill, the
    // one that has.
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
