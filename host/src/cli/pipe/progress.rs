//! How far it has come, on standard error when that is a terminal.

use std::io;
use std::time::Duration;

use indicatif::{HumanCount, ProgressBar, ProgressStyle};

use super::summary::Summary;

/// How often the spinner moves while nothing else does.
const TICK_INTERVAL: Duration = Duration::from_millis(100);

/// A bar of the file's bytes, or, where the end is not known, a spinner.
pub(super) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// For what standard input has still to give.
    pub(super) fn of_stdin() -> Self {
        let (bar, template) = match rest_of_stdin() {
            Some(length) => (ProgressBar::new(length), "{wide_bar} {bytes}/{total_bytes}, {msg}, {eta} left"),
            None => (ProgressBar::new_spinner(), "{spinner} {bytes}, {msg}"),
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.enable_steady_tick(TICK_INTERVAL);
        bar.set_message("0 replies");
        Self { bar }
    }

    /// Says something on standard error, above the bar.
    pub(super) fn note(&self, text: &str) {
        self.bar.suspend(|| eprintln!("{text}"));
    }

    /// Shows that what stands before this byte of the input has ended.
    pub(super) fn reached(&self, end: u64, summary: &Summary) {
        if self.bar.is_hidden() {
            return;
        }
        let (commands, rate) = (HumanCount(summary.replies), HumanCount(summary.rate()));
        self.bar.set_message(match summary.errors {
            0 => format!("{commands} replies, {rate}/s"),
            errors => format!("{commands} replies, {rate}/s, {} errors", HumanCount(errors)),
        });
        self.bar.set_position(end);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// How many bytes are left of standard input, if it is a file.
fn rest_of_stdin() -> Option<u64> {
    #[cfg(unix)]
    {
        use std::fs::File;
        use std::io::Seek;
        use std::os::fd::AsFd;

        let mut file = File::from(io::stdin().as_fd().try_clone_to_owned().ok()?);
        let metadata = file.metadata().ok().filter(std::fs::Metadata::is_file)?;
        let position = file.stream_position().ok()?;
        Some(metadata.len().saturating_sub(position))
    }
    #[cfg(not(unix))]
    None
}
