//! What COMMAND does not say about commands, decided by hand.

/// How the core finds the keys of those commands whose key specifications do not tell them all. The
/// servers flag such a specification `incomplete`, or have `unknown` in it.
pub(super) const KEY_FINDERS: &[(&str, &str)] = &[
    // STORE may stand anywhere among the options, and the last one counts.
    ("SORT", "Sort"),
    // The unknown part is that of BY and GET, whose patterns are no keys to COMMAND GETKEYS; the
    // key itself has a specification.
    ("SORT_RO", "Specs"),
    // The key, or those after KEYS when it is empty; a password may be the word KEYS.
    ("MIGRATE", "Migrate"),
];

/// Commands that may run twice unnoticed although no server flags them `readonly`: they have no
/// key, write nothing and change no state, neither the server's nor the connection's. HELP of every
/// container is added by [`is_repeatable`].
///
/// Not here, for their reasons:
/// - SCRIPT LOAD and FUNCTION commands that load: a second time is harmless, but they do change
///   state.
/// - SLOWLOG RESET, LATENCY RESET, CONFIG RESETSTAT: what came in between is lost.
/// - ACL LOG, whose RESET is an argument.
/// - WAIT and WAITAOF: they answer for the writes of their own connection. Sent again on a new one,
///   they would report the replication of nothing.
/// - ASKING, READONLY, SELECT, HELLO, AUTH, WATCH, MULTI: the connection's state.
const HARMLESS: &[&str] = &[
    "ACL CAT",
    "ACL DRYRUN",
    "ACL GENPASS",
    "ACL GETUSER",
    "ACL LIST",
    "ACL USERS",
    "ACL WHOAMI",
    "CLIENT GETNAME",
    "CLIENT GETREDIR",
    "CLIENT ID",
    "CLIENT INFO",
    "CLIENT LIST",
    "CLIENT TRACKINGINFO",
    "CLUSTER COUNT-FAILURE-REPORTS",
    "CLUSTER COUNTKEYSINSLOT",
    "CLUSTER GETKEYSINSLOT",
    "CLUSTER GETSLOTMIGRATIONS",
    "CLUSTER INFO",
    "CLUSTER KEYSLOT",
    "CLUSTER LINKS",
    "CLUSTER MYID",
    "CLUSTER MYSHARDID",
    "CLUSTER NODES",
    "CLUSTER REPLICAS",
    "CLUSTER SHARDS",
    "CLUSTER SLAVES",
    "CLUSTER SLOT-STATS",
    "CLUSTER SLOTS",
    "COMMAND",
    "COMMAND COUNT",
    "COMMAND DOCS",
    "COMMAND GETKEYS",
    "COMMAND GETKEYSANDFLAGS",
    "COMMAND INFO",
    "COMMAND LIST",
    "COMMANDLOG GET",
    "COMMANDLOG LEN",
    "CONFIG GET",
    "ECHO",
    "FUNCTION DUMP",
    "FUNCTION LIST",
    "FUNCTION STATS",
    "INFO",
    "LASTSAVE",
    "LATENCY DOCTOR",
    "LATENCY GRAPH",
    "LATENCY HISTOGRAM",
    "LATENCY HISTORY",
    "LATENCY LATEST",
    "MEMORY DOCTOR",
    "MEMORY MALLOC-STATS",
    "MEMORY STATS",
    "MODULE LIST",
    "PING",
    "PUBSUB CHANNELS",
    "PUBSUB NUMPAT",
    "PUBSUB NUMSUB",
    "PUBSUB SHARDCHANNELS",
    "PUBSUB SHARDNUMSUB",
    "ROLE",
    "SCRIPT EXISTS",
    "SCRIPT SHOW",
    "SLOWLOG GET",
    "SLOWLOG LEN",
    "TIME",
];

/// Whether running a command twice is harmless.
pub(super) fn is_repeatable(name: &str, flags: &[String]) -> bool {
    flags.iter().any(|flag| flag == "readonly") || name.ends_with(" HELP") || HARMLESS.contains(&name)
}

/// Every name above, for the check that the servers know it.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    KEY_FINDERS.iter().map(|(name, _)| *name).chain(HARMLESS.iter().copied())
}

/// The syntax of the commands of Redis 8's vector sets, about which COMMAND DOCS says nothing.
pub(super) const VECTOR_SET_SYNTAX: &[&str] = &[
    "VADD key [REDUCE dim] <FP32 | VALUES num> vector element [CAS] [NOQUANT | Q8 | BIN] [EF effort] \
     [SETATTR attributes] [M numlinks]",
    "VCARD key",
    "VDIM key",
    "VEMB key element [RAW]",
    "VGETATTR key element",
    "VINFO key",
    "VISMEMBER key element",
    "VLINKS key element [WITHSCORES]",
    "VRANDMEMBER key [count]",
    "VREM key element",
    "VSETATTR key element attributes",
    "VSIM key <ELE | FP32 | VALUES num> <vector | element> [WITHSCORES] [COUNT count] [EPSILON delta] [EF effort] \
     [FILTER expression] [FILTER-EF effort] [TRUTH] [NOTHREAD]",
];
