//! What a client does while its cluster misbehaves, and what comes of it, in a word or two.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use keyslot::{Client, Error, Reply, ScanOptions};
use keyslot_tests::words;
use tokio::task::JoinSet;

/// Between two GETs of [`Deed::Gets`].
const PAUSE: Duration = Duration::from_millis(100);

/// What is done. Each is told as `ok`, with what is worth knowing behind it, or as the error's
/// [`kind`].
pub(crate) enum Deed {
    /// Nothing but to connect.
    Connect,
    /// `GET k`.
    Get,
    /// Any command, told as `ok` or the error.
    Command(&'static str),
    /// GETs of these keys, one after another, all of which are told.
    Gets(&'static [&'static str]),
    /// So many GETs at the same time, told as the set of their outcomes.
    Many(usize),
    /// GETs one after another for so long, told as the set of their outcomes.
    For(Duration),
    /// GETs one after another for so long, each with a pause behind it; only whether they end is of
    /// interest.
    Tries(Duration, Duration),
    /// A pipeline of so many GETs, told as the set of their outcomes.
    Pipeline(usize),
    /// MULTI, these commands, EXEC; told with the number of results.
    Transaction(&'static [&'static str]),
    /// WATCH of a key and one queued command; told as `ok none` when it did not run.
    Watched,
    /// A scan of the keys, of at most so many steps.
    Scan(usize),
    /// HSCAN of a key.
    HashScan,
    /// PING to all; told with how many answered.
    Health,
    /// A script by its hash.
    Script,
    /// A command over a lent connection.
    Lend,
}

impl Deed {
    pub(crate) async fn run(&self, client: &Client) -> String {
        match self {
            Self::Connect => "ok".to_owned(),
            Self::Get => told(client.execute(["GET", "k"]).await),
            Self::Command(line) => told(client.execute(words(line)).await),
            Self::Gets(keys) => {
                let mut outcomes = Vec::new();
                for key in *keys {
                    // What a server sends behind an answer has arrived by then.
                    tokio::time::sleep(PAUSE).await;
                    outcomes.push(told(client.execute(["GET", key]).await));
                }
                outcomes.join(", ")
            }
            Self::Many(count) => many(client, *count).await,
            Self::For(time) => repeatedly(client, *time, Duration::ZERO).await,
            Self::Tries(time, pause) => {
                repeatedly(client, *time, *pause).await;
                "ok".to_owned()
            }
            Self::Pipeline(count) => {
                let commands = (0..*count).map(|number| words(&format!("GET key:{number}"))).collect();
                together(client.pipeline(commands).await.into_iter().map(told_kind))
            }
            Self::Transaction(lines) => {
                let commands = lines.iter().map(|line| words(line)).collect();
                client
                    .transaction(commands)
                    .await
                    .map_or_else(|error| kind(&error), |results| format!("ok {}", results.len()))
            }
            Self::Watched => watched(client).await.unwrap_or_else(|error| kind(&error)),
            Self::Scan(steps) => scan(client, *steps).await.unwrap_or_else(|error| kind(&error)),
            Self::HashScan => {
                let scanned = async { client.hscan(b"k", ScanOptions::new()).await?.next().await };
                scanned.await.map_or_else(|error| kind(&error), |_| "ok".to_owned())
            }
            Self::Health => client.health().await.map_or_else(
                |error| kind(&error),
                |reports| format!("ok {}", reports.iter().filter(|report| report.answer.is_ok()).count()),
            ),
            Self::Script => {
                let run = async {
                    let script = client.script("return 1").await?;
                    client.execute(script.command(["k"], ["1"])).await
                };
                told(run.await)
            }
            Self::Lend => {
                let run = async { client.lend(None).await?.execute(["GET", "k"]).await };
                told(run.await)
            }
        }
    }
}

/// The kind of an error, as the WIT package calls it; a server's with its code.
pub(crate) fn kind(error: &Error) -> String {
    match error {
        Error::InvalidArgument(_) => "invalid-argument".to_owned(),
        Error::CrossSlot(_) => "cross-slot".to_owned(),
        Error::Server(error) => format!("server {}", error.code),
        Error::RedirectLimit(_) => "redirect-limit".to_owned(),
        Error::ClusterDown(_) => "cluster-down".to_owned(),
        Error::Connect(_) => "connect".to_owned(),
        Error::ConnectionLost(_) => "connection-lost".to_owned(),
        Error::Timeout(_) => "timeout".to_owned(),
        Error::Authentication(_) => "authentication".to_owned(),
        Error::Tls(_) => "tls".to_owned(),
        Error::Protocol(_) => "protocol".to_owned(),
        Error::LimitExceeded(_) => "limit-exceeded".to_owned(),
        Error::Closed => "closed".to_owned(),
        Error::Other(text) => format!("other: {text}"),
        Error::Host(text) => format!("the component was given up: {text}"),
        other => format!("{other:?}"),
    }
}

/// A result with a text in it, if there is one.
fn told(result: Result<Reply, Error>) -> String {
    match result {
        Ok(reply) => match reply.as_str() {
            Some(text) if text.len() < 40 => format!("ok {text}"),
            _ => "ok".to_owned(),
        },
        Err(error) => kind(&error),
    }
}

fn told_kind(result: Result<Reply, Error>) -> String {
    result.map_or_else(|error| kind(&error), |_| "ok".to_owned())
}

/// All different outcomes.
fn together(outcomes: impl Iterator<Item = String>) -> String {
    outcomes.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(" + ")
}

async fn many(client: &Client, count: usize) -> String {
    let mut calls = JoinSet::new();
    for number in 0..count {
        let client = client.clone();
        calls.spawn(async move { told_kind(client.execute(["GET", &format!("key:{number}")]).await) });
    }
    let mut outcomes = Vec::new();
    while let Some(outcome) = calls.join_next().await {
        outcomes.push(outcome.unwrap_or_else(|error| error.to_string()));
    }
    together(outcomes.into_iter())
}

async fn repeatedly(client: &Client, time: Duration, pause: Duration) -> String {
    let until = Instant::now() + time;
    let mut outcomes = BTreeSet::new();
    while Instant::now() < until {
        outcomes.insert(told_kind(client.execute(["GET", "k"]).await));
        tokio::time::sleep(pause).await;
    }
    together(outcomes.into_iter())
}

async fn watched(client: &Client) -> Result<String, Error> {
    let mut watched = client.watch(["k"]).await?;
    watched.queue(["SET", "k", "v"]);
    Ok(watched.exec().await?.map_or_else(|| "ok none".to_owned(), |results| format!("ok {}", results.len())))
}

async fn scan(client: &Client, steps: usize) -> Result<String, Error> {
    let mut scan = client.scan(ScanOptions::new()).await?;
    for _ in 0..steps {
        if scan.next().await?.is_none() {
            return Ok("ok".to_owned());
        }
    }
    Ok("ok without an end".to_owned())
}
