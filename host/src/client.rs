//! The client that many tasks share.
//!
//! One task, the [`Worker`], owns the component's instance, which does one thing at a time. Callers
//! hand it their calls through a channel. It submits what has gathered there to the component, and
//! waits there for any command's end; a new call ends that wait. So the calls of many tasks travel
//! together, and each returns on its own. Each clone is a caller with a queue of its own, and the
//! callers take turns: nobody waits for the end of another's long pipeline.
//!
//! ```text
//!  Client, Connection, Scan …           what callers have
//!    Handle ── Call: Submission, Query ──→ channel
//!  Worker                               the task
//!    FairQueue, InFlight, Resources        what it keeps
//!    Instance                              the component
//! ```

mod call;
pub(crate) mod connection;
pub(crate) mod events;
mod fair_queue;
mod handle;
mod in_flight;
mod lease;
pub(crate) mod nodes;
mod outcomes;
mod recipient;
mod requests;
mod resources;
pub(crate) mod scan;
pub(crate) mod script;
mod submission;
pub(crate) mod submit;
pub(crate) mod watched;
mod worker;

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::{Notify, mpsc, oneshot};

use self::call::Query;
use self::events::{Events, Feed};
use self::handle::Handle;
use self::requests::Requests;
use self::submission::{CallerId, Target};
use self::worker::Worker;
use crate::bindings::exports::keyslot::redis::redis_cluster::{Counter, NodeStatistics, Shard};
use crate::instance::Instance;
use crate::{Error, Options, Reply};

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
/// - Each clone is a caller of its own, and so is each [`Connection`](crate::Connection). The calls
///   of one caller are executed in the order in which it made them, for each key; between callers
///   there is no order but that of an answer and a later call. They take turns: however long one's
///   pipeline is, the others' calls pass.
/// - A caller that drops its future cancels its commands. What has been sent is executed all the
///   same; but one that blocks (`BLPOP`) has its connection closed, so that nothing is taken for
///   nobody.
/// - The component sees to its sockets only during a call. A connection that dies meanwhile is
///   noticed by the next call, which sends again what cannot have been executed.
/// - Should the component trap or reach its memory limit, all who wait get [`Error::Host`], and the
///   next call starts a fresh instance and connects again.
pub struct Client {
    handle: Arc<Handle>,
    caller: CallerId,
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
        let (feed, listeners) = Feed::new();
        let cancelled = Arc::new(Notify::new());
        let worker = Worker::new(options, instance, queue, Arc::clone(&cancelled), feed);
        tokio::spawn(work(worker, gone));
        let handle = Arc::new(Handle::new(calls, listeners, cancelled, alive));
        Ok(Self { caller: handle.new_caller(), handle })
    }

    /// Connects as one string says, which is [`connect`](Self::connect) with the options of this
    /// URL: `redis://app:secret@h1:7000,h2:7000/0?request-timeout=2s&replica-reads=same-zone`. The
    /// settings are those of [`Options::set`].
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect).
    pub async fn open(url: impl Into<String>) -> Result<Self, Error> {
        Self::connect(Options::new([url])).await
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
        self.handle.execute(self.caller, Target::Cluster, Requests::one(&args))
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
        self.handle.pipeline(self.caller, Target::Cluster, commands).await
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
        self.handle.listen()
    }

    /// The address, `host:port`, of the primary that serves this key's slot, as the component now
    /// knows the topology.
    ///
    /// # Errors
    ///
    /// [`Error::ClusterDown`] when no node is known to serve the slot.
    pub async fn node_for_key(&self, key: &[u8]) -> Result<String, Error> {
        let key = key.to_vec();
        self.handle.ask(|reply| Query::NodeForKey { key, reply }).await?
    }

    /// The hash slot of a key.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] and [`Error::Host`] only.
    pub async fn keyslot(&self, key: &[u8]) -> Result<u16, Error> {
        let key = key.to_vec();
        self.handle.ask(|reply| Query::Keyslot { key, reply }).await
    }

    /// The topology as the component now knows it, in order of the first slot.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] and [`Error::Host`]; after a trap also those of [`Self::connect`].
    pub async fn topology(&self) -> Result<Vec<Shard>, Error> {
        self.handle.ask(|reply| Query::Topology { reply }).await
    }

    /// The component's counters, which the WIT package lists.
    ///
    /// # Errors
    ///
    /// As [`Self::topology`].
    pub async fn counters(&self) -> Result<Vec<Counter>, Error> {
        self.handle.ask(|reply| Query::Counters { reply }).await
    }

    /// What is counted for each node, in order of the addresses: the component's counters, which
    /// the WIT package lists.
    ///
    /// # Errors
    ///
    /// As [`Self::topology`].
    pub async fn statistics(&self) -> Result<Vec<NodeStatistics>, Error> {
        self.handle.ask(|reply| Query::Statistics { reply }).await
    }

    /// How much linear memory the component has, in bytes. It grows to what was needed at most and
    /// does not shrink.
    ///
    /// # Errors
    ///
    /// As [`Self::topology`].
    pub async fn memory(&self) -> Result<u64, Error> {
        self.handle.ask(|reply| Query::Memory { reply }).await
    }

    /// Closes every connection when the calls before this one have ended, for all clones; those
    /// that take longer than the request time-out, as commands that block may, end as
    /// [`Error::Closed`]. So does each later call, at once. Closing twice does nothing.
    pub async fn close(&self) {
        // A failure to close is one of the instance, which is then gone: closed is what it is.
        let _ = self.handle.close().await;
    }
}

/// A caller of its own, with the same connections.
impl Clone for Client {
    fn clone(&self) -> Self {
        Self { caller: self.handle.new_caller(), handle: Arc::clone(&self.handle) }
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

#[cfg(all(test, keyslot_embedded))]
mod tests;
