//! `soak`: one client for minutes or hours against a real cluster whose nodes are killed, stopped,
//! replaced and resharded all the time; `cargo xtask soak` runs it.
//!
//! It shows that nothing is lost, runs twice or goes to the wrong caller, and that memory and
//! sockets level off. `load` and `large` have the callers, `faults` what is done to the cluster,
//! `sample` what is measured each second, `verdict` and `level` what is judged, `report` and `plot`
//! what is shown of it.

mod faults;
mod large;
mod level;
mod load;
mod plot;
mod progress;
mod record;
mod report;
mod sample;
mod verdict;

use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::Parser;
use keyslot::{Client, Options, RespVersion};
use keyslot_testcluster::TestCluster;
use tokio::task::spawn_blocking;

use crate::faults::{Faults, Log};
use crate::load::{Load, Shared};
use crate::progress::Progress;
use crate::record::{Outcome, Run, Sample, Verdict};

const PRIMARIES: usize = 3;
const REPLICAS_PER_PRIMARY: usize = 1;
const NODE_TIMEOUT_MS: u32 = 2_000;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(1);
/// How long calls may take to end when the load does.
const PATIENCE: Duration = Duration::from_secs(30);
/// No fault begins so shortly before the end.
const QUIET_END: Duration = Duration::from_secs(8);

const EXAMPLES: &str = "\
Examples:
  soak --minutes 10               ten minutes, with faults in a new order
  soak --minutes 1 --seed 7       one minute, with the faults of seed 7
  soak --minutes 60 --tasks 100 --out /tmp/soak
                                  an hour with a hundred callers; the plot is /tmp/soak/soak.svg
  KEYSLOT_REDIS_SERVER=/opt/valkey/bin/valkey-server soak
                                  with another server

Exit codes: 0 all promises held, 1 one was broken, 2 the soak could not run.";

/// Hurts a real cluster for some minutes while one client works on it, and reports what became of
/// its promises: a table, and a plot.
#[derive(Parser)]
#[command(name = "soak", after_help = EXAMPLES)]
struct Arguments {
    /// How long, in minutes.
    #[arg(long, default_value_t = 10.0, value_parser = positive)]
    minutes: f64,
    /// Chooses the faults, the protocol and the load; without it, a new one each time.
    #[arg(long)]
    seed: Option<u64>,
    /// How many callers share the client.
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u16).range(1..))]
    tasks: u16,
    /// The folder for the plot.
    #[arg(long, default_value = "target/soak")]
    out: PathBuf,
}

fn positive(text: &str) -> Result<f64, String> {
    let minutes = text.parse::<f64>().map_err(|error| error.to_string())?;
    // A week, so that nobody waits for a typing error.
    if minutes > 0.0 && minutes <= 10_080.0 {
        Ok(minutes)
    } else {
        Err("more than 0, at most 10080".to_owned())
    }
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("soak: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    // Before the long part, so that what is wrong with it is told at once.
    fs::create_dir_all(&arguments.out)
        .with_context(|| format!("cannot make the folder {}", arguments.out.display()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let (run, trouble) = runtime.block_on(Box::pin(soak(arguments)))?;

    let file = arguments.out.join("soak.svg");
    plot::write(&run, &file)?;
    let mut text = report::render(&run);
    text += &format!("\nplot: {}\nagain: --seed {}\n", file.display(), run.seed);
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => bail!(error),
        _ => {}
    }
    if run.is_broken() {
        return Ok(ExitCode::from(1));
    }
    trouble.map(|()| ExitCode::SUCCESS)
}

/// The whole soak. The second part is an error when the cluster, not the client, was the reason to
/// end.
async fn soak(arguments: &Arguments) -> anyhow::Result<(Run, anyhow::Result<()>)> {
    let seed = arguments.seed.unwrap_or_else(|| rand::random_range(0..1_000_000));
    let seconds = arguments.minutes * 60.0;
    let protocol = if seed.is_multiple_of(2) { RespVersion::Resp3 } else { RespVersion::Resp2 };
    let stop = Arc::new(AtomicBool::new(false));
    tokio::spawn(stop_on_signals(Arc::clone(&stop)));

    let cluster = Arc::new(spawn_blocking(start_cluster).await??);
    let options = Options::new(cluster.urls()).resp_version(protocol).request_timeout(REQUEST_TIMEOUT);
    let client = Box::pin(Client::connect(options)).await?;
    Load::prepare(&client).await.context("the first values could not be written")?;
    let setting = format!(
        "{} to {PRIMARIES} primaries and {} replicas of {}, seed {seed}",
        if protocol == RespVersion::Resp3 { "RESP3" } else { "RESP2" },
        PRIMARIES * REPLICAS_PER_PRIMARY,
        server(&cluster)?
    );
    let mut progress = Progress::new(seconds);
    progress.note(&format!("soak of {}: {setting}", report::span(seconds)));

    let tasks = usize::from(arguments.tasks);
    let load = Load::start(&client, tasks, seed);
    let log = Arc::new(Log::default());
    let faults = Faults {
        cluster: Arc::clone(&cluster),
        client: client.clone(),
        runtime: tokio::runtime::Handle::current(),
        shared: Arc::clone(&load.shared),
        log: Arc::clone(&log),
        stop: Arc::clone(&stop),
        keys: load::keys(tasks),
        request_timeout: REQUEST_TIMEOUT,
        random: Faults::random(seed),
    };
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    let last_fault = end.checked_sub(QUIET_END).unwrap_or(end);
    let faults = spawn_blocking(move || faults.run(last_fault));
    // A fault that has begun is undone: what the cluster holds is compared only when it is whole.
    // Faults that ended before their time did so with an error.
    let goes_on = || {
        let is_quiet_end = (last_fault..end).contains(&Instant::now()) && !stop.load(Ordering::SeqCst);
        !faults.is_finished() || is_quiet_end
    };
    let samples = samples(&client, &load.shared, &log, &stop, &mut progress, goes_on).await;
    let trouble = faults.await?;

    let (verdicts, complaints) = judge(&cluster, &client, load, &log, &samples).await;
    client.close().await;
    let faults = std::mem::take(&mut *log.done());
    Ok((Run { seed, setting, samples, faults, verdicts, complaints }, trouble))
}

/// A sample each second, while the soak goes on.
async fn samples(
    client: &Client,
    shared: &Shared,
    log: &Log,
    stop: &AtomicBool,
    progress: &mut Progress,
    goes_on: impl Fn() -> bool,
) -> Vec<Sample> {
    let mut samples = Vec::new();
    let mut every_second = tokio::time::interval(Duration::from_secs(1));
    every_second.tick().await;
    let mut is_noted = false;
    while goes_on() {
        every_second.tick().await;
        samples.push(shared.meter.sample(guest_memory(client).await));
        progress.show(shared.meter.elapsed(), &shared.meter.total(), &log.last());
        if stop.load(Ordering::SeqCst) && !is_noted {
            is_noted = true;
            progress.note("ending early, as soon as the cluster is whole; Ctrl-C again ends at once");
        }
    }
    progress.end();
    samples
}

/// Ends the load and judges each promise. Gives what broke them, too.
async fn judge(
    cluster: &TestCluster,
    client: &Client,
    load: Load,
    log: &Log,
    samples: &[Sample],
) -> (Vec<Verdict>, Vec<String>) {
    let shared = Arc::clone(&load.shared);
    let mut written = load.stop(PATIENCE).await;
    let mut complaints = Vec::new();
    let mut verdicts = Vec::new();
    match verdict::counters(cluster, client, &written.counters).await {
        Ok((verdict, mut told)) => {
            verdicts.push(verdict);
            complaints.append(&mut told);
        }
        Err(error) => verdicts.push(Verdict {
            promise: "no acknowledged INCR is lost, none runs twice",
            outcome: Outcome::Open,
            evidence: format!("the counters could not be read: {error:#}"),
        }),
    }
    let (verdict, mut told) = verdict::large_values(client, &mut written.large).await;
    verdicts.push(verdict);
    complaints.append(&mut told);
    verdicts.extend(verdict::calls(&shared, log, written.hanging, REQUEST_TIMEOUT));
    verdicts.extend(verdict::levels(samples));
    for told in [&shared.wrong, &shared.unexpected, &log.unrecovered] {
        complaints.extend(told.told().iter().cloned());
    }
    (verdicts, complaints)
}

/// Ends the soak early at the first Ctrl-C or SIGTERM, and the process at the second.
async fn stop_on_signals(stop: Arc<AtomicBool>) {
    loop {
        interruption().await;
        if stop.swap(true, Ordering::SeqCst) {
            // The system ends the servers with this process.
            std::process::exit(130);
        }
    }
}

/// Waits for Ctrl-C or SIGTERM. Where neither can be waited for, it never ends.
async fn interruption() {
    let ctrl_c = async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    #[cfg(unix)]
    if let Ok(mut terminate) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        tokio::select! {
            () = ctrl_c => {}
            _ = terminate.recv() => {}
        }
        return;
    }
    ctrl_c.await;
}

/// A cluster that has its data again after a kill: the servers write each change to the system
/// before they acknowledge it, which is enough for all but a crash of the machine.
fn start_cluster() -> anyhow::Result<TestCluster> {
    TestCluster::builder()
        .primaries(PRIMARIES)
        .replicas(REPLICAS_PER_PRIMARY)
        .node_timeout_ms(NODE_TIMEOUT_MS)
        .arg("--appendonly", "yes")
        .arg("--appendfsync", "no")
        .start()
        .context("cannot start a cluster")
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

/// The linear memory of the client's component, in bytes; none when it does not say at once, as
/// while it is started anew.
async fn guest_memory(client: &Client) -> Option<u64> {
    tokio::time::timeout(Duration::from_millis(500), client.memory()).await.ok()?.ok()
}
