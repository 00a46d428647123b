//! The project's own tasks, so that a clone needs nothing but Rust: each sets up what it needs and
//! then does one thing. `cargo xtask` is the alias in .cargo/config.toml.

mod bench;
mod check;
mod commands;
mod demo;
mod imports;
mod setup;
mod soak;
mod source;
mod step;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

const EXAMPLES: &str = "\
Examples:
  cargo xtask demo                        a real local cluster, and the component at work on it
  cargo xtask test                        every test
  cargo xtask test slot_moves             the tests whose names contain slot_moves
  cargo xtask test -- --nocapture         every test, with what they print
  cargo xtask check                       the quick loop: all that needs no server
  cargo xtask soak --minutes 10           ten minutes of kills, failovers and reshards under a load
  cargo xtask bench --rows get            what GET takes, beside other clients
  cargo xtask check-source                lengths of files and functions, circles of imports, wide prose
  cargo xtask commands --check            whether the generated command table is up to date
  KEYSLOT_REDIS_SERVER=/opt/valkey/bin/valkey-server cargo xtask test
                                          the same tests with another server";

/// Set-up, demonstration, tests, soak, benchmarks and generated code of Keyslot.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Starts a local cluster and shows the component reading and writing it.
    Demo,
    /// Runs the tests, those against real servers included.
    Test(test::Arguments),
    /// Checks all that needs no server: format, lints, docs, prose, imports, the core's tests.
    Check,
    /// Runs a client for long on a cluster whose nodes are killed, replaced and resharded.
    Soak(soak::Arguments),
    /// Measures the client beside its peers.
    Bench(bench::Arguments),
    /// Writes the tables that are generated from the servers' own descriptions of their commands.
    Commands {
        /// Only say whether they are up to date.
        #[arg(long)]
        check: bool,
    },
    /// Builds the release component and checks its imports and its size.
    CheckImports,
    /// Checks that files and functions stay short, prose narrow and imports without circles.
    CheckSource(source::Arguments),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().task {
        Task::Demo => demo::run(),
        Task::Test(arguments) => test::run(&arguments),
        Task::Check => check::run(),
        Task::Soak(arguments) => soak::run(&arguments),
        Task::Bench(arguments) => bench::run(&arguments),
        Task::Commands { check } => commands::run(check),
        Task::CheckImports => imports::run(),
        Task::CheckSource(arguments) => source::run(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::from(if error.is::<setup::Missing>() { 2 } else { 1 })
        }
    }
}
