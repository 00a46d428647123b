//! A driver's bookkeeping: whose each command is, and what has ended.
//!
//! A driver of the [`Cluster`] serves two kinds of callers:
//!
//! - A **call** hands commands in and stays until each of them has ended.
//! - Whoever **submits** a command gets its **ticket** at once: a number that no other command of
//!   the client has. When the command has ended it is a **completion**, until somebody takes that.
//!
//! ```text
//!   call(index) ─┐                           ┌─→ returned ────→ take_returned
//!                ├─→ Cluster ── Done(token) ─┤
//!   submit ──────┘   ↑                       └─→ completions ─→ take_completions
//!      └─→ ticket    └── forget ── cancel(tickets)
//! ```
//!
//! | file | what is there |
//! |---|---|
//! | `tickets.rs` | the tickets under way, found by their numbers |
//! | `portion.rs` | how much of what has ended one call returns |
//! | `replies.rs` | replies as bytes, in the order of their commands or as they came |
//!
//! A session does no I/O and keeps no sockets: it is the same for every driver.

mod portion;
mod replies;
#[cfg(test)]
mod tests;
mod tickets;

use alloc::collections::VecDeque;
use alloc::vec::{Drain, Vec};

pub use self::portion::{Budget, Portion};
pub use self::replies::{EncodedCompletions, Ended, RepliesInOrder};
use self::tickets::Tickets;
use crate::cluster::{Cluster, Command, Destination, Token};
use crate::error::Error;
use crate::resp::RawReply;
use crate::time::Instant;

/// The bit that a call's tokens have. Tickets never come to it.
const CALL: u64 = 1 << 63;

/// The bookkeeping of one driver.
#[derive(Debug, Default)]
pub struct Session {
    next_ticket: u64,
    tickets: Tickets,
    /// Tickets whose command has ended, until they are taken.
    completions: VecDeque<(u64, Ended)>,
    /// Commands of the call under way that have ended, by their index.
    returned: Vec<(usize, Ended)>,
}

impl Session {
    /// Hands in the command of a call that has this index there.
    ///
    /// One call is under way at a time, and it stays until all of its commands have ended.
    pub fn call(
        &mut self,
        cluster: &mut Cluster,
        now: Instant,
        index: usize,
        command: Command,
        destination: &Destination,
    ) {
        cluster.submit(now, command, destination, Token(CALL | index as u64));
    }

    /// Hands a command in. Its ticket is [`next_ticket`](Self::next_ticket).
    pub fn submit(
        &mut self,
        cluster: &mut Cluster,
        now: Instant,
        command: Command,
        destination: &Destination,
    ) {
        let ticket = self.take_ticket();
        let id = cluster.submit(now, command, destination, Token(ticket));
        self.tickets.add(ticket, id);
    }

    /// Takes a command that cannot be sent. It has a ticket like any other, and has ended.
    pub fn refuse(&mut self, error: Error) {
        let ticket = self.take_ticket();
        self.completions.push_back((ticket, Err(error)));
    }

    /// The ticket of the next command that is submitted or refused.
    #[must_use]
    pub fn next_ticket(&self) -> u64 {
        self.next_ticket
    }

    fn take_ticket(&mut self) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        ticket
    }

    /// Takes an [`Output::Done`](crate::cluster::Output::Done). That of a ticket that is not under
    /// way is dropped.
    pub fn done(&mut self, token: Token, result: Ended) {
        if token.0 & CALL != 0 {
            self.returned.push(((token.0 & !CALL) as usize, result));
        } else if self.tickets.remove(token.0).is_some() {
            self.completions.push_back((token.0, result));
        }
    }

    /// The call's commands that have ended since this was last asked, by their index.
    pub fn take_returned(&mut self) -> Drain<'_, (usize, Ended)> {
        self.returned.drain(..)
    }

    /// Whether a wait for the next completion is over: there is one, or none is to come.
    #[must_use]
    pub fn is_wait_over(&self) -> bool {
        !self.completions.is_empty() || self.tickets.is_empty()
    }

    /// Gives up the commands that have these tickets: each range is its first ticket and how many
    /// there are. Gives the tickets that were under way. No completion comes for those.
    pub fn cancel(&mut self, cluster: &mut Cluster, ranges: impl Iterator<Item = (u64, u64)>) -> Vec<u64> {
        let mut cancelled = Vec::new();
        for (first, count) in ranges {
            self.tickets.take_range(first, count, |ticket, id| {
                cluster.forget(id);
                cancelled.push(ticket);
            });
        }
        cancelled
    }

    /// Takes the completions that are in this portion, in the order in which they ended. The first
    /// is always in it.
    pub fn take_completions(&mut self, mut portion: Portion, mut give: impl FnMut(u64, Ended)) {
        let mut is_first = true;
        while let Some((_, ended)) = self.completions.front() {
            let is_within = portion.take(ended.as_ref().map_or(0, RawReply::size));
            if !is_within && !is_first {
                return;
            }
            if let Some((ticket, ended)) = self.completions.pop_front() {
                give(ticket, ended);
            }
            if !is_within {
                return;
            }
            is_first = false;
        }
    }
}
