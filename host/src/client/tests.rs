//! Shows the client with the real component, against a server of a few lines: that calls of many tasks come
//! back to their callers, what becomes of a component that runs out of memory, what the policy and
//! `close` do, and that dropping the client closes its connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::{Mode, NetworkPolicy};

/// A server that knows ECHO, and GET with the length of the value as its key.
struct Server {
    address: SocketAddr,
    /// How many connections are open.
    open: Arc<AtomicUsize>,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("the port is bound");
        let open = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&open);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let count = Arc::clone(&count);
                count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(async move {
                    // The connection's end is the only way out.
                    let _ = serve(stream).await;
                    count.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { address, open }
    }

    fn options(&self) -> Options {
        Options::new([format!("redis://{}", self.address)]).mode(Mode::Standalone)
    }

    async fn client(&self) -> Client {
        let connected = Client::connect(self.options()).await;
        connected.expect("the server answers")
    }

    /// Waits until every connection has ended.
    async fn until_idle(&self) {
        let idle = async {
            while self.open.load(Ordering::SeqCst) > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let ended = tokio::time::timeout(Duration::from_secs(5), idle).await;
        ended.expect("the connections end");
    }
}

async fn serve(stream: TcpStream) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let command = read_command(&mut stream).await?;
        let argument = command.last().cloned().unwrap_or_default();
        let reply = match command.first().map(Vec::as_slice) {
            Some(b"ECHO") => bulk(&argument),
            Some(b"GET") => {
                let length = String::from_utf8_lossy(&argument).parse().unwrap_or(0);
                bulk(&vec![b'x'; length])
            }
            Some(b"HELLO" | b"CLUSTER") => b"-ERR unknown command\r\n".to_vec(),
            Some(b"INCR") => b"-WRONGTYPE not a number\r\n".to_vec(),
            _ => b"+OK\r\n".to_vec(),
        };
        stream.get_mut().write_all(&reply).await?;
    }
}

async fn read_command(stream: &mut BufReader<TcpStream>) -> std::io::Result<Command> {
    let mut command = Vec::new();
    for _ in 0..read_number(stream).await? {
        let mut argument = vec![0; read_number(stream).await? + 2];
        stream.read_exact(&mut argument).await?;
        argument.truncate(argument.len() - 2);
        command.push(argument);
    }
    Ok(command)
}

/// The number of a line such as `*3` or `$5`.
async fn read_number(stream: &mut BufReader<TcpStream>) -> std::io::Result<usize> {
    let mut line = String::new();
    if stream.read_line(&mut line).await? == 0 {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    let number = line.get(1..).unwrap_or_default().trim();
    number.parse().map_err(std::io::Error::other)
}

fn bulk(bytes: &[u8]) -> Vec<u8> {
    let mut reply = format!("${}\r\n", bytes.len()).into_bytes();
    reply.extend_from_slice(bytes);
    reply.extend_from_slice(b"\r\n");
    reply
}

#[tokio::test(flavor = "multi_thread")]
async fn each_caller_gets_its_own_reply() {
    let server = Server::start().await;
    let client = server.client().await;
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..50 {
        let client = client.clone();
        tasks.spawn(async move {
            for call in 0..20 {
                let text = format!("{task}:{call}");
                let reply = client.execute(["ECHO", &text]).await.expect("an echo");
                assert_eq!(reply.as_str(), Some(text.as_str()));
            }
            let command = |n: usize| vec![b"ECHO".to_vec(), format!("{task}/{n}").into_bytes()];
            let results = client.pipeline((0..30).map(command).collect()).await;
            assert_eq!(results.len(), 30);
            for (n, result) in results.into_iter().enumerate() {
                let text = format!("{task}/{n}");
                assert_eq!(result.expect("an echo").as_str(), Some(text.as_str()));
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("no task panics");
    }
    let counters = client.counters().await.expect("counters");
    let value = |name: &str| counters.iter().find(|counter| counter.name == name);
    let flushes = value("flushes").expect("it is documented").value;
    let requests = value("requests").expect("it is documented").value;
    assert_eq!(requests, 50 * 50);
    assert!(flushes < requests, "{flushes} flushes");
}

#[tokio::test]
async fn callers_that_go_away_leave_the_others_as_they_are() {
    let server = Server::start().await;
    let client = server.client().await;
    for call in 0..50 {
        let (kept, lost) = (format!("kept {call}"), format!("lost {call}"));
        tokio::select! {
            biased;
            _ = client.execute(["ECHO", lost.as_str()]) => {}
            () = tokio::task::yield_now() => {}
        }
        let reply = client.execute(["ECHO", kept.as_str()]).await;
        assert_eq!(reply.expect("an echo").as_str(), Some(kept.as_str()));
    }
}

#[tokio::test]
async fn errors_come_as_the_component_has_them() {
    let server = Server::start().await;
    let client = server.client().await;
    let error = client.execute(["INCR", "k"]).await.expect_err("no number");
    assert_eq!(error.to_string(), "WRONGTYPE not a number");
    let none: [&[u8]; 0] = [];
    let error = client.execute(none).await.expect_err("an empty command");
    assert!(matches!(error, Error::InvalidArgument(_)), "{error:?}");
    assert_eq!(client.pipeline(Vec::new()).await, []);

    let error = Client::connect(Options::new(["ftp://host"])).await.expect_err("a wrong scheme");
    assert!(matches!(error, Error::InvalidArgument(_)), "{error:?}");

    let unused = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = unused.local_addr().expect("the port is bound");
    drop(unused);
    let error = Client::connect(Options::new([address.to_string()])).await.expect_err("nobody listens");
    assert!(matches!(error, Error::Connect(_)), "{error:?}");
}

#[tokio::test]
async fn the_policy_refuses_what_it_does_not_list() {
    let server = Server::start().await;
    let port = server.address.port();
    let connect = async |entries: &[String], url: String| {
        let policy = NetworkPolicy::allow(entries).expect("valid entries");
        let options = Options::new([url]).mode(Mode::Standalone).network(policy);
        Client::connect(options).await
    };
    let by_address = format!("redis://127.0.0.1:{port}");
    let by_name = format!("redis://localhost:{port}");
    let network = format!("127.0.0.0/8:{port}");
    let name = format!("localhost:{port}");

    let allowed = connect(std::slice::from_ref(&network), by_address.clone()).await;
    allowed.expect("the network is listed");
    let allowed = connect(std::slice::from_ref(&name), by_name.clone()).await;
    allowed.expect("the name is listed");
    for (entries, url) in [
        (vec!["127.0.0.1:1".to_owned()], by_address.clone()),
        (vec![name], by_address),
        (vec![network], by_name),
    ] {
        let error = connect(&entries, url).await.expect_err("it is not listed");
        assert!(matches!(error, Error::Connect(_)), "{entries:?}: {error:?}");
    }
}

#[tokio::test]
async fn a_component_without_memory_is_replaced() {
    let server = Server::start().await;
    let options = server.options().memory_limit(16 << 20);
    let client = Client::connect(options).await.expect("16 MiB are enough");
    let reply = client.execute(["GET", "1000000"]).await.expect("it fits");
    assert_eq!(reply.as_bytes().map(<[u8]>::len), Some(1_000_000));

    let error = client.execute(["GET", "100000000"]).await.expect_err("it does not fit");
    assert!(matches!(error, Error::Host(_) | Error::LimitExceeded(_)), "{error:?}");
    assert_eq!(error.to_string().lines().count(), 1);

    let reply = client.execute(["ECHO", "still here"]).await;
    assert_eq!(reply.expect("a fresh instance").as_str(), Some("still here"));
}

#[tokio::test]
async fn a_large_value_and_a_large_pipeline_pass() {
    let server = Server::start().await;
    let client = server.client().await;
    let value = vec![7; 64 << 20];
    let reply = client.execute([b"ECHO", value.as_slice()]).await;
    assert!(reply.expect("64 MiB pass").into_bytes().as_ref() == Some(&value));

    let command = |n: usize| vec![b"ECHO".to_vec(), n.to_string().into_bytes()];
    let results = client.pipeline((0..20_000).map(command).collect()).await;
    for (n, result) in results.into_iter().enumerate() {
        assert_eq!(result.expect("an echo").as_str(), Some(&*n.to_string()));
    }
}

#[tokio::test]
async fn closing_is_final() {
    let server = Server::start().await;
    let client = server.client().await;
    let other = client.clone();
    assert_eq!(client.keyslot(b"123456789").await, Ok(12_739));
    client.close().await;
    client.close().await;
    server.until_idle().await;
    assert_eq!(other.execute(["ECHO", "a"]).await, Err(Error::Closed));
    assert_eq!(other.topology().await, Err(Error::Closed));
    let results = other.pipeline(vec![vec![b"PING".to_vec()]; 2]).await;
    assert_eq!(results, [Err(Error::Closed), Err(Error::Closed)]);
}

#[tokio::test]
async fn dropping_the_last_clone_closes_the_connections() {
    let server = Server::start().await;
    let client = server.client().await;
    let other = client.clone();
    drop(client);
    assert!(other.execute(["ECHO", "a"]).await.is_ok());
    assert!(server.open.load(Ordering::SeqCst) > 0);
    drop(other);
    server.until_idle().await;
}
