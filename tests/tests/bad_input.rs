//! Bad input of every kind ends in a clear error, and the next command works.
//!
//! Settings and addresses that cannot be used; arguments of every shape; servers that answer with
//! anything but a reply, or with none.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use keyslot::{
    Client, Error, Limit, Node, NodeHealth, Options, PoolSetting, ReplicaReads, Role, Shard, SlotRange,
};
use keyslot_testcluster::{TestCluster, TestServer};
use keyslot_tests::{Answer, FakeServer, PROTOCOLS, options};

async fn connect_error(options: Options) -> Error {
    match Client::connect(options).await {
        Ok(_) => panic!("it connected"),
        Err(error) => error,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_settings_are_quoted() -> Result<()> {
    for (url, part) in [
        ("http://127.0.0.1:1", "\"http\""),
        ("redis://127.0.0.1:port", "after \"127.0.0.1\""),
        ("redis://u:p@127.0.0.1:port", "\"port\""),
        ("redis://127.0.0.1:70000", "\"70000\""),
        ("redis://", "host is missing"),
        ("redis://u:hunter2@h:0", "\"0\""),
    ] {
        let error = connect_error(Options::new([url])).await;
        ensure!(matches!(&error, Error::InvalidArgument(text) if text.contains(part)), "{url}: {error:?}");
        ensure!(!error.to_string().contains("hunter2"), "{error}");
    }
    let none: [&str; 0] = [];
    for (options, part) in [
        (Options::new(none), "no URL"),
        (Options::new(["h"]).request_timeout(Duration::ZERO), "request-timeout"),
        (Options::new(["h"]).connect_timeout(Duration::ZERO), "connect-timeout"),
        (Options::new(["h"]).limit(Limit::Depth, 0), "depth"),
        (Options::new(["h"]).client_name("two words"), "client-name"),
        (Options::new(["h"]).username("u"), "without a password"),
    ] {
        let error = connect_error(options).await;
        ensure!(matches!(&error, Error::InvalidArgument(text) if text.contains(part)), "{part}: {error:?}");
    }
    let error = connect_error(Options::new(["rediss://127.0.0.1"])).await;
    ensure!(matches!(error, Error::Tls(_)), "{error:?}");
    Ok(())
}

/// A shard with these slots whose first node is this.
fn shard(first: u16, last: u16, address: &str, role: Role) -> Shard {
    let (id, address) = (String::new(), address.to_owned());
    let node = Node { id, address, role, health: NodeHealth::Unknown, availability_zone: None };
    Shard { slots: vec![SlotRange { first, last }], nodes: vec![node] }
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_cannot_be_or_do_not_go_together_are_named() -> Result<()> {
    let (zero, ms, second) = (Duration::ZERO, Duration::from_millis(1), Duration::from_secs(1));
    let set = || Options::new(["h"]);
    let primary = |first, last| shard(first, last, "h:1", Role::Primary);
    for (options, parts) in [
        (set().connect_timeout(zero), &["connect-timeout is 0"][..]),
        (set().request_timeout(zero), &["request-timeout is 0"]),
        (set().attempt_timeout(zero), &["attempt-timeout is 0"]),
        (set().refresh_interval(zero), &["refresh-interval is 0"]),
        (set().health_check(zero), &["health-check is 0"]),
        (set().retry_backoff(zero, second), &["the base of retry-backoff is 0"]),
        (set().reconnect_backoff(zero, second), &["the base of reconnect-backoff is 0"]),
        (set().retry_backoff(second, ms), &["retry-backoff", "base of 1s", "cap of 1ms"]),
        (set().reconnect_backoff(second, ms), &["reconnect-backoff", "base of 1s", "cap of 1ms"]),
        (set().retry_backoff(ms, zero), &["retry-backoff", "cap of 0ms"]),
        (
            set().request_timeout(second).attempt_timeout(2 * second),
            &["attempt-timeout of 2s", "request-timeout of 1s"],
        ),
        (set().pool(PoolSetting::MaxConnections, 0), &["pool-max-connections is 0"]),
        (set().pool(PoolSetting::IdleTimeoutMs, 0), &["pool-idle-timeout is 0"]),
        (set().pool(PoolSetting::MaxLifetimeMs, 0), &["pool-max-lifetime is 0"]),
        (set().pool(PoolSetting::CheckoutTimeoutMs, 0), &["pool-checkout-timeout is 0"]),
        (
            set().pool(PoolSetting::MinIdle, 3).pool(PoolSetting::MaxConnections, 2),
            &["min-idle of 3", "pool-max-connections of 2"],
        ),
        (set().limit(Limit::WaitingRequests, 0), &["limit-waiting-requests is 0"]),
        (set().limit(Limit::WaitingBytes, 0), &["limit-waiting-bytes is 0"]),
        (set().limit(Limit::Connections, 0), &["limit-connections is 0"]),
        (set().replica_reads(ReplicaReads::SameZone), &["same-zone", "availability-zone"]),
        (
            set().replica_reads(ReplicaReads::SameZone).availability_zone(""),
            &["same-zone", "availability-zone"],
        ),
        (set().map_address("", "h"), &["map-address", "\"\""]),
        (set().map_address("h", ""), &["map-address", "\"\""]),
        (set().map_address("h:port", "h"), &["map-address", "\"h:port\""]),
        (set().map_address("h:0", "h"), &["map-address", "\"h:0\""]),
        (set().map_address("redis://h:1", "h"), &["map-address", "\"redis://h:1\""]),
        (set().map_address("h:1", "a").map_address("h:1", "b"), &["map-address", "\"h:1\"", "twice"]),
        (set().topology(Vec::new()), &["set-topology", "no slot"]),
        (set().topology(vec![primary(0, 5), primary(5, 9)]), &["set-topology", "slot 5 twice"]),
        (set().topology(vec![primary(9, 5)]), &["set-topology", "9 to 5"]),
        (set().topology(vec![primary(0, 16_384)]), &["set-topology", "16384"]),
        (set().topology(vec![shard(0, 1, "h", Role::Primary)]), &["set-topology", "\"h\" is not host:port"]),
        (set().topology(vec![shard(0, 1, "h:1", Role::Replica)]), &["set-topology", "no primary"]),
        (set().topology(vec![Shard { nodes: Vec::new(), ..primary(0, 1) }]), &["set-topology", "no primary"]),
    ] {
        let error = connect_error(options.clone()).await;
        let Error::InvalidArgument(text) = &error else { anyhow::bail!("{options:?}: {error:?}") };
        for part in parts {
            ensure!(text.contains(part), "{part} is not in: {text}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_seed_that_cannot_be_reached_has_its_reason() -> Result<()> {
    let silent = std::net::TcpListener::bind("127.0.0.1:0")?;
    let black_hole = silent.local_addr()?;
    let options = Options::new([
        "redis://127.0.0.1:1".to_owned(),
        "redis://no-such-host.invalid:7000".to_owned(),
        format!("redis://{black_hole}"),
    ]);
    let started = Instant::now();
    let error = connect_error(options.connect_timeout(Duration::from_millis(700))).await;
    let took = started.elapsed();
    ensure!(took < Duration::from_secs(5), "{took:?}");
    let Error::Connect(text) = &error else { anyhow::bail!("{error:?}") };
    for part in ["127.0.0.1:1: connection refused", "no-such-host.invalid:7000: ", &format!("{black_hole}: ")]
    {
        ensure!(text.contains(part), "{part} is not in: {text}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_told_without_the_password() -> Result<()> {
    let server = TestServer::builder().password("right").start()?;
    for protocol in PROTOCOLS {
        for password in [Some("hunter2"), None] {
            let mut given = options(&[server.url()], protocol);
            if let Some(password) = password {
                given = given.password(password);
            }
            let error = connect_error(given).await;
            let Error::Authentication(text) = &error else { anyhow::bail!("{protocol:?}: {error:?}") };
            ensure!(!text.contains("hunter2"), "{text}");
            ensure!(text.contains("WRONGPASS") || text.contains("NOAUTH"), "{text}");
        }
        let client = Client::connect(options(&[server.url()], protocol).password("right")).await?;
        client.execute(["PING"]).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_of_every_shape_arrive_as_they_are() -> Result<()> {
    let cluster = TestCluster::start(3, 0)?;
    for protocol in PROTOCOLS {
        let client =
            Client::connect(options(&cluster.urls(), protocol).request_timeout(Duration::from_secs(60)))
                .await?;
        let none: [&str; 0] = [];
        for empty in [client.execute(none).await, client.execute([""]).await] {
            ensure!(matches!(empty, Err(Error::InvalidArgument(_))), "{empty:?}");
        }
        let every_byte: Vec<u8> = (0..=255).collect();
        for value in [&b"\0"[..], b"\r\n", b"a\r\n$3\r\nb", b"\xff\xfe", b"", &every_byte] {
            client.execute([&b"SET"[..], value, value]).await?;
            let reply = client.execute([&b"GET"[..], value]).await?;
            ensure!(reply.as_bytes() == Some(value), "{value:?} came back as {reply:?}");
        }
        let large = vec![b'x'; 64 << 20];
        client.execute([&b"SET"[..], b"large", &large]).await?;
        let reply = client.execute(["GET", "large"]).await?;
        ensure!(reply.as_bytes() == Some(&large[..]), "64 MiB did not come back");
        let error = client.execute(["SUBSCRIBE", "channel"]).await;
        ensure!(matches!(error, Err(Error::InvalidArgument(_))), "{error:?}");
        let error = client.execute(["SINTER", "a", "b"]).await;
        ensure!(matches!(error, Err(Error::CrossSlot(_))), "{error:?}");
        client.execute(["PING"]).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_answers_garbage_costs_one_connection() -> Result<()> {
    let deep = b"*1\r\n".repeat(100_000);
    for (what, garbage) in [
        ("no RESP", &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..]),
        ("an over-long length", b"$99999999999999999999\r\n"),
        ("a length beyond the limit", b"$999999999999\r\n"),
        ("100,000 nested arrays", &deep),
        ("a negative count", b"*-5\r\n"),
        ("a count that nothing follows", b"*4000000000\r\n"),
        ("no CR", b"+OK\n\n"),
    ] {
        let garbage = garbage.to_vec();
        let server = FakeServer::start(move |number, _| match number {
            0 => Answer::Send(garbage.clone()),
            _ => Answer::Send(b"+PONG\r\n".to_vec()),
        });
        let client = Client::connect(Options::new([server.url()])).await?;
        let result = client.execute(["SET", "key", "value"]).await;
        let told = matches!(result, Err(Error::Protocol(_) | Error::LimitExceeded(_)));
        ensure!(told, "{what}: {result:?}");
        let reply = client.execute(["PING"]).await?;
        ensure!(reply.as_str() == Some("PONG"), "{what}: then {reply:?}");
        ensure!(server.connections() == 2, "{what}: {} connections", server.connections());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_ends_in_a_reply_is_lost_for_a_write_and_made_again_for_a_read() -> Result<()> {
    for half in [&b""[..], b"$10\r\nhalf", b"*2\r\n:1\r\n", b"+O"] {
        let half = half.to_vec();
        let server = FakeServer::start(move |number, _| match number {
            0 | 2 => Answer::SendAndClose(half.clone()),
            _ => Answer::Send(b"+whole\r\n".to_vec()),
        });
        let client = Client::connect(Options::new([server.url()])).await?;
        let lost = client.execute(["INCR", "key"]).await;
        let told = matches!(&lost, Err(Error::ConnectionLost(lost)) if lost.possibly_executed);
        ensure!(told, "{lost:?}");
        let reply = client.execute(["GET", "key"]).await?;
        ensure!(reply.as_str() == Some("whole"), "{reply:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_beyond_a_limit_is_refused() -> Result<()> {
    let server = TestServer::start()?;
    let limited = Options::new([server.url()]).limit(Limit::BulkLength, 100);
    let client = Client::connect(limited).await?;
    client.execute(["SET".as_bytes(), b"key", &[b'x'; 100]]).await?;
    client.execute(["GET", "key"]).await?;
    client.execute(["APPEND", "key", "y"]).await?;
    let error = client.execute(["GET", "key"]).await;
    ensure!(matches!(error, Err(Error::LimitExceeded(_))), "{error:?}");
    client.execute(["PING"]).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_server_times_the_request_out() -> Result<()> {
    let server = FakeServer::start(|_, _| Answer::Nothing);
    let client =
        Client::connect(Options::new([server.url()]).request_timeout(Duration::from_millis(300))).await?;
    let started = Instant::now();
    let error = client.execute(["INCR", "key"]).await;
    ensure!(matches!(&error, Err(Error::Timeout(lost)) if lost.possibly_executed), "{error:?}");
    let took = started.elapsed();
    ensure!(took >= Duration::from_millis(300) && took < Duration::from_secs(3), "{took:?}");
    Ok(())
}
