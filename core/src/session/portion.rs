//! How large the replies are together that one call returns.

use alloc::format;

use super::replies::{Ended, LARGE};
use crate::error::Error;

/// How large the replies of one call may still be together.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    limit: u64,
    left: u64,
}

impl Budget {
    /// A budget of so many bytes, counted as [`RawReply::size`](crate::resp::RawReply::size) does.
    #[must_use]
    pub fn new(limit: u64) -> Self {
        Self { limit, left: limit }
    }

    /// The result, if what is left of the budget holds its reply.
    pub fn within(&mut self, ended: Ended) -> Ended {
        let reply = ended?;
        if self.take(reply.size()) {
            return Ok(reply);
        }
        Err(Error::LimitExceeded(format!(
            "the pipeline's replies are larger than {} bytes together (limit-reply-size); the command was executed",
            self.limit
        )))
    }

    /// Takes this from what is left, if there is as much.
    fn take(&mut self, size: u64) -> bool {
        let rest = self.left.checked_sub(size);
        self.left = rest.unwrap_or(self.left);
        rest.is_some()
    }
}

/// Which completions one wait returns: as many as fit the budget, and a large one alone.
#[derive(Clone, Copy, Debug)]
pub struct Portion {
    budget: Budget,
    /// From this size on a reply comes alone.
    alone_from: u64,
}

impl Portion {
    /// For completions that are decoded for their caller. While that is done no deadline is looked
    /// at, and the replies are held twice.
    #[must_use]
    pub fn decoded(reply_size: u64) -> Self {
        const BYTES_MAX: u64 = 16 << 20;
        Self { budget: Budget::new(reply_size.min(BYTES_MAX)), alone_from: u64::MAX }
    }

    /// For completions that are returned as bytes. A large reply is alone, so that its memory can
    /// be handed over.
    #[must_use]
    pub fn encoded(reply_size: u64) -> Self {
        const BYTES_MAX: u64 = 1 << 20;
        Self { budget: Budget::new(reply_size.min(BYTES_MAX)), alone_from: LARGE }
    }

    /// Takes a reply of this size in. False when it has no room beside others.
    pub(super) fn take(&mut self, size: u64) -> bool {
        self.budget.take(size) && size < self.alone_from
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ServerError;
    use crate::resp::RawReply;

    fn reply(length: usize) -> Ended {
        Ok(RawReply::new(alloc::vec![b'x'; length].into(), 0))
    }

    #[test]
    fn a_reply_beyond_the_budget_is_an_error_and_takes_nothing_of_it() {
        let mut budget = Budget::new(10);
        assert_eq!(budget.within(reply(6)), reply(6));
        let Err(Error::LimitExceeded(why)) = budget.within(reply(5)) else { panic!("no room") };
        assert!(why.contains("larger than 10 bytes"), "{why}");
        assert_eq!(budget.within(reply(4)), reply(4));
        assert!(budget.within(reply(1)).is_err());
        assert_eq!(budget.within(reply(0)), reply(0));
    }

    #[test]
    fn errors_cost_nothing() {
        let mut budget = Budget::new(0);
        let error = || Error::Server(ServerError { code: "ERR".into(), message: "no".into() });
        assert_eq!(budget.within(Err(error())), Err(error()));
    }
}
