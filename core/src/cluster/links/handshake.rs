//! What a new connection says first, and how it takes the answers.
//!
//! ```text
//!   Hello ── ok ──────────────────────────────────→ done (RESP3)
//!     ├─ refused, in whatever words ────→ Resp2 ─→ done (RESP2)
//!     ├─ NOAUTH, WRONGPASS ─────────────────────→ no log-in
//!     └─ "max number of clients", DENIED, LOADING ─→ not now
//! ```
//!
//! Each step is one batch: one write, one round trip. HELLO: Redis documentation, "HELLO".
//!
//! What a server says first need not answer what was asked first. One that is full, or in protected
//! mode, writes its error when it accepts (`acceptCommonHandler` in `networking.c`) and hangs up;
//! it is then read as the answer to the first step, whichever that is. So an error is judged by its
//! words before it is judged by its step.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::config::{Config, ReplicaReads, RespVersion};
use crate::error::{Error, ServerError};
use crate::resp::RawReply;

/// An id has so many hexadecimal digits (cluster specification).
const ID_LENGTH: usize = 40;

/// What the library calls itself in CLIENT LIST.
const LIBRARY_NAME: &str = "keyslot";

/// What one command of the batch was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cluster) enum HandshakeStep {
    Hello,
    Auth,
    Select,
    /// CLUSTER MYID: who is at the address.
    Identity,
    /// CLIENT ID, by which a command that blocks is ended from another connection.
    Id,
    /// READONLY: without it a replica serves no reads.
    ReadOnly,
    /// SETNAME and SETINFO: nice to have. Old servers do not know SETINFO, and an ACL may forbid
    /// them.
    Courtesy,
}

/// Where a step's answer leaves the handshake.
#[derive(Debug)]
pub(in crate::cluster) enum HandshakeAction {
    /// On to the next answer.
    Continue,
    /// The server refuses HELLO 3: ignore the rest of this batch, and log in as RESP2 has it.
    FallBack,
    /// The server does not want a connection, or is not ready for one: another may come about
    /// later.
    NotNow(Error),
    /// The connection is of no use.
    Fail(Error),
}

/// The first batch. `shared`: of the connection that a node's requests share.
pub(super) fn first_batch(config: &Config, shared: bool) -> Vec<(HandshakeStep, Vec<String>)> {
    if config.resp_version == RespVersion::Resp2 {
        return resp2_batch(config, shared);
    }
    let mut hello = words(&["HELLO", "3"]);
    if let Some(password) = &config.password {
        hello.extend(words(&["AUTH", config.username.as_deref().unwrap_or("default"), password]));
    }
    let mut batch = Vec::from([(HandshakeStep::Hello, hello)]);
    batch.extend(common(config, shared));
    batch
}

/// The batch for RESP2, first or after HELLO was not understood.
pub(super) fn resp2_batch(config: &Config, shared: bool) -> Vec<(HandshakeStep, Vec<String>)> {
    let mut batch = Vec::new();
    match (&config.username, &config.password) {
        (Some(username), Some(password)) => {
            batch.push((HandshakeStep::Auth, words(&["AUTH", username, password])));
        }
        (None, Some(password)) => batch.push((HandshakeStep::Auth, words(&["AUTH", password]))),
        (_, None) => {}
    }
    batch.extend(common(config, shared));
    batch
}

fn common(config: &Config, shared: bool) -> Vec<(HandshakeStep, Vec<String>)> {
    let mut batch = Vec::new();
    if let Some(name) = &config.client_name {
        batch.push((HandshakeStep::Courtesy, words(&["CLIENT", "SETNAME", name])));
    }
    if config.library_info {
        batch.push((HandshakeStep::Courtesy, words(&["CLIENT", "SETINFO", "LIB-NAME", LIBRARY_NAME])));
        batch.push((
            HandshakeStep::Courtesy,
            words(&["CLIENT", "SETINFO", "LIB-VER", env!("CARGO_PKG_VERSION")]),
        ));
    }
    if config.database != 0 {
        batch.push((HandshakeStep::Select, words(&["SELECT", &config.database.to_string()])));
    }
    if !shared {
        batch.push((HandshakeStep::Id, words(&["CLIENT", "ID"])));
    }
    // A primary takes no notice of it, so every node gets it: roles change while a connection
    // lives. A server without cluster support refuses it, which does no harm.
    if shared && config.replica_reads != ReplicaReads::Primary {
        batch.push((HandshakeStep::ReadOnly, words(&["READONLY"])));
    }
    batch
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}

/// Takes the answer to one step in; `None` is success.
pub(in crate::cluster) fn classify(
    step: HandshakeStep,
    error: Option<&ServerError>,
    protocol: RespVersion,
) -> HandshakeAction {
    let Some(error) = error else {
        return HandshakeAction::Continue;
    };
    if refuses_log_in(step, error) {
        return HandshakeAction::Fail(Error::Authentication(error.to_string()));
    }
    if refuses_connection(error) {
        return HandshakeAction::NotNow(refused(error));
    }
    match step {
        HandshakeStep::Courtesy | HandshakeStep::Id | HandshakeStep::Identity | HandshakeStep::ReadOnly => {
            HandshakeAction::Continue
        }
        _ if passes(error) => HandshakeAction::NotNow(refused(error)),
        HandshakeStep::Hello if protocol != RespVersion::Resp3 => HandshakeAction::FallBack,
        HandshakeStep::Hello if is_unknown_command(error) => {
            HandshakeAction::Fail(Error::Connect(format!("the server does not speak RESP3: {error}")))
        }
        HandshakeStep::Hello | HandshakeStep::Auth | HandshakeStep::Select => {
            HandshakeAction::Fail(refused(error))
        }
    }
}

/// Why a connection that the server ended before it was ready did not come about; `last` is the
/// last error that it sent.
pub(super) fn why_ended(last: Option<&ServerError>, reason: &str) -> HandshakeAction {
    match last {
        Some(error) if refuses_connection(error) || passes(error) => HandshakeAction::NotNow(refused(error)),
        Some(error) => {
            HandshakeAction::Fail(Error::Connect(format!("{reason}; before, the server answered: {error}")))
        }
        None => HandshakeAction::Fail(Error::Connect(reason.to_string())),
    }
}

fn refused(error: &ServerError) -> Error {
    Error::Connect(format!("the server refused the connection: {error}"))
}

/// Whether the user or the password is not right.
fn refuses_log_in(step: HandshakeStep, error: &ServerError) -> bool {
    // Before Redis 6, and proxies since.
    const OLD_WORDS: &[&str] = &[
        "invalid password",
        "invalid username-password pair",
        "Client sent AUTH, but no password is set",
        "AUTH <password> called without any password configured",
    ];
    match error.code.as_str() {
        "NOAUTH" | "WRONGPASS" => true,
        "ERR" if step == HandshakeStep::Auth => {
            OLD_WORDS.iter().any(|words| error.message.starts_with(words))
        }
        _ => false,
    }
}

/// Whether the server wants no connection, or not this one.
fn refuses_connection(error: &ServerError) -> bool {
    match error.code.as_str() {
        // Protected mode.
        "DENIED" => true,
        // "max number of clients reached", "max number of clients + cluster connections reached".
        "ERR" => error.message.starts_with("max number of clients"),
        _ => false,
    }
}

/// Whether a server says this for as long as it cannot serve, to whatever it is asked.
pub(in crate::cluster) fn passes(error: &ServerError) -> bool {
    matches!(error.code.as_str(), "LOADING" | "BUSY" | "CLUSTERDOWN" | "MASTERDOWN" | "TRYAGAIN")
}

/// Whether this is how a server without RESP3 answers HELLO 3.
fn is_unknown_command(error: &ServerError) -> bool {
    error.code == "NOPROTO"
        || (error.code == "ERR" && error.message.to_ascii_lowercase().starts_with("unknown command"))
}

/// The id in an answer to CLUSTER MYID. What is no id tells nothing.
pub(super) fn id_in(reply: &RawReply) -> Option<String> {
    let reply = reply.decode();
    let id = reply.cursor()?.as_str()?;
    let is_id = id.len() == ID_LENGTH && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_id.then(|| id.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(step: HandshakeStep, text: &str) -> &'static str {
        let (code, message) = text.split_once(' ').unwrap();
        let error = ServerError { code: code.into(), message: message.into() };
        match classify(step, Some(&error), RespVersion::Auto) {
            HandshakeAction::Continue => "continue",
            HandshakeAction::FallBack => "fall back",
            HandshakeAction::NotNow(_) => "not now",
            HandshakeAction::Fail(Error::Authentication(_)) => "no log-in",
            HandshakeAction::Fail(_) => "fail",
        }
    }

    #[test]
    fn an_error_is_judged_by_its_words_and_then_by_its_step() {
        let steps = [
            HandshakeStep::Hello,
            HandshakeStep::Auth,
            HandshakeStep::Select,
            HandshakeStep::Courtesy,
            HandshakeStep::Id,
            HandshakeStep::ReadOnly,
        ];
        let on_all = |text: &str| steps.map(|step| judged(step, text));
        for text in [
            "ERR max number of clients reached",
            "ERR max number of clients + cluster connections reached",
            "DENIED Redis is running in protected mode because protected mode is enabled",
        ] {
            assert_eq!(on_all(text), ["not now"; 6], "{text}");
        }
        for text in ["NOAUTH Authentication required.", "WRONGPASS invalid username-password pair"] {
            assert_eq!(on_all(text), ["no log-in"; 6], "{text}");
        }
        let (passes, skips) = ("not now", "continue");
        assert_eq!(on_all("LOADING Redis is loading"), [passes, passes, passes, skips, skips, skips]);
        for text in [
            "ERR invalid password",
            "ERR Client sent AUTH, but no password is set",
            "ERR AUTH <password> called without any password configured for the default user. Are you sure?",
        ] {
            assert_eq!(judged(HandshakeStep::Auth, text), "no log-in", "{text}");
            assert_eq!(judged(HandshakeStep::Courtesy, text), "continue", "{text}");
        }
        for text in [
            "ERR unsupported command `HELLO`",
            "ERR Command is not available: 'HELLO'. See docs",
            "NOPERM this user has no permissions to run the 'hello' command",
            "NOPROTO unsupported protocol version",
            "ERR syntax error",
        ] {
            assert_eq!(judged(HandshakeStep::Hello, text), "fall back", "{text}");
            assert_eq!(judged(HandshakeStep::Auth, text), "fail", "{text}");
        }
    }
}
