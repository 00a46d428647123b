//! A lent connection is its borrower's alone, and comes back clean or not at all.
//!
//! Each test asks the server what it sees: which connections there are (CLIENT LIST, by the name
//! that the client gives them), in which state one is (CLIENT INFO, CLIENT ID on it), and what has
//! become of the keys. Under both protocols.

mod callers;
mod seen;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use keyslot::{Client, Error, PoolSetting, ReplyRef, RespVersion};
use keyslot_core::slot::Slot;
use keyslot_testcluster::{Connected, TestCluster, TestServer};
use keyslot_tests::{PROTOCOLS, options, wait_until, words};

use callers::{decrement, get, gets};
use seen::{NAME, blocked, connected, given, id, id_of, info, kill};

/// How soon the server must have seen what the client did, on a machine that does other things,
/// too.
const SOON: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_runs_unless_its_keys_have_changed() -> Result<()> {
    let cluster = TestCluster::start(3, 0)?;
    for protocol in PROTOCOLS {
        let client = Client::connect(options(&cluster.urls(), protocol)).await?;
        for number in 0..20 {
            let key = format!("stock:{protocol:?}:{number}");
            client.execute(["SET", &key, "7"]).await?;
            let connection = client.lend(Some(key.as_bytes())).await?;

            let outcome =
                decrement(&connection, &key, async || client.execute(["SET", &key, "5"]).await.map(drop));
            ensure!(outcome.await?.is_none(), "{key} changed between WATCH and EXEC, which ran all the same");
            ensure!(
                get(&client, &key).await?.as_deref() == Some("5"),
                "{key} was written by the transaction"
            );

            let outcome = decrement(&connection, &key, async || Ok(())).await?;
            ensure!(outcome.as_deref() == Some("OK"), "EXEC was answered with {outcome:?}");
            ensure!(get(&client, &key).await?.as_deref() == Some("4"), "{key} was not written");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_borrower_leaves_open_is_undone() -> Result<()> {
    let server = TestServer::start()?;
    for protocol in PROTOCOLS {
        // One connection: the next borrower has the same, or waits until it is clean.
        let client = Client::connect(given(&server, protocol).pool(PoolSetting::MaxConnections, 1)).await?;
        let mut number = 0;
        for left in
            [&["WATCH k"][..], &["MULTI"], &["MULTI", "INCR queued"], &["WATCH k", "MULTI", "INCR queued"]]
        {
            for _ in 0..25 {
                number += 1;
                let connection = client.lend(None).await?;
                let before = id(&connection).await?;
                for line in left {
                    connection.execute(words(line)).await.with_context(|| format!("{left:?}"))?;
                }
                drop(connection);
                // Whoever still watches `k` cannot run a transaction now.
                client.execute(["SET", "k", &number.to_string()]).await?;

                let connection = client.lend(None).await?;
                let info = info(&connection).await?;
                ensure!(info.id() == before, "{left:?}: the connection was closed, not cleaned");
                let (multi, watch) = (info.field("multi"), info.field("watch"));
                ensure!(multi == "-1" && matches!(watch, "" | "0"), "{left:?}: multi={multi} watch={watch}");
                ensure!(info.field("db") == "0" && info.field("flags") == "N", "{left:?}: {info:?}");
                let results = connection.pipeline(vec![words("MULTI"), words("GET k"), words("EXEC")]).await;
                let exec = results[2].as_ref().map_err(Clone::clone)?;
                ensure!(!exec.is_null(), "{left:?}: the last borrower's WATCH stops this one's transaction");
            }
        }
        ensure!(get(&client, "queued").await?.is_none(), "a transaction that was given up has run");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_cannot_be_cleaned_is_closed() -> Result<()> {
    let server = TestServer::start()?;
    for protocol in PROTOCOLS {
        let client = Client::connect(given(&server, protocol).pool(PoolSetting::MaxConnections, 1)).await?;
        let mut kept = Vec::new();
        for spoil in [
            &["SELECT 5"][..],
            &["CLIENT TRACKING ON BCAST"],
            &["CLIENT TRACKING ON OPTIN", "CLIENT CACHING YES"],
            &["CLIENT NO-EVICT ON"],
            &["CLIENT SETNAME other"],
            &["AUTH default anything"],
            &["MULTI", "SELECT 5", "EXEC"],
        ] {
            // Under RESP2 invalidations need another connection to go to.
            if protocol == RespVersion::Resp2 && spoil[0].contains("TRACKING") {
                continue;
            }
            let connection = client.lend(None).await?;
            let before = id(&connection).await?;
            for line in spoil {
                connection.execute(words(line)).await.with_context(|| line.to_string())?;
            }
            drop(connection);
            let connection = client.lend(None).await?;
            let info = info(&connection).await?;
            let (db, name, flags) = (info.field("db"), info.name(), info.field("flags"));
            if info.id() == before || (db, name, flags) != ("0", NAME, "N") {
                kept.push(format!("{spoil:?}: db={db} name={name} flags={flags}"));
            }
        }
        ensure!(kept.is_empty(), "the next borrower has the same connection, or one as if: {kept:#?}");
        // What the client has sent itself on its shared connection stands.
        let info = client.execute(["CLIENT", "INFO"]).await?;
        ensure!(Connected::parse(info.as_str().context("text")?).field("db") == "0", "{info:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_after_which_replies_go_astray_are_refused() -> Result<()> {
    let server = TestServer::start()?;
    let client = Client::connect(given(&server, RespVersion::Resp3)).await?;
    let connection = client.lend(None).await?;
    let before = id(&connection).await?;
    for line in
        ["SUBSCRIBE c", "PSUBSCRIBE c", "MONITOR", "CLIENT REPLY OFF", "HELLO 2", "RESET", "QUIT", "SYNC"]
    {
        let refused = connection.execute(words(line)).await;
        ensure!(matches!(refused, Err(Error::InvalidArgument(_))), "{line}: {refused:?}");
    }
    ensure!(id(&connection).await? == before, "the connection is another");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_borrower_that_gives_up_takes_no_element() -> Result<()> {
    const ROUNDS: usize = 100;
    let server = TestServer::start()?;
    let client = Client::connect(given(&server, RespVersion::Resp3)).await?;
    let mut observer = server.connection()?;
    for round in 0..ROUNDS {
        let borrower = async {
            let connection = client.lend(None).await?;
            connection.execute(["BLPOP", "list", "0"]).await
        };
        let is_blocked =
            wait_until("the borrower is blocked", SOON, async || Ok(blocked(&server)?.len() == 1));
        tokio::select! {
            ended = borrower => bail!("BLPOP has ended: {ended:?}"),
            blocked = is_blocked => blocked.map(drop)?,
        }
        // Its future, and the connection in it, are dropped.
        let closed = async || Ok(blocked(&server)?.is_empty());
        wait_until("the connection is closed", SOON, closed)
            .await
            .with_context(|| format!("round {round}"))?;
        client.execute(["RPUSH", "list", "element"]).await?;
        let length = observer.integer(&["LLEN", "list"])?;
        ensure!(length == 1, "round {round}: a connection that nobody has took the element");
        observer.integer(&["DEL", "list"])?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn borrowers_beyond_the_bound_wait_and_then_are_told() -> Result<()> {
    const CHECKOUT: Duration = Duration::from_secs(1);
    let server = TestServer::start()?;
    for protocol in PROTOCOLS {
        let given = given(&server, protocol).pool(PoolSetting::MaxConnections, 2);
        let given = given.pool(PoolSetting::CheckoutTimeoutMs, CHECKOUT.as_millis() as u32);
        let client = Client::connect(given).await?;
        let (first, second) = (client.lend(None).await?, client.lend(None).await?);
        let ids = [id(&first).await?, id(&second).await?];

        let third = client.lend(None).await?;
        let started = Instant::now();
        let refused = {
            let client = client.clone();
            // Others do not wait: theirs are answered before this one is told.
            let others = tokio::spawn(async move { gets(&client, 20).await });
            let mut third_waits = std::pin::pin!(third.execute(["PING"]));
            tokio::select! {
                ended = &mut third_waits => bail!("told before other callers' GETs were answered: {ended:?}"),
                others = others => others??,
            };
            let refused = third_waits.await;
            first.execute(["PING"]).await.context("those who have one use it meanwhile")?;
            refused
        };
        let waited = started.elapsed();
        ensure!(matches!(refused, Err(Error::LimitExceeded(_))), "{refused:?}");
        ensure!(waited >= CHECKOUT.mul_f64(0.9) && waited < CHECKOUT * 3, "told after {waited:?}");
        // What it was told stays so, at once.
        let started = Instant::now();
        let again = third.execute(["PING"]).await;
        ensure!(matches!(again, Err(Error::LimitExceeded(_))), "{again:?}");
        ensure!(started.elapsed() < CHECKOUT / 2, "told again after {:?}", started.elapsed());
        drop(third);

        // One that waits when a connection comes back has it; first come, first served.
        let (fourth, fifth) = (client.lend(None).await?, client.lend(None).await?);
        let fifth = tokio::spawn(async move { id(&fifth).await.map(|id| (fifth, id)) });
        let (waiting, came_back) = tokio::join!(id(&fourth), async {
            tokio::time::sleep(CHECKOUT / 4).await;
            drop(first);
        });
        let () = came_back;
        ensure!(waiting? == ids[0], "the connection that came back is not the one lent");
        drop(fourth);
        let (_fifth, next) = fifth.await??;
        ensure!(next == ids[0], "the connection that came back again is not the one lent");
        ensure!(connected(&server)?.len() == 3, "two are lent, one is shared: {:?}", connected(&server)?);
        drop(second);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_used_again() -> Result<()> {
    let server = TestServer::start()?;
    for protocol in PROTOCOLS {
        let client = Client::connect(given(&server, protocol)).await?;
        let first = id(&client.lend(None).await?).await?;
        for round in 0..100 {
            let connection = client.lend(None).await?;
            ensure!(id(&connection).await? == first, "round {round}: another connection");
            connection.execute(["SET", "key", &round.to_string()]).await?;
        }
        // Lent and given back without a command in between.
        for _ in 0..100 {
            drop(client.lend(None).await?);
        }
        ensure!(id(&client.lend(None).await?).await? == first, "another connection");
        ensure!(connected(&server)?.len() == 2, "one is lent, one is shared: {:?}", connected(&server)?);
        client.close().await;
        wait_until("all are closed", SOON, async || Ok(connected(&server)?.is_empty())).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_are_closed_but_for_a_few() -> Result<()> {
    const MIN_IDLE: usize = 2;
    const IDLE: Duration = Duration::from_millis(300);
    let server = TestServer::start()?;
    for protocol in PROTOCOLS {
        let given = given(&server, protocol).pool(PoolSetting::MinIdle, MIN_IDLE as u32);
        let given = given.pool(PoolSetting::IdleTimeoutMs, IDLE.as_millis() as u32);
        let client = Client::connect(given).await?;
        // The client sees to its pool while it is used.
        let kept = async || {
            client.execute(["PING"]).await?;
            Ok(connected(&server)?.len() == 1 + MIN_IDLE)
        };
        wait_until("the idle ones are there from the start", SOON, kept).await?;

        let mut lent = Vec::new();
        for _ in 0..6 {
            let connection = client.lend(None).await?;
            connection.execute(["PING"]).await?;
            lent.push(connection);
        }
        ensure!(connected(&server)?.len() == 7, "six are lent, one is shared: {:?}", connected(&server)?);
        drop(lent);
        let took = wait_until("those beyond the few are closed", SOON, kept).await?;
        ensure!(took >= IDLE.mul_f64(0.8), "closed after {took:?}, although they were used a moment ago");

        let stays_until = Instant::now() + 4 * IDLE;
        while Instant::now() < stays_until {
            client.execute(["PING"]).await?;
            let now = connected(&server)?.len();
            ensure!(now == 1 + MIN_IDLE, "{now} connections, not {}", 1 + MIN_IDLE);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }

        // One that the server closes is replaced.
        let shared = id_of(client.execute(["CLIENT", "ID"]).await?.as_integer())?;
        let all = connected(&server)?;
        let idle = all.iter().find(|connected| connected.id() != shared).context("an idle one")?.id();
        ensure!(kill(&server, idle)? == 1, "{idle} is not there");
        let replaced = async || {
            client.execute(["PING"]).await?;
            let now = connected(&server)?;
            Ok(now.len() == 1 + MIN_IDLE && now.iter().all(|connected| connected.id() != idle))
        };
        wait_until("the one that was killed is replaced", SOON, replaced).await?;
        client.close().await;
        wait_until("all are closed", SOON, async || Ok(connected(&server)?.is_empty())).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_too_old_is_replaced_unnoticed() -> Result<()> {
    let server = TestServer::start()?;
    for protocol in PROTOCOLS {
        let client = Client::connect(given(&server, protocol).pool(PoolSetting::MaxLifetimeMs, 300)).await?;
        let first_lent = id(&client.lend(None).await?).await?;
        let first_shared = id_of(client.execute(["CLIENT", "ID"]).await?.as_integer())?;
        // Nothing fails while both are replaced.
        let replaced = async || {
            let lent = id(&client.lend(None).await?).await?;
            let shared = id_of(client.execute(["CLIENT", "ID"]).await?.as_integer())?;
            let now = connected(&server)?.len();
            ensure!(now <= 4, "{now} connections");
            Ok(lent != first_lent && shared != first_shared)
        };
        let mut failed = None;
        let replaced = async || match replaced().await {
            Err(error) => {
                failed = Some(error);
                Ok(true)
            }
            ended => ended,
        };
        wait_until("both are replaced", SOON, replaced).await?;
        if let Some(error) = failed {
            return Err(error.context("while connections were replaced"));
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_killed_fails_its_borrower_once() -> Result<()> {
    let server = TestServer::start()?;
    for protocol in PROTOCOLS {
        let client = Client::connect(given(&server, protocol).pool(PoolSetting::MaxConnections, 1)).await?;
        for round in 0..20 {
            let connection = client.lend(None).await?;
            let before = id(&connection).await?;
            ensure!(kill(&server, before)? == 1, "{before} is not there");
            let lost = connection.execute(["INCR", "count"]).await;
            ensure!(matches!(lost, Err(Error::ConnectionLost(_))), "round {round}: {lost:?}");
            let again = connection.execute(["INCR", "count"]).await;
            ensure!(matches!(again, Err(Error::ConnectionLost(_))), "it stays so: {again:?}");
            drop(connection);
            let connection = client.lend(None).await?;
            let next = id(&connection).await.with_context(|| format!("round {round}: the next borrower"))?;
            ensure!(next != before, "{next} was killed");
            drop(connection);

            // In the middle of a command that blocks.
            let connection = client.lend(None).await?;
            let blocked_id = id(&connection).await?;
            let (popped, killed) = tokio::join!(connection.execute(["BLPOP", "list", "0"]), async {
                wait_until("it is blocked", SOON, async || Ok(blocked(&server)?.len() == 1)).await?;
                kill(&server, blocked_id)
            });
            ensure!(killed? == 1, "{blocked_id} is not there");
            ensure!(
                matches!(&popped, Err(Error::ConnectionLost(lost)) if lost.possibly_executed),
                "round {round}: {popped:?}"
            );
            drop(connection);
        }
        ensure!(get(&client, "count").await?.is_none(), "a lost INCR has run");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_killed_while_idle_fails_nobody() -> Result<()> {
    let server = TestServer::start()?;
    for protocol in PROTOCOLS {
        let client = Client::connect(given(&server, protocol)).await?;
        for round in 0..20 {
            let connection = client.lend(None).await?;
            let idle = id(&connection).await?;
            drop(connection);
            // By now it is back in the pool.
            client.execute(["PING"]).await?;
            ensure!(kill(&server, idle)? == 1, "{idle} is not there");
            let gone = async || Ok(connected(&server)?.iter().all(|connected| connected.id() != idle));
            wait_until("it is gone", SOON, gone).await?;
            let connection = client.lend(None).await?;
            let next = id(&connection).await;
            ensure!(next.is_ok(), "round {round}: the connection had died in the pool: {next:?}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_borrower_that_blocks_delays_nobody() -> Result<()> {
    const CALLERS: usize = 10;
    const GETS: usize = 100;
    const SLOW: Duration = Duration::from_millis(250);
    let server = TestServer::start()?;
    for protocol in PROTOCOLS {
        let client = Client::connect(given(&server, protocol)).await?;
        // What as many GETs of a client without a borrower take at the same time.
        let other = Client::connect(given(&server, protocol).client_name("other")).await?;
        let connection = client.lend(None).await?;
        let popped = tokio::spawn(async move { connection.execute(["BLPOP", "list", "0"]).await });
        wait_until("it is blocked", SOON, async || Ok(blocked(&server)?.len() == 1)).await?;

        let started = Instant::now();
        let call = |client: &Client| {
            let client = client.clone();
            tokio::spawn(async move { gets(&client, GETS).await })
        };
        let callers: Vec<_> = (0..CALLERS).map(|_| (call(&client), call(&other))).collect();
        let (mut slowest, mut elsewhere) = (Duration::ZERO, Duration::ZERO);
        for (caller, of_other) in callers {
            slowest = slowest.max(caller.await??);
            elsewhere = elsewhere.max(of_other.await??);
        }
        println!(
            "{protocol:?}: {} GETs beside a BLPOP took {:?}, the slowest {slowest:?}, without it {elsewhere:?}",
            CALLERS * GETS,
            started.elapsed()
        );
        ensure!(slowest < SLOW + elsewhere, "a GET took {slowest:?}, without a borrower {elsewhere:?}");
        ensure!(blocked(&server)?.len() == 1, "BLPOP has ended");
        client.execute(["RPUSH", "list", "element"]).await?;
        let popped = popped.await??;
        let element = popped.children().nth(1).and_then(ReplyRef::as_str);
        ensure!(element == Some("element"), "{popped:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_borrower_whose_slot_moves_is_told() -> Result<()> {
    let cluster = TestCluster::start(2, 0)?;
    let client = Client::connect(options(&cluster.urls(), RespVersion::Resp3)).await?;
    let slot = Slot::of_key(b"moving").number();
    let from = cluster.node_of_slot(slot)?;
    client.execute(["SET", "moving", "value"]).await?;
    let connection = client.lend(Some(b"moving")).await?;
    connection.execute(["WATCH", "moving"]).await?;
    cluster.migrate_slot(slot, 1 - from)?;
    let told = connection.execute(["GET", "moving"]).await;
    ensure!(matches!(&told, Err(Error::Server(error)) if error.code == "MOVED"), "{told:?}");
    drop(connection);
    // The client's own requests follow the slot, and from then on borrowers do, too.
    ensure!(get(&client, "moving").await?.as_deref() == Some("value"), "the key has moved");
    let connection = client.lend(Some(b"moving")).await?;
    let reply = connection.execute(["GET", "moving"]).await.context("the next borrower")?;
    ensure!(reply.as_str() == Some("value"), "{reply:?}");
    Ok(())
}
