//! The task that owns the instance.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use keyslot_core::config::Config;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use super::call::{Call, Query};
use super::events::Feed;
use super::fair_queue::FairQueue;
use super::in_flight::{Batch, InFlight, Part};
use super::lease::{Lease, ResourceId};
use super::recipient::{Recipient, Responder};
use super::requests::Requests;
use super::resources::Resources;
use super::submission::{CallerId, Submission, Target};
use crate::bindings::exports::keyslot::redis::redis_cluster::ScanSubject;
use crate::bindings::exports::keyslot::redis::types::Interrupted;
use crate::bindings::exports::keyslot::redis::wire::Completions;
use crate::instance::{Connection, Instance, Scanner, Trap};
use crate::reply::{Ended, Replies};
use crate::scan_options::ScanOptions;
use crate::{Error, Options};

/// How long after a use, and how often during one, the component is asked what has happened. No
/// wait lasts longer.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
const WAIT_MS_MAX: u32 = 100;

/// How often it is asked while it is idle and somebody listens.
const IDLE_LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// ```text
///  channel ─→ FairQueue ─ gather ─→ Batch ─ submit ─→ component ─ wait ─→ InFlight ─→ callers
/// ```
pub(super) struct Worker {
    options: Options,
    /// What they come to.
    settings: Config,
    /// None after a trap, until the next call, and once closed.
    instance: Option<Instance>,
    closed: bool,
    queue: mpsc::Receiver<Call>,
    /// The call without commands that was taken from the queue and could not be dealt with yet.
    /// None is taken before it is.
    next: Option<Call>,
    /// Those with commands that were taken.
    submissions: FairQueue,
    /// Calls whose commands the instance has; none without an instance.
    in_flight: InFlight,
    resources: Resources,
    /// Notified when a caller has cancelled a call.
    cancelled: Arc<Notify>,
    /// None once closed.
    feed: Option<Feed>,
    /// When to ask the component what has happened. None when nothing can have.
    look_at: Option<Instant>,
    /// Until when to wait for the calls before a `close`.
    closes_at: Option<Instant>,
}

impl Worker {
    pub(super) fn new(
        options: Options,
        instance: Instance,
        queue: mpsc::Receiver<Call>,
        cancelled: Arc<Notify>,
        feed: Feed,
    ) -> Self {
        let settings = options.in_effect();
        let in_flight = InFlight::new(options.memory_limit, settings.limits.reply_size);
        Self {
            options,
            settings,
            instance: Some(instance),
            closed: false,
            queue,
            next: None,
            submissions: FairQueue::default(),
            in_flight,
            resources: Resources::new(),
            cancelled,
            feed: Some(feed),
            look_at: Some(Instant::now() + LOOK_INTERVAL),
            closes_at: None,
        }
    }

    /// Runs until the last client is gone.
    pub(super) async fn run(mut self) {
        loop {
            let is_idle = self.next.is_none() && self.submissions.is_empty() && self.in_flight.is_empty();
            if is_idle && !self.idle().await {
                return;
            }
            while let Some(dropped) = self.resources.next_dropped() {
                self.release(dropped).await;
            }
            self.take_in();
            let batch = self.submissions.gather(&mut self.in_flight);
            let there_may_be_more = batch.is_full() && !self.submissions.is_empty();
            self.submit(batch).await;
            match self.next.take() {
                Some(Call::Ask(query)) => self.answer(query).await,
                Some(Call::Close { reply }) => self.close_in_time(reply).await,
                other => self.next = other,
            }
            if !self.in_flight.is_empty() {
                self.wait(there_may_be_more).await;
            }
            if self.look_at.is_some_and(|at| at <= Instant::now()) {
                self.look().await;
            }
        }
    }

    /// Waits for something to do. False when the last client is gone.
    async fn idle(&mut self) -> bool {
        let look = async {
            match self.look_at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => pending().await,
            }
        };
        let listener = async {
            match &self.feed {
                Some(feed) => feed.listener_added().await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            call = self.queue.recv() => {
                let Some(call) = call else {
                    return false;
                };
                take(call, &mut self.submissions, &mut self.next);
            }
            Some(dropped) = self.resources.dropped() => self.release(dropped).await,
            () = listener => self.look_at = Some(Instant::now()),
            () = look => {}
        }
        true
    }

    /// Takes what waits in the channel, up to a call that is not one of commands.
    fn take_in(&mut self) {
        while self.next.is_none()
            && let Ok(call) = self.queue.try_recv()
        {
            take(call, &mut self.submissions, &mut self.next);
        }
    }

    async fn submit(&mut self, batch: Batch) {
        for part in batch.into_parts() {
            match self.hand_in(&part).await {
                Ok(first) => self.in_flight.enter(first, &part),
                Err(error) => self.in_flight.refuse(&part, &error),
            }
        }
    }

    /// Gives commands to the component. Gives the first one's ticket.
    async fn hand_in(&mut self, part: &Part) -> Result<u64, Error> {
        let outcome = match &part.target {
            Target::Cluster => self.instance().await?.submit(&part.requests).await,
            Target::Node(node) => self.instance().await?.submit_to(node, &part.requests).await,
            Target::Transaction => self.instance().await?.submit_transaction(&part.requests).await,
            Target::Connection(id) => {
                let connection = self.use_connection(*id)?;
                self.instance().await?.submit_on(connection, &part.requests).await
            }
            Target::TransactionOn(id) => {
                let connection = self.use_connection(*id)?;
                self.instance().await?.submit_transaction_on(connection, &part.requests).await
            }
            Target::Scan(id) => {
                let scanner = self.scanner(*id)?;
                let instance = self.instance().await?;
                let mut outcome = instance.submit_next(scanner).await;
                // The tickets follow one another.
                for _ in 1..part.commands() {
                    if outcome.is_ok() {
                        outcome = instance.submit_next(scanner).await.and(outcome);
                    }
                }
                outcome.map(Ok)
            }
        };
        self.look_within(LOOK_INTERVAL);
        self.settle(outcome)?
    }

    /// The connection with this id, which is about to carry a command.
    fn use_connection(&mut self, id: ResourceId) -> Result<Connection, Error> {
        self.resources.use_connection(id).ok_or_else(|| self.missing())
    }

    fn scanner(&self, id: ResourceId) -> Result<Scanner, Error> {
        self.resources.scan(id).ok_or_else(|| self.missing())
    }

    /// The result of a call with a connection or a scan that went with its instance.
    fn missing(&self) -> Error {
        if self.closed {
            return Error::Closed;
        }
        Error::ConnectionLost(Interrupted {
            node: String::new(),
            message: "the component that had it was given up".to_owned(),
            possibly_executed: false,
        })
    }

    /// Waits until a command has ended or a call has come, and hands over what there is. Does not
    /// wait, but looks, when there is more to hand in.
    async fn wait(&mut self, there_may_be_more: bool) {
        let Some(instance) = &mut self.instance else {
            return self.in_flight.fail(&Error::Closed);
        };
        let (queue, resources) = (&mut self.queue, &mut self.resources);
        let (submissions, next) = (&mut self.submissions, &mut self.next);
        let (mut dropped, mut is_cancelled) = (None, false);
        let cancelled = &self.cancelled;
        let called = async {
            if there_may_be_more {
                return;
            }
            tokio::select! {
                biased;
                call = queue.recv(), if next.is_none() => {
                    if let Some(call) = call {
                        take(call, submissions, next);
                        // Others who were woken now have theirs ready soon: one submission.
                        return tokio::task::yield_now().await;
                    }
                }
                id = resources.dropped() => {
                    dropped = id;
                    return;
                }
                () = cancelled.notified() => {
                    is_cancelled = true;
                    return;
                }
            }
            // No call will come.
            pending::<()>().await;
        };
        let outcome = instance.wait(WAIT_MS_MAX, called).await;
        if let Ok(completions) = self.settle(outcome)
            && let Err(message) = self.complete(completions)
        {
            let _ = self.settle::<()>(Err(Trap(message)));
        }
        self.in_flight.report();
        if let Some(dropped) = dropped {
            self.release(dropped).await;
        }
        if is_cancelled {
            self.cancel().await;
        }
    }

    /// Cancels in the component the commands that nobody waits for any more.
    async fn cancel(&mut self) {
        let tickets = self.in_flight.take_cancelled();
        if let Some(instance) = self.instance.as_mut().filter(|_| !tickets.is_empty()) {
            let outcome = instance.cancel(&tickets).await;
            for ticket in self.settle(outcome).unwrap_or_default() {
                self.in_flight.complete(ticket, Ended { result: Err(Error::Closed), size: 0 });
            }
        }
    }

    /// Gives the callers what has come. An error when the component does not keep to the interface.
    fn complete(&mut self, completions: Completions) -> Result<(), String> {
        let decode = self.settings.decode_responses;
        let mut replies = Replies::new(completions.replies, decode);
        for ticket in completions.tickets {
            let ended = replies.next().map_err(|why| format!("the component's replies are broken: {why}"))?;
            if !self.in_flight.complete(ticket, ended) {
                return Err(format!("the component completed {ticket}, which was not under way"));
            }
        }
        Ok(())
    }

    async fn answer(&mut self, query: Query) {
        /// Sends the outcome of a call of the instance.
        macro_rules! ask {
            ($reply:ident, |$instance:ident| $call:expr) => {{
                let result = match self.instance().await {
                    Ok($instance) => {
                        let outcome = $call;
                        self.settle(outcome)
                    }
                    Err(error) => Err(error),
                };
                let _ = $reply.send(result);
            }};
        }
        match query {
            Query::NodeForKey { key, reply } => ask!(reply, |instance| instance.node_for_key(&key).await),
            Query::Nodes { route, reply } => ask!(reply, |instance| instance.nodes(&route).await),
            Query::Keyslot { key, reply } => ask!(reply, |instance| instance.keyslot(&key).await),
            Query::Topology { reply } => ask!(reply, |instance| instance.topology().await),
            Query::Counters { reply } => ask!(reply, |instance| instance.counters().await),
            Query::Statistics { reply } => ask!(reply, |instance| instance.statistics().await),
            Query::Memory { reply } => ask!(reply, |instance| Ok(instance.memory())),
            Query::Script { source, reply } => {
                let result = self.add_script(source).await;
                let _ = reply.send(result);
            }
            Query::Scan { subject, options, reply } => {
                let result = self.scan(&subject, &options).await;
                let _ = reply.send(result);
            }
            Query::ScanToken { scan, reply } => {
                let result = self.scan_token(scan).await;
                let _ = reply.send(result);
            }
            Query::Lend { key, reply } => {
                let result = self.lend(key.as_deref()).await;
                let _ = reply.send(result);
            }
        }
    }

    async fn lend(&mut self, key: Option<&[u8]>) -> Result<Lease, Error> {
        let outcome = self.instance().await?.lend(key).await;
        let connection = self.settle(outcome)?;
        self.look_within(LOOK_INTERVAL);
        Ok(self.resources.add_connection(connection))
    }

    async fn add_script(&mut self, source: Vec<u8>) -> Result<(Lease, String), Error> {
        let outcome = self.instance().await?.add_script(&source).await;
        let (script, sha1) = self.settle(outcome)?;
        Ok((self.resources.add_script(source, script), sha1))
    }

    async fn scan(&mut self, subject: &ScanSubject, options: &ScanOptions) -> Result<Lease, Error> {
        let outcome = self.instance().await?.scan(subject, options).await;
        let scanner = self.settle(outcome)??;
        Ok(self.resources.add_scan(scanner))
    }

    async fn scan_token(&mut self, scan: ResourceId) -> Result<Option<Vec<u8>>, Error> {
        let scanner = self.scanner(scan)?;
        let outcome = self.instance().await?.scan_token(scanner).await;
        self.settle(outcome)
    }

    /// Releases in the component what a caller has dropped.
    async fn release(&mut self, id: ResourceId) {
        if let Some(resource) = self.resources.remove(id)
            && let Some(instance) = &mut self.instance
        {
            let outcome = instance.release(resource).await;
            let _ = self.settle(outcome);
            self.look_within(LOOK_INTERVAL);
        }
    }

    /// Sees to what has happened, and to connections that nobody has used yet: they are opened only
    /// while the component runs, and one whose caller takes his time would be too late.
    async fn look(&mut self) {
        self.look_at = None;
        self.take_events().await;
        if self.in_flight.is_empty() {
            let mut batch = Batch::default();
            let (due, are_others_early) = self.resources.unused_connections(LOOK_INTERVAL);
            if are_others_early {
                self.look_at = Some(Instant::now() + LOOK_INTERVAL);
            }
            for id in due {
                let (target, requests) = (Target::Connection(id), Requests::one(&["PING"]));
                let mut ping = Submission::new(CallerId::WORKER, target, requests, Recipient::Nobody);
                batch.add(&mut ping, &mut self.in_flight);
            }
            self.submit(batch).await;
        }
        if !self.in_flight.is_empty() {
            self.look_within(LOOK_INTERVAL);
        } else if self.instance.is_some() && self.feed.as_ref().is_some_and(Feed::has_listeners) {
            self.look_within(IDLE_LOOK_INTERVAL);
        }
    }

    fn look_within(&mut self, interval: Duration) {
        let at = Instant::now() + interval;
        self.look_at = Some(self.look_at.map_or(at, |earlier| earlier.min(at)));
    }

    async fn take_events(&mut self) {
        if let Some(instance) = &mut self.instance {
            let started_at = instance.started_at();
            let outcome = instance.take_events().await;
            if let (Ok(list), Some(feed)) = (self.settle(outcome), &self.feed) {
                feed.publish(started_at, list);
            }
        }
    }

    /// Closes when the calls before have ended; what blocks is not waited for longer than for a
    /// request. Later calls end at once.
    async fn close_in_time(&mut self, reply: Responder<()>) {
        let timeout = self.settings.request_timeout;
        let closes_at = *self.closes_at.get_or_insert_with(|| Instant::now() + timeout);
        let is_over = self.submissions.is_empty() && !self.in_flight.has_callers();
        if is_over || closes_at <= Instant::now() {
            return self.close(reply).await;
        }
        while let Ok(call) = self.queue.try_recv() {
            call.refuse(&Error::Closed);
        }
        self.next = Some(Call::Close { reply });
    }

    /// Lets the component say goodbye to its servers, and gives it up.
    async fn close(&mut self, reply: Responder<()>) {
        self.take_events().await;
        self.closed = true;
        self.feed = None;
        self.look_at = None;
        self.resources.instance_ended();
        if let Some(mut instance) = self.instance.take()
            && let Err(Trap(message)) = instance.close().await
        {
            tracing::warn!("the component failed while it closed: {message}");
        }
        self.in_flight.fail(&Error::Closed);
        self.submissions.fail(&Error::Closed);
        let _ = reply.send(Ok(()));
    }

    /// The instance, a fresh and connected one when there is none.
    async fn instance(&mut self) -> Result<&mut Instance, Error> {
        if self.closed {
            return Err(Error::Closed);
        }
        let instance = match self.instance.take() {
            Some(instance) => instance,
            None => {
                let mut instance = Box::pin(Instance::start(&self.options)).await?;
                self.resources.add_scripts_to(&mut instance).await?;
                instance
            }
        };
        Ok(self.instance.insert(instance))
    }

    /// The outcome of a call of the instance. One that trapped cannot be called again and is
    /// dropped, and with it its connections and what was under way on them.
    fn settle<T>(&mut self, outcome: Result<T, Trap>) -> Result<T, Error> {
        outcome.map_err(|Trap(message)| {
            tracing::error!("the component was given up: {message}");
            self.instance = None;
            self.resources.instance_ended();
            let error = Error::Host(message);
            self.in_flight.fail(&error);
            error
        })
    }
}

/// Puts a call where it waits.
fn take(call: Call, submissions: &mut FairQueue, next: &mut Option<Call>) {
    match call {
        Call::Submit(submission) => submissions.push(submission),
        other @ (Call::Ask(_) | Call::Close { .. }) => *next = Some(other),
    }
}
