//! The client that many tasks share.
//!
//! One task owns the component's instance, which does one thing at a time. Callers hand it their calls
//! through a channel. What has gathered there while the instance was busy goes to it as one `pipeline`:
//! the more callers, the larger the batches, and a round trip serves them all.

use std::convert::Infallible;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use crate::bindings::exports::keyslot::redis::redis_cluster::{Counter, Shard};
use crate::instance::{Instance, Trap};
use crate::{Error, Options, Reply};

/// How many calls wait in the channel before callers wait for a place in it.
const QUEUE_LENGTH: usize = 1_024;

/// How many commands of different calls are gathered for one pipeline. One call's own pipeline is never
/// taken apart, so a batch can be longer by one call.
const BATCH_COMMANDS_MAX: usize = 1_000;

/// How many bytes of arguments are gathered for one pipeline: they and their replies lie in the component's
/// memory at the same time.
const BATCH_BYTES_MAX: usize = 4 << 20;

/// A command's name and arguments.
pub(crate) type Command = Vec<Vec<u8>>;

/// A connected client of a Redis or Valkey Cluster, or of one server.
///
/// A clone is the same client: clone it into each task that needs it. When the last one is dropped, the
/// component's instance and its connections are too.
///
/// - Calls of many tasks travel together: what waits at the same moment is sent as one pipeline, and each
///   caller gets its reply when the last of that pipeline has come. A command that is slow to answer
///   (`BLPOP`, a large `KEYS`) delays those that were sent with it or after it: give it a client of its own.
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
    /// Dropped with the last clone, which ends the task in the middle of what it does.
    _alive: oneshot::Sender<Infallible>,
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
        let worker = Worker { options, instance: Some(instance), closed: false, queue, next: None };
        tokio::spawn(async move {
            tokio::select! {
                _ = gone => {}
                () = Box::pin(worker.run()) => {}
            }
        });
        Ok(Self { handle: Arc::new(Handle { calls, _alive: alive }) })
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
        let command: Command = args.into_iter().map(|arg| arg.as_ref().to_vec()).collect();
        self.call(|reply| Call::Execute { command, reply })
    }

    /// Runs many commands: one write for each node, all nodes at the same time. The results are in the
    /// commands' order, and each is independent of the others.
    ///
    /// The commands and their replies must fit into the component's memory at the same time
    /// ([`Options::memory_limit`]).
    pub async fn pipeline(&self, commands: Vec<Vec<Vec<u8>>>) -> Vec<Result<Reply, Error>> {
        if commands.is_empty() {
            return Vec::new();
        }
        let count = commands.len();
        self.call(|reply| Call::Pipeline { commands, reply })
            .await
            .unwrap_or_else(|error| vec![Err(error); count])
    }

    /// The address, `host:port`, of the primary that serves this key's slot, as the component now knows the
    /// topology.
    ///
    /// # Errors
    ///
    /// [`Error::ClusterDown`] when no node is known to serve the slot.
    pub async fn node_for_key(&self, key: &[u8]) -> Result<String, Error> {
        let key = key.to_vec();
        self.call(|reply| Call::Ask(Question::NodeForKey { key, reply })).await
    }

    /// The hash slot of a key.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] and [`Error::Host`] only.
    pub async fn keyslot(&self, key: &[u8]) -> Result<u16, Error> {
        let key = key.to_vec();
        self.call(|reply| Call::Ask(Question::Keyslot { key, reply })).await
    }

    /// The topology as the component now knows it, in order of the first slot.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] and [`Error::Host`]; after a trap also those of [`Self::connect`].
    pub async fn topology(&self) -> Result<Vec<Shard>, Error> {
        self.call(|reply| Call::Ask(Question::Topology { reply })).await
    }

    /// The component's counters, which the WIT package lists.
    ///
    /// # Errors
    ///
    /// As [`Self::topology`].
    pub async fn counters(&self) -> Result<Vec<Counter>, Error> {
        self.call(|reply| Call::Ask(Question::Counters { reply })).await
    }

    /// Closes every connection when the calls before this one have ended, for all clones. Each later call
    /// is [`Error::Closed`]. Closing twice does nothing.
    pub async fn close(&self) {
        // A failure to close is one of the instance, which is then gone: closed is what it is.
        let _ = self.call(|reply| Call::Close { reply }).await;
    }

    /// Puts a call into the channel and waits for its answer.
    async fn call<T>(&self, call: impl FnOnce(Answer<T>) -> Call) -> Result<T, Error> {
        let ended = || Error::Host("the runtime that ran the client has ended".to_owned());
        let (sender, receiver) = oneshot::channel();
        let sent = self.handle.calls.send(call(sender)).await;
        sent.map_err(|_| ended())?;
        receiver.await.unwrap_or_else(|_| Err(ended()))
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
    Execute { command: Command, reply: Answer<Reply> },
    Pipeline { commands: Vec<Command>, reply: Answer<Vec<Result<Reply, Error>>> },
    Ask(Question),
    Close { reply: Answer<()> },
}

/// What the component answers without a server.
enum Question {
    NodeForKey { key: Vec<u8>, reply: Answer<String> },
    Keyslot { key: Vec<u8>, reply: Answer<u16> },
    Topology { reply: Answer<Vec<Shard>> },
    Counters { reply: Answer<Vec<Counter>> },
}

/// Those who wait for results of a batch, in the order of its commands.
enum Waiting {
    One(Answer<Reply>),
    Many(usize, Answer<Vec<Result<Reply, Error>>>),
}

impl Waiting {
    /// Hands over as many results as are this caller's.
    fn answer(self, results: &mut impl Iterator<Item = Result<Reply, Error>>) {
        match self {
            Self::One(reply) => {
                if let Some(result) = results.next() {
                    let _ = reply.send(result);
                }
            }
            Self::Many(count, reply) => {
                let _ = reply.send(Ok(results.take(count).collect()));
            }
        }
    }

    fn fail(self, error: &Error) {
        match self {
            Self::One(reply) => {
                let _ = reply.send(Err(error.clone()));
            }
            Self::Many(_, reply) => {
                let _ = reply.send(Err(error.clone()));
            }
        }
    }
}

/// Commands that go to the component together.
#[derive(Default)]
struct Batch {
    commands: Vec<Command>,
    waiting: Vec<Waiting>,
    bytes: usize,
}

impl Batch {
    /// Takes a call that is one of commands and whose caller still waits; gives back any other.
    fn add(&mut self, call: Call) -> Option<Call> {
        match call {
            Call::Execute { reply, .. } if reply.is_closed() => {}
            Call::Pipeline { reply, .. } if reply.is_closed() => {}
            Call::Execute { command, reply } => {
                self.bytes += size(&command);
                self.commands.push(command);
                self.waiting.push(Waiting::One(reply));
            }
            Call::Pipeline { commands, reply } => {
                self.bytes += commands.iter().map(|command| size(command)).sum::<usize>();
                self.waiting.push(Waiting::Many(commands.len(), reply));
                self.commands.extend(commands);
            }
            other @ (Call::Ask(_) | Call::Close { .. }) => return Some(other),
        }
        None
    }

    fn is_full(&self) -> bool {
        self.commands.len() >= BATCH_COMMANDS_MAX || self.bytes >= BATCH_BYTES_MAX
    }

    fn answer(self, results: Vec<Result<Reply, Error>>) {
        let mut results = results.into_iter();
        for waiting in self.waiting {
            waiting.answer(&mut results);
        }
    }

    fn fail(self, error: &Error) {
        for waiting in self.waiting {
            waiting.fail(error);
        }
    }
}

/// The bytes of a command's arguments.
fn size(command: &[Vec<u8>]) -> usize {
    command.iter().map(Vec::len).sum()
}

/// The task that owns the instance.
struct Worker {
    options: Options,
    /// None after a trap, until the next call, and once closed.
    instance: Option<Instance>,
    closed: bool,
    queue: mpsc::Receiver<Call>,
    /// The call that ended the last batch and is not part of it.
    next: Option<Call>,
}

impl Worker {
    async fn run(mut self) {
        loop {
            let call = match self.next.take() {
                Some(call) => call,
                None => match self.queue.recv().await {
                    Some(call) => call,
                    None => return,
                },
            };
            let mut batch = Batch::default();
            match batch.add(call) {
                None => {
                    self.gather(&mut batch);
                    self.run_batch(batch).await;
                }
                Some(Call::Close { reply }) => self.close(reply).await,
                Some(Call::Ask(question)) => self.answer(question).await,
                Some(Call::Execute { .. } | Call::Pipeline { .. }) => {
                    unreachable!("a batch takes every command")
                }
            }
        }
    }

    /// Adds what waits in the channel, up to a batch's bounds or a call that is not one of commands.
    fn gather(&mut self, batch: &mut Batch) {
        while !batch.is_full() {
            let Ok(call) = self.queue.try_recv() else {
                return;
            };
            self.next = batch.add(call);
            if self.next.is_some() {
                return;
            }
        }
    }

    async fn run_batch(&mut self, mut batch: Batch) {
        if batch.commands.is_empty() {
            return;
        }
        let instance = match self.instance().await {
            Ok(instance) => instance,
            Err(error) => return batch.fail(&error),
        };
        let commands = std::mem::take(&mut batch.commands);
        let outcome = match commands.as_slice() {
            [command] => instance.execute(command).await.map(|result| vec![result]),
            commands => instance.pipeline(commands).await,
        };
        match self.settle(outcome) {
            Ok(results) => batch.answer(results),
            Err(error) => batch.fail(&error),
        }
    }

    async fn answer(&mut self, question: Question) {
        match question {
            Question::NodeForKey { key, reply } => {
                let result = match self.instance().await {
                    Ok(instance) => {
                        let outcome = instance.node_for_key(&key).await;
                        self.settle(outcome).flatten()
                    }
                    Err(error) => Err(error),
                };
                let _ = reply.send(result);
            }
            Question::Keyslot { key, reply } => {
                let result = match self.instance().await {
                    Ok(instance) => {
                        let outcome = instance.keyslot(&key).await;
                        self.settle(outcome)
                    }
                    Err(error) => Err(error),
                };
                let _ = reply.send(result);
            }
            Question::Topology { reply } => {
                let result = match self.instance().await {
                    Ok(instance) => {
                        let outcome = instance.topology().await;
                        self.settle(outcome)
                    }
                    Err(error) => Err(error),
                };
                let _ = reply.send(result);
            }
            Question::Counters { reply } => {
                let result = match self.instance().await {
                    Ok(instance) => {
                        let outcome = instance.counters().await;
                        self.settle(outcome)
                    }
                    Err(error) => Err(error),
                };
                let _ = reply.send(result);
            }
        }
    }

    /// Lets the component say goodbye to its servers, and gives it up.
    async fn close(&mut self, reply: Answer<()>) {
        self.closed = true;
        if let Some(mut instance) = self.instance.take()
            && let Err(Trap(message)) = instance.close().await
        {
            tracing::warn!("the component failed while it closed: {message}");
        }
        let _ = reply.send(Ok(()));
    }

    /// The instance, a fresh and connected one when there is none.
    async fn instance(&mut self) -> Result<&mut Instance, Error> {
        if self.closed {
            return Err(Error::Closed);
        }
        let instance = match self.instance.take() {
            Some(instance) => instance,
            None => Box::pin(Instance::start(&self.options)).await?,
        };
        Ok(self.instance.insert(instance))
    }

    /// The outcome of a call of the instance. One that trapped cannot be called again and is dropped, and
    /// with it its connections.
    fn settle<T>(&mut self, outcome: Result<T, Trap>) -> Result<T, Error> {
        outcome.map_err(|Trap(message)| {
            tracing::error!("the component was given up: {message}");
            self.instance = None;
            Error::Host(message)
        })
    }
}

#[cfg(all(test, keyslot_embedded))]
mod tests;
