//! The input: bytes that come in any portions, read on a thread of its own, cut into pieces of
//! whole commands.
//!
//! Never more of it is in memory than one command, a buffer, and a few pieces.

use std::fmt;
use std::io::{self, Read};

use bytes::{Bytes, BytesMut};
use keyslot_core::resp::encode_command;
use tokio::sync::mpsc;

/// How many commands a piece has at most, and how many bytes, unless one command alone has more.
const PIECE_COMMANDS_MAX: usize = 500;
const PIECE_BYTES_MAX: usize = 64 << 10;

/// How many pieces are ready before they are needed.
pub(super) const PIECES_AHEAD: usize = 8;

/// How much is read at once.
const READ_SIZE: usize = 256 << 10;

/// Some commands of the input, encoded as RESP.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) commands: Bytes,
    /// Where each command stands.
    pub(super) places: Vec<Place>,
    /// How many commands there are besides that have nothing to do: a SELECT of the database that
    /// the connections have anyway, with which many dumps begin.
    pub(super) needless: usize,
    /// What stands among them and is no command.
    pub(super) mistakes: Vec<Mistake>,
    /// How many bytes of the input come before its end.
    pub(super) end: u64,
}

/// Where something stands in the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// The line with this number, from 1.
    Line(u64),
    /// Behind so many bytes.
    Byte(u64),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(number) => write!(f, "line {number}"),
            Self::Byte(offset) => write!(f, "byte {offset}"),
        }
    }
}

/// What cannot be read as a command.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mistake {
    pub(super) code: &'static str,
    pub(super) place: Place,
    pub(super) what: String,
    /// Whether nothing behind it is read.
    pub(super) ends_input: bool,
}

/// Nobody takes pieces any more.
#[derive(Debug)]
pub(super) struct Gone;

/// The piece that is being made, and where pieces go.
pub(super) struct Pieces {
    commands: BytesMut,
    piece: Piece,
    /// The database that the connections have.
    database: u32,
    sender: mpsc::Sender<Piece>,
}

impl Pieces {
    pub(super) fn new(sender: mpsc::Sender<Piece>, database: u32) -> Self {
        Self { commands: BytesMut::new(), piece: Piece::default(), database, sender }
    }

    /// Takes the words of a command.
    pub(super) fn command(&mut self, place: Place, words: &[impl AsRef<[u8]>]) -> Result<(), Gone> {
        if self.is_needless(words) {
            self.piece.needless += 1;
        } else {
            encode_command(words, &mut self.commands);
            self.piece.places.push(place);
        }
        self.send_if_full()
    }

    /// Takes a command that is encoded, with its words.
    pub(super) fn encoded(&mut self, place: Place, command: &[u8], words: &[&[u8]]) -> Result<(), Gone> {
        if self.is_needless(words) {
            self.piece.needless += 1;
        } else {
            self.commands.extend_from_slice(command);
            self.piece.places.push(place);
        }
        self.send_if_full()
    }

    /// Whether the command asks for the database that the connections have. To send it would be to
    /// change what all commands share.
    fn is_needless(&self, words: &[impl AsRef<[u8]>]) -> bool {
        let [name, database] = words else {
            return false;
        };
        name.as_ref().eq_ignore_ascii_case(b"SELECT")
            && database.as_ref() == self.database.to_string().as_bytes()
    }

    pub(super) fn mistake(&mut self, mistake: Mistake) -> Result<(), Gone> {
        self.piece.mistakes.push(mistake);
        self.send_if_full()
    }

    /// Takes notice of how many bytes of the input have been dealt with.
    pub(super) fn reached(&mut self, end: u64) {
        self.piece.end = end;
    }

    fn send_if_full(&mut self) -> Result<(), Gone> {
        let count = self.piece.places.len() + self.piece.needless + self.piece.mistakes.len();
        if count >= PIECE_COMMANDS_MAX || self.commands.len() >= PIECE_BYTES_MAX {
            self.send()
        } else {
            Ok(())
        }
    }

    /// Sends what there is.
    pub(super) fn send(&mut self) -> Result<(), Gone> {
        let Piece { places, needless, mistakes, .. } = &self.piece;
        if places.is_empty() && *needless == 0 && mistakes.is_empty() {
            return Ok(());
        }
        let end = self.piece.end;
        let mut piece = std::mem::replace(&mut self.piece, Piece { end, ..Piece::default() });
        piece.commands = self.commands.split().freeze();
        self.sender.blocking_send(piece).map_err(|_| Gone)
    }
}

/// What has been read of the input and not dealt with.
pub(super) struct Buffer<R> {
    input: R,
    bytes: Vec<u8>,
    /// What of the bytes is neither dealt with nor free.
    start: usize,
    filled: usize,
    /// How many bytes of the input come before `start`.
    offset: u64,
}

impl<R: Read> Buffer<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, bytes: vec![0; READ_SIZE], start: 0, filled: 0, offset: 0 }
    }

    /// What has been read and not dealt with.
    pub(super) fn rest(&self) -> &[u8] {
        self.bytes.get(self.start..self.filled).unwrap_or_default()
    }

    /// How many bytes of the input come before that.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Takes so many bytes as dealt with.
    pub(super) fn consume(&mut self, count: usize) {
        self.start += count;
        self.offset += count as u64;
    }

    /// Reads more. False at the input's end.
    pub(super) fn fill(&mut self) -> io::Result<bool> {
        self.bytes.copy_within(self.start..self.filled, 0);
        self.filled -= self.start;
        self.start = 0;
        if self.filled == self.bytes.len() {
            self.bytes.resize(self.filled * 2, 0);
        }
        loop {
            match self.input.read(&mut self.bytes[self.filled..]) {
                Ok(count) => {
                    self.filled += count;
                    return Ok(count > 0);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}
