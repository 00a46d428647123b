//! The scripts that the caller has given, and what a command has to do with them.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use bytes::{Bytes, BytesMut};
use litemap::LiteMap;
use sha1_smol::Sha1;

use super::prepared::Command;
use crate::resp::encode_command;

/// The scripts that are known, by the SHA-1 of their text in hexadecimal digits.
#[derive(Debug, Default)]
pub struct Scripts {
    known: LiteMap<String, Script>,
    next: u32,
}

/// What a command has to do with scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ScriptUse {
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
    pub(crate) fn whole<'a>(&'a self, args: &[&'a [u8]]) -> Option<Vec<&'a [u8]>> {
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

    /// Puts the text into a command that is about to be sent over a connection where it has not
    /// run: `run` are those that have.
    pub(crate) fn inline_source(&self, command: &mut Command, run: &[u32]) {
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

    /// Remembers a script and gives the SHA-1 of its text, in hexadecimal digits.
    pub(crate) fn add(&mut self, source: &[u8]) -> String {
        let sha = Sha1::from(source).digest().to_string();
        match self.known.get_mut(&sha) {
            Some(script) => script.users += 1,
            None => {
                let number = self.next;
                self.next = number.wrapping_add(1);
                let script = Script { number, source: Bytes::copy_from_slice(source), users: 1 };
                self.known.insert(sha.clone(), script);
            }
        }
        sha
    }

    /// Forgets a script that was added. Its number, when nobody has added it any more.
    pub(crate) fn forget(&mut self, sha: &str) -> Option<u32> {
        let script = self.known.get_mut(sha)?;
        script.users -= 1;
        let (number, is_used) = (script.number, script.users > 0);
        if is_used {
            return None;
        }
        self.known.remove(sha);
        Some(number)
    }
}
