//! Shows the client with the real component, against a server of a few lines: that calls of many
//! tasks come back to their callers, what becomes of a component that runs out of memory, what the
//! policy and `close` do, and that dropping the client closes its connections. And `submit` and
//! `wait` of the component, as the WIT package promises them.

mod lending;
mod submitting;
mod typed;
mod watchdog;
mod watching;
mod wire;

use std::future::{pending, ready};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::Client;
use crate::bindings::exports::keyslot::redis::redis_cluster::Completion;
use crate::bindings::exports::keyslot::redis::types;
use crate::instance::Instance;
use crate::{Error, Limit, Mode, NetworkPolicy, Options, Reply};

/// A server that knows ECHO, GET with the length of the value as its key, SLOW, which finds nothing
/// in as many milliseconds as its last argument says, and DIE, which ends the connection.
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

    /// Options with which a reply of 100 MB is a trap: the budget would refuse it before the memory
    /// does.
    fn trapping(&self) -> Options {
        self.options().memory_limit(16 << 20).limit(Limit::ReceivedBytes, 1 << 30)
    }

    /// Waits until every connection has ended.
    async fn until_idle(&self) {
        self.until_open(0).await;
    }

    /// Waits until as many connections are open.
    async fn until_open(&self, number: usize) {
        let reached = async {
            while self.open.load(Ordering::SeqCst) != number {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let ended = tokio::time::timeout(Duration::from_secs(5), reached).await;
        assert!(ended.is_ok(), "{} are open, not {number}", self.open.load(Ordering::SeqCst));
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
            Some(b"SLOW") => {
                let milliseconds = String::from_utf8_lossy(&argument).parse().unwrap_or(0);
                tokio::time::sleep(Duration::from_millis(milliseconds)).await;
                b"*-1\r\n".to_vec()
            }
            Some(b"HELLO" | b"CLUSTER") => b"-ERR unknown command\r\n".to_vec(),
            Some(b"DIE") => return Ok(()),
            Some(b"CLIENT") if argument == b"ID" => b":7\r\n".to_vec(),
            Some(b"INCR") => b"-WRONGTYPE not a number\r\n".to_vec(),
            _ => b"+OK\r\n".to_vec(),
        };
        stream.get_mut().write_all(&reply).await?;
    }
}

async fn read_command(stream: &mut BufReader<TcpStream>) -> std::io::Result<Vec<Vec<u8>>> {
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
    // A machine with much else to do takes its time over 64 MiB.
    let options = server.options().request_timeout(Duration::from_secs(60));
    let client = Client::connect(options).await.expect("the server answers");
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

/// Waits until the component has as many requests, which it can say although they are under way.
async fn until_requests(client: &Client, number: u64) {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let counters = client.counters().await.expect("counters");
        let requests = counters.iter().find(|counter| counter.name == "requests");
        if requests.is_some_and(|counter| counter.value >= number) {
            return;
        }
        assert!(Instant::now() < deadline, "{counters:?}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn questions_are_answered_and_close_waits_while_a_command_is_under_way() {
    let server = Server::start().await;
    let client = server.client().await;
    let blocked = tokio::spawn({
        let client = client.clone();
        async move { client.execute(["SLOW", "list", "300"]).await }
    });
    until_requests(&client, 1).await;
    assert_eq!(client.topology().await.expect("a topology").len(), 1);
    assert!(!blocked.is_finished());
    client.close().await;
    // Its answer is there already: it came before that to the question.
    assert!(blocked.await.expect("no panic").expect("a reply").is_null());
    assert_eq!(client.execute(["ECHO", "a"]).await, Err(Error::Closed));
}

#[tokio::test]
async fn all_who_wait_hear_of_a_trap() {
    let server = Server::start().await;
    let client = Client::connect(server.trapping()).await.expect("16 MiB are enough");
    let (large, behind) = tokio::join!(client.execute(["GET", "100000000"]), client.execute(["ECHO", "a"]));
    assert!(matches!(large, Err(Error::Host(_))), "{large:?}");
    assert!(matches!(behind, Err(Error::Host(_))), "{behind:?}");
    let reply = client.execute(["ECHO", "still here"]).await;
    assert_eq!(reply.expect("a fresh instance").as_str(), Some("still here"));
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_may_be_under_way_waits_its_turn() {
    let server = Server::start().await;
    let client = server.client().await;
    let command = |n: usize| vec![b"ECHO".to_vec(), n.to_string().into_bytes()];
    let mut tasks = tokio::task::JoinSet::new();
    for count in [1, 21_000, 1, 1_000, 2] {
        let client = client.clone();
        tasks.spawn(async move {
            let results = client.pipeline((0..count).map(command).collect()).await;
            assert_eq!(results.len(), count);
            for (n, result) in results.into_iter().enumerate() {
                assert_eq!(result.expect("an echo").as_str(), Some(&*n.to_string()));
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("no task panics");
    }
}

fn command(words: &[&str]) -> Vec<Vec<u8>> {
    words.iter().map(|word| word.as_bytes().to_vec()).collect()
}

async fn instance(options: &Options) -> Instance {
    Box::pin(Instance::start(options)).await.expect("the server answers")
}

/// What one `wait` gives: tickets with the text that was echoed, or with nothing.
async fn wait(instance: &mut Instance, timeout_ms: u32) -> Vec<(u64, Option<String>)> {
    let completions = instance.wait_typed(timeout_ms, pending()).await.expect("no trap");
    let text = |Completion { ticket, result }| {
        let text = result.ok().and_then(|nodes| Reply::new(nodes).as_str().map(ToOwned::to_owned));
        (ticket, text)
    };
    completions.into_iter().map(text).collect()
}

#[tokio::test]
async fn submitted_commands_end_one_by_one_under_their_tickets() {
    let server = Server::start().await;
    let mut instance = instance(&server.options()).await;
    let commands = [command(&["ECHO", "a"]), command(&["ECHO", "b"])];
    let first = instance.submit_typed(&commands).await.expect("no trap");
    let next = instance.submit_typed(&[command(&["SLOW", "list", "300"])]).await.expect("no trap");
    assert_eq!(next, first + 2);
    assert_eq!(instance.submit_typed(&[]).await.expect("no trap"), first + 3);

    let mut ended = Vec::new();
    while ended.len() < 2 {
        ended.extend(wait(&mut instance, 5_000).await);
    }
    assert_eq!(ended, [(first, Some("a".to_owned())), (first + 1, Some("b".to_owned()))]);

    let begin = Instant::now();
    assert_eq!(wait(&mut instance, 0).await, []);
    assert!(begin.elapsed() < Duration::from_millis(50), "it only looks");
    assert_eq!(wait(&mut instance, 60).await, []);
    let slept = begin.elapsed();
    assert!(slept >= Duration::from_millis(60), "the time was not up");
    let interrupted = instance.wait_typed(5_000, tokio::time::sleep(Duration::from_millis(20))).await;
    assert_eq!(interrupted.expect("no trap"), []);
    assert_eq!(instance.wait_typed(5_000, ready(())).await.expect("no trap"), []);
    assert!(begin.elapsed() < Duration::from_millis(250), "an interruption ends the wait");

    assert_eq!(wait(&mut instance, 5_000).await, [(next, None)]);
    let begin = Instant::now();
    assert_eq!(wait(&mut instance, 5_000).await, []);
    assert!(begin.elapsed() < Duration::from_secs(1), "nothing is under way");
}

#[tokio::test]
async fn submitted_commands_go_on_during_other_calls() {
    let server = Server::start().await;
    let mut instance = instance(&server.options()).await;
    let commands = [command(&["ECHO", "a"]), Vec::new(), command(&["SLOW", "list", "10"])];
    let first = instance.submit_typed(&commands).await.expect("no trap");
    // It comes over the same connection, after the others.
    let reply = instance.execute(&command(&["ECHO", "b"])).await.expect("no trap").expect("an echo");
    assert_eq!(reply.as_str(), Some("b"));
    let completions = instance.wait_typed(0, pending()).await.expect("no trap");
    let tickets: Vec<_> = completions.iter().map(|completion| completion.ticket).collect();
    assert_eq!(tickets, [first + 1, first, first + 2]);
    assert!(matches!(completions[0].result, Err(types::Error::InvalidArgument(_))), "{completions:?}");

    let first = instance.submit_typed(&[command(&["SLOW", "list", "5000"])]).await.expect("no trap");
    instance.close().await.expect("no trap");
    let completions = instance.wait_typed(5_000, pending()).await.expect("no trap");
    assert_eq!(completions, [Completion { ticket: first, result: Err(types::Error::Closed) }]);
    let first = instance.submit_typed(&[command(&["ECHO", "a"])]).await.expect("no trap");
    let completions = instance.wait_typed(5_000, pending()).await.expect("no trap");
    assert_eq!(completions, [Completion { ticket: first, result: Err(types::Error::Closed) }]);
    assert_eq!(instance.wait_typed(5_000, pending()).await.expect("no trap"), []);
}

#[tokio::test]
async fn one_wait_gives_no_more_than_the_reply_size() {
    let server = Server::start().await;
    let mut instance = instance(&server.options().limit(Limit::ReplySize, 10 << 20)).await;
    let commands = vec![command(&["GET", "4000000"]); 5];
    let first = instance.submit_typed(&commands).await.expect("no trap");
    instance.execute(&command(&["ECHO", "a"])).await.expect("no trap").expect("an echo");
    let mut tickets = Vec::new();
    for _ in 0..4 {
        let completions = instance.wait_typed(0, pending()).await.expect("no trap");
        assert!(completions.iter().all(|completion| completion.result.is_ok()));
        tickets.push(completions.iter().map(|completion| completion.ticket - first).collect::<Vec<_>>());
    }
    assert_eq!(tickets, [vec![0, 1], vec![2, 3], vec![4], vec![]]);
}

#[tokio::test]
async fn a_ticket_whose_time_runs_out_during_a_submit_keeps_its_owner() {
    let server = Server::start().await;
    let mut instance = instance(&server.options().request_timeout(Duration::from_millis(300))).await;
    let first = instance.submit_typed(&[command(&["SLOW", "list", "5000"])]).await.expect("no trap");
    // The component hears of the time that has passed only with this call, and its number is free
    // for the next.
    tokio::time::sleep(Duration::from_millis(400)).await;
    let next = instance.submit_typed(&[command(&["ECHO", "a"])]).await.expect("no trap");
    let mut ended = Vec::new();
    while ended.len() < 2 {
        let completions = instance.wait_typed(5_000, pending()).await.expect("no trap");
        assert!(!completions.is_empty());
        ended.extend(completions.into_iter().map(|completion| (completion.ticket, completion.result)));
    }
    assert_eq!((ended[0].0, ended[1].0), (first, next));
    assert!(matches!(ended[0].1, Err(types::Error::Timeout(_))), "{ended:?}");
    assert!(ended[1].1.is_ok(), "{ended:?}");
}
