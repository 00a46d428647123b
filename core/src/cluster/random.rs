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
    /// The lower half keeps a retry from coming at once, the random upper half keeps many clients from
    /// coming together.
    pub(super) fn backoff(&mut self, base: Duration, cap: Duration, attempt: u32) -> Duration {
        let delay = base.saturating_mul(1u32.checked_shl(attempt).unwrap_or(u32::MAX)).min(cap);
        let half = delay / 2;
        let span = usize::try_from(half.as_nanos()).unwrap_or(usize::MAX).saturating_add(1);
        half + Duration::from_nanos(self.below(span) as u64)
    }
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
        }
    }
}
