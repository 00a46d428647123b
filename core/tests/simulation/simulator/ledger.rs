//! What was asked, what was answered, and whether the two go together.
//!
//! A failed check panics with a text that begins with `INVARIANT`.

use std::collections::BTreeMap;

use keyslot_core::cluster::RequestId;
use keyslot_core::error::Error;
use keyslot_core::resp::{Reply, ReplyNode};

use super::wire::Words;

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Echo,
    Get,
    Mget,
    Set,
    GetSet,
    Append,
    Incr,
    Del,
}

pub(crate) const KINDS: [Kind; 10] = [
    Kind::Get,
    Kind::Set,
    Kind::Incr,
    Kind::Mget,
    Kind::GetSet,
    Kind::Append,
    Kind::Del,
    Kind::Echo,
    Kind::Get,
    Kind::Set,
];

/// One request: its kind, its number, which nobody else has, and the hash tag that decides its slot.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Operation {
    pub(crate) kind: Kind,
    pub(crate) number: u64,
    pub(crate) tag: u64,
}

/// How many hash tags the operations use.
pub(crate) const TAG_COUNT: u64 = 8;

/// The key of one kind that carries a request's number.
pub(crate) fn key(tag: u64, kind: char, number: u64) -> String {
    format!("{{t{tag}}}:{kind}:{number}")
}

impl Operation {
    pub(crate) fn writes(&self) -> bool {
        !matches!(self.kind, Kind::Echo | Kind::Get | Kind::Mget)
    }

    pub(crate) fn words(&self) -> Words {
        let key = |kind| key(self.tag, kind, self.number);
        let number = self.number.to_string();
        let words = match self.kind {
            Kind::Echo => vec!["ECHO".into(), number],
            Kind::Get => vec!["GET".into(), key('g')],
            Kind::Mget => vec!["MGET".into(), key('m'), key('n')],
            Kind::Set => vec!["SET".into(), key('s'), number],
            Kind::GetSet => vec!["GETSET".into(), key('o'), number],
            Kind::Append => vec!["APPEND".into(), key('l'), "x".repeat(self.number as usize)],
            Kind::Incr => vec!["INCR".into(), key('i')],
            Kind::Del => vec!["DEL".into(), key('d'), key('e')],
        };
        words.into_iter().map(String::into_bytes).collect()
    }

    /// The reply that only this request can have (SET and DEL apart, which all have the same).
    fn expected(&self) -> Vec<ReplyNode> {
        let number = self.number;
        let value = |kind: char| ReplyNode::BulkString(format!("{kind}:{number}").into_bytes().into());
        match self.kind {
            Kind::Echo => vec![ReplyNode::BulkString(number.to_string().into_bytes().into())],
            Kind::Get => vec![value('g')],
            Kind::Mget => vec![ReplyNode::Array(2), value('m'), value('n')],
            Kind::Set => vec![ReplyNode::SimpleString("OK".into())],
            Kind::GetSet => vec![value('o')],
            Kind::Append => vec![ReplyNode::Integer(format!("l:{number}").len() as i64 + number as i64)],
            Kind::Incr => vec![ReplyNode::Integer(number as i64 * 1000 + 1)],
            Kind::Del => vec![ReplyNode::Integer(2)],
        }
    }
}

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
        Error::ConnectionLost(interrupted) | Error::Timeout(interrupted) => !interrupted.possibly_executed,
        Error::Protocol(_) | Error::LimitExceeded(_) | Error::Closed => false,
    }
}

#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) operation: Option<Operation>,
    submitted_at: u64,
    forgotten: bool,
    pub(crate) outcome: Option<Result<Reply, Error>>,
}

/// Every request of a run.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) entries: BTreeMap<RequestId, Entry>,
}

impl Ledger {
    pub(crate) fn submitted(&mut self, id: RequestId, operation: Option<Operation>, now: u64) {
        let entry = Entry { operation, submitted_at: now, forgotten: false, outcome: None };
        let before = self.entries.insert(id, entry);
        assert!(before.is_none(), "INVARIANT: a request id is never used twice: {id:?}");
    }

    pub(crate) fn forgotten(&mut self, id: RequestId) {
        self.entries.get_mut(&id).expect("only submitted requests are forgotten").forgotten = true;
    }

    pub(crate) fn done(&mut self, id: RequestId, result: Result<Reply, Error>, now: u64, timeout: u64) {
        let entry =
            self.entries.get_mut(&id).unwrap_or_else(|| panic!("INVARIANT: {id:?} was never submitted"));
        assert!(
            entry.outcome.is_none(),
            "INVARIANT: each request completes once; {id:?} {:?} again",
            entry.operation
        );
        assert!(!entry.forgotten, "INVARIANT: a forgotten request does not complete; {id:?} did");
        let took = now - entry.submitted_at;
        assert!(
            took <= timeout + 1_000_000,
            "INVARIANT: requests end within their time; {id:?} took {took} ns"
        );
        if let (Some(operation), Ok(reply)) = (&entry.operation, &result) {
            let expected = operation.expected();
            assert_eq!(reply.nodes, expected, "INVARIANT: a reply belongs to its request: {operation:?}");
        }
        entry.outcome = Some(result);
    }

    /// The requests that have not ended, those that were forgotten left out.
    pub(crate) fn pending(&self) -> usize {
        self.entries.values().filter(|entry| entry.outcome.is_none() && !entry.forgotten).count()
    }

    /// Nothing has failed.
    pub(crate) fn check_all_served(&self) {
        for (id, entry) in &self.entries {
            let served = entry.forgotten || matches!(entry.outcome, Some(Ok(_)));
            assert!(served, "INVARIANT: no request notices that slots move: {id:?} {entry:?}");
        }
    }

    /// No write ran twice, and each ran as its outcome says.
    pub(crate) fn check_executions(&self, executions: &BTreeMap<u64, u32>) {
        for (id, entry) in &self.entries {
            let Some(operation) = entry.operation.filter(Operation::writes) else { continue };
            let times = executions.get(&operation.number).copied().unwrap_or(0);
            let outcome = &entry.outcome;
            let what = format!("{id:?} {operation:?} ran {times} times and ended as {outcome:?}");
            assert!(times <= 1, "INVARIANT: no write is executed twice: {what}");
            match outcome {
                Some(Ok(_)) => assert_eq!(times, 1, "INVARIANT: what was answered was executed: {what}"),
                Some(Err(error)) if promises_not_executed(error) => {
                    assert_eq!(times, 0, "INVARIANT: what was promised not to have run has not: {what}");
                }
                Some(Err(_)) | None => {}
            }
        }
    }
}
