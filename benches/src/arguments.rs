//! What the command line says.

use std::path::PathBuf;

use clap::Parser;

use crate::rows::{self, Row, Way};

const EXAMPLES: &str = "\
Examples:
  bench                           all rows, in some minutes
  bench --quick                   the same in less time, and less exact
  bench --rows decode,get         the rows whose names contain `decode` or `get`
  bench --rows get-1 --rounds 99  that row alone, more exact
  bench --json bench.json         everything as JSON, beside the table
  taskset -c 0 bench --rows set-1,get-1
                                  client and servers on one core: without the wake-ups of another one, which on
                                  virtual machines take longer than everything else, and steadier
  KEYSLOT_REDIS_SERVER=/opt/valkey/bin/valkey-server bench
                                  with another server

Exit codes: 0 all was measured, whether it reached its goal or not; 2 the benchmark could not run.";

/// Measures Keyslot beside redis-rs, redis-protocol and a bare socket, on a local cluster that it
/// starts.
///
/// In each round every contestant of a row works for the same time, in changing order. A time is
/// the median over the rounds; a ratio is the median of the rounds' ratios, ours to the peer's:
/// lower is better.
#[derive(Debug, Parser)]
#[command(name = "bench", after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Only the rows of this name, or with this in their names.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    rows: Vec<String>,
    /// Only the contestants with this in their names.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,
    /// How many rounds [default: 31; 7 with --quick]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: Option<u16>,
    /// How many seconds a contestant works in a round [default: 0.05; 0.03 with --quick]
    #[arg(long, value_parser = seconds)]
    seconds: Option<f64>,
    /// Fewer and shorter rounds.
    #[arg(long)]
    quick: bool,
    /// Writes everything that was measured to this file, too.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// For `perf record --delay=-1 --control=fifo:FILE`: tells it when the rounds begin and end,
    /// and the names of the components' functions.
    #[arg(long, value_name = "FILE")]
    pub(crate) perf: Option<PathBuf>,
    /// The Keyslot component.
    #[arg(
        long,
        value_name = "FILE",
        default_value = "target/wasm32-wasip2/component-fast/keyslot_redis.wasm"
    )]
    pub(crate) component: PathBuf,
    /// redis-rs as a component.
    #[arg(long, value_name = "FILE", default_value = "target/wasm32-wasip2/peer/keyslot_bench_peer.wasm")]
    pub(crate) peer: PathBuf,
}

impl Arguments {
    /// How many rounds each row has.
    pub(crate) fn rounds(&self) -> usize {
        usize::from(self.rounds.unwrap_or(if self.quick { 7 } else { 31 }))
    }

    /// How long a contestant works in a round.
    pub(crate) fn seconds(&self) -> f64 {
        self.seconds.unwrap_or(if self.quick { 0.03 } else { 0.05 })
    }

    /// Whether a contestant is wanted.
    pub(crate) fn takes_part(&self, way: Way) -> bool {
        self.only.is_empty() || self.only.iter().any(|word| way.name().contains(word.as_str()))
    }

    /// The rows that are wanted; the error names the word that no row has.
    pub(crate) fn rows(&self) -> Result<Vec<Row>, String> {
        let all = rows::all();
        let mut wanted = vec![self.rows.is_empty(); all.len()];
        for word in &self.rows {
            // A whole name means that row, also when others contain it.
            let is_name = all.iter().any(|row| row.name == *word);
            let mut found = false;
            for (row, wanted) in all.iter().zip(&mut wanted) {
                if if is_name { row.name == *word } else { row.name.contains(word.as_str()) } {
                    *wanted = true;
                    found = true;
                }
            }
            if !found {
                let names: Vec<&str> = all.iter().map(|row| row.name).collect();
                return Err(format!("no row is called {word:?}; there are {}", names.join(", ")));
            }
        }
        Ok(all.into_iter().zip(wanted).filter_map(|(row, wanted)| wanted.then_some(row)).collect())
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse::<f64>().map_err(|error| error.to_string())?;
    if (0.001..=60.0).contains(&seconds) { Ok(seconds) } else { Err("between 0.001 and 60".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Arguments {
        Arguments::try_parse_from(["bench"].iter().chain(words)).unwrap()
    }

    fn names(words: &[&str]) -> Vec<&'static str> {
        parse(words).rows().unwrap().iter().map(|row| row.name).collect()
    }

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory as _;
        Arguments::command().debug_assert();
    }

    #[test]
    fn all_rows_unless_some_are_named() {
        assert_eq!(names(&[]).len(), rows::all().len());
        assert_eq!(names(&["--rows", "mset,decode-w"]), ["mset-10000", "decode-wasm"]);
        assert_eq!(names(&["--rows", "callers"]), ["callers-64", "callers-256"]);
    }

    #[test]
    fn a_whole_name_is_one_row() {
        assert_eq!(names(&["--rows", "set-1"]), ["set-1"]);
        assert_eq!(names(&["--rows", "decode"]), ["decode"]);
    }

    #[test]
    fn a_name_that_no_row_has_is_told() {
        let error = parse(&["--rows", "get-1,hget"]).rows().unwrap_err();
        assert!(error.contains("\"hget\"") && error.contains("get-1000"), "{error}");
    }

    #[test]
    fn contestants_can_be_left_out() {
        let arguments = parse(&["--only", "typed,socket"]);
        let taking_part = [Way::Typed, Way::Socket, Way::Host].map(|way| arguments.takes_part(way));
        assert_eq!(taking_part, [true, true, false]);
        assert!(parse(&[]).takes_part(Way::Host));
    }

    #[test]
    fn quick_is_a_default() {
        let quick = parse(&["--quick", "--rounds", "9"]);
        assert_eq!((quick.rounds(), quick.seconds()), (9, 0.03));
        let usual = parse(&["--seconds", "0.2"]);
        assert_eq!((usual.rounds(), usual.seconds()), (31, 0.2));
        for wrong in [["--rounds", "0"], ["--seconds", "0"], ["--seconds", "NaN"]] {
            assert!(Arguments::try_parse_from(["bench"].iter().chain(&wrong)).is_err());
        }
    }
}
