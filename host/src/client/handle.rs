//! The callers' side of the channel to the worker.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{Notify, mpsc, oneshot};

use super::call::{Call, Query};
use super::events::{EventListeners, Events};
use super::recipient::{Recipient, Responder};
use super::requests::Requests;
use super::submission::{CallerId, Submission, Target};
use crate::{Error, Reply};

/// What the clones of a client share.
pub(super) struct Handle {
    calls: mpsc::Sender<Call>,
    listeners: EventListeners,
    /// Notified when a caller has cancelled a call.
    cancelled: Arc<Notify>,
    /// The number of the next caller. None is used twice.
    next_caller: AtomicU64,
    /// Dropped with the last clone, which ends the task in the middle of what it does.
    _alive: oneshot::Sender<Infallible>,
}

impl Handle {
    pub(super) fn new(
        calls: mpsc::Sender<Call>,
        listeners: EventListeners,
        cancelled: Arc<Notify>,
        alive: oneshot::Sender<Infallible>,
    ) -> Self {
        Self { calls, listeners, cancelled, next_caller: AtomicU64::new(0), _alive: alive }
    }

    /// The id of another caller.
    pub(super) fn new_caller(&self) -> CallerId {
        CallerId::new(self.next_caller.fetch_add(1, Ordering::Relaxed))
    }

    pub(super) fn listen(&self) -> Events {
        self.listeners.listen()
    }

    pub(super) async fn execute(
        &self,
        caller: CallerId,
        target: Target,
        requests: Requests,
    ) -> Result<Reply, Error> {
        self.submit(caller, target, requests, Recipient::One).await
    }

    pub(super) async fn pipeline(
        &self,
        caller: CallerId,
        target: Target,
        commands: Vec<Vec<Vec<u8>>>,
    ) -> Vec<Result<Reply, Error>> {
        // Each command's words are dropped when it has been encoded.
        let requests = Requests::many(commands.into_iter());
        let count = requests.count();
        if count == 0 {
            return Vec::new();
        }
        let results = self.submit(caller, target, requests, Recipient::Many).await;
        results.unwrap_or_else(|error| vec![Err(error); count])
    }

    pub(super) async fn ask<T>(&self, query: impl FnOnce(Responder<T>) -> Query) -> Result<T, Error> {
        self.call(|reply| Call::Ask(query(reply))).await
    }

    pub(super) async fn close(&self) -> Result<(), Error> {
        self.call(|reply| Call::Close { reply }).await
    }

    /// Submits commands and waits for their results. A caller that drops the future cancels them.
    async fn submit<T>(
        &self,
        caller: CallerId,
        target: Target,
        requests: Requests,
        recipient: impl FnOnce(Responder<T>) -> Recipient,
    ) -> Result<T, Error> {
        struct Guard<'a>(Option<&'a Notify>);
        impl Drop for Guard<'_> {
            fn drop(&mut self) {
                if let Some(cancelled) = self.0 {
                    cancelled.notify_one();
                }
            }
        }
        let submission = |reply| Submission::new(caller, target, requests, recipient(reply));
        let mut guard = Guard(Some(&self.cancelled));
        let result = self.call(|reply| Call::Submit(submission(reply))).await;
        guard.0 = None;
        result
    }

    /// Puts a call into the channel and waits for its answer.
    async fn call<T>(&self, call: impl FnOnce(Responder<T>) -> Call) -> Result<T, Error> {
        let (sender, receiver) = oneshot::channel();
        self.send(call(sender)).await?;
        receiver.await.unwrap_or_else(|_| Err(runtime_ended()))
    }

    /// Puts a call into the channel.
    pub(super) async fn send(&self, call: Call) -> Result<(), Error> {
        self.calls.send(call).await.map_err(|_| runtime_ended())
    }

    /// Waits until the worker is gone.
    pub(super) async fn worker_ended(&self) {
        self.calls.closed().await;
    }
}

/// The result of calls whose worker is gone.
pub(super) fn runtime_ended() -> Error {
    Error::Host("the runtime that ran the client has ended".to_owned())
}
