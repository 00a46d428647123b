//! Nodes die, stall, hand over and come back under a load, and the client carries on.
//!
//! The load counts: every INCR that was acknowledged is in its counter exactly once, those reported
//! as possibly executed at most once, all others not at all. Reads never fail for longer than the
//! fault lasts. Under both protocols.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use keyslot::{Client, Error, Options, RespVersion};
use keyslot_core::slot::Slot;
use keyslot_testcluster::TestCluster;
use keyslot_tests::{Answer, FakeServer, PROTOCOLS, options, wait_until};

/// How long after a fault everything has to work again.
const RECOVERY_MAX: Duration = Duration::from_secs(30);
const COUNTERS: usize = 12;

/// What became of the INCRs of each counter.
#[derive(Default)]
struct Tally {
    acknowledged: [u64; COUNTERS],
    possibly_executed: [u64; COUNTERS],
}

impl Tally {
    /// Counts once at every counter. True when all was acknowledged.
    async fn count(&mut self, client: &Client) -> Result<bool> {
        let mut all = true;
        for counter in 0..COUNTERS {
            match client.execute(["INCR", &name(counter)]).await {
                Ok(_) => self.acknowledged[counter] += 1,
                Err(error) if error.possibly_executed() => {
                    self.possibly_executed[counter] += 1;
                    all = false;
                }
                Err(Error::Connect(_) | Error::ClusterDown(_) | Error::Timeout(_) | Error::Server(_)) => {
                    all = false;
                }
                Err(error) => return Err(error).context("an INCR failed for no reason of the fault's"),
            }
        }
        Ok(all)
    }

    async fn check(&self, client: &Client) -> Result<()> {
        for counter in 0..COUNTERS {
            let reply = client.execute(["GET", &name(counter)]).await?;
            let value: u64 = reply.as_str().unwrap_or("0").parse()?;
            let (least, most) =
                (self.acknowledged[counter], self.acknowledged[counter] + self.possibly_executed[counter]);
            ensure!((least..=most).contains(&value), "{} is {value}, not {least} to {most}", name(counter));
        }
        Ok(())
    }

    /// Counts until all is acknowledged again.
    async fn recover(&mut self, client: &Client, what: &str) -> Result<()> {
        let started = Instant::now();
        while !self.count(client).await? {
            ensure!(started.elapsed() < RECOVERY_MAX, "{what}: no recovery within {RECOVERY_MAX:?}");
        }
        println!("{what}: all answered again after {:?}", started.elapsed());
        Ok(())
    }
}

fn name(counter: usize) -> String {
    format!("counter:{counter}")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_outlives_its_nodes() -> Result<()> {
    for protocol in PROTOCOLS {
        run(protocol).await.with_context(|| format!("{protocol:?}"))?;
    }
    Ok(())
}

async fn run(protocol: RespVersion) -> Result<()> {
    let cluster = TestCluster::builder().primaries(3).replicas(1).node_timeout_ms(2_000).start()?;
    let given = options(&cluster.urls(), protocol).request_timeout(Duration::from_secs(1));
    let client = Client::connect(given).await?;
    let mut tally = Tally::default();
    ensure!(tally.count(&client).await?, "the calm cluster answers");

    let first = cluster.node_of_slot(Slot::of_key(name(0).as_bytes()).number())?;
    let replica = cluster.replicas_of(first)?[0];
    cluster.failover(replica)?;
    tally.recover(&client, "a manual failover").await?;
    tally.check(&client).await?;

    // What was counted has reached the replica before its primary dies.
    settle(&cluster, replica)?;
    cluster.kill(replica)?;
    tally.recover(&client, "kill -9 of a primary").await?;
    cluster.restart(replica)?;
    cluster.wait_until_agreed()?;
    tally.recover(&client, "the dead node's return").await?;
    tally.check(&client).await?;

    let stalled = cluster.node_of_slot(Slot::of_key(name(1).as_bytes()).number())?;
    settle(&cluster, stalled)?;
    cluster.pause(stalled)?;
    tally.recover(&client, "a stalled primary").await?;
    cluster.resume(stalled)?;
    cluster.wait_until_agreed()?;
    tally.recover(&client, "its waking up").await
}

/// Waits until the primary's replicas have all that it has.
fn settle(cluster: &TestCluster, primary: usize) -> Result<()> {
    let reached = cluster.connection(primary)?.integer(&["WAIT", "1", "5000"])?;
    ensure!(reached >= 1, "no replica follows node {primary}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_sends_without_end_does_not_stop_the_clock() -> Result<()> {
    for flood in [&b">0\r\n"[..], b"$400000000\r\nxxxxxxxx", b"*16000000\r\n:1\r\n"] {
        let (first, rest) = match flood {
            b">0\r\n" => (Vec::new(), flood.to_vec()),
            flood => {
                let line = flood.iter().position(|byte| *byte == b'\n').map_or(0, |end| end + 1);
                (flood[..line].to_vec(), flood[line..].to_vec())
            }
        };
        let server = FakeServer::start(move |_, _| Answer::Flood(first.clone(), rest.clone()));
        let client =
            Client::connect(Options::new([server.url()]).request_timeout(Duration::from_millis(500))).await?;
        let started = Instant::now();
        let error = client.execute(["INCR", "key"]).await;
        let told = matches!(error, Err(Error::Timeout(_) | Error::LimitExceeded(_)));
        ensure!(told, "{}: {error:?}", flood.escape_ascii());
        ensure!(started.elapsed() < Duration::from_secs(10), "it took {:?}", started.elapsed());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_always_hangs_up_loses_the_read() -> Result<()> {
    let server = FakeServer::start(|_, _| Answer::SendAndClose(Vec::new()));
    let client =
        Client::connect(Options::new([server.url()]).request_timeout(Duration::from_millis(500))).await?;
    let error = client.execute(["GET", "key"]).await;
    ensure!(matches!(error, Err(Error::ConnectionLost(_))), "{error:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unasked_reply_answers_no_later_command() -> Result<()> {
    // With the answer, and a little later: while the client does nothing.
    for later in [Duration::ZERO, Duration::from_millis(10)] {
        let server = FakeServer::start(move |_, read| match read.windows(3).any(|window| window == b"GET") {
            true => Answer::SendTwice(b"+first\r\n".to_vec(), later, b"+STALE\r\n".to_vec()),
            false => Answer::Send(b"+PONG\r\n".to_vec()),
        });
        let client = Client::connect(Options::new([server.url()])).await?;
        for round in 1..=10 {
            ensure!(client.execute(["GET", "key"]).await?.as_str() == Some("first"), "GET");
            wait_until("the other reply is sent", Duration::from_secs(10), async || {
                Ok(server.sent_later() == round)
            })
            .await?;
            let reply = client.execute(["PING"]).await?;
            ensure!(reply.as_str() == Some("PONG"), "PING was answered with {reply:?}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipelines_replies_are_bounded_together() -> Result<()> {
    let server = keyslot_testcluster::TestServer::start()?;
    let given = Options::new([server.url()]).limit(keyslot::Limit::ReplySize, 10 << 20);
    let client = Client::connect(given).await?;
    client.execute([&b"SET"[..], b"large", &vec![b'x'; 4 << 20]]).await?;
    let get = || vec![b"GET".to_vec(), b"large".to_vec()];
    let results = client.pipeline(vec![get(), get(), get(), vec![b"PING".to_vec()]]).await;
    ensure!(
        results[0].is_ok() && results[1].is_ok() && results[3].is_ok(),
        "those within the limit are there"
    );
    ensure!(matches!(results[2], Err(Error::LimitExceeded(_))), "{:?}", results[2].as_ref().err());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_that_answers_like_a_redirect_runs_once() -> Result<()> {
    let cluster = TestCluster::start(3, 0)?;
    let client = Client::connect(options(&cluster.urls(), RespVersion::Resp3)).await?;
    for (number, made_up) in ["TRYAGAIN x", "MOVED 1 127.0.0.1:1", "CLUSTERDOWN x"].iter().enumerate() {
        let script = format!("redis.call('INCR', KEYS[1]); return redis.error_reply('{made_up}')");
        let key = format!("runs:{number}");
        let error = client.execute(["EVAL", &script, "1", &key]).await;
        ensure!(matches!(error, Err(Error::Server(_))), "{error:?}");
        let runs = client.execute(["GET", &key]).await?;
        ensure!(runs.as_str() == Some("1"), "{made_up}: it ran {runs:?} times");
    }
    Ok(())
}
