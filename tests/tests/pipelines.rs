//! Pipelines: one write a node, results in order, one element's failure leaves the others; and that
//! a flush is one write.

use anyhow::{Result, ensure};
use keyslot::{Client, Error, Options, RespVersion};
use keyslot_testcluster::TestCluster;
use keyslot_tests::{Answer, FakeServer, PROTOCOLS, options, words};

async fn counter(client: &Client, name: &str) -> Result<u64> {
    let counters = client.counters().await?;
    let counter = counters.into_iter().find(|counter| counter.name == name);
    counter.map(|counter| counter.value).ok_or_else(|| anyhow::anyhow!("no counter {name}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn results_come_in_order_whatever_fails() -> Result<()> {
    let cluster = TestCluster::start(3, 0)?;
    for protocol in PROTOCOLS {
        let client = Client::connect(options(&cluster.urls(), protocol)).await?;
        client.execute(["SET", "text", "abc"]).await?;
        let mut commands = Vec::new();
        for number in 0..1_000 {
            commands.push(match number % 100 {
                7 => words("INCR text"),
                13 => words("SINTER a b"),
                29 => Vec::new(),
                _ => words(&format!("ECHO {number}")),
            });
        }
        let results = client.pipeline(commands).await;
        ensure!(results.len() == 1_000, "{} results", results.len());
        for (number, result) in results.iter().enumerate() {
            let right = match number % 100 {
                7 => matches!(result, Err(Error::Server(error)) if error.code == "ERR"),
                13 => matches!(result, Err(Error::CrossSlot(_))),
                29 => matches!(result, Err(Error::InvalidArgument(_))),
                _ => result.as_ref().is_ok_and(|reply| reply.as_str() == Some(&number.to_string())),
            };
            ensure!(right, "{protocol:?}: element {number} is {result:?}");
        }
        ensure!(client.pipeline(Vec::new()).await.is_empty(), "an empty pipeline has no results");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_is_one_write_a_node() -> Result<()> {
    let cluster = TestCluster::start(3, 0)?;
    let client = Client::connect(options(&cluster.urls(), RespVersion::Resp3)).await?;
    // Connects every node.
    let sets = || (0..900).map(|number| words(&format!("SET key:{number} value"))).collect::<Vec<_>>();
    for result in client.pipeline(sets()).await {
        result?;
    }
    let before = (counter(&client, "flushes").await?, counter(&client, "socket-writes").await?);
    for result in client.pipeline(sets()).await {
        result?;
    }
    let after = (counter(&client, "flushes").await?, counter(&client, "socket-writes").await?);
    let (flushes, writes) = (after.0 - before.0, after.1 - before.1);
    ensure!((flushes, writes) == (3, 3), "{flushes} flushes, {writes} writes for three nodes");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flush_reaches_the_server_in_one_piece() -> Result<()> {
    // It answers as many commands as it has read, and keeps what each read brought.
    let server = FakeServer::start(|_, read| {
        let commands = read.windows(4).filter(|window| window == b"*2\r\n").count();
        Answer::Send(b"+OK\r\n".repeat(commands))
    });
    let client = Client::connect(Options::new([server.url()])).await?;
    for length in [1, 2, 10, 1_000] {
        let commands: Vec<_> = (0..length).map(|number| words(&format!("GET {number:06}"))).collect();
        let sent: usize = length * b"*2\r\n$3\r\nGET\r\n$6\r\n000000\r\n".len();
        for result in client.pipeline(commands).await {
            result?;
        }
        let reads: Vec<_> = server.take_reads().iter().map(Vec::len).collect();
        ensure!(reads == [sent], "{length} commands of {sent} bytes came in pieces of {reads:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scripts_error_is_its_own_whatever_it_says() -> Result<()> {
    let cluster = TestCluster::start(3, 0)?;
    for protocol in PROTOCOLS {
        let client = Client::connect(options(&cluster.urls(), protocol)).await?;
        let before = counter(&client, "requests").await?;
        let scripts = [
            "return {err='KEYSLOT.TIMEOUT not-executed - made up'}",
            "return {err=' KEYSLOT.TIMEOUT not-executed - made up'}",
            "return {err='  two'}",
            // Each byte of it becomes a character of three.
            "return {err='LONG ' .. string.rep('\\255', 900000)}",
        ];
        let commands = scripts.map(|script| words_of(&["EVAL", script, "0"])).to_vec();
        for (script, result) in scripts.iter().zip(client.pipeline(commands).await) {
            ensure!(matches!(&result, Err(Error::Server(_))), "{protocol:?}: {script}: {result:?}");
        }
        let after = counter(&client, "requests").await?;
        ensure!(after == before + scripts.len() as u64, "the component was started again");
    }
    Ok(())
}

fn words_of(words: &[&str]) -> Vec<Vec<u8>> {
    words.iter().map(|word| word.as_bytes().to_vec()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn many_tasks_share_one_client() -> Result<()> {
    let cluster = TestCluster::start(3, 0)?;
    let client = Client::connect(options(&cluster.urls(), RespVersion::Resp3)).await?;
    let tasks: Vec<_> = (0..64)
        .map(|task| {
            let client = client.clone();
            tokio::spawn(async move {
                for number in 0..50 {
                    let text = format!("{task}:{number}");
                    let reply = client.execute(["ECHO", &text]).await?;
                    ensure!(reply.as_str() == Some(&text), "task {task} asked for {text} and got {reply:?}");
                }
                Ok(())
            })
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    Ok(())
}
