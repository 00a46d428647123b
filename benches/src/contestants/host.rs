//! The crate `keyslot`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use keyslot::{Client, Options, Reply};
use keyslot_bench_peer::work::{Data, Shape, Verb, Work};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use super::Contestant;
use super::component::command;
use crate::rows::Task;

pub(super) struct Host {
    runtime: Arc<Runtime>,
    client: Client,
    data: Arc<Data>,
}

impl Host {
    pub(super) fn connect(runtime: Arc<Runtime>, urls: Vec<String>, data: Data) -> anyhow::Result<Self> {
        let client = runtime.block_on(Box::pin(Client::connect(Options::new(urls))))?;
        Ok(Self { runtime, client, data: Arc::new(data) })
    }
}

impl Contestant for Host {
    fn run(&mut self, task: Task, calls: usize) -> anyhow::Result<Duration> {
        let (client, data) = (self.client.clone(), Arc::clone(&self.data));
        // On a worker of the runtime, where a program's own tasks are.
        let running = self.runtime.spawn(async move {
            match task {
                Task::Commands(work) => commands(&client, &data, work, calls).await,
                Task::Callers(callers) => many_callers(&client, &data, callers, calls).await,
                Task::Scan(_) => anyhow::bail!("it has no scan to call"),
                Task::Decode => anyhow::bail!("it has no decoder to call"),
            }
        });
        self.runtime.block_on(running)?
    }
}

async fn commands(client: &Client, data: &Data, work: Work, calls: usize) -> anyhow::Result<Duration> {
    let value = data.value();
    let started = Instant::now();
    for call in 0..calls {
        match work.shape {
            Shape::One => one(client, work.verb, data.key_of(call), value).await?,
            Shape::Pipeline => {
                let keys = data.keys_of(call, work.keys);
                let commands =
                    keys.iter().map(|key| command(work, std::slice::from_ref(key), value)).collect();
                let replies = client.pipeline(commands).await;
                ensure!(replies.len() == keys.len(), "a reply is missing");
                for reply in replies {
                    check(work.verb, &reply?, value)?;
                }
            }
            Shape::Many => {
                let keys = data.keys_of(call, work.keys);
                let reply = client.execute(command(work, keys, value)).await?;
                if work.verb == Verb::Set {
                    check(work.verb, &reply, value)?;
                } else {
                    let children = reply.children();
                    let right = children.filter(|reply| reply.as_bytes() == Some(value)).count();
                    ensure!(right == keys.len(), "a value is missing");
                }
            }
        }
    }
    Ok(started.elapsed())
}

/// So many calls from each of the callers.
async fn many_callers(
    client: &Client,
    data: &Arc<Data>,
    callers: usize,
    calls: usize,
) -> anyhow::Result<Duration> {
    let started = Instant::now();
    let mut tasks = JoinSet::new();
    for caller in 0..callers {
        let (client, data) = (client.clone(), Arc::clone(data));
        tasks.spawn(async move {
            for call in 0..calls {
                one(&client, Verb::Get, data.key_of(caller + call * callers), data.value()).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(started.elapsed())
}

async fn one(client: &Client, verb: Verb, key: &[u8], value: &[u8]) -> anyhow::Result<()> {
    let reply = match verb {
        Verb::Set => client.execute([b"SET", key, value]).await?,
        Verb::Get => client.execute([b"GET", key]).await?,
    };
    check(verb, &reply, value)
}

fn check(verb: Verb, reply: &Reply, value: &[u8]) -> anyhow::Result<()> {
    let expected = if verb == Verb::Set { b"OK" } else { value };
    ensure!(reply.as_bytes() == Some(expected), "unexpected: {reply:?}");
    Ok(())
}
