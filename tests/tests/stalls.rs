//! A node that takes no more of what is sent to it holds up nobody but its own callers.
//!
//! Megabytes are on their way to a node when it stops, runs a script, or can be reached no more.
//! They are more than the system's buffers take, so a write of theirs is under way when the
//! time-out comes and the connection is closed. The request has to end in time, and reads of the
//! other nodes have to go on, also while the connection is closed and the next one is dialled. Both
//! in the crate and in a host with nothing but wasmtime's own WASI, whose drop of a stream waits
//! for its write.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use keyslot::{Client, Error, RespVersion};
use keyslot_testcluster::{Connection, TestCluster};
use keyslot_tests::load::{Shard, quantile, shards};
use keyslot_tests::{PROTOCOLS, namespace, options, wait_until};
use tokio::sync::Mutex;

const REQUEST_TIMEOUT: Duration = Duration::from_secs(1);
/// How much later a request may end.
const LATE: Duration = Duration::from_millis(500);
/// How large a value is. It is more than the buffers of both systems take.
const SIZE: usize = 8 << 20;
/// Other sizes that are tried: under each protocol one, to save time.
const SMALLER: usize = 4 << 20;
const LARGER: usize = 16 << 20;
/// How long the other nodes are read, from the first byte on.
const READING: Duration = Duration::from_millis(3_500);
/// Between two reads.
const PAUSE: Duration = Duration::from_millis(2);
const MEDIAN_MAX: Duration = Duration::from_millis(50);
const READ_MAX: Duration = Duration::from_secs(1);
/// One that does not return at all is given up after this.
const STUCK: Duration = Duration::from_secs(20);

/// These measure delays: two at a time would measure each other.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// What happens to the node.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Stopped,
    Script,
    Unreachable,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_node_with_megabytes_on_their_way_holds_up_no_other() -> Result<()> {
    run(Fault::Stopped, Host::Ours).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_script_with_megabytes_on_their_way_holds_up_no_other() -> Result<()> {
    run(Fault::Script, Host::Ours).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_node_with_megabytes_on_their_way_holds_up_no_other() -> Result<()> {
    in_namespace("a_lost_node_with_megabytes_on_their_way_holds_up_no_other", Host::Ours).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_node_holds_up_no_other_in_a_plain_host() -> Result<()> {
    run(Fault::Stopped, Host::Plain).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_script_holds_up_no_other_in_a_plain_host() -> Result<()> {
    run(Fault::Script, Host::Plain).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_node_holds_up_no_other_in_a_plain_host() -> Result<()> {
    in_namespace("a_lost_node_holds_up_no_other_in_a_plain_host", Host::Plain).await
}

#[derive(Clone, Copy, Debug)]
enum Host {
    /// The crate.
    Ours,
    /// wasmtime and wasmtime-wasi, as they come.
    Plain,
}

/// Runs the test again in a network namespace of its own, where packets may be dropped.
async fn in_namespace(test: &str, host: Host) -> Result<()> {
    if std::env::var_os(namespace::INSIDE).is_some() {
        return run(Fault::Unreachable, host).await;
    }
    let _turn = ONE_AT_A_TIME.lock().await;
    namespace::run_again(test)
}

async fn run(fault: Fault, host: Host) -> Result<()> {
    let _turn = ONE_AT_A_TIME.lock().await;
    for protocol in PROTOCOLS {
        let run = async {
            match host {
                Host::Ours => ours(fault, protocol).await,
                Host::Plain => plain::run(fault, protocol).await,
            }
        };
        run.await.with_context(|| format!("{fault:?}, {host:?} host, {protocol:?}"))?;
    }
    Ok(())
}

/// A cluster whose first shard's node is about to fail.
struct Scene {
    cluster: TestCluster,
    shards: Vec<Shard>,
    fault: Fault,
    /// Has sent the script.
    script: Option<Connection>,
}

impl Scene {
    fn start(fault: Fault) -> Result<Self> {
        // The nodes themselves take the first for alive all the time.
        let cluster = TestCluster::builder().primaries(3).node_timeout_ms(120_000).start()?;
        let shards = shards(&cluster)?;
        Ok(Self { cluster, shards, fault, script: None })
    }

    fn node(&self) -> usize {
        self.shards[0].primary
    }

    /// A key of the node that fails.
    fn key(&self) -> String {
        format!("{{{}}}:large", self.shards[0].tags[0])
    }

    /// Keys of the other nodes.
    fn other_keys(&self) -> Vec<String> {
        self.shards[1..].iter().map(|shard| format!("{{{}}}:key", shard.tags[0])).collect()
    }

    /// The sizes of the values that are sent, one after another.
    fn sizes(&self, protocol: RespVersion) -> Vec<usize> {
        match (self.fault, protocol) {
            (Fault::Stopped, RespVersion::Resp2) => vec![SIZE, SMALLER],
            (Fault::Stopped, _) => vec![SIZE, LARGER],
            _ => vec![SIZE],
        }
    }

    fn begin(&mut self) -> Result<()> {
        match self.fault {
            Fault::Stopped => self.cluster.pause(self.node())?,
            Fault::Script => {
                let mut connection = self.cluster.connection(self.node())?;
                connection.send(&["EVAL", "while true do end", "0"])?;
                self.script = Some(connection);
                std::thread::sleep(Duration::from_millis(50));
            }
            Fault::Unreachable => namespace::drop_packets("add", self.cluster.ports()[self.node()])?,
        }
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        match self.fault {
            Fault::Stopped => self.cluster.resume(self.node())?,
            Fault::Script => {
                // It can be ended once it counts as slow (5 s).
                let started = Instant::now();
                loop {
                    let killed = self.cluster.connection(self.node()).ok().is_some_and(|mut connection| {
                        connection.set_timeout(Duration::from_secs(1)).is_ok()
                            && connection.ok(&["SCRIPT", "KILL"]).is_ok()
                    });
                    if killed {
                        break;
                    }
                    ensure!(started.elapsed() < STUCK, "the script cannot be ended");
                }
                self.script = None;
            }
            Fault::Unreachable => namespace::drop_packets("del", self.cluster.ports()[self.node()])?,
        }
        Ok(())
    }
}

/// What was measured.
#[derive(Default)]
struct Measured {
    /// How the write has ended, and after how long.
    write: Option<(String, Duration)>,
    reads: Vec<Duration>,
}

impl Measured {
    fn judge(mut self) -> Result<()> {
        ensure!(!self.reads.is_empty(), "nothing was read");
        let mut at = |place| quantile(&mut self.reads, place).unwrap_or_default();
        let (median, max) = (at(0.5), at(1.0));
        let count = self.reads.len();
        println!("write {:.1?}; {count} reads: median {median:.1?}, longest {max:.1?}", self.write);
        let (outcome, took) = self.write.context("the write has not ended")?;
        ensure!(outcome == "timeout", "the write ended with {outcome}");
        ensure!(took <= REQUEST_TIMEOUT + LATE, "the write ended after {took:?}");
        ensure!(median <= MEDIAN_MAX, "the median of the reads is {median:?}");
        ensure!(max <= READ_MAX, "the longest read took {max:?}");
        Ok(())
    }
}

async fn ours(fault: Fault, protocol: RespVersion) -> Result<()> {
    let mut scene = Scene::start(fault)?;
    let given = options(&scene.cluster.urls(), protocol).request_timeout(REQUEST_TIMEOUT);
    let client = Client::connect(given).await?;
    let keys = scene.other_keys();
    for key in keys.iter().chain([&scene.key()]) {
        client.execute(["SET", key, "here"]).await?;
    }
    for size in scene.sizes(protocol) {
        scene.begin()?;
        let measured = measure(&scene, &client, &keys, size).await?;
        measured.judge().with_context(|| format!("{size} bytes"))?;
        scene.end()?;
        let key = scene.key();
        wait_until("the node is served again", STUCK, async || {
            Ok(client.execute(["STRLEN", &key]).await?.as_integer().is_some())
        })
        .await?;
    }
    Ok(())
}

/// Sends a value of this size to the node that fails, and reads of the others meanwhile.
async fn measure(scene: &Scene, client: &Client, keys: &[String], size: usize) -> Result<Measured> {
    let started = Instant::now();
    let (writer, key) = (client.clone(), scene.key());
    let write = tokio::spawn(async move {
        let words = [b"SET".to_vec(), key.into_bytes(), vec![b'v'; size]];
        let started = Instant::now();
        let outcome = writer.execute(words).await;
        (outcome, started.elapsed())
    });
    let mut measured = Measured::default();
    while started.elapsed() < READING {
        let key = &keys[measured.reads.len() % keys.len()];
        let begun = Instant::now();
        let reply = tokio::time::timeout(STUCK, client.execute(["GET", key])).await;
        measured.reads.push(begun.elapsed());
        let reply = reply.with_context(|| format!("a read has not ended after {STUCK:?}"))??;
        ensure!(reply.as_str() == Some("here"), "GET {key}: {reply:?}");
        tokio::time::sleep(PAUSE).await;
    }
    let (outcome, took) = tokio::time::timeout(STUCK, write).await.context("the write has not ended")??;
    let outcome = match outcome {
        Err(Error::Timeout(_)) => "timeout".to_owned(),
        other => format!("{other:?}"),
    };
    measured.write = Some((outcome, took));
    Ok(measured)
}

/// The component in wasmtime with wasmtime's own WASI.
mod plain {
    use keyslot::RespVersion;
    use wasmtime::component::{Component, Linker, ResourceAny, ResourceTable};
    use wasmtime::{Config, Engine, Store};
    use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

    use self::bindings::Redis;
    use self::bindings::exports::keyslot::redis::redis_cluster;
    use self::bindings::exports::keyslot::redis::types;
    use super::{
        Context, Duration, Fault, Instant, Measured, READING, REQUEST_TIMEOUT, Result, SIZE, STUCK, Scene,
        bail, ensure,
    };

    mod bindings {
        #![allow(missing_docs, reason = "the WIT files have them")]
        wasmtime::component::bindgen!({
            path: "../wit",
            world: "redis",
            exports: { default: async },
            additional_derives: [PartialEq],
        });
    }

    struct State {
        wasi: WasiCtx,
        table: ResourceTable,
    }

    impl WasiView for State {
        fn ctx(&mut self) -> WasiCtxView<'_> {
            WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
        }
    }

    struct Guest {
        store: Store<State>,
        redis: Redis,
        client: ResourceAny,
    }

    impl Guest {
        async fn connect(urls: &[String], protocol: RespVersion) -> Result<Self> {
            let component = match std::env::var_os("KEYSLOT_COMPONENT") {
                Some(file) => std::fs::read(file)?,
                None => keyslot_tests::component::build("keyslot-guest", "keyslot_redis.wasm")?,
            };
            let engine = Engine::new(&Config::new())?;
            let component = Component::new(&engine, component)?;
            let mut linker: Linker<State> = Linker::new(&engine);
            wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
            let wasi =
                WasiCtx::builder().inherit_network().allow_ip_name_lookup(true).allow_tcp(true).build();
            let mut store = Store::new(&engine, State { wasi, table: ResourceTable::new() });
            let redis = Redis::instantiate_async(&mut store, &component, &linker).await?;
            let guest = redis.keyslot_redis_redis_cluster();
            let options = guest.options().call_constructor(&mut store, urls).await?;
            let protocol = match protocol {
                RespVersion::Resp2 => redis_cluster::RespVersion::Resp2,
                RespVersion::Resp3 => redis_cluster::RespVersion::Resp3,
                RespVersion::Auto => redis_cluster::RespVersion::Auto,
            };
            guest.options().call_set_resp_version(&mut store, options, protocol).await?;
            let timeout = u32::try_from(REQUEST_TIMEOUT.as_millis())?;
            guest.options().call_set_request_timeout_ms(&mut store, options, timeout).await?;
            let client = guest.client().call_connect(&mut store, options).await?;
            let client = client.map_err(|error| anyhow::anyhow!("{error:?}"))?;
            options.resource_drop_async(&mut store).await?;
            Ok(Self { store, redis, client })
        }

        async fn submit(&mut self, words: Vec<Vec<u8>>) -> Result<u64> {
            let guest = self.redis.keyslot_redis_redis_cluster();
            Ok(guest.client().call_submit(&mut self.store, self.client, &[words]).await?)
        }

        async fn wait(&mut self) -> Result<Vec<redis_cluster::Completion>> {
            let guest = self.redis.keyslot_redis_redis_cluster();
            Ok(guest.client().call_wait(&mut self.store, self.client, 100).await?)
        }

        /// Runs a command. Others that end meanwhile are given to `take`.
        async fn execute(
            &mut self,
            line: &str,
            take: &mut dyn FnMut(redis_cluster::Completion),
        ) -> Result<Result<types::Reply, types::Error>> {
            let ticket = self.submit(keyslot_tests::words(line)).await?;
            let started = Instant::now();
            while started.elapsed() < STUCK {
                let mut result = None;
                for completion in self.wait().await? {
                    if completion.ticket == ticket {
                        result = Some(completion.result);
                    } else {
                        take(completion);
                    }
                }
                if let Some(result) = result {
                    return Ok(result);
                }
            }
            bail!("{line} has not ended")
        }
    }

    pub(super) async fn run(fault: Fault, protocol: RespVersion) -> Result<()> {
        let mut scene = Scene::start(fault)?;
        let mut guest = Guest::connect(&scene.cluster.urls(), protocol).await?;
        let keys = scene.other_keys();
        for key in keys.iter().chain([&scene.key()]) {
            let reply = guest.execute(&format!("SET {key} here"), &mut |_| {}).await?;
            ensure!(reply.is_ok(), "{reply:?}");
        }
        for size in scene.sizes(protocol) {
            scene.begin()?;
            let measured = tokio::time::timeout(STUCK, measure(&scene, &mut guest, &keys, size)).await;
            let measured =
                measured.with_context(|| format!("the component has not returned after {STUCK:?}"))??;
            measured.judge().with_context(|| format!("{size} bytes"))?;

            // A client that is dropped does not wait for its connections either.
            if matches!(fault, Fault::Unreachable) {
                let started = Instant::now();
                guest.submit(large(&scene.key(), SIZE)).await?;
                let dropped = guest.client.resource_drop_async(&mut guest.store);
                tokio::time::timeout(STUCK, dropped).await.context("the client cannot be dropped")??;
                ensure!(started.elapsed() < Duration::from_secs(1), "it took {:?}", started.elapsed());
                return Ok(());
            }
            scene.end()?;
            let (key, started) = (scene.key(), Instant::now());
            while guest.execute(&format!("STRLEN {key}"), &mut |_| {}).await?.is_err() {
                ensure!(started.elapsed() < STUCK, "the node is not served again");
            }
        }
        Ok(())
    }

    fn large(key: &str, size: usize) -> Vec<Vec<u8>> {
        vec![b"SET".to_vec(), key.as_bytes().to_vec(), vec![b'v'; size]]
    }

    async fn measure(scene: &Scene, guest: &mut Guest, keys: &[String], size: usize) -> Result<Measured> {
        let mut measured = Measured::default();
        let words = large(&scene.key(), size);
        let started = Instant::now();
        let written = guest.submit(words).await?;
        while started.elapsed() < READING {
            let key = &keys[measured.reads.len() % keys.len()];
            let begun = Instant::now();
            let mut ended = Vec::new();
            let reply =
                guest.execute(&format!("GET {key}"), &mut |completion| ended.push(completion)).await?;
            measured.reads.push(begun.elapsed());
            let reply = reply.map_err(|error| anyhow::anyhow!("GET {key}: {error:?}"))?;
            ensure!(reply == [types::ReplyNode::BulkString(b"here".to_vec())], "GET {key}: {reply:?}");
            for completion in ended {
                ensure!(completion.ticket == written, "an unknown ticket has ended");
                let outcome = match completion.result {
                    Err(types::Error::Timeout(_)) => "timeout".to_owned(),
                    other => format!("{other:?}"),
                };
                measured.write = Some((outcome, started.elapsed()));
            }
            tokio::time::sleep(super::PAUSE).await;
        }
        Ok(measured)
    }
}
