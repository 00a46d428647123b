//! The two tables in the terminal: what each contestant takes, and the ratios.

use std::io::{self, IsTerminal as _};

use comfy_table::{Attribute, Cell, CellAlignment, Color, Table, presets};

use crate::machine::Machine;
use crate::measure::{Measured, Settings};
use crate::statistics::Summary;

/// The whole report, in colours where they are welcome.
pub(crate) fn render(machine: &Machine, settings: Settings, rows: &[Measured]) -> String {
    let coloured = is_coloured();
    let mut text = format!("\n{machine}\n{} rounds of {} s\n\n", settings.rounds, settings.seconds);
    text += &lines(&times(rows, coloured));
    let ratios = ratios(rows, coloured);
    if !ratios.is_empty() {
        text += "\nratios, ours to theirs: lower is better\n\n";
        text += &lines(&ratios);
    }
    text
}

/// What each contestant takes.
fn times(rows: &[Measured], coloured: bool) -> Table {
    let mut table = new_table(coloured, &["row", "contestant", "median", "middle half", "for each"]);
    for measured in rows {
        for (place, times) in measured.contestants.iter().enumerate() {
            let Some(summary) = Summary::of(&times.rounds) else {
                continue;
            };
            table.add_row([
                Cell::new(if place == 0 { measured.row.name } else { "" }),
                Cell::new(times.way.name()),
                number(&time(summary.median)),
                number(&format!("{} to {}", time(summary.lower_quartile), time(summary.upper_quartile))),
                Cell::new(measured.row.task.unit()),
            ]);
        }
    }
    table
}

/// Ours beside the peers.
fn ratios(rows: &[Measured], coloured: bool) -> Table {
    let headline = ["row", "ours", "theirs", "ratio", "middle half", "to reach", "reached"];
    let mut table = new_table(coloured, &headline);
    for measured in rows {
        for (place, &comparison) in measured.row.comparisons.iter().enumerate() {
            let Some(ratio) = measured.ratio(comparison) else {
                continue;
            };
            table.add_row([
                Cell::new(if place == 0 { measured.row.name } else { "" }),
                Cell::new(comparison.ours.name()),
                Cell::new(comparison.peer.name()),
                number(&format!("{:.2}", ratio.median)),
                number(&format!("{:.2} to {:.2}", ratio.lower_quartile, ratio.upper_quartile)),
                number(&comparison.goal.map_or("–".to_owned(), |goal| format!("{goal:.2}"))),
                match measured.is_reached(comparison) {
                    Some(true) => Cell::new("yes").fg(Color::Green),
                    Some(false) => Cell::new("no").fg(Color::Red),
                    None => Cell::new(""),
                },
            ]);
        }
    }
    table
}

/// A time with three or four digits that count.
fn time(nanoseconds: f64) -> String {
    match nanoseconds {
        ..1_000.0 => format!("{nanoseconds:.0} ns"),
        ..1_000_000.0 => format!("{} µs", digits(nanoseconds / 1e3)),
        _ => format!("{} ms", digits(nanoseconds / 1e6)),
    }
}

fn digits(value: f64) -> String {
    if value < 100.0 { format!("{value:.2}") } else { format!("{value:.0}") }
}

fn number(text: &str) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

/// A table without lines, as those of the `keyslot` command.
fn new_table(coloured: bool, headline: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    if coloured {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    table.set_header(headline.iter().map(|title| Cell::new(title).add_attribute(Attribute::Bold)));
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
}

fn lines(table: &Table) -> String {
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// As the `keyslot` command decides it: in a terminal that can, unless NO_COLOR is set.
fn is_coloured() -> bool {
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
        || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    io::stdout().is_terminal() && !unwanted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Times;
    use crate::rows::{self, Way};

    #[test]
    fn times_are_readable() {
        let texts = [42.4, 999.0, 1_500.0, 123_456.0, 2_500_000.0].map(time);
        assert_eq!(texts, ["42 ns", "999 ns", "1.50 µs", "123 µs", "2.50 ms"]);
    }

    #[test]
    fn a_ratio_is_beside_what_is_to_be_reached() {
        let row = rows::all().into_iter().find(|row| row.name == "decode").unwrap();
        let contestants = [(Way::Decoder, 400.0), (Way::RedisParser, 1_000.0), (Way::RedisProtocol, 300.0)]
            .map(|(way, time)| Times { way, calls: 1, rounds: vec![time] });
        let rows = [Measured { row, contestants: contestants.into() }];
        let text = lines(&ratios(&rows, false));
        let words: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(
            words[1][..],
            [
                "decode", "keyslot", "decoder", "redis-rs", "parser", "0.40", "0.40", "to", "0.40", "0.50",
                "yes"
            ]
        );
        assert_eq!(words[2][3..], ["1.33", "1.33", "to", "1.33", "–"]);
    }
}
