//! How replies are written: as `redis-cli` writes them on a terminal, as it writes them into a
//! pipe, or as JSON.
//!
//! The model is `redis-cli` 7.0. Two things it cannot print are printed here: big numbers, as their
//! digits, and the reply behind an attribute; the attribute itself is left out in every format. And
//! one thing is not: `redis-cli` writes statuses, errors and texts for people to the terminal byte
//! by byte; here control characters are escaped ([`escape`]), in every format but that for a pipe.

mod json;
mod raw;
mod scalar;
mod terminal;

use keyslot::{Error, Reply, ReplyNode, ServerError};
use keyslot_terminal::escape;

pub(crate) use self::json::string_or_hex;

/// What a reply looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Types are shown: `(integer) 1`, `"quoted"`, `1) …`.
    Terminal,
    /// Nothing but the values, one a line, byte by byte.
    Raw,
    /// The same for a terminal: line breaks and tabs stay, other control characters are escaped.
    RawOnTerminal,
    /// One JSON value on one line.
    Json,
}

impl Format {
    /// The text of a command's result, ready for standard output. `Err` is a failure that is not
    /// the command's own reply, for standard error.
    ///
    /// Whatever the server answers is a result, its errors too. So are keys in different slots: the
    /// client refuses them before the server does, and the server's words for it are well
    /// known.
    pub(crate) fn result(self, command: &[Vec<u8>], result: Result<Reply, Error>) -> Result<Vec<u8>, Error> {
        match result {
            Ok(reply) => Ok(self.reply(command, &reply)),
            Err(error) => match server_error(&error) {
                Some(node) => Ok(self.reply(command, &Reply::new(vec![node]))),
                None => Err(error),
            },
        }
    }

    /// The text of a reply to `command`.
    pub(crate) fn reply(self, command: &[Vec<u8>], reply: &Reply) -> Vec<u8> {
        let mut out = Vec::new();
        let is_text = self != Self::Json && replies_with_text(command);
        match self {
            Self::Json => json::write(&mut out, reply.root()),
            Self::Terminal if !is_text => terminal::write(&mut out, reply.root()),
            Self::Terminal | Self::Raw | Self::RawOnTerminal => raw::write(&mut out, reply.root()),
        }
        if !is_text {
            out.push(b'\n');
        }
        match self {
            Self::RawOnTerminal => escape::lines(out).into_bytes(),
            Self::Terminal if is_text => escape::lines(out).into_bytes(),
            Self::Terminal | Self::Raw | Self::Json => out,
        }
    }

    /// A key on a line of its own.
    pub(crate) fn key(self, key: Vec<u8>) -> Vec<u8> {
        match self {
            Self::RawOnTerminal => format!("{}\n", escape::line(key)).into_bytes(),
            _ => self.reply(&[], &Reply::new(vec![ReplyNode::BulkString(key)])),
        }
    }
}

/// The error reply that an error stands for, if it stands for one.
pub(crate) fn server_error(error: &Error) -> Option<ReplyNode> {
    match error {
        Error::Server(error) => Some(ReplyNode::Error(error.clone())),
        Error::CrossSlot(_) => Some(ReplyNode::Error(ServerError {
            code: "CROSSSLOT".to_owned(),
            message: "Keys in request don't hash to the same slot".to_owned(),
        })),
        _ => None,
    }
}

/// Whether a command replies with text for people, whose lines every format but JSON leaves as they
/// are.
fn replies_with_text(command: &[Vec<u8>]) -> bool {
    let word = |index: usize| {
        command.get(index).map(|word| String::from_utf8_lossy(word).to_ascii_lowercase()).unwrap_or_default()
    };
    matches!(
        (word(0).as_str(), word(1).as_str(), command.len()),
        ("info" | "lolwut", _, _)
            | ("debug", "htstats" | "htstats-key" | "client-eviction", _)
            | ("memory", "malloc-stats" | "doctor", _)
            | ("client", "list" | "info", _)
            | ("proxy", "info", _)
            | ("cluster", "nodes" | "info", 2)
            | ("latency", "doctor", 2)
            | ("latency", "graph", 3)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(words: &str) -> Vec<Vec<u8>> {
        words.split(' ').map(|word| word.as_bytes().to_vec()).collect()
    }

    #[test]
    fn text_for_people_is_left_as_it_is() {
        for words in ["INFO", "info server", "CLUSTER NODES", "client LIST TYPE normal", "latency graph x"] {
            assert!(replies_with_text(&command(words)), "{words}");
        }
        for words in ["GET info", "CLUSTER SLOTS", "cluster info x", "CLIENT", "latency doctor x"] {
            assert!(!replies_with_text(&command(words)), "{words}");
        }
        let reply = Reply::new(vec![ReplyNode::BulkString(b"# Server\r\n".to_vec())]);
        for format in [Format::Terminal, Format::Raw] {
            assert_eq!(format.reply(&command("info"), &reply), b"# Server\r\n");
        }
        assert_eq!(Format::Json.reply(&command("info"), &reply), b"\"# Server\\r\\n\"\n");
    }

    #[test]
    fn attributes_are_passed_over() {
        let reply = Reply::new(vec![
            ReplyNode::Array(2),
            ReplyNode::Attribute(1),
            ReplyNode::SimpleString("ttl".into()),
            ReplyNode::Array(1),
            ReplyNode::Integer(3600),
            ReplyNode::Integer(1),
            ReplyNode::Integer(2),
        ]);
        assert_eq!(Format::Raw.reply(&[], &reply), b"1\n2\n");
        assert_eq!(Format::Json.reply(&[], &reply), b"[1,2]\n");
    }

    #[test]
    fn a_reply_that_ends_too_early_is_no_panic() {
        let aggregates = [ReplyNode::Array, ReplyNode::Map, ReplyNode::Set, ReplyNode::Attribute];
        for aggregate in aggregates {
            for format in [Format::Terminal, Format::Raw, Format::Json] {
                format.reply(&[], &Reply::new(vec![aggregate(u32::MAX)]));
                format.reply(&[], &Reply::new(vec![aggregate(u32::MAX), ReplyNode::Integer(1)]));
            }
        }
        Format::Raw.reply(&[], &Reply::new(Vec::new()));
    }
}
