//! The two tables in the terminal: what each contestant takes, and the ratios.

use keyslot_terminal::{Cell, Style, Table};

use crate::machine::Machine;
use crate::measure::{Measured, Settings};
use crate::statistics::Summary;

/// The whole report, in colours where they are welcome.
pub(crate) fn render(machine: &Machine, settings: Settings, rows: &[Measured]) -> String {
    let style = Style::for_stdout();
    let mut text = format!("\n{machine}\n{} rounds of {} s\n\n", settings.rounds, settings.seconds);
    text += &times(rows, style).text();
    let ratios = ratios(rows, style);
    if !ratios.is_empty() {
        text += "\nratios, ours to theirs: lower is better\n\n";
        text += &ratios.text();
    }
    text
}

/// What each contestant takes.
fn times(rows: &[Measured], style: Style) -> Table {
    let mut table = Table::new(style, &["row", "contestant", "median", "middle half", "for each"]);
    for measured in rows {
        for (place, times) in measured.contestants.iter().enumerate() {
            let Some(summary) = Summary::of(&times.rounds) else {
                continue;
            };
            table.add_row([
                Cell::new(if place == 0 { measured.row.name } else { "" }),
                Cell::new(times.way.name()),
                Cell::number(time(summary.median)),
                Cell::number(format!("{} to {}", time(summary.lower_quartile), time(summary.upper_quartile))),
                Cell::new(measured.row.task.unit()),
            ]);
        }
    }
    table
}

/// Ours beside the peers.
fn ratios(rows: &[Measured], style: Style) -> Table {
    let headline = ["row", "ours", "theirs", "ratio", "middle half", "to reach", "reached"];
    let mut table = Table::new(style, &headline);
    for measured in rows {
        for (place, &comparison) in measured.row.comparisons.iter().enumerate() {
            let Some(ratio) = measured.ratio(comparison) else {
                continue;
            };
            table.add_row([
                Cell::new(if place == 0 { measured.row.name } else { "" }),
                Cell::new(comparison.ours.name()),
                Cell::new(comparison.peer.name()),
                Cell::number(format!("{:.2}", ratio.median)),
                Cell::number(format!("{:.2} to {:.2}", ratio.lower_quartile, ratio.upper_quartile)),
                Cell::number(comparison.goal.map_or("–".to_owned(), |goal| format!("{goal:.2}"))),
                match measured.is_reached(comparison) {
                    Some(true) => Cell::new("yes").good(),
                    Some(false) => Cell::new("no").bad(),
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
        let text = ratios(&rows, Style::PLAIN).text();
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
