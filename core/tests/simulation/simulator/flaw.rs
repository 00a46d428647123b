//! What can be wrong with the client on purpose, to show that a run finds it out.

/// A client's flaw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    None,
    /// It sends writes again that may have been executed, and was told not to.
    RepeatsWrites,
    /// It loses an outcome after so many.
    LosesOutcomes {
        after: u64,
    },
}

impl Flaw {
    /// Whether the next outcome is lost.
    pub(super) fn loses_outcome(&mut self) -> bool {
        let Self::LosesOutcomes { after } = self else { return false };
        let is_lost = *after == 0;
        *after = after.wrapping_sub(1);
        is_lost
    }
}
