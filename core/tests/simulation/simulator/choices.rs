//! Where every decision of a run comes from: a seed, or the bytes of a fuzzer.
//!
//! From a seed, what is decided at one time depends on the seed and that time
//! ([`Choices::turn_to`]), not on how many decisions came before. So a run without one of its
//! requests or faults goes on as it did with it, apart from what that has to do with.
//!
//! Zero always means the calm choice (the shortest latency, no fault), so that a fuzzer's input
//! that has run out ends the run quietly, and a shorter input is a simpler run.

/// The source of all decisions.
#[derive(Debug)]
pub(crate) enum Choices {
    /// SplitMix64 from a seed.
    Seeded { seed: u64, state: u64 },
    /// One byte or a few for each decision, then zeros.
    Steered { bytes: Vec<u8>, at: usize },
}

/// What SplitMix64 adds each time.
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

/// What SplitMix64 makes of a state.
fn mixed(state: u64) -> u64 {
    let mut mixed = state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

impl Choices {
    pub(crate) fn seeded(seed: u64) -> Self {
        Self::Seeded { seed, state: seed }
    }

    /// It is another time: what comes now has nothing to do with what came before.
    pub(crate) fn turn_to(&mut self, now: u64) {
        if let Self::Seeded { seed, state } = self {
            *state = mixed(seed.wrapping_mul(STEP) ^ mixed(now));
        }
    }

    pub(crate) fn next(&mut self, width: usize) -> u64 {
        match self {
            Self::Seeded { state, .. } => {
                *state = state.wrapping_add(STEP);
                mixed(*state)
            }
            Self::Steered { bytes, at } => {
                let mut value = 0;
                for _ in 0..width {
                    value = value << 8 | u64::from(bytes.get(*at).copied().unwrap_or(0));
                    *at += 1;
                }
                value
            }
        }
    }

    /// A number below `bound`, which is not zero.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        let width = if bound <= 1 << 8 { 1 } else { 3 };
        self.next(width) % bound
    }

    /// A number from `low` to `high`, both included.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// True so many times in a hundred.
    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        percent > 0 && self.below(100) >= 100 - percent
    }

    /// An index into something of this length, which is not zero.
    pub(crate) fn index(&mut self, length: usize) -> usize {
        self.below(length as u64) as usize
    }

    /// One of the items.
    pub(crate) fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.index(items.len())]
    }
}
