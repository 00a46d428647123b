//! What a new connection says first, and how it takes the answers.
//!
//! ```text
//!   Hello ── ok ──────────────────────────────→ done (RESP3)
//!     └─ "unknown command", NOPROTO ─→ Resp2 ─→ done (RESP2)
//! ```
//!
//! Each step is one batch: one write, one round trip. HELLO: Redis documentation, "HELLO".

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::config::{Config, Protocol, ReplicaReads};
use crate::error::{Error, ServerError};

/// What the library calls itself in CLIENT LIST.
const LIBRARY_NAME: &str = "keyslot";

/// What one command of the batch was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Hello,
    Auth,
    Select,
    /// CLIENT ID, by which a command that blocks is ended from another connection.
    Id,
    /// SETNAME, SETINFO and READONLY: nice to have. Old servers do not know SETINFO, and an ACL may forbid them.
    Courtesy,
}

/// Where a step's answer leaves the handshake.
#[derive(Debug)]
pub(super) enum Verdict {
    /// On to the next answer.
    Continue,
    /// The server does not know HELLO 3: ignore the rest of this batch, and log in as RESP2 has it.
    FallBack,
    /// The connection is of no use.
    Fail(Error),
}

/// The first batch. `shared`: of the connection that a node's requests share.
pub(super) fn first_batch(config: &Config, shared: bool) -> Vec<(Step, Vec<String>)> {
    if config.protocol == Protocol::Resp2 {
        return resp2_batch(config, shared);
    }
    let mut hello = words(&["HELLO", "3"]);
    if let Some(password) = &config.password {
        hello.extend(words(&["AUTH", config.username.as_deref().unwrap_or("default"), password]));
    }
    let mut batch = Vec::from([(Step::Hello, hello)]);
    batch.extend(common(config, shared));
    batch
}

/// The batch for RESP2, first or after HELLO was not understood.
pub(super) fn resp2_batch(config: &Config, shared: bool) -> Vec<(Step, Vec<String>)> {
    let mut batch = Vec::new();
    match (&config.username, &config.password) {
        (Some(username), Some(password)) => batch.push((Step::Auth, words(&["AUTH", username, password]))),
        (None, Some(password)) => batch.push((Step::Auth, words(&["AUTH", password]))),
        (_, None) => {}
    }
    batch.extend(common(config, shared));
    batch
}

fn common(config: &Config, shared: bool) -> Vec<(Step, Vec<String>)> {
    let mut batch = Vec::new();
    if let Some(name) = &config.client_name {
        batch.push((Step::Courtesy, words(&["CLIENT", "SETNAME", name])));
    }
    batch.push((Step::Courtesy, words(&["CLIENT", "SETINFO", "LIB-NAME", LIBRARY_NAME])));
    batch.push((Step::Courtesy, words(&["CLIENT", "SETINFO", "LIB-VER", env!("CARGO_PKG_VERSION")])));
    if config.database != 0 {
        batch.push((Step::Select, words(&["SELECT", &config.database.to_string()])));
    }
    if !shared {
        batch.push((Step::Id, words(&["CLIENT", "ID"])));
    }
    // A primary takes no notice of it, so every node gets it: roles change while a connection lives. A server
    // without cluster support refuses it, which does no harm.
    if shared && config.replica_reads != ReplicaReads::Primary {
        batch.push((Step::Courtesy, words(&["READONLY"])));
    }
    batch
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}

/// Takes the answer to one step in; `None` is success.
pub(super) fn judge(step: Step, error: Option<&ServerError>, protocol: Protocol) -> Verdict {
    let Some(error) = error else {
        return Verdict::Continue;
    };
    let refused = match error.code.as_str() {
        "NOAUTH" | "WRONGPASS" => true,
        // Before Redis 6: "ERR invalid password", "ERR Client sent AUTH, but no password is set".
        _ => step == Step::Auth,
    };
    if refused {
        return Verdict::Fail(Error::Authentication(error.to_string()));
    }
    match step {
        Step::Courtesy | Step::Id => Verdict::Continue,
        Step::Hello if !is_unknown_command(error) => {
            Verdict::Fail(Error::Connect(format!("the server refused the connection: {error}")))
        }
        Step::Hello if protocol == Protocol::Resp3 => {
            Verdict::Fail(Error::Connect(format!("the server does not speak RESP3: {error}")))
        }
        Step::Hello => Verdict::FallBack,
        Step::Auth | Step::Select => Verdict::Fail(Error::Connect(error.to_string())),
    }
}

/// Whether this is how a server without RESP3 answers HELLO 3.
fn is_unknown_command(error: &ServerError) -> bool {
    error.code == "NOPROTO"
        || (error.code == "ERR" && error.message.to_ascii_lowercase().starts_with("unknown command"))
}
