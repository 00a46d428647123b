//! What the machine counts: for the client as a whole, and for each node.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec;
use core::time::Duration;

use litemap::LiteMap;

/// Counters since the client was made. The WIT's `counter` documents each name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Requests taken from the caller.
    pub requests: u64,
    /// Commands put on connections, with those sent again and the client's own.
    pub commands: u64,
    /// Batches of commands handed to the driver.
    pub flushes: u64,
    /// MOVED redirects followed.
    pub moved: u64,
    /// ASK redirects followed.
    pub ask: u64,
    /// Commands sent again for another reason than a redirect.
    pub retries: u64,
    /// Times the topology was asked for.
    pub refreshes: u64,
    /// Connections opened.
    pub connects: u64,
    /// Connections that ended or failed.
    pub disconnects: u64,
    /// Bytes handed to the driver.
    pub bytes_out: u64,
    /// Bytes received.
    pub bytes_in: u64,
}

/// How many different error codes are told apart for each node; the others are counted as one.
const CODES_MAX: usize = 32;

/// A longer first word is no code. Servers' own have up to 12 bytes, modules' a few more.
const CODE_LENGTH_MAX: usize = 32;

/// Under which name errors are counted once there are too many codes.
const OTHER_CODES: &str = "(other)";

/// What is counted for each node, for as long as the client knows it.
#[derive(Clone, Debug, Default)]
pub struct NodeStatistics {
    /// Requests sent to it.
    pub commands: u64,
    /// Error replies by their code, MOVED and ASK too.
    pub errors: LiteMap<String, u64>,
    /// MOVED and ASK that it answered.
    pub redirects: u64,
    /// Requests sent again because of it, redirects left out.
    pub retries: u64,
    /// Connections opened to it.
    pub connects: u64,
    /// Connections opened to it after one had ended or failed.
    pub reconnects: u64,
    /// Connections to it that ended or failed.
    pub disconnects: u64,
    /// Bytes sent to it.
    pub bytes_out: u64,
    /// Bytes received from it.
    pub bytes_in: u64,
    /// From a request's write to its reply.
    pub latency: Latency,
}

impl NodeStatistics {
    pub(super) fn count_error(&mut self, code: &str) {
        if let Some(count) = self.errors.get_mut(code) {
            *count += 1;
            return;
        }
        let is_code = code.len() <= CODE_LENGTH_MAX && !code.is_empty();
        let known = if is_code && self.errors.len() < CODES_MAX { code } else { OTHER_CODES };
        match self.errors.get_mut(known) {
            Some(count) => *count += 1,
            None => {
                self.errors.insert(known.to_string(), 1);
            }
        }
    }
}

/// Durations from a microsecond to an hour, by a histogram that is exact to an eighth.
#[derive(Clone, Debug)]
pub struct Latency {
    counts: Box<[u32]>,
    total: u64,
    max: Duration,
    smoothed: Option<Duration>,
}

/// Each power of two of microseconds is cut into so many steps.
const STEPS: u64 = 8;
/// 2³² µs are more than an hour.
const OCTAVES: u64 = 32;

impl Default for Latency {
    fn default() -> Self {
        let counts = vec![0; (STEPS * (OCTAVES + 1)) as usize].into();
        Self { counts, total: 0, max: Duration::ZERO, smoothed: None }
    }
}

impl Latency {
    pub(super) fn record(&mut self, duration: Duration) {
        let last = self.counts.len() - 1;
        let step = usize::try_from(step_of(duration.as_micros() as u64)).unwrap_or(last).min(last);
        if let Some(count) = self.counts.get_mut(step) {
            *count = count.saturating_add(1);
        }
        self.total += 1;
        self.max = self.max.max(duration);
        // An eighth of the newest, as TCP smooths its round trips (RFC 6298).
        self.smoothed = Some(self.smoothed.map_or(duration, |mean| mean - mean / 8 + duration / 8));
    }

    /// How many were recorded.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.total
    }

    /// The longest.
    #[must_use]
    pub fn max(&self) -> Duration {
        self.max
    }

    /// The mean in which each new one counts an eighth; `None` before the first.
    #[must_use]
    pub fn smoothed(&self) -> Option<Duration> {
        self.smoothed
    }

    /// What `percent` of all do not exceed, an eighth too long at most; zero when there are none.
    #[must_use]
    pub fn quantile(&self, percent: f64) -> Duration {
        let wanted = (self.total as f64 * percent / 100.0) as u64;
        let mut seen = 0;
        for (step, count) in (0..).zip(&self.counts) {
            seen += u64::from(*count);
            if seen > wanted && seen < self.total {
                return Duration::from_micros(end_of(step)).min(self.max);
            }
        }
        self.max
    }
}

/// The step that so many microseconds fall into. The first eight are exact.
fn step_of(micros: u64) -> u64 {
    let octave = u64::from(micros.max(1).ilog2());
    if octave < 3 { micros } else { (octave - 2) * STEPS + ((micros >> (octave - 3)) - STEPS) }
}

/// The most microseconds that fall into a step.
fn end_of(step: u64) -> u64 {
    if step < STEPS {
        return step;
    }
    let octave = step / STEPS + 2;
    ((step % STEPS + STEPS + 1) << (octave - 3)) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_duration_falls_into_the_step_that_ends_after_it() {
        for micros in (0..5_000).chain((0..31).map(|power| (1u64 << power) + 1)) {
            let step = step_of(micros);
            assert!(end_of(step) >= micros, "{micros}");
            assert!(end_of(step) <= micros + micros / 8 + 1, "{micros}: {}", end_of(step));
            assert!(step == 0 || end_of(step - 1) < micros, "{micros}");
        }
    }

    #[test]
    fn quantiles_are_near_the_truth() {
        let mut latency = Latency::default();
        assert_eq!(latency.quantile(50.0), Duration::ZERO);
        for micros in 1..=1_000 {
            latency.record(Duration::from_micros(micros));
        }
        latency.record(Duration::from_secs(100_000));
        for (percent, truth) in [(50.0, 500), (99.0, 990)] {
            let told = latency.quantile(percent).as_micros() as u64;
            assert!((truth..=truth + truth / 8 + 1).contains(&told), "{percent}: {told}");
        }
        assert_eq!(latency.quantile(100.0), latency.max());
    }

    #[test]
    fn codes_without_end_are_counted_together() {
        let mut node = NodeStatistics::default();
        for number in 0..100 {
            node.count_error(&alloc::format!("E{number}"));
        }
        assert_eq!((node.errors.len(), node.errors.get(OTHER_CODES)), (CODES_MAX + 1, Some(&68)));
    }

    #[test]
    fn a_text_is_no_code() {
        let mut node = NodeStatistics::default();
        node.count_error(&"x".repeat(CODE_LENGTH_MAX));
        node.count_error(&"x".repeat(CODE_LENGTH_MAX + 1));
        node.count_error("");
        assert_eq!((node.errors.len(), node.errors.get(OTHER_CODES)), (2, Some(&2)));
    }
}
