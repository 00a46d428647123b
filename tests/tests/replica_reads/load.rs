//! Tasks that read, and what they see.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use keyslot::Client;
use keyslot_tests::load::Shard;
use keyslot_tests::{count, wait_until};
use tokio::task::JoinHandle;

/// A replica that is silent for so long gets no reads; those that it has go to the primary.
pub(crate) const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(500);
/// Between two reads of a task.
const PAUSE: Duration = Duration::from_millis(2);
pub(crate) const TASKS_PER_SHARD: usize = 2;

pub(crate) fn key(tag: &str) -> String {
    format!("{{{tag}}}:load")
}

/// Writes what the load reads: each tag's key holds the tag.
pub(crate) async fn write(client: &Client, shards: &[Shard]) -> Result<()> {
    for tag in shards.iter().flat_map(|shard| &shard.tags) {
        client.execute(["SET", &key(tag), tag]).await?;
    }
    Ok(())
}

/// Tasks that read.
pub(crate) struct Load {
    client: Client,
    tasks: Vec<JoinHandle<Seen>>,
    stop: Arc<AtomicBool>,
}

/// What they saw.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    reads: u64,
    pub(crate) failures: Vec<String>,
    /// The slowest read of each shard.
    pub(crate) slowest: [Duration; 3],
    /// Reads that took half the attempt time-out or longer.
    pub(crate) held_up: usize,
}

impl Load {
    pub(crate) fn start(client: Client, shards: &[Shard]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = Vec::new();
        for (number, shard) in shards.iter().enumerate() {
            for _ in 0..TASKS_PER_SHARD {
                let (client, tags) = (client.clone(), shard.tags.clone());
                tasks.push(tokio::spawn(read(client, number, tags, Arc::clone(&stop))));
            }
        }
        Self { client, tasks, stop }
    }

    /// Waits until a node serves reads of the load.
    pub(crate) async fn reaches(&self, address: &str, when: &str) -> Result<()> {
        let answered = async || -> Result<u64> {
            let nodes = self.client.statistics().await?;
            let node = nodes.iter().find(|node| node.address == address);
            Ok(node.map_or(0, |node| count(&node.counters, "commands")))
        };
        let before = answered().await?;
        let what = format!("the replica serves reads {when}");
        wait_until(&what, Duration::from_secs(30), async || Ok(answered().await? >= before + 20)).await?;
        Ok(())
    }

    pub(crate) async fn stop(self) -> Result<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Seen::default();
        for task in self.tasks {
            let seen = task.await?;
            all.reads += seen.reads;
            all.failures.extend(seen.failures);
            all.held_up += seen.held_up;
            for (all, slowest) in all.slowest.iter_mut().zip(seen.slowest) {
                *all = slowest.max(*all);
            }
        }
        Ok(all)
    }
}

async fn read(client: Client, shard: usize, tags: Vec<String>, stop: Arc<AtomicBool>) -> Seen {
    let mut seen = Seen::default();
    for tag in tags.iter().cycle() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let started = Instant::now();
        match client.execute(["GET", &key(tag)]).await {
            Ok(reply) if reply.as_str() == Some(tag) => {}
            Ok(reply) => seen.failures.push(format!("GET {} was answered with {reply:?}", key(tag))),
            Err(error) => seen.failures.push(format!("GET {}: {error}", key(tag))),
        }
        let took = started.elapsed();
        seen.reads += 1;
        seen.slowest[shard] = took.max(seen.slowest[shard]);
        seen.held_up += usize::from(took >= ATTEMPT_TIMEOUT / 2);
        tokio::time::sleep(PAUSE).await;
    }
    seen
}
