//! What a line of input does, at the prompt and from standard input.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use keyslot::{Client, Error};
use keyslot_terminal::{Style, escape};

use super::format::Format;
use super::{help, line};

/// From here on, a terminal is told how long a command took.
const SLOW: Duration = Duration::from_millis(500);

/// A client, and how its replies are printed.
pub(crate) struct Session {
    pub(crate) client: Client,
    pub(crate) format: Format,
    pub(crate) style: Style,
    /// Whether output is a terminal, which `clear` can clear.
    pub(crate) terminal: bool,
}

/// What comes after a line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// The next line.
    Line,
    /// The next line; a command of this one got no usable answer.
    LineAfter(u8),
    /// The end.
    Quit,
}

impl Session {
    /// Runs one line: a command, a command with a count before it (`3 PING`), or one of `help`,
    /// `clear`, `quit`, `exit`.
    pub(crate) async fn run_line(&self, line: &[u8], out: &mut impl Write) -> io::Result<Next> {
        let Ok(words) = line::split(line) else {
            out.write_all(b"Invalid argument(s)\n")?;
            out.flush()?;
            return Ok(Next::Line);
        };
        let Some(first) = words.first() else {
            return Ok(Next::Line);
        };
        let next = match String::from_utf8_lossy(first).to_ascii_lowercase().as_str() {
            "quit" | "exit" => Next::Quit,
            "clear" if words.len() == 1 => {
                if self.terminal {
                    out.write_all(b"\x1b[H\x1b[2J")?;
                }
                Next::Line
            }
            "help" | "?" => {
                out.write_all(help::text(&words[1..], self.style).as_bytes())?;
                Next::Line
            }
            _ => self.run_counted(&words, out).await?,
        };
        out.flush()?;
        Ok(next)
    }

    async fn run_counted(&self, words: &[Vec<u8>], out: &mut impl Write) -> io::Result<Next> {
        let (count, command) = match words {
            [count, command @ ..] if !command.is_empty() => match parse_count(count) {
                Count::None => (1, words),
                Count::Of(count) => (count, command),
                Count::Wrong => {
                    out.write_all(b"Invalid keyslot repeat command option value.\n")?;
                    return Ok(Next::Line);
                }
            },
            _ => (1, words),
        };
        let start = Instant::now();
        for _ in 0..count {
            let result = self.client.execute(command.to_vec()).await;
            match self.format.result(command, result) {
                Ok(text) => {
                    out.write_all(&text)?;
                    out.flush()?;
                }
                Err(error) => return Ok(complain(&error)),
            }
        }
        let elapsed = start.elapsed();
        if elapsed >= SLOW && self.format == Format::Terminal {
            writeln!(out, "({:.2}s)", elapsed.as_secs_f64())?;
        }
        Ok(Next::Line)
    }
}

/// Says on standard error why a command has no reply.
fn complain(error: &Error) -> Next {
    let _ = writeln!(io::stderr(), "keyslot: {}", escape::message(&error.to_string()));
    Next::LineAfter(super::failure::exit_code(error))
}

/// What the word before a command says of how often it is to run.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Count {
    /// The word is no number.
    None,
    Of(u64),
    /// A number that no count can be.
    Wrong,
}

pub(super) fn parse_count(word: &[u8]) -> Count {
    let digits = word.strip_prefix(b"-").or_else(|| word.strip_prefix(b"+")).unwrap_or(word);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Count::None;
    }
    let count = str::from_utf8(word).ok().and_then(|text| text.parse::<i64>().ok());
    match count.map(u64::try_from) {
        Some(Ok(count)) if count > 0 => Count::Of(count),
        _ => Count::Wrong,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts() {
        assert_eq!(parse_count(b"3"), Count::Of(3));
        assert_eq!(parse_count(b"+3"), Count::Of(3));
        for word in ["0", "-5", "99999999999999999999"] {
            assert_eq!(parse_count(word.as_bytes()), Count::Wrong, "{word}");
        }
        for word in ["", "-", "2x", "GET", "1.5"] {
            assert_eq!(parse_count(word.as_bytes()), Count::None, "{word}");
        }
    }
}
