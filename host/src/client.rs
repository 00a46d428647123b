//! The client that many tasks share.
//!
//! One task, the [`Worker`], owns the component's instance, which does one thing at a time. Callers hand it their
//! calls through a channel. It submits what has gathered there to the component, and waits there for any command's
//! end; a new call ends that wait. So the calls of many tasks travel together, and each returns on its own.

mod connection;
mod events;
mod flight;
mod health;
mod requests;
mod scan;
mod worker;

use std::convert::Infallible;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use crate::bindings::exports::keyslot::redis::redis_cluster::{
    Counter, NodeStatistics, Route, ScanSubject, Shard,
};
use crate::instance::Instance;
use crate::{Error, Options, Reply};
pub use connection::Connection;
use connection::Lease;
pub use events::{Event, Events};
use events::{Feed, Subscriptions};
use flight::Progress;
pub use health::NodeReport;
use requests::Requests;
pub use scan::{Scan, ScanOptions};
use worker::Worker;

/// How many calls wait in the channel before callers wait for a place in it.
const QUEUE_LENGTH: usize = 1_024;

/// A connected client of a Redis or Valkey Cluster, or of one server.
///
/// A clone is the same client: clone it into each task that needs it. When the last one is dropped, the
/// component's instance and its connections are too.
///
/// - Calls of many tasks travel together: what waits at the same moment is handed to the component at once. Each
///   returns when its own commands have ended: a node that does not answer delays only those who ask it.
/// - All commands for one node share a connection, which answers in order: one that is slow to answer (`BLPOP`, a
///   large `KEYS`) delays those for the same node that were sent after it. [`lend`](Self::lend) gives it a connection of
///   its own.
/// - One caller's commands are executed in the order in which it called, for each key.
/// - A caller that drops its future drops the reply. The command is sent all the same, unless it was not yet
///   its turn.
/// - The component sees to its sockets only during a call. A connection that dies meanwhile is noticed by
///   the next call, which sends again what cannot have been executed.
/// - Should the component trap or reach its memory limit, all who wait get [`Error::Host`], and the next call
///   starts a fresh instance and connects again.
#[derive(Clone)]
pub struct Client {
    handle: Arc<Handle>,
}

/// What the clones of a client share.
struct Handle {
    calls: mpsc::Sender<Call>,
    subscriptions: Subscriptions,
    /// Dropped with the last clone, which ends the task in the middle of what it does.
    _alive: oneshot::Sender<Infallible>,
}

impl Handle {
    async fn execute(&self, target: Target, requests: Requests) -> Result<Reply, Error> {
        let run = |reply| Call::Run { target, requests, progress: Progress::New(Caller::One(reply)) };
        self.call(run).await
    }

    async fn pipeline(&self, target: Target, commands: Vec<Vec<Vec<u8>>>) -> Vec<Result<Reply, Error>> {
        // Each command's words are dropped when it has been encoded.
        let requests = Requests::many(commands.into_iter());
        let count = requests.count();
        if count == 0 {
            return Vec::new();
        }
        let run = |reply| Call::Run { target, requests, progress: Progress::New(Caller::Many(reply)) };
        self.call(run).await.unwrap_or_else(|error| vec![Err(error); count])
    }

    /// Puts a call into the channel and waits for its answer.
    async fn call<T>(&self, call: impl FnOnce(Answer<T>) -> Call) -> Result<T, Error> {
        let ended = || Error::Host("the runtime that ran the client has ended".to_owned());
        let (sender, receiver) = oneshot::channel();
        let sent = self.calls.send(call(sender)).await;
        sent.map_err(|_| ended())?;
        receiver.await.unwrap_or_else(|_| Err(ended()))
    }
}

impl Client {
    /// Starts the component and connects to the first of the options' nodes that answers.
    ///
    /// Must be called in a tokio runtime, which then runs the client's task. The first call in a process
    /// loads the component; the first on a machine also compiles it, which takes about a second, and keeps
    /// the outcome in the user's cache directory.
    ///
    /// # Errors
    ///
    /// Those of the component (`client.connect` in the WIT package), as they are:
    /// [`Error::InvalidArgument`], [`Error::Connect`], [`Error::Authentication`], [`Error::Tls`].
    /// [`Error::Host`] when the component could not be started.
    pub async fn connect(options: Options) -> Result<Self, Error> {
        let instance = Box::pin(Instance::start(&options)).await?;
        let (calls, queue) = mpsc::channel(QUEUE_LENGTH);
        let (alive, gone) = oneshot::channel();
        let (feed, subscriptions) = Feed::new();
        let worker = Worker::new(options, instance, queue, feed);
        tokio::spawn(async move {
            tokio::select! {
                _ = gone => {}
                () = Box::pin(worker.run()) => {}
            }
        });
        Ok(Self { handle: Arc::new(Handle { calls, subscriptions, _alive: alive }) })
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
        self.handle.execute(Target::Cluster, Requests::one(&args))
    }

    /// Runs many commands: one write for each node, all nodes at the same time. The results are in the
    /// commands' order, and each is independent of the others. Commands for one slot are executed in their order.
    ///
    /// However long it is, the component has at most 16 MiB and 40,000 commands of it at a time, and the replies that have just
    /// come: its memory does not grow with the pipeline. The replies together are bounded by the limit `reply-size`. Calls that come
    /// later wait until the last of it is in the component.
    pub async fn pipeline(&self, commands: Vec<Vec<Vec<u8>>>) -> Vec<Result<Reply, Error>> {
        self.handle.pipeline(Target::Cluster, commands).await
    }

    /// Runs one command on each of the route's nodes and on no others, whatever its keys, all at the same time. Gives what
    /// each has answered, with its address, in the topology's order. Redirects are not followed, nothing is merged.
    ///
    /// A replica answers commands with keys only where the client reads from replicas ([`Options::replica_reads`]); else
    /// it answers MOVED.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] for a node or slot that cannot be, [`Error::ClusterDown`] when no node is known to serve the
    /// slot. What is wrong with a node, or with the command, is told in its result.
    pub async fn execute_on(
        &self,
        route: Route,
        args: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) -> Result<Vec<(String, Result<Reply, Error>)>, Error> {
        let args: Vec<Vec<u8>> = args.into_iter().map(|arg| arg.as_ref().to_vec()).collect();
        let nodes = self.handle.call(|reply| Call::Ask(Question::Nodes { route, reply })).await??;
        let mut answers = Vec::with_capacity(nodes.len());
        for (node, answer) in self.ask_each(nodes, &args).await {
            answers.push((node, answer.map(|(reply, _)| reply)));
        }
        Ok(answers)
    }

    /// Lends a connection of one's own to the primary that serves this key's slot, or, without a key, to any primary.
    /// Dropping it gives it back.
    ///
    /// Returns at once. The connection may still have to be opened, or to come back from another borrower: its commands
    /// wait for that, and fail when it takes longer than
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

    /// What happens to the client from now on: connections made and lost, failovers, slots that move, retries. It may begin
    /// with what has happened since the client was last used.
    ///
    /// While commands are under way, events come within a tenth of a second. The component runs only during its calls: an
    /// idle client sees nothing, but as long as somebody holds an `Events`, it is looked at once a second.
    ///
    /// Each event is also one of `tracing`, with the target `keyslot::events` and the event's parts as fields.
    #[must_use]
    pub fn events(&self) -> Events {
        self.handle.subscriptions.subscribe()
    }

    /// The address, `host:port`, of the primary that serves this key's slot, as the component now knows the
    /// topology.
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

    /// What is counted for each node, in order of the addresses: the component's counters, which the WIT package lists.
    ///
    /// # Errors
    ///
    /// As [`Self::topology`].
    pub async fn statistics(&self) -> Result<Vec<NodeStatistics>, Error> {
        self.handle.call(|reply| Call::Ask(Question::Statistics { reply })).await
    }

    /// How much linear memory the component has, in bytes. It grows to what was needed at most and does not shrink.
    ///
    /// # Errors
    ///
    /// As [`Self::topology`].
    pub async fn memory(&self) -> Result<u64, Error> {
        self.handle.call(|reply| Call::Ask(Question::Memory { reply })).await
    }

    /// Closes every connection when the calls before this one have ended, for all clones. Each later call
    /// is [`Error::Closed`]. Closing twice does nothing.
    pub async fn close(&self) {
        // A failure to close is one of the instance, which is then gone: closed is what it is.
        let _ = self.handle.call(|reply| Call::Close { reply }).await;
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
    Run { target: Target, requests: Requests, progress: Progress },
    Ask(Question),
    Close { reply: Answer<()> },
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
    /// To the scan with this number, for its next batch.
    Scan(u64),
}

/// Who waits for the results of commands.
enum Caller {
    One(Answer<Reply>),
    Many(Answer<Vec<Result<Reply, Error>>>),
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
}

#[cfg(all(test, keyslot_embedded))]
mod tests;
