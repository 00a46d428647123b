//! Commands that several nodes answer: how many writes they cost, which nodes `execute_on` reaches,
//! and what is told of keys and nodes when a part fails.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use keyslot::{Client, Error, RespVersion, Route};
use keyslot_testcluster::TestCluster;
use keyslot_tests::{PROTOCOLS, count, options, words};

#[tokio::test(flavor = "multi_thread")]
async fn mget_of_ten_thousand_keys_costs_one_write_a_node_and_window() -> Result<()> {
    const KEYS: usize = 10_000;
    /// What a socket takes at once.
    const WINDOW: u64 = 64 << 10;
    let cluster = TestCluster::start(3, 0)?;
    for protocol in PROTOCOLS {
        let client = Client::connect(options(&cluster.urls(), protocol)).await?;
        let keys: Vec<String> = (0..KEYS).map(|number| format!("key:{number}")).collect();
        let mut mset = words("MSET");
        let mut mget = words("MGET");
        for (number, key) in keys.iter().enumerate() {
            mset.extend([key.clone().into_bytes(), number.to_string().into_bytes()]);
            mget.push(key.clone().into_bytes());
        }
        // The first key again at the end, and one that is not there.
        mget.extend([keys[0].clone().into_bytes(), b"none".to_vec()]);
        ensure!(client.execute(&mset).await?.as_str() == Some("OK"), "MSET");
        let before = client.counters().await?;
        let reply = client.execute(&mget).await?;
        let after = client.counters().await?;

        let values: Vec<_> = reply.children().map(|value| value.as_str().map(str::to_owned)).collect();
        ensure!(values.len() == KEYS + 2, "{} values", values.len());
        let right =
            values.iter().take(KEYS).enumerate().all(|(number, value)| *value == Some(number.to_string()));
        ensure!(right && values[KEYS].as_deref() == Some("0") && values[KEYS + 1].is_none(), "in order");
        let more = |name: &str| count(&after, name) - count(&before, name);
        let (writes, bytes) = (more("socket-writes"), more("bytes-out"));
        println!(
            "{protocol:?}: MGET of {KEYS} keys: {} commands, {writes} writes of {bytes} bytes",
            more("commands")
        );
        // Each node's last window is begun.
        ensure!(
            more("flushes") == 3 && writes <= bytes.div_ceil(WINDOW) + 2,
            "{writes} writes of {bytes} bytes"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn execute_on_reaches_the_nodes_of_the_route() -> Result<()> {
    let cluster = TestCluster::start(3, 1)?;
    let client = Client::connect(options(&cluster.urls(), RespVersion::Resp3)).await?;
    for number in 0..300 {
        client.execute(["SET", &format!("key:{number}"), "value"]).await?;
    }
    let ask = async |route| client.execute_on(route, ["DBSIZE"]).await;
    let mut sum = 0;
    let of_primaries = ask(Route::AllPrimaries).await?;
    for (_, size) in &of_primaries {
        sum += size.as_ref().map_err(Clone::clone)?.as_integer().context("a number")?;
    }
    ensure!((of_primaries.len(), sum) == (3, 300), "{of_primaries:?}");
    ensure!(ask(Route::AllReplicas).await?.len() == 3 && ask(Route::AllNodes).await?.len() == 6, "all nodes");

    let owner = client.node_for_key(b"key:7").await?;
    let slot = client.keyslot(b"key:7").await?;
    let answers = client.execute_on(Route::Slot(slot), ["GET", "key:7"]).await?;
    ensure!(answers.len() == 1 && answers[0].0 == owner, "{answers:?}");
    ensure!(answers[0].1.as_ref().is_ok_and(|reply| reply.as_str() == Some("value")), "{answers:?}");
    let other = cluster.addresses().into_iter().find(|address| *address != owner).context("another node")?;
    let answers = client.execute_on(Route::Node(other.clone()), ["GET", "key:7"]).await?;
    let moved = matches!(&answers[..], [(node, Err(Error::Server(error)))] if *node == other && error.code == "MOVED");
    ensure!(moved, "{answers:?}");
    let answers = client.execute_on(Route::AllPrimaries, ["SUBSCRIBE", "x"]).await?;
    ensure!(
        answers.iter().all(|(_, answer)| matches!(answer, Err(Error::InvalidArgument(_)))),
        "{answers:?}"
    );
    for route in [Route::Slot(16_384), Route::Node("nowhere".to_owned())] {
        let error = ask(route).await;
        ensure!(matches!(error, Err(Error::InvalidArgument(_))), "{error:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn when_parts_fail_the_error_says_which() -> Result<()> {
    for protocol in PROTOCOLS {
        let cluster = TestCluster::start(3, 0)?;
        let options = options(&cluster.urls(), protocol).request_timeout(Duration::from_secs(1));
        let client = Client::connect(options).await?;
        let keys: Vec<String> = (0..60).map(|number| format!("key:{number}")).collect();
        let command = |name: &str| [name.to_owned()].into_iter().chain(keys.clone());
        let mset = words("MSET")
            .into_iter()
            .chain(keys.iter().flat_map(|key| [key.clone().into_bytes(), b"1".to_vec()]));
        client.execute(mset).await?;
        ensure!(client.execute(command("EXISTS")).await?.as_integer() == Some(60), "all are there");

        let stopped = cluster.node_of_slot(client.keyslot(keys[0].as_bytes()).await?)?;
        let address = cluster.addresses()[stopped].clone();
        cluster.pause(stopped)?;
        let outcome = async {
            let error = client.execute(command("MGET")).await;
            let named = |error: &Error| error.to_string().contains("parts succeeded; failed: \"key:0\"");
            ensure!(matches!(&error, Err(error) if named(error)), "{error:?}");
            let error = client.execute(command("DEL")).await;
            ensure!(matches!(&error, Err(error) if named(error) && error.possibly_executed()), "{error:?}");
            let error = client.execute(["DBSIZE"]).await;
            ensure!(matches!(&error, Err(error) if error.to_string().contains(&address)), "{error:?}");
            Ok(())
        };
        let outcome = outcome.await;
        cluster.resume(stopped)?;
        outcome?;
        cluster.wait_until_agreed()?;
        // The other parts were executed.
        let left = client.execute(command("EXISTS")).await?;
        ensure!(left.as_integer().is_some_and(|left| left < 60), "{left:?}");

        // One key's part is refused: the others are executed, which no server's error would tell.
        client.execute(["ACL", "SETUSER", "default", "resetkeys", "~key:[1-9]*"]).await?;
        let error = client.execute(command("DEL")).await;
        let told = matches!(&error, Err(Error::PartlyExecuted(lost))
            if lost.possibly_executed && lost.message.contains("NOPERM") && lost.message.contains("failed: \"key:0\""));
        client.execute(["ACL", "SETUSER", "default", "allkeys"]).await?;
        ensure!(told, "{error:?}");
        let left = client.execute(command("EXISTS")).await?;
        ensure!(left.as_integer().is_some_and(|left| left <= 1), "{left:?}");
    }
    Ok(())
}
