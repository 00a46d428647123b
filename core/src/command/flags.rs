//! A command's flags, as a set of bits.

use core::ops::BitOr;

/// A set of command flags. The names are the servers' own, as COMMAND INFO gives them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(u32);

impl Flags {
    /// No flag.
    pub const NONE: Self = Self(0);
    /// May change data.
    pub const WRITE: Self = Self(1);
    /// Reads keys and changes none: a replica may answer.
    pub const READONLY: Self = Self(1 << 1);
    /// Refused when the server is out of memory.
    pub const DENYOOM: Self = Self(1 << 2);
    /// An administrator's command.
    pub const ADMIN: Self = Self(1 << 3);
    /// Concerns publish and subscribe.
    pub const PUBSUB: Self = Self(1 << 4);
    /// Not allowed in a script.
    pub const NOSCRIPT: Self = Self(1 << 5);
    /// May keep its connection waiting.
    pub const BLOCKING: Self = Self(1 << 6);
    /// Allowed while the server loads its data.
    pub const LOADING: Self = Self(1 << 7);
    /// Allowed on a replica whose data is stale.
    pub const STALE: Self = Self(1 << 8);
    /// Takes constant or logarithmic time.
    pub const FAST: Self = Self(1 << 9);
    /// Allowed before authentication.
    pub const NO_AUTH: Self = Self(1 << 10);
    /// Not allowed between MULTI and EXEC.
    pub const NO_MULTI: Self = Self(1 << 11);
    /// The keys' positions depend on other arguments.
    pub const MOVABLEKEYS: Self = Self(1 << 12);
    /// Refused during the asynchronous load of a replica's data.
    pub const NO_ASYNC_LOADING: Self = Self(1 << 13);
    /// Allowed while a script is over its time.
    pub const ALLOW_BUSY: Self = Self(1 << 14);
    /// May have no key at all, as EVAL may.
    pub const NO_MANDATORY_KEYS: Self = Self(1 << 15);
    /// Allowed in a slot that is being imported.
    pub const ASKING: Self = Self(1 << 16);
    /// Comes with a module that the server has built in.
    pub const MODULE: Self = Self(1 << 17);
    /// Running it twice is harmless. Not a server's flag: the table's generator decides.
    pub const REPEATABLE: Self = Self(1 << 18);

    /// Whether every flag of `other` is in this set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both sets' flags; `|` for constants.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOr for Flags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        self.union(other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_contains_its_parts() {
        let both = Flags::WRITE | Flags::FAST;
        assert!(both.contains(Flags::WRITE) && both.contains(Flags::FAST) && both.contains(both));
        assert!(both.contains(Flags::NONE));
        assert!(!both.contains(Flags::READONLY) && !Flags::WRITE.contains(both));
    }
}
