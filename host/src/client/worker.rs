//! The task that owns the instance.

use std::future::pending;

use tokio::sync::mpsc;

use super::flight::{Batch, Flight};
use super::{Answer, Call, Question};
use crate::bindings::exports::keyslot::redis::redis_cluster::Completion;
use crate::instance::{Instance, Trap};
use crate::{Error, Options, Reply};

/// How long one wait lasts at most, in milliseconds: the component wakes up in time for all that it has to do.
const WAIT_MS_MAX: u32 = u32::MAX;

/// ```text
///  channel ── gather ──→ Batch ── submit ──→ component ── wait ──→ Flight ──→ callers
/// ```
pub(super) struct Worker {
    options: Options,
    /// None after a trap, until the next call, and once closed.
    instance: Option<Instance>,
    closed: bool,
    queue: mpsc::Receiver<Call>,
    /// The call that was taken from the queue and could not be dealt with yet. None is taken before it is.
    next: Option<Call>,
    /// Calls whose commands the instance has; none without an instance.
    flight: Flight,
}

impl Worker {
    pub(super) fn new(options: Options, instance: Instance, queue: mpsc::Receiver<Call>) -> Self {
        let flight = Flight::new(&options);
        Self { options, instance: Some(instance), closed: false, queue, next: None, flight }
    }

    /// Runs until the last client is gone.
    pub(super) async fn run(mut self) {
        loop {
            if self.next.is_none() && self.flight.is_empty() {
                match self.queue.recv().await {
                    Some(call) => self.next = Some(call),
                    None => return,
                }
            }
            let batch = self.gather();
            if !batch.is_empty() {
                self.submit(batch).await;
            }
            match self.next.take() {
                Some(Call::Ask(question)) => self.answer(question).await,
                Some(Call::Close { reply }) if self.flight.is_empty() => self.close(reply).await,
                other => self.next = other,
            }
            if !self.flight.is_empty() {
                self.wait().await;
            }
        }
    }

    /// Takes what waits in the channel, up to a batch's bounds, the flight's, or a call that is not one of commands.
    fn gather(&mut self) -> Batch {
        let mut batch = Batch::default();
        while !batch.is_full() {
            let Some(call) = self.next.take().or_else(|| self.queue.try_recv().ok()) else {
                break;
            };
            self.next = match call {
                Call::Run { commands, caller } => batch
                    .add(commands, caller, &self.flight)
                    .map(|(commands, caller)| Call::Run { commands, caller }),
                other @ (Call::Ask(_) | Call::Close { .. }) => Some(other),
            };
            if self.next.is_some() {
                break;
            }
        }
        batch
    }

    async fn submit(&mut self, batch: Batch) {
        let instance = match self.instance().await {
            Ok(instance) => instance,
            Err(error) => return batch.fail(&error),
        };
        let outcome = instance.submit(batch.commands()).await;
        match self.settle(outcome) {
            Ok(first) => self.flight.enter(first, batch),
            Err(error) => batch.fail(&error),
        }
    }

    /// Waits until a command has ended or a call has come, and hands over what there is.
    async fn wait(&mut self) {
        let Some(instance) = &mut self.instance else {
            return self.flight.fail(&Error::Closed);
        };
        let (queue, next) = (&mut self.queue, &mut self.next);
        let called = async {
            if next.is_none() {
                *next = queue.recv().await;
                if next.is_some() {
                    // Others who were woken at the same moment have theirs ready soon: one submission for all of them.
                    return tokio::task::yield_now().await;
                }
            }
            // The call that waits has to wait for what is under way; or no call will come.
            pending::<()>().await;
        };
        let outcome = instance.wait(WAIT_MS_MAX, called).await;
        let Ok(completions) = self.settle(outcome) else {
            return;
        };
        for Completion { ticket, result } in completions {
            if !self.flight.land(ticket, result.map(Reply::new).map_err(Error::from)) {
                let _ = self.settle::<()>(Err(Trap(format!(
                    "the component completed {ticket}, which was not under way"
                ))));
                return;
            }
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
    /// with it its connections and what was under way on them.
    fn settle<T>(&mut self, outcome: Result<T, Trap>) -> Result<T, Error> {
        outcome.map_err(|Trap(message)| {
            tracing::error!("the component was given up: {message}");
            self.instance = None;
            let error = Error::Host(message);
            self.flight.fail(&error);
            error
        })
    }
}
