//! Whether a quantity levels off: its last third is compared with its middle third.
//!
//! The first third is left out, for it has the warm-up. Medians are compared, so that what is
//! open or allocated only while a fault lasts counts for nothing, and what stays behind after each
//! fault counts.

use crate::record::{Outcome, Verdict};

/// Fewer samples than this tell nothing.
const SAMPLES_MIN: usize = 15;

/// By how much the last third may exceed the middle third: a part of it, and an amount.
pub(crate) struct Tolerance {
    pub(crate) percent: u64,
    pub(crate) amount: u64,
}

/// Judges the samples of one quantity, which is shown by `show`.
pub(crate) fn judge(
    promise: &'static str,
    samples: &[Option<u64>],
    tolerance: &Tolerance,
    show: impl Fn(u64) -> String,
) -> Verdict {
    let open = |evidence: String| Verdict { promise, outcome: Outcome::Open, evidence };
    let known: Vec<u64> = samples.iter().copied().flatten().collect();
    if known.is_empty() {
        return open("– not measured".to_owned());
    }
    if known.len() < SAMPLES_MIN {
        return open(format!("{} samples are too few to tell", known.len()));
    }
    let third = known.len() / 3;
    let (middle, last) = (median(&known[third..2 * third]), median(&known[2 * third..]));
    let most = middle + middle * tolerance.percent / 100 + tolerance.amount;
    let outcome = if last <= most { Outcome::Held } else { Outcome::Broken };
    let evidence = format!(
        "median of the middle third {}, of the last {} (at most {})",
        show(middle),
        show(last),
        show(most)
    );
    Verdict { promise, outcome, evidence }
}

/// The middle value, 0 of none.
pub(crate) fn median<T: Copy + Ord + Default>(values: &[T]) -> T {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLERANCE: Tolerance = Tolerance { percent: 10, amount: 2 };

    fn outcome(samples: &[u64]) -> Outcome {
        let samples: Vec<_> = samples.iter().copied().map(Some).collect();
        judge("it levels off", &samples, &TOLERANCE, |value| value.to_string()).outcome
    }

    #[test]
    fn growth_at_the_start_and_peaks_are_no_leak() {
        let mut samples = [&[1; 10][..], &[100; 20]].concat();
        samples[25] = 1_000;
        assert_eq!(outcome(&samples), Outcome::Held);
    }

    #[test]
    fn growth_to_the_end_is_one() {
        assert_eq!(outcome(&(0..90).collect::<Vec<_>>()), Outcome::Broken);
        let at_the_bound = |last| [&[100; 20][..], &[last; 10]].concat();
        assert_eq!(outcome(&at_the_bound(112)), Outcome::Held);
        assert_eq!(outcome(&at_the_bound(113)), Outcome::Broken);
    }

    #[test]
    fn too_little_tells_nothing() {
        assert_eq!(outcome(&[1; 14]), Outcome::Open);
        assert_eq!(judge("", &[None; 30], &TOLERANCE, |value| value.to_string()).outcome, Outcome::Open);
    }
}
