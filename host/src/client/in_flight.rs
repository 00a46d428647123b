//! Calls on their way through the component: gathered in a [`Batch`], handed in, then
//! [`InFlight`].
//!
//! A call's commands may go in several pieces. Each piece is a [`Span`] of tickets there.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::BytesMut;

use super::recipient::Recipient;
use super::requests::Piece;
use super::submission::{CallId, CallerId, Progress, Submission, Target};
use crate::bindings::exports::keyslot::redis::redis_cluster::TicketRange;
use crate::reply::Ended;
use crate::{Error, Reply};

/// How many commands of different calls are gathered for one submission, unless one piece alone has
/// more.
const BATCH_COMMANDS_MAX: usize = 1_000;

/// How many bytes are gathered for one submission, unless one piece alone has more.
const BATCH_BYTES_MAX: usize = 4 << 20;

/// From so many bytes on a piece goes in alone: then the component keeps it where it is, and
/// nothing with it.
const ALONE_FROM: usize = 1 << 20;

/// How much is in the component at the same time. More commands than may wait for nodes that are
/// down (`limit-waiting-requests`), so that these leave room for the others.
const IN_FLIGHT_MAX: Load = Load { commands: 100_000, bytes: 256 << 20 };

/// With how much in the component the next piece of a long pipeline follows: so its memory does not
/// grow with the pipeline. Who has no piece there may have one all the same.
const STREAM_MAX: Load = Load { commands: 40_000, bytes: 16 << 20 };

/// What part of the component's memory the bytes in it may be: it holds a command twice for a
/// while, and the replies.
const IN_FLIGHT_MEMORY_PART: usize = 6;

/// What a command costs the component besides its bytes, until it has ended.
const COMMAND_COST: usize = 512;

/// Pieces of calls that go to the component one after the other, those with the same target
/// together.
#[derive(Default)]
pub(super) struct Batch {
    parts: Vec<Part>,
    load: Load,
}

/// Commands that are handed in by one call of the component.
pub(super) struct Part {
    pub(super) target: Target,
    pub(super) requests: BytesMut,
    spans: Vec<Span>,
}

impl Part {
    /// How many commands it has.
    pub(super) fn commands(&self) -> usize {
        self.spans.iter().map(|span| span.load.commands).sum()
    }
}

/// One call's commands that were handed in together.
#[derive(Clone)]
struct Span {
    call: CallId,
    /// The first command's place in its call.
    first: usize,
    load: Load,
    /// How many bytes each has.
    sizes: Arc<[usize]>,
    /// How many have not ended.
    open: usize,
    /// Whose it is, if it is a piece of a long pipeline.
    long: Option<CallerId>,
}

/// What a piece, a batch or all that is under way amounts to.
#[derive(Clone, Copy, Default)]
struct Load {
    commands: usize,
    bytes: usize,
}

impl Load {
    fn of(piece: &Piece) -> Self {
        Self { commands: piece.count(), bytes: piece.bytes.len() }
    }

    fn plus(self, other: Self) -> Self {
        Self { commands: self.commands + other.commands, bytes: self.bytes + other.bytes }
    }

    fn fits(self, max: Self) -> bool {
        self.commands <= max.commands && self.bytes <= max.bytes
    }
}

/// Whether a call's next piece may be handed in.
pub(super) enum Room {
    Now,
    /// When some of what is under way has ended; others may go by.
    NotYet,
    /// The same, but not for others either.
    None,
}

impl Batch {
    /// Whether there is room for the next piece of this call.
    pub(super) fn room_for(&self, submission: &Submission, in_flight: &InFlight) -> Room {
        let under_way = in_flight.load.plus(self.load);
        let Some(piece) = submission.requests.first().filter(|_| under_way.commands > 0) else {
            return Room::Now;
        };
        let load = under_way.plus(Load::of(piece));
        if submission.is_long()
            && !load.fits(in_flight.stream_max)
            && (in_flight.has_piece_of(submission.caller) || self.has_piece_of(submission.caller))
        {
            return Room::NotYet;
        }
        if load.fits(in_flight.max) { Room::Now } else { Room::None }
    }

    /// Takes the next piece of a call.
    pub(super) fn add(&mut self, submission: &mut Submission, in_flight: &mut InFlight) {
        let long = submission.is_long().then_some(submission.caller);
        let count = submission.requests.count();
        let Some(piece) = submission.requests.take_first() else {
            return;
        };
        let load = Load::of(&piece);
        let (call, first) = match &mut submission.progress {
            Progress::New(recipient) => {
                (in_flight.begin(std::mem::replace(recipient, Recipient::Nobody), count), 0)
            }
            Progress::Begun { call, commands } => (*call, *commands),
        };
        submission.progress = Progress::Begun { call, commands: first + load.commands };
        self.load = self.load.plus(load);
        let span = Span { call, first, load, sizes: piece.sizes.into(), open: load.commands, long };
        // Only the last: what comes later does not go by.
        let part = self.parts.iter_mut().rfind(|part| part.target.joins(&submission.target));
        match part.filter(|part| part.requests.len().max(piece.bytes.len()) < ALONE_FROM) {
            Some(part) => {
                part.requests.extend_from_slice(&piece.bytes);
                part.spans.push(span);
            }
            None => {
                let target = submission.target.clone();
                self.parts.push(Part { target, requests: piece.bytes, spans: vec![span] });
            }
        }
    }

    /// Whether it has a piece of a long pipeline of this caller.
    fn has_piece_of(&self, caller: CallerId) -> bool {
        self.parts.iter().flat_map(|part| &part.spans).any(|span| span.long == Some(caller))
    }

    pub(super) fn is_full(&self) -> bool {
        self.load.commands >= BATCH_COMMANDS_MAX || self.load.bytes >= BATCH_BYTES_MAX
    }

    pub(super) fn into_parts(self) -> Vec<Part> {
        self.parts
    }
}

/// Calls whose commands are in the component, or are about to be.
pub(super) struct InFlight {
    calls: HashMap<CallId, OpenCall>,
    /// The number of the next one. None is used twice.
    next_call: u64,
    /// By the ticket of the first command. The tickets of one span are consecutive.
    spans: BTreeMap<u64, Span>,
    /// How many of them are pieces of each caller's long pipelines.
    long_spans: HashMap<CallerId, usize>,
    load: Load,
    max: Load,
    stream_max: Load,
    /// How large the replies of one call may be together.
    reply_size: u64,
    /// Calls some of whose ends are still to be sent to their callers.
    unreported: Vec<CallId>,
}

/// A call whose commands have not all ended.
struct OpenCall {
    recipient: Recipient,
    /// What has come of a pipeline, and how much has not.
    results: Vec<Option<Result<Reply, Error>>>,
    open: usize,
    /// How large the replies that are still to come may be.
    reply_size_left: u64,
}

impl InFlight {
    /// For a component with so much memory, and replies of a pipeline of this size together.
    pub(super) fn new(memory_limit: usize, reply_size: u64) -> Self {
        let bytes_max = memory_limit / IN_FLIGHT_MEMORY_PART;
        let commands_max = bytes_max / COMMAND_COST;
        let within_memory =
            |max: Load| Load { commands: max.commands.min(commands_max), bytes: max.bytes.min(bytes_max) };
        Self {
            calls: HashMap::new(),
            next_call: 0,
            spans: BTreeMap::new(),
            long_spans: HashMap::new(),
            load: Load::default(),
            max: within_memory(IN_FLIGHT_MAX),
            stream_max: within_memory(STREAM_MAX),
            reply_size,
            unreported: Vec::new(),
        }
    }

    /// Whether the component has no commands.
    pub(super) fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Whether there are calls of callers, be they gone or not.
    pub(super) fn has_callers(&self) -> bool {
        self.calls.values().any(|call| !matches!(call.recipient, Recipient::Nobody))
    }

    /// Takes a call of so many commands. Gives its number.
    fn begin(&mut self, recipient: Recipient, count: usize) -> CallId {
        let results = match recipient {
            Recipient::One(_) | Recipient::Outcomes(_) | Recipient::Nobody => Vec::new(),
            Recipient::Many(_) => vec![None; count],
        };
        let id = CallId(self.next_call);
        self.next_call += 1;
        let call = OpenCall { recipient, results, open: count, reply_size_left: self.reply_size };
        self.calls.insert(id, call);
        id
    }

    /// Whether nobody waits for a call any more, so that the rest of its commands need not be sent.
    pub(super) fn is_abandoned(&mut self, submission: &Submission) -> bool {
        match &submission.progress {
            Progress::New(recipient) => recipient.is_gone(),
            Progress::Begun { call: id, .. } => match self.calls.get(id) {
                None => true,
                Some(call) if !call.recipient.is_gone() => false,
                // What is under way of it is cancelled with those of others: `take_cancelled`.
                Some(call) => {
                    if let Recipient::Outcomes(_) = call.recipient {
                        self.calls.remove(id);
                    }
                    true
                }
            },
        }
    }

    /// Takes the calls out that their callers have cancelled. Gives the tickets of their commands
    /// that are under way.
    pub(super) fn take_cancelled(&mut self) -> Vec<TicketRange> {
        // Who does not read replies does not wait for them either.
        let is_gone =
            |call: &OpenCall| call.recipient.is_gone() && !matches!(call.recipient, Recipient::Outcomes(_));
        let is_of_one = |span: &Span| self.calls.get(&span.call).is_some_and(is_gone);
        let mut tickets = Vec::<TicketRange>::new();
        for (first, span) in self.spans.iter().filter(|(_, span)| is_of_one(span)) {
            let count = span.load.commands as u64;
            match tickets.last_mut() {
                Some(before) if before.first + before.count == *first => before.count += count,
                _ => tickets.push(TicketRange { first: *first, count }),
            }
        }
        self.calls.retain(|_, call| !is_gone(call));
        tickets
    }

    fn has_piece_of(&self, caller: CallerId) -> bool {
        self.long_spans.contains_key(&caller)
    }

    /// Takes what was handed in; the first command has this ticket.
    pub(super) fn enter(&mut self, mut ticket: u64, part: &Part) {
        for span in &part.spans {
            self.load = self.load.plus(span.load);
            if let Some(caller) = span.long {
                *self.long_spans.entry(caller).or_default() += 1;
            }
            self.spans.insert(ticket, span.clone());
            ticket += span.load.commands as u64;
        }
    }

    /// Ends commands that could not be handed in.
    pub(super) fn refuse(&mut self, part: &Part, error: &Error) {
        for span in &part.spans {
            for index in span.first..span.first + span.load.commands {
                self.end(span.call, index, Err(error.clone()));
            }
        }
        self.report();
    }

    /// Sends the ends that have come since this was last called, to the callers who are sent each
    /// end.
    pub(super) fn report(&mut self) {
        for id in std::mem::take(&mut self.unreported) {
            if let Some(OpenCall { recipient: Recipient::Outcomes(outcomes), .. }) = self.calls.get_mut(&id) {
                outcomes.report();
            }
        }
    }

    /// Takes a command's result, and answers its call if it is the last. False when that command
    /// is not under way.
    pub(super) fn complete(&mut self, ticket: u64, ended: Ended) -> bool {
        let Some((&first, span)) = self.spans.range_mut(..=ticket).next_back() else {
            return false;
        };
        let offset = usize::try_from(ticket - first).unwrap_or(usize::MAX);
        if offset >= span.load.commands {
            return false;
        }
        span.open -= 1;
        self.load.commands -= 1;
        self.load.bytes -= span.sizes.get(offset).copied().unwrap_or_default();
        let (call, index) = (span.call, span.first + offset);
        if span.open == 0 {
            if let Some(caller) = span.long
                && let Entry::Occupied(mut count) = self.long_spans.entry(caller)
            {
                *count.get_mut() -= 1;
                if *count.get() == 0 {
                    count.remove();
                }
            }
            self.spans.remove(&first);
        }
        let result = match self.calls.get_mut(&call) {
            Some(OpenCall { recipient: Recipient::Many(_), reply_size_left, .. }) => {
                within(reply_size_left, self.reply_size, ended)
            }
            _ => ended.result,
        };
        self.end(call, index, result)
    }

    /// A call's command has ended. False when it had ended before.
    fn end(&mut self, id: CallId, index: usize, result: Result<Reply, Error>) -> bool {
        // Nobody waits for what was abandoned.
        let Some(call) = self.calls.get_mut(&id) else {
            return true;
        };
        call.open -= 1;
        let result = match &mut call.recipient {
            Recipient::One(_) | Recipient::Nobody => Some(result),
            Recipient::Outcomes(outcomes) => {
                if outcomes.are_reported() {
                    self.unreported.push(id);
                }
                if !outcomes.end(index, result.err()) {
                    return false;
                }
                None
            }
            Recipient::Many(_) => {
                let Some(place @ None) = call.results.get_mut(index) else {
                    return false;
                };
                *place = Some(result);
                None
            }
        };
        if call.open == 0
            && let Some(call) = self.calls.remove(&id)
        {
            match (call.recipient, result) {
                (Recipient::One(reply), Some(result)) => drop(reply.send(result)),
                (Recipient::One(_), None) | (Recipient::Nobody, _) => {}
                (Recipient::Many(reply), _) => {
                    drop(reply.send(Ok(call.results.into_iter().flatten().collect())));
                }
                (Recipient::Outcomes(mut outcomes), _) => outcomes.report(),
            }
        }
        true
    }

    /// Ends all calls with this error.
    pub(super) fn fail(&mut self, error: &Error) {
        for call in std::mem::take(&mut self.calls).into_values() {
            call.recipient.fail(error);
        }
        self.unreported.clear();
        self.spans.clear();
        self.long_spans.clear();
        self.load = Load::default();
    }
}

/// The result, if what is `left` of the call's limit holds its reply.
fn within(left: &mut u64, limit: u64, ended: Ended) -> Result<Reply, Error> {
    let reply = ended.result?;
    match left.checked_sub(ended.size) {
        Some(rest) => {
            *left = rest;
            Ok(reply)
        }
        None => Err(Error::LimitExceeded(format!(
            "the pipeline's replies are larger than {limit} bytes together (limit-reply-size); the command was executed"
        ))),
    }
}
