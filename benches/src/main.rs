//! `bench`: the client beside its peers, in one run on a real cluster; `cargo xtask bench` runs it.
//!
//! | module | what is there |
//! |---|---|
//! | `rows` | what is measured, who takes part and which ratio is to be reached |
//! | `contestants` | everybody who takes part |
//! | `measure` | the rounds, in which they take turns |
//! | `statistics` | what is left of the rounds |
//! | `report`, `json` | how it is shown |
//!
//! A time is that of a caller's whole call. Making the command in the form that the client takes
//! belongs to it, and so does looking at the reply in the form that the client gives.

mod arguments;
mod contestants;
mod json;
mod machine;
mod measure;
mod perf;
mod progress;
mod report;
mod rows;
mod statistics;

use std::fs;
use std::io::{self, Write as _};
use std::process::ExitCode;

use anyhow::{Context as _, anyhow, ensure};
use clap::Parser as _;

use crate::arguments::Arguments;
use crate::contestants::{Cast, Components};
use crate::machine::Machine;
use crate::measure::{Settings, measure};
use crate::perf::Perf;
use crate::progress::Progress;
use crate::rows::{Row, Way};

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let rows = arguments.rows().map_err(|error| anyhow!(error))?;
    let settings = Settings { rounds: arguments.rounds(), seconds: arguments.seconds() };
    let json_file = match &arguments.json {
        // Before the long part, so that what is wrong with it is told at once.
        Some(path) => {
            let file = fs::File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
            Some((path, file))
        }
        None => None,
    };
    let mut cast = Cast::new(Components {
        keyslot: arguments.component.clone(),
        peer: arguments.peer.clone(),
        perf_map: arguments.perf.is_some(),
    })?;

    let rows: Vec<(Row, Vec<Way>)> = rows
        .into_iter()
        .map(|row| {
            let ways = row.ways().into_iter().filter(|way| arguments.takes_part(*way)).collect();
            (row, ways)
        })
        .filter(|(_, ways): &(_, Vec<Way>)| !ways.is_empty())
        .collect();
    ensure!(!rows.is_empty(), "none of these contestants takes part in these rows");
    let mut perf = Perf::open(arguments.perf.as_deref())?;
    let count = rows.len();
    let progress = Progress::new(rows.iter().map(|(_, ways)| ways.len() * settings.rounds).sum());
    let mut measured = Vec::new();
    for (place, (row, ways)) in rows.into_iter().enumerate() {
        progress.begin(row.name, place, count);
        let name = row.name;
        let outcome = measure(&mut cast, row, &ways, settings, &progress, &mut perf);
        measured.push(outcome.with_context(|| format!("row {name}"))?);
    }
    progress.end();

    let machine = Machine::new(cast.stage().map(|stage| stage.server.clone()));
    if let Some((path, file)) = json_file {
        let value = json::render(&machine, settings, &measured);
        serde_json::to_writer_pretty(file, &value)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    match io::stdout().write_all(report::render(&machine, settings, &measured).as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
