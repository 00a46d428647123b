//! Reports of health, and what the commands of others take meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use keyslot::{Client, Error, NodeReport, Role};
use keyslot_testcluster::TestCluster;
use keyslot_tests::PROTOCOLS;
use keyslot_tests::control::Control;
use tokio::task::JoinHandle;

/// What a command may take beside what the slowest took elsewhere.
const SLOW: Duration = Duration::from_millis(250);

/// The nodes that something has happened to.
pub(crate) struct Hurt {
    pub(crate) killed: usize,
    pub(crate) stopped: usize,
}

impl Hurt {
    /// Checks the reports: these nodes have not answered, and all others have.
    pub(crate) fn check(
        &self,
        reports: &[NodeReport],
        cluster: &TestCluster,
        elsewhere: &Elsewhere,
    ) -> Result<()> {
        let Self { killed, stopped } = *self;
        for report in reports {
            let node = cluster.addresses().iter().position(|address| *address == report.address);
            let is_right = match &report.answer {
                Ok(took) => node != Some(killed) && node != Some(stopped) && *took < elsewhere.slow(),
                Err(Error::Connect(_)) if node == Some(killed) => true,
                // The PING got no answer, or, the second time, no connection.
                Err(Error::Timeout(_) | Error::Connect(_)) if node == Some(stopped) => true,
                Err(_) => false,
            };
            ensure!(is_right, "killed {killed}, stopped {stopped}: {report:?}");
        }
        Ok(())
    }
}

/// Checks that every node answers.
pub(crate) async fn all_well(client: &Client, elsewhere: &Elsewhere) -> Result<()> {
    for report in client.health().await? {
        ensure!(matches!(report.answer, Ok(took) if took < elsewhere.slow()), "{report:?}");
    }
    Ok(())
}

/// All nodes, as the topology has them.
pub(crate) async fn nodes(client: &Client) -> Result<Vec<(String, Role)>> {
    let shards = client.topology().await?.into_iter();
    Ok(shards.flat_map(|shard| shard.nodes).map(|node| (node.address, node.role)).collect())
}

/// A client and a server to which nothing happens, and what its slowest command took so far.
pub(crate) struct Elsewhere {
    slowest_us: Arc<AtomicU64>,
    task: JoinHandle<()>,
    _control: Control,
}

impl Elsewhere {
    pub(crate) async fn start() -> Result<Self> {
        let control = Control::start(PROTOCOLS[1], |options| options).await?;
        let slowest_us = Arc::new(AtomicU64::new(0));
        let (client, of_task) = (control.client.clone(), Arc::clone(&slowest_us));
        let task = tokio::spawn(async move {
            let mut asked_at = Instant::now();
            while client.execute(["GET", "key"]).await.is_ok() {
                of_task.fetch_max(asked_at.elapsed().as_micros() as u64, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(1)).await;
                asked_at = Instant::now();
            }
        });
        Ok(Self { slowest_us, task, _control: control })
    }

    /// What a command that nothing holds up may take.
    pub(crate) fn slow(&self) -> Duration {
        SLOW + Duration::from_micros(self.slowest_us.load(Ordering::Relaxed))
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Asks for a key until it is told to stop. Returns what the slowest command took, and how many
/// there were.
pub(crate) async fn keep_asking(
    client: Client,
    key: String,
    stop: Arc<AtomicBool>,
) -> Result<(Duration, usize)> {
    let (mut slowest, mut commands) = (Duration::ZERO, 0);
    while !stop.load(Ordering::Relaxed) {
        let started = Instant::now();
        client.execute(["GET", &key]).await?;
        slowest = slowest.max(started.elapsed());
        commands += 1;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok((slowest, commands))
}
