//! How the client's own errors look among servers' replies, where both travel as RESP.
//!
//! Such an error is an error reply with a code that begins with [`PREFIX`]. A server's error whose
//! code begins like that, which a script could make up, gets `ERR` before it, so that the two
//! cannot be confused.
//!
//! | error | reply |
//! |---|---|
//! | invalid-argument | `-KEYSLOT.INVALID-ARGUMENT text` |
//! | cross-slot | `-KEYSLOT.CROSS-SLOT text` |
//! | redirect-limit | `-KEYSLOT.REDIRECT-LIMIT text` |
//! | cluster-down | `-KEYSLOT.CLUSTER-DOWN text` |
//! | connect | `-KEYSLOT.CONNECT text` |
//! | connection-lost | `-KEYSLOT.CONNECTION-LOST possibly-executed host:port text`, or `not-executed`; `-` for no node |
//! | timeout | `-KEYSLOT.TIMEOUT possibly-executed host:port text`, the same |
//! | partly-executed | `-KEYSLOT.PARTLY-EXECUTED possibly-executed host:port text`, the same |
//! | authentication | `-KEYSLOT.AUTHENTICATION text` |
//! | tls | `-KEYSLOT.TLS text` |
//! | protocol | `-KEYSLOT.PROTOCOL text` |
//! | limit-exceeded | `-KEYSLOT.LIMIT-EXCEEDED text` |
//! | closed | `-KEYSLOT.CLOSED` |
//!
//! Line breaks in the text are spaces, and it ends after 1 MiB.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::error::{Error, Interrupted, ServerError};
use crate::resp::LINE_LENGTH_MAX;

/// What the codes of the client's own errors begin with.
pub const PREFIX: &str = "KEYSLOT.";

const POSSIBLY_EXECUTED: &str = "possibly-executed";
const NOT_EXECUTED: &str = "not-executed";

/// Appends the error as an error reply.
pub fn encode_error(error: &Error, into: &mut Vec<u8>) {
    let start = into.len();
    let mut put = |words: &[&str]| {
        for (number, word) in words.iter().enumerate() {
            into.push(if number == 0 { b'-' } else { b' ' });
            into.extend_from_slice(word.as_bytes());
        }
    };
    let interrupted = |name, lost: &Interrupted, put: &mut dyn FnMut(&[&str])| {
        let node = if lost.node.is_empty() { "-" } else { &lost.node };
        put(&[
            name,
            if lost.possibly_executed { POSSIBLY_EXECUTED } else { NOT_EXECUTED },
            node,
            &lost.message,
        ]);
    };
    match error {
        Error::InvalidArgument(text) => put(&["KEYSLOT.INVALID-ARGUMENT", text]),
        Error::CrossSlot(text) => put(&["KEYSLOT.CROSS-SLOT", text]),
        Error::Server(error) if error.code.starts_with(PREFIX) => put(&["ERR", &error.code, &error.message]),
        Error::Server(error) if error.message.is_empty() => put(&[&error.code]),
        Error::Server(error) => put(&[&error.code, &error.message]),
        Error::RedirectLimit(text) => put(&["KEYSLOT.REDIRECT-LIMIT", text]),
        Error::ClusterDown(text) => put(&["KEYSLOT.CLUSTER-DOWN", text]),
        Error::Connect(text) => put(&["KEYSLOT.CONNECT", text]),
        Error::ConnectionLost(lost) => interrupted("KEYSLOT.CONNECTION-LOST", lost, &mut put),
        Error::Timeout(late) => interrupted("KEYSLOT.TIMEOUT", late, &mut put),
        Error::PartlyExecuted(partly) => interrupted("KEYSLOT.PARTLY-EXECUTED", partly, &mut put),
        Error::Authentication(text) => put(&["KEYSLOT.AUTHENTICATION", text]),
        Error::Tls(text) => put(&["KEYSLOT.TLS", text]),
        Error::Protocol(text) => put(&["KEYSLOT.PROTOCOL", text]),
        Error::LimitExceeded(text) => put(&["KEYSLOT.LIMIT-EXCEEDED", text]),
        Error::Closed => put(&["KEYSLOT.CLOSED"]),
    }
    for byte in into.iter_mut().skip(start).filter(|byte| matches!(byte, b'\r' | b'\n')) {
        *byte = b' ';
    }
    // No decoder takes a longer line. It is cut where a character begins.
    let longest = start + 1 + LINE_LENGTH_MAX;
    let is_within = |at: &usize| into.get(*at).is_some_and(|byte| byte & 0xc0 == 0x80);
    let end = (0..4).map(|back| longest - back).find(|at| !is_within(at)).unwrap_or(longest);
    into.truncate(end);
    into.extend_from_slice(b"\r\n");
}

/// The error that an error reply is: the client's own, or a server's.
#[must_use]
pub fn decode_error(reply: ServerError) -> Error {
    let Some(case) = reply.code.strip_prefix(PREFIX) else {
        return Error::Server(reply);
    };
    let text = reply.message;
    match case {
        "INVALID-ARGUMENT" => Error::InvalidArgument(text),
        "CROSS-SLOT" => Error::CrossSlot(text),
        "REDIRECT-LIMIT" => Error::RedirectLimit(text),
        "CLUSTER-DOWN" => Error::ClusterDown(text),
        "CONNECT" => Error::Connect(text),
        "CONNECTION-LOST" => Error::ConnectionLost(interrupted(&text)),
        "TIMEOUT" => Error::Timeout(interrupted(&text)),
        "PARTLY-EXECUTED" => Error::PartlyExecuted(interrupted(&text)),
        "AUTHENTICATION" => Error::Authentication(text),
        "TLS" => Error::Tls(text),
        "LIMIT-EXCEEDED" => Error::LimitExceeded(text),
        "CLOSED" => Error::Closed,
        "PROTOCOL" => Error::Protocol(text),
        // A later version's: all that can be said is that the command may have run.
        other => Error::Protocol(format!("{other}: {text}")),
    }
}

fn interrupted(text: &str) -> Interrupted {
    let mut words = text.splitn(3, ' ').map(String::from);
    let executed = words.next().unwrap_or_default();
    let node = words.next().filter(|node| node != "-").unwrap_or_default();
    Interrupted {
        node,
        message: words.next().unwrap_or_default(),
        possibly_executed: executed != NOT_EXECUTED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::{Decoder, Frame, Limits};
    use alloc::string::ToString;
    use alloc::vec;

    fn through_the_wire(error: &Error) -> Error {
        let mut bytes = Vec::new();
        encode_error(error, &mut bytes);
        let mut decoder = Decoder::new(Limits::default());
        decoder.feed(bytes.into());
        let Ok(Some(Frame::Reply(reply))) = decoder.poll() else { panic!("{error:?} is no reply") };
        assert_eq!(decoder.buffered(), 0);
        decode_error(reply.as_error().unwrap().clone())
    }

    #[test]
    fn every_error_comes_through() {
        let text = || "what is wrong".to_string();
        let interrupted = |node: &str, possibly_executed| Interrupted {
            node: node.to_string(),
            message: text(),
            possibly_executed,
        };
        let server =
            |code: &str, message: String| Error::Server(ServerError { code: code.to_string(), message });
        for error in [
            Error::InvalidArgument(text()),
            Error::CrossSlot(text()),
            server("WRONGTYPE", text()),
            server("EXECABORT", String::new()),
            Error::RedirectLimit(text()),
            Error::ClusterDown(text()),
            Error::Connect(text()),
            Error::ConnectionLost(interrupted("10.0.0.1:6379", true)),
            Error::ConnectionLost(interrupted("", false)),
            Error::Timeout(interrupted("[::1]:6379", false)),
            Error::PartlyExecuted(interrupted("", true)),
            Error::Authentication(text()),
            Error::Tls(text()),
            Error::Protocol(text()),
            Error::LimitExceeded(text()),
            Error::Closed,
        ] {
            assert_eq!(through_the_wire(&error), error);
        }
    }

    #[test]
    fn a_server_cannot_speak_for_the_client() {
        let made_up =
            ServerError { code: "KEYSLOT.TIMEOUT".to_string(), message: "not-executed - x".to_string() };
        let told = ServerError { code: "ERR".to_string(), message: made_up.to_string() };
        assert_eq!(through_the_wire(&Error::Server(made_up)), Error::Server(told));
        let hidden =
            ServerError { code: String::new(), message: "KEYSLOT.TIMEOUT not-executed - x".to_string() };
        assert_eq!(through_the_wire(&Error::Server(hidden.clone())), Error::Server(hidden));
    }

    #[test]
    fn an_error_is_never_too_long_to_be_read() {
        for text in ["x".repeat(LINE_LENGTH_MAX), "\u{fffd}".repeat(LINE_LENGTH_MAX / 2)] {
            let long = Error::Server(ServerError { code: "ERR".to_string(), message: text.clone() });
            let Error::Server(read) = through_the_wire(&long) else { panic!("another error") };
            assert!(text.starts_with(&read.message) && read.message.len() > LINE_LENGTH_MAX - 10);
        }
    }

    #[test]
    fn an_error_is_one_line() {
        let mut bytes = Vec::new();
        encode_error(&Error::Connect("first\r\nsecond".to_string()), &mut bytes);
        assert_eq!(bytes, b"-KEYSLOT.CONNECT first  second\r\n");
        let lines: vec::Vec<_> = bytes.split(|byte| *byte == b'\n').collect();
        assert_eq!(lines.len(), 2);
    }
}
