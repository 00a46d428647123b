//! What is done on lent connections in a random run.

use super::choices::Choices;
use super::faults::Act;
use super::history::Transaction;
use super::operation::{Kind, Operation, TAG_COUNT, key_of_tag};
use super::server::Servers;
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
pub(super) fn plan_leases(choices: &mut Choices, number: &mut u64, plan: &mut Vec<(u64, Act)>) {
    for lease in 0..choices.pick(&[0, 0, 2, 5, 12]) {
        let from = choices.below(3_000) * MILLISECOND;
        let tag = (!choices.chance(15)).then(|| choices.below(TAG_COUNT));
        plan.push((from, Act::Lend { lease, tag }));
        let mut at = from;
        for _ in 0..choices.between(0, 5) {
            at += choices.pick(&[0, 1, 20, 200, 800]) * MILLISECOND;
            for (wait, lines) in burst(choices, number, tag.unwrap_or(0)) {
                at += wait;
                plan.push((at, Act::Use { lease, lines }));
            }
        }
        if !choices.chance(10) {
            at += choices.pick(&[0, 1, 10, 100, 1_000]) * MILLISECOND;
            plan.push((at, Act::GiveBack { lease }));
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
pub(super) fn plan_addressed(
    choices: &mut Choices,
    servers: &Servers,
    number: &mut u64,
    plan: &mut Vec<(u64, Act)>,
) {
    for _ in 0..choices.pick(&[0, 0, 1, 4]) {
        *number += 1;
        let kind = choices.pick(&[Kind::Echo, Kind::Get, Kind::Mget, Kind::Set, Kind::Incr]);
        let operation = Operation { kind, number: *number, tag: choices.below(TAG_COUNT) };
        let node = choices.index(servers.nodes.len());
        plan.push((choices.below(3_000) * MILLISECOND, Act::SubmitTo { node, operation }));
    }
}

/// The borrower's commands, unless it has given the connection back.
pub(super) fn use_lease(world: &mut World<Act>, lease: u64, lines: &[Line]) {
    if !world.leases.contains_key(&lease) {
        return;
    }
    for line in lines {
        let operation = match line {
            Line::Plain(operation) | Line::Queued(operation) => Some(*operation),
            _ => None,
        };
        let id = world.submit_on(lease, &words(line), operation);
        let open = world.open_transactions.get_mut(&lease);
        match (line, open) {
            // Another MULTI before the end spoils it.
            (Line::Multi, None) => {
                let transaction = Transaction { multi: id, queued: Vec::new(), exec: None, discard: None };
                world.open_transactions.insert(lease, transaction);
            }
            (Line::Queued(_), Some(transaction)) => transaction.queued.push(id),
            (Line::Exec | Line::Discard, Some(_)) => {
                let mut transaction = world.open_transactions.remove(&lease).expect("looked at above");
                match line {
                    Line::Exec => transaction.exec = Some(id),
                    _ => transaction.discard = Some(id),
                }
                world.history.transactions.push(transaction);
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
