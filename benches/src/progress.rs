//! What is seen while the benchmark goes on: a bar in a terminal, and a line a row elsewhere.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

pub(crate) struct Progress {
    /// None where standard error is no terminal.
    bar: Option<ProgressBar>,
}

impl Progress {
    /// For so many steps.
    pub(crate) fn new(steps: usize) -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(steps as u64);
            let template = "{spinner} {bar:24.cyan/dim} {percent:>3} % {wide_msg} {eta}";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        Self { bar }
    }

    /// A row begins.
    pub(crate) fn begin(&self, row: &str, place: usize, rows: usize) {
        if self.bar.is_none() {
            // A reader that has gone away is no reason to end.
            let _ = writeln!(io::stderr(), "{}/{rows} {row}", place + 1);
        }
    }

    /// Says who works on what.
    pub(crate) fn show(&self, row: &str, doing: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(format!("{row} · {doing}"));
        }
    }

    pub(crate) fn step(&self) {
        if let Some(bar) = &self.bar {
            bar.inc(1);
        }
    }

    pub(crate) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
