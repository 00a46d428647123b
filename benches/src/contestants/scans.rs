//! Scans of all keys of a cluster of their own, which has many.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use keyslot::{Client, Options, ScanOptions};
use keyslot_bench_peer::cluster::client;
use keyslot_testcluster::TestCluster;
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{RoutingInfo, SingleNodeRoutingInfo};
use tokio::runtime::Runtime;

use super::Contestant;
use crate::rows::Task;

/// What all of them ask for at a time.
const COUNT: u32 = 1_000;

/// The crate `keyslot`: so many nodes at the same time.
pub(super) struct Host {
    runtime: Arc<Runtime>,
    client: Client,
    parallel: u32,
}

impl Host {
    pub(super) fn connect(runtime: Arc<Runtime>, urls: Vec<String>, parallel: u32) -> anyhow::Result<Self> {
        let client = runtime.block_on(Box::pin(Client::connect(Options::new(urls))))?;
        Ok(Self { runtime, client, parallel })
    }
}

impl Contestant for Host {
    fn run(&mut self, task: Task, calls: usize) -> anyhow::Result<Duration> {
        let (client, parallel) = (self.client.clone(), self.parallel);
        let running = self.runtime.spawn(async move {
            let started = Instant::now();
            for _ in 0..calls {
                let options = ScanOptions::new().count(COUNT).parallel(parallel);
                let mut scan = client.scan(options).await?;
                let mut seen = 0;
                while let Some(keys) = scan.next().await? {
                    seen += keys.len();
                }
                ensure!(seen == task.units(), "{seen} keys");
            }
            anyhow::Ok(started.elapsed())
        });
        self.runtime.block_on(running)?
    }
}

/// redis-rs's asynchronous cluster client: SCAN of each primary, one after the other.
pub(super) struct Redis {
    runtime: Arc<Runtime>,
    connection: ClusterConnection,
    nodes: Vec<(String, u16)>,
}

impl Redis {
    pub(super) fn connect(runtime: Arc<Runtime>, cluster: &TestCluster) -> anyhow::Result<Self> {
        let client = client(&cluster.urls())?;
        let connection = runtime.block_on(Box::pin(client.get_async_connection()))?;
        let nodes = cluster.addresses().into_iter().map(|address| {
            let (host, port) = address.rsplit_once(':').context("an address")?;
            Ok((host.to_owned(), port.parse()?))
        });
        Ok(Self { runtime, connection, nodes: nodes.collect::<anyhow::Result<_>>()? })
    }
}

impl Contestant for Redis {
    fn run(&mut self, task: Task, calls: usize) -> anyhow::Result<Duration> {
        let (mut connection, nodes) = (self.connection.clone(), self.nodes.clone());
        let running = self.runtime.spawn(async move {
            let started = Instant::now();
            for _ in 0..calls {
                let mut seen = 0;
                for (host, port) in &nodes {
                    seen += scan_node(&mut connection, host, *port).await?;
                }
                ensure!(seen == task.units(), "{seen} keys");
            }
            anyhow::Ok(started.elapsed())
        });
        self.runtime.block_on(running)?
    }
}

async fn scan_node(connection: &mut ClusterConnection, host: &str, port: u16) -> anyhow::Result<usize> {
    let mut cursor = "0".to_owned();
    let mut seen = 0;
    loop {
        let mut command = redis::cmd("SCAN");
        command.arg(&cursor).arg("COUNT").arg(COUNT);
        let node = SingleNodeRoutingInfo::ByAddress { host: host.to_owned(), port };
        let page = connection.route_command(command, RoutingInfo::SingleNode(node)).await?;
        let (next, keys): (String, Vec<Vec<u8>>) = redis::from_redis_value(page)?;
        seen += keys.len();
        if next == "0" {
            return Ok(seen);
        }
        cursor = next;
    }
}
