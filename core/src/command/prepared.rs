//! A command that is ready to be sent: checked, routed and encoded, with all that its words tell.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::vec::Vec;

use bytes::{Bytes, BytesMut};

use super::blocking::Blocks;
use super::merge::Merge;
use super::route::{Route, route};
use super::script::ScriptUse;
use super::{CommandSpec, Finder, Flags, RequestPolicy, ResponsePolicy, split};
use crate::error::Error;
use crate::resp::{decode_command, encode_command, encoded_length};
use crate::slot::Slot;

/// One command as the caller gave it, checked, routed and encoded.
#[derive(Clone, Debug)]
pub struct Command {
    /// The bytes to send.
    pub(crate) frame: Bytes,
    pub(crate) route: Route,
    /// Whether nothing is known of the command, so that its route is a guess.
    pub(crate) keys_are_guessed: bool,
    /// Whether sending it twice does no harm.
    pub(crate) read_only: bool,
    /// Whether a replica may serve it.
    pub(crate) is_read: bool,
    /// How long the server may wait before it answers, if it may.
    pub(crate) blocks: Option<Blocks>,
    /// Whether servers serve it while a script runs, as what ends the script must be.
    pub(crate) while_busy: bool,
    /// What it does to a connection that is not shared.
    pub(crate) effect: Effect,
    /// Whether it runs a script or a function that may write: its errors may be the script's own
    /// words.
    pub(crate) is_writing_script: bool,
    /// Whether a cluster's nodes have to answer it together.
    pub(crate) spread: Spread,
    /// How their replies become one.
    pub(crate) merge: Merge,
    /// What it has to do with scripts that are known.
    pub(crate) script: ScriptUse,
    /// Of a transaction, how many commands are between MULTI and EXEC.
    pub(crate) queued: Option<u32>,
}

/// Which nodes of a cluster answer a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spread {
    /// One.
    None,
    /// Each that has some of the keys, for these.
    Keys,
    /// Every shard's primary.
    Shards,
    /// Every node, replicas too.
    Nodes,
}

/// Where the servers leave it to the client which nodes answer and how.
const BY_HAND: &[(&str, Spread, Merge)] = &[
    // A user may be at some nodes only. Afterwards it is at none.
    ("ACL DELUSER", Spread::Nodes, Merge::By(ResponsePolicy::AggMax)),
    // Subscribers are at whichever node they have connected to.
    ("PUBSUB CHANNELS", Spread::Nodes, Merge::Union),
    ("PUBSUB NUMPAT", Spread::Nodes, Merge::By(ResponsePolicy::AggSum)),
    ("PUBSUB NUMSUB", Spread::Nodes, Merge::By(ResponsePolicy::AggSum)),
    ("PUBSUB SHARDCHANNELS", Spread::Nodes, Merge::Union),
    ("PUBSUB SHARDNUMSUB", Spread::Nodes, Merge::By(ResponsePolicy::AggSum)),
    // A shard may be empty.
    ("RANDOMKEY", Spread::Shards, Merge::Pick),
];

/// What a command does to a lent connection, beyond its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    None,
    /// WATCH: to be undone before somebody else has the connection.
    Watches,
    /// UNWATCH.
    Unwatches,
    /// MULTI: what follows is queued.
    Opens,
    /// EXEC, DISCARD: ends MULTI and WATCH.
    Ends,
    /// Changes the connection in a way that is not undone: it is closed when it comes back.
    Spoils,
    /// No connection of the client's takes it: replies would not go with commands any more.
    Breaks,
}

/// What commands do to a lent connection, unless they do nothing or break it.
const EFFECTS: &[(&str, Effect)] = &[
    // It would hold for the next command, whose ever that is.
    ("ASKING", Effect::Spoils),
    ("AUTH", Effect::Spoils),
    ("CLIENT CACHING", Effect::Spoils),
    ("CLIENT IMPORT-SOURCE", Effect::Spoils),
    ("CLIENT NO-EVICT", Effect::Spoils),
    ("CLIENT NO-TOUCH", Effect::Spoils),
    ("CLIENT SETINFO", Effect::Spoils),
    ("CLIENT SETNAME", Effect::Spoils),
    ("CLIENT TRACKING", Effect::Spoils),
    ("DISCARD", Effect::Ends),
    ("EXEC", Effect::Ends),
    ("MULTI", Effect::Opens),
    ("READONLY", Effect::Spoils),
    ("READWRITE", Effect::Spoils),
    ("SELECT", Effect::Spoils),
    ("UNWATCH", Effect::Unwatches),
    ("WATCH", Effect::Watches),
];

/// Commands that change what a connection is, or take it for themselves. Replies on a connection
/// that many requests share would go wrong after them.
const NOT_SHARED: &[(&str, &str)] = &[
    ("ASKING", "the client sends it where a redirect asks for it"),
    ("AUTH", "give the user and the password to the options"),
    ("CLIENT CACHING", "client-side caching needs a connection of its own"),
    ("CLIENT CAPA", "redirects are dealt with by the client"),
    ("CLIENT REPLY", "every request needs its reply"),
    ("CLIENT TRACKING", "client-side caching needs a connection of its own"),
    ("DISCARD", "transactions are for `transaction` and `watch`"),
    ("EXEC", "transactions are for `transaction` and `watch`"),
    ("HELLO", "the protocol is an option"),
    ("MONITOR", "it needs a connection of its own"),
    ("MULTI", "transactions are for `transaction` and `watch`"),
    ("PSUBSCRIBE", "subscriptions need a connection of their own"),
    ("PSYNC", "it makes the connection a replica's"),
    ("PUNSUBSCRIBE", "subscriptions need a connection of their own"),
    ("QUIT", "close the client"),
    ("READONLY", "the client reads from primaries"),
    ("READWRITE", "the client reads from primaries"),
    ("REPLCONF", "it makes the connection a replica's"),
    ("RESET", "it undoes the connection's log-in"),
    ("SCRIPT DEBUG", "it makes the connection a debugger's"),
    ("SELECT", "the database is an option"),
    ("SSUBSCRIBE", "subscriptions need a connection of their own"),
    ("SUBSCRIBE", "subscriptions need a connection of their own"),
    ("SUNSUBSCRIBE", "subscriptions need a connection of their own"),
    ("SYNC", "it makes the connection a replica's"),
    ("UNSUBSCRIBE", "subscriptions need a connection of their own"),
    ("UNWATCH", "transactions are for `transaction` and `watch`"),
    ("WATCH", "transactions are for `transaction` and `watch`"),
];

impl Command {
    /// Checks, routes and encodes a command: its name, then its arguments.
    ///
    /// A command whose keys cannot be told for certain (too few arguments, a wrong `numkeys`) is
    /// sent where the first of them is: the server says what is wrong better than the client
    /// can. One that no table knows, a module's, is taken to have its key in first place, as
    /// nearly all do; a redirect mends the rest.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for an empty command, and for one that a shared connection cannot
    /// carry.
    pub fn new<A: AsRef<[u8]>>(args: &[A]) -> Result<Self, Error> {
        Self::encoded(&words(args), false)
    }

    /// As [`new`](Self::new), for a connection that is lent
    /// ([`Destination::Lent`](crate::cluster::Destination::Lent)): also WATCH, MULTI, EXEC and
    /// others that a shared connection cannot carry.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for an empty command, and for one after which replies would not
    /// go with commands.
    pub fn for_lent<A: AsRef<[u8]>>(args: &[A]) -> Result<Self, Error> {
        Self::encoded(&words(args), true)
    }

    /// As [`new`](Self::new) or [`for_lent`](Self::for_lent), of a command that is encoded already:
    /// `frame` holds these arguments. Whoever makes many of them keeps the `finder`.
    ///
    /// # Errors
    /// The same.
    pub fn of_request(frame: Bytes, args: &[&[u8]], lent: bool, finder: &mut Finder) -> Result<Self, Error> {
        let mut command = Self::analyse(finder.find(args), args, lent)?;
        command.frame = frame;
        Ok(command)
    }

    fn encoded(args: &[&[u8]], lent: bool) -> Result<Self, Error> {
        let mut command = Self::analyse(super::find(args), args, lent)?;
        let mut frame = BytesMut::with_capacity(encoded_length(args));
        encode_command(args, &mut frame);
        command.frame = frame.freeze();
        Ok(command)
    }

    /// A command with nothing to it: it goes anywhere, and does nothing to its connection.
    pub(crate) fn plain() -> Self {
        Self {
            frame: Bytes::new(),
            route: Route::Any,
            keys_are_guessed: false,
            read_only: false,
            is_read: false,
            blocks: None,
            while_busy: false,
            effect: Effect::None,
            is_writing_script: false,
            spread: Spread::None,
            merge: Merge::Concatenate,
            script: ScriptUse::None,
            queued: None,
        }
    }

    /// What can be told of a command by its arguments: everything but its frame.
    fn analyse(spec: Option<&'static CommandSpec>, args: &[&[u8]], lent: bool) -> Result<Self, Error> {
        if args.first().is_none_or(|name| name.is_empty()) {
            return Err(Error::InvalidArgument("the command is empty: its name is missing".to_owned()));
        }
        let has = |flag| spec.is_some_and(|spec| spec.flags.contains(flag));
        let read_only = spec.is_some_and(CommandSpec::is_read_only);
        let mut command = Self {
            read_only,
            is_read: has(Flags::READONLY),
            keys_are_guessed: spec.is_none(),
            ..Self::plain()
        };
        // Most commands work on one key: what follows is decided for them.
        let one_key = spec.filter(|spec| spec.has_one_key() && (has(Flags::READONLY) || has(Flags::WRITE)));
        if let (Some(_), Some(key)) = (one_key, args.get(1)) {
            command.route = Route::Slot(Slot::of_key(key));
            return Ok(command);
        }
        let full_name = spec.map_or("", |spec| spec.name);
        command.effect = effect(full_name, lent)?;
        command.script = match full_name {
            "EVALSHA" | "EVALSHA_RO" => ScriptUse::Runs,
            "SCRIPT FLUSH" => ScriptUse::Flushes,
            _ => ScriptUse::None,
        };
        if has(Flags::BLOCKING) {
            command.blocks = Blocks::of(full_name, args);
        }
        // What it says or changes of its own connection is about the one that all share.
        let is_about_connection = command.effect != Effect::None || full_name.starts_with("CLIENT ");
        command.while_busy = has(Flags::ALLOW_BUSY) && !is_about_connection;
        command.is_writing_script =
            !read_only && (full_name.starts_with("EVAL") || full_name.starts_with("FCALL"));
        command.route = route(spec, args);
        (command.spread, command.merge) = spread(spec, args, &command.route);
        Ok(command)
    }

    /// How many bytes are to be sent.
    #[must_use]
    pub fn length(&self) -> usize {
        self.frame.len()
    }

    /// The command's name and arguments.
    pub(crate) fn args(&self) -> Vec<&[u8]> {
        decode_command(&self.frame)
    }

    /// What is submitted to [`Destination::Scan`](crate::cluster::Destination::Scan): nothing is
    /// sent for it.
    #[must_use]
    pub fn next_batch() -> Self {
        Self { read_only: true, ..Self::plain() }
    }

    /// A command that is a part of this one.
    pub(crate) fn part(&self, frame: Bytes, route: Route) -> Self {
        Self { frame, route, spread: Spread::None, ..self.clone() }
    }
}

/// The arguments as what all that looks at them takes, so that there is one copy of it.
fn words<A: AsRef<[u8]>>(args: &[A]) -> Vec<&[u8]> {
    args.iter().map(AsRef::as_ref).collect()
}

/// What a command with this name does to its connection; an error when that cannot be.
fn effect(full_name: &str, lent: bool) -> Result<Effect, Error> {
    let refused = NOT_SHARED.binary_search_by(|(name, _)| (*name).cmp(full_name)).ok();
    let refused = refused.and_then(|row| NOT_SHARED.get(row));
    let known = EFFECTS.iter().find(|(name, _)| *name == full_name).map(|(_, effect)| *effect);
    let effect = known.unwrap_or(if refused.is_some() { Effect::Breaks } else { Effect::None });
    match refused.filter(|_| !lent || effect == Effect::Breaks) {
        Some((name, reason)) => {
            Err(Error::InvalidArgument(format!("{name} cannot be sent as a command: {reason}")))
        }
        None => Ok(effect),
    }
}

/// Which nodes answer a command, and how their replies become one: by the servers' policies, unless
/// it is left to us. What they call special and is not among [`BY_HAND`] has no merged answer
/// (INFO, LATENCY …): one node gives it.
fn spread(spec: Option<&CommandSpec>, args: &[&[u8]], route: &Route) -> (Spread, Merge) {
    if matches!(route, Route::CrossSlot(_)) && split::can_split(spec, args) {
        // The table does not know JSON.MSET, whose parts say OK. Of the others it says so.
        let policy = spec.map_or_else(|| split::policy_of_module(args), |spec| spec.response_policy);
        return (Spread::Keys, policy.map_or(Merge::Keys, Merge::By));
    }
    let Some(spec) = spec.filter(|_| *route == Route::Any) else {
        return (Spread::None, Merge::Concatenate);
    };
    if let Some((_, spread, merge)) = BY_HAND.iter().find(|(name, ..)| *name == spec.name) {
        return (*spread, *merge);
    }
    let spread = match (spec.request_policy, spec.response_policy) {
        (_, Some(ResponsePolicy::Special)) => Spread::None,
        (Some(RequestPolicy::AllShards), _) => Spread::Shards,
        (Some(RequestPolicy::AllNodes), _) => Spread::Nodes,
        _ => Spread::None,
    };
    (spread, spec.response_policy.map_or(Merge::Concatenate, Merge::By))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{all, find};

    #[test]
    fn the_table_of_refused_commands_is_sorted() {
        assert!(NOT_SHARED.is_sorted());
        for (name, _) in NOT_SHARED {
            let words: Vec<_> = name.split(' ').collect();
            assert!(matches!(Command::new(&words), Err(Error::InvalidArgument(_))), "{name}");
        }
    }

    #[test]
    fn no_command_on_one_key_does_anything_to_its_connection() {
        for name in EFFECTS.iter().map(|(name, _)| name).chain(NOT_SHARED.iter().map(|(name, _)| name)) {
            let words: Vec<_> = name.split(' ').collect();
            let spec = find(&words).unwrap();
            let is_data = spec.flags.contains(Flags::READONLY) || spec.flags.contains(Flags::WRITE);
            assert!(!(is_data && spec.has_one_key()), "{name}");
        }
        for spec in all().filter(|spec| spec.has_one_key()) {
            assert_eq!((spec.request_policy, spec.response_policy), (None, None), "{}", spec.name);
        }
    }

    #[test]
    fn what_is_about_a_running_script_is_told_from_what_is_about_a_connection() {
        let around = |spec: &&CommandSpec| {
            let words: Vec<_> = spec.name.split(' ').collect();
            Command::new(&words).is_ok_and(|command| command.while_busy)
        };
        let names: Vec<_> = all().filter(around).map(|spec| spec.name).collect();
        assert_eq!(names, ["SHUTDOWN", "FUNCTION KILL", "FUNCTION STATS", "SCRIPT KILL"]);
    }

    #[test]
    fn a_lent_connection_takes_what_can_be_undone_or_thrown_away() {
        let effect = |line: &str| {
            let words: Vec<_> = line.split(' ').collect();
            Command::for_lent(&words).map(|command| command.effect)
        };
        assert_eq!(effect("GET key"), Ok(Effect::None));
        assert_eq!(effect("WATCH key"), Ok(Effect::Watches));
        assert_eq!(effect("multi"), Ok(Effect::Opens));
        assert_eq!(effect("SELECT 1"), Ok(Effect::Spoils));
        assert_eq!(effect("CLIENT NO-EVICT ON"), Ok(Effect::Spoils));
        for broken in ["MONITOR", "SUBSCRIBE channel", "CLIENT REPLY OFF", "HELLO 2", "RESET", "QUIT"] {
            assert!(matches!(effect(broken), Err(Error::InvalidArgument(_))), "{broken}");
        }
    }

    #[test]
    fn commands_are_routed_by_their_keys() {
        let route = |line: &str| {
            let words: Vec<_> = line.split(' ').collect();
            Command::new(&words).unwrap().route
        };
        assert_eq!(route("get foo"), Route::Slot(Slot::of_key(b"foo")));
        assert_eq!(route("MGET {a}1 {a}2"), Route::Slot(Slot::of_key(b"a")));
        assert!(matches!(route("MGET a b"), Route::CrossSlot(_)));
        assert!(matches!(route("JSON.MGET a b $"), Route::CrossSlot(_)));
        assert_eq!(route("JSON.MGET {a}1 {a}2 $"), Route::Slot(Slot::of_key(b"a")));
        assert_eq!(route("PING"), Route::Any);
        assert_eq!(route("SPUBLISH foo message"), Route::Slot(Slot::of_key(b"foo")));
        assert_eq!(route("SOME.MODULE foo"), Route::Slot(Slot::of_key(b"foo")));
    }
}
