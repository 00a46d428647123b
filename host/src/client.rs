//! The client that many tasks share.
//!
//! One task, the [`Worker`], owns the component's instance, which does one thing at a time. Callers
//! hand it their calls through a channel. It submits what has gathered there to the component, and
//! waits there for any command's end; a new call ends that wait. So the calls of many tasks travel
//! together, and each returns on its own. Each clone has a lane of its own there, and the lanes
//! take turns: nobody waits for the end of another's long pipeline.

mod connection;
mod events;
mod flight;
mod health;
mod lanes;
mod requests;
mod scan;
mod script;
mod submit;
mod watched;
mod worker;

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{Notify, mpsc, oneshot};

use crate::bindings::exports::keyslot::redis::redis_cluster::{
    Counter, NodeStatistics, Route, ScanSubject, Shard,
};
use crate::instance::Instance;
use crate::{Error, Options, Reply};
pub use connection::Connection;
use connection::Lease;
pub use events::{Event, Events};
use events::{Feed, Subscriptions};
pub use health::NodeReport;
use lanes::{Lane, Progress, Run};
use requests::Requests;
pub use scan::{Scan, ScanOptions};
use script::Known;
pub use script::Script;
use submit::Outcomes;
pub use submit::{Load, Submitted};
pub use watched::Watched;
use worker::Worker;

/// How many calls wait in the channel before callers wait for a place in it.
const QUEUE_LENGTH: usize = 1_024;

/// A connected client of a Redis or Valkey Cluster, or of one server.
///
/// A clone is the same client: clone it into each task that needs it. When the last one is dropped,
/// the component's instance and its connections are too.
///
/// - Calls of many tasks travel together: what waits at the same moment is handed to the component
///   at once. Each returns when its own commands have ended: a node that does not answer delays
///   only those who ask it.
/// - All commands for one node share a connection, which answers in order: one that is slow to
///   answer (a large `KEYS`) delays those for the same node that were sent after it.
///   [`lend`](Self::lend) gives it a connection of its own. Those that block (`BLPOP`) have one in
///   any case.
/// - Each clone is a caller of its own, and so is each [`Connection`]. What one caller asks is
///   executed in the order in which it called, for each key; between callers there is no order but
///   that of an answer and a later call. They take turns: however long one's pipeline is, the
///   others' calls pass.
/// - A caller that drops its future gives its commands up. What has been sent is executed all the
///   same; but one that blocks (`BLPOP`) has its connection closed, so that nothing is taken for
///   nobody.
/// - The component sees to its sockets only during a call. A connection that dies meanwhile is
///   noticed by the next call, which sends again what cannot have been executed.
/// - Should the component trap or reach its memory limit, all who wait get [`Error::Host`], and the
///   next call starts a fresh instance and connects again.
pub struct Client {
    handle: Arc<Handle>,
    lane: Lane,
}

/// What the clones of a client share.
struct Handle {
    calls: mpsc::Sender<Call>,
    subscriptions: Subscriptions,
    /// Told when a caller has given up a call.
    given_up: Arc<Notify>,
    /// The number of the next lane. None is used twice.
    next_lane: AtomicU64,
    /// Dropped with the last clone, which ends the task in the middle of what it does.
    _alive: oneshot::Sender<Infallible>,
}

impl Handle {
    /// A lane for another caller.
    fn lane(&self) -> Lane {
        Lane::new(self.next_lane.fetch_add(1, Ordering::Relaxed))
    }

    async fn execute(&self, lane: Lane, target: Target, requests: Requests) -> Result<Reply, Error> {
        let progress = |reply| Progress::New(Caller::One(reply));
        let run = |reply| Call::Run(Run { lane, target, requests, progress: progress(reply) });
        self.run(run).await
    }

    async fn pipeline(
        &self,
        lane: Lane,
        target: Target,
        commands: Vec<Vec<Vec<u8>>>,
    ) -> Vec<Result<Reply, Error>> {
        // Each command's words are dropped when it has been encoded.
        let requests = Requests::many(commands.into_iter());
        let count = requests.count();
        if count == 0 {
            return Vec::new();
        }
        let progress = |reply| Progress::New(Caller::Many(reply));
        let run = |reply| Call::Run(Run { lane, target, requests, progress: progress(reply) });
        self.run(run).await.unwrap_or_else(|error| vec![Err(error); count])
    }

    /// As `call`, of one with commands: when it is given up the worker is told.
    async fn run<T>(&self, call: impl FnOnce(Answer<T>) -> Call) -> Result<T, Error> {
        struct Guard<'a>(Option<&'a Notify>);
        impl Drop for Guard<'_> {
            fn drop(&mut self) {
                if let Some(given_up) = self.0 {
                    given_up.notify_one();
                }
            }
        }
        let mut guard = Guard(Some(&self.given_up));
        let result = self.call(call).await;
        guard.0 = None;
        result
    }

    /// Puts a call into the channel and waits for its answer.
    async fn call<T>(&self, call: impl FnOnce(Answer<T>) -> Call) -> Result<T, Error> {
        let (sender, receiver) = oneshot::channel();
        let sent = self.calls.send(call(sender)).await;
        sent.map_err(|_| ended())?;
        receiver.await.unwrap_or_else(|_| Err(ended()))
    }
}

/// What becomes of calls whose worker is gone.
fn ended() -> Error {
    Error::Host("the runtime that ran the client has ended".to_owned())
}

/// A future whose code is compiled with this crate. That of an async function is compiled with
/// whoever awaits it; in a caller's debug build each byte that goes into or comes out of the
/// component would cost some ten nanoseconds.
type Compiled<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

fn start(options: &Options) -> Compiled<'_, Result<Instance, Error>> {
    Box::pin(Instance::start(options))
}

/// Runs the worker until the last clone is gone.
fn work(worker: Worker, gone: oneshot::Receiver<Infallible>) -> Compiled<'static, ()> {
    Box::pin(async move {
        tokio::select! {
            _ = gone => {}
            () = worker.run() => {}
        }
    })
}

impl Client {
    /// Starts the component and connects to the first of the options' nodes that answers.
    ///
    /// Must be called in a tokio runtime, which then runs the client's task. The first call in a
    /// process loads the component; the first on a machine also compiles it, which takes about
    /// a second, and keeps the outcome in the user's cache directory.
    ///
    /// # Errors
    ///
    /// Those of the component (`client.connect` in the WIT package), as they are:
    /// [`Error::InvalidArgument`], [`Error::Connect`], [`Error::Authentication`], [`Error::Tls`].
    /// [`Error::Host`] when the component could not be started.
    pub async fn connect(options: Options) -> Result<Self, Error> {
        let instance = start(&options).await?;
        let (calls, queue) = mpsc::channel(QUEUE_LENGTH);
        let (alive, gone) = oneshot::channel();
        let (feed, subscriptions) = Feed::new();
        let given_up = Arc::new(Notify::new());
        let worker = Worker::new(options, instance, queue, Arc::clone(&given_up), feed);
        tokio::spawn(work(worker, gone));
        let handle =
            Arc::new(Handle { calls, subscriptions, given_up, next_lane: AtomicU64::new(0), _alive: alive });
        Ok(Self { lane: handle.lane(), handle })
    }

    /// Runs one command, given as its name and arguments, and returns its reply.
    ///
    /// # Errors
    ///
    /// [`Error::Server`] is the server's error reply. Every other case of [`Error`] can come, too.
    pub fn execute(
        &self,
        args: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) -> impl Future<Output = Result<Reply, Error>> + Send {
        let args: Vec<_> = args.into_iter().collect();
        self.handle.execute(self.lane, Target::Cluster, Requests::one(&args))
    }

    /// Runs many commands: one write for each node, all nodes at the same time. The results are in
    /// the commands' order, and each is independent of the others. Commands for one slot are
    /// executed in their order.
    ///
    /// However long it is, the component has at most 16 MiB and 40,000 commands of it at a time,
    /// and the replies that have just come: its memory does not grow with the pipeline. The
    /// replies together are bounded by the limit `reply-size`. Later calls of this clone wait
    /// until the last of it is in the component; those of other clones do not.
    pub async fn pipeline(&self, commands: Vec<Vec<Vec<u8>>>) -> Vec<Result<Reply, Error>> {
        self.handle.pipeline(self.lane, Target::Cluster, commands).await
    }

    /// Runs one command on each of the route's nodes and on no others, whatever its keys, all at
    /// the same time. Gives what each has answered, with its address, in the topology's order.
    /// Redirects are not followed, nothing is merged.
    ///
    /// A replica answers commands with keys only where the client reads from replicas
    /// ([`Options::replica_reads`]); else it answers MOVED.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] for a node or slot that cannot be, [`Error::ClusterDown`] when no
    /// node is known to serve the slot. What is wrong with a node, or with the command, is told
    /// in its result.
    pub async fn execute_on(
        &self,
        route: Route,
        args: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) -> Result<Vec<(String, Result<Reply, Error>)>, Error> {
        let args: Vec<Vec<u8>> = args.into_iter().map(|arg| arg.as_ref().to_vec()).collect();
        let nodes = self.handle.call(|reply| Call::Ask(Question::Nodes { route, reply })).await??;
        let answers = self.ask_each(nodes, &args).await;
        Ok(answers.into_iter().map(|(node, answer, _)| (node, answer)).collect())
    }

    /// Lends a connection of one's own to the primary that serves this key's slot, or, without a
    /// key, to any primary. Dropping it gives it back.
    ///
    /// Returns at once. The connection may still have to be opened, or to come back from another
    /// borrower: its commands wait for that, and fail when it takes longer than
    /// [`PoolSetting::CheckoutTimeoutMs`](crate::PoolSetting::CheckoutTimeoutMs).
    ///
    /// # Errors
    ///
    /// As [`Self::topology`].
    pub async fn lend(&self, key: Option<&[u8]>) -> Result<Connection, Error> {
        let key = key.map(<[u8]>::to_vec);
        let lease = self.handle.call(|reply| Call::Ask(Question::Lend { key, reply })).await?;
        Ok(Connection::new(lease, Arc::clone(&self.handle)))
    }

    /// What happens to the client from now on: connections made and lost, failovers, slots that
    /// move, retries. It may begin with what has happened since the client was last used.
    ///
    /// While commands are under way, events come within a tenth of a second. The component runs
    /// only during its calls: an idle client sees nothing, but as long as somebody holds an
    /// `Events`, it is looked at once a second.
    ///
    /// Each event is also one of `tracing`, with the target `keyslot::events` and the event's parts
    /// as fields.
    #[must_use]
    pub fn events(&self) -> Events {
        self.handle.subscriptions.subscribe()
    }

    /// The address, `host:port`, of the primary that serves this key's slot, as the component now
    /// knows the topology.
    ///
    /// # Errors
    ///
    /// [`Error::ClusterDown`] when no node is known to serve the slot.
    pub async fn node_for_key(&self, key: &[u8]) -> Result<String, Error> {
        let key = key.to_vec();
        self.handle.call(|reply| Call::Ask(Question::NodeForKey { key, reply })).await?
    }

    /// The hash slot of a key.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] and [`Error::Host`] only.
    pub async fn keyslot(&self, key: &[u8]) -> Result<u16, Error> {
        let key = key.to_vec();
        self.handle.call(|reply| Call::Ask(Question::Keyslot { key, reply })).await
    }

    /// The topology as the component now knows it, in order of the first slot.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] and [`Error::Host`]; after a trap also those of [`Self::connect`].
    pub async fn topology(&self) -> Result<Vec<Shard>, Error> {
        self.handle.call(|reply| Call::Ask(Question::Topology { reply })).await
    }

    /// The component's counters, which the WIT package lists.
    ///
    /// # Errors
    ///
    /// As [`Self::topology`].
    pub async fn counters(&self) -> Result<Vec<Counter>, Error> {
        self.handle.call(|reply| Call::Ask(Question::Counters { reply })).await
    }

    /// What is counted for each node, in order of the addresses: the component's counters, which
    /// the WIT package lists.
    ///
    /// # Errors
    ///
    /// As [`Self::topology`].
    pub async fn statistics(&self) -> Result<Vec<NodeStatistics>, Error> {
        self.handle.call(|reply| Call::Ask(Question::Statistics { reply })).await
    }

    /// How much linear memory the component has, in bytes. It grows to what was needed at most and
    /// does not shrink.
    ///
    /// # Errors
    ///
    /// As [`Self::topology`].
    pub async fn memory(&self) -> Result<u64, Error> {
        self.handle.call(|reply| Call::Ask(Question::Memory { reply })).await
    }

    /// Closes every connection when the calls before this one have ended, for all clones; those
    /// that take longer than the request time-out, as commands that block may, end as
    /// [`Error::Closed`]. So does each later call, at once. Closing twice does nothing.
    pub async fn close(&self) {
        // A failure to close is one of the instance, which is then gone: closed is what it is.
        let _ = self.handle.call(|reply| Call::Close { reply }).await;
    }
}

/// A caller of its own, with the same connections.
impl Clone for Client {
    fn clone(&self) -> Self {
        Self { lane: self.handle.lane(), handle: Arc::clone(&self.handle) }
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

/// Where the result of a call goes. The caller may have gone.
type Answer<T> = oneshot::Sender<Result<T, Error>>;

/// What a caller asks for.
enum Call {
    Run(Run),
    Ask(Question),
    Close { reply: Answer<()> },
}

impl Call {
    fn refuse(self, error: &Error) {
        fn tell<T>(reply: Answer<T>, error: &Error) {
            let _ = reply.send(Err(error.clone()));
        }
        match self {
            Self::Run(run) => run.fail(error),
            Self::Ask(question) => match question {
                Question::NodeForKey { reply, .. } => tell(reply, error),
                Question::Keyslot { reply, .. } => tell(reply, error),
                Question::Topology { reply } => tell(reply, error),
                Question::Counters { reply } => tell(reply, error),
                Question::Statistics { reply } => tell(reply, error),
                Question::Memory { reply } => tell(reply, error),
                Question::Lend { reply, .. } | Question::Scan { reply, .. } => tell(reply, error),
                Question::ScanToken { reply, .. } => tell(reply, error),
                Question::Nodes { reply, .. } => tell(reply, error),
                Question::Script { reply, .. } => tell(reply, error),
            },
            // Closing twice does nothing.
            Self::Close { reply } => drop(reply.send(Ok(()))),
        }
    }
}

/// Where commands go.
#[derive(Clone, PartialEq, Eq)]
enum Target {
    /// Where their keys are.
    Cluster,
    /// To this node and no other.
    Node(String),
    /// Over the connection that was lent with this number.
    Lent(u64),
    /// As one transaction, where its keys are.
    Transaction,
    /// As one transaction, over the connection that was lent with this number.
    TransactionOn(u64),
    /// To the scan with this number, for its next batch.
    Scan(u64),
}

impl Target {
    /// Whether the commands of different calls may go together.
    fn joins(&self, other: &Self) -> bool {
        self == other && !matches!(self, Self::Transaction | Self::TransactionOn(_))
    }
}

/// Who waits for the results of commands.
enum Caller {
    One(Answer<Reply>),
    Many(Answer<Vec<Result<Reply, Error>>>),
    /// Somebody who does not read the replies.
    Outcomes(Outcomes),
    /// Nobody: a command of the worker's own.
    Nobody,
}

/// What is answered without a server.
enum Question {
    NodeForKey { key: Vec<u8>, reply: Answer<Result<String, Error>> },
    Keyslot { key: Vec<u8>, reply: Answer<u16> },
    Topology { reply: Answer<Vec<Shard>> },
    Counters { reply: Answer<Vec<Counter>> },
    Statistics { reply: Answer<Vec<NodeStatistics>> },
    Memory { reply: Answer<u64> },
    Lend { key: Option<Vec<u8>>, reply: Answer<Lease> },
    Scan { subject: ScanSubject, options: Box<ScanOptions>, reply: Answer<Lease> },
    ScanToken { scan: u64, reply: Answer<Option<Vec<u8>>> },
    Nodes { route: Route, reply: Answer<Result<Vec<String>, Error>> },
    Script { source: Vec<u8>, reply: Answer<Known> },
}

#[cfg(all(test, keyslot_embedded))]
mod tests;
