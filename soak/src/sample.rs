//! What is measured: the meter that the load's tasks write to, and what the system says of this
//! process.

use std::fs;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::record::{Failure, Latency, Sample};

/// Counts what the load's tasks see.
#[derive(Debug)]
pub(crate) struct Meter {
    started: Instant,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Since the last sample.
    now: Counts,
    latencies_us: Vec<u32>,
    sampled_at: Duration,
    /// Since the start.
    total: Counts,
    slowest: Duration,
    last_success: Duration,
    last_error: Option<Duration>,
}

/// How many commands were answered and how many failed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) operations: u64,
    pub(crate) errors: [u64; Failure::ALL.len()],
}

impl Counts {
    pub(crate) fn all_errors(&self) -> u64 {
        self.errors.iter().sum()
    }
}

impl Meter {
    pub(crate) fn start() -> Self {
        Self { started: Instant::now(), state: Mutex::default() }
    }

    /// Seconds since the start.
    pub(crate) fn elapsed(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    /// Counts a call that has ended.
    pub(crate) fn count(&self, latency: Duration, operations: u64, failures: &[Failure]) {
        let now = self.started.elapsed();
        let mut state = self.state();
        let state = &mut *state;
        for counts in [&mut state.now, &mut state.total] {
            counts.operations += operations;
            for failure in failures {
                counts.errors[*failure as usize] += 1;
            }
        }
        state.slowest = state.slowest.max(latency);
        state.latencies_us.push(u32::try_from(latency.as_micros()).unwrap_or(u32::MAX));
        if operations > 0 {
            state.last_success = now;
        }
        if !failures.is_empty() {
            state.last_error = Some(now);
        }
    }

    /// What was counted since the start.
    pub(crate) fn total(&self) -> Counts {
        self.state().total
    }

    /// How long the slowest call took, whatever became of it.
    pub(crate) fn slowest(&self) -> Duration {
        self.state().slowest
    }

    /// When the last command failed, in seconds since the start.
    pub(crate) fn last_error(&self) -> Option<f64> {
        self.state().last_error.map(|at| at.as_secs_f64())
    }

    /// Whether commands were answered, and none failed, for this long.
    pub(crate) fn is_calm_for(&self, span: Duration) -> bool {
        let now = self.started.elapsed();
        let state = self.state();
        let is_recent = |at: Duration| now.saturating_sub(at) < span;
        is_recent(state.last_success) && !state.last_error.is_some_and(is_recent)
    }

    /// What there is to say of the time since the last sample.
    pub(crate) fn sample(&self, guest: Option<u64>) -> Sample {
        let now = self.started.elapsed();
        let (counts, mut latencies, since) = {
            let mut state = self.state();
            let since = std::mem::replace(&mut state.sampled_at, now);
            (std::mem::take(&mut state.now), std::mem::take(&mut state.latencies_us), since)
        };
        latencies.sort_unstable();
        let quantile = |percent: usize| {
            let place = (latencies.len() * percent / 100).min(latencies.len().saturating_sub(1));
            latencies.get(place).map(|us| Duration::from_micros(u64::from(*us)))
        };
        Sample {
            at: now.as_secs_f64(),
            length: now.saturating_sub(since).as_secs_f64(),
            operations: counts.operations,
            errors: counts.errors,
            latency: quantile(50).zip(quantile(99)).map(|(p50, p99)| Latency { p50, p99 }),
            resident: resident(),
            sockets: sockets(),
            guest,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The memory of this process that is not swapped out, in bytes. None where there is no `/proc`.
fn resident() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kibibytes| kibibytes * 1_024)
}

/// How many sockets this process has open. None where there is no `/proc`.
fn sockets() -> Option<u64> {
    let links = fs::read_dir("/proc/self/fd").ok()?;
    let is_socket = |link: &fs::DirEntry| {
        fs::read_link(link.path()).is_ok_and(|target| target.to_string_lossy().starts_with("socket:"))
    };
    Some(links.flatten().filter(is_socket).count() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_has_what_came_since_the_last_one() {
        let meter = Meter::start();
        for _ in 0..99 {
            meter.count(Duration::from_millis(1), 2, &[]);
        }
        meter.count(Duration::from_millis(50), 0, &[Failure::Timeout, Failure::Timeout]);
        let first = meter.sample(None);
        assert_eq!((first.operations, first.all_errors()), (198, 2));
        assert_eq!(first.latency.map(|latency| latency.p50), Some(Duration::from_millis(1)));
        assert_eq!(first.latency.map(|latency| latency.p99), Some(Duration::from_millis(50)));
        let second = meter.sample(None);
        assert!((second.operations, second.all_errors()) == (0, 0) && second.latency.is_none());
        assert_eq!((meter.total().operations, meter.total().all_errors()), (198, 2));
        assert!(!meter.is_calm_for(Duration::from_secs(60)));
    }
}
