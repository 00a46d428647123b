//! Which arguments are keys: an interpreter of key specifications.
//!
//! A specification says where to begin (at an index, or after a keyword) and how to go on from
//! there (over a range, or over as many as a number among the arguments says). The interpreter
//! follows the servers' `getKeysUsingKeySpecs`, so that a command's keys are those which COMMAND
//! GETKEYS names. Three commands are beyond specifications; the servers have code for them, and so
//! has this module.
//!
//! <https://redis.io/docs/latest/develop/reference/key-specs/>

use super::{CommandSpec, Flags, table};
use crate::error::Quoted;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// Where some of a command's keys are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeySpec {
    /// Where to begin.
    pub begin_search: BeginSearch,
    /// Which arguments from there on are keys.
    pub find_keys: FindKeys,
    /// What is found is no key, though a command goes to its slot all the same: a shard channel.
    pub not_key: bool,
}

/// Where the search for keys begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BeginSearch {
    /// At the argument with this index; the name's is 0.
    Index(u8),
    /// At the argument after a keyword.
    Keyword {
        /// The keyword; its case does not matter.
        keyword: &'static str,
        /// The first argument to look at. A negative one counts from the end, and the search goes
        /// backwards.
        start_from: i8,
    },
}

/// Which arguments are keys, `first` being where the search begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FindKeys {
    /// Every `key_step`th argument from `first` to a last one.
    Range {
        /// The last one, relative to `first`; a negative one counts from the end of the arguments.
        last_key: i8,
        /// From one key to the next.
        key_step: u8,
        /// From 2 on: only the first half, third, ... of the remaining arguments; XREAD has as many
        /// identifiers as keys.
        limit: u8,
    },
    /// As many as one of the arguments says.
    KeyNum {
        /// Where that number is, relative to `first`.
        key_num_index: u8,
        /// Where the first key is, relative to `first`.
        first_key: u8,
        /// From one key to the next.
        key_step: u8,
    },
}

/// Why a command's keys cannot be told: the server would refuse the command, too.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Too few or too many arguments. Both numbers count the name, a subcommand's both names.
    #[error("{}", ArityMessage { name, arity: *arity, given: *given })]
    Arity {
        /// The command.
        name: &'static str,
        /// What it takes; negative: at least that many.
        arity: i8,
        /// What was given.
        given: usize,
    },
    /// The number of keys is not written as one; the text is what stands in its place.
    #[error("numkeys is not a number: {}", Quoted(.0))]
    NotANumber(String),
    /// The number of keys is negative, or zero for a command that needs a key.
    #[error("numkeys is {0}, but at least one key is needed")]
    TooFewKeys(i64),
    /// The number of keys is greater than what follows it.
    #[error("numkeys is {numkeys}, but {}", FollowMessage { numkeys: *numkeys, follow: *follow })]
    TooManyKeys {
        /// The number of keys.
        numkeys: i64,
        /// How many arguments follow it.
        follow: usize,
    },
}

/// How a command's keys are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyFinder {
    /// By its key specifications.
    Specs,
    /// As SORT: the options may come in any order, and the last STORE counts.
    Sort,
    /// As MIGRATE: one key, or several after KEYS when that one is empty.
    Migrate,
}

impl CommandSpec {
    /// The key specifications; for SORT and MIGRATE they do not tell all keys.
    #[must_use]
    pub fn key_specs(&self) -> &'static [KeySpec] {
        self.key_specs.of(&table::KEY_SPECS)
    }

    /// Whether the command has one key, its first argument.
    #[must_use]
    pub fn has_one_key(&self) -> bool {
        let only_first = |spec: &KeySpec| {
            matches!(spec.begin_search, BeginSearch::Index(1))
                && matches!(spec.find_keys, FindKeys::Range { last_key: 0, limit: 0, .. })
                && !spec.not_key
        };
        self.finder == KeyFinder::Specs && matches!(self.key_specs(), [spec] if only_first(spec))
    }

    /// Whether the command can have keys.
    #[must_use]
    pub fn has_keys(&self) -> bool {
        self.key_specs().iter().any(|spec| !spec.not_key)
    }

    /// Appends the positions of the keys among `args`, whose first is the name: what COMMAND
    /// GETKEYS names.
    ///
    /// # Errors
    ///
    /// When the number of arguments or of keys is wrong; then nothing has been appended.
    pub fn key_positions<A: AsRef<[u8]>>(&self, args: &[A], into: &mut Vec<usize>) -> Result<(), KeyError> {
        self.positions(args, false, into)
    }

    /// Appends the positions of the arguments that decide the slot: the keys, and what is no key
    /// but has a slot all the same, such as the channels of SSUBSCRIBE and SPUBLISH.
    ///
    /// # Errors
    ///
    /// As [`key_positions`](Self::key_positions).
    pub fn routing_positions<A: AsRef<[u8]>>(
        &self,
        args: &[A],
        into: &mut Vec<usize>,
    ) -> Result<(), KeyError> {
        self.positions(args, true, into)
    }

    /// As [`routing_positions`](Self::routing_positions) for arguments of which something is wrong:
    /// appends the positions of what the server would most likely take for the keys. So a
    /// command that a newer server takes, or one that does not look at slots, goes where its
    /// keys are, and every other there to be refused.
    pub fn likely_positions<A: AsRef<[u8]>>(&self, args: &[A], into: &mut Vec<usize>) {
        match self.finder {
            KeyFinder::Specs => {
                self.key_specs().iter().for_each(|spec| spec.likely_positions(args, into));
            }
            KeyFinder::Sort => sort_positions(args, into),
            KeyFinder::Migrate => migrate_positions(args, into),
        }
    }

    fn positions<A: AsRef<[u8]>>(
        &self,
        args: &[A],
        with_not_keys: bool,
        into: &mut Vec<usize>,
    ) -> Result<(), KeyError> {
        self.check_arity(args)?;
        match self.finder {
            KeyFinder::Specs => {
                let before = into.len();
                let keys_optional = self.flags.contains(Flags::NO_MANDATORY_KEYS);
                for spec in self.key_specs().iter().filter(|spec| with_not_keys || !spec.not_key) {
                    if let Err(error) = spec.positions(args, keys_optional, into) {
                        into.truncate(before);
                        return Err(error);
                    }
                }
            }
            KeyFinder::Sort => sort_positions(args, into),
            KeyFinder::Migrate => migrate_positions(args, into),
        }
        Ok(())
    }
}

impl KeySpec {
    /// Appends what it finds, or, when it finds nothing, the first argument that could be a key.
    pub(super) fn likely_positions<A: AsRef<[u8]>>(&self, args: &[A], into: &mut Vec<usize>) {
        let before = into.len();
        let found = self.positions(args, false, into);
        let first = match (self.begin_search, self.find_keys) {
            _ if into.len() > before => None,
            (BeginSearch::Index(index), FindKeys::Range { .. }) => Some(usize::from(index)),
            (BeginSearch::Index(index), FindKeys::KeyNum { first_key, .. }) if found.is_err() => {
                Some(usize::from(index) + usize::from(first_key))
            }
            _ => None,
        };
        into.extend(first.filter(|first| *first < args.len()));
    }

    /// Appends what this specification finds. A missing keyword, or a range without a single
    /// argument, finds nothing: the server's own message about the command says more than this
    /// client could.
    fn positions<A: AsRef<[u8]>>(
        &self,
        args: &[A],
        keys_optional: bool,
        into: &mut Vec<usize>,
    ) -> Result<(), KeyError> {
        let Some(first) = self.begin_search.first(args) else {
            return Ok(());
        };
        let count = args.len();
        match self.find_keys {
            FindKeys::Range { last_key, key_step, limit } => {
                // The first position behind the range, so that an empty one needs no negative
                // number.
                let back = usize::from(last_key.unsigned_abs());
                let end = if last_key >= 0 {
                    first + back + 1
                } else if limit < 2 {
                    (count + 1).saturating_sub(back)
                } else {
                    (first + count.saturating_sub(first) / usize::from(limit) + 1).saturating_sub(back)
                };
                if end <= count {
                    into.extend((first..end).step_by(step(key_step)));
                }
            }
            FindKeys::KeyNum { key_num_index, first_key, key_step } => {
                let text = args.get(first + usize::from(key_num_index)).map_or(&b""[..], AsRef::as_ref);
                let numkeys = integer(text).ok_or_else(|| KeyError::NotANumber(quotable(text)))?;
                if numkeys == 0 && keys_optional {
                    return Ok(());
                }
                if numkeys < 1 {
                    return Err(KeyError::TooFewKeys(numkeys));
                }
                let first = first + usize::from(first_key);
                let follow = count.saturating_sub(first);
                let places = follow.div_ceil(step(key_step));
                match usize::try_from(numkeys) {
                    Ok(numkeys) if numkeys <= places => {
                        into.extend((first..count).step_by(step(key_step)).take(numkeys));
                    }
                    _ => return Err(KeyError::TooManyKeys { numkeys, follow }),
                }
            }
        }
        Ok(())
    }
}

impl BeginSearch {
    fn first<A: AsRef<[u8]>>(self, args: &[A]) -> Option<usize> {
        match self {
            Self::Index(index) => Some(usize::from(index)),
            Self::Keyword { keyword, start_from } => {
                let is_keyword =
                    |position: &usize| args.get(*position).is_some_and(|arg| is_word(arg, keyword));
                // The last argument cannot be the keyword, for a key follows it; nor can the name.
                let last = args.len().checked_sub(2)?;
                let distance = usize::from(start_from.unsigned_abs());
                let found = if start_from > 0 {
                    (distance..=last).find(is_keyword)
                } else {
                    let start = args.len().checked_sub(distance)?.min(last);
                    (2..=start).rev().find(is_keyword)
                };
                found.map(|position| position + 1)
            }
        }
    }
}

/// SORT key [options]: the options with arguments are stepped over, and the last STORE's is a key.
fn sort_positions<A: AsRef<[u8]>>(args: &[A], into: &mut Vec<usize>) {
    into.push(1);
    let mut store = None;
    let mut position = 2;
    while let Some(option) = args.get(position) {
        if is_word(option, "LIMIT") {
            position += 2;
        } else if is_word(option, "GET") || is_word(option, "BY") {
            position += 1;
        } else if is_word(option, "STORE") && position + 1 < args.len() {
            store = Some(position + 1);
        }
        position += 1;
    }
    into.extend(store);
}

/// MIGRATE host port key|"" db timeout [options]: the key, or when it is empty those after KEYS.
/// With both there are none, for the server refuses that. Passwords after AUTH and AUTH2 are not
/// mistaken for KEYS.
fn migrate_positions<A: AsRef<[u8]>>(args: &[A], into: &mut Vec<usize>) {
    let mut position = 6;
    while let Some(option) = args.get(position) {
        if is_word(option, "KEYS") {
            if args.get(3).is_some_and(|key| key.as_ref().is_empty()) {
                into.extend(position + 1..args.len());
            }
            return;
        }
        position += if is_word(option, "AUTH") {
            2
        } else if is_word(option, "AUTH2") {
            3
        } else {
            1
        };
    }
    into.push(3);
}

fn is_word<A: AsRef<[u8]>>(arg: &A, word: &str) -> bool {
    arg.as_ref().eq_ignore_ascii_case(word.as_bytes())
}

fn step(key_step: u8) -> usize {
    usize::from(key_step).max(1)
}

/// A number as the servers read it: no sign but a minus, no leading zero, no space.
pub(super) fn integer(text: &[u8]) -> Option<i64> {
    let (digits, negative) = match text.strip_prefix(b"-") {
        Some(digits) => (digits, true),
        None => (text, false),
    };
    match digits {
        [b'0'] if !negative => return Some(0),
        [b'1'..=b'9', ..] => {}
        _ => return None,
    }
    core::str::from_utf8(text).ok()?.parse().ok()
}

/// The beginning of a text, short enough for a one-line message.
fn quotable(text: &[u8]) -> String {
    const QUOTED_BYTES_MAX: usize = 32;
    String::from_utf8_lossy(text.get(..QUOTED_BYTES_MAX).unwrap_or(text)).into_owned()
}

/// An arity as a sentence that counts what a user counts: the arguments without the names.
struct ArityMessage<'a> {
    name: &'a str,
    arity: i8,
    given: usize,
}

impl fmt::Display for ArityMessage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.name.split(' ').count();
        let takes = usize::from(self.arity.unsigned_abs()).saturating_sub(names);
        let given = self.given.saturating_sub(names);
        let bound = if self.arity < 0 { "at least" } else { "exactly" };
        let plural = if takes == 1 { "" } else { "s" };
        let were = if given == 1 { "was" } else { "were" };
        write!(f, "{} takes {bound} {takes} argument{plural}, but {given} {were} given", self.name)
    }
}

/// How many arguments follow a number of keys; with values between the keys that may be enough for
/// one argument a key, and yet too few.
struct FollowMessage {
    numkeys: i64,
    follow: usize,
}

impl fmt::Display for FollowMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.follow {
            0 => f.write_str("no argument follows"),
            1 => f.write_str("only 1 argument follows"),
            follow if i64::try_from(follow).is_ok_and(|follow| follow >= self.numkeys) => {
                write!(f, "the {follow} arguments that follow are too few")
            }
            follow => write!(f, "only {follow} arguments follow"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::find;
    use alloc::string::ToString;

    /// The keys of a command line; `''` is an empty argument.
    fn keys(line: &str) -> Result<Vec<&str>, String> {
        let args: Vec<&str> = line.split(' ').map(|arg| if arg == "''" { "" } else { arg }).collect();
        let mut positions = Vec::new();
        let spec = find(&args).ok_or("unknown")?;
        spec.key_positions(&args, &mut positions).map_err(|error| error.to_string())?;
        Ok(positions.into_iter().map(|position| args[position]).collect())
    }

    #[test]
    fn keys_are_where_the_server_finds_them() {
        for (line, expected) in [
            ("GET k", &["k"][..]),
            ("PING", &[]),
            ("MSET a 1 b 2", &["a", "b"]),
            ("RENAME a b", &["a", "b"]),
            ("BLPOP a b 0", &["a", "b"]),
            ("OBJECT ENCODING k", &["k"]),
            ("XGROUP CREATE k g $", &["k"]),
            ("MEMORY USAGE k SAMPLES 5", &["k"]),
            ("EVAL script 2 a b c", &["a", "b"]),
            ("EVAL script 0 c", &[]),
            ("FCALL f 1 a", &["a"]),
            ("LMPOP 2 a b LEFT", &["a", "b"]),
            ("BLMPOP 0 2 a b LEFT", &["a", "b"]),
            ("ZUNIONSTORE d 2 a b WEIGHTS 1 2", &["d", "a", "b"]),
            ("SINTERCARD 1 a LIMIT 3", &["a"]),
            ("MSETEX 2 a 1 b 2 EX 5", &["a", "b"]),
            ("XREAD COUNT 2 streams a b 0 0", &["a", "b"]),
            ("XREAD COUNT 2 a b", &[]),
            ("XREADGROUP GROUP streams c STREAMS a >", &["a"]),
            ("GEORADIUS k 1 2 3 km STORE d", &["k", "d"]),
            ("GEORADIUS k 1 2 3 km STORE", &["k"]),
            ("SORT k BY store LIMIT 0 5 GET store ALPHA STORE d", &["k", "d"]),
            ("SORT k STORE a STORE b", &["k", "b"]),
            ("SORT k STORE", &["k"]),
            ("SORT_RO k BY w*", &["k"]),
            ("MIGRATE h 1 k 0 5", &["k"]),
            ("MIGRATE h 1 '' 0 5 AUTH keys KEYS a b", &["a", "b"]),
            ("MIGRATE h 1 k 0 5 COPY KEYS a b", &[]),
            ("SPUBLISH c m", &[]),
        ] {
            assert_eq!(keys(line).as_deref(), Ok(expected), "{line}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_in_one_line() {
        for (line, message) in [
            ("EVAL s 5 a b", "numkeys is 5, but only 2 arguments follow"),
            ("EVAL s 9223372036854775807 a", "numkeys is 9223372036854775807, but only 1 argument follows"),
            ("MSETEX 2 a 1", "numkeys is 2, but the 2 arguments that follow are too few"),
            ("ZUNION 0 a", "numkeys is 0, but at least one key is needed"),
            ("EVAL s -1 a", "numkeys is -1, but at least one key is needed"),
            ("ZUNIONSTORE d x a", "numkeys is not a number: \"x\""),
            ("EVAL s 01 a", "numkeys is not a number: \"01\""),
            ("EVAL s 9223372036854775808 a", "numkeys is not a number: \"9223372036854775808\""),
            ("GET", "GET takes exactly 1 argument, but 0 were given"),
        ] {
            assert_eq!(keys(line).unwrap_err(), message, "{line}");
        }
    }

    #[test]
    fn an_error_leaves_the_positions_as_they_were() {
        let args = ["ZUNIONSTORE", "d", "9", "a"];
        let mut positions = alloc::vec![7];
        assert!(find(&args).unwrap().key_positions(&args, &mut positions).is_err());
        assert_eq!(positions, [7]);
    }

    #[test]
    fn shard_channels_decide_the_slot() {
        for (args, expected) in [
            (&["SSUBSCRIBE", "a", "b"][..], &[1, 2][..]),
            (&["SPUBLISH", "a", "m"], &[1]),
            (&["SUNSUBSCRIBE"], &[]),
            (&["GET", "k"], &[1]),
        ] {
            let mut positions = Vec::new();
            find(args).unwrap().routing_positions(args, &mut positions).unwrap();
            assert_eq!(positions, expected, "{args:?}");
        }
    }

    #[test]
    fn a_keyword_is_also_searched_from_the_end() {
        let begin = BeginSearch::Keyword { keyword: "KEYS", start_from: -2 };
        assert_eq!(begin.first(&["M", "keys", "a", "KEYS", "b", "c"]), Some(4));
        assert_eq!(begin.first(&["M", "a", "b", "KEYS"]), None);
        assert_eq!(begin.first(&["M"]), None);
        assert_eq!(begin.first::<&str>(&[]), None);
    }
}
