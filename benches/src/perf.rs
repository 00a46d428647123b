//! A profile of the rounds alone: `perf record` is told when they begin and end.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;

/// The end of perf's control FIFO, if there is one.
pub(crate) struct Perf(Option<File>);

impl Perf {
    pub(crate) fn open(fifo: Option<&Path>) -> anyhow::Result<Self> {
        let Some(path) = fifo else {
            return Ok(Self(None));
        };
        let file = File::options().write(true).open(path);
        Ok(Self(Some(file.with_context(|| format!("cannot open {}", path.display()))?)))
    }

    /// The rounds begin.
    pub(crate) fn begin(&mut self) -> anyhow::Result<()> {
        self.say("enable\n")
    }

    /// They have ended.
    pub(crate) fn end(&mut self) -> anyhow::Result<()> {
        self.say("disable\n")
    }

    fn say(&mut self, command: &str) -> anyhow::Result<()> {
        match &mut self.0 {
            Some(fifo) => fifo.write_all(command.as_bytes()).context("perf has gone away"),
            None => Ok(()),
        }
    }
}
