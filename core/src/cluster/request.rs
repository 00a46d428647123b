//! A request: one command, and how far it has come.

use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use bytes::{Bytes, BytesMut};

use super::blocking::Blocks;
use super::gather::Gather;
use super::route::route;
use super::scripts::ScriptUse;
use super::transaction::QueueingBox;
use crate::address::NodeAddr;
use crate::command::merge::Merge;
use crate::command::{self, CommandSpec, Finder, Flags, RequestPolicy, ResponsePolicy, split};
use crate::error::{Error, ServerError};
use crate::resp::{decode_command, encode_command, encoded_length};
use crate::slot::Slot;
use crate::time::Instant;

/// One command as the caller gave it, checked, routed and encoded.
#[derive(Clone, Debug)]
pub struct Command {
    /// The bytes to send.
    pub(super) frame: Bytes,
    pub(super) route: Route,
    /// Whether nothing is known of the command, so that its route is a guess.
    pub(super) keys_are_guessed: bool,
    /// Whether sending it twice does no harm.
    pub(super) read_only: bool,
    /// Whether a replica may serve it.
    pub(super) is_read: bool,
    /// How long the server may wait before it answers, if it may.
    pub(super) blocks: Option<Blocks>,
    /// Whether servers serve it while a script runs, as what ends the script must be.
    pub(super) while_busy: bool,
    /// What it does to a connection that is not shared.
    pub(super) effect: Effect,
    /// Whether it runs a script or a function that may write: its errors may be the script's own words.
    pub(super) is_writing_script: bool,
    /// Whether a cluster's nodes have to answer it together.
    pub(super) spread: Spread,
    /// How their replies become one.
    pub(super) merge: Merge,
    /// What it has to do with scripts that are known.
    pub(super) script: ScriptUse,
    /// Of a transaction, how many commands are between MULTI and EXEC.
    pub(super) queued: Option<u32>,
}

/// Which nodes of a cluster answer a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spread {
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

/// Where a command belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// To the primary of this slot.
    Slot(Slot),
    /// To any primary.
    Any,
    /// To a node that the caller has to name, where there are several: it is about what another command has left there.
    OneNode,
    /// Nowhere in a cluster, but a server alone takes it: two of its keys and their slots.
    CrossSlot(Box<str>),
}

impl Route {
    /// The slot that it belongs to.
    pub(super) fn slot(&self) -> Option<Slot> {
        match self {
            Self::Slot(slot) => Some(*slot),
            Self::Any | Self::OneNode | Self::CrossSlot(_) => None,
        }
    }
}

/// What a command does to a lent connection, beyond its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
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

/// Commands that change what a connection is, or take it for themselves. Replies on a connection that
/// many requests share would go wrong after them.
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
    /// A command whose keys cannot be told for certain (too few arguments, a wrong `numkeys`) is sent where the first of them is: the
    /// server says what is wrong better than the client can. One that no table knows, a module's,
    /// is taken to have its key in first place, as nearly all do; a redirect mends the rest.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for an empty command, and for one that a shared connection cannot carry.
    pub fn new<A: AsRef<[u8]>>(args: &[A]) -> Result<Self, Error> {
        Self::encoded(&words(args), false)
    }

    /// As [`new`](Self::new), for a connection that is lent ([`Destination::Lent`](super::Destination::Lent)): also
    /// WATCH, MULTI, EXEC and others that a shared connection cannot carry.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for an empty command, and for one after which replies would not go with commands.
    pub fn for_lent<A: AsRef<[u8]>>(args: &[A]) -> Result<Self, Error> {
        Self::encoded(&words(args), true)
    }

    /// As [`new`](Self::new) or [`for_lent`](Self::for_lent), of a command that is encoded already: `frame` holds these
    /// arguments. Whoever makes many of them keeps the `finder`.
    ///
    /// # Errors
    /// The same.
    pub fn of_request(frame: Bytes, args: &[&[u8]], lent: bool, finder: &mut Finder) -> Result<Self, Error> {
        let mut command = Self::told(finder.find(args), args, lent)?;
        command.frame = frame;
        Ok(command)
    }

    fn encoded(args: &[&[u8]], lent: bool) -> Result<Self, Error> {
        let mut command = Self::told(command::find(args), args, lent)?;
        let mut frame = BytesMut::with_capacity(encoded_length(args));
        encode_command(args, &mut frame);
        command.frame = frame.freeze();
        Ok(command)
    }

    /// A command with nothing to it: it goes anywhere, and does nothing to its connection.
    pub(super) fn plain() -> Self {
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
    fn told(spec: Option<&'static CommandSpec>, args: &[&[u8]], lent: bool) -> Result<Self, Error> {
        if args.first().is_none_or(|name| name.is_empty()) {
            return Err(Error::InvalidArgument("the command is empty: its name is missing".to_owned()));
        }
        let has = |flag| spec.is_some_and(|spec| spec.flags.contains(flag));
        let read_only = spec.is_some_and(command::CommandSpec::is_read_only);
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
    pub(super) fn args(&self) -> Vec<&[u8]> {
        decode_command(&self.frame)
    }

    /// A command that is a part of this one.
    pub(super) fn part(&self, frame: Bytes, route: Route) -> Self {
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

/// Which nodes answer a command, and how their replies become one: by the servers' policies, unless it is left to
/// us. What they call special and is not among [`BY_HAND`] has no merged answer (INFO, LATENCY …): one node gives it.
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

/// A key for people: printable ASCII as it is, other bytes as `\xNN`, cut after 40 bytes.
pub(super) fn quoted(key: &[u8]) -> String {
    const SHOWN: usize = 40;
    let more = if key.len() > SHOWN { "…" } else { "" };
    format!("\"{}{more}\"", key.get(..SHOWN).unwrap_or(key).escape_ascii())
}

/// A request under way.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) command: Command,
    /// Where a redirect or the caller sends it, instead of where its slot belongs.
    pub(super) target: Option<Target>,
    /// Whether it was last sent to a replica, although the primary could serve it.
    pub(super) at_replica: bool,
    /// Whether the primary has to serve it, since a replica could not.
    pub(super) primary_only: bool,
    /// Redirects followed so far.
    pub(super) redirects: u32,
    /// Times it was sent again for another reason.
    pub(super) retries: u32,
    /// The last server error that it waits to get over.
    pub(super) last_error: Option<Box<ServerError>>,
    /// Whether it was sent again because a node did not answer, rather than because a connection had ended.
    pub(super) stalled: bool,
    /// Whether a copy of it that got no answer may have been executed.
    pub(super) may_have_run: bool,
    pub(super) place: Place,
    /// The connection that it has been lent for itself, since it blocks.
    pub(super) own_lease: Option<super::LeaseId>,
    /// Of a transaction: what was answered before EXEC.
    pub(super) queueing: Option<QueueingBox>,
    /// Its place among all requests, for those of one slot.
    pub(super) serial: u64,
    /// How many bytes it is counted with among what waits.
    pub(super) held_bytes: Option<u64>,
    /// For which slot it is counted as under way.
    pub(super) counted: Option<Slot>,
    /// When it was last put on a connection.
    pub(super) sent_at: Instant,
    /// When its time runs out.
    pub(super) deadline: Instant,
    /// What it is a part of.
    pub(super) parent: Option<Parent>,
    /// Its parts, while they are under way.
    pub(super) gather: Option<Box<Gather>>,
}

/// What a request is a part of.
#[derive(Clone, Copy, Debug)]
pub(super) enum Parent {
    /// Another request: which part.
    Whole { id: super::RequestId, part: u32 },
    /// A scan's pass with this number.
    Pass { scan: super::ScanId, number: u32 },
}

impl Request {
    pub(super) fn new(
        command: Command,
        target: Option<Target>,
        serial: u64,
        now: Instant,
        deadline: Instant,
    ) -> Self {
        Self {
            command,
            target,
            at_replica: false,
            primary_only: false,
            redirects: 0,
            retries: 0,
            last_error: None,
            stalled: false,
            may_have_run: false,
            place: Place::Nowhere,
            own_lease: None,
            queueing: None,
            serial,
            held_bytes: None,
            counted: None,
            sent_at: now,
            deadline,
            parent: None,
            gather: None,
        }
    }
}

impl Request {
    /// The lent connection that it is for.
    pub(super) fn lease(&self) -> Option<super::LeaseId> {
        match self.target {
            Some(Target::Lent(lease)) => Some(lease),
            _ => None,
        }
    }

    pub(super) fn is_on_connection(&self) -> bool {
        matches!(self.place, Place::OnConnection(_))
    }
}

/// Where a request goes that does not follow its slot.
#[derive(Clone, Debug)]
pub(super) enum Target {
    /// Where MOVED points.
    Moved(NodeAddr),
    /// Where ASK points: ASKING goes first.
    Ask(NodeAddr),
    /// To the node that the caller names and to no other.
    Node(NodeAddr),
    /// Over the connection that the caller has been lent.
    Lent(super::LeaseId),
    /// To nobody: it waits for this scan's next batch.
    Scan(super::ScanId),
}

impl Target {
    /// Whether the caller chose it: then there is no other way.
    pub(super) fn is_fixed(&self) -> bool {
        matches!(self, Self::Node(_) | Self::Lent(_) | Self::Scan(_))
    }
}

/// Where a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// On no list: it is being dispatched.
    Nowhere,
    /// In a node's queue, until that is connected.
    AtNode(super::NodeKey),
    /// On a connection.
    OnConnection(super::ConnId),
    /// In the queue of those whose slot has no node.
    Unrouted,
    /// Waiting for its retry.
    Delayed,
    /// Waiting for earlier requests of its slot.
    InOrder(Slot),
    /// Waiting for the connection that its caller is to be lent.
    AtLease(super::LeaseId),
    /// Waiting for a scan's batch.
    AtScan(super::ScanId),
    /// Waiting for its parts.
    Gathering,
}

#[cfg(test)]
mod tests {
    use super::*;

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
            let spec = command::find(&words).unwrap();
            let is_data = spec.flags.contains(Flags::READONLY) || spec.flags.contains(Flags::WRITE);
            assert!(!(is_data && spec.has_one_key()), "{name}");
        }
        for spec in command::all().filter(|spec| spec.has_one_key()) {
            assert_eq!((spec.request_policy, spec.response_policy), (None, None), "{}", spec.name);
        }
    }

    #[test]
    fn what_is_about_a_running_script_is_told_from_what_is_about_a_connection() {
        let around = |spec: &&CommandSpec| {
            let words: Vec<_> = spec.name.split(' ').collect();
            Command::new(&words).is_ok_and(|command| command.while_busy)
        };
        let names: Vec<_> = command::all().filter(around).map(|spec| spec.name).collect();
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
