//! Who has what lent connection, as the servers see it.

use std::collections::{BTreeMap, BTreeSet};

use super::super::store::{is_register, number_of};
use super::super::wire::Words;
use super::{Servers, Session, arguments};

/// Who has what lent connection.
#[derive(Debug, Default)]
pub(crate) struct Borrowers {
    /// The lease over which the operation with this number is sent.
    pub(crate) of_number: BTreeMap<u64, u64>,
    pub(crate) returned: BTreeSet<u64>,
    /// The connection of each lease.
    sessions: BTreeMap<u64, u64>,
}

impl Borrowers {
    /// The lease has no connection any more.
    pub(super) fn let_go(&mut self, lease: Option<u64>) {
        self.sessions.retain(|borrower, _| Some(*borrower) != lease);
    }
}

/// What a borrower says first: its number.
pub(crate) fn lease_marker(lease: u64) -> String {
    format!("lease:{lease}")
}

/// The number of the lease whose marker this is.
pub(crate) fn lease_of_marker(word: &[u8]) -> Option<u64> {
    std::str::from_utf8(word).ok()?.strip_prefix("lease:")?.parse().ok()
}

impl Servers {
    /// What one borrower leaves on a connection is not there for the next, and nobody else uses it
    /// meanwhile.
    pub(super) fn check_borrower(&mut self, session: &mut Session, name: &str, words: &Words) {
        if let Some(lease) = words.get(1).and_then(|word| lease_of_marker(word)) {
            let is_clean =
                session.transaction.is_none() && session.watched.is_empty() && session.database == b"0";
            let is_clean = is_clean && !session.asking && !session.readonly;
            assert!(is_clean, "INVARIANT: a lent connection is clean: lease {lease} of {session:?}");
            return self.lend(session, lease);
        }
        let Some((keys, _)) = arguments(name, words) else { return };
        // It has a connection that no borrower has.
        if name == "BLPOP" && session.lease.is_none_or(|lease| self.borrowers.returned.contains(&lease)) {
            session.lease = None;
        }
        // Directed tests use their keys as they like.
        if is_register(&keys[0]) || self.borrowers.of_number.is_empty() {
            return;
        }
        let lease = number_of(&keys[0]).and_then(|number| self.borrowers.of_number.get(&number).copied());
        match (lease, session.lease) {
            (Some(lease), now) if now != Some(lease) => self.lend(session, lease),
            (lease, now) => {
                assert_eq!(lease, now, "INVARIANT: a lent connection is nobody else's: {words:?}");
            }
        }
    }

    fn lend(&mut self, session: &mut Session, lease: u64) {
        let before = session.lease.replace(lease);
        assert!(
            before.is_none_or(|before| self.borrowers.returned.contains(&before)),
            "INVARIANT: a connection is lent to one at a time: {before:?} and {lease}"
        );
        let number = *self.borrowers.sessions.entry(lease).or_insert(session.number);
        assert_eq!(number, session.number, "INVARIANT: lease {lease} has one connection");
    }
}
