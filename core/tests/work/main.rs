//! That the work for a server's lists grows with their length and no faster.
//!
//! The machine runs against servers that answer what a test wants, without a network and without a
//! clock. What is measured is the processor time of this thread, which other programs do not
//! lengthen; the smallest of several runs counts. Lists of four lengths have to take times in
//! proportion, with room for a logarithm and for caches; the longest has a bound in seconds
//! besides, far above what it takes and far below what a quadratic way took.
//!
//! Steps in the code would be exact, but only where somebody has thought of counting; time sees all
//! work.

mod lists;
mod machine;
mod nodes;
mod sockets;

use std::time::Duration;

use cpu_time::ThreadTime;

/// The processor time that `run` takes, the smallest of three.
pub(crate) fn time(mut run: impl FnMut()) -> Duration {
    let mut once = || {
        let begin = ThreadTime::now();
        run();
        begin.elapsed()
    };
    (0..3).map(|_| once()).min().unwrap()
}

/// Runs with the lengths `longest / 8` to `longest`. Eight times the length may take 24 times the
/// time: a quadratic way takes 64 times. `most` bounds the longest.
pub(crate) fn grows_in_proportion(what: &str, longest: usize, most: Duration, mut run: impl FnMut(usize)) {
    let lengths = [longest / 8, longest / 4, longest / 2, longest];
    let times = lengths.map(|length| time(|| run(length)));
    println!(
        "{what}: {}",
        lengths.iter().zip(times).map(|(l, t)| format!("{l} in {t:.1?}")).collect::<Vec<_>>().join(", ")
    );
    let [shortest, .., last] = times;
    assert!(last < most, "{what}: {longest} took {last:?}");
    // What takes less than this is measured too coarsely.
    let floor = Duration::from_micros(200);
    assert!(
        last < 24 * shortest.max(floor),
        "{what}: {shortest:?} became {last:?} for eight times the length"
    );
}
