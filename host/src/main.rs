//! The `keyslot` command. See `keyslot --help`, and `cli` for how it is made.

mod cli;
mod help_table;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
