//! Commands that the server wants again and again: each time is an event.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use keyslot::{Client, Error, EventKind, Events, NodeFailure, Options};
use keyslot_tests::{Answer, FakeServer, count};

use crate::SOON;

/// How many callers a burst has, with a command each.
pub(crate) const CALLERS: usize = 50;
/// How many times a command is sent again before its caller is told.
pub(crate) const RETRIES: u64 = 100;

/// The server, and a client that has nothing else.
pub(crate) async fn start() -> Result<(FakeServer, Client)> {
    let server = FakeServer::start(|_, read| {
        let commands = read.iter().filter(|byte| **byte == b'*').count();
        Answer::Send(b"-TRYAGAIN later\r\n".repeat(commands))
    });
    let millisecond = Duration::from_millis(1);
    let given = Options::new([server.url()]).retry_backoff(millisecond, millisecond);
    let client = Client::connect(given.max_retries(RETRIES as u32)).await?;
    Ok((server, client))
}

/// All callers at once. Returns the component's memory afterwards, in bytes.
pub(crate) async fn burst(client: &Client) -> Result<u64> {
    let mut callers = Vec::new();
    for caller in 0..CALLERS {
        let client = client.clone();
        // With a key of its own: of one key the later would wait for the earlier.
        callers.push(tokio::spawn(async move { client.execute(["GET", &format!("key:{caller}")]).await }));
    }
    for caller in callers {
        let ended = caller.await?;
        ensure!(matches!(&ended, Err(Error::Server(error)) if error.code == "TRYAGAIN"), "{ended:?}");
    }
    client.memory().await.map_err(Into::into)
}

/// One command. Each time that it is sent again must be told next, with its number.
pub(crate) async fn each_is_told(server: &FakeServer, client: &Client, events: &mut Events) -> Result<()> {
    let before = count(&client.counters().await?, "retries");
    let error = client.execute(["GET", "key"]).await;
    ensure!(error.is_err(), "{error:?}");
    let retries = count(&client.counters().await?, "retries") - before;
    for number in 1..=retries {
        let event = tokio::time::timeout(SOON, events.next()).await?.context("the client is there")?;
        let EventKind::Retried(NodeFailure { node, reason, attempts }) = &event.kind else {
            bail!("{event} is no retry");
        };
        ensure!(server.url().ends_with(node.as_str()) && reason.contains("TRYAGAIN"), "{event}");
        ensure!(u64::from(*attempts) == number && event.missed == 0, "{event:?} is retry {number}");
    }
    Ok(())
}
