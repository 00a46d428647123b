//! The task that owns the instance.

use std::collections::HashMap;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use super::flight::{Batch, Flight, Part};
use super::lanes::{Lane, Lanes, Progress, Run};
use super::requests::Requests;
use super::{Answer, Call, Caller, Feed, Known, Lease, Question, ScanOptions, Target};
use crate::bindings::exports::keyslot::redis::redis_cluster::ScanSubject;
use crate::bindings::exports::keyslot::redis::types::Interrupted;
use crate::bindings::exports::keyslot::redis::wire::Completions;
use crate::instance::{Instance, Lent, Resource, Scanner, Script, Trap};
use crate::options::REQUEST_TIMEOUT_DEFAULT;
use crate::reply::{Ended, Replies};
use crate::{Error, Options};

/// How long after a use, and how often during one, the component is asked what has happened. No
/// wait lasts longer.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
const WAIT_MS_MAX: u32 = 100;

/// How often it is asked while it is idle and somebody listens.
const IDLE_LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// ```text
///  channel ──→ Lanes ── gather ──→ Batch ── submit ──→ component ── wait ──→ Flight ──→ callers
/// ```
pub(super) struct Worker {
    options: Options,
    /// None after a trap, until the next call, and once closed.
    instance: Option<Instance>,
    closed: bool,
    queue: mpsc::Receiver<Call>,
    /// The call without commands that was taken from the queue and could not be dealt with yet.
    /// None is taken before it is.
    next: Option<Call>,
    /// Those with commands that were taken.
    lanes: Lanes,
    /// Calls whose commands the instance has; none without an instance.
    flight: Flight,
    /// Connections that the instance has lent, by the numbers that callers know; none without an
    /// instance.
    lent: HashMap<u64, Borrowed>,
    /// Scans that the instance has, by numbers of the same row.
    scans: HashMap<u64, Scanner>,
    /// The number for the next one. None is used twice.
    next_lease: u64,
    /// Scripts that callers have, by numbers as well. They outlive an instance.
    scripts: HashMap<u64, KeptScript>,
    /// The numbers of all of these that callers have dropped, and what tells of it.
    returns: mpsc::UnboundedReceiver<u64>,
    returning: mpsc::UnboundedSender<u64>,
    /// Told when a caller has given up a call.
    given_up: Arc<Notify>,
    /// None once closed.
    feed: Option<Feed>,
    /// When to ask the component what has happened. None when nothing can have.
    look_at: Option<Instant>,
    /// Until when to wait for the calls before a `close`.
    closes_at: Option<Instant>,
}

/// A connection that a caller has.
struct Borrowed {
    connection: Lent,
    /// Whether it has carried a command.
    is_used: bool,
    since: Instant,
}

/// A script that a caller has.
struct KeptScript {
    source: Vec<u8>,
    script: Script,
}

impl Worker {
    pub(super) fn new(
        options: Options,
        instance: Instance,
        queue: mpsc::Receiver<Call>,
        given_up: Arc<Notify>,
        feed: Feed,
    ) -> Self {
        let flight = Flight::new(&options);
        let (returning, returns) = mpsc::unbounded_channel();
        Self {
            options,
            instance: Some(instance),
            closed: false,
            queue,
            next: None,
            lanes: Lanes::default(),
            flight,
            lent: HashMap::new(),
            scans: HashMap::new(),
            next_lease: 0,
            scripts: HashMap::new(),
            returns,
            returning,
            given_up,
            feed: Some(feed),
            look_at: Some(Instant::now() + LOOK_INTERVAL),
            closes_at: None,
        }
    }

    /// Runs until the last client is gone.
    pub(super) async fn run(mut self) {
        loop {
            let is_idle = self.next.is_none() && self.lanes.is_empty() && self.flight.is_empty();
            if is_idle && !self.idle().await {
                return;
            }
            while let Ok(returned) = self.returns.try_recv() {
                self.take_back(returned).await;
            }
            self.take_in();
            let batch = self.lanes.gather(&mut self.flight);
            let there_may_be_more = batch.is_full() && !self.lanes.is_empty();
            self.submit(batch).await;
            match self.next.take() {
                Some(Call::Ask(question)) => self.answer(question).await,
                Some(Call::Close { reply }) => self.close_in_time(reply).await,
                other => self.next = other,
            }
            if !self.flight.is_empty() {
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
        let watched = async {
            match &self.feed {
                Some(feed) => feed.watched().await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            call = self.queue.recv() => {
                let Some(call) = call else {
                    return false;
                };
                take(call, &mut self.lanes, &mut self.next);
            }
            Some(returned) = self.returns.recv() => self.take_back(returned).await,
            () = watched => self.look_at = Some(Instant::now()),
            () = look => {}
        }
        true
    }

    /// Takes what waits in the channel, up to a call that is not one of commands.
    fn take_in(&mut self) {
        while self.next.is_none()
            && let Ok(call) = self.queue.try_recv()
        {
            take(call, &mut self.lanes, &mut self.next);
        }
    }

    async fn submit(&mut self, batch: Batch) {
        for part in batch.into_parts() {
            match self.hand_in(&part).await {
                Ok(first) => self.flight.enter(first, &part),
                Err(error) => self.flight.refuse(&part, &error),
            }
        }
    }

    /// Gives commands to the component. Gives the first one's ticket.
    async fn hand_in(&mut self, part: &Part) -> Result<u64, Error> {
        let outcome = match &part.target {
            Target::Cluster => self.instance().await?.submit(&part.requests).await,
            Target::Node(node) => self.instance().await?.submit_to(node, &part.requests).await,
            Target::Transaction => self.instance().await?.submit_transaction(&part.requests).await,
            Target::Lent(id) => {
                let connection = self.use_lent(*id)?;
                self.instance().await?.submit_on(connection, &part.requests).await
            }
            Target::TransactionOn(id) => {
                let connection = self.use_lent(*id)?;
                self.instance().await?.submit_transaction_on(connection, &part.requests).await
            }
            Target::Scan(id) => {
                let Some(scanner) = self.scans.get(id).copied() else {
                    return Err(if self.closed { Error::Closed } else { gone() });
                };
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

    /// The connection that was lent with this number.
    fn use_lent(&mut self, id: u64) -> Result<Lent, Error> {
        let Some(borrowed) = self.lent.get_mut(&id) else {
            return Err(if self.closed { Error::Closed } else { gone() });
        };
        borrowed.is_used = true;
        Ok(borrowed.connection)
    }

    /// Waits until a command has ended or a call has come, and hands over what there is. Does not
    /// wait, but looks, when there is more to hand in.
    async fn wait(&mut self, there_may_be_more: bool) {
        let Some(instance) = &mut self.instance else {
            return self.flight.fail(&Error::Closed);
        };
        let (queue, returns) = (&mut self.queue, &mut self.returns);
        let (lanes, next) = (&mut self.lanes, &mut self.next);
        let (mut returned, mut is_given_up) = (None, false);
        let notify = &self.given_up;
        let called = async {
            if there_may_be_more {
                return;
            }
            tokio::select! {
                biased;
                call = queue.recv(), if next.is_none() => {
                    if let Some(call) = call {
                        take(call, lanes, next);
                        // Others who were woken now have theirs ready soon: one submission.
                        return tokio::task::yield_now().await;
                    }
                }
                dropped = returns.recv() => {
                    returned = dropped;
                    return;
                }
                () = notify.notified() => {
                    is_given_up = true;
                    return;
                }
            }
            // No call will come.
            pending::<()>().await;
        };
        let outcome = instance.wait(WAIT_MS_MAX, called).await;
        if let Ok(completions) = self.settle(outcome)
            && let Err(message) = self.land(completions)
        {
            let _ = self.settle::<()>(Err(Trap(message)));
        }
        self.flight.tell();
        if let Some(returned) = returned {
            self.take_back(returned).await;
        }
        if is_given_up {
            self.cancel().await;
        }
    }

    /// Tells the component of the commands that nobody waits for any more.
    async fn cancel(&mut self) {
        let tickets = self.flight.given_up();
        if let Some(instance) = self.instance.as_mut().filter(|_| !tickets.is_empty()) {
            let outcome = instance.cancel(&tickets).await;
            for ticket in self.settle(outcome).unwrap_or_default() {
                self.flight.land(ticket, Ended { result: Err(Error::Closed), size: 0 });
            }
        }
    }

    /// Gives the callers what has come. An error when the component does not keep to the interface.
    fn land(&mut self, completions: Completions) -> Result<(), String> {
        let decode = self.options.decode_responses == Some(true);
        let mut replies = Replies::new(completions.replies, decode);
        for ticket in completions.tickets {
            let ended = replies.next().map_err(|why| format!("the component's replies are broken: {why}"))?;
            if !self.flight.land(ticket, ended) {
                return Err(format!("the component completed {ticket}, which was not under way"));
            }
        }
        Ok(())
    }

    async fn answer(&mut self, question: Question) {
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
        match question {
            Question::NodeForKey { key, reply } => ask!(reply, |instance| instance.node_for_key(&key).await),
            Question::Nodes { route, reply } => ask!(reply, |instance| instance.nodes(&route).await),
            Question::Keyslot { key, reply } => ask!(reply, |instance| instance.keyslot(&key).await),
            Question::Topology { reply } => ask!(reply, |instance| instance.topology().await),
            Question::Counters { reply } => ask!(reply, |instance| instance.counters().await),
            Question::Statistics { reply } => ask!(reply, |instance| instance.statistics().await),
            Question::Memory { reply } => ask!(reply, |instance| Ok(instance.memory())),
            Question::Script { source, reply } => {
                let result = self.add_script(source).await;
                let _ = reply.send(result);
            }
            Question::Scan { subject, options, reply } => {
                let result = self.scan(&subject, &options).await;
                let _ = reply.send(result);
            }
            Question::ScanToken { scan, reply } => {
                let Some(scanner) = self.scans.get(&scan).copied() else {
                    let _ = reply.send(Err(if self.closed { Error::Closed } else { gone() }));
                    return;
                };
                ask!(reply, |instance| instance.scan_token(scanner).await);
            }
            Question::Lend { key, reply } => {
                let result = self.lend(key.as_deref()).await;
                let _ = reply.send(result);
            }
        }
    }

    async fn lend(&mut self, key: Option<&[u8]>) -> Result<Lease, Error> {
        let outcome = self.instance().await?.lend(key).await;
        let connection = self.settle(outcome)?;
        let id = self.next_lease;
        self.next_lease += 1;
        self.lent.insert(id, Borrowed { connection, is_used: false, since: Instant::now() });
        self.look_within(LOOK_INTERVAL);
        Ok(Lease::new(id, self.returning.clone()))
    }

    async fn add_script(&mut self, source: Vec<u8>) -> Result<Known, Error> {
        let outcome = self.instance().await?.add_script(&source).await;
        let (script, sha1) = self.settle(outcome)?;
        let id = self.next_lease;
        self.next_lease += 1;
        self.scripts.insert(id, KeptScript { source, script });
        Ok(Known::new(id, sha1, self.returning.clone()))
    }

    async fn scan(&mut self, subject: &ScanSubject, options: &ScanOptions) -> Result<Lease, Error> {
        let outcome = self.instance().await?.scan(subject, options).await;
        let scanner = self.settle(outcome)??;
        let id = self.next_lease;
        self.next_lease += 1;
        self.scans.insert(id, scanner);
        Ok(Lease::new(id, self.returning.clone()))
    }

    /// Gives the component back what a caller has dropped. A connection or a scan of an earlier
    /// instance is gone already.
    async fn take_back(&mut self, id: u64) {
        let connection = self.lent.remove(&id).map(|borrowed| Resource::from(borrowed.connection));
        let scan = self.scans.remove(&id).map(Resource::from);
        let script = self.scripts.remove(&id).map(|kept| Resource::from(kept.script));
        let resource = connection.or(scan).or(script);
        if let Some(resource) = resource
            && let Some(instance) = &mut self.instance
        {
            let outcome = instance.give_back(resource).await;
            let _ = self.settle(outcome);
            self.look_within(LOOK_INTERVAL);
        }
    }

    /// Sees to what has happened, and to connections that nobody has used yet: they are opened only
    /// while the component runs, and one that is lent to a caller who takes his time would be
    /// too late.
    async fn look(&mut self) {
        self.look_at = None;
        self.take_events().await;
        if self.flight.is_empty() {
            let mut batch = Batch::default();
            let unused = self.lent.iter().filter(|(_, borrowed)| !borrowed.is_used);
            let (due, early): (Vec<_>, Vec<_>) =
                unused.partition(|(_, borrowed)| borrowed.since.elapsed() >= LOOK_INTERVAL);
            if !early.is_empty() {
                self.look_at = Some(Instant::now() + LOOK_INTERVAL);
            }
            for (id, _) in due {
                let mut ping = Run {
                    lane: Lane::OWN,
                    target: Target::Lent(*id),
                    requests: Requests::one(&["PING"]),
                    progress: Progress::New(Caller::Nobody),
                };
                batch.add(&mut ping, &mut self.flight);
            }
            self.submit(batch).await;
        }
        if !self.flight.is_empty() {
            self.look_within(LOOK_INTERVAL);
        } else if self.instance.is_some() && self.feed.as_ref().is_some_and(Feed::is_watched) {
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
                feed.tell(started_at, list);
            }
        }
    }

    /// Closes when the calls before have ended; what blocks is not waited for longer than for a
    /// request. Who calls later is told at once.
    async fn close_in_time(&mut self, reply: Answer<()>) {
        let timeout = self.options.request_timeout.unwrap_or(REQUEST_TIMEOUT_DEFAULT);
        let closes_at = *self.closes_at.get_or_insert_with(|| Instant::now() + timeout);
        let is_over = self.lanes.is_empty() && !self.flight.has_callers();
        if is_over || closes_at <= Instant::now() {
            return self.close(reply).await;
        }
        while let Ok(call) = self.queue.try_recv() {
            call.refuse(&Error::Closed);
        }
        self.next = Some(Call::Close { reply });
    }

    /// Lets the component say goodbye to its servers, and gives it up.
    async fn close(&mut self, reply: Answer<()>) {
        self.take_events().await;
        self.closed = true;
        self.feed = None;
        self.look_at = None;
        self.lent.clear();
        self.scans.clear();
        if let Some(mut instance) = self.instance.take()
            && let Err(Trap(message)) = instance.close().await
        {
            tracing::warn!("the component failed while it closed: {message}");
        }
        self.flight.fail(&Error::Closed);
        self.lanes.fail(&Error::Closed);
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
                for kept in self.scripts.values_mut() {
                    let added = instance.add_script(&kept.source).await;
                    (kept.script, _) = added.map_err(|Trap(message)| Error::Host(message))?;
                }
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
            self.lent.clear();
            self.scans.clear();
            let error = Error::Host(message);
            self.flight.fail(&error);
            error
        })
    }
}

/// Puts a call where it waits.
fn take(call: Call, lanes: &mut Lanes, next: &mut Option<Call>) {
    match call {
        Call::Run(run) => lanes.push(run),
        other @ (Call::Ask(_) | Call::Close { .. }) => *next = Some(other),
    }
}

/// What callers are told whose connection or scan went with its instance.
fn gone() -> Error {
    Error::ConnectionLost(Interrupted {
        node: String::new(),
        message: "the component that had it was given up".to_owned(),
        possibly_executed: false,
    })
}
