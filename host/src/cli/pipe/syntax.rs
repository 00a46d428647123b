//! The two ways to write commands down: as `redis-cli` takes them, one a line, and as servers take
//! them, in RESP.
//!
//! A line that is no command leaves the others as they are. In RESP nothing can be told of what
//! comes behind a mistake, so reading ends there.

use std::io::Read;

use keyslot_core::resp::{RequestError, take_request};

use super::input::{Buffer, Gone, Mistake, Pieces, Place};
use crate::cli::line;
use crate::cli::session::{Count, parse_count};

/// How long a command may be, as it is written.
pub(super) const COMMAND_BYTES_MAX: usize = 256 << 20;

/// The code of what is no command, and of input that cannot be read.
const SYNTAX: &str = "SYNTAX";
const INPUT: &str = "INPUT";

/// How commands are written down.
enum Syntax {
    /// One a line, with the quotes and escapes of `redis-cli`.
    Lines,
    /// Arrays of bulk strings.
    Resp,
}

/// Reads all of the input into pieces, of commands no longer than `bytes_max`. Ends early when
/// nobody takes them.
pub(super) fn read(input: impl Read, mut pieces: Pieces, bytes_max: usize) {
    let buffer = Buffer::new(input);
    let mut reader = Reader { buffer, pieces: &mut pieces, place: Place::Line(1), bytes_max };
    let outcome = reader.detect().and_then(|syntax| match syntax {
        Syntax::Lines => reader.read_lines(),
        Syntax::Resp => reader.read_requests(),
    });
    // Where nobody takes pieces, nobody wants to hear of it.
    let _ = match outcome {
        Ok(()) => pieces.send(),
        Err(End::Gone) => Ok(()),
        Err(End::Mistake(mistake)) => pieces.mistake(mistake).and_then(|()| pieces.send()),
    };
}

struct Reader<'a, R> {
    buffer: Buffer<R>,
    pieces: &'a mut Pieces,
    /// Where the next command begins.
    place: Place,
    bytes_max: usize,
}

/// Why nothing more is read.
enum End {
    Gone,
    Mistake(Mistake),
}

impl From<Gone> for End {
    fn from(Gone: Gone) -> Self {
        Self::Gone
    }
}

impl<R: Read> Reader<'_, R> {
    /// RESP begins, behind blanks, with `*`, digits, CR LF; everything else is lines.
    fn detect(&mut self) -> Result<Syntax, End> {
        loop {
            let rest = self.buffer.rest();
            let blanks = rest.len() - rest.trim_ascii_start().len();
            let is_resp = match rest[blanks..].split_first() {
                None => None,
                Some((b'*', line)) => {
                    let digits = line.iter().take_while(|byte| byte.is_ascii_digit()).count();
                    match line[digits..] {
                        [] | [b'\r'] if digits <= 20 => None,
                        [b'\r', b'\n', ..] => Some(digits > 0),
                        _ => Some(false),
                    }
                }
                Some(_) => Some(false),
            };
            match is_resp {
                Some(true) => {
                    self.buffer.consume(blanks);
                    return Ok(Syntax::Resp);
                }
                Some(false) => return Ok(Syntax::Lines),
                None if rest.len() > self.bytes_max => return Ok(Syntax::Lines),
                None if !self.fill()? => return Ok(Syntax::Lines),
                None => {}
            }
        }
    }

    fn read_lines(&mut self) -> Result<(), End> {
        let mut searched = 0;
        loop {
            let rest = self.buffer.rest();
            if let Some(end) = rest[searched..].iter().position(|byte| *byte == b'\n') {
                let length = searched + end + 1;
                if length > self.bytes_max {
                    self.pass_over_line()?;
                } else {
                    self.take_line(length)?;
                }
                searched = 0;
                continue;
            }
            searched = rest.len();
            if searched > self.bytes_max {
                self.pass_over_line()?;
                searched = 0;
            } else if !self.fill()? {
                // The last one may do without a line's end.
                return if searched > 0 { self.take_line(searched) } else { Ok(()) };
            }
        }
    }

    /// Takes the line of this length that comes next.
    fn take_line(&mut self, length: usize) -> Result<(), End> {
        let (line, place) = (&self.buffer.rest()[..length], self.place);
        self.pieces.reached(self.buffer.offset() + length as u64);
        match line::words(line) {
            Err(line::Unbalanced) => {
                let what = "the quotes do not match, or something stands right behind them";
                self.pieces.mistake(self.mistake(what))?;
            }
            Ok(words) => match words.as_slice() {
                [] => {}
                [count, command @ ..] if !command.is_empty() => match parse_count(count) {
                    Count::None => self.pieces.command(place, &words)?,
                    Count::Of(count) => {
                        for _ in 0..count {
                            self.pieces.command(place, command)?;
                        }
                    }
                    Count::Wrong => {
                        let what = "the count before the command is no number of times";
                        self.pieces.mistake(self.mistake(what))?;
                    }
                },
                words => self.pieces.command(place, words)?,
            },
        }
        self.buffer.consume(length);
        self.next_line();
        Ok(())
    }

    fn next_line(&mut self) {
        if let Place::Line(number) = &mut self.place {
            *number += 1;
        }
    }

    /// Passes over a line that is too long.
    fn pass_over_line(&mut self) -> Result<(), End> {
        let what = format!("the line is longer than {} bytes", self.bytes_max);
        self.pieces.mistake(self.mistake(what))?;
        self.next_line();
        loop {
            let rest = self.buffer.rest();
            let end = rest.iter().position(|byte| *byte == b'\n');
            let length = rest.len();
            self.buffer.consume(end.map_or(length, |end| end + 1));
            self.pieces.reached(self.buffer.offset());
            if end.is_some() || !self.fill()? {
                return Ok(());
            }
        }
    }

    fn read_requests(&mut self) -> Result<(), End> {
        loop {
            let (all, offset) = (self.buffer.rest(), self.buffer.offset());
            let mut rest = all;
            let mut words = Vec::new();
            let outcome = loop {
                // As servers have it, there may be blank lines between requests.
                while let [b'\r' | b'\n', after @ ..] = rest {
                    rest = after;
                }
                let left = rest;
                let reached = |rest: &[u8]| offset + (all.len() - rest.len()) as u64;
                self.place = Place::Byte(reached(rest));
                match take_request(&mut rest, &mut words) {
                    Ok(Some(request)) if request.len() <= self.bytes_max => {
                        self.pieces.reached(reached(rest));
                        self.pieces.encoded(self.place, request, &words)?;
                    }
                    Err(RequestError::CutOff) if left.len() <= self.bytes_max => {
                        rest = left;
                        break Ok(());
                    }
                    Ok(None) => break Ok(()),
                    Ok(Some(_)) | Err(RequestError::CutOff) => {
                        break Err(format!("the request is longer than {} bytes", self.bytes_max));
                    }
                    Err(error) => break Err(error.to_string()),
                }
            };
            let (consumed, is_whole) = (all.len() - rest.len(), rest.is_empty());
            let outcome = match outcome {
                Ok(()) => {
                    self.buffer.consume(consumed);
                    match self.fill()? {
                        true => continue,
                        false if is_whole => return Ok(()),
                        false => Err(RequestError::CutOff.to_string()),
                    }
                }
                wrong => wrong,
            };
            return outcome.map_err(|what| self.last_mistake(SYNTAX, what));
        }
    }

    /// Reads more. What is ready goes out before that: there may be nothing more for long.
    fn fill(&mut self) -> Result<bool, End> {
        self.pieces.send()?;
        self.buffer.fill().map_err(|error| self.last_mistake(INPUT, error.to_string()))
    }

    fn mistake(&self, what: impl Into<String>) -> Mistake {
        Mistake { code: SYNTAX, place: self.place, what: what.into(), ends_input: false }
    }

    fn last_mistake(&self, code: &'static str, what: String) -> End {
        End::Mistake(Mistake { code, place: self.place, what, ends_input: true })
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use tokio::sync::mpsc;

    use super::*;

    /// Gives what was asked for in portions of so many bytes, as a pipe may.
    struct Portions<'a>(&'a [u8], usize);

    impl Read for Portions<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.0.len().min(self.1).min(buffer.len());
            let (portion, rest) = self.0.split_at(count);
            buffer[..count].copy_from_slice(portion);
            self.0 = rest;
            Ok(count)
        }
    }

    /// What is read of the input: each command with its place, and the mistakes.
    type Outcome = (Vec<(Place, String)>, Vec<(Place, String)>);

    fn read_portions(input: &[u8], portion: usize, bytes_max: usize) -> Outcome {
        let (sender, mut receiver) = mpsc::channel(10_000);
        read(Portions(input, portion), Pieces::new(sender, 0), bytes_max);
        let (mut commands, mut mistakes) = (Vec::new(), Vec::new());
        let mut end = 0;
        while let Ok(piece) = receiver.try_recv() {
            let (mut rest, mut words) = (&piece.commands[..], Vec::new());
            for place in piece.places {
                take_request(&mut rest, &mut words).unwrap().unwrap();
                let words: Vec<_> = words.iter().map(|word| word.escape_ascii().to_string()).collect();
                commands.push((place, words.join(" ")));
            }
            assert_eq!(rest, b"");
            mistakes.extend(piece.mistakes.into_iter().map(|mistake| (mistake.place, mistake.what)));
            assert!(piece.end >= end && piece.end <= input.len() as u64);
            end = piece.end;
        }
        (commands, mistakes)
    }

    /// The same, however the input comes.
    fn read_all(input: &[u8]) -> Outcome {
        let whole = read_portions(input, usize::MAX, 1 << 20);
        for portion in [1, 2, 3, 7] {
            assert_eq!(read_portions(input, portion, 1 << 20), whole, "in portions of {portion}");
        }
        whole
    }

    fn at(place: fn(u64) -> Place, found: &[(u64, &str)]) -> Vec<(Place, String)> {
        found.iter().map(|(number, text)| (place(*number), (*text).to_owned())).collect()
    }

    #[test]
    fn lines() {
        let (commands, mistakes) =
            read_all(b"\n  \r\nSET k \"a b\\n\"\r\nGET \"k\n2 INCR n\n0 INCR n\n# x\n*2\nlast 'one'");
        let expected =
            [(3, "SET k a b\\n"), (5, "INCR n"), (5, "INCR n"), (7, "# x"), (8, "*2"), (9, "last one")];
        assert_eq!(commands, at(Place::Line, &expected));
        let quotes = "the quotes do not match, or something stands right behind them";
        let count = "the count before the command is no number of times";
        assert_eq!(mistakes, at(Place::Line, &[(4, quotes), (6, count)]));
    }

    #[test]
    fn requests() {
        let (commands, mistakes) =
            read_all(b"\r\n*2\r\n$3\r\nGET\r\n$4\r\na\r\nb\r\n\r\n\n*1\r\n$4\r\nPING\r\n*0\r\n\n");
        assert_eq!(commands, at(Place::Byte, &[(2, "GET a\\r\\nb"), (28, "PING"), (42, "")]));
        assert_eq!(mistakes, []);
    }

    #[test]
    fn a_select_of_the_database_that_is_there_has_nothing_to_do() {
        let lines = &b"SELECT 0\nselect 0\nSELECT 1\n3 SELECT 0\nSELECT\nSET k 0"[..];
        let requests = &b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n*2\r\n$6\r\nSELECT\r\n$1\r\n3\r\n"[..];
        for (input, database, needless, sent) in [
            (lines, 0, 5, &["SELECT 1", "SELECT", "SET k 0"][..]),
            (lines, 1, 1, &["SELECT 0", "select 0", "SELECT 0", "SELECT 0", "SELECT 0", "SELECT", "SET k 0"]),
            (requests, 0, 1, &["SELECT 3"]),
            (requests, 3, 1, &["SELECT 0"]),
        ] {
            let (sender, mut receiver) = mpsc::channel(10);
            read(Portions(input, 7), Pieces::new(sender, database), 1 << 20);
            let (mut commands, mut counted) = (Vec::new(), 0);
            while let Ok(piece) = receiver.try_recv() {
                let (mut rest, mut words) = (&piece.commands[..], Vec::new());
                while let Ok(Some(_)) = take_request(&mut rest, &mut words) {
                    commands.push(String::from_utf8(words.join(&b' ')).unwrap());
                }
                counted += piece.needless;
            }
            assert_eq!(
                (commands.as_slice(), counted),
                (&sent.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>()[..], needless)
            );
        }
    }

    #[test]
    fn broken_requests_end_the_reading() {
        let whole = b"*1\r\n$4\r\nPING\r\n";
        for (broken, what) in [
            (&b"PING\r\n"[..], "a request begins with byte 0x50 instead of '*'"),
            (b"*1\r\n$3\r\nPING\r\n", "CR LF is missing behind a line or a string"),
            (b"*1\n$3\r\nPING\r\n", "a count or length is no number that a request can have"),
            (b"*1\r\n$4\r\nPI", "the last request is cut off"),
        ] {
            let (commands, mistakes) = read_all(&[whole, broken].concat());
            assert_eq!(commands, at(Place::Byte, &[(0, "PING")]));
            assert_eq!(mistakes, at(Place::Byte, &[(14, what)]));
        }
    }

    #[test]
    fn what_is_neither_blank_nor_resp_is_lines() {
        assert_eq!(read_all(b""), (Vec::new(), Vec::new()));
        assert_eq!(read_all(b" \n \t\r\n"), (Vec::new(), Vec::new()));
        for (input, command) in [
            ("*", "*"),
            ("*\r\n", "*"),
            ("*3 x", "*3 x"),
            ("*3\n", "*3"),
            ("*999999999999999999999999", "*999999999999999999999999"),
        ] {
            assert_eq!(read_all(input.as_bytes()).0, at(Place::Line, &[(1, command)]));
        }
        assert_eq!(read_all(b"PING\r\n*0\r\n").0, at(Place::Line, &[(1, "PING"), (2, "*0")]));
        assert_eq!(read_all(b" \r\n*0\r\n").0, at(Place::Byte, &[(3, "")]));
    }

    #[test]
    fn what_is_too_long_is_told() {
        let long = "x".repeat(2_000_000);
        let lines = format!("PING\nSET k {long}\nPONG\n");
        for portion in [1_000, usize::MAX] {
            let (commands, mistakes) = read_portions(lines.as_bytes(), portion, 1 << 20);
            assert_eq!(commands, at(Place::Line, &[(1, "PING"), (3, "PONG")]));
            assert_eq!(mistakes, at(Place::Line, &[(2, "the line is longer than 1048576 bytes")]));
        }
        let requests = format!("*1\r\n$4\r\nPING\r\n*1\r\n${}\r\n{long}\r\n", long.len());
        let (commands, mistakes) = read_portions(requests.as_bytes(), 1_000, 1 << 20);
        assert_eq!(commands, at(Place::Byte, &[(0, "PING")]));
        assert_eq!(mistakes, at(Place::Byte, &[(14, "the request is longer than 1048576 bytes")]));
    }
}
