//! The rows: what is measured, who takes part, and which ratio is to be reached.

use keyslot_bench_peer::work::{Shape, Verb, Work};

/// What one row measures.
#[derive(Debug)]
pub(crate) struct Row {
    /// What `--rows` calls it.
    pub(crate) name: &'static str,
    pub(crate) task: Task,
    /// Ours and those we compare with.
    pub(crate) comparisons: Vec<Comparison>,
    /// Who is measured for orientation, without a ratio.
    pub(crate) besides: Vec<Way>,
}

/// What a call does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    /// Commands from one caller.
    Commands(Work),
    /// One GET from each of so many tasks that share a client.
    Callers(usize),
    /// One MiB of replies, decoded.
    Decode,
    /// So many keys, scanned.
    Scan(usize),
}

/// Two contestants.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Comparison {
    pub(crate) ours: Way,
    pub(crate) peer: Way,
    /// Which ratio is to be reached, where one was set.
    pub(crate) goal: Option<f64>,
}

/// A contestant: a way to do a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// The component's typed interface, called from a plain wasmtime host.
    Typed,
    /// The component's interface `wire`, called from the same host.
    Wire,
    /// The crate `keyslot`.
    Host,
    /// redis-rs's synchronous cluster client.
    RedisSync,
    /// The same, with one pipeline of commands of one key each in the place of a command of many
    /// keys.
    RedisSyncPipeline,
    /// redis-rs's asynchronous cluster client. (It sends a pipeline to one node only.)
    RedisAsync,
    /// redis-rs's synchronous cluster client in a component, in the same plain wasmtime host.
    RedisWasm,
    /// A scan with the crate `keyslot`, of one node after the other.
    Scan,
    /// The same, of all nodes at the same time.
    ScanParallel,
    /// SCAN of one node after the other with redis-rs's asynchronous cluster client.
    RedisScan,
    /// A socket to one node, with requests made in advance.
    Socket,
    /// The core's decoder.
    Decoder,
    /// redis-rs's parser.
    RedisParser,
    /// The crate `redis-protocol`.
    RedisProtocol,
    /// The core's decoder in a component.
    DecoderWasm,
    /// redis-rs's parser in a component.
    RedisParserWasm,
}

impl Way {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Typed => "keyslot component, typed",
            Self::Wire => "keyslot component, wire",
            Self::Host => "keyslot crate",
            Self::RedisSync => "redis-rs cluster",
            Self::RedisSyncPipeline => "redis-rs cluster, pipeline",
            Self::RedisAsync => "redis-rs cluster, async",
            Self::RedisWasm => "redis-rs cluster in wasm",
            Self::Scan => "keyslot crate, one node after the other",
            Self::ScanParallel => "keyslot crate, all nodes at once",
            Self::RedisScan => "redis-rs cluster, async, SCAN of each node",
            Self::Socket => "bare socket, one node",
            Self::Decoder => "keyslot decoder",
            Self::RedisParser => "redis-rs parser",
            Self::RedisProtocol => "redis-protocol",
            Self::DecoderWasm => "keyslot decoder in wasm",
            Self::RedisParserWasm => "redis-rs parser in wasm",
        }
    }
}

impl Task {
    /// How many units a call has.
    pub(crate) fn units(self) -> usize {
        match self {
            Self::Commands(work) => work.keys,
            Self::Callers(callers) => callers,
            Self::Scan(keys) => keys,
            Self::Decode => 1,
        }
    }

    /// What times are given for.
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::Commands(Work { shape: Shape::Many, .. }) | Self::Scan(_) => "key",
            Self::Commands(_) | Self::Callers(_) => "command",
            Self::Decode => "MiB",
        }
    }
}

impl Row {
    /// All contestants, each once.
    pub(crate) fn ways(&self) -> Vec<Way> {
        let compared = self.comparisons.iter().flat_map(|comparison| [comparison.ours, comparison.peer]);
        let mut ways = Vec::new();
        for way in compared.chain(self.besides.iter().copied()) {
            if !ways.contains(&way) {
                ways.push(way);
            }
        }
        ways
    }
}

/// The goal for every row against redis-rs in wasm.
const AGAINST_WASM: f64 = 0.9;

/// All rows, in the order of the table.
pub(crate) fn all() -> Vec<Row> {
    vec![
        one("set-1", Verb::Set),
        one("get-1", Verb::Get),
        pipeline("set-128", Verb::Set, 128),
        pipeline("get-128", Verb::Get, 128),
        pipeline("set-1000", Verb::Set, 1_000),
        pipeline("get-1000", Verb::Get, 1_000),
        many("mset-10000", Verb::Set, 10_000),
        many("mget-10000", Verb::Get, 10_000),
        callers("callers-64", 64),
        callers("callers-256", 256),
        Row {
            name: "scan-1000000",
            task: Task::Scan(1_000_000),
            comparisons: vec![
                compare(Way::ScanParallel, Way::RedisScan, 0.6),
                observe(Way::ScanParallel, Way::Scan),
                observe(Way::Scan, Way::RedisScan),
            ],
            besides: Vec::new(),
        },
        Row {
            name: "decode",
            task: Task::Decode,
            comparisons: vec![
                compare(Way::Decoder, Way::RedisParser, 0.5),
                observe(Way::Decoder, Way::RedisProtocol),
            ],
            besides: Vec::new(),
        },
        Row {
            name: "decode-wasm",
            task: Task::Decode,
            comparisons: vec![compare(Way::DecoderWasm, Way::RedisParserWasm, AGAINST_WASM)],
            besides: Vec::new(),
        },
    ]
}

/// One command at a time.
fn one(name: &'static str, verb: Verb) -> Row {
    Row {
        name,
        task: Task::Commands(Work { verb, shape: Shape::One, keys: 1 }),
        comparisons: vec![
            compare(Way::Typed, Way::RedisSync, 1.15),
            observe(Way::Wire, Way::RedisSync),
            compare(Way::Typed, Way::RedisWasm, AGAINST_WASM),
            observe(Way::Host, Way::RedisAsync),
        ],
        besides: vec![Way::Socket],
    }
}

/// A pipeline of commands of one key each.
fn pipeline(name: &'static str, verb: Verb, keys: usize) -> Row {
    Row {
        name,
        task: Task::Commands(Work { verb, shape: Shape::Pipeline, keys }),
        comparisons: vec![
            compare(Way::Typed, Way::RedisSync, 1.1),
            compare(Way::Wire, Way::RedisSync, 0.8),
            compare(Way::Typed, Way::RedisWasm, AGAINST_WASM),
            compare(Way::Wire, Way::RedisWasm, AGAINST_WASM),
            observe(Way::Host, Way::RedisSync),
        ],
        besides: vec![Way::Socket],
    }
}

/// One command with keys in all slots.
///
/// redis-rs's synchronous client sends one command a slot and waits for each; its asynchronous
/// client has all of them under way at once. Who knows that writes a pipeline by hand, which is why
/// that is measured, too.
fn many(name: &'static str, verb: Verb, keys: usize) -> Row {
    Row {
        name,
        task: Task::Commands(Work { verb, shape: Shape::Many, keys }),
        comparisons: vec![
            compare(Way::Typed, Way::RedisSync, 0.9),
            compare(Way::Typed, Way::RedisAsync, 0.9),
            observe(Way::Typed, Way::RedisSyncPipeline),
            compare(Way::Wire, Way::RedisAsync, 0.9),
            compare(Way::Typed, Way::RedisWasm, AGAINST_WASM),
            observe(Way::Host, Way::RedisAsync),
        ],
        besides: Vec::new(),
    }
}

/// Many tasks that share a client.
fn callers(name: &'static str, callers: usize) -> Row {
    Row {
        name,
        task: Task::Callers(callers),
        comparisons: vec![observe(Way::Host, Way::RedisAsync)],
        besides: Vec::new(),
    }
}

fn compare(ours: Way, peer: Way, goal: f64) -> Comparison {
    Comparison { ours, peer, goal: Some(goal) }
}

fn observe(ours: Way, peer: Way) -> Comparison {
    Comparison { ours, peer, goal: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_rows_apart() {
        let rows = all();
        for (place, row) in rows.iter().enumerate() {
            assert!(rows[..place].iter().all(|other| other.name != row.name), "{}", row.name);
        }
    }

    #[test]
    fn each_contestant_takes_part_once() {
        assert_eq!(
            one("set-1", Verb::Set).ways(),
            [Way::Typed, Way::RedisSync, Way::Wire, Way::RedisWasm, Way::Host, Way::RedisAsync, Way::Socket]
        );
    }
}
