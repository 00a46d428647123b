//! What every part of the machine needs: the time, the settings, chance, and where to tell what
//! happened.
//!
//! It knows no part. Each takes it as an argument.

use alloc::collections::VecDeque;

use super::events::{Event, Events};
use super::io::Output;
use super::random::Random;
use super::statistics::Statistics;
use crate::command::Command;
use crate::command::blocking::after_blocking;
use crate::config::Config;
use crate::resp::{Decoder, Meter};
use crate::time::Instant;

#[derive(Debug)]
pub(super) struct Context {
    /// The latest time that the driver told.
    pub(super) now: Instant,
    pub(super) config: Config,
    pub(super) random: Random,
    pub(super) statistics: Statistics,
    pub(super) events: Events,
    /// What the driver is to do, in order.
    pub(super) outputs: VecDeque<Output>,
    /// What replies hold, from their first byte until the driver lets go of them.
    pub(super) meter: Meter,
}

impl Context {
    pub(super) fn new(config: Config, now: Instant, seed: u64) -> Self {
        Self {
            now,
            random: Random::new(seed),
            statistics: Statistics::default(),
            events: Events::default(),
            outputs: VecDeque::new(),
            meter: Meter::limited(config.received_bytes),
            config,
        }
    }

    /// Takes note of something that happened, for whoever asks.
    pub(super) fn tell(&mut self, event: Event) {
        self.events.push(self.now, event);
    }

    /// Says what the driver is to do.
    pub(super) fn output(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    /// A decoder within the settings' limits.
    pub(super) fn decoder(&self) -> Decoder {
        Decoder::metered(self.config.limits, self.meter.clone())
    }

    /// When a command's time runs out that is taken in now; never for one that blocks until there
    /// is something.
    pub(in crate::cluster) fn deadline_of(&self, command: &Command) -> Instant {
        after_blocking(self.now, command) + self.config.request_timeout
    }
}
