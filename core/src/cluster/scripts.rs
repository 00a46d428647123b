//! Scripts that the caller has given: what EVALSHA names is sent whole (EVAL) to a node that does not know it.
//!
//! Until a script has run over a connection, each command that runs it carries its text there; so none has to be sent again
//! out of its order. From then on EVALSHA is enough, unless somebody has flushed the scripts: NOSCRIPT says that nothing was executed, so
//! the whole script may follow.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use bytes::{Bytes, BytesMut};
use litemap::LiteMap;
use sha1_smol::Sha1;

use super::request::{Command, Request};
use super::{Cluster, ConnId, RequestId};
use crate::error::ServerError;
use crate::resp::{RawReply, encode_command};

/// The scripts that are known, by the SHA-1 of their text in hexadecimal digits.
#[derive(Debug, Default)]
pub struct Scripts {
    known: LiteMap<String, Script>,
    next: u32,
}

/// What a command has to do with scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ScriptUse {
    None,
    /// Runs one by its SHA-1.
    Runs,
    /// Runs one with this number by its text.
    Carries(u32),
    /// Makes the servers forget all.
    Flushes,
}

#[derive(Debug)]
struct Script {
    /// None is used twice.
    number: u32,
    source: Bytes,
    /// How many have added it.
    users: u32,
}

impl Scripts {
    /// The command with the text of its script instead of the name, if it runs one that is known.
    pub(super) fn whole<'a>(&'a self, args: &[&'a [u8]]) -> Option<Vec<&'a [u8]>> {
        let (name, rest) = args.split_first()?;
        let whole: &[u8] = if name.eq_ignore_ascii_case(b"EVALSHA") {
            b"EVAL"
        } else if name.eq_ignore_ascii_case(b"EVALSHA_RO") {
            b"EVAL_RO"
        } else {
            return None;
        };
        let (sha, rest) = rest.split_first()?;
        let sha = core::str::from_utf8(sha).ok()?.to_ascii_lowercase();
        let script = self.known.get(&sha)?;
        let mut words = Vec::with_capacity(args.len());
        words.extend([whole, &script.source]);
        words.extend(rest);
        Some(words)
    }

    /// Puts the text into a command that is about to be sent over a connection where it has not run: `run` are those that have.
    pub(super) fn introduce(&self, command: &mut Command, run: &[u32]) {
        if command.script != ScriptUse::Runs {
            return;
        }
        let args = command.args();
        let sha1 = args.get(1).and_then(|sha1| core::str::from_utf8(sha1).ok());
        let number =
            sha1.and_then(|sha1| self.known.get(&sha1.to_ascii_lowercase())).map(|script| script.number);
        if let Some(number) = number.filter(|number| !run.contains(number))
            && let Some(whole) = self.whole(&args)
        {
            let mut frame = BytesMut::new();
            encode_command(&whole, &mut frame);
            command.frame = frame.freeze();
            command.script = ScriptUse::Carries(number);
        }
    }
}

impl Cluster {
    /// Remembers a script and gives the SHA-1 of its text, in 40 hexadecimal digits: from now on EVALSHA and EVALSHA_RO with it work at
    /// every node. Each is to be forgotten as often as it was added.
    pub fn add_script(&mut self, source: &[u8]) -> String {
        let sha = Sha1::from(source).digest().to_string();
        match self.scripts.known.get_mut(&sha) {
            Some(script) => script.users += 1,
            None => {
                let number = self.scripts.next;
                self.scripts.next = number.wrapping_add(1);
                let script = Script { number, source: Bytes::copy_from_slice(source), users: 1 };
                self.scripts.known.insert(sha.clone(), script);
            }
        }
        sha
    }

    /// Forgets a script that was added.
    pub fn forget_script(&mut self, sha: &str) {
        if let Some(script) = self.scripts.known.get_mut(sha) {
            script.users -= 1;
            let number = script.number;
            if script.users == 0 {
                self.scripts.known.remove(sha);
                for connection in self.connections.values_mut() {
                    connection.scripts.retain(|run| *run != number);
                }
            }
        }
    }

    /// The scripts that are known.
    #[must_use]
    pub fn scripts(&self) -> &Scripts {
        &self.scripts
    }

    /// A script has run: the node knows it. In a transaction it has only been queued.
    pub(super) fn note_script(&mut self, conn: ConnId, id: RequestId, reply: &RawReply) {
        let script = self.requests.get(id).map(|request| request.command.script);
        if let (Some(ScriptUse::Carries(number)), Some(connection)) = (script, self.connections.get_mut(conn))
            && **reply.as_bytes() != *b"+QUEUED\r\n"
            && !connection.scripts.contains(&number)
        {
            connection.scripts.push(number);
        }
    }

    /// No server knows a script any more.
    pub(super) fn forget_sent_scripts(&mut self) {
        for connection in self.connections.values_mut() {
            connection.scripts.clear();
        }
    }

    /// Puts the whole script into a request that was answered NOSCRIPT. False when it is not known.
    pub(super) fn take_whole_script(&mut self, id: RequestId, conn: ConnId, error: &ServerError) -> bool {
        // A script that writes could answer with any other text after it has.
        if error.code != "NOSCRIPT" || !error.message.starts_with("No matching script") {
            return false;
        }
        if let Some(connection) = self.connections.get_mut(conn) {
            connection.scripts.clear();
        }
        let Some(Request { command, .. }) = self.requests.get_mut(id) else {
            return false;
        };
        let args = command.args();
        let Some(whole) = self.scripts.whole(&args) else {
            return false;
        };
        let mut frame = BytesMut::new();
        encode_command(&whole, &mut frame);
        command.frame = frame.freeze();
        true
    }
}
