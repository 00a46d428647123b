//! Medians and quartiles: what is left of the rounds.

use std::fmt;

/// The middle of some values and where the middle half of them lies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Summary {
    pub(crate) lower_quartile: f64,
    pub(crate) median: f64,
    pub(crate) upper_quartile: f64,
}

impl Summary {
    /// Of these values; `None` when there are none.
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        Some(Self {
            lower_quartile: quantile(&sorted, 0.25)?,
            median: quantile(&sorted, 0.5)?,
            upper_quartile: quantile(&sorted, 0.75)?,
        })
    }

    /// Of the ratios of two contestants in each round. What disturbs a round disturbs both, so that
    /// their ratio is steadier than their times.
    pub(crate) fn of_ratios(ours: &[f64], peers: &[f64]) -> Option<Self> {
        let ratios: Vec<f64> = ours.iter().zip(peers).map(|(ours, peer)| ours / peer).collect();
        Self::of(&ratios)
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} ({:.2} to {:.2})", self.median, self.lower_quartile, self.upper_quartile)
    }
}

/// The value below which so much of the sorted values lies, between two of them in proportion.
fn quantile(sorted: &[f64], part: f64) -> Option<f64> {
    let place = part * sorted.len().checked_sub(1)? as f64;
    let below = sorted[place.floor() as usize];
    let above = sorted[place.ceil() as usize];
    Some(below + (above - below) * place.fract())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_is_between_two() {
        let summary = Summary::of(&[4.0, 1.0, 3.0, 2.0]).unwrap();
        assert_eq!(summary, Summary { lower_quartile: 1.75, median: 2.5, upper_quartile: 3.25 });
    }

    #[test]
    fn quartiles_of_an_odd_number_are_values() {
        let summary = Summary::of(&[50.0, 10.0, 40.0, 20.0, 30.0]).unwrap();
        assert_eq!(summary, Summary { lower_quartile: 20.0, median: 30.0, upper_quartile: 40.0 });
        let single = Summary { lower_quartile: 7.0, median: 7.0, upper_quartile: 7.0 };
        assert_eq!(Summary::of(&[7.0]), Some(single));
        assert_eq!(Summary::of(&[]), None);
    }

    #[test]
    fn a_ratio_is_that_of_each_round() {
        // The third round was disturbed, for both: the ratio of the medians would be 100 / 220.
        let summary = Summary::of_ratios(&[50.0, 100.0, 1_000.0], &[100.0, 220.0, 2_000.0]).unwrap();
        assert_eq!(summary.median, 0.5);
        assert_eq!(summary.to_string(), "0.50 (0.48 to 0.50)");
    }
}
