//! `keyslot demo`: the main job, on a real local cluster, in one screen of text.

mod migration;
mod pipeline;
mod steps;

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Instant;

use keyslot::Client;
use keyslot_testcluster::TestCluster;

use super::Global;
use super::failure::Failure;
use super::signal::interruption;
use super::style::Style;
use super::table::Table;

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

/// Where the demonstration is written.
struct Show {
    style: Style,
}

impl Show {
    /// A headline, with a blank line before it.
    fn section(&self, title: &str) -> Result<(), Failure> {
        self.write(format_args!("\n{}\n", self.style.bold(self.style.cyan(title))))
    }

    /// One line, indented below its headline.
    fn line(&self, text: impl Display) -> Result<(), Failure> {
        self.write(format_args!("  {text}\n"))
    }

    /// A table, indented likewise.
    fn table(&self, table: &Table) -> Result<(), Failure> {
        table.text().lines().try_for_each(|line| self.line(line))
    }

    fn write(&self, text: impl Display) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        write!(stdout, "{text}")?;
        Ok(stdout.flush()?)
    }
}

/// Fails the demonstration with what was found unless it is as expected.
fn ensure(holds: bool, found: impl FnOnce() -> String) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(Failure::Demo(found())) }
}

/// The value of one of the client's counters.
async fn counter(client: &Client, name: &str) -> Result<u64, Failure> {
    let counters = client.counters().await?;
    let counter = counters.iter().find(|counter| counter.name == name);
    counter.map(|counter| counter.value).ok_or_else(|| Failure::Demo(format!("there is no counter '{name}'")))
}
