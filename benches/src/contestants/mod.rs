//! The contestants, and what they work on: each is made when a row needs it first.

mod component;
mod decode;
mod host;
mod redis_native;
mod redis_wasm;
mod scans;
mod socket;
mod typed;
mod wasm;
mod wire;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use keyslot_bench_peer::decode::Replies;
use keyslot_bench_peer::work::{Data, Work};
use keyslot_core::slot::Slot;
use keyslot_testcluster::TestCluster;
use tokio::runtime::Runtime;

use self::component::Component;
use self::wasm::Plain;
use crate::rows::{Task, Way};

const PRIMARIES: usize = 3;

/// How many keys there are: enough that nearly half of the slots have one.
const KEYS: usize = 10_000;

/// How many there are to be scanned.
const CROWD: usize = 1_000_000;

const VALUE: &[u8; 16] = b"sixteen bytes of";

/// Somebody who can do tasks.
pub(crate) trait Contestant {
    /// Makes so many calls, and says how long they took.
    fn run(&mut self, task: Task, calls: usize) -> anyhow::Result<Duration>;
}

/// The components.
pub(crate) struct Components {
    /// Keyslot's file.
    pub(crate) keyslot: PathBuf,
    /// The file of redis-rs and the decoders.
    pub(crate) peer: PathBuf,
    /// Whether `perf` is told the names of their functions.
    pub(crate) perf_map: bool,
}

/// All contestants so far.
pub(crate) struct Cast {
    components: Components,
    contestants: Vec<(Way, Box<dyn Contestant>)>,
    stage: Option<Stage>,
    /// A cluster with many keys, for scans.
    crowd: Option<TestCluster>,
    /// That of the asynchronous clients, as `#[tokio::main]` makes it.
    runtime: Arc<Runtime>,
    replies: Replies,
}

/// The cluster, with its values.
pub(crate) struct Stage {
    cluster: TestCluster,
    data: Data,
    /// The keys that the first node has.
    keys_of_first: Vec<Vec<u8>>,
    /// Name and version of the servers.
    pub(crate) server: String,
}

impl Cast {
    pub(crate) fn new(components: Components) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        Ok(Self {
            components,
            contestants: Vec::new(),
            stage: None,
            crowd: None,
            runtime: Arc::new(runtime),
            replies: Replies::mixed(),
        })
    }

    /// The cluster, if a row has needed it.
    pub(crate) fn stage(&self) -> Option<&Stage> {
        self.stage.as_ref()
    }

    /// This contestant.
    pub(crate) fn contestant(&mut self, way: Way) -> anyhow::Result<&mut dyn Contestant> {
        let place = match self.contestants.iter().position(|(other, _)| *other == way) {
            Some(place) => place,
            None => {
                let contestant = self.make(way).with_context(|| format!("{} cannot start", way.name()))?;
                self.contestants.push((way, contestant));
                self.contestants.len() - 1
            }
        };
        Ok(self.contestants[place].1.as_mut())
    }

    fn make(&mut self, way: Way) -> anyhow::Result<Box<dyn Contestant>> {
        if let Some(contestant) = self.decoder(way)? {
            return Ok(contestant);
        }
        if let Some(contestant) = self.scanner(way)? {
            return Ok(contestant);
        }
        let stage = match &mut self.stage {
            Some(stage) => stage,
            none => none.insert(Stage::start()?),
        };
        let (urls, data) = (stage.cluster.urls(), stage.data.clone());
        let runtime = Arc::clone(&self.runtime);
        Ok(match way {
            Way::Typed => Box::new(typed::Typed(Component::connect(
                self.plain(&self.components.keyslot)?,
                &urls,
                data,
            )?)),
            Way::Wire => {
                Box::new(wire::Wire(Component::connect(self.plain(&self.components.keyslot)?, &urls, data)?))
            }
            Way::Host => Box::new(host::Host::connect(runtime, urls, data)?),
            Way::RedisSync => Box::new(redis_native::Sync::connect(&urls, data)?),
            Way::RedisSyncPipeline => Box::new(redis_native::SyncPipeline::connect(&urls, data)?),
            Way::RedisAsync => Box::new(redis_native::Async::connect(runtime, &urls, data)?),
            Way::RedisWasm => {
                Box::new(redis_wasm::RedisWasm::connect(self.plain(&self.components.peer)?, &urls, &data)?)
            }
            Way::Socket => {
                let data = Data::new(stage.keys_of_first.clone(), VALUE.to_vec());
                Box::new(socket::Socket::connect(&stage.cluster.nodes()[0].address(), data)?)
            }
            Way::Decoder
            | Way::RedisParser
            | Way::RedisProtocol
            | Way::DecoderWasm
            | Way::RedisParserWasm => {
                bail!("a decoder has no cluster")
            }
            Way::Scan | Way::ScanParallel | Way::RedisScan => bail!("scans have a cluster of their own"),
        })
    }

    /// Those that scan.
    fn scanner(&mut self, way: Way) -> anyhow::Result<Option<Box<dyn Contestant>>> {
        if !matches!(way, Way::Scan | Way::ScanParallel | Way::RedisScan) {
            return Ok(None);
        }
        let cluster = match &mut self.crowd {
            Some(cluster) => cluster,
            none => none.insert(crowd()?),
        };
        let runtime = Arc::clone(&self.runtime);
        Ok(Some(match way {
            Way::Scan => Box::new(scans::Host::connect(runtime, cluster.urls(), 1)?),
            Way::ScanParallel => Box::new(scans::Host::connect(runtime, cluster.urls(), PRIMARIES as u32)?),
            _ => Box::new(scans::Redis::connect(runtime, cluster)?),
        }))
    }

    /// A host with the component of this file.
    fn plain(&self, file: &Path) -> anyhow::Result<Plain> {
        Plain::load(file, self.components.perf_map)
    }

    /// Those that decode, which needs no cluster.
    fn decoder(&self, way: Way) -> anyhow::Result<Option<Box<dyn Contestant>>> {
        use keyslot_bench_peer::decode::{keyslot, redis_rs};

        let replies = self.replies.clone();
        let in_wasm = |decoder| {
            redis_wasm::DecoderWasm::start(self.plain(&self.components.peer)?, decoder, replies.clone())
        };
        Ok(Some(match way {
            Way::Decoder => Box::new(decode::Native::new(keyslot, replies)),
            Way::RedisParser => Box::new(decode::Native::new(redis_rs, replies)),
            Way::RedisProtocol => Box::new(decode::Native::new(decode::redis_protocol, replies)),
            Way::DecoderWasm => Box::new(in_wasm(redis_wasm::Decoder::Keyslot)?),
            Way::RedisParserWasm => Box::new(in_wasm(redis_wasm::Decoder::RedisRs)?),
            _ => return Ok(None),
        }))
    }
}

impl Stage {
    fn start() -> anyhow::Result<Self> {
        let cluster = TestCluster::start(PRIMARIES, 0).context("cannot start a cluster")?;
        let keys: Vec<Vec<u8>> = (0..KEYS).map(|key| format!("key:{key:07}").into_bytes()).collect();
        let mut keys_of_first = Vec::new();
        for node in 0..PRIMARIES {
            let slots: HashSet<u16> = cluster.slots_of(node)?.into_iter().collect();
            let is_here = |key: &&Vec<u8>| slots.contains(&Slot::of_key(key).number());
            let keys: Vec<Vec<u8>> = keys.iter().filter(is_here).cloned().collect();
            let commands: Vec<Vec<&[u8]>> =
                keys.iter().map(|key| vec![&b"SET"[..], key.as_slice(), &VALUE[..]]).collect();
            cluster.connection(node)?.all_ok(&commands)?;
            if node == 0 {
                keys_of_first = keys;
            }
        }
        let server = server(&cluster)?;
        Ok(Self { cluster, data: Data::new(keys, VALUE.to_vec()), keys_of_first, server })
    }
}

/// A cluster with a million keys.
fn crowd() -> anyhow::Result<TestCluster> {
    let cluster = TestCluster::start(PRIMARIES, 0).context("cannot start a cluster")?;
    for node in 0..PRIMARIES {
        let slots: HashSet<u16> = cluster.slots_of(node)?.into_iter().collect();
        let mut connection = cluster.connection(node)?;
        let keys = (0..CROWD).map(|key| format!("key:{key:07}").into_bytes());
        let keys: Vec<_> = keys.filter(|key| slots.contains(&Slot::of_key(key).number())).collect();
        for keys in keys.chunks(KEYS) {
            let commands: Vec<Vec<&[u8]>> =
                keys.iter().map(|key| vec![&b"SET"[..], key.as_slice(), &VALUE[..]]).collect();
            connection.all_ok(&commands)?;
        }
    }
    Ok(cluster)
}

/// Name and version of the servers.
fn server(cluster: &TestCluster) -> anyhow::Result<String> {
    let info = cluster.connection(0)?.string(&["INFO", "server"])?;
    let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    Ok(match (field("valkey_version"), field("redis_version")) {
        (Some(version), _) => format!("Valkey {}", version.trim()),
        (None, version) => format!("Redis {}", version.unwrap_or("of an unknown version").trim()),
    })
}

/// The work of a task for those that do only such.
fn work(task: Task) -> anyhow::Result<Work> {
    match task {
        Task::Commands(work) => Ok(work),
        Task::Callers(_) | Task::Decode | Task::Scan(_) => {
            bail!("it can only send commands, from one caller")
        }
    }
}
