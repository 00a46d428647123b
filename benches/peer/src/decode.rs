//! The decoders of Keyslot and of redis-rs, each used as its client uses it, and the replies that
//! they decode.

use bytes::Bytes;
use keyslot_core::resp::{Decoder, Limits};
use redis::Parser;

/// How many bytes arrive at a time.
pub const CHUNK: usize = 64 * 1024;

/// How many bytes of replies there are, at least.
const LENGTH: usize = 1 << 20;

/// Which replies follow each other, half of them small bulk strings:
///
/// | letter | of 64 | what |
/// |---|---|---|
/// | `b` | 32 | a bulk string of 16 to 109 bytes |
/// | `i` | 12 | an integer |
/// | `o` | 8 | `OK` |
/// | `n` | 4 | null |
/// | `s` | 3 | an array of two entries of a stream: an id, and an array of two fields with their values |
/// | `e` | 2 | an error |
/// | `m` | 2 | a map of eight fields; one of the values is a double |
/// | `B` | 1 | a bulk string of 4 KiB |
const MIX: &[u8; 64] = b"bibobsbibnbibmbobibobebibnbsbibobibobBbibnbibmbobibobsbibnbebibo";

/// Replies as they come from a server.
#[derive(Clone, Debug)]
pub struct Replies {
    /// Their bytes.
    pub bytes: Vec<u8>,
    /// How many they are.
    pub count: usize,
}

impl Replies {
    /// One MiB of all kinds of replies, by turns as [`MIX`] has them.
    #[must_use]
    pub fn mixed() -> Self {
        let mut replies = Self { bytes: Vec::with_capacity(LENGTH + 8 * 1024), count: 0 };
        while replies.bytes.len() < LENGTH {
            replies.push(MIX[replies.count % MIX.len()]);
            replies.count += 1;
        }
        replies
    }

    fn push(&mut self, kind: u8) {
        let number = self.count;
        match kind {
            b'i' => self.line(&format!(":{number}")),
            b'o' => self.line("+OK"),
            b'n' => self.line("_"),
            b'e' => self.line("-WRONGTYPE Operation against a key holding the wrong kind of value"),
            b's' => self.stream(number),
            b'm' => self.map(number),
            b'B' => self.bulk(4 * 1024),
            _ => self.bulk(16 + number % 94),
        }
    }

    fn line(&mut self, text: &str) {
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.extend_from_slice(b"\r\n");
    }

    fn bulk(&mut self, length: usize) {
        self.line(&format!("${length}"));
        self.bytes.extend((0..length).map(|place| b'a' + (place % 26) as u8));
        self.line("");
    }

    fn text(&mut self, text: &str) {
        self.line(&format!("${}\r\n{text}", text.len()));
    }

    fn stream(&mut self, number: usize) {
        self.line("*2");
        for entry in 0..2 {
            self.line("*2");
            self.text(&format!("1700000000{number:03}-{entry}"));
            self.line("*4");
            for field in ["sensor", "temperature"] {
                self.text(field);
                self.text(&format!("{number}.{entry}"));
            }
        }
    }

    fn map(&mut self, number: usize) {
        self.line("%8");
        for field in 0..7 {
            self.text(&format!("field:{field}"));
            self.text(&format!("value {number} of field {field}"));
        }
        self.text("score");
        self.line(&format!(",{number}.25"));
    }
}

/// Decodes with Keyslot's decoder, from chunks as a socket gives them. Returns how many replies the
/// decoder found.
///
/// # Errors
///
/// The decoder's, as text.
pub fn keyslot(replies: &Replies) -> Result<usize, String> {
    let mut decoder = Decoder::new(Limits::default());
    let mut count = 0;
    for chunk in replies.bytes.chunks(CHUNK) {
        // The copy stands for the read from the socket.
        decoder.feed(Bytes::copy_from_slice(chunk));
        while decoder.poll().map_err(|error| error.to_string())?.is_some() {
            count += 1;
        }
    }
    Ok(count)
}

/// Decodes with redis-rs's parser, which reads by itself, as redis-rs's connection has it read the
/// socket. Returns how many replies the parser found.
///
/// # Errors
///
/// The parser's, as text.
pub fn redis_rs(replies: &Replies) -> Result<usize, String> {
    let mut parser = Parser::new();
    let mut reader = replies.bytes.as_slice();
    let mut count = 0;
    while count < replies.count {
        parser.parse_value(&mut reader).map_err(|error| error.to_string())?;
        count += 1;
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mix_is_as_documented() {
        for (kind, of_64) in
            [(b'b', 32), (b'i', 12), (b'o', 8), (b'n', 4), (b's', 3), (b'e', 2), (b'm', 2), (b'B', 1)]
        {
            assert_eq!(MIX.iter().filter(|&&letter| letter == kind).count(), of_64, "{}", kind as char);
        }
    }

    #[test]
    fn both_decoders_find_all_replies() {
        let replies = Replies::mixed();
        assert!((LENGTH..LENGTH + 8 * 1024).contains(&replies.bytes.len()));
        assert_eq!(keyslot(&replies), Ok(replies.count));
        assert_eq!(redis_rs(&replies), Ok(replies.count));
    }
}
