//! Transactions run as a whole or not at all, once, also while their slots move and primaries
//! change; WATCH finds out that somebody else has written.
//!
//! Counters tell: each transaction adds one to two keys, and a lost, doubled or half-done one shows
//! in them. Under both protocols.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use keyslot::{Client, Error, RespVersion};
use keyslot_core::slot::Slot;
use keyslot_testcluster::TestCluster;
use keyslot_tests::{PROTOCOLS, count, options, wait_until, words};

const INCREMENTS: usize = 1_000;

async fn number(client: &Client, key: &str) -> Result<i64> {
    let reply = client.execute(["GET", key]).await?;
    Ok(reply.as_str().unwrap_or("0").parse()?)
}

/// Adds one by WATCH, GET, MULTI, SET and EXEC, as often as it takes. Returns how often it began
/// again.
async fn increment(client: &Client, key: &str) -> Result<usize> {
    for retries in 0..10_000 {
        let attempt = async {
            let mut watched = client.watch([key]).await?;
            let value = watched.execute(["GET", key]).await?;
            let value: i64 = value.as_str().unwrap_or("0").parse().unwrap_or(0);
            watched.queue(["SET", key, &(value + 1).to_string()]);
            watched.exec().await
        };
        match attempt.await {
            Ok(Some(results)) => {
                ensure!(
                    results.len() == 1 && results[0].as_ref().is_ok_and(|reply| reply.as_str() == Some("OK"))
                );
                return Ok(retries);
            }
            Ok(None) => {}
            Err(Error::Server(error))
                if ["MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN"].contains(&&*error.code) => {}
            Err(error) => return Err(error).context("an increment failed for no reason of a move's"),
        }
    }
    bail!("10,000 attempts were not enough")
}

#[tokio::test(flavor = "multi_thread")]
async fn without_commands_it_is_told_whether_a_watched_key_has_changed() -> Result<()> {
    for protocol in PROTOCOLS {
        let cluster = TestCluster::start(3, 0)?;
        let client = Client::connect(options(&cluster.urls(), protocol)).await?;
        for has_changed in [false, true] {
            let mut watched = client.watch(["key"]).await?;
            watched.execute(["GET", "key"]).await?;
            if has_changed {
                client.execute(["SET", "key", "other"]).await?;
            }
            let results = watched.exec().await?;
            ensure!(results.is_none() == has_changed, "{has_changed}: {results:?}");
            ensure!(results.is_none_or(|results| results.is_empty()), "there was nothing to do");
        }
        ensure!(client.transaction(Vec::new()).await?.is_empty(), "no commands, no results");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_clients_increment_one_counter_by_watch() -> Result<()> {
    for protocol in PROTOCOLS {
        let cluster = Arc::new(TestCluster::start(3, 0)?);
        for moves in [0, 10] {
            let key = format!("counter-{moves}");
            let mover = {
                let (cluster, slot) = (Arc::clone(&cluster), Slot::of_key(key.as_bytes()).number());
                tokio::task::spawn_blocking(move || -> Result<()> {
                    for _ in 0..moves {
                        let from = cluster.node_of_slot(slot)?;
                        cluster.migrate_slot(slot, (from + 1) % 3)?;
                        std::thread::sleep(Duration::from_millis(50));
                    }
                    Ok(())
                })
            };
            let callers: Vec<_> = (0..2)
                .map(|_| {
                    let (urls, key) = (cluster.urls(), key.clone());
                    tokio::spawn(async move {
                        let client = Client::connect(options(&urls, protocol)).await?;
                        let mut retries = 0;
                        for _ in 0..INCREMENTS {
                            retries += increment(&client, &key).await?;
                        }
                        anyhow::Ok(retries)
                    })
                })
                .collect();
            let mut retries = 0;
            for caller in callers {
                retries += caller.await??;
            }
            mover.await??;
            let client = Client::connect(options(&cluster.urls(), protocol)).await?;
            let value = number(&client, &key).await?;
            println!("{protocol:?}, {moves} moves: {value}, begun again {retries} times");
            ensure!(value == 2 * i64::try_from(INCREMENTS)?, "{value}");
            ensure!(retries > 0, "nobody was in the other's way");
        }
    }
    Ok(())
}

/// Adds one to two keys in one transaction. True when it was executed; false when it may have been,
/// or was not.
async fn count_both(client: &Client, tag: &str) -> Result<bool, Error> {
    let commands = [format!("INCR {{{tag}}}:a"), "PING".to_owned(), format!("INCR {{{tag}}}:b")];
    let results = client.transaction(commands.iter().map(|line| words(line)).collect()).await?;
    assert_eq!(results.len(), 3);
    let both = [&results[0], &results[2]].map(|result| result.as_ref().expect("INCR counts").as_integer());
    assert_eq!(both[0], both[1], "both were counted together");
    Ok(true)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_of_transactions_alone_recovers_from_moves_and_a_failover() -> Result<()> {
    for protocol in PROTOCOLS {
        recovers(protocol).await.with_context(|| format!("{protocol:?}"))?;
    }
    Ok(())
}

async fn recovers(protocol: RespVersion) -> Result<()> {
    let cluster = TestCluster::start(3, 1)?;
    let client = Client::connect(options(&cluster.urls(), protocol)).await?;
    let slot = Slot::of_key(b"tag").number();
    let (mut acknowledged, mut in_doubt) = (0i64, 0i64);
    let mut tally = |outcome: Result<bool, Error>| match outcome {
        Ok(_) => {
            acknowledged += 1;
            true
        }
        Err(error) => {
            in_doubt += i64::from(error.possibly_executed());
            false
        }
    };
    ensure!(tally(count_both(&client, "tag").await));
    let from = cluster.node_of_slot(slot)?;
    let to = cluster.primaries()?.into_iter().find(|node| *node != from).context("another primary")?;
    // While the keys are on their way, when one is here and one is there, and when all are there.
    cluster.start_slot_migration(slot, from, to)?;
    ensure!(tally(count_both(&client, "tag").await));
    cluster.migrate_keys(slot, 1)?;
    let (during, moved) = tokio::join!(count_both(&client, "tag"), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        while cluster.migrate_keys(slot, 1)? > 0 {}
        anyhow::Ok(())
    });
    moved?;
    ensure!(tally(during), "a transaction waits for its second key");
    ensure!(tally(count_both(&client, "tag").await), "it follows an ASK");
    cluster.finish_slot_migration(slot)?;
    ensure!(tally(count_both(&client, "tag").await), "it follows a MOVED");
    let counters = client.counters().await?;
    ensure!(count(&counters, "ask") > 0 && count(&counters, "moved") > 0);

    cluster.kill(to)?;
    let recovery =
        wait_until("a transaction succeeds after the failover", Duration::from_secs(30), async || {
            Ok(tally(count_both(&client, "tag").await))
        });
    println!("{protocol:?}: transactions again {:?} after the kill", recovery.await?);
    let (a, b) = (number(&client, "{tag}:a").await?, number(&client, "{tag}:b").await?);
    ensure!(a == b, "{a} and {b} were counted together");
    ensure!((acknowledged..=acknowledged + in_doubt).contains(&a), "{a}; {acknowledged} and {in_doubt}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_say_what_has_become_of_the_transaction() -> Result<()> {
    for protocol in PROTOCOLS {
        let cluster = TestCluster::start(3, 0)?;
        let client = Client::connect(options(&cluster.urls(), protocol)).await?;
        let run = |lines: &[&str]| client.transaction(lines.iter().map(|line| words(line)).collect());

        ensure!(run(&[]).await?.is_empty(), "there was nothing to do");
        ensure!(matches!(run(&["SET a 1", "SUBSCRIBE x"]).await, Err(Error::InvalidArgument(_))));
        ensure!(matches!(run(&["SET a 1", "SET b 1"]).await, Err(Error::CrossSlot(_))));
        ensure!(matches!(run(&["MGET a b"]).await, Err(Error::CrossSlot(_))));
        match run(&["SET {t}a 1", "NOSUCH {t}a", "SET {t}a"]).await {
            Err(Error::Server(error)) if error.code == "EXECABORT" => {
                ensure!(error.message.contains("command 2: ERR unknown command"), "{error:?}");
                ensure!(error.message.contains("command 3: ERR wrong number of arguments"), "{error:?}");
            }
            other => bail!("{other:?}"),
        }
        ensure!(client.execute(["GET", "{t}a"]).await?.is_null(), "nothing was executed");

        let results = run(&["SET {t}a x", "INCR {t}a", "STRLEN {t}a"]).await?;
        ensure!(matches!(&results[1], Err(Error::Server(error)) if error.code == "ERR"), "{results:?}");
        ensure!(results[2].as_ref().is_ok_and(|reply| reply.as_integer() == Some(1)), "{results:?}");

        // What others would do to a connection that all share.
        let many: Vec<_> = (0..50).map(|_| run(&["INCR {t}n", "INCR {t}n"])).collect();
        let plain: Vec<_> = (0..50).map(|_| client.execute(["INCR", "{t}n"])).collect();
        let (many, plain) = tokio::join!(all(many), all(plain));
        for results in many {
            let values: Vec<_> = results?
                .into_iter()
                .map(|result| result.map(|reply| reply.as_integer()))
                .collect::<Result<_, _>>()?;
            ensure!(values[1] == values[0].map(|first| first + 1), "{values:?}");
        }
        ensure!(plain.iter().all(Result::is_ok));
        ensure!(number(&client, "{t}n").await? == 150);
    }
    Ok(())
}

async fn all<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut outputs = Vec::new();
    for future in futures {
        outputs.push(future.await);
    }
    outputs
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_watched_is_forgotten_in_the_end() -> Result<()> {
    for protocol in PROTOCOLS {
        let cluster = TestCluster::start(3, 0)?;
        let client = Client::connect(options(&cluster.urls(), protocol)).await?;
        ensure!(matches!(client.watch(["a", "b"]).await, Err(Error::CrossSlot(_))));
        ensure!(matches!(client.watch([""; 0]).await, Err(Error::InvalidArgument(_))));

        let mut watched = client.watch(["{t}a"]).await?;
        watched.queue(["SET", "{t}b", "1"]);
        client.execute(["SET", "{t}a", "other"]).await?;
        ensure!(watched.exec().await?.is_none(), "somebody has written");
        watched.queue(["SET", "{t}b", "2"]);
        ensure!(watched.exec().await?.is_some(), "nothing is watched any more");

        let mut watched = client.watch(["{t}a"]).await?;
        watched.queue(["SET", "{t}b", "3"]);
        client.execute(["SET", "{t}a", "other"]).await?;
        watched.unwatch().await;
        ensure!(watched.exec().await?.is_some(), "nothing is watched any more");

        let mut watched = client.watch(["{t}a"]).await?;
        watched.queue(["SET", "elsewhere", "3"]);
        ensure!(matches!(watched.exec().await, Err(Error::CrossSlot(_))));
        watched.queue(["SET", "{t}b", "4"]);
        watched.discard().await;
        let results = watched.exec().await?;
        ensure!(results.is_some_and(|results| results.is_empty()), "nothing is queued any more");
        drop(client.watch(["{t}a"]).await?);
        ensure!(client.execute(["GET", "{t}b"]).await?.as_str() == Some("3"));
    }
    Ok(())
}
