//! What the tests share: servers that misbehave, the protocols that scenarios run under, and
//! waiting for conditions.
//!
//! The well-behaved servers are real ones and come from `keyslot-testcluster`.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use keyslot::{Counter, Options, RespVersion};

pub mod component;
pub mod control;
pub mod hostile;
pub mod load;
pub mod namespace;

/// Both protocols: every scenario runs under each.
pub const PROTOCOLS: [RespVersion; 2] = [RespVersion::Resp2, RespVersion::Resp3];

/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Options for these URLs with time-outs that do not make a failing test slow.
pub fn options(urls: &[String], protocol: RespVersion) -> Options {
    Options::new(urls.to_vec()).resp_version(protocol).connect_timeout(Duration::from_secs(5))
}

/// The words of a command.
#[must_use]
pub fn words(line: &str) -> Vec<Vec<u8>> {
    line.split(' ').map(|word| word.as_bytes().to_vec()).collect()
}

/// Looks again and again until the condition is true; `what` completes "waiting until". Returns how
/// long that took.
///
/// # Errors
/// When the deadline has passed, with the condition's last error if it had one.
pub async fn wait_until(
    what: &str,
    deadline: Duration,
    mut condition: impl AsyncFnMut() -> Result<bool>,
) -> Result<Duration> {
    let started = Instant::now();
    loop {
        let outcome = condition().await;
        if matches!(outcome, Ok(true)) {
            return Ok(started.elapsed());
        }
        if started.elapsed() >= deadline {
            let last = outcome.map_or_else(|error| format!("{error:#}"), |_| "it is not so".to_owned());
            bail!("after {:?} still waiting until {what}: {last}", started.elapsed());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The value of a counter; 0 when there is none of this name.
#[must_use]
pub fn count(counters: &[Counter], name: &str) -> u64 {
    counters.iter().find(|counter| counter.name == name).map_or(0, |counter| counter.value)
}

/// What a [`FakeServer`] does with what it has read.
pub enum Answer {
    /// Sends these bytes.
    Send(Vec<u8>),
    /// Sends the first bytes, and the second that much later.
    SendTwice(Vec<u8>, Duration, Vec<u8>),
    /// Sends these bytes and closes the connection.
    SendAndClose(Vec<u8>),
    /// Sends the first bytes, then the second again and again until nobody listens any more.
    Flood(Vec<u8>, Vec<u8>),
    /// Stays silent.
    Nothing,
}

/// A server on a free port that takes part in the handshake as a plain RESP3 server without cluster
/// support, and then answers each read as the test says.
pub struct FakeServer {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    connections: AtomicUsize,
    /// Second halves of [`Answer::SendTwice`] that were sent.
    sent_later: AtomicUsize,
    /// What each read brought after the handshake.
    reads: Mutex<Vec<Vec<u8>>>,
}

impl FakeServer {
    /// Starts it. `answer` is asked for each read after the handshake, with what was read and the
    /// number of the connection, from 0.
    ///
    /// # Panics
    /// When no port is free.
    pub fn start(answer: impl Fn(usize, &[u8]) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("a bound listener has an address").port();
        let shared = Arc::new(Shared::default());
        let answer = Arc::new(answer);
        let of_thread = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let number = of_thread.connections.fetch_add(1, Ordering::SeqCst);
                let (shared, answer) = (Arc::clone(&of_thread), Arc::clone(&answer));
                thread::spawn(move || serve(stream, number, &shared, &*answer));
            }
        });
        Self { port, shared }
    }

    /// `redis://127.0.0.1:port`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// How many connections it has taken.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// How many second halves of [`Answer::SendTwice`] it has sent.
    #[must_use]
    pub fn sent_later(&self) -> usize {
        self.shared.sent_later.load(Ordering::SeqCst)
    }

    /// What each read after the handshake brought, and forgets it.
    #[must_use]
    pub fn take_reads(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.shared.reads.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

fn serve(mut stream: TcpStream, number: usize, shared: &Shared, answer: &dyn Fn(usize, &[u8]) -> Answer) {
    // As servers do: what is sent a little later does not wait for the client's acknowledgement.
    let _ = stream.set_nodelay(true);
    let mut buffer = vec![0; 1 << 20];
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        let read = &buffer[..length];
        let answer = handshake(read).map_or_else(
            || {
                shared.reads.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(read.to_vec());
                answer(number, read)
            },
            Answer::Send,
        );
        let (bytes, close) = match answer {
            Answer::Send(bytes) => (bytes, false),
            Answer::SendAndClose(bytes) => (bytes, true),
            Answer::SendTwice(first, later, second) => {
                let _ = stream.write_all(&first);
                thread::sleep(later);
                let _ = stream.write_all(&second);
                shared.sent_later.fetch_add(1, Ordering::SeqCst);
                continue;
            }
            Answer::Nothing => continue,
            Answer::Flood(first, again) => {
                let much = again.repeat(4_096);
                let mut sent = stream.write_all(&first);
                while sent.is_ok() {
                    sent = stream.write_all(&much);
                }
                return;
            }
        };
        if stream.write_all(&bytes).is_err() || close {
            let _ = stream.shutdown(Shutdown::Both);
            return;
        }
    }
}

/// The answers to a batch of the client's own: HELLO and what goes with it, or the question for the
/// topology, answered as a server without cluster support does. `None` for commands of the test.
fn handshake(read: &[u8]) -> Option<Vec<u8>> {
    const NO_CLUSTER: &[u8] = b"-ERR This instance has cluster support disabled\r\n";
    let text = String::from_utf8_lossy(read);
    if !text.contains("\r\nHELLO\r\n") && !text.contains("\r\nCLUSTER\r\n") {
        return None;
    }
    let answers = text.split('*').skip(1).map(|command| match command {
        hello if hello.contains("HELLO") => &b"%1\r\n$5\r\nproto\r\n:3\r\n"[..],
        topology if topology.contains("CLUSTER") => NO_CLUSTER,
        _ => b"+OK\r\n",
    });
    Some(answers.collect::<Vec<_>>().concat())
}
