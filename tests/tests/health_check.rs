//! A connection that has died in silence while nobody used it costs a write a second, not its life.
//!
//! Such a connection is one whose peer has gone without a word: nothing that is sent on it is
//! answered, and nothing says so. After `health_check` of silence it has to answer a PING first. So
//! the write that comes next is not put on it, but on a new connection, about a second later, and
//! runs once: the servers have each command once or never. Without the check the same write waits
//! for its whole request time-out, and nobody knows whether it was executed.
//!
//! "About a second" is what a second and the same write at a server that is well take at the same
//! time.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use keyslot::{Client, Error, Options, PoolSetting};
use keyslot_core::slot::Slot;
use keyslot_testcluster::TestCluster;
use keyslot_tests::{Answer, FakeServer, PROTOCOLS, count, options};
use tokio::time::Instant as Alarm;

const HEALTH_CHECK: Duration = Duration::from_millis(300);
/// Long enough for the check to be due.
const IDLE: Duration = Duration::from_millis(400);
/// So long a connection has for the answer to the PING.
const PATIENCE: Duration = Duration::from_secs(1);
/// A new connection.
const SLACK: Duration = Duration::from_millis(400);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(8);

/// A client of a server that is well, and the second that it lets go by.
struct Well {
    client: Client,
    _server: FakeServer,
}

impl Well {
    async fn start() -> Result<Self> {
        let server = FakeServer::start(|_, read| ones(read));
        let client = Client::connect(Options::new([server.url()])).await?;
        client.execute(["INCR", "well"]).await?;
        Ok(Self { client, _server: server })
    }

    /// How long the patience with a silent connection and then so many writes at the same time take
    /// here.
    async fn writes_after_a_second(&self, count: usize) -> Result<Duration> {
        let started = Instant::now();
        tokio::time::sleep_until(Alarm::now() + PATIENCE).await;
        writes(&self.client, count).await?;
        Ok(started.elapsed())
    }
}

/// So many writes at the same time.
async fn writes(client: &Client, count: usize) -> Result<()> {
    let mut writes = Vec::new();
    for number in 0..count {
        let client = client.clone();
        writes.push(tokio::spawn(async move { client.execute(["INCR", &format!("late:{number}")]).await }));
    }
    for write in writes {
        let reply = write.await?.context("the connection died in silence")?;
        ensure!(reply.as_integer() == Some(1), "{reply:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_does_not_wait_for_a_connection_that_died_in_silence() -> Result<()> {
    // The first connection is alive for one command.
    let server = silent_after_one();
    let given = Options::new([server.url()]).request_timeout(REQUEST_TIMEOUT).health_check(HEALTH_CHECK);
    let client = Client::connect(given).await?;
    ensure!(client.execute(["INCR", "alive"]).await?.as_integer() == Some(1), "it is alive at first");
    tokio::time::sleep(IDLE).await;

    let well = Well::start().await?;
    let started = Instant::now();
    // Many at once: none of them is put on the connection that is in doubt.
    let late = async {
        writes(&client, 20).await?;
        anyhow::Ok(started.elapsed())
    };
    let (took, elsewhere) = tokio::join!(late, well.writes_after_a_second(20));
    let (took, elsewhere) = (took?, elsewhere?);
    println!("20 writes after the connection's death: {took:?}; a second and 20 writes: {elsewhere:?}");
    ensure!(took >= PATIENCE.mul_f64(0.9) && took < elsewhere + SLACK, "{took:?}, elsewhere {elsewhere:?}");
    ensure!(server.connections() == 2, "{} connections", server.connections());

    let received = String::from_utf8_lossy(&server.take_reads().concat()).into_owned();
    for number in 0..20 {
        let times = received.matches(&format!("late:{number}\r\n")).count();
        ensure!(times == 1, "late:{number} was sent {times} times");
    }
    ensure!(received.matches("PING").count() == 1, "one PING: {received:?}");
    let counters = client.counters().await?;
    ensure!(count(&counters, "retries") == 0, "{counters:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_refuses_the_ping_has_answered() -> Result<()> {
    for protocol in PROTOCOLS {
        let cluster = TestCluster::start(3, 0)?;
        let client = Client::connect(options(&cluster.urls(), protocol)).await?;
        client.execute(["ACL", "SETUSER", "default", "-ping"]).await?;
        let reports = client.health().await?;
        ensure!(reports.len() == 3 && reports.iter().all(|report| report.answer.is_ok()), "{reports:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_check_the_write_would_have_been_lost() -> Result<()> {
    let server = silent_after_one();
    let timeout = Duration::from_millis(1_500);
    let given = Options::new([server.url()]).request_timeout(timeout).health_check(Duration::from_secs(60));
    let client = Client::connect(given).await?;
    client.execute(["INCR", "alive"]).await?;
    tokio::time::sleep(IDLE).await;
    let started = Instant::now();
    let error = client.execute(["INCR", "late"]).await;
    ensure!(matches!(&error, Err(Error::Timeout(late)) if late.possibly_executed), "{error:?}");
    ensure!(started.elapsed() >= timeout.mul_f64(0.9), "told after {:?}", started.elapsed());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_used_is_not_checked() -> Result<()> {
    let server = FakeServer::start(|_, read| ones(read));
    let given = Options::new([server.url()]).health_check(HEALTH_CHECK);
    let client = Client::connect(given).await?;
    let until = Instant::now() + 3 * HEALTH_CHECK;
    // Pauses that a busy machine has made so long that the check was due.
    let mut long_pauses = 0;
    while Instant::now() < until {
        let asked_at = Instant::now();
        client.execute(["INCR", "busy"]).await?;
        tokio::time::sleep(HEALTH_CHECK / 10).await;
        long_pauses += usize::from(asked_at.elapsed() > HEALTH_CHECK.mul_f64(0.8));
    }
    let received = String::from_utf8_lossy(&server.take_reads().concat()).into_owned();
    let pings = received.matches("PING").count();
    ensure!(pings <= long_pauses, "a busy connection was asked {pings} times whether it is alive");

    // One that is idle and well costs a round trip, not a second.
    tokio::time::sleep(IDLE).await;
    let started = Instant::now();
    client.execute(["INCR", "idle"]).await?;
    ensure!(started.elapsed() < PATIENCE, "it took {:?}", started.elapsed());
    let received = String::from_utf8_lossy(&server.take_reads().concat()).into_owned();
    ensure!(received.matches("PING").count() == 1 && server.connections() == 1, "{received:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_borrower_does_not_get_a_connection_that_died_in_silence() -> Result<()> {
    // Connection 0 is the shared one, 1 the first that is lent.
    let server = FakeServer::start(|connection, read| match connection {
        1 if !contains(read, "alive") => Answer::Nothing,
        _ => ones(read),
    });
    let given = Options::new([server.url()]).request_timeout(REQUEST_TIMEOUT).health_check(HEALTH_CHECK);
    let client = Client::connect(given.pool(PoolSetting::MaxConnections, 1)).await?;
    let connection = client.lend(None).await?;
    ensure!(connection.execute(["INCR", "alive"]).await?.as_integer() == Some(1), "it is alive at first");
    drop(connection);
    tokio::time::sleep(IDLE).await;

    let well = Well::start().await?;
    let started = Instant::now();
    let late = async {
        let connection = client.lend(None).await?;
        let reply = connection.execute(["INCR", "late"]).await.context("the connection died in silence")?;
        anyhow::Ok((reply, started.elapsed()))
    };
    let (late, elsewhere) = tokio::join!(late, well.writes_after_a_second(1));
    let ((reply, took), elsewhere) = (late?, elsewhere?);
    ensure!(reply.as_integer() == Some(1), "{reply:?}");
    ensure!(took >= PATIENCE.mul_f64(0.9) && took < elsewhere + SLACK, "{took:?}, elsewhere {elsewhere:?}");
    let received = String::from_utf8_lossy(&server.take_reads().concat()).into_owned();
    ensure!(received.matches("late").count() == 1, "INCR was sent once: {received:?}");
    ensure!(server.connections() == 3, "{} connections", server.connections());
    Ok(())
}

/// A primary stops while the client is idle, and a replica takes over.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_after_a_silent_failover_is_executed_once() -> Result<()> {
    const KEY: &str = "count";
    let cluster = TestCluster::builder().primaries(3).replicas(1).node_timeout_ms(1_000).start()?;
    let mut clients = Vec::new();
    for (number, protocol) in (1..).zip(PROTOCOLS) {
        let given = options(&cluster.urls(), protocol).request_timeout(REQUEST_TIMEOUT);
        let client = Client::connect(given.health_check(HEALTH_CHECK)).await?;
        ensure!(client.execute(["INCR", KEY]).await?.as_integer() == Some(number), "{protocol:?}");
        clients.push((protocol, client));
    }
    let stopped = cluster.node_of_slot(Slot::of_key(KEY.as_bytes()).number())?;
    cluster.wait_for("the replica has it all", Duration::from_secs(5), |cluster| {
        let replica = cluster.replicas_of(stopped)?[0];
        let offset = |node| -> Result<Option<String>, keyslot_testcluster::Error> {
            let info = cluster.connection(node)?.string(&["INFO", "replication"]);
            let info = info
                .map_err(|source| keyslot_testcluster::Error::Call { port: cluster.ports()[node], source })?;
            Ok(info.lines().find(|line| line.starts_with("master_repl_offset:")).map(str::to_owned))
        };
        Ok(offset(stopped)? == offset(replica)?)
    })?;

    cluster.pause(stopped)?;
    cluster.wait_until_agreed()?;
    let well = Well::start().await?;
    for (number, (protocol, client)) in (3..).zip(&clients) {
        let started = Instant::now();
        let late = async {
            let reply = client.execute(["INCR", KEY]).await.context("the write after the silence")?;
            anyhow::Ok((reply, started.elapsed()))
        };
        let (late, elsewhere) = tokio::join!(late, well.writes_after_a_second(1));
        let ((reply, took), elsewhere) = (late?, elsewhere?);
        println!("{protocol:?}: the first write after a silent failover: {took:?}");
        ensure!(reply.as_integer() == Some(number), "{reply:?}");
        ensure!(took < elsewhere + SLACK, "it took {took:?}, elsewhere {elsewhere:?}");
    }
    // The stopped node has nothing of them when it wakes up.
    cluster.resume(stopped)?;
    cluster.wait_until_agreed()?;
    for (protocol, client) in &clients {
        let reply = client.execute(["GET", KEY]).await?;
        ensure!(reply.as_str() == Some("4"), "{protocol:?}: {reply:?}");
    }
    Ok(())
}

/// A server whose first connection answers one command and nothing more.
fn silent_after_one() -> FakeServer {
    FakeServer::start(|connection, read| match connection {
        0 if !contains(read, "alive") => Answer::Nothing,
        _ => ones(read),
    })
}

/// `:1` for each command of a read, `+PONG` for a PING.
fn ones(read: &[u8]) -> Answer {
    let text = String::from_utf8_lossy(read);
    let answers = text.split('*').skip(1).map(|command| match command.contains("PING") {
        true => "+PONG\r\n",
        false => ":1\r\n",
    });
    Answer::Send(answers.collect::<String>().into_bytes())
}

fn contains(read: &[u8], word: &str) -> bool {
    String::from_utf8_lossy(read).contains(word)
}
