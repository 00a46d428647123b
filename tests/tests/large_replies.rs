//! Shows that large replies which arrive at the same time keep no call from its end, and fit into
//! the component.
//!
//! Eight nodes send at once. The sizes are more than the budget for what is received, and as much
//! as just fits it. A call's time may run out at any moment of that: while bytes come in, and while
//! a reply is copied to its caller.

use std::hint;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use keyslot::{Client, Error, Options};
use keyslot_core::slot::{SLOT_COUNT, Slot};
use keyslot_tests::hostile::{Act, HostileCluster, Script};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

/// Each test takes the memory and the processors that there are.
static ALONE: Mutex<()> = Mutex::const_new(());

const NODES: usize = 8;

/// How much later than its time-out a call may end.
const GRACE: Duration = Duration::from_secs(1);

/// What a client has by default.
const MEMORY_LIMIT: u64 = 1 << 30;

/// Nodes that answer each GET with so many bytes.
fn senders(size: usize) -> Result<HostileCluster> {
    let head = format!("${size}\r\n");
    let value: Arc<[u8]> = vec![b'x'; size].into();
    let script: Script = Arc::new(move |asked| {
        asked.is("GET").then(|| vec![Act::send(&head), Act::Send(Arc::clone(&value)), Act::send("\r\n")])
    });
    Ok(HostileCluster::start(NODES, script)?)
}

async fn client_of(cluster: &HostileCluster, timeout: Duration) -> Result<Client> {
    Ok(Client::connect(Options::new(cluster.urls()).request_timeout(timeout)).await?)
}

fn key_at(node: usize) -> String {
    let owner =
        |key: &String| usize::from(Slot::of_key(key.as_bytes()).number()) * NODES / usize::from(SLOT_COUNT);
    (0..).map(|number| format!("key{number}")).find(|key| owner(key) == node).unwrap_or_default()
}

/// Asks all nodes at once. Gives what each call has come to, a value by its length, and how long it
/// took.
async fn ask_all(client: &Client) -> Result<Vec<(Result<usize, Error>, Duration)>> {
    let mut calls = JoinSet::new();
    for node in 0..NODES {
        let client = client.clone();
        calls.spawn(async move {
            let started = Instant::now();
            let result = client.execute(["GET".to_owned(), key_at(node)]).await;
            let took = started.elapsed();
            (result.map(|reply| reply.as_bytes().map_or(0, <[u8]>::len)), took)
        });
    }
    let mut ends = Vec::new();
    while let Some(end) = calls.join_next().await {
        ends.push(end?);
    }
    Ok(ends)
}

/// Threads that compute until it is dropped.
struct BusyLoops(Arc<AtomicBool>);

impl BusyLoops {
    fn start(count: usize) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        for _ in 0..count {
            let is_over = Arc::clone(&is_over);
            thread::spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    hint::spin_loop();
                }
            });
        }
        Self(is_over)
    }
}

impl Drop for BusyLoops {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Each call has its value, or is told that it does not fit or that its time is over, and none is
/// late.
async fn none_is_late(busy_loops: usize) -> Result<()> {
    const SIZE: usize = 200_000_000;

    let _alone = ALONE.lock().await;
    let cluster = senders(SIZE)?;
    let _busy = BusyLoops::start(busy_loops);
    for timeout_ms in [300, 1_000, 3_000] {
        let timeout = Duration::from_millis(timeout_ms);
        let client = client_of(&cluster, timeout).await?;
        for (result, took) in ask_all(&client).await? {
            ensure!(
                matches!(result, Ok(SIZE) | Err(Error::LimitExceeded(_) | Error::Timeout(_))),
                "{timeout:?}: {result:?}"
            );
            ensure!(took <= timeout + GRACE, "{timeout:?}: {result:?} took {took:?}");
        }
        let memory = client.memory().await?;
        ensure!(memory <= MEMORY_LIMIT, "{memory} bytes");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_call_is_late_when_eight_nodes_send_200_mb_at_once() -> Result<()> {
    none_is_late(0).await
}

#[tokio::test(flavor = "multi_thread")]
async fn no_call_is_late_when_the_machine_is_busy_as_well() -> Result<()> {
    none_is_late(4).await
}

/// As much as the budget for what is received just holds, again and again: all of it comes.
#[tokio::test(flavor = "multi_thread")]
async fn replies_that_fit_the_budget_together_all_come() -> Result<()> {
    const SIZE: usize = 47_000_000;

    let _alone = ALONE.lock().await;
    let cluster = senders(SIZE)?;
    let client = client_of(&cluster, Duration::from_secs(60)).await?;
    for round in 0..4 {
        for (result, _) in ask_all(&client).await? {
            ensure!(matches!(result, Ok(SIZE)), "round {round}: {result:?}");
        }
    }
    Ok(())
}
