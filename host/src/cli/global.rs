//! The options that every subcommand takes.

use std::io::{self, IsTerminal};

use super::connection::ConnectionArgs;
use super::format::Format;

/// What every subcommand takes.
#[derive(Debug, clap::Args)]
pub(super) struct Global {
    #[command(flatten)]
    pub(super) connection: ConnectionArgs,

    /// Print JSON: one value on one line for each reply. Strings that are not UTF-8 become
    /// {"hex":"00ff"}, errors {"error":{"code":"ERR","message":"…"}}
    #[arg(long, global = true, conflicts_with_all = ["raw", "no_raw"], help_heading = "Output")]
    pub(super) json: bool,

    /// Print values only, as redis-cli does into a pipe; on a terminal, control characters are
    /// escaped
    #[arg(long, global = true, overrides_with = "no_raw", help_heading = "Output")]
    raw: bool,

    /// Print values with their types, as redis-cli does on a terminal
    #[arg(long, global = true, overrides_with = "raw", help_heading = "Output")]
    no_raw: bool,

    /// Tell on standard error what happens, one line each: connections made and lost, failovers,
    /// slots that move, retries (RUST_LOG selects more)
    #[arg(long, short, global = true, help_heading = "Output")]
    pub(super) verbose: bool,
}

impl Global {
    /// How replies are printed: as asked for, else as standard output suggests.
    pub(super) fn format(&self) -> Format {
        self.format_on(io::stdout().is_terminal())
    }

    pub(super) fn format_on(&self, is_terminal: bool) -> Format {
        match (self.json, self.raw, self.no_raw) {
            (true, _, _) => Format::Json,
            (_, true, _) if is_terminal => Format::RawOnTerminal,
            (_, true, _) => Format::Raw,
            (_, _, true) => Format::Terminal,
            _ if is_terminal => Format::Terminal,
            _ => Format::Raw,
        }
    }
}
