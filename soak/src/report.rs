//! The report in the terminal: the faults, the course of the run in three lines, and the promises.

use std::fmt::Write as _;
use std::time::Duration;

use keyslot_terminal::table::grouped;
use keyslot_terminal::{Cell, Style, Table};

use crate::level::median;
use crate::record::{Failure, Fault, FaultKind, Latency, Outcome, Run, Sample};

/// How many characters the course of the run takes.
const COURSE_WIDTH: usize = 72;

const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The whole report, in colours where they are welcome.
pub(crate) fn render(run: &Run) -> String {
    let style = Style::for_stdout();
    let mut text = format!("\nSoak of {}, {}\n\n", span(run.seconds()), run.setting);
    text += &faults(run, style).text();
    text.push('\n');
    text += &course(run);
    text.push('\n');
    text += &numbers(run, style).text();
    text.push('\n');
    text += &promises(run, style).text();
    if !run.complaints.is_empty() {
        text += "\nwhat broke them:\n";
        text.extend(run.complaints.iter().map(|complaint| format!("  {complaint}\n")));
    }
    text
}

/// The faults by their kinds.
fn faults(run: &Run, style: Style) -> Table {
    let mut table =
        Table::new(style, &["", "fault", "times", "errors", "cluster agreed after", "last error after"]);
    for kind in FaultKind::ALL {
        let of_kind: Vec<&Fault> = run.faults.iter().filter(|fault| fault.kind == kind).collect();
        if of_kind.is_empty() {
            continue;
        }
        let errors: u64 = of_kind.iter().map(|fault| fault.errors).sum();
        let agreed = of_kind.iter().map(|fault| fault.agreed - fault.began);
        let last = of_kind.iter().filter_map(|fault| Some(fault.last_error? - fault.began));
        table.add_row([
            Cell::new(kind.letter().to_string()),
            Cell::new(kind.name()),
            Cell::number(of_kind.len()),
            Cell::number(grouped(errors)),
            Cell::number(extent(agreed)),
            Cell::number(extent(last)),
        ]);
    }
    if run.faults.is_empty() {
        table.add_row(["", "none"].map(Cell::new));
    }
    table
}

/// The load in numbers.
fn numbers(run: &Run, style: Style) -> Table {
    let mut table = Table::new(style, &["", "start", "middle", "end", "most"]);
    let rates: Vec<u64> = run.samples.iter().map(|sample| sample.rate() as u64).collect();
    row(&mut table, "commands a second", &some(&rates), grouped);
    let latency = |of: fn(Latency) -> Duration| {
        run.samples
            .iter()
            .map(|sample| sample.latency.map(|latency| of(latency).as_micros() as u64))
            .collect::<Vec<_>>()
    };
    row(&mut table, "latency, median", &latency(|latency| latency.p50), milliseconds);
    row(&mut table, "latency, 99 of 100", &latency(|latency| latency.p99), milliseconds);
    let column =
        |of: fn(&Sample) -> Option<u64>| -> Vec<Option<u64>> { run.samples.iter().map(of).collect() };
    row(&mut table, "memory of this process", &column(|sample| sample.resident), mebibytes);
    row(&mut table, "of it the component's", &column(|sample| sample.guest), mebibytes);
    row(&mut table, "open sockets", &column(|sample| sample.sockets), grouped);
    for failure in Failure::ALL {
        if run.errors(failure) > 0 {
            let name = format!("errors: {}", failure.name());
            table.add_row([
                Cell::new(name),
                Cell::number(""),
                Cell::number(""),
                Cell::number(grouped(run.errors(failure))),
            ]);
        }
    }
    table
}

/// The medians of a quantity's thirds and its largest value.
fn row(table: &mut Table, name: &str, values: &[Option<u64>], show: impl Fn(u64) -> String) {
    let third = values.len().div_ceil(3).max(1);
    let mut cells = vec![Cell::new(name)];
    for part in 0..3 {
        let part = values.chunks(third).nth(part).unwrap_or_default();
        let known: Vec<u64> = part.iter().copied().flatten().collect();
        cells.push(Cell::number(if known.is_empty() { "–".to_owned() } else { show(median(&known)) }));
    }
    cells.push(Cell::number(values.iter().copied().flatten().max().map_or("–".to_owned(), show)));
    table.add_row(cells);
}

fn promises(run: &Run, style: Style) -> Table {
    let mut table = Table::new(style, &["promise", "", "what was seen"]);
    for verdict in &run.verdicts {
        let outcome = match verdict.outcome {
            Outcome::Held => Cell::new("held").good(),
            Outcome::Broken => Cell::new("BROKEN").bad(),
            Outcome::Open => Cell::new("open").open(),
        };
        table.add_row([Cell::new(verdict.promise), outcome, Cell::new(&verdict.evidence)]);
    }
    table
}

/// Rate, errors and memory over time in a line each, and below them the faults' letters.
fn course(run: &Run) -> String {
    let width = COURSE_WIDTH.min(run.samples.len());
    if width == 0 {
        return String::new();
    }
    let parts = |of: fn(&Sample) -> f64| -> Vec<f64> {
        let parts = (0..width).map(|part| {
            let (from, to) = (run.samples.len() * part / width, run.samples.len() * (part + 1) / width);
            let samples = &run.samples[from..to];
            samples.iter().map(of).sum::<f64>() / samples.len() as f64
        });
        parts.collect()
    };
    let mut text = String::new();
    let mut line = |name: &str, values: &[f64], show: &dyn Fn(f64) -> String| {
        let most = values.iter().copied().fold(0.0, f64::max);
        let _ = writeln!(text, "{name:>10}  {}  0 to {}", sparkline(values, most), show(most));
    };
    let a_second = |value: f64| format!("{} a second", grouped(value.round() as u64));
    line("commands", &parts(Sample::rate), &a_second);
    line("errors", &parts(|sample| sample.all_errors() as f64), &a_second);
    line("memory", &parts(|sample| sample.resident.unwrap_or(0) as f64), &|bytes| mebibytes(bytes as u64));
    let mut letters = vec![' '; width];
    for fault in &run.faults {
        let part = (fault.began / run.seconds() * width as f64) as usize;
        letters[part.min(width - 1)] = fault.kind.letter();
    }
    let letters: String = letters.into_iter().collect();
    let _ = writeln!(text, "{:>10}  {}", "faults", letters.trim_end());
    text
}

/// A line of blocks; what is 0 is blank.
fn sparkline(values: &[f64], most: f64) -> String {
    let block = |value: f64| {
        let height = (value / most * BLOCKS.len() as f64).ceil() as usize;
        height.checked_sub(1).map_or(' ', |height| BLOCKS[height.min(BLOCKS.len() - 1)])
    };
    values.iter().map(|&value| if value > 0.0 { block(value) } else { ' ' }).collect()
}

/// The least and the most of some seconds.
fn extent(seconds: impl Iterator<Item = f64>) -> String {
    let seconds: Vec<f64> = seconds.collect();
    let (least, most) =
        (seconds.iter().copied().fold(f64::INFINITY, f64::min), seconds.iter().copied().fold(0.0, f64::max));
    match seconds.len() {
        0 => "–".to_owned(),
        1 => format!("{most:.1} s"),
        _ => format!("{least:.1} to {most:.1} s"),
    }
}

/// Minutes and seconds.
pub(crate) fn span(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    match (seconds / 60, seconds % 60) {
        (0, seconds) => format!("{seconds} s"),
        (minutes, 0) => format!("{minutes} min"),
        (minutes, seconds) => format!("{minutes} min {seconds} s"),
    }
}

pub(crate) fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / 1_048_576.0)
}

fn milliseconds(microseconds: u64) -> String {
    format!("{:.1} ms", microseconds as f64 / 1_000.0)
}

fn some(values: &[u64]) -> Vec<Option<u64>> {
    values.iter().copied().map(Some).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_readable() {
        assert_eq!([59.4, 60.0, 95.0].map(span), ["59 s", "1 min", "1 min 35 s"]);
        assert_eq!(extent([2.0, 0.5].into_iter()), "0.5 to 2.0 s");
    }

    #[test]
    fn a_sparkline_shows_small_values_and_not_zero() {
        assert_eq!(sparkline(&[0.0, 1.0, 50.0, 100.0], 100.0), " ▁▄█");
    }
}
