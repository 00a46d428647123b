//! Hash slots: which of the 16,384 parts of the key space a key belongs to.
//!
//! Redis cluster specification, "Key distribution model" and "Hash tags".

use core::fmt;

/// How many hash slots a cluster has.
pub const SLOT_COUNT: u16 = 16_384;

/// One of the 16,384 hash slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u16);

impl Slot {
    /// The slot with this number, or `None` from 16,384 on.
    #[must_use]
    pub const fn new(number: u16) -> Option<Self> {
        if number < SLOT_COUNT { Some(Self(number)) } else { None }
    }

    /// The slot of a key: CRC16 (XMODEM) of its hash tag, or of all of it, modulo 16,384.
    #[must_use]
    pub fn of_key(key: &[u8]) -> Self {
        Self(crc16::State::<crc16::XMODEM>::calculate(hash_tag(key)) % SLOT_COUNT)
    }

    /// The slot's number, below 16,384.
    #[must_use]
    pub const fn number(self) -> u16 {
        self.0
    }

    /// The slot's number as an index into a table of all slots.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The part of a key that decides its slot: what stands between the first `{` and the first `}`
/// after it when that is not empty, otherwise the whole key.
#[must_use]
pub fn hash_tag(key: &[u8]) -> &[u8] {
    let open = key.iter().position(|&byte| byte == b'{');
    let Some(after) = open.and_then(|open| key.get(open + 1..)) else {
        return key;
    };
    match after.iter().position(|&byte| byte == b'}') {
        None | Some(0) => key,
        Some(length) => after.get(..length).unwrap_or(key),
    }
}

/// Consecutive slots, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotRange {
    first: Slot,
    last: Slot,
}

impl SlotRange {
    /// The slots from `first` to `last`, or `None` when they are the wrong way round.
    #[must_use]
    pub fn new(first: Slot, last: Slot) -> Option<Self> {
        (first <= last).then_some(Self { first, last })
    }

    /// The first slot of the range.
    #[must_use]
    pub const fn first(self) -> Slot {
        self.first
    }

    /// The last slot of the range.
    #[must_use]
    pub const fn last(self) -> Slot {
        self.last
    }

    /// Every slot of the range, in order.
    pub fn slots(self) -> impl Iterator<Item = Slot> {
        (self.first.0..=self.last.0).map(Slot)
    }
}

impl fmt::Display for SlotRange {
    /// As the servers write it: `5` for a single slot, else `0-5460`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last { self.first.fmt(f) } else { write!(f, "{}-{}", self.first, self.last) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tag_is_what_the_specification_says() {
        for (key, tag) in [
            ("{user1000}.following", "user1000"),
            ("foo{}{bar}", "foo{}{bar}"),
            ("foo{{bar}}zap", "{bar"),
            ("foo{bar}{zap}", "bar"),
            ("}{a}", "a"),
            ("a{b", "a{b"),
            ("", ""),
        ] {
            assert_eq!(hash_tag(key.as_bytes()), tag.as_bytes(), "{key}");
        }
    }

    #[test]
    fn the_slot_is_crc16_modulo_16384() {
        // The specification's own check value, 0x31C3, and two well-known keys.
        assert_eq!(Slot::of_key(b"123456789").number(), 0x31C3 % SLOT_COUNT);
        assert_eq!(Slot::of_key(b"foo").number(), 12_182);
        assert_eq!(Slot::of_key(b"").number(), 0);
    }
}
