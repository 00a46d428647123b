//! What has become of the commands, counted: a table, or JSON.

use std::collections::BTreeMap;
use std::time::Duration;

use keyslot::Error;
use keyslot_terminal::table::grouped;
use keyslot_terminal::{Cell, Style, Table, escape};
use serde_json::{Value, json};

use super::input::{Mistake, Place};
use crate::cli::failure::code;

/// How many codes are told apart: scripts can make up as many as they like.
const CODES_MAX: usize = 50;

/// How many characters of a code and of a message are kept: scripts can make them as long as they
/// like.
const CODE_LENGTH_MAX: usize = 40;
const MESSAGE_LENGTH_MAX: usize = 160;

/// The code of the rest.
const OTHERS: &str = "(others)";

/// The counts.
#[derive(Debug, Default)]
pub(super) struct Summary {
    /// How many commands were handed in, and how many of them the servers have answered, also with
    /// an error.
    pub(super) commands: u64,
    pub(super) replies: u64,
    /// How many have failed, what could not be read as a command included.
    pub(super) errors: u64,
    /// How many have ended, be it well or not.
    ended: u64,
    codes: BTreeMap<String, Failures>,
    /// Whether not all of the input was used.
    pub(super) is_interrupted: bool,
    pub(super) elapsed: Duration,
}

/// Those with one code.
#[derive(Debug)]
struct Failures {
    count: u64,
    /// Where the first one in the input stands, and what is wrong with it.
    place: Place,
    message: String,
}

impl Summary {
    /// Counts a command that has ended.
    pub(super) fn count(&mut self, place: Place, outcome: Result<(), Error>) {
        self.ended += 1;
        self.replies += u64::from(matches!(outcome, Ok(()) | Err(Error::Server(_))));
        if let Err(error) = outcome {
            let message = match &error {
                Error::Server(error) => error.message.clone(),
                error => error.to_string(),
            };
            self.fail(code(&error), place, &message);
        }
    }

    /// Counts commands that have nothing to do.
    pub(super) fn pass_over(&mut self, count: usize) {
        let count = count as u64;
        self.commands += count;
        self.replies += count;
        self.ended += count;
    }

    /// Counts what is no command.
    pub(super) fn mistake(&mut self, mistake: &Mistake) {
        self.fail(mistake.code, mistake.place, &mistake.what);
    }

    fn fail(&mut self, code: &str, place: Place, message: &str) {
        self.errors += 1;
        let mut code = escape::beginning(code, CODE_LENGTH_MAX);
        if let Some(failures) = self.codes.get_mut(&code) {
            failures.count += 1;
            // They end in another order than they stand.
            if place < failures.place {
                failures.place = place;
                failures.message = escape::beginning(message, MESSAGE_LENGTH_MAX);
            }
            return;
        }
        if self.codes.len() >= CODES_MAX {
            OTHERS.clone_into(&mut code);
        }
        let message = escape::beginning(message, MESSAGE_LENGTH_MAX);
        self.codes.entry(code).or_insert(Failures { count: 0, place, message }).count += 1;
    }

    /// How many were handed in whose end is not known.
    pub(super) fn unknown(&self) -> u64 {
        self.commands - self.ended
    }

    /// How many commands have ended in a second.
    pub(super) fn rate(&self) -> u64 {
        per_second(self.ended, self.elapsed)
    }

    /// The codes, the most frequent first.
    fn by_count(&self) -> Vec<(&String, &Failures)> {
        let mut codes: Vec<_> = self.codes.iter().collect();
        codes.sort_by_key(|(_, failures)| std::cmp::Reverse(failures.count));
        codes
    }

    /// One row of counts; below it, if anything failed, one for each code.
    pub(super) fn text(&self, style: Style) -> String {
        let mut headline = vec!["commands", "replies", "errors", "seconds", "commands/s"];
        if self.unknown() > 0 {
            headline.insert(3, "unknown");
        }
        let mut table = Table::new(style, &headline);
        let errors = grouped(self.errors);
        let mut row = vec![
            Cell::number(grouped(self.commands)),
            Cell::number(grouped(self.replies)),
            if self.errors > 0 { Cell::number(errors).bad() } else { Cell::number(errors) },
            Cell::number(format!("{:.2}", self.elapsed.as_secs_f64())),
            Cell::number(grouped(self.rate())),
        ];
        if self.unknown() > 0 {
            row.insert(3, Cell::number(grouped(self.unknown())));
        }
        table.add_row(row);
        let mut text = table.text();
        if self.errors > 0 {
            let mut table = Table::new(style, &["code", "errors", "first"]);
            for (code, failures) in self.by_count() {
                let first = format!("{}: {}", failures.place, failures.message);
                table.add_row([Cell::new(code), Cell::number(grouped(failures.count)), Cell::new(first)]);
            }
            text += "\n";
            text += &table.text();
        }
        text
    }

    pub(super) fn json(&self) -> Value {
        let codes = self.by_count().into_iter().map(|(code, failures)| {
            let mut first = json!({"message": failures.message});
            match failures.place {
                Place::Line(number) => first["line"] = number.into(),
                Place::Byte(offset) => first["byte"] = offset.into(),
            }
            json!({"code": code, "errors": failures.count, "first": first})
        });
        json!({
            "commands": self.commands,
            "replies": self.replies,
            "errors": self.errors,
            "unknown": self.unknown(),
            "seconds": self.elapsed.as_secs_f64(),
            "commands_per_second": self.rate(),
            "interrupted": self.is_interrupted,
            "codes": codes.collect::<Vec<_>>(),
        })
    }
}

/// A rate; of what took no time, the number itself.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate"
)]
fn per_second(count: u64, time: Duration) -> u64 {
    if time.is_zero() { count } else { (count as f64 / time.as_secs_f64()) as u64 }
}

#[cfg(test)]
mod tests {
    use keyslot::ServerError;

    use super::*;

    fn refused(code: &str, message: &str) -> Result<(), Error> {
        Err(Error::Server(ServerError { code: code.to_owned(), message: message.to_owned() }))
    }

    #[test]
    fn errors_are_counted_by_code_with_the_first_one() {
        let mut summary = Summary { commands: 1_204, elapsed: Duration::from_secs(2), ..Summary::default() };
        for line in 1..=1_200 {
            summary.count(Place::Line(line), Ok(()));
        }
        summary.mistake(&Mistake {
            code: "SYNTAX",
            place: Place::Line(7),
            what: "no".into(),
            ends_input: false,
        });
        summary.count(Place::Line(9), refused("WRONGTYPE", "another"));
        summary.count(Place::Line(8), refused("WRONGTYPE", "a\r\nlist"));
        summary.count(Place::Line(10), Err(Error::Connect("refused".to_owned())));
        assert_eq!(
            summary.text(Style::PLAIN),
            "commands  replies  errors  unknown  seconds  commands/s\n   \
             1,204    1,202       4        1     2.00         601\n\
             \n\
             code             errors  first\n\
             WRONGTYPE             2  line 8: a list\n\
             KEYSLOT.CONNECT       1  line 10: cannot connect: refused\n\
             SYNTAX                1  line 7: no\n"
        );
        let json = summary.json();
        assert_eq!((&json["errors"], &json["commands_per_second"]), (&json!(4), &json!(601)));
        assert_eq!(
            json["codes"][0],
            json!({"code": "WRONGTYPE", "errors": 2, "first": {"line": 8, "message": "a list"}})
        );
    }

    #[test]
    fn forged_codes_keep_to_their_cell() {
        let mut summary = Summary { commands: 3, ..Summary::default() };
        let forged = format!("\x1b[2J\u{9b}\rcommands\n{}", "X".repeat(1 << 20));
        for line in 1..=3 {
            summary.count(Place::Line(line), refused(&forged, &format!("a\x1b[31m\nb{forged}")));
        }
        let text = summary.text(Style::PLAIN);
        let printed = text.replace('\n', "");
        assert!(printed.is_ascii() && !printed.contains(char::is_control), "{text:?}");
        assert_eq!(text.lines().count(), 5, "{text}");
        assert!(text.lines().all(|line| line.len() < 240), "{text}");
        assert_eq!(summary.codes.len(), 1);
        assert!(
            summary.codes.iter().all(|(code, failures)| code.len() == CODE_LENGTH_MAX && failures.count == 3)
        );
    }

    #[test]
    fn made_up_codes_do_not_fill_the_memory() {
        let mut summary = Summary::default();
        for number in 0..1_000 {
            summary.count(Place::Byte(number), refused(&format!("CODE{number}"), &"x".repeat(1_000)));
        }
        assert_eq!(summary.codes.len(), CODES_MAX + 1);
        assert_eq!(summary.codes[OTHERS].count, 1_000 - CODES_MAX as u64);
        assert!(summary.codes.values().all(|failures| failures.message.len() == MESSAGE_LENGTH_MAX));
    }
}
