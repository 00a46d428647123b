//! What was asked, what was answered, and whether the two go together.
//!
//! A failed check panics with a text that begins with `INVARIANT`.

use std::collections::{BTreeMap, BTreeSet};

use keyslot_core::cluster::RequestId;
use keyslot_core::error::Error;
use keyslot_core::resp::{Reply, ReplyNode};

use super::coverage::{Coverage, Feature};
use super::operation::{Kind, Operation, SECOND_WRITE, register};
use super::server::Servers;
use super::store::Source;

/// How many bytes an error's text has at most, whatever the servers say.
const ERROR_LENGTH_MAX: usize = 4_096;

/// What an error says about the server's side.
fn promises_not_executed(error: &Error) -> bool {
    match error {
        Error::InvalidArgument(_)
        | Error::CrossSlot(_)
        | Error::Server(_)
        | Error::RedirectLimit(_)
        | Error::ClusterDown(_)
        | Error::Connect(_)
        | Error::Authentication(_)
        | Error::Tls(_) => true,
        Error::ConnectionLost(interrupted)
        | Error::Timeout(interrupted)
        | Error::PartlyExecuted(interrupted) => !interrupted.possibly_executed,
        Error::LimitExceeded(text) => text.contains(WAITING_LIMIT) || text.contains(POOL_LIMIT),
        Error::Protocol(_) | Error::Closed => false,
    }
}

/// How a request is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// As the client sees fit.
    Free,
    /// To one node, once at most.
    Fixed,
    /// Over a lent connection, once at most; perhaps after MULTI.
    Lent,
}

/// What was sent from MULTI on.
#[derive(Debug)]
pub(crate) struct Transaction {
    pub(crate) multi: RequestId,
    pub(crate) queued: Vec<RequestId>,
    pub(crate) exec: Option<RequestId>,
    pub(crate) discard: Option<RequestId>,
}

#[derive(Debug)]
struct Entry {
    operation: Option<Operation>,
    way: Way,
    /// How many requests came before.
    serial: usize,
    /// On the machine's clock, as all times here.
    submitted_at: u64,
    deadline: u64,
    forgotten: bool,
    /// How many reads of registers the servers had answered before.
    reads_before: usize,
    /// The latest version of the tag's register that was acknowledged before.
    acknowledged_before: u64,
    outcome: Option<Result<Reply, Error>>,
}

/// Every request of a run.
#[derive(Debug, Default)]
pub(crate) struct History {
    entries: BTreeMap<RequestId, Entry>,
    transactions: Vec<Transaction>,
    /// Whether the client may execute a write more than once.
    may_repeat: bool,
    /// The numbers of operations that are sent to one node.
    addressed: BTreeSet<u64>,
    /// From where to where the machine's clock has jumped.
    jumps: Vec<(u64, u64)>,
    /// The latest acknowledged version of each tag's register.
    acknowledged: BTreeMap<u64, u64>,
}

impl History {
    /// The client may execute a write more than once.
    pub(super) fn allow_repeats(&mut self) {
        self.may_repeat = true;
    }

    /// How many requests there were.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn outcome(&self, id: RequestId) -> Option<&Result<Reply, Error>> {
        self.entries[&id].outcome.as_ref()
    }

    /// What a request is, and how it is sent.
    pub(super) fn asked(&self, id: RequestId) -> (Option<Operation>, Way) {
        self.entries.get(&id).map_or((None, Way::Free), |entry| (entry.operation, entry.way))
    }

    /// The latest request that has not ended.
    pub(super) fn latest_pending(&self) -> Option<RequestId> {
        let last = self.entries.iter().rev().find(|(_, entry)| entry.outcome.is_none());
        last.map(|(id, _)| *id)
    }

    /// Whether the operation with this number is sent to one node.
    pub(super) fn is_addressed(&self, number: u64) -> bool {
        self.addressed.contains(&number)
    }

    /// A transaction has come to its end, or to that of the run.
    pub(super) fn ended(&mut self, transaction: Transaction) {
        self.transactions.push(transaction);
    }

    pub(crate) fn jumped(&mut self, from: u64, to: u64) {
        self.jumps.push((from, to));
    }

    /// When the machine can know that this instant has come: it may lie in a jump.
    pub(crate) fn due(&self, instant: u64) -> u64 {
        let over = |(from, to): &&(u64, u64)| (*from..*to).contains(&instant);
        self.jumps.iter().find(over).map_or(instant, |(_, to)| *to)
    }

    pub(crate) fn submitted(
        &mut self,
        id: RequestId,
        operation: Option<Operation>,
        way: Way,
        (submitted_at, deadline): (u64, u64),
        servers: &Servers,
    ) {
        if way == Way::Fixed {
            self.addressed.extend(operation.map(|operation| operation.number));
        }
        let acknowledged = operation.and_then(|operation| self.acknowledged.get(&operation.tag));
        let entry = Entry {
            operation,
            way,
            serial: self.entries.len(),
            submitted_at,
            deadline,
            forgotten: false,
            reads_before: servers.store.reads.len(),
            acknowledged_before: acknowledged.copied().unwrap_or(0),
            outcome: None,
        };
        let before = self.entries.insert(id, entry);
        assert!(before.is_none(), "INVARIANT: a request id is never used twice: {id:?}");
    }

    pub(crate) fn forgotten(&mut self, id: RequestId) {
        self.entries.get_mut(&id).expect("only submitted requests are forgotten").forgotten = true;
    }

    pub(crate) fn done(&mut self, id: RequestId, result: Result<Reply, Error>, now: u64, servers: &Servers) {
        let entry = self.entries.get(&id).unwrap_or_else(|| panic!("INVARIANT: {id:?} was never submitted"));
        let operation = entry.operation;
        assert!(
            entry.outcome.is_none(),
            "INVARIANT: each request completes once; {id:?} {operation:?} again"
        );
        assert!(!entry.forgotten, "INVARIANT: a forgotten request does not complete; {id:?} did");
        let due = self.due(entry.deadline);
        assert!(
            now <= due + 1_000_000,
            "INVARIANT: requests end within their time; {id:?} ended at {now}, its time was over at {due}"
        );
        if let Err(error) = &result {
            let length = error.to_string().len();
            assert!(
                length <= ERROR_LENGTH_MAX,
                "INVARIANT: little of a server's text is kept: {length} bytes"
            );
        }
        let has_parts = operation.is_some_and(|operation| operation.has_parts());
        if let Err(Error::LimitExceeded(text)) = &result
            && text.contains(WAITING_LIMIT)
            // Its other parts are waited for.
            && !has_parts
        {
            let at = entry.submitted_at;
            assert_eq!(now, at, "INVARIANT: what is beyond the limits ends at once: {id:?} {operation:?}");
        }
        let is_queued = entry.way == Way::Lent && result == Ok(queued());
        if let (Some(operation), Ok(reply), false) = (operation, &result, is_queued) {
            self.check_reply(entry, operation, reply, servers);
            if operation.kind == Kind::Put {
                let (key, value) = (register(operation.tag), operation.number.to_string());
                let serial = servers.store.serial_of(key.as_bytes(), Some(value.as_bytes()));
                let acknowledged = self.acknowledged.entry(operation.tag).or_default();
                *acknowledged = serial.max(*acknowledged);
            }
        }
        self.entries.get_mut(&id).expect("looked at above").outcome = Some(result);
    }

    fn check_reply(&self, entry: &Entry, operation: Operation, reply: &Reply, servers: &Servers) {
        let runs = match self.may_repeat && entry.way == Way::Free {
            true => servers.executions.get(&operation.number).copied().unwrap_or(1).max(1),
            false => 1,
        };
        let nodes = &reply.nodes;
        if operation.kind == Kind::Look {
            return check_look(entry, operation, nodes, servers);
        }
        if operation.kind == Kind::Wipe && self.may_repeat && entry.way == Way::Free {
            // A part that is executed again finds nothing.
            let [ReplyNode::Integer(0..=2)] = nodes[..] else { panic!("INVARIANT: DEL counts: {nodes:?}") };
            return;
        }
        let fits = (1..=u64::from(runs)).any(|run| operation.expected(run).as_ref() == Some(nodes));
        assert!(fits, "INVARIANT: a reply belongs to its request: {operation:?} {nodes:?}");
    }

    /// The requests that have not ended, those that were forgotten left out.
    pub(crate) fn pending(&self) -> usize {
        self.entries.values().filter(|entry| entry.outcome.is_none() && !entry.forgotten).count()
    }

    /// Nothing has failed.
    pub(crate) fn check_all_served(&self) {
        for (id, entry) in &self.entries {
            // What blocks needs a connection that borrowers may have.
            let blocks = entry.operation.is_some_and(|operation| operation.kind == Kind::Pop);
            let is_refused = blocks && matches!(entry.outcome, Some(Err(Error::LimitExceeded(_))));
            let served = entry.forgotten || matches!(entry.outcome, Some(Ok(_))) || entry.way != Way::Free;
            let served = served || is_refused;
            assert!(served, "INVARIANT: no request notices that slots move: {id:?} {entry:?}");
        }
    }

    /// While nothing fails, commands for one slot are executed in their order, whatever moves: each
    /// read of a register sees every write that was asked for before it.
    pub(crate) fn check_order(&self, servers: &Servers) {
        let of_kind = |kind: Kind| {
            let entries = self.entries.values().filter(|entry| entry.way == Way::Free);
            entries.filter_map(move |entry| {
                Some((entry, entry.operation.filter(|operation| operation.kind == kind)?))
            })
        };
        for (look, read) in of_kind(Kind::Look) {
            let Some(Ok(reply)) = &look.outcome else { continue };
            let key = register(read.tag).into_bytes();
            let value = match &reply.nodes[..] {
                [ReplyNode::BulkString(value)] => Some(&value[..]),
                _ => None,
            };
            let seen = servers.store.serial_of(&key, value);
            for (put, write) in of_kind(Kind::Put) {
                if write.tag == read.tag && put.serial < look.serial && matches!(put.outcome, Some(Ok(_))) {
                    let written = servers.store.serial_of(&key, Some(write.number.to_string().as_bytes()));
                    assert!(
                        seen >= written,
                        "INVARIANT: a read sees the writes before it: {read:?} saw {value:?}, not {write:?}"
                    );
                }
            }
        }
    }

    /// No write ran twice, and each ran as its outcome says.
    pub(crate) fn check_executions(&self, executions: &BTreeMap<u64, u32>) {
        for (id, entry) in &self.entries {
            let Some(operation) = entry.operation.filter(Operation::writes) else { continue };
            let times = |number| executions.get(&number).copied().unwrap_or(0);
            if operation.kind == Kind::Both {
                let [first, second] = [operation.number, operation.number + SECOND_WRITE].map(times);
                let what = format!("{id:?} {operation:?} ran {first} and {second} times");
                assert_eq!(first, second, "INVARIANT: a transaction runs as a whole: {what}");
            }
            for number in operation.numbers() {
                self.check_execution(*id, entry, operation, times(number), number == operation.number);
            }
        }
    }

    /// Counts how often writes were executed whose requests ended as they did.
    pub(crate) fn cover(&self, executions: &BTreeMap<u64, u32>, coverage: &mut Coverage) {
        for entry in self.entries.values() {
            let Some(operation) = entry.operation.filter(Operation::writes) else { continue };
            let times = executions.get(&operation.number).copied().unwrap_or(0);
            coverage.executed(times, entry.outcome.as_ref());
        }
        for transaction in &self.transactions {
            let outcome = transaction.exec.and_then(|id| self.entries[&id].outcome.as_ref());
            let is_null = outcome.is_some_and(|outcome| *outcome == Ok(Reply::single(ReplyNode::Null)));
            coverage.count_if(Feature::WatchFailed, is_null);
        }
    }

    /// One of the writes that a request consists of. A server that is alone executes all of them as
    /// the first.
    fn check_execution(
        &self,
        id: RequestId,
        entry: &Entry,
        operation: Operation,
        times: u32,
        is_first: bool,
    ) {
        {
            let outcome = &entry.outcome;
            let what = format!("{id:?} {operation:?} ran {times} times and ended as {outcome:?}");
            let may_repeat = self.may_repeat && entry.way == Way::Free;
            assert!(times <= 1 || may_repeat, "INVARIANT: no write is executed twice: {what}");
            match outcome {
                // The transaction's end decides.
                Some(Ok(reply)) if entry.way == Way::Lent && *reply == queued() => {}
                Some(Ok(_)) => {
                    assert!(times > 0 || !is_first, "INVARIANT: what was answered was executed: {what}");
                }
                // It is the second copy's.
                Some(Err(Error::Server(error))) if may_repeat && matches!(&*error.code, "MOVED" | "ASK") => {}
                Some(Err(error)) if promises_not_executed(error) => {
                    assert_eq!(times, 0, "INVARIANT: what was promised not to have run has not: {what}");
                }
                Some(Err(_)) | None => {}
            }
        }
    }
}

/// A part of the message that tells of the limits on what waits.
const WAITING_LIMIT: &str = "limit-waiting-requests";

/// A part of the message that tells that all connections are lent.
const POOL_LIMIT: &str = "pool-checkout-timeout";

/// What MULTI makes of the answer to each command.
fn queued() -> Reply {
    Reply::single(ReplyNode::SimpleString("QUEUED".into()))
}

impl History {
    /// A transaction's commands run together or not at all.
    pub(crate) fn check_transactions(&self, executions: &BTreeMap<u64, u32>) {
        let outcome = |id: &RequestId| self.entries[id].outcome.as_ref();
        for transaction in &self.transactions {
            // A DISCARD that was not sent leaves the end to a later EXEC.
            let took_place = |id: &RequestId| matches!(outcome(id), Some(Ok(_)));
            if !took_place(&transaction.multi) || !transaction.discard.iter().all(took_place) {
                continue;
            }
            let is_queued = |id: &&RequestId| outcome(id) == Some(&Ok(queued()));
            let accepted: Vec<_> = transaction
                .queued
                .iter()
                .filter(is_queued)
                .filter_map(|id| self.entries[id].operation)
                .collect();
            let is_whole = accepted.len() == transaction.queued.len();
            let times = |operation: &Operation| executions.get(&operation.number).copied().unwrap_or(0);
            let writes = || accepted.iter().filter(|operation| operation.writes());
            let ran = writes().filter(|operation| times(operation) == 1).count();
            let what = format!("{transaction:?} ran {ran} of {accepted:?}");
            assert!(
                ran == 0 || ran == writes().count(),
                "INVARIANT: a transaction runs as a whole or not at all: {what}"
            );
            match transaction.exec.as_ref().map(outcome) {
                Some(Some(Ok(reply))) if matches!(reply.nodes[0], ReplyNode::Array(_)) => {
                    assert_eq!(ran, writes().count(), "INVARIANT: EXEC's answer says that it ran: {what}");
                    let expected = accepted.iter().filter_map(|operation| operation.expected(1)).flatten();
                    let is_told = is_whole && accepted.iter().all(|operation| operation.kind != Kind::Look);
                    let fits = !is_told || reply.nodes[1..].iter().cloned().eq(expected);
                    assert!(fits, "INVARIANT: EXEC answers each command: {what} {reply:?}");
                }
                // A borrower's EXEC is its own: what a server that misshapes its answers says is
                // passed on.
                Some(Some(Ok(reply))) if !matches!(reply.nodes[0], ReplyNode::Null) => {}
                Some(Some(Ok(_) | Err(Error::Server(_)))) | None => {
                    assert_eq!(ran, 0, "INVARIANT: nothing runs without EXEC: {what}");
                }
                Some(Some(Err(_)) | None) => {}
            }
        }
    }
}

/// The value is one that a server answered while the request was under way; and when the primary
/// did, it is not older than a write that was acknowledged before. A failover that loses writes
/// makes an old value the newest again; a replica, and a primary that was replaced without hearing
/// of it, may be behind.
fn check_look(entry: &Entry, operation: Operation, nodes: &[ReplyNode], servers: &Servers) {
    let key = register(operation.tag).into_bytes();
    let value = match nodes {
        [ReplyNode::BulkString(value)] => Some(&value[..]),
        [ReplyNode::Null] => None,
        _ => panic!("INVARIANT: a reply belongs to its request: {operation:?} {nodes:?}"),
    };
    let reads = servers.store.reads[entry.reads_before..].iter();
    let mut reads = reads.filter(|read| read.key == key && read.value.as_deref() == value).peekable();
    assert!(
        reads.peek().is_some(),
        "INVARIANT: what was read was answered in the request's time: {operation:?} {nodes:?}"
    );
    let serial = servers.store.serial_of(&key, value);
    let is_fresh = serial >= entry.acknowledged_before;
    let may_be_behind = reads.any(|read| read.source != Source::Primary);
    assert!(
        is_fresh || may_be_behind,
        "INVARIANT: a primary's answer is not older than what was acknowledged before: {operation:?} {nodes:?}"
    );
}
