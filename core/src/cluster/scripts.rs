//! Scripts that the caller has given: what EVALSHA names is sent whole (EVAL) to a node that does not know it.
//!
//! Servers forget scripts when they restart, when a replica takes over and on SCRIPT FLUSH. NOSCRIPT says that nothing was executed, so the
//! whole script may follow.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use bytes::{Bytes, BytesMut};
use litemap::LiteMap;
use sha1_smol::Sha1;

use super::request::Request;
use super::{Cluster, RequestId};
use crate::error::ServerError;
use crate::resp::encode_command;

/// The scripts that are known, by the SHA-1 of their text in hexadecimal digits.
#[derive(Debug, Default)]
pub struct Scripts {
    known: LiteMap<String, Script>,
}

#[derive(Debug)]
struct Script {
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
}

impl Cluster {
    /// Remembers a script and gives the SHA-1 of its text, in 40 hexadecimal digits: from now on EVALSHA and EVALSHA_RO with it work at
    /// every node. Each is to be forgotten as often as it was added.
    pub fn add_script(&mut self, source: &[u8]) -> String {
        let sha = Sha1::from(source).digest().to_string();
        match self.scripts.known.get_mut(&sha) {
            Some(script) => script.users += 1,
            None => {
                let script = Script { source: Bytes::copy_from_slice(source), users: 1 };
                self.scripts.known.insert(sha.clone(), script);
            }
        }
        sha
    }

    /// Forgets a script that was added.
    pub fn forget_script(&mut self, sha: &str) {
        if let Some(script) = self.scripts.known.get_mut(sha) {
            script.users -= 1;
            if script.users == 0 {
                self.scripts.known.remove(sha);
            }
        }
    }

    /// The scripts that are known.
    #[must_use]
    pub fn scripts(&self) -> &Scripts {
        &self.scripts
    }

    /// Puts the whole script into a request that was answered NOSCRIPT. False when it is not known.
    pub(super) fn take_whole_script(&mut self, id: RequestId, error: &ServerError) -> bool {
        // A script that writes could answer with any other text after it has.
        if error.code != "NOSCRIPT" || !error.message.starts_with("No matching script") {
            return false;
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
