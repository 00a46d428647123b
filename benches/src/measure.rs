//! The rounds of a row: every contestant works for the same time, one after the other, in changing
//! order.

use std::time::Duration;

use crate::contestants::Cast;
use crate::perf::Perf;
use crate::progress::Progress;
use crate::rows::{Comparison, Row, Way};
use crate::statistics::Summary;

/// How long and how often.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) rounds: usize,
    /// How long a contestant works in a round, in seconds.
    pub(crate) seconds: f64,
}

/// A row with what was measured.
pub(crate) struct Measured {
    pub(crate) row: Row,
    pub(crate) contestants: Vec<Times>,
}

/// One contestant's times.
pub(crate) struct Times {
    pub(crate) way: Way,
    /// How many calls it makes in a round.
    pub(crate) calls: usize,
    /// Nanoseconds for each unit of the row, by round.
    pub(crate) rounds: Vec<f64>,
}

impl Measured {
    /// The ratio of two contestants.
    pub(crate) fn ratio(&self, comparison: Comparison) -> Option<Summary> {
        let rounds = |way| Some(&*self.contestants.iter().find(|times| times.way == way)?.rounds);
        Summary::of_ratios(rounds(comparison.ours)?, rounds(comparison.peer)?)
    }

    /// Whether the ratio that was to be reached was; `None` where none was.
    pub(crate) fn is_reached(&self, comparison: Comparison) -> Option<bool> {
        Some(self.ratio(comparison)?.median <= comparison.goal?)
    }
}

/// Measures these contestants of a row.
pub(crate) fn measure(
    cast: &mut Cast,
    row: Row,
    ways: &[Way],
    settings: Settings,
    progress: &Progress,
    perf: &mut Perf,
) -> anyhow::Result<Measured> {
    let mut contestants = Vec::new();
    for &way in ways {
        progress.show(row.name, &format!("{} warms up", way.name()));
        let calls = warm_up(cast, &row, way, settings.seconds)?;
        contestants.push(Times { way, calls, rounds: Vec::new() });
    }
    perf.begin()?;
    for round in 0..settings.rounds {
        for place in order(round, contestants.len()) {
            let times = &mut contestants[place];
            progress.show(row.name, times.way.name());
            let time = cast.contestant(times.way)?.run(row.task, times.calls)?;
            times.rounds.push(time.as_nanos() as f64 / (times.calls * row.task.units()) as f64);
            progress.step();
        }
    }
    perf.end()?;
    Ok(Measured { row, contestants })
}

/// Lets a contestant work for about a portion, and says how many calls make one.
fn warm_up(cast: &mut Cast, row: &Row, way: Way, seconds: f64) -> anyhow::Result<usize> {
    let contestant = cast.contestant(way)?;
    let mut calls = 1;
    loop {
        let time = contestant.run(row.task, calls)?;
        if time.as_secs_f64() >= seconds / 2.0 {
            return Ok(calls_in(seconds, calls, time));
        }
        calls *= 2;
    }
}

/// How many calls take so many seconds, when so many took this time.
fn calls_in(seconds: f64, calls: usize, time: Duration) -> usize {
    let calls = calls as f64 * seconds / time.as_secs_f64();
    (calls.round() as usize).max(1)
}

/// The order of a round. Each round begins one place later than the one before, and every second
/// round runs backwards, so that nobody always follows the same other.
fn order(round: usize, contestants: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..contestants).map(|place| (place + round) % contestants).collect();
    if round % 2 == 1 {
        order.reverse();
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_changes_and_has_everybody() {
        assert_eq!([0, 1, 2].map(|round| order(round, 3)), [[0, 1, 2], [0, 2, 1], [2, 0, 1]]);
        assert!(order(5, 0).is_empty());
    }

    #[test]
    fn a_portion_has_at_least_one_call() {
        assert_eq!(calls_in(0.1, 64, Duration::from_millis(80)), 80);
        assert_eq!(calls_in(0.1, 1, Duration::from_millis(400)), 1);
    }
}
