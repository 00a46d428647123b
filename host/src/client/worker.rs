//! The task that owns the instance.

use std::collections::HashMap;
use std::future::pending;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::flight::{Batch, Flight, Part, Progress};
use super::requests::Requests;
use super::{Answer, Call, Caller, Feed, Lease, Question, ScanOptions, Target};
use crate::bindings::exports::keyslot::redis::redis_cluster::ScanSubject;
use crate::bindings::exports::keyslot::redis::types::Interrupted;
use crate::bindings::exports::keyslot::redis::wire::Completions;
use crate::instance::{Instance, Lent, Scanner, Trap};
use crate::reply::Replies;
use crate::{Error, Options};

/// How long after a use, and how often during one, the component is asked what has happened. No wait lasts longer.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
const WAIT_MS_MAX: u32 = 100;

/// How often it is asked while it is idle and somebody listens.
const IDLE_LOOK_INTERVAL: Duration = Duration::from_secs(1);

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
    /// Connections that the instance has lent, by the numbers that callers know; none without an instance.
    lent: HashMap<u64, Borrowed>,
    /// Scans that the instance has, by numbers of the same row.
    scans: HashMap<u64, Scanner>,
    /// The number for the next one. None is used twice.
    next_lease: u64,
    /// The numbers of those that callers have dropped, and what tells of it.
    returns: mpsc::UnboundedReceiver<u64>,
    returning: mpsc::UnboundedSender<u64>,
    /// None once closed.
    feed: Option<Feed>,
    /// When to ask the component what has happened. None when nothing can have.
    look_at: Option<Instant>,
}

/// A connection that a caller has.
struct Borrowed {
    connection: Lent,
    /// Whether it has carried a command.
    is_used: bool,
    since: Instant,
}

impl Worker {
    pub(super) fn new(options: Options, instance: Instance, queue: mpsc::Receiver<Call>, feed: Feed) -> Self {
        let flight = Flight::new(&options);
        let (returning, returns) = mpsc::unbounded_channel();
        Self {
            options,
            instance: Some(instance),
            closed: false,
            queue,
            next: None,
            flight,
            lent: HashMap::new(),
            scans: HashMap::new(),
            next_lease: 0,
            returns,
            returning,
            feed: Some(feed),
            look_at: Some(Instant::now() + LOOK_INTERVAL),
        }
    }

    /// Runs until the last client is gone.
    pub(super) async fn run(mut self) {
        loop {
            if self.next.is_none() && self.flight.is_empty() && !self.idle().await {
                return;
            }
            while let Ok(id) = self.returns.try_recv() {
                self.take_back(id).await;
            }
            let batch = self.gather();
            self.submit(batch).await;
            match self.next.take() {
                Some(Call::Ask(question)) => self.answer(question).await,
                Some(Call::Close { reply }) if !self.flight.has_callers() => self.close(reply).await,
                other => self.next = other,
            }
            if !self.flight.is_empty() {
                self.wait().await;
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
                self.next = call;
                return self.next.is_some();
            }
            Some(id) = self.returns.recv() => self.take_back(id).await,
            () = watched => self.look_at = Some(Instant::now()),
            () = look => {}
        }
        true
    }

    /// Takes what waits in the channel, up to a batch's bounds, the flight's, or a call that is not one of commands.
    fn gather(&mut self) -> Batch {
        let mut batch = Batch::default();
        while !batch.is_full() {
            let Some(call) = self.next.take().or_else(|| self.queue.try_recv().ok()) else {
                break;
            };
            self.next = match call {
                Call::Run { target, requests, progress } => {
                    batch.add(target, requests, progress, &mut self.flight)
                }
                other @ (Call::Ask(_) | Call::Close { .. }) => Some(other),
            };
            if self.next.is_some() {
                break;
            }
        }
        batch
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
            Target::Lent(id) => {
                let Some(borrowed) = self.lent.get_mut(id) else {
                    return Err(if self.closed { Error::Closed } else { gone() });
                };
                borrowed.is_used = true;
                let connection = borrowed.connection;
                self.instance().await?.submit_on(connection, &part.requests).await
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

    /// Waits until a command has ended or a call has come, and hands over what there is.
    async fn wait(&mut self) {
        let Some(instance) = &mut self.instance else {
            return self.flight.fail(&Error::Closed);
        };
        let (queue, next, returns) = (&mut self.queue, &mut self.next, &mut self.returns);
        let mut returned = None;
        let called = async {
            tokio::select! {
                biased;
                call = queue.recv(), if next.is_none() => {
                    *next = call;
                    if next.is_some() {
                        // Others who were woken at the same moment have theirs ready soon: one submission for all of them.
                        return tokio::task::yield_now().await;
                    }
                }
                id = returns.recv() => {
                    returned = id;
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
        if let Some(id) = returned {
            self.take_back(id).await;
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

    async fn scan(&mut self, subject: &ScanSubject, options: &ScanOptions) -> Result<Lease, Error> {
        let outcome = self.instance().await?.scan(subject, options).await;
        let scanner = self.settle(outcome)??;
        let id = self.next_lease;
        self.next_lease += 1;
        self.scans.insert(id, scanner);
        Ok(Lease::new(id, self.returning.clone()))
    }

    /// Gives a connection back to the component, or ends a scan. One of an earlier instance is gone already.
    async fn take_back(&mut self, id: u64) {
        if let Some(scanner) = self.scans.remove(&id)
            && let Some(instance) = &mut self.instance
        {
            let outcome = instance.end_scan(scanner).await;
            let _ = self.settle(outcome);
        }
        if let Some(borrowed) = self.lent.remove(&id)
            && let Some(instance) = &mut self.instance
        {
            let outcome = instance.give_back(borrowed.connection).await;
            let _ = self.settle(outcome);
            self.look_within(LOOK_INTERVAL);
        }
    }

    /// Sees to what has happened, and to connections that nobody has used yet: they are opened only while the component
    /// runs, and one that is lent to a caller who takes his time would be too late.
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
                let (ping, caller) = (Requests::one(&["PING"]), Progress::New(Caller::Nobody));
                batch.add(Target::Lent(*id), ping, caller, &mut self.flight);
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
            self.lent.clear();
            self.scans.clear();
            let error = Error::Host(message);
            self.flight.fail(&error);
            error
        })
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
