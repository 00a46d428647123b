//! What borrowers and other callers do.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use keyslot::{Client, Connection, Error, ReplyRef};
use keyslot_tests::words;

/// Writes one less than what the key holds, if it is not changed meanwhile. Returns what SET was
/// answered with; none when the transaction did not run.
pub(crate) async fn decrement(
    connection: &Connection,
    key: &str,
    meanwhile: impl AsyncFnOnce() -> Result<(), Error>,
) -> Result<Option<String>> {
    connection.execute(["WATCH", key]).await?;
    let value: i64 = connection.execute(["GET", key]).await?.as_str().context("a value")?.parse()?;
    meanwhile().await?;
    let results = connection
        .pipeline(vec![words("MULTI"), words(&format!("SET {key} {}", value - 1)), words("EXEC")])
        .await;
    let [Ok(multi), Ok(set), Ok(exec)] = &results[..] else { bail!("{results:?}") };
    ensure!(multi.as_str() == Some("OK") && set.as_str() == Some("QUEUED"), "{results:?}");
    if exec.is_null() {
        return Ok(None);
    }
    Ok(exec.children().next().and_then(ReplyRef::as_str).map(str::to_owned))
}

/// What the key holds.
pub(crate) async fn get(client: &Client, key: &str) -> Result<Option<String>> {
    Ok(client.execute(["GET", key]).await?.as_str().map(str::to_owned))
}

/// GETs one after another; how long the slowest took.
pub(crate) async fn gets(client: &Client, count: usize) -> Result<Duration> {
    let mut slowest = Duration::ZERO;
    for _ in 0..count {
        let started = Instant::now();
        client.execute(["GET", "key"]).await?;
        slowest = slowest.max(started.elapsed());
    }
    Ok(slowest)
}
