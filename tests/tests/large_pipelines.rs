//! Pipelines that are much larger than what the component may hold: a hundred thousand commands,
//! and 256 MiB there and back. The component's memory stays small, and is printed. And of a
//! pipeline in which a command is redirected by MOVED, one by ASK, one refused and one late, all
//! other results are there.

use std::time::Duration;

use anyhow::{Result, ensure};
use keyslot::{Client, Error, Limit, RespVersion};
use keyslot_core::slot::Slot;
use keyslot_testcluster::TestCluster;
use keyslot_tests::{PROTOCOLS, count, options, words};

const MEBIBYTE: u64 = 1 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_commands_take_little_memory() -> Result<()> {
    const COMMANDS: usize = 100_000;
    let cluster = TestCluster::start(3, 0)?;
    for protocol in PROTOCOLS {
        let client =
            Client::connect(options(&cluster.urls(), protocol).request_timeout(Duration::from_secs(60)))
                .await?;
        let commands = (0..COMMANDS).map(|number| words(&format!("INCRBY key:{number} {number}"))).collect();
        for (number, result) in client.pipeline(commands).await.into_iter().enumerate() {
            let reply = result?;
            let right = reply.as_integer().is_some_and(|value| number == 0 || value % number as i64 == 0);
            ensure!(right, "command {number} got {reply:?}");
        }
        let memory = client.memory().await?;
        println!("{protocol:?}: {COMMANDS} commands, the component has {} KiB", memory >> 10);
        ensure!(memory < 64 * MEBIBYTE, "the component has {memory} bytes");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quarter_of_a_gibibyte_flows_there_and_back() -> Result<()> {
    const VALUES: usize = 256;
    let cluster = TestCluster::start(3, 0)?;
    let options = options(&cluster.urls(), RespVersion::Resp3)
        .limit(Limit::ReplySize, 300 * MEBIBYTE)
        .request_timeout(Duration::from_secs(60));
    let client = Client::connect(options).await?;
    let value = |number: usize| vec![number as u8; MEBIBYTE as usize];
    let key = |number: usize| format!("large:{number}").into_bytes();
    let sets = (0..VALUES).map(|number| vec![b"SET".to_vec(), key(number), value(number)]).collect();
    for result in client.pipeline(sets).await {
        result?;
    }
    let written = client.memory().await?;
    let gets = (0..VALUES).map(|number| vec![b"GET".to_vec(), key(number)]).collect();
    for (number, result) in client.pipeline(gets).await.into_iter().enumerate() {
        ensure!(result?.into_bytes().as_deref() == Some(&value(number)), "value {number} is another");
    }
    let read = client.memory().await?;
    println!(
        "256 MiB: the component has {} MiB after the writes, {} after the reads",
        written >> 20,
        read >> 20
    );
    ensure!(written < 64 * MEBIBYTE, "the component has {written} bytes after the writes");
    ensure!(read < 192 * MEBIBYTE, "the component has {read} bytes after the reads");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_becomes_of_four_commands_leaves_the_others() -> Result<()> {
    const COMMANDS: usize = 20_000;
    for protocol in PROTOCOLS {
        let cluster = TestCluster::start(3, 0)?;
        let options = options(&cluster.urls(), protocol).request_timeout(Duration::from_secs(3));
        let client = Client::connect(options).await?;
        for key in ["moved", "asked", "text"] {
            client.execute(["SET", key, "abc"]).await?;
        }
        let elsewhere = |slot: u16| -> Result<(usize, usize)> {
            let from = cluster.node_of_slot(slot)?;
            Ok((from, (from + 1) % cluster.nodes().len()))
        };
        let slot = |key: &str| Slot::of_key(key.as_bytes()).number();
        cluster.migrate_slot(slot("moved"), elsewhere(slot("moved"))?.1)?;
        let (from, to) = elsewhere(slot("asked"))?;
        cluster.start_slot_migration(slot("asked"), from, to)?;
        while cluster.migrate_keys(slot("asked"), 1)? > 0 {}

        let mut commands: Vec<_> = (0..COMMANDS).map(|number| words(&format!("ECHO {number}"))).collect();
        commands[1_000] = words("GET moved");
        commands[2_000] = words("GET asked");
        commands[3_000] = words("INCR text");
        // What comes after it on its connection would wait for it.
        let script = "local from = redis.call('TIME')[1]; while redis.call('TIME')[1] - from < 6 do end";
        commands.push(["EVAL", script, "1", "busy"].map(|word| word.as_bytes().to_vec()).to_vec());
        let before = client.counters().await?;
        let results = client.pipeline(commands).await;
        let after = client.counters().await?;
        for (number, result) in results.iter().enumerate() {
            let right = match (number, result) {
                (1_000 | 2_000, Ok(reply)) => reply.as_str() == Some("abc"),
                (3_000, Err(Error::Server(error))) => error.code == "ERR",
                (COMMANDS, Err(Error::Timeout(late))) => late.possibly_executed,
                (_, Ok(reply)) => reply.as_str() == Some(&number.to_string()),
                (_, Err(_)) => false,
            };
            ensure!(right, "{protocol:?}: command {number} is {result:?}");
        }
        for name in ["moved", "ask"] {
            ensure!(count(&after, name) > count(&before, name), "{protocol:?}: no {name}");
        }
    }
    Ok(())
}
