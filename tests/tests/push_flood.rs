//! A server that sends pushes without end keeps no time-out from coming.
//!
//! Before a write the driver reads the socket until it is empty, by turns of 512 KiB. It never is
//! here.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use keyslot::{Client, Error, RespVersion};
use keyslot_tests::{Answer, FakeServer, options};

/// Until the next command.
const PAUSE: Duration = Duration::from_millis(60);

fn pushes(bytes: usize) -> Vec<u8> {
    let push = [&b">2\r\n+news\r\n$1000\r\n"[..], &[b'n'; 1_000], b"\r\n"].concat();
    push.repeat(bytes.div_ceil(push.len()))
}

/// The server's pushes never end once it has answered. What is sent to it runs out of time, or is
/// answered over another connection.
#[tokio::test(flavor = "multi_thread")]
async fn pushes_without_end_keep_no_time_out_from_coming() -> Result<()> {
    let server = FakeServer::start(|_, _| Answer::Flood(b"$4\r\nmine\r\n".to_vec(), pushes(2_000)));
    let given = options(&[server.url()], RespVersion::Resp3).request_timeout(Duration::from_secs(1));
    let client = Client::connect(given).await?;
    let reply = client.execute(["GET", "key"]).await?;
    ensure!(reply.as_str() == Some("mine"), "{reply:?}");
    tokio::time::sleep(PAUSE).await;
    let started = Instant::now();
    let ended = tokio::time::timeout(Duration::from_secs(10), client.execute(["GET", "key"])).await;
    let outcome = ended.context("the request has no end")?;
    ensure!(matches!(outcome, Ok(_) | Err(Error::Timeout(_))), "{outcome:?}");
    ensure!(started.elapsed() < Duration::from_millis(1_500), "it took {:?}", started.elapsed());
    Ok(())
}
