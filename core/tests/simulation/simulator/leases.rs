//! What is done on lent connections in a random run.

use std::collections::BTreeMap;

use keyslot_core::cluster::{LeaseId, RequestId};
use keyslot_core::slot::Slot;

use super::choices::Choices;
use super::coverage::Feature;
use super::faults::Act;
use super::history::Transaction;
use super::operation::{Kind, Operation, TAG_COUNT, key_of_tag};
use super::plan::{Kind as Part, Plan};
use super::server::{Servers, lease_marker};
use super::wire::Words;
use super::world::{MILLISECOND, World};

/// One command of a borrower's.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Line {
    Plain(Operation),
    /// Of the tag's register.
    Watch(u64),
    Unwatch,
    Select(u64),
    Readonly,
    Asking,
    Multi,
    Queued(Operation),
    Exec,
    Discard,
}

const KINDS: [Kind; 6] = [Kind::Get, Kind::Incr, Kind::Set, Kind::Append, Kind::Look, Kind::Put];

/// Borrowers that come, use what they get, and give it back: at any time, or never.
pub(super) fn plan_leases(choices: &mut Choices, number: &mut u64, plan: &mut Plan) {
    for lease in 0..choices.pick(&[0, 0, 2, 5, 12]) {
        let from = choices.below(3_000) * MILLISECOND;
        let tag = (!choices.chance(15)).then(|| choices.below(TAG_COUNT));
        plan.add(Part::Borrower, vec![(from, Act::Lend { lease, tag })]);
        let mut at = from;
        // Where the last commands that belong together begin.
        let mut last = from;
        for _ in 0..choices.between(0, 5) {
            at += choices.pick(&[0, 1, 20, 200, 800]) * MILLISECOND;
            last = at;
            for (wait, lines) in burst(choices, number, tag.unwrap_or(0)) {
                at += wait;
                plan.add(Part::Borrower, vec![(at, Act::Use { lease, lines })]);
            }
        }
        if !choices.chance(10) {
            // Some go before they have done all.
            at = if lease % 5 == 1 { last } else { at };
            at += choices.pick(&[0, 1, 10, 100, 1_000]) * MILLISECOND;
            plan.add(Part::Borrower, vec![(at, Act::GiveBack { lease })]);
        }
    }
}

/// A few commands that belong together, each with the wait before it.
fn burst(choices: &mut Choices, number: &mut u64, tag: u64) -> Vec<(u64, Vec<Line>)> {
    let mut operation = |choices: &mut Choices| {
        *number += 1;
        Operation { kind: choices.pick(&KINDS), number: *number, tag }
    };
    let wait = choices.pick(&[0, 2, 50, 400]) * MILLISECOND;
    match choices.below(12) {
        0..=3 => vec![(0, (0..choices.between(1, 3)).map(|_| Line::Plain(operation(choices))).collect())],
        4 => vec![(0, vec![Line::Watch(tag)])],
        5 => vec![(0, vec![choices.pick(&[Line::Unwatch, Line::Exec, Line::Discard, Line::Asking])])],
        6 => vec![(0, vec![choices.pick(&[Line::Select(1), Line::Select(0), Line::Readonly])])],
        _ => {
            let mut lines = vec![Line::Multi];
            lines.extend((0..choices.between(1, 4)).map(|_| Line::Queued(operation(choices))));
            if choices.chance(30) {
                lines.insert(0, Line::Watch(tag));
            }
            // It may be given back before the end of the transaction.
            let end = choices.pick(&[Line::Exec, Line::Exec, Line::Exec, Line::Discard]);
            match wait {
                0 => {
                    lines.push(end);
                    vec![(0, lines)]
                }
                wait => vec![(0, lines), (wait, vec![end])],
            }
        }
    }
}

/// Requests for one node.
pub(super) fn plan_addressed(choices: &mut Choices, servers: &Servers, number: &mut u64, plan: &mut Plan) {
    for _ in 0..choices.pick(&[0, 0, 1, 4]) {
        *number += 1;
        let kind = choices.pick(&[Kind::Echo, Kind::Get, Kind::Mget, Kind::Set, Kind::Incr]);
        let operation = Operation { kind, number: *number, tag: choices.below(TAG_COUNT) };
        let node = choices.index(servers.nodes.len());
        let at = choices.below(3_000) * MILLISECOND;
        plan.add(Part::Request, vec![(at, Act::SubmitTo { node, operation })]);
    }
}

/// What is lent, and what is done on it.
#[derive(Debug, Default)]
pub(super) struct Leases {
    /// What was lent and has not come back, by its number.
    lent: BTreeMap<u64, LeaseId>,
    /// What follows a MULTI without its end, by the lease.
    open: BTreeMap<u64, Transaction>,
    /// When each was asked for and given back.
    times: BTreeMap<u64, (u64, Option<u64>)>,
}

impl Leases {
    fn lend(&mut self, lease: u64, id: LeaseId, now: u64) {
        let before = self.lent.insert(lease, id);
        assert!(before.is_none(), "a number is lent once");
        self.times.insert(lease, (now, None));
    }

    fn give_back(&mut self, lease: u64, now: u64) -> Option<LeaseId> {
        self.times.entry(lease).and_modify(|(_, back)| *back = Some(now));
        self.lent.remove(&lease)
    }

    /// Whether this one was asked for before the other was given back.
    pub(super) fn waited_for(&self, lease: u64, other: u64) -> bool {
        let (Some((asked, _)), Some((_, Some(back)))) = (self.times.get(&lease), self.times.get(&other))
        else {
            return false;
        };
        asked < back
    }

    pub(super) fn id(&self, lease: u64) -> LeaseId {
        self.lent[&lease]
    }

    /// How many are lent.
    pub(super) fn count(&self) -> usize {
        self.lent.len()
    }

    /// The transactions without an end.
    pub(super) fn take_open(&mut self) -> Vec<Transaction> {
        std::mem::take(&mut self.open).into_values().collect()
    }
}

impl<A: std::fmt::Debug> World<A> {
    /// Borrows a connection; the first command on it tells the servers whose it is. [`Self::drain`]
    /// has to follow.
    pub(crate) fn lend(&mut self, lease: u64, slot: Option<Slot>) -> RequestId {
        let id = self.cluster.lend(self.machine_now(), slot);
        self.log(|| format!("{id:?} lend {lease} for {slot:?}"));
        let now = self.now();
        self.leases.lend(lease, id, now);
        let marker = vec![b"ECHO".to_vec(), lease_marker(lease).into_bytes()];
        self.submit_on(lease, &marker, None)
    }

    /// Gives back what was borrowed; [`Self::drain`] has to follow.
    pub(crate) fn give_back(&mut self, lease: u64) {
        let now = self.now();
        let Some(id) = self.leases.give_back(lease, now) else { return };
        self.log(|| format!("{id:?} give back {lease}"));
        self.servers.borrowers.returned.insert(lease);
        self.coverage.count_if(Feature::LeftInTransaction, self.leases.open.contains_key(&lease));
        self.cluster.give_back(id);
    }
}

/// The borrower's commands, unless it has given the connection back.
pub(super) fn use_lease(world: &mut World<Act>, lease: u64, lines: &[Line]) {
    if !world.leases.lent.contains_key(&lease) {
        return;
    }
    for line in lines {
        let operation = match line {
            Line::Plain(operation) | Line::Queued(operation) => Some(*operation),
            _ => None,
        };
        let id = world.submit_on(lease, &words(line), operation);
        let open = world.leases.open.get_mut(&lease);
        match (line, open) {
            // Another MULTI before the end spoils it.
            (Line::Multi, None) => {
                let transaction = Transaction { multi: id, queued: Vec::new(), exec: None, discard: None };
                world.leases.open.insert(lease, transaction);
            }
            (Line::Queued(_), Some(transaction)) => transaction.queued.push(id),
            (Line::Exec | Line::Discard, Some(_)) => {
                let mut transaction = world.leases.open.remove(&lease).expect("looked at above");
                match line {
                    Line::Exec => transaction.exec = Some(id),
                    _ => transaction.discard = Some(id),
                }
                world.history.ended(transaction);
            }
            _ => {}
        }
    }
}

fn words(line: &Line) -> Words {
    let text = match line {
        Line::Plain(operation) | Line::Queued(operation) => return operation.words(),
        Line::Watch(tag) => format!("WATCH {}", key_of_tag(*tag, 'v', 0)),
        Line::Select(database) => format!("SELECT {database}"),
        Line::Unwatch => "UNWATCH".into(),
        // In lower case, which tells it from the client's own.
        Line::Readonly => "readonly".into(),
        Line::Asking => "ASKING".into(),
        Line::Multi => "MULTI".into(),
        Line::Exec => "EXEC".into(),
        Line::Discard => "DISCARD".into(),
    };
    text.split(' ').map(|word| word.as_bytes().to_vec()).collect()
}
