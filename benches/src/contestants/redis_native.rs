//! redis-rs on this machine: its two cluster clients.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail, ensure};
use keyslot_bench_peer::cluster::{Cluster, are_right, client, is_right, many, one};
use keyslot_bench_peer::work::{Data, Shape, Verb, Work};
use redis::Value;
use redis::cluster_async::ClusterConnection;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use super::{Contestant, work};
use crate::rows::Task;

/// The synchronous client.
pub(super) struct Sync(Cluster);

impl Sync {
    pub(super) fn connect(urls: &[String], data: Data) -> anyhow::Result<Self> {
        Cluster::connect(urls, data).map(Self).map_err(|error| anyhow!(error))
    }
}

impl Contestant for Sync {
    fn run(&mut self, task: Task, calls: usize) -> anyhow::Result<Duration> {
        self.0.run(work(task)?, calls).map_err(|error| anyhow!(error))
    }
}

/// The synchronous client, with a pipeline in the place of a command of many keys.
pub(super) struct SyncPipeline(Sync);

impl SyncPipeline {
    pub(super) fn connect(urls: &[String], data: Data) -> anyhow::Result<Self> {
        Sync::connect(urls, data).map(Self)
    }
}

impl Contestant for SyncPipeline {
    fn run(&mut self, task: Task, calls: usize) -> anyhow::Result<Duration> {
        self.0.run(Task::Commands(Work { shape: Shape::Pipeline, ..work(task)? }), calls)
    }
}

/// The asynchronous client, which tasks share by cloning it.
pub(super) struct Async {
    runtime: Arc<Runtime>,
    connection: ClusterConnection,
    data: Arc<Data>,
}

impl Async {
    pub(super) fn connect(runtime: Arc<Runtime>, urls: &[String], data: Data) -> anyhow::Result<Self> {
        let client = client(urls)?;
        let connection = runtime.block_on(Box::pin(client.get_async_connection()))?;
        Ok(Self { runtime, connection, data: Arc::new(data) })
    }
}

impl Contestant for Async {
    fn run(&mut self, task: Task, calls: usize) -> anyhow::Result<Duration> {
        let (connection, data) = (self.connection.clone(), Arc::clone(&self.data));
        // On a worker of the runtime, where a program's own tasks are.
        let running = self.runtime.spawn(async move {
            match task {
                Task::Commands(work) => commands(connection, &data, work, calls).await,
                Task::Callers(callers) => many_callers(&connection, &data, callers, calls).await,
                Task::Scan(_) => anyhow::bail!("it has no scan to call"),
                Task::Decode => bail!("it has no decoder to call"),
            }
        });
        self.runtime.block_on(running)?
    }
}

async fn commands(
    mut connection: ClusterConnection,
    data: &Data,
    work: Work,
    calls: usize,
) -> anyhow::Result<Duration> {
    let value = data.value();
    let started = Instant::now();
    for call in 0..calls {
        match work.shape {
            Shape::One => {
                let command = one(work, data.key_of(call), value);
                let reply: Value = command.query_async(&mut connection).await?;
                ensure!(is_right(work.verb, &reply, value), "unexpected: {reply:?}");
            }
            Shape::Pipeline => bail!("it sends a pipeline to one node only"),
            Shape::Many => {
                let keys = data.keys_of(call, work.keys);
                let reply: Value = many(work, keys, value).query_async(&mut connection).await?;
                ensure!(are_right(work.verb, &reply, keys.len(), value), "unexpected: {reply:?}");
            }
        }
    }
    Ok(started.elapsed())
}

/// So many calls from each of the callers.
async fn many_callers(
    connection: &ClusterConnection,
    data: &Arc<Data>,
    callers: usize,
    calls: usize,
) -> anyhow::Result<Duration> {
    let get = Work { verb: Verb::Get, shape: Shape::One, keys: 1 };
    let started = Instant::now();
    let mut tasks = JoinSet::new();
    for caller in 0..callers {
        let (mut connection, data) = (connection.clone(), Arc::clone(data));
        tasks.spawn(async move {
            for call in 0..calls {
                let command = one(get, data.key_of(caller + call * callers), data.value());
                let reply: Value = command.query_async(&mut connection).await?;
                ensure!(is_right(get.verb, &reply, data.value()), "unexpected: {reply:?}");
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(started.elapsed())
}
