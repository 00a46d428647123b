//! What is seen while a soak goes on: a bar in a terminal, and a line now and then elsewhere.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use keyslot_terminal::table::grouped;

use crate::report::span;
use crate::sample::Counts;

/// How many seconds lie between two lines.
const LINE_EVERY: f64 = 10.0;

pub(crate) struct Progress {
    /// None where standard error is no terminal.
    bar: Option<ProgressBar>,
    next_line: f64,
}

impl Progress {
    /// For a soak of so many seconds.
    pub(crate) fn new(seconds: f64) -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(seconds.ceil() as u64);
            if let Ok(style) = ProgressStyle::with_template("{spinner} {bar:24.cyan/dim} {wide_msg}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        Self { bar, next_line: LINE_EVERY }
    }

    /// Shows how far it is.
    pub(crate) fn show(&mut self, seconds: f64, total: &Counts, fault: &str) {
        let fault = if fault.is_empty() { String::new() } else { format!(" · {fault}") };
        let message = format!(
            "{} · {} commands · {} errors{fault}",
            span(seconds),
            grouped(total.operations),
            grouped(total.all_errors()),
        );
        match &self.bar {
            Some(bar) => {
                bar.set_position(seconds as u64);
                bar.set_message(message);
            }
            None if seconds >= self.next_line => {
                self.next_line += LINE_EVERY;
                say(&message);
            }
            None => {}
        }
    }

    /// Says something beside the progress.
    pub(crate) fn note(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => say(text),
        }
    }

    pub(crate) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A line on standard error. A reader that has gone away is no reason to end.
fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}
