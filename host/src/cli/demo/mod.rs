//! `keyslot demo`: the main job, on a real local cluster, in one screen of text.

mod migration;
mod pipeline;
mod show;
mod steps;

use std::process::ExitCode;
use std::time::Instant;

use keyslot_terminal::Style;
use keyslot_testcluster::TestCluster;

use self::show::Show;
use super::failure::Failure;
use super::global::Global;
use super::signal::interruption;

const PRIMARIES: usize = 3;
const REPLICAS_PER_PRIMARY: usize = 1;

/// Start a local cluster, show what the client does with it, and take it down
///
/// Needs redis-server; KEYSLOT_REDIS_SERVER names another program. Three primaries and three
/// replicas listen on free ports of 127.0.0.1 and keep nothing. Ends with exit code 1 when a
/// redirect was not followed or a value was wrong.
#[derive(Debug, clap::Args)]
pub(crate) struct Demo {}

impl Demo {
    pub(super) async fn run(self, global: &Global) -> Result<ExitCode, Failure> {
        let show = Show { style: Style::for_stdout() };
        show.write(show.style.bold("Keyslot: a WebAssembly component as the client of a Redis Cluster"))?;
        show.write("\n")?;

        show.section("Starting a cluster")?;
        let start = Instant::now();
        let cluster = start_cluster().await?;
        show.line(format_args!(
            "{PRIMARIES} primaries and {} replicas are up after {:.1} s",
            PRIMARIES * REPLICAS_PER_PRIMARY,
            start.elapsed().as_secs_f64()
        ))?;

        let shown = tokio::select! {
            shown = Box::pin(present(&cluster, global, &show)) => shown,
            () = interruption() => Err(Failure::Interrupted),
        };
        drop(cluster);
        shown?;

        show.section("Done")?;
        show.line("Every redirect was followed, every value was right, and the servers are stopped.")?;
        Ok(ExitCode::SUCCESS)
    }
}

/// All that is shown of a running cluster.
async fn present(cluster: &TestCluster, global: &Global, show: &Show) -> Result<(), Failure> {
    let start = Instant::now();
    let client = global.connection.connect_to_own(&cluster.urls()).await?;
    show.line(format_args!("the component is connected after {:.2} s", start.elapsed().as_secs_f64()))?;

    steps::topology(&client, show).await?;
    steps::set_and_get(&client, show).await?;
    steps::hash_tag(&client, show).await?;
    pipeline::run(&client, show).await?;
    migration::run(&client, cluster, show).await?;
    client.close().await;
    Ok(())
}

/// Starts the servers. Interrupted meanwhile, waits until those that have started are stopped
/// again.
async fn start_cluster() -> Result<TestCluster, Failure> {
    let mut starting = tokio::task::spawn_blocking(|| TestCluster::start(PRIMARIES, REPLICAS_PER_PRIMARY));
    let started = tokio::select! {
        started = &mut starting => started,
        () = interruption() => {
            drop(starting.await);
            return Err(Failure::Interrupted);
        }
    };
    match started {
        Ok(cluster) => cluster.map_err(|error| Failure::Demo(error.to_string())),
        Err(panic) => Err(Failure::Demo(format!("the cluster did not start: {panic}"))),
    }
}
