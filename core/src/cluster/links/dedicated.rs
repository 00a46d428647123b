//! Who uses a connection, and what a holder has left on one.

use crate::cluster::ids::LeaseId;
use crate::command::prepared::Effect;

/// Who uses a connection.
#[derive(Debug)]
pub(in crate::cluster) enum Usage {
    /// Every request for its node.
    Shared,
    /// One holder at a time, or nobody.
    Dedicated(Dedicated),
}

/// What a dedicated connection is up to.
#[derive(Debug, Default)]
pub(in crate::cluster) struct Dedicated {
    /// Who has it, or is to have it once it is ready.
    pub(super) lease: Option<LeaseId>,
    /// Whether anything of theirs has been handed to the driver.
    pub(super) used: bool,
    /// Whether a command that blocks was sent over it.
    pub(super) blocks: bool,
    pub(super) watching: bool,
    /// Between MULTI and EXEC.
    pub(super) in_multi: bool,
    /// It is closed when it comes back.
    pub(super) dirty: bool,
}

impl Dedicated {
    /// One that somebody has from the beginning.
    pub(in crate::cluster) fn for_lease(lease: LeaseId) -> Self {
        Self { lease: Some(lease), ..Self::default() }
    }

    pub(in crate::cluster) fn lease(&self) -> Option<LeaseId> {
        self.lease
    }

    /// Somebody has it, or nobody.
    pub(in crate::cluster) fn set_lease(&mut self, lease: Option<LeaseId>) {
        self.lease = lease;
    }

    /// Its holder has it now, and has sent nothing yet.
    pub(in crate::cluster) fn begin_use(&mut self) {
        self.used = false;
    }

    pub(in crate::cluster) fn note_blocks(&mut self, blocks: bool) {
        self.blocks |= blocks;
    }

    /// Whether a command that blocks was sent over it, since this was last asked.
    pub(in crate::cluster) fn take_blocks(&mut self) -> bool {
        core::mem::take(&mut self.blocks)
    }

    pub(in crate::cluster) fn is_in_multi(&self) -> bool {
        self.in_multi
    }

    pub(in crate::cluster) fn is_dirty(&self) -> bool {
        self.dirty
    }

    /// It is closed when it comes back.
    pub(in crate::cluster) fn mark_dirty(&mut self) {
        self.dirty = true;
    }

    /// What undoes what its holder has left.
    pub(in crate::cluster) fn undo(&self) -> Option<&'static str> {
        match self {
            Self { in_multi: true, .. } => Some("DISCARD"),
            Self { watching: true, .. } => Some("UNWATCH"),
            _ => None,
        }
    }

    /// Remembers what a command does to the connection.
    pub(in crate::cluster) fn note(&mut self, effect: Effect) {
        match effect {
            Effect::None => {}
            Effect::Watches => self.watching = true,
            Effect::Unwatches if !self.in_multi => self.watching = false,
            Effect::Unwatches => {}
            Effect::Opens => self.in_multi = true,
            Effect::Ends => (self.watching, self.in_multi) = (false, false),
            Effect::Spoils | Effect::Breaks => self.dirty = true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_holder_has_left_is_undone_or_the_connection_is_closed() {
        use Effect::{Breaks, Ends, None, Opens, Spoils, Unwatches, Watches};
        for (commands, undo, dirty) in [
            (&[None, None][..], Option::None, false),
            (&[Watches], Some("UNWATCH"), false),
            (&[Watches, Unwatches], Option::None, false),
            (&[Watches, Opens], Some("DISCARD"), false),
            (&[Opens], Some("DISCARD"), false),
            // Within a transaction it is only queued.
            (&[Watches, Opens, Unwatches], Some("DISCARD"), false),
            (&[Watches, Opens, None, Ends], Option::None, false),
            (&[Ends, Watches], Some("UNWATCH"), false),
            (&[Spoils], Option::None, true),
            (&[Watches, Breaks, Ends], Option::None, true),
        ] {
            let mut dedicated = Dedicated::default();
            commands.iter().for_each(|command| dedicated.note(*command));
            assert_eq!((dedicated.undo(), dedicated.is_dirty()), (undo, dirty), "{commands:?}");
            if undo.is_some() {
                dedicated.note(Ends);
                assert_eq!(dedicated.undo(), Option::None, "it is clean: {commands:?}");
            }
        }
    }

    #[test]
    fn that_something_blocked_is_told_once() {
        let mut dedicated = Dedicated::default();
        dedicated.note_blocks(true);
        dedicated.note_blocks(false);
        assert_eq!([dedicated.take_blocks(), dedicated.take_blocks()], [true, false]);
    }
}
