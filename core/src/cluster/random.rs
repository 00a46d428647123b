//! The only randomness in the core: a generator that the driver seeds.

use core::time::Duration;

/// SplitMix64 (Steele, Lea, Flood 2014): enough to spread load and jitter, of no use for secrets.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; zero when `bound` is zero.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        let bound = bound as u64;
        self.next().checked_rem(bound).unwrap_or(0) as usize
    }

    /// One of the items, each as likely as the others.
    pub(super) fn choose<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        items.get(self.below(items.len()))
    }

    /// Between half of the exponential delay and all of it: `base × 2^attempt`, at most `cap`.
    ///
    /// The lower half keeps a retry from coming at once, the random upper half keeps many clients
    /// from coming together.
    pub(super) fn backoff(&mut self, base: Duration, cap: Duration, attempt: u32) -> Duration {
        let half = exponential(base, cap, attempt) / 2;
        half + self.up_to(half)
    }

    /// Between nothing and the whole exponential delay ("full jitter"): the most even spread of
    /// many clients.
    pub(super) fn full_jitter(&mut self, base: Duration, cap: Duration, attempt: u32) -> Duration {
        self.up_to(exponential(base, cap, attempt))
    }

    /// Any duration up to this one.
    pub(super) fn up_to(&mut self, most: Duration) -> Duration {
        let span = u64::try_from(most.as_nanos()).unwrap_or(u64::MAX).saturating_add(1);
        Duration::from_nanos(self.next() % span)
    }
}

fn exponential(base: Duration, cap: Duration, attempt: u32) -> Duration {
    base.saturating_mul(1u32.checked_shl(attempt).unwrap_or(u32::MAX)).min(cap)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_up_to_its_cap() {
        let mut random = Random::new(7);
        let (base, cap) = (Duration::from_millis(10), Duration::from_secs(1));
        for attempt in 0..100 {
            let whole = base.saturating_mul(2u32.saturating_pow(attempt)).min(cap);
            let delay = random.backoff(base, cap, attempt);
            assert!(delay >= whole / 2 && delay <= whole, "{attempt}: {delay:?}");
            assert!(random.full_jitter(base, cap, attempt) <= whole, "{attempt}");
        }
    }
}
