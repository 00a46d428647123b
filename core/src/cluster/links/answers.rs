//! The answers to the client's own questions: how large they may be, and what they can look like.
//!
//! A server may send the caller what the caller has asked for, up to the limits that the caller has
//! set. What the client asks for itself has a size that is known, and a type that the protocol
//! gives. Both are checked before an answer is used: the size while it comes in, so that it is
//! never held. An answer of another type is one to another question, or none: its connection is
//! closed, for what comes next on it would answer nothing that was asked either.
//!
//! What a caller's command is answered with is checked where its parts are used: EXEC in
//! `requests/transaction.rs`, SCAN in `scans/pass.rs`, merged replies in `command/merge.rs`.

use alloc::format;
use alloc::string::String;

use crate::cluster::ids::ConnId;
use crate::cluster::links::connection::Connection;
use crate::cluster::links::connection::Expected;
use crate::cluster::links::ended::Driver;
use crate::cluster::links::handshake::HandshakeStep;
use crate::cluster::machine::Cluster;
use crate::cluster::requests::request::Parent;
use crate::error::Error;
use crate::resp::{DecodeError, RawReply};

/// How large an answer to the client itself may be, counted as
/// [`Limits::reply_size`](crate::resp::Limits::reply_size). CLUSTER NODES of a thousand nodes whose
/// slots lie scattered has less than one MiB.
const ANSWER_MAX: u64 = 4 << 20;

/// The same of CLUSTER SLOTS and CLUSTER SHARDS, of which most is what each node of the reply
/// counts. Each of the 16,384 slots alone, with three nodes, has 29 MiB, of which 7 are sent.
const TOPOLOGY_ANSWER_MAX: u64 = 32 << 20;

/// A longer availability zone is passed over.
pub(super) const ZONE_LENGTH_MAX: usize = 255;

/// One of the client's own questions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cluster) struct Question {
    /// What was sent, for people.
    pub(super) name: &'static str,
    /// How large the answer may be.
    pub(super) limit: u64,
    /// The type bytes that it may begin with, besides those of errors; any when there are none.
    markers: &'static [u8],
}

impl Expected {
    /// The client's own question that it is for; `None` when it is a request's.
    pub(in crate::cluster) fn question(&self) -> Option<Question> {
        let (name, markers): (_, &[u8]) = match self {
            Self::Request(_) => return None,
            Self::Queued(_) => ("MULTI or a command behind it", b""),
            Self::Handshake(HandshakeStep::Hello) => ("HELLO", b"%*"),
            Self::Handshake(HandshakeStep::Auth) => ("AUTH", b"+"),
            Self::Handshake(HandshakeStep::Select) => ("SELECT", b"+"),
            // Proxies say OK to all of CLIENT: then it has no id.
            Self::Handshake(HandshakeStep::Id) => ("CLIENT ID", b":+"),
            Self::Handshake(HandshakeStep::Courtesy) => ("CLIENT SETNAME or CLIENT SETINFO", b"+"),
            Self::Handshake(HandshakeStep::ReadOnly) | Self::ReadOnly => ("READONLY", b"+"),
            Self::Handshake(HandshakeStep::Identity) => ("CLUSTER MYID", b"$+"),
            Self::Asking => ("ASKING", b"+"),
            Self::Unblocking => ("CLIENT UNBLOCK", b":"),
            Self::Slots(_) => ("CLUSTER SLOTS", b"*"),
            Self::Shards(_) => ("CLUSTER SHARDS", b"*"),
            Self::Info(_) => ("CLUSTER INFO", b"$=+"),
            Self::Ping => ("PING", b"+$"),
            Self::Cleaning => ("UNWATCH or DISCARD", b"+"),
        };
        let limit = match self {
            Self::Slots(_) | Self::Shards(_) => TOPOLOGY_ANSWER_MAX,
            _ => ANSWER_MAX,
        };
        Some(Question { name, limit, markers })
    }
}

impl Question {
    /// What is wrong with an answer of another type.
    pub(in crate::cluster) fn misfit(&self, reply: &RawReply) -> Option<Error> {
        let root = reply.root()?;
        let fits = self.markers.is_empty()
            || matches!(root.marker, b'-' | b'!')
            || (self.markers.contains(&root.marker) && !root.is_null());
        (!fits).then(|| Error::Protocol(format!("{} was answered with {}", self.name, root.kind())))
    }
}

impl Cluster {
    /// The client's own question whose answer is the next on this connection.
    fn next_question(&self, connection: &Connection) -> Option<Question> {
        match connection.next_due()? {
            Expected::Request(id) => {
                let Parent::Pass { scan, number } = self.requests.get(*id)?.parent()? else {
                    return None;
                };
                let name = self.scans.question(scan, number)?;
                Some(Question { name, limit: ANSWER_MAX, markers: b"" })
            }
            waiting => waiting.question(),
        }
    }

    /// Tells a connection's decoder how large the next reply may be.
    pub(super) fn limit_next_reply(&mut self, conn: ConnId) {
        let Some(connection) = self.links.get(conn) else {
            return;
        };
        let limit = match connection.next_due() {
            // Nothing is due but pushes.
            None => ANSWER_MAX,
            Some(Expected::Request(_)) if self.scans.is_empty() => u64::MAX,
            Some(_) => self.next_question(connection).map_or(u64::MAX, |question| question.limit),
        };
        if let Some(connection) = self.links.get_mut(conn) {
            connection.decoder.limit_reply(limit.min(self.cx.config.limits.reply_size));
        }
    }

    /// A reply was nested too deep, and has been dropped whole. Whoever asked is told so, and
    /// nobody else: what comes next on the connection answers the next command. None of the
    /// client's own questions has such an answer.
    pub(super) fn on_dropped(&mut self, conn: ConnId, error: &DecodeError) {
        let told = self.why_undecodable(conn, error);
        let Some(connection) = self.links.get_mut(conn) else {
            return;
        };
        match connection.replied() {
            Some(Expected::Request(id)) => {
                self.mark_healthy(conn);
                let request = self.requests.on(conn, id);
                let Some(request) = request else {
                    return;
                };
                if let (true, Some(lease)) = (request.command().blocks.is_some(), request.lease()) {
                    self.start_clocks_behind(conn, lease);
                }
                self.finish(id, Err(told));
            }
            Some(waiting) => {
                if let Expected::Slots(query) | Expected::Shards(query) | Expected::Info(query) = waiting {
                    self.map.abandon_query(query);
                }
                let text = format!("{told}: none is nested so");
                self.lose(conn, Error::Protocol(text), Driver::MustClose);
            }
            None => {
                let text = String::from("the server sent a reply that answers no command");
                self.lose(conn, Error::Protocol(text), Driver::MustClose);
            }
        }
    }

    /// What those are told whose reply could not be read.
    pub(super) fn why_undecodable(&self, conn: ConnId, error: &DecodeError) -> Error {
        let question = self.links.get(conn).and_then(|connection| self.next_question(connection));
        let text: String = match question {
            Some(question) => format!("the answer to {}: {error}", question.name),
            None => format!("{error}"),
        };
        if error.is_limit() { Error::LimitExceeded(text) } else { Error::Protocol(text) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    /// One reply of each type, and the null of RESP2.
    const REPLIES: &[&str] = &[
        "+OK\r\n",
        "-ERR no\r\n",
        ":1\r\n",
        "$1\r\nx\r\n",
        "$-1\r\n",
        "*1\r\n:1\r\n",
        "*0\r\n",
        "*-1\r\n",
        "_\r\n",
        "#t\r\n",
        ",1.5\r\n",
        "(12\r\n",
        "!6\r\nERR no\r\n",
        "=5\r\ntxt:x\r\n",
        "%1\r\n+a\r\n:1\r\n",
        "~1\r\n:1\r\n",
    ];

    #[test]
    fn every_question_knows_the_types_of_its_answers() {
        let every_question = [
            (Expected::Handshake(HandshakeStep::Hello), "%*"),
            (Expected::Handshake(HandshakeStep::Auth), "+"),
            (Expected::Handshake(HandshakeStep::Select), "+"),
            (Expected::Handshake(HandshakeStep::Id), ":+"),
            (Expected::Handshake(HandshakeStep::Identity), "$+"),
            (Expected::Handshake(HandshakeStep::Courtesy), "+"),
            (Expected::Handshake(HandshakeStep::ReadOnly), "+"),
            (Expected::ReadOnly, "+"),
            (Expected::Asking, "+"),
            (Expected::Unblocking, ":"),
            (Expected::Slots(1), "*"),
            (Expected::Shards(1), "*"),
            (Expected::Info(1), "$=+"),
            (Expected::Ping, "+$"),
            (Expected::Cleaning, "+"),
        ];
        for (waiting, markers) in every_question {
            let question = waiting.question().unwrap();
            for sent in REPLIES {
                let reply = RawReply::new(Bytes::from_static(sent.as_bytes()), 1);
                let is_null = sent.contains("-1\r\n") || sent.starts_with('_');
                let first = sent.chars().next().unwrap();
                let fits = "-!".contains(first) || (markers.contains(first) && !is_null);
                assert_eq!(question.misfit(&reply).is_none(), fits, "{waiting:?}: {sent:?}");
            }
        }
    }
}
