//! How the demonstration is shown, and what its steps share.

use std::fmt::Display;
use std::io::{self, Write};

use keyslot::Client;
use keyslot_terminal::{Style, Table};

use crate::cli::failure::Failure;

/// Where the demonstration is written.
pub(super) struct Show {
    pub(super) style: Style,
}

impl Show {
    /// A headline, with a blank line before it.
    pub(super) fn section(&self, title: &str) -> Result<(), Failure> {
        self.write(format_args!("\n{}\n", self.style.bold(self.style.cyan(title))))
    }

    /// One line, indented below its headline.
    pub(super) fn line(&self, text: impl Display) -> Result<(), Failure> {
        self.write(format_args!("  {text}\n"))
    }

    /// A table, indented likewise.
    pub(super) fn table(&self, table: &Table) -> Result<(), Failure> {
        table.text().lines().try_for_each(|line| self.line(line))
    }

    pub(super) fn write(&self, text: impl Display) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        write!(stdout, "{text}")?;
        Ok(stdout.flush()?)
    }
}

/// Fails the demonstration with what was found unless it is as expected.
pub(super) fn ensure(holds: bool, found: impl FnOnce() -> String) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(Failure::Demo(found())) }
}

/// The value of one of the client's counters.
pub(super) async fn counter(client: &Client, name: &str) -> Result<u64, Failure> {
    let counters = client.counters().await?;
    let counter = counters.iter().find(|counter| counter.name == name);
    counter.map(|counter| counter.value).ok_or_else(|| Failure::Demo(format!("there is no counter '{name}'")))
}
