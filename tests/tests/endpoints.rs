//! The client reaches nodes by whatever the cluster calls them, and starts from what it was told
//! about them.
//!
//! Clusters announce wrong addresses, names, nothing at all, or IPv6 addresses. Where an announced
//! address must not be used, the client's network policy forbids it: then only the mapped one can
//! have been dialled. After each start every slot range is written and read, and a slot is moved,
//! so that a MOVED names a node, too. A client that is given a topology asks nobody for one before
//! its first command, which the servers count (INFO commandstats).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use keyslot::{Client, Error, NetworkPolicy, Options, RespVersion, Shard};
use keyslot_core::slot::Slot;
use keyslot_testcluster::TestCluster;
use keyslot_tests::{PROTOCOLS, count, options, wait_until};

/// How soon all nodes must have heard how one is called.
const GOSSIP: Duration = Duration::from_secs(10);
/// Keys that are written and read, over all slots.
const KEYS: usize = 60;

#[tokio::test(flavor = "multi_thread")]
async fn announced_addresses_are_mapped() -> Result<()> {
    // Ports that nobody listens on: a cluster's own are below 32,768.
    const OFFSET: u16 = 40_000;
    // The nodes listen on both addresses, and know each other by the second.
    let cluster = TestCluster::builder()
        .primaries(3)
        .args(["--bind", "127.0.0.1", "127.0.0.2", "--cluster-announce-ip", "127.0.0.2"])
        .start()?;
    for protocol in PROTOCOLS {
        // A host alone: the ports stay.
        let given = first_address_only(options(&cluster.urls()[..1], protocol))?;
        let client = Client::connect(given.map_address("127.0.0.2", "127.0.0.1")).await?;
        all_is_well(&cluster, &client, &cluster.addresses()).await.context("a host is mapped")?;

        // Without the map nothing but the seed is within reach.
        let given = first_address_only(options(&cluster.urls()[..1], protocol))?;
        let client = Client::connect(given.request_timeout(Duration::from_millis(300))).await?;
        let away = (0..KEYS).map(key).find(|key| cluster.node_of_slot(slot(key)).is_ok_and(|node| node != 0));
        let error = client.execute(["GET", &away.context("a key of another node")?]).await;
        ensure!(matches!(error, Err(Error::Connect(_))), "127.0.0.2 is not forbidden: {error:?}");
    }

    // Wrong ports, too. The nodes themselves need only each other's bus ports, which stay.
    for node in 0..cluster.nodes().len() {
        let port = cluster.ports()[node];
        cluster.configure(node, "cluster-announce-bus-port", &(port + 10_000).to_string())?;
        cluster.configure(node, "cluster-announce-port", &(port + OFFSET).to_string())?;
    }
    announced(
        &cluster,
        &cluster.ports().iter().map(|port| format!("127.0.0.2:{}", port + OFFSET)).collect::<Vec<_>>(),
    )
    .await?;
    for protocol in PROTOCOLS {
        let mut given = first_address_only(options(&cluster.urls()[..1], protocol))?;
        for port in cluster.ports() {
            let announced = format!("127.0.0.2:{}", port + OFFSET);
            given = given.map_address(announced, format!("127.0.0.1:{port}"));
        }
        // Less exact, it does not count.
        given = given.map_address("127.0.0.2", "127.0.0.3");
        let client = Client::connect(given).await?;
        all_is_well(&cluster, &client, &cluster.addresses()).await.context("ports are mapped")?;
    }
    Ok(())
}

/// The client may dial 127.0.0.1 and nothing else.
fn first_address_only(given: Options) -> Result<Options> {
    Ok(given.network(NetworkPolicy::allow(["127.0.0.1"])?))
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_are_reached_by_their_host_names() -> Result<()> {
    let cluster = TestCluster::start(3, 0)?;
    let named: Vec<String> = cluster.ports().iter().map(|port| format!("localhost:{port}")).collect();
    for node in 0..cluster.nodes().len() {
        cluster.configure(node, "cluster-announce-hostname", "localhost")?;
        cluster.configure(node, "cluster-preferred-endpoint-type", "hostname")?;
    }
    announced(&cluster, &named).await?;
    for protocol in PROTOCOLS {
        let client = Client::connect(options(&cluster.urls()[..1], protocol)).await?;
        all_is_well(&cluster, &client, &named).await?;
    }

    // One node has no name: the others write `?` for it, and its address beside that.
    cluster.configure(2, "cluster-announce-hostname", "")?;
    let mut mixed = named.clone();
    mixed[2] = format!("?:{}", cluster.ports()[2]);
    announced(&cluster, &mixed).await?;
    mixed[2] = cluster.addresses()[2].clone();
    for protocol in PROTOCOLS {
        let client = Client::connect(options(&cluster.urls()[..1], protocol)).await?;
        all_is_well(&cluster, &client, &mixed).await.context("a node without a name")?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_do_not_say_where_they_are_stand_where_the_asked_one_does() -> Result<()> {
    let cluster = TestCluster::builder().primaries(3).args(["--bind", "127.0.0.1", "127.0.0.2"]).start()?;
    for node in 0..cluster.nodes().len() {
        cluster.configure(node, "cluster-preferred-endpoint-type", "unknown-endpoint")?;
    }
    for host in ["127.0.0.2", "localhost"] {
        let expected: Vec<String> = cluster.ports().iter().map(|port| format!("{host}:{port}")).collect();
        for protocol in PROTOCOLS {
            let seed = format!("redis://{}", expected[0]);
            let client = Client::connect(options(&[seed], protocol)).await?;
            all_is_well(&cluster, &client, &expected).await.context(host)?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_are_reached_over_ipv6() -> Result<()> {
    if let Err(error) = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)) {
        println!("left out: this machine has no ::1: {error}");
        return Ok(());
    }
    let cluster = TestCluster::builder().primaries(3).host(IpAddr::V6(Ipv6Addr::LOCALHOST)).start()?;
    for protocol in PROTOCOLS {
        let client = Client::connect(options(&cluster.urls()[..1], protocol)).await?;
        all_is_well(&cluster, &client, &cluster.addresses()).await?;
        // Mapped from and to IPv6.
        let given = options(&cluster.urls()[..1], protocol).map_address("::1", "localhost6");
        let given = given.map_address("localhost6", "::2").request_timeout(Duration::from_millis(300));
        let topology = Client::connect(given).await?.topology().await?;
        let port = cluster.ports()[0];
        ensure!(topology[0].nodes[0].address == format!("localhost6:{port}"), "{topology:?}");
    }
    Ok(())
}

/// Of the name's addresses, the first refuse to be connected to, the next swallows every packet,
/// and the nodes listen on the last.
///
/// Runs itself again with names and a network of its own: in namespaces in which /etc/hosts is
/// another file, and rules for packets may be changed. They end with the process, and nothing has
/// to be cleaned up.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_with_many_addresses_is_tried_at_each() -> Result<()> {
    const TEST: &str = "a_name_with_many_addresses_is_tried_at_each";
    if std::env::var_os(names::INSIDE).is_none() {
        return names::run_again(TEST);
    }
    let cluster = TestCluster::builder().primaries(3).host(names::NODES).start()?;
    let named: Vec<String> = cluster.ports().iter().map(|port| format!("{}:{port}", names::MANY)).collect();
    // Its part for an address is longer than the time after which the next one is tried.
    const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
    const ADDRESS_PATIENCE: Duration = Duration::from_millis(250);
    for node in 0..cluster.nodes().len() {
        cluster.configure(node, "cluster-announce-hostname", names::MANY)?;
        cluster.configure(node, "cluster-preferred-endpoint-type", "hostname")?;
    }
    announced(&cluster, &named).await?;
    for protocol in PROTOCOLS {
        let given = |seeds: &[String]| options(seeds, protocol).connect_timeout(CONNECT_TIMEOUT);
        let started = Instant::now();
        let client = Client::connect(given(&[format!("redis://{}", named[0])])).await?;
        let connected = started.elapsed();
        all_is_well(&cluster, &client, &named).await?;
        println!(
            "{protocol:?}: with a name of {} addresses: connected after {connected:?}",
            names::ADDRESSES.len()
        );
        ensure!(connected >= ADDRESS_PATIENCE, "the packets were not swallowed: {connected:?}");
        let disconnects = count(&client.counters().await?, "disconnects");
        ensure!(disconnects == 0, "an address that does not answer is no failure of the node's");

        // A name of which nothing is known.
        let error = Client::connect(given(&["redis://nobody.test:6379".to_owned()])).await;
        ensure!(matches!(&error, Err(Error::Connect(text)) if text.contains("nobody.test")), "{error:?}");
        // It does no harm beside one that is.
        let seeds = ["redis://nobody.test:6379".to_owned(), format!("redis://{}", named[1])];
        let client = Client::connect(given(&seeds)).await?;
        written_and_read(&client).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_starts_from_a_topology_that_it_is_given() -> Result<()> {
    let cluster = TestCluster::builder()
        .primaries(3)
        .replicas(1)
        .node_timeout_ms(1_000)
        .args(["--cluster-require-full-coverage", "no"])
        .start()?;
    let exported = exported(&cluster).await?;
    for protocol in PROTOCOLS {
        let asked = questions(&cluster)?;
        let client = cold(&cluster.urls(), &exported, protocol, "fresh").await?;
        ensure!(questions(&cluster)? == asked, "a topology was asked for although one was given");
        ensure!(connections(&cluster, "fresh")? == 0, "nodes were dialled before they are needed");
        ensure!(client.topology().await? == exported, "the topology is not the one that was given");
        client.execute(["SET", "key", "value"]).await?;
        // One write, and no redirect: it went to the right node at once.
        ensure!(count(&client.counters().await?, "moved") == 0, "the first command was redirected");
        let learned = async || Ok(questions(&cluster)? > asked);
        wait_until("the topology is asked for when a node is connected", GOSSIP, async || {
            client.execute(["GET", "key"]).await?;
            learned().await
        })
        .await?;
        written_and_read(&client).await?;
    }

    // It is outdated: another primary, and other slots.
    let old_primary = cluster.node_of_slot(slot(&key(0)))?;
    let replica = cluster.replicas_of(old_primary)?[0];
    let primaries = cluster.primaries()?;
    let others: Vec<usize> = primaries.iter().copied().filter(|node| *node != old_primary).collect();
    let moving: Vec<u16> = cluster.slots_of(others[0])?.into_iter().take(200).collect();
    cluster.migrate_slots(&moving, others[0], others[1])?;
    cluster.wait_until_agreed()?;
    cluster.failover(replica)?;
    for protocol in PROTOCOLS {
        let client = cold(&cluster.urls(), &exported, protocol, "outdated").await?;
        written_and_read(&client).await.context("after a failover and a reshard")?;
    }
    // The primary of then is not even there.
    cluster.kill(old_primary)?;
    cluster.wait_until_agreed()?;
    for protocol in PROTOCOLS {
        let client = cold(&cluster.urls(), &exported, protocol, "dead").await?;
        written_and_read(&client).await.context("a primary of the topology is gone")?;
        let now = client.node_for_key(key(0).as_bytes()).await?;
        ensure!(now == cluster.addresses()[replica], "{now} serves the dead node's slots");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_seeds_are_asked_when_nobody_of_the_given_topology_answers() -> Result<()> {
    let cluster = TestCluster::start(3, 0)?;
    let mut gone = exported(&cluster).await?;
    // Nobody listens on ports below the test clusters'.
    for (number, node) in gone.iter_mut().flat_map(|shard| &mut shard.nodes).enumerate() {
        node.address = format!("127.0.0.1:{}", 1 + number);
        node.id = format!("{number:040x}");
    }
    for protocol in PROTOCOLS {
        let started = Instant::now();
        written_and_read(&Client::connect(options(&cluster.urls(), protocol)).await?).await?;
        let usual = started.elapsed();
        let started = Instant::now();
        let client = cold(&cluster.urls(), &gone, protocol, "gone").await?;
        written_and_read(&client).await?;
        let took = started.elapsed();
        let bound = Duration::from_secs(2) + usual;
        ensure!(took < bound, "it took {took:?} to come back to the seeds; without that detour {usual:?}");
        let topology = client.topology().await?;
        let addresses = topology.iter().flat_map(|shard| &shard.nodes).map(|node| node.address.clone());
        ensure!(addresses.collect::<Vec<_>>() == cluster.addresses(), "{topology:?}");
    }

    // Neither answers: told in time, and as what it is.
    let given = options(&["redis://127.0.0.1:9".to_owned()], RespVersion::Resp3);
    let given = given.topology(gone.clone()).request_timeout(Duration::from_millis(500));
    let client = Client::connect(given).await?;
    let started = Instant::now();
    let error = client.execute(["GET", "key"]).await;
    ensure!(matches!(error, Err(Error::Connect(_))), "{error:?}");
    ensure!(started.elapsed() < Duration::from_secs(1), "told after {:?}", started.elapsed());

    // What is no topology is refused.
    let with = |shards| Client::connect(options(&cluster.urls(), RespVersion::Resp3).topology(shards));
    let mut twice = gone.clone();
    twice.push(gone[0].clone());
    for (wrong, what) in [(Vec::new(), "no slot"), (twice, "twice")] {
        let error = with(wrong).await;
        ensure!(matches!(&error, Err(Error::InvalidArgument(text)) if text.contains(what)), "{error:?}");
    }
    Ok(())
}

/// The topology as a client knows it that has asked for it.
async fn exported(cluster: &TestCluster) -> Result<Vec<Shard>> {
    Ok(Client::connect(options(&cluster.urls(), RespVersion::Resp3)).await?.topology().await?)
}

/// A client that is given a topology.
async fn cold(urls: &[String], topology: &[Shard], protocol: RespVersion, name: &str) -> Result<Client> {
    let given = options(urls, protocol).topology(topology.to_vec()).client_name(name);
    Ok(Client::connect(given).await?)
}

/// How often the running nodes were asked for the topology.
fn questions(cluster: &TestCluster) -> Result<u64> {
    let mut asked = 0;
    for node in cluster.running() {
        // This crate asks for them as well, but not while the test runs.
        asked +=
            cluster.command_calls(node, "cluster|slots")? + cluster.command_calls(node, "cluster|shards")?;
    }
    Ok(asked)
}

/// How many connections the running nodes have from clients of this name.
fn connections(cluster: &TestCluster, name: &str) -> Result<usize> {
    let mut connections = 0;
    for node in cluster.running() {
        connections += cluster.connected(node)?.iter().filter(|connected| connected.name() == name).count();
    }
    Ok(connections)
}

/// Waits until all nodes call each other so, `host:port` in the order of the nodes.
async fn announced(cluster: &TestCluster, expected: &[String]) -> Result<()> {
    let what = format!("all nodes know each other as {expected:?}");
    wait_until(&what, GOSSIP, async || {
        for node in cluster.running() {
            let mut connection = cluster.connection(node)?;
            for (name, slot) in expected.iter().zip([0, 8_000, 16_000]) {
                let other = cluster.node_of_slot(slot)?;
                let moved = connection.call(&["GET", &key_of(slot)])?;
                let text = format!("{moved:?}");
                ensure!(other == node || text.contains(name), "node {node}: {text}, not {name}");
            }
        }
        Ok(true)
    })
    .await?;
    Ok(())
}

/// Writes and reads all over the slots, checks the topology's addresses, and follows a slot that
/// moves.
async fn all_is_well(cluster: &TestCluster, client: &Client, expected: &[String]) -> Result<()> {
    written_and_read(client).await?;
    let mut addresses: Vec<_> =
        client.topology().await?.into_iter().flat_map(|shard| shard.nodes).map(|node| node.address).collect();
    addresses.sort_unstable();
    let mut expected_now = expected.to_vec();
    expected_now.sort_unstable();
    ensure!(addresses == expected_now, "the topology names {addresses:?}, not {expected_now:?}");

    let moving = key_of(100);
    client.execute(["SET", &moving, "moves"]).await?;
    let from = cluster.node_of_slot(100)?;
    let to = (from + 1) % 3;
    let moved = count(&client.counters().await?, "moved");
    cluster.migrate_slot(100, to)?;
    let reply = client.execute(["GET", &moving]).await.context("the slot has moved")?;
    ensure!(reply.as_str() == Some("moves"), "{reply:?}");
    ensure!(count(&client.counters().await?, "moved") == moved + 1, "no MOVED was followed");
    let node = client.node_for_key(moving.as_bytes()).await?;
    ensure!(node == expected[to], "the slot is served by {node}, not {}", expected[to]);
    // As it was.
    cluster.migrate_slot(100, from)?;
    client.execute(["GET", &moving]).await.context("the slot has moved back")?;
    Ok(())
}

async fn written_and_read(client: &Client) -> Result<()> {
    for number in 0..KEYS {
        let (key, value) = (key(number), number.to_string());
        client.execute(["SET", &key, &value]).await.with_context(|| format!("SET {key}"))?;
        let reply = client.execute(["GET", &key]).await.with_context(|| format!("GET {key}"))?;
        ensure!(reply.as_str() == Some(&value), "GET {key} was answered with {reply:?}");
    }
    Ok(())
}

fn key(number: usize) -> String {
    format!("key:{number}")
}

fn slot(key: &str) -> u16 {
    Slot::of_key(key.as_bytes()).number()
}

/// A key of this slot.
fn key_of(wanted: u16) -> String {
    (0..).map(|number| format!("k{number}")).find(|key| slot(key) == wanted).unwrap_or_default()
}

/// Names and a network of the test's own, by the system's `unshare`, `mount` and `ip`.
mod names {
    use super::{Command, Context, IpAddr, Ipv4Addr, Result, ensure};

    /// Set for the test that runs inside.
    pub(super) const INSIDE: &str = "KEYSLOT_TEST_NAMES";
    /// The name.
    pub(super) const MANY: &str = "many.test";
    /// Its addresses, in the order in which the system gives them. What is sent to the third gets
    /// no answer.
    pub(super) const ADDRESSES: [&str; 4] = ["::1", "127.0.0.1", "127.0.0.3", "127.0.0.2"];
    /// The last of them.
    pub(super) const NODES: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

    const PREPARE: &str = "mount --bind \"$0\" /etc/hosts && ip link set lo up && \
         ip rule add pref 32000 lookup local && ip rule del pref 0 && \
         ip rule add pref 100 ipproto tcp from 127.0.0.3 blackhole && exec \"$@\"";

    fn inside(file: &str, command: &[&str]) -> Command {
        let mut inside = Command::new("unshare");
        inside.args(["--mount", "--net", "sh", "-c", PREPARE, file]).args(command).env(INSIDE, "yes");
        inside
    }

    /// Runs one test of this binary inside. Where the system does not let us, says so and runs
    /// nothing.
    pub(super) fn run_again(test: &str) -> Result<()> {
        let folder = tempfile::tempdir()?;
        let hosts = folder.path().join("hosts");
        let lines: String = ADDRESSES.iter().map(|address| format!("{address} {MANY}\n")).collect();
        std::fs::write(&hosts, format!("127.0.0.1 localhost\n{lines}"))?;
        let hosts = hosts.to_str().context("the path of the file")?;
        let output = inside(hosts, &["getent", "ahosts", MANY]).output();
        let (found, reason) = match output {
            Ok(output) => (output.stdout, String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            Err(error) => (Vec::new(), error.to_string()),
        };
        let found = String::from_utf8_lossy(&found).into_owned();
        let addresses: Vec<_> = found
            .lines()
            .filter(|line| line.contains("STREAM"))
            .filter_map(|line| line.split(' ').next())
            .collect();
        if addresses != ADDRESSES {
            println!("left out: no names of its own here: {addresses:?} {reason}");
            return Ok(());
        }
        let program = std::env::current_exe()?;
        let program = program.to_str().context("the path of this program")?;
        let status = inside(hosts, &[program, "--exact", test, "--nocapture"]).status()?;
        ensure!(status.success(), "{test} with names of its own: {status}");
        Ok(())
    }
}
