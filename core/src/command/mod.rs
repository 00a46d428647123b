//! The command table: what the servers say about their commands, and where a command's keys are.
//!
//! A cluster client has to know, before it sends anything, which arguments of a command are keys,
//! whether the command only reads, and whether it goes to one shard or to all of them. The servers
//! know it and tell it: `cargo xtask commands` turns their answers to COMMAND into the table behind
//! [`find`]. A command that [`find`] does not know is a module's, or newer than the table.
//!
//! See <https://redis.io/docs/latest/develop/reference/key-specs/> for key specifications and
//! <https://redis.io/docs/latest/develop/reference/command-tips/> for the policies.

pub(crate) mod blocking;
mod flags;
mod keys;
pub mod merge;
mod policy;
pub(crate) mod prepared;
pub(crate) mod route;
pub(crate) mod script;
pub mod split;
#[rustfmt::skip]
mod table;
mod transaction;
pub(crate) mod unlisted;

pub use flags::Flags;
pub use keys::{BeginSearch, FindKeys, KeyError, KeySpec};
pub use policy::{RequestPolicy, ResponsePolicy};
pub use prepared::Command;
pub use script::Scripts;

use keys::KeyFinder;
use table::{COMMANDS, FIRST_WITH_LETTER, SUBCOMMANDS, WORD_LENGTH_MAX};

/// What is known about one command, or one subcommand.
#[derive(Debug)]
pub struct CommandSpec {
    /// The name in upper case; a subcommand's follows its container's: `CONFIG GET`.
    pub name: &'static str,
    /// How many arguments the command takes, its name (for a subcommand, both names) included.
    /// Negative: at least that many.
    pub arity: i8,
    /// What kind of command it is.
    pub flags: Flags,
    /// Which shards or nodes the command goes to; `None` is the usual case, one shard by its keys
    /// or, without keys, any.
    pub request_policy: Option<RequestPolicy>,
    /// How several replies become one; `None` leaves them in the keys' order, or in any.
    pub response_policy: Option<ResponsePolicy>,
    finder: KeyFinder,
    key_specs: Range8,
    subcommands: Range8,
}

/// The specification of the command that these arguments, the name first, call.
///
/// The names' case does not matter. A container's unknown subcommand, or no subcommand at all,
/// gives the container's own specification. Called once for each command that is sent, so it
/// allocates nothing and compares at most a handful of names.
#[must_use]
pub fn find<A: AsRef<[u8]>>(args: &[A]) -> Option<&'static CommandSpec> {
    let mut word = [0; WORD_LENGTH_MAX];
    let name = upper_case(args.first()?.as_ref(), &mut word)?;
    let letter = usize::from(name.first()?.checked_sub(b'A')?);
    let first = usize::from(*FIRST_WITH_LETTER.get(letter)?);
    let end = usize::from(*FIRST_WITH_LETTER.get(letter + 1)?);
    let commands = COMMANDS.get(first..end)?;
    let found = commands.binary_search_by(|spec| spec.name.as_bytes().cmp(name)).ok()?;
    let spec = commands.get(found)?;
    match args.get(1) {
        Some(subcommand) if spec.subcommands.count > 0 => {
            Some(spec.subcommand(subcommand.as_ref()).unwrap_or(spec))
        }
        _ => Some(spec),
    }
}

/// Finds commands, and remembers the last: pipelines mostly have many of one name.
#[derive(Debug, Default)]
pub struct Finder {
    name: [u8; WORD_LENGTH_MAX],
    spec: Option<&'static CommandSpec>,
}

impl Finder {
    /// As [`find`].
    pub fn find<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Option<&'static CommandSpec> {
        let name = args.first()?.as_ref();
        if let Some(spec) = self.spec
            && self.name.get(..name.len()) == Some(name)
            && spec.name.len() == name.len()
        {
            return Some(spec);
        }
        let spec = find(args)?;
        // A container's name does not decide.
        if let Some(copy) = self.name.get_mut(..name.len()).filter(|_| spec.name.len() == name.len()) {
            copy.copy_from_slice(name);
            self.spec = Some(spec).filter(|spec| !spec.is_container());
        }
        Some(spec)
    }
}

/// Every command and subcommand of the table.
pub fn all() -> impl Iterator<Item = &'static CommandSpec> {
    COMMANDS.iter().chain(&SUBCOMMANDS)
}

impl CommandSpec {
    /// Whether running the command twice is harmless: it may be sent again although it may already
    /// have run.
    ///
    /// True for what the servers flag `readonly`, and for those commands without keys that neither
    /// write nor change any state, such as `CLUSTER SHARDS` and `CONFIG GET`. Whether a replica
    /// may answer is another question: ask [`Flags::READONLY`] for that.
    #[must_use]
    pub const fn is_read_only(&self) -> bool {
        self.flags.contains(Flags::REPEATABLE)
    }

    /// Whether the command has subcommands, as CONFIG has.
    #[must_use]
    pub const fn is_container(&self) -> bool {
        self.subcommands.count > 0
    }

    /// Whether it is a container that has subcommands with keys, as OBJECT is: their second
    /// argument. One that the table does not know is taken to be such, too.
    #[must_use]
    pub fn contains_keys(&self) -> bool {
        self.subcommands.of(&SUBCOMMANDS).iter().any(Self::has_keys)
    }

    /// Checks the number of arguments, the name included.
    ///
    /// # Errors
    ///
    /// [`KeyError::Arity`] when there are too few or too many.
    pub fn check_arity<A>(&self, args: &[A]) -> Result<(), KeyError> {
        let bound = usize::from(self.arity.unsigned_abs());
        let fits = if self.arity < 0 { args.len() >= bound } else { args.len() == bound };
        if fits {
            Ok(())
        } else {
            Err(KeyError::Arity { name: self.name, arity: self.arity, given: args.len() })
        }
    }

    fn subcommand(&self, name: &[u8]) -> Option<&'static CommandSpec> {
        let mut word = [0; WORD_LENGTH_MAX];
        let name = upper_case(name, &mut word)?;
        let subcommands = self.subcommands.of(&SUBCOMMANDS);
        let own_name =
            |spec: &CommandSpec| spec.name.as_bytes().get(self.name.len() + 1..).unwrap_or_default();
        let found = subcommands.binary_search_by(|spec| own_name(spec).cmp(name)).ok()?;
        subcommands.get(found)
    }
}

/// A part of one of the generated tables.
#[derive(Clone, Copy, Debug)]
struct Range8 {
    first: u8,
    count: u8,
}

impl Range8 {
    fn of<T>(self, table: &'static [T]) -> &'static [T] {
        let first = usize::from(self.first);
        table.get(first..first + usize::from(self.count)).unwrap_or_default()
    }
}

/// Copies a word into the buffer in upper case; `None` when it is longer than every name.
fn upper_case<'buffer>(word: &[u8], buffer: &'buffer mut [u8; WORD_LENGTH_MAX]) -> Option<&'buffer [u8]> {
    let copy = buffer.get_mut(..word.len())?;
    for (to, from) in copy.iter_mut().zip(word) {
        *to = from.to_ascii_uppercase();
    }
    Some(copy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn found(line: &str) -> Option<&'static str> {
        let args: Vec<&str> = line.split(' ').collect();
        find(&args).map(|spec| spec.name)
    }

    #[test]
    fn names_are_found_whatever_their_case() {
        assert_eq!(found("get k"), Some("GET"));
        assert_eq!(found("GeoRadiusByMember_RO k"), Some("GEORADIUSBYMEMBER_RO"));
        assert_eq!(found("config gEt maxmemory"), Some("CONFIG GET"));
        assert_eq!(found("cluster count-failure-reports x"), Some("CLUSTER COUNT-FAILURE-REPORTS"));
    }

    #[test]
    fn what_was_found_last_changes_nothing() {
        let mut finder = Finder::default();
        let lines = [
            "GET k",
            "GET k",
            "get k",
            "GETT k",
            "GET k",
            "SET k",
            "CONFIG GET x",
            "CONFIG SET x",
            "CONFIG",
            "SE",
            "SET k",
            "SETT",
            "G",
            "GET k",
            "FT.SEARCH x",
            "GET",
        ];
        for line in lines {
            let args: Vec<&str> = line.split(' ').collect();
            assert_eq!(finder.find(&args).map(|spec| spec.name), found(line), "{line}");
        }
    }

    #[test]
    fn what_the_table_does_not_have_is_not_found() {
        assert_eq!(found(""), None);
        assert_eq!(found("FT.SEARCH idx *"), None);
        assert_eq!(found("GETT k"), None);
        assert_eq!(found("\u{e9}"), None);
        assert_eq!(found("[ k"), None);
        assert_eq!(found("THISNAMEISLONGERTHANEVERYCOMMAND"), None);
        assert_eq!(find::<&str>(&[]).map(|spec| spec.name), None);
    }

    #[test]
    fn a_container_stands_in_for_a_subcommand_it_does_not_have() {
        assert_eq!(found("CONFIG"), Some("CONFIG"));
        assert_eq!(found("CONFIG FROBNICATE"), Some("CONFIG"));
        assert_eq!(found("GET FROBNICATE"), Some("GET"));
    }

    #[test]
    fn every_command_is_found_by_its_own_name() {
        for spec in all() {
            assert_eq!(found(spec.name), Some(spec.name));
        }
    }

    #[test]
    fn the_arity_counts_the_name() {
        let get = find(&["GET"]).unwrap();
        assert!(get.check_arity(&["GET", "k"]).is_ok());
        let error = get.check_arity(&["GET"]).unwrap_err();
        assert_eq!(alloc::format!("{error}"), "GET takes exactly 1 argument, but 0 were given");
        let set = find(&["SET"]).unwrap();
        assert!(set.check_arity(&["SET", "k", "v", "NX"]).is_ok());
        let error = set.check_arity(&["SET", "k"]).unwrap_err();
        assert_eq!(alloc::format!("{error}"), "SET takes at least 2 arguments, but 1 was given");
        let create = find(&["XGROUP", "CREATE"]).unwrap();
        let error = create.check_arity(&["XGROUP", "CREATE", "k"]).unwrap_err();
        assert_eq!(alloc::format!("{error}"), "XGROUP CREATE takes at least 3 arguments, but 1 was given");
    }

    #[test]
    fn reading_twice_is_harmless_and_writing_is_not() {
        for name in [
            "GET",
            "MGET",
            "XREAD",
            "SORT_RO",
            "EVAL_RO",
            "FCALL_RO",
            "PING",
            "TIME",
            "DBSIZE",
            "RANDOMKEY",
            "TOUCH",
            "COMMAND",
        ] {
            assert!(find(&[name]).unwrap().is_read_only(), "{name}");
        }
        for [container, name] in
            [["CONFIG", "GET"], ["CLUSTER", "SHARDS"], ["OBJECT", "FREQ"], ["CLIENT", "ID"]]
        {
            assert!(find(&[container, name]).unwrap().is_read_only(), "{container} {name}");
        }
        for name in [
            "SET",
            "GETEX",
            "GETDEL",
            "SORT",
            "GEORADIUS",
            "XREADGROUP",
            "BLPOP",
            "PUBLISH",
            "SPUBLISH",
            "SPOP",
            "EVAL",
            "FCALL",
            "MULTI",
            "WATCH",
            "SELECT",
            "AUTH",
            "WAIT",
            "CONFIG",
            "MONITOR",
            "SUBSCRIBE",
        ] {
            assert!(!find(&[name]).unwrap().is_read_only(), "{name}");
        }
        for [container, name] in [["CONFIG", "SET"], ["SCRIPT", "KILL"], ["CLIENT", "REPLY"], ["ACL", "LOG"]]
        {
            assert!(!find(&[container, name]).unwrap().is_read_only(), "{container} {name}");
        }
        for spec in all() {
            assert!(!(spec.is_read_only() && spec.flags.contains(Flags::WRITE)), "{}", spec.name);
        }
    }

    #[test]
    fn policies_are_the_newest_servers() {
        let policies = |args: &[&str]| find(args).map(|spec| (spec.request_policy, spec.response_policy));
        assert_eq!(policies(&["DEL"]), Some((Some(RequestPolicy::MultiShard), Some(ResponsePolicy::AggSum))));
        assert_eq!(policies(&["MGET"]), Some((Some(RequestPolicy::MultiShard), None)));
        assert_eq!(policies(&["MSETNX"]), Some((None, None)));
        assert_eq!(policies(&["GET"]), Some((None, None)));
        assert_eq!(
            policies(&["SCRIPT", "EXISTS"]),
            Some((Some(RequestPolicy::AllShards), Some(ResponsePolicy::AggLogicalAnd)))
        );
    }
}
