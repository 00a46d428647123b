//! What a request can fail with. The WIT variant `error` has the same cases.

use alloc::string::String;
use core::fmt::{self, Write as _};
use core::time::Duration;

/// Why a request has no reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The caller's input cannot be sent as it is; the text quotes the part that is wrong.
    #[error("invalid argument: {0}")]
    InvalidArgument(String),
    /// The keys of one command lie in different slots.
    #[error("cross-slot: {0}")]
    CrossSlot(String),
    /// The server answered with an error.
    #[error("{0}")]
    Server(ServerError),
    /// More redirects than `max-redirects` were answered to one request.
    #[error("too many redirects: {0}")]
    RedirectLimit(String),
    /// No node serves the slot that the command needs.
    #[error("cluster down: {0}")]
    ClusterDown(String),
    /// No connection could be made; nothing was sent.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// The connection ended before the reply came.
    #[error("connection lost: {0}")]
    ConnectionLost(Interrupted),
    /// The request's time ran out before the reply came.
    #[error("timed out: {0}")]
    Timeout(Interrupted),
    /// A command went to several nodes, or in several parts: some have executed it, others refused
    /// it or could not be reached.
    #[error("partly executed: {0}")]
    PartlyExecuted(Interrupted),
    /// The server refused the user name or the password.
    #[error("authentication failed: {0}")]
    Authentication(String),
    /// TLS could not be set up.
    #[error("TLS: {0}")]
    Tls(String),
    /// The server's bytes are not RESP, or not a reply that the request can have.
    #[error("protocol error: {0}")]
    Protocol(String),
    /// A limit of this client was reached.
    #[error("limit exceeded: {0}")]
    LimitExceeded(String),
    /// The client was closed.
    #[error("the client is closed")]
    Closed,
}

/// Text as an error quotes it: in quotes, and escaped where it is not printable ASCII.
///
/// `{:?}` would do much the same with tables of Unicode's properties, which are large for a
/// component.
#[derive(Debug)]
pub struct Quoted<'a>(pub &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.as_bytes().escape_ascii())
    }
}

/// A time as an error tells it: `5s`, `1500ms`.
#[derive(Debug)]
pub(crate) struct Within(pub(crate) Duration);

impl fmt::Display for Within {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = self.0.as_millis() as u64;
        match (milliseconds / 1_000, milliseconds % 1_000) {
            (seconds @ 1.., 0) => write!(f, "{seconds}s"),
            _ => write!(f, "{milliseconds}ms"),
        }
    }
}

/// An error reply, taken apart at its first space: `code` is the upper-case word that tells errors
/// apart (`WRONGTYPE`, `MOVED`, `ERR`), `message` the rest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerError {
    /// The first word.
    pub code: String,
    /// What follows it.
    pub message: String,
}

/// How much of a server's error text is kept, in bytes.
///
/// Servers write a few dozen bytes; a script's error quotes the script. The text goes into
/// requests, events and results, thousands of which may be held at the same time.
pub const TEXT_MAX: usize = 1 << 10;

/// What stands for the text of an error that has none.
const NO_TEXT: &str = "(the server gave no reason)";

impl ServerError {
    /// The error of an error reply's text, whole.
    pub(crate) fn whole(text: &[u8]) -> Self {
        let mut words = text.splitn(2, |&byte| byte == b' ');
        let mut word = || String::from_utf8_lossy(words.next().unwrap_or_default()).into_owned();
        Self { code: word(), message: word() }
    }

    /// The same of an error that is whole.
    pub(crate) fn to_kept(&self) -> Self {
        Self::kept(alloc::format!("{self}").as_bytes())
    }

    /// The error with as much of its text as is kept: what is longer than [`TEXT_MAX`] ends with a
    /// mark and its length. One that is blank says so.
    pub(crate) fn kept(text: &[u8]) -> Self {
        let mut error = Self::whole(text.get(..TEXT_MAX).map_or(text, |head| head_of(text, head)));
        if text.len() > TEXT_MAX {
            let Self { code, message } = &mut error;
            let last = if message.is_empty() { code } else { message };
            // Bytes that are no UTF-8 have become three each.
            last.truncate(last.floor_char_boundary(TEXT_MAX));
            // Writing to a string does not fail.
            let _ = write!(last, "… ({} bytes)", text.len());
        } else if matches!(error.code.as_str(), "" | "ERR") && error.message.trim().is_empty() {
            (error.code, error.message) = ("ERR".into(), NO_TEXT.into());
        }
        error
    }
}

/// The `head` of a text, up to where a character begins.
fn head_of<'a>(text: &[u8], head: &'a [u8]) -> &'a [u8] {
    let is_within = |at: &usize| text.get(*at).is_some_and(|byte| byte & 0xc0 == 0x80);
    let end = (0..4).filter_map(|back| head.len().checked_sub(back)).find(|at| !is_within(at));
    end.and_then(|end| head.get(..end)).unwrap_or(head)
}

impl ServerError {
    /// Whether a node that answers a PING so serves nobody for now. Any other error is the answer
    /// of a node that is well.
    #[must_use]
    pub fn is_unwell(&self) -> bool {
        matches!(self.code.as_str(), "LOADING" | "BUSY" | "MASTERDOWN")
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.code)?;
        if self.message.is_empty() { Ok(()) } else { write!(f, " {}", self.message) }
    }
}

/// A request whose reply did not come, or not from all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interrupted {
    /// The node it was sent to, or was to be sent to; empty when none was chosen.
    pub node: String,
    /// What happened.
    pub message: String,
    /// Whether the server may have executed it. When false, it has certainly not been.
    pub possibly_executed: bool,
}

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let executed = if self.possibly_executed { "may have been executed" } else { "was not executed" };
        if self.node.is_empty() {
            write!(f, "{}; the command {executed}", self.message)
        } else {
            write!(f, "{}: {}; the command {executed}", self.node, self.message)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn a_long_text_is_cut_where_a_character_begins() {
        let whole = "ERR ".to_string() + &"x".repeat(TEXT_MAX - 4);
        assert_eq!(ServerError::kept(whole.as_bytes()).to_string(), whole);
        for (text, most) in [
            ("ERR ".to_string() + &"x".repeat(1 << 20), TEXT_MAX),
            ("ERR ".to_string() + &"\u{1f600}".repeat(1 << 18), TEXT_MAX),
            ("X".repeat(1 << 20), TEXT_MAX),
        ] {
            let kept = ServerError::kept(text.as_bytes()).to_string();
            let (shown, mark) = kept.split_once('…').unwrap();
            assert!(text.starts_with(shown) && (most - 3..=most).contains(&shown.len()), "{kept}");
            assert_eq!(mark, alloc::format!(" ({} bytes)", text.len()));
        }
        let binary = ServerError::kept(&[b"ERR ".as_slice(), &[0xff; 1 << 20]].concat());
        assert!(binary.message.len() < TEXT_MAX + 30);
    }

    #[test]
    fn an_error_without_a_text_says_so() {
        for blank in ["", " ", "   ", "ERR", "ERR ", "ERR    "] {
            assert_eq!(ServerError::kept(blank.as_bytes()).to_string(), alloc::format!("ERR {NO_TEXT}"));
        }
        assert_eq!(ServerError::kept(b"EXECABORT").to_string(), "EXECABORT");
        assert_eq!(ServerError::kept(b" x").to_string(), " x");
    }

    #[test]
    fn a_refusal_is_the_answer_of_a_node_that_is_well() {
        for (code, is_unwell) in
            [("NOPERM", false), ("ERR", false), ("LOADING", true), ("BUSY", true), ("MASTERDOWN", true)]
        {
            assert_eq!(
                ServerError { code: code.into(), message: String::new() }.is_unwell(),
                is_unwell,
                "{code}"
            );
        }
    }
}
