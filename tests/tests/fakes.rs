//! Small servers that say one odd thing, as users have met them, each with the right outcome: who
//! is at an address, what a server says first, and what passes by itself.
//!
//! Each has a script ([`HostileCluster`]) that is odd until the test says otherwise, or for some
//! connections only. The simulation has the same at random; here whole components meet real
//! sockets.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use keyslot::{Client, Error, Mode, Options, ReplicaReads};
use keyslot_core::slot::Slot;
use keyslot_testcluster::{Error as ClusterError, TestCluster};
use keyslot_tests::hostile::{Act, Asked, HostileCluster, Script, array, bulk, integer, value_of};
use keyslot_tests::{PROTOCOLS, options, words};

const NO_CLUSTER: &str = "-ERR This instance has cluster support disabled\r\n";
/// Sooner than any time-out, also on a machine that does other things.
const AT_ONCE: Duration = Duration::from_secs(2);

fn slot(key: &str) -> u16 {
    Slot::of_key(key.as_bytes()).number()
}

fn line(text: &str) -> Vec<Act> {
    vec![Act::send(format!("{text}\r\n"))]
}

/// CLUSTER SLOTS of one node that has all slots, at this host.
fn all_slots_at(host: &str, port: u16) -> Vec<Act> {
    let member = array(&[bulk(host), integer(port.into()), bulk("a".repeat(40))]);
    vec![Act::send(array(&[array(&[integer(0), integer(16_383), member])]))]
}

/// The same URLs, with a name for the host.
fn by_name(cluster: &HostileCluster) -> Vec<String> {
    cluster.urls().iter().map(|url| url.replace("127.0.0.1", "localhost")).collect()
}

/// A node behind a name was replaced: connections from before a switch answer MOVED with the name
/// that they were dialled by.
struct Replaced {
    cluster: HostileCluster,
    /// Connections with lower numbers are old.
    first_new: Arc<AtomicUsize>,
    refusals: Arc<AtomicUsize>,
}

impl Replaced {
    fn start() -> Result<Self> {
        let (first_new, refusals) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (is_old, counted) = (Arc::clone(&first_new), Arc::clone(&refusals));
        let script: Script = Arc::new(move |asked: &Asked<'_>| {
            let port = asked.ports[0];
            if asked.is("CLUSTER SLOTS") {
                return Some(all_slots_at("localhost", port));
            }
            if asked.is("CLUSTER SHARDS") {
                return Some(line("-ERR unknown subcommand 'SHARDS'. Try CLUSTER HELP."));
            }
            if asked.connection >= is_old.load(Ordering::SeqCst) {
                return None;
            }
            if asked.is("EXEC") {
                return Some(line("-EXECABORT Transaction discarded because of previous errors."));
            }
            let key =
                asked.words.get(1).filter(|_| ["SET", "GET", "BLPOP"].iter().any(|name| asked.is(name)))?;
            counted.fetch_add(1, Ordering::SeqCst);
            Some(line(&format!("-MOVED {} localhost:{port}", slot(key))))
        });
        Ok(Self { cluster: HostileCluster::start(1, script)?, first_new, refusals })
    }

    /// From now on all connections that there are are old.
    fn replace(&self) {
        self.first_new.store(self.cluster.connections(), Ordering::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_says_moved_to_itself_is_dialled_anew() -> Result<()> {
    for protocol in PROTOCOLS {
        let fake = Replaced::start()?;
        let client = Client::connect(options(&by_name(&fake.cluster), protocol)).await?;
        client.execute(["SET", "k", "1"]).await?;
        client.execute(["BLPOP", "k", "1"]).await?;

        fake.replace();
        let (before, started) = (fake.cluster.connections(), Instant::now());
        let commands = (0..20).map(|_| words("GET k")).collect();
        for result in client.pipeline(commands).await {
            let reply = result.context("a pipeline")?;
            ensure!(reply.as_str() == Some(&value_of("k")), "{reply:?}");
        }
        ensure!(started.elapsed() < AT_ONCE, "it took {:?}", started.elapsed());
        let (dials, refusals) = (fake.cluster.connections() - before, fake.refusals.load(Ordering::SeqCst));
        ensure!(dials <= 3, "dialled {dials} times for 20 commands that came back together");
        ensure!(refusals <= 20, "{refusals} MOVED for 20 commands");

        fake.replace();
        let results = client.transaction(vec![words("SET k 1"), words("SET k 2")]).await;
        ensure!(results.context("a transaction")?.len() == 2, "a result for each command");
        fake.replace();
        let popped = client.execute(["BLPOP", "k", "1"]).await;
        ensure!(popped.is_ok(), "an idle connection is old, too: {popped:?}");
        fake.replace();
        let lent = client.lend(Some(b"k")).await?;
        lent.execute(["SET", "k", "1"]).await.context("on a lent connection")?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_alone_that_is_read_only_is_dialled_once_more() -> Result<()> {
    for protocol in PROTOCOLS {
        let first_new = Arc::new(AtomicUsize::new(0));
        let is_old = Arc::clone(&first_new);
        let script: Script = Arc::new(move |asked: &Asked<'_>| {
            if asked.is("CLUSTER") {
                return Some(vec![Act::send(NO_CLUSTER)]);
            }
            let refuses = asked.is("SET") && asked.connection < is_old.load(Ordering::SeqCst);
            refuses.then(|| line("-READONLY You can't write against a read only replica."))
        });
        let cluster = HostileCluster::start(1, script)?;
        let client = Client::connect(options(&by_name(&cluster), protocol)).await?;
        client.execute(["SET", "k", "1"]).await?;

        // The primary is behind the same name.
        first_new.store(cluster.connections(), Ordering::SeqCst);
        let started = Instant::now();
        client.execute(["SET", "k", "2"]).await.context("a new connection takes writes")?;
        ensure!(started.elapsed() < AT_ONCE, "it took {:?}", started.elapsed());

        // Nobody takes writes.
        first_new.store(usize::MAX, Ordering::SeqCst);
        let started = Instant::now();
        let refused = client.execute(["SET", "k", "3"]).await;
        ensure!(
            matches!(&refused, Err(Error::Server(error)) if error.code == "READONLY"),
            "not the server's word: {refused:?}"
        );
        ensure!(started.elapsed() < AT_ONCE, "it took {:?}", started.elapsed());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_at_accept_is_no_failed_log_in() -> Result<()> {
    const DENIED: &str = "-DENIED Redis is running in protected mode because protected mode is enabled";
    for protocol in PROTOCOLS {
        let denies = Arc::new(AtomicBool::new(false));
        let is_denied = Arc::clone(&denies);
        let script: Script = Arc::new(move |asked: &Asked<'_>| {
            if !is_denied.load(Ordering::SeqCst) {
                return None;
            }
            let said = if asked.is_new() { line(DENIED) } else { Vec::new() };
            Some([said, vec![Act::Wait(Duration::from_millis(20)), Act::Close]].concat())
        });
        let cluster = HostileCluster::start(1, script)?;
        let given = || options(&cluster.urls(), protocol).password("secret");
        let client = Client::connect(given()).await?;
        client.execute(["GET", "k"]).await?;

        denies.store(true, Ordering::SeqCst);
        let again = Arc::clone(&denies);
        let restarts = thread::spawn(move || {
            thread::sleep(Duration::from_millis(1_500));
            again.store(false, Ordering::SeqCst);
        });
        let newcomer = Client::connect(given().connect_timeout(Duration::from_millis(500))).await;
        match newcomer.map(drop) {
            Err(Error::Connect(text)) => ensure!(text.contains("DENIED"), "the reason is not told: {text}"),
            other => bail!("a newcomer: {other:?}"),
        }
        let reply = client.execute(["GET", "k"]).await.context("a client that was served before")?;
        ensure!(reply.as_str() == Some(&value_of("k")), "{reply:?}");
        ensure!(restarts.join().is_ok(), "the server restarts");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_full_says_so() -> Result<()> {
    const FULL: &str = "-ERR max number of clients reached";
    let pause = |milliseconds| Act::Wait(Duration::from_millis(milliseconds));
    let said = || Act::send(format!("{FULL}\r\n"));
    // At accept, after the first command, 50 ms after accept.
    let manners = [
        (true, vec![said(), pause(20), Act::Close]),
        (false, vec![said(), Act::Close]),
        (true, vec![pause(50), said(), pause(20), Act::Close]),
    ];
    for (number, (at_accept, acts)) in manners.into_iter().enumerate() {
        let script: Script =
            Arc::new(move |asked: &Asked<'_>| (asked.is_new() == at_accept).then(|| acts.clone()));
        let cluster = HostileCluster::start(1, script)?;
        for protocol in PROTOCOLS {
            for password in [None, Some("secret")] {
                let mut given =
                    options(&cluster.urls(), protocol).connect_timeout(Duration::from_millis(500));
                if let Some(password) = password {
                    given = given.password(password);
                }
                match Client::connect(given).await.map(drop) {
                    Err(Error::Connect(text)) => {
                        ensure!(
                            text.contains("max number of clients"),
                            "manner {number}, {protocol:?}: {text}"
                        );
                    }
                    other => bail!("manner {number}, {protocol:?}: {other:?}"),
                }
            }
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_words_refuse_hello_resp2_is_spoken_then() -> Result<()> {
    for words in [
        "ERR unsupported command `HELLO`",
        "ERR Command is not available: 'HELLO'. See docs",
        "NOPERM this user has no permissions to run the 'hello' command or its subcommand",
        "ERR unknown command 'HELLO'",
        "NOPROTO unsupported protocol version",
        "ERR syntax error",
    ] {
        let script: Script =
            Arc::new(move |asked: &Asked<'_>| asked.is("HELLO").then(|| line(&format!("-{words}"))));
        let cluster = HostileCluster::start(1, script)?;
        let client = Client::connect(Options::new(cluster.urls())).await.context(words)?;
        let reply = client.execute(["GET", "k"]).await.context(words)?;
        ensure!(reply.as_str() == Some(&value_of("k")), "{words}: {reply:?}");
        ensure!(cluster.connections() == 1, "{words}: on another connection");
    }
    for words in
        ["NOAUTH Authentication required.", "WRONGPASS invalid username-password pair or user is disabled."]
    {
        let script: Script =
            Arc::new(move |asked: &Asked<'_>| asked.is("HELLO").then(|| line(&format!("-{words}"))));
        let cluster = HostileCluster::start(1, script)?;
        let refused = Client::connect(Options::new(cluster.urls())).await.map(drop);
        ensure!(matches!(refused, Err(Error::Authentication(_))), "{words}: {refused:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_to_nowhere_passes() -> Result<()> {
    for protocol in PROTOCOLS {
        let times = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&times);
        let script: Script = Arc::new(move |asked: &Asked<'_>| {
            let moves = asked.is("GET moving") && counted.fetch_add(1, Ordering::SeqCst) < 3;
            moves.then(|| line(&format!("-MOVED {} :0", slot("moving"))))
        });
        let cluster = HostileCluster::start(1, script)?;
        let client = Client::connect(options(&cluster.urls(), protocol)).await?;
        let reply = client.execute(["GET", "moving"]).await?;
        ensure!(reply.as_str() == Some(&value_of("moving")), "{reply:?}");
        ensure!(times.load(Ordering::SeqCst) == 4, "asked again until it was over");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_from_a_server_that_is_taken_as_alone_names_the_mode() -> Result<()> {
    for protocol in PROTOCOLS {
        let script: Script = Arc::new(move |asked: &Asked<'_>| {
            asked.is("GET").then(|| line(&format!("-MOVED {} 127.0.0.2:7000", slot("k"))))
        });
        let cluster = HostileCluster::start(1, script)?;
        let client = Client::connect(options(&cluster.urls(), protocol).mode(Mode::Standalone)).await?;
        match client.execute(["GET", "k"]).await {
            Err(Error::Server(error)) => {
                ensure!(error.code == "MOVED" && error.message.contains("`mode`"), "{error:?}");
            }
            other => bail!("{other:?}"),
        }
    }
    Ok(())
}

/// How the first of a name's addresses is in trouble.
#[derive(Clone, Copy, Debug)]
enum Trouble {
    /// It closes after a command.
    Closes,
    /// It is full.
    IsFull,
    /// It says nothing.
    IsSilent,
}

/// Serves nobody at the other address of `localhost`, at this port. False where that name has one
/// address only.
fn in_trouble(port: u16, trouble: Trouble) -> Result<bool> {
    let addresses: Vec<_> = ("localhost", port).to_socket_addrs()?.collect();
    let other = addresses.iter().find(|address| address.ip().to_string() != "127.0.0.1");
    let (Some(other), Some(_)) = (other, addresses.iter().find(|address| address.is_ipv4())) else {
        return Ok(false);
    };
    let listener = TcpListener::bind(other)?;
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut buffer = [0; 4_096];
                let _ = stream.read(&mut buffer);
                match trouble {
                    Trouble::Closes => {}
                    Trouble::IsFull => drop(stream.write_all(b"-ERR max number of clients reached\r\n")),
                    Trouble::IsSilent => while matches!(stream.read(&mut buffer), Ok(1..)) {},
                }
            });
        }
    });
    Ok(true)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_address_of_a_name_is_tried_until_one_serves() -> Result<()> {
    for trouble in [Trouble::Closes, Trouble::IsFull, Trouble::IsSilent] {
        for announced in ["127.0.0.1", "localhost"] {
            let script: Script = Arc::new(move |asked: &Asked<'_>| {
                if asked.is("CLUSTER SHARDS") {
                    return Some(line("-ERR unknown subcommand 'SHARDS'. Try CLUSTER HELP."));
                }
                asked.is("CLUSTER SLOTS").then(|| all_slots_at(announced, asked.ports[0]))
            });
            let cluster = HostileCluster::start(1, script)?;
            let url = by_name(&cluster).pop().context("a node has a URL")?;
            let port: u16 = url.rsplit(':').next().context("a URL has a port")?.parse()?;
            if !in_trouble(port, trouble)? {
                println!("not tried: `localhost` has one address on this machine");
                return Ok(());
            }
            for protocol in PROTOCOLS {
                let client = Client::connect(options(std::slice::from_ref(&url), protocol)).await;
                let client = client.with_context(|| format!("{trouble:?}, {announced}"))?;
                let reply = client.execute(["GET", "k"]).await?;
                ensure!(reply.as_str() == Some(&value_of("k")), "{trouble:?}, {announced}: {reply:?}");
            }
        }
    }
    Ok(())
}

/// Passes bytes on, from connections to this port to another.
fn proxy(port: u16, to: u16) -> Result<()> {
    let started = Instant::now();
    let listener = loop {
        match TcpListener::bind(("127.0.0.1", port)) {
            Ok(listener) => break listener,
            Err(error) if started.elapsed() > Duration::from_secs(10) => return Err(error.into()),
            Err(_) => thread::sleep(Duration::from_millis(5)),
        }
    };
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let Ok(server) = TcpStream::connect(("127.0.0.1", to)) else { continue };
            let (Ok(client_too), Ok(server_too)) = (client.try_clone(), server.try_clone()) else { continue };
            for (mut from, mut into) in [(client, server), (server_too, client_too)] {
                thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut into);
                    let _ = into.shutdown(std::net::Shutdown::Both);
                });
            }
        }
    });
    Ok(())
}

/// How often a cluster's nodes have run GET and SET.
fn used(cluster: &TestCluster) -> Result<u64, ClusterError> {
    let mut calls = 0;
    for node in cluster.running() {
        calls += cluster.command_calls(node, "get")? + cluster.command_calls(node, "set")?;
    }
    Ok(calls)
}

/// Raises the epoch of a cluster's first node. The other nodes know it then: they would refuse to
/// elect a replica that does not.
fn bump_epoch(cluster: &TestCluster) -> Result<()> {
    for _ in 0..20 {
        cluster.connection(0)?.call(&["CLUSTER", "BUMPEPOCH"])?;
    }
    let id = cluster.nodes()[0].id();
    // id, address, flags, primary, two times, and the configuration epoch.
    let epoch = |cluster: &TestCluster, node| -> Result<Option<String>, ClusterError> {
        let view = cluster.connection(node)?.string(&["CLUSTER", "NODES"]).unwrap_or_default();
        let line = view.lines().find(|line| line.starts_with(id));
        Ok(line.and_then(|line| line.split(' ').nth(6)).map(str::to_owned))
    };
    cluster.wait_for("all nodes know the new epoch", Duration::from_secs(30), |cluster| {
        let own = epoch(cluster, 0)?;
        Ok((0..cluster.nodes().len()).all(|node| epoch(cluster, node).is_ok_and(|known| known == own)))
    })?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_comes_to_belong_to_another_cluster_is_not_followed_there() -> Result<()> {
    const ROUNDS: usize = 500;
    for stranger_is_newer in [true, false] {
        for reads in [ReplicaReads::Primary, ReplicaReads::RoundRobin] {
            let own = TestCluster::start(3, 1)?;
            let other = TestCluster::start(3, 0)?;
            let newer = if stranger_is_newer { &other } else { &own };
            bump_epoch(newer)?;
            let given = options(&own.urls(), PROTOCOLS[1]).replica_reads(reads);
            let client = Client::connect(given.request_timeout(Duration::from_millis(500))).await?;
            for number in 0..ROUNDS {
                if number == 50 {
                    own.kill(0)?;
                    proxy(own.ports()[0], other.ports()[0])?;
                }
                // What fails, fails because the shard is without a primary for a while.
                let key = format!("key:{number}");
                let _ = client.execute(["SET", &key, "own"]).await;
                let read = client.execute(["GET", &key]).await;
                ensure!(
                    !matches!(&read, Ok(reply) if reply.as_str().is_some_and(|value| value != "own")),
                    "{key}: {read:?}"
                );
            }
            let reached = used(&other)?;
            ensure!(reached == 0, "{reached} requests at the other cluster ({stranger_is_newer}, {reads:?})");
        }
    }
    Ok(())
}
