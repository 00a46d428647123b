//! Calls on their way through the component: gathered in a [`Batch`], handed in, then in [`Flight`].

use std::collections::BTreeMap;

use super::{Caller, Command, Target};
use crate::bindings::exports::keyslot::redis::redis_cluster::Limit;
use crate::{Error, Options, Reply, ReplyNode};

/// How many commands of different calls are gathered for one submission. One call's own pipeline is never
/// taken apart, so a batch can be longer by one call.
const BATCH_COMMANDS_MAX: usize = 1_000;

/// How many bytes of arguments are gathered for one submission.
const BATCH_BYTES_MAX: usize = 4 << 20;

/// How many commands are in the component at the same time, unless one pipeline alone has more. More than may wait for
/// nodes that are down (limit `waiting-requests`), so that these leave room for the others.
const FLIGHT_COMMANDS_MAX: usize = 100_000;

/// How many bytes of arguments are in the component at the same time, unless one call alone has more.
const FLIGHT_BYTES_MAX: usize = 256 << 20;

/// What part of the component's memory those bytes may be: it holds a command twice for a while, and the replies.
const FLIGHT_MEMORY_PART: usize = 6;

/// The component's default for the limit `reply-size`.
const REPLY_SIZE_DEFAULT: u64 = 256 << 20;

/// What a node of a reply costs besides its text, as the limit `reply-size` counts.
const NODE_COST: u64 = 64;

/// Commands that go to the component one after the other, those with the same target together.
#[derive(Default)]
pub(super) struct Batch {
    parts: Vec<Part>,
    load: Load,
}

/// Commands that are handed in by one call of the component.
pub(super) struct Part {
    pub(super) target: Target,
    pub(super) commands: Vec<Command>,
    calls: Vec<(Caller, Load)>,
}

/// What a call, a batch or all that is under way amounts to.
#[derive(Clone, Copy, Default)]
struct Load {
    commands: usize,
    /// Of arguments.
    bytes: usize,
}

impl Load {
    fn of(commands: &[Command]) -> Self {
        let bytes = commands.iter().flatten().map(Vec::len).sum();
        Self { commands: commands.len(), bytes }
    }

    fn add(&mut self, other: Self) {
        self.commands += other.commands;
        self.bytes += other.bytes;
    }
}

impl Batch {
    /// Takes a call whose caller still waits; gives it back when there is no room for it yet.
    pub(super) fn add(
        &mut self,
        target: Target,
        commands: Vec<Command>,
        caller: Caller,
        flight: &Flight,
    ) -> Option<super::Call> {
        if caller.is_gone() {
            return None;
        }
        let load = Load::of(&commands);
        let mut total = flight.load;
        total.add(self.load);
        if total.commands > 0 && !flight.holds(total, load) {
            return Some(super::Call::Run { target, commands, caller });
        }
        self.load.add(load);
        match self.parts.iter_mut().find(|part| part.target == target) {
            Some(part) => {
                part.commands.extend(commands);
                part.calls.push((caller, load));
            }
            None => self.parts.push(Part { target, commands, calls: vec![(caller, load)] }),
        }
        None
    }

    pub(super) fn is_full(&self) -> bool {
        self.load.commands >= BATCH_COMMANDS_MAX || self.load.bytes >= BATCH_BYTES_MAX
    }

    pub(super) fn into_parts(self) -> Vec<Part> {
        self.parts
    }
}

impl Part {
    pub(super) fn fail(self, error: &Error) {
        for (caller, _) in self.calls {
            caller.fail(error);
        }
    }
}

/// Calls whose commands are in the component.
pub(super) struct Flight {
    /// By the ticket of the first command. The tickets of one call are consecutive.
    calls: BTreeMap<u64, Call>,
    load: Load,
    bytes_max: usize,
    /// How large the replies of one call may be together.
    reply_size: u64,
}

struct Call {
    caller: Caller,
    load: Load,
    /// What has come of a pipeline, and how much has not.
    results: Vec<Option<Result<Reply, Error>>>,
    open: usize,
    /// How large the replies that are still to come may be.
    reply_size_left: u64,
}

impl Flight {
    pub(super) fn new(options: &Options) -> Self {
        let mut limits = options.limits.iter().rev();
        let reply_size = limits.find(|(limit, _)| *limit == Limit::ReplySize).map(|(_, value)| *value);
        Self {
            calls: BTreeMap::new(),
            load: Load::default(),
            bytes_max: FLIGHT_BYTES_MAX.min(options.memory_limit / FLIGHT_MEMORY_PART),
            reply_size: reply_size.unwrap_or(REPLY_SIZE_DEFAULT),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Whether there are calls of callers, be they gone or not.
    pub(super) fn has_callers(&self) -> bool {
        self.calls.values().any(|call| !matches!(call.caller, Caller::Nobody))
    }

    /// Whether this much more may be under way.
    fn holds(&self, total: Load, more: Load) -> bool {
        total.commands + more.commands <= FLIGHT_COMMANDS_MAX && total.bytes + more.bytes <= self.bytes_max
    }

    /// Takes calls; the first one's first command has this ticket.
    pub(super) fn enter(&mut self, mut ticket: u64, part: Part) {
        for (caller, load) in part.calls {
            self.load.add(load);
            let results = match caller {
                Caller::One(_) | Caller::Nobody => Vec::new(),
                Caller::Many(_) => vec![None; load.commands],
            };
            let reply_size_left = self.reply_size;
            self.calls.insert(ticket, Call { caller, load, results, open: load.commands, reply_size_left });
            ticket += load.commands as u64;
        }
    }

    /// Takes a command's result, and answers the caller if it is the last. False when that command is not
    /// under way.
    pub(super) fn land(&mut self, ticket: u64, result: Result<Reply, Error>) -> bool {
        let Some((&first, call)) = self.calls.range_mut(..=ticket).next_back() else {
            return false;
        };
        let result = match call.caller {
            Caller::One(_) | Caller::Nobody if ticket == first => Some(result),
            Caller::One(_) | Caller::Nobody => return false,
            Caller::Many(_) => {
                let index = usize::try_from(ticket - first).unwrap_or(usize::MAX);
                let Some(place @ None) = call.results.get_mut(index) else {
                    return false;
                };
                *place = Some(within(&mut call.reply_size_left, self.reply_size, result));
                None
            }
        };
        call.open -= 1;
        self.load.commands -= 1;
        if call.open == 0
            && let Some(call) = self.calls.remove(&first)
        {
            self.load.bytes -= call.load.bytes;
            match (call.caller, result) {
                (Caller::One(reply), Some(result)) => drop(reply.send(result)),
                (Caller::One(_), None) | (Caller::Nobody, _) => {}
                (Caller::Many(reply), _) => {
                    drop(reply.send(Ok(call.results.into_iter().flatten().collect())));
                }
            }
        }
        true
    }

    /// Ends all calls with this error.
    pub(super) fn fail(&mut self, error: &Error) {
        for call in std::mem::take(&mut self.calls).into_values() {
            call.caller.fail(error);
        }
        self.load = Load::default();
    }
}

impl Caller {
    /// Whether nobody waits any more.
    fn is_gone(&self) -> bool {
        match self {
            Self::One(reply) => reply.is_closed(),
            Self::Many(reply) => reply.is_closed(),
            Self::Nobody => false,
        }
    }

    fn fail(self, error: &Error) {
        match self {
            Self::One(reply) => drop(reply.send(Err(error.clone()))),
            Self::Many(reply) => drop(reply.send(Err(error.clone()))),
            Self::Nobody => {}
        }
    }
}

/// The result, if what is `left` of the call's limit holds its reply.
fn within(left: &mut u64, limit: u64, result: Result<Reply, Error>) -> Result<Reply, Error> {
    let reply = result?;
    match left.checked_sub(size(&reply)) {
        Some(rest) => {
            *left = rest;
            Ok(reply)
        }
        None => Err(Error::LimitExceeded(format!(
            "the pipeline's replies are larger than {limit} bytes together (limit reply-size); the command was executed"
        ))),
    }
}

/// How large a reply is, as the limit `reply-size` counts.
fn size(reply: &Reply) -> u64 {
    let text = |node: &ReplyNode| match node {
        ReplyNode::BulkString(bytes) => bytes.len(),
        ReplyNode::SimpleString(text) | ReplyNode::Text(text) | ReplyNode::BigNumber(text) => text.len(),
        ReplyNode::VerbatimString(verbatim) => verbatim.text.len(),
        ReplyNode::Error(error) => error.code.len() + error.message.len(),
        ReplyNode::Null
        | ReplyNode::Boolean(_)
        | ReplyNode::Integer(_)
        | ReplyNode::Double(_)
        | ReplyNode::Array(_)
        | ReplyNode::Set(_)
        | ReplyNode::Map(_)
        | ReplyNode::Push(_)
        | ReplyNode::Attribute(_) => 0,
    };
    reply.nodes().iter().map(|node| text(node) as u64 + NODE_COST).sum()
}
