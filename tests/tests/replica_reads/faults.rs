//! What happens to a replica under a load of reads, and what the load may notice of it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use keyslot::{Client, ReplicaReads, RespVersion};
use keyslot_testcluster::TestCluster;
use keyslot_tests::control::Control;
use keyslot_tests::load::{Shard, shards};
use keyslot_tests::{PROTOCOLS, options};
use tokio::sync::Mutex;

use crate::load::{ATTEMPT_TIMEOUT, Load, Seen, TASKS_PER_SHARD, key, write};
use crate::settle;

const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
/// What a read may take beside what reads take elsewhere.
const SLACK: Duration = Duration::from_millis(400);
/// The load runs on for so long when the fault is known.
const AFTER: Duration = Duration::from_secs(1);

/// What happens to a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Killed,
    Stopped,
    CutOff,
}

impl Fault {
    /// Lets it happen, and waits until it shows.
    fn strike(self, cluster: &TestCluster, replica: usize, shard: &Shard) -> Result<()> {
        match self {
            Self::Killed => cluster.kill(replica)?,
            Self::Stopped => cluster.pause(replica)?,
            Self::CutOff => cluster.detach(replica)?,
        }
        match self {
            Self::CutOff => refuses(cluster, replica, shard)?,
            Self::Killed | Self::Stopped => cluster.wait_until_agreed()?,
        }
        Ok(())
    }

    /// Waits until the replica is what it was, too.
    fn undo(self, cluster: &TestCluster, replica: usize) -> Result<()> {
        match self {
            Self::Killed => cluster.restart(replica)?,
            Self::Stopped => cluster.resume(replica)?,
            Self::CutOff => cluster.reattach(replica)?,
        }
        cluster.wait_until_agreed()?;
        Ok(())
    }
}

/// Hurts a shard's only replica under the loads of two clients, one for each protocol, and undoes
/// it.
pub(crate) async fn survive(fault: Fault) -> Result<()> {
    /// These measure delays: two at a time would measure each other.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());
    let _turn = ONE_AT_A_TIME.lock().await;

    // Without its primary a replica says so, also one that has just started and has no data yet.
    let cluster = TestCluster::builder()
        .primaries(3)
        .replicas(1)
        .node_timeout_ms(1_000)
        .arg("--replica-serve-stale-data", "no")
        .start()?;
    let shards = shards(&cluster)?;
    let replica = cluster.replicas_of(shards[0].primary)?[0];
    let address = &cluster.addresses()[replica];
    let mut loads = Vec::new();
    for protocol in PROTOCOLS {
        let given = options(&cluster.urls(), protocol).replica_reads(ReplicaReads::PreferReplica);
        let given = given.request_timeout(REQUEST_TIMEOUT).attempt_timeout(ATTEMPT_TIMEOUT);
        let client = Client::connect(given).await?;
        write(&client, &shards).await?;
        settle(&cluster, &shards)?;
        loads.push((protocol, Load::start(client, &shards)));
    }
    let set =
        |options: keyslot::Options| options.request_timeout(REQUEST_TIMEOUT).attempt_timeout(ATTEMPT_TIMEOUT);
    let control = Control::start(PROTOCOLS[1], set).await?;
    let elsewhere = [Control::shard(), Control::shard(), Control::shard()];
    write(&control.client, &elsewhere).await?;
    let control_load = Load::start(control.client.clone(), &elsewhere);
    for (_, load) in &loads {
        load.reaches(address, "before").await?;
    }

    fault.strike(&cluster, replica, &shards[0])?;
    tokio::time::sleep(AFTER).await;
    fault.undo(&cluster, replica)?;

    let mut seen = Vec::new();
    for (protocol, load) in loads {
        load.reaches(address, "when it is back").await.with_context(|| format!("{protocol:?}"))?;
        seen.push((protocol, load.stop().await?));
    }
    let control = control_load.stop().await?;
    println!("{fault:?}: elsewhere {control:?}");
    ensure!(control.failures.is_empty(), "{:?}", control.failures);
    for (protocol, seen) in seen {
        println!("{fault:?} under {protocol:?}: {seen:?}");
        judge(fault, protocol, &seen, &control)?;
    }
    Ok(())
}

/// Checks what a load saw, by what the same load saw elsewhere.
fn judge(fault: Fault, protocol: RespVersion, seen: &Seen, control: &Seen) -> Result<()> {
    let slack = SLACK + control.slowest.into_iter().max().unwrap_or_default();
    let prompt = match fault {
        Fault::Stopped => ATTEMPT_TIMEOUT + slack,
        Fault::Killed | Fault::CutOff => slack,
    };
    ensure!(seen.failures.is_empty(), "{fault:?} under {protocol:?}: {:?}", seen.failures);
    ensure!(seen.slowest[0] <= prompt, "{fault:?} under {protocol:?}: a read took {:?}", seen.slowest[0]);
    let others = seen.slowest[1].max(seen.slowest[2]);
    ensure!(others <= slack, "{fault:?} under {protocol:?}: a read of another shard took {others:?}");
    // Those that were under way when the silence began, and one more each while a new connection is
    // tried.
    let held_up_max = 2 * TASKS_PER_SHARD + control.held_up;
    ensure!(seen.held_up <= held_up_max, "{} reads were held up, not {held_up_max} at most", seen.held_up);
    Ok(())
}

/// Checks that the replica answers MASTERDOWN: the fault is the one that is meant.
fn refuses(cluster: &TestCluster, replica: usize, shard: &Shard) -> Result<()> {
    let mut connection = cluster.connection(replica)?;
    connection.ok(&["READONLY"])?;
    let error = connection.string(&["GET", &key(&shard.tags[0])]).err().context("it answers")?;
    ensure!(error.to_string().starts_with("MASTERDOWN"), "{error}");
    Ok(())
}
