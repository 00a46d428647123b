//! One number for all that the machine does in a run: the hash of its outputs, its events and their
//! times.
//!
//! A change that only moves code must keep the number of thousands of runs. Where the number
//! changes, the machine asks for other things, at other times or in another order.

use std::fmt::{self, Debug, Write};

/// The hash of all that was taken in so far (FNV-1a).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Digest(u64);

impl Digest {
    pub(crate) fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    /// Takes in what was told at a time, in nanoseconds.
    pub(crate) fn note(&mut self, now: u64, what: impl Debug) {
        writeln!(self, "{now} {what:?}").expect("hashing does not fail");
    }

    pub(crate) fn number(self) -> u64 {
        self.0
    }
}

impl Write for Digest {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        Ok(())
    }
}
