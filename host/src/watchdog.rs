//! Ends a component that computes without end.
//!
//! A component has no threads: while it computes it serves nobody, and looks at no deadline. It has
//! bounds on what it computes for what servers send it. Should one be missing, the watchdog ends
//! the call with a trap, and the instance is given up.

use std::time::Duration;

use wasmtime::{Store, StoreContextMut, UpdateDeadline};

/// How long a component may compute until it lets other tasks of the executor run.
pub(crate) const TICK: Duration = Duration::from_millis(10);

/// How long a component may compute beyond its time-out for a request.
///
/// Nothing takes so long on a machine that works. The time-out is added for those who have set a
/// long one: they expect slow calls.
pub(crate) const GRACE: Duration = Duration::from_secs(5);

/// Counts for how long an instance has computed since it last waited.
pub(crate) struct Watchdog {
    /// How many ticks of the epoch it may compute.
    ticks_max: u64,
    ticks: u64,
}

/// Why a component was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Overdue(pub(crate) Duration);

impl std::fmt::Display for Overdue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the component computed for more than {} s", self.0.as_secs_f64())
    }
}

impl std::error::Error for Overdue {}

impl Watchdog {
    /// One that lets the component compute for so long.
    pub(crate) fn new(limit: Duration) -> Self {
        let ticks_max = limit.as_nanos().div_ceil(TICK.as_nanos());
        Self { ticks_max: u64::try_from(ticks_max).unwrap_or(u64::MAX), ticks: 0 }
    }

    /// It begins a call, or has waited.
    pub(crate) fn reset(&mut self) {
        self.ticks = 0;
    }

    /// A tick has gone by in which it computed.
    ///
    /// Ticks are counted, not time: a process that was stopped, or an executor that is busy with
    /// other tasks, has not computed.
    fn tick(&mut self) -> Result<(), Overdue> {
        self.ticks += 1;
        if self.ticks > self.ticks_max {
            let limit = TICK.saturating_mul(u32::try_from(self.ticks_max).unwrap_or(u32::MAX));
            return Err(Overdue(limit));
        }
        Ok(())
    }
}

/// Has what runs in this store give way to other tasks each tick, and its watchdog watch it.
pub(crate) fn watch<T: Send + 'static>(
    store: &mut Store<T>,
    watchdog: impl Fn(&mut T) -> &mut Watchdog + Send + Sync + 'static,
) {
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(move |mut context: StoreContextMut<'_, T>| {
        watchdog(context.data_mut()).tick()?;
        Ok(UpdateDeadline::Yield(1))
    });
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use wasmtime::{Instance, Module};

    use super::*;
    use crate::engine::Runtime;

    /// `(module (func (export "loop") (loop br 0)))`
    const ENDLESS: &[u8] = &[
        0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00, // the header
        0x01, 0x04, 0x01, 0x60, 0x00, 0x00, // a type: no parameters, no results
        0x03, 0x02, 0x01, 0x00, // a function of it
        0x07, 0x08, 0x01, 0x04, b'l', b'o', b'o', b'p', 0x00, 0x00, // its export
        0x0a, 0x09, 0x01, 0x07, 0x00, 0x03, 0x40, 0x0c, 0x00, 0x0b, 0x0b, // its body
    ];

    #[test]
    fn ticks_count_from_the_last_wait() {
        let mut watchdog = Watchdog::new(TICK * 3);
        for _ in 0..3 {
            assert_eq!(watchdog.tick(), Ok(()));
        }
        watchdog.reset();
        for _ in 0..3 {
            assert_eq!(watchdog.tick(), Ok(()));
        }
        assert_eq!(watchdog.tick(), Err(Overdue(TICK * 3)));
    }

    /// Two endless loops on one thread: both end, so each gave way to the other.
    #[tokio::test(flavor = "current_thread")]
    async fn an_endless_loop_ends_and_gives_way_until_then() {
        let runtime = Runtime::get().expect("an engine");
        let module = Module::from_binary(runtime.engine(), ENDLESS).expect("a module");
        let limit = Duration::from_millis(300);
        let run = async || {
            let mut store = Store::new(runtime.engine(), Watchdog::new(limit));
            watch(&mut store, |watchdog| watchdog);
            let instance = Instance::new_async(&mut store, &module, &[]).await.expect("an instance");
            let endless = instance.get_typed_func::<(), ()>(&mut store, "loop").expect("an export");
            endless.call_async(&mut store, ()).await
        };
        let _ticking = runtime.ticking();
        let started = Instant::now();
        let (first, second) = tokio::join!(run(), run());
        for outcome in [first, second] {
            let error = outcome.expect_err("it has no end");
            assert_eq!(error.downcast_ref::<Overdue>(), Some(&Overdue(limit)), "{error:?}");
        }
        assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
    }
}
