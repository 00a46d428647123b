//! How the commands of a call end whose replies nobody reads.

use tokio::sync::mpsc;

use crate::Error;

/// How a command has ended, in as few bytes as it takes.
#[derive(Debug)]
pub(super) struct End {
    pub(super) number: u64,
    /// None when it went well.
    pub(super) error: Option<Box<Error>>,
}

/// Where the ends of a call's commands go: in portions, as they come.
pub(super) struct Outcomes {
    /// The number of the first command.
    first: u64,
    /// Which have ended.
    ended: Vec<bool>,
    /// Those of them that the caller has not been sent yet.
    unreported: Vec<End>,
    sender: mpsc::UnboundedSender<Vec<End>>,
}

impl Outcomes {
    pub(super) fn new(first: u64, count: usize, sender: mpsc::UnboundedSender<Vec<End>>) -> Self {
        Self { first, ended: vec![false; count], unreported: Vec::new(), sender }
    }

    /// Takes the end of a command. False when it had ended before.
    pub(super) fn end(&mut self, index: usize, error: Option<Error>) -> bool {
        match self.ended.get_mut(index) {
            Some(ended @ false) => *ended = true,
            _ => return false,
        }
        self.unreported.push(End { number: self.first + index as u64, error: error.map(Box::new) });
        true
    }

    /// Whether the caller has been sent all that have ended.
    pub(super) fn are_reported(&self) -> bool {
        self.unreported.is_empty()
    }

    /// Sends the caller what it has not been sent yet. The caller may have gone.
    pub(super) fn report(&mut self) {
        if !self.are_reported() {
            let _ = self.sender.send(std::mem::take(&mut self.unreported));
        }
    }

    /// Ends all that have not ended with this error.
    pub(super) fn fail(mut self, error: &Error) {
        for index in 0..self.ended.len() {
            self.end(index, Some(error.clone()));
        }
        self.report();
    }

    /// Whether nobody waits any more.
    pub(super) fn is_gone(&self) -> bool {
        self.sender.is_closed()
    }
}
