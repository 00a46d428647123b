//! EVALSHA of a script that the client knows works everywhere: at nodes that have never seen it,
//! after SCRIPT FLUSH and after a failover; alone, in pipelines and in transactions. Under both
//! protocols.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use keyslot::{Client, Error, Reply, RespVersion};
use keyslot_core::slot::Slot;
use keyslot_testcluster::TestCluster;
use keyslot_tests::{PROTOCOLS, options, wait_until};

const SOURCE: &str = "return redis.call('INCRBY', KEYS[1], ARGV[1])";
/// Enough for each of three primaries.
const KEYS: usize = 30;

#[tokio::test(flavor = "multi_thread")]
async fn a_script_works_at_every_node() -> Result<()> {
    for protocol in PROTOCOLS {
        run(protocol).await.with_context(|| format!("{protocol:?}"))?;
    }
    Ok(())
}

/// What ends a script does not wait behind it.
#[tokio::test(flavor = "multi_thread")]
async fn a_script_that_runs_for_ever_is_killed() -> Result<()> {
    let cluster = TestCluster::start(3, 0)?;
    for node in 0..cluster.nodes().len() {
        cluster.configure(node, "lua-time-limit", "50")?;
    }
    for protocol in PROTOCOLS {
        let given = options(&cluster.urls(), protocol).request_timeout(Duration::from_secs(20));
        let client = Client::connect(given).await?;
        for kill in ["SCRIPT KILL", "FUNCTION STATS, SCRIPT KILL"] {
            let script = client.execute(["EVAL", "while true do end", "1", "key"]);
            let read = client.execute(["GET", "key"]);
            let kills = async {
                tokio::time::sleep(Duration::from_millis(300)).await;
                let started = Instant::now();
                for command in kill.split(", ") {
                    match client.execute(command.split(' ')).await {
                        // Redis 7 answers so at once while a script runs that is no function.
                        Err(Error::Server(error)) if command == "FUNCTION STATS" => {
                            ensure!(error.code == "BUSY", "{error}");
                        }
                        answer => drop(answer.context(command)?),
                    }
                }
                anyhow::Ok(started.elapsed())
            };
            let (script, read, took) = tokio::join!(script, read, kills);
            let took = took?;
            ensure!(took < Duration::from_secs(3), "{kill} took {took:?}");
            let killed = matches!(&script, Err(Error::Server(error)) if error.message.contains("killed"));
            ensure!(killed, "the script: {script:?}");
            ensure!(read?.is_null(), "what was behind it is served");
        }
    }
    Ok(())
}

async fn run(protocol: RespVersion) -> Result<()> {
    let cluster = TestCluster::start(3, 1)?;
    let client = Client::connect(options(&cluster.urls(), protocol)).await?;
    let script = client.script(SOURCE).await?;
    let known = client.execute(["SCRIPT", "LOAD", SOURCE]).await?;
    ensure!(known.as_str() == Some(script.sha1()), "{known:?} and {}", script.sha1());
    client.execute(["SCRIPT", "FLUSH"]).await?;
    let keys: Vec<_> = (0..KEYS).map(|number| format!("key:{number}")).collect();
    let mut sum = 0;
    let is = |reply: &Result<Reply, Error>, sum: i64| match reply {
        Ok(reply) if reply.as_integer() == Some(sum) => Ok(()),
        other => Err(anyhow::anyhow!("{other:?} instead of {sum}")),
    };
    for round in ["nobody knows it", "all know it", "all have forgotten it"] {
        let step = async {
            for key in &keys {
                is(&client.execute(script.command([key], ["1"])).await, sum + 1)?;
            }
            if round == "all have forgotten it" {
                client.execute(["SCRIPT", "FLUSH"]).await?;
            }
            // Twice each: behind the first, in order.
            let twice = keys.iter().flat_map(|key| [key, key]).map(|key| script.command([key], ["1"]));
            let replies = client.pipeline(twice.collect()).await;
            for (index, reply) in replies.iter().enumerate() {
                is(reply, sum + 2 + i64::try_from(index % 2)?)?;
            }
            if round == "all have forgotten it" {
                client.execute(["SCRIPT", "FLUSH"]).await?;
            }
            for key in &keys {
                let commands = vec![script.command([key], ["1"]), script.command([key], ["1"])];
                let results = client.transaction(commands).await?;
                is(&results[0], sum + 4)?;
                is(&results[1], sum + 5)?;
            }
            anyhow::Ok(())
        };
        step.await.context(round)?;
        sum += 5;
    }
    // On a connection of one's own, too.
    client.execute(["SCRIPT", "FLUSH"]).await?;
    let lent = client.lend(Some(keys[0].as_bytes())).await?;
    is(&lent.execute(script.command([&keys[0]], ["0"])).await, sum)?;

    let node = cluster.node_of_slot(Slot::of_key(keys[0].as_bytes()).number())?;
    cluster.kill(node)?;
    // It may have been executed by the node that died: zero is added.
    let command = script.command([&keys[0]], ["0"]);
    wait_until("the script runs at the new primary", Duration::from_secs(30), async || {
        let reply = client.execute(&command).await?;
        ensure!(reply.as_integer() == Some(sum), "{reply:?}");
        Ok(true)
    })
    .await?;

    // Once it is dropped, the servers' word counts.
    client.execute(["SCRIPT", "FLUSH"]).await?;
    drop(script);
    wait_until("the script is forgotten", Duration::from_secs(5), async || {
        client.execute(["SCRIPT", "FLUSH"]).await?;
        let outcome = client.execute(&command).await;
        Ok(matches!(outcome, Err(Error::Server(error)) if error.code == "NOSCRIPT"))
    })
    .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_several_slots_are_refused() -> Result<()> {
    let cluster = TestCluster::start(3, 0)?;
    let client = Client::connect(options(&cluster.urls(), RespVersion::Auto)).await?;
    let script = client.script(SOURCE).await?;
    let outcome = client.execute(script.command(["a", "b"], ["1"])).await;
    ensure!(matches!(outcome, Err(Error::CrossSlot(_))), "{outcome:?}");
    let outcome = client.execute(["EVAL", SOURCE, "2", "a", "b", "1"]).await;
    ensure!(matches!(outcome, Err(Error::CrossSlot(_))), "{outcome:?}");
    client
        .execute([
            "FUNCTION",
            "LOAD",
            "#!lua name=lib\nredis.register_function('f', function(k, a) return k[1] end)",
        ])
        .await?;
    let reply = client.execute(["FCALL", "f", "1", "some-key"]).await?;
    ensure!(reply.as_str() == Some("some-key"), "{reply:?}");
    let outcome = client.execute(["FCALL", "f", "2", "a", "b"]).await;
    ensure!(matches!(outcome, Err(Error::CrossSlot(_))), "{outcome:?}");
    Ok(())
}

/// The first that runs it carries its text, so that none has to be sent again behind the others.
#[tokio::test(flavor = "multi_thread")]
async fn a_script_that_no_node_knows_keeps_its_place() -> Result<()> {
    for protocol in PROTOCOLS {
        let cluster = TestCluster::start(3, 0)?;
        let client = Client::connect(options(&cluster.urls(), protocol)).await?;
        let script = client.script("return redis.call('SET', KEYS[1], ARGV[1])").await?;
        for number in 0..10 {
            let key = format!("key:{number}");
            let set = ["SET", &key, "second"].map(|word| word.as_bytes().to_vec()).to_vec();
            let replies = client.pipeline(vec![script.command([&key], ["first"]), set]).await;
            ensure!(replies.iter().all(Result::is_ok), "{replies:?}");
            ensure!(client.execute(["GET", &key]).await?.as_str() == Some("second"));
            client.execute(["SCRIPT", "FLUSH"]).await?;
        }
        ensure!(
            client.counters().await?.iter().all(|counter| counter.name != "retries" || counter.value == 0)
        );
    }
    Ok(())
}
