//! The driver: a virtual clock, one queue of events, and the loop around a real [`Cluster`] that
//! checks what the machine asks of it.
//!
//! The machine's clock is the world's, and ahead of it by as much as it has jumped.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use bytes::Bytes;
use keyslot_core::address::NodeAddr;
use keyslot_core::cluster::{
    Cluster, Command, ConnId, Destination, Input, LeaseId, Output, RequestId, ScanId,
};
use keyslot_core::config::{Config, ReplicaReads};
use keyslot_core::error::Error;
use keyslot_core::resp::Reply;
use keyslot_core::slot::Slot;
use keyslot_core::time::Instant;

use super::choices::Choices;
use super::coverage::{Coverage, Feature};
use super::digest::Digest;
use super::history::{History, Transaction, Way};
use super::network::{Conn, Link, Phase, Weather, line, shown};
use super::operation::{Operation, SCRIPT, SCRIPT_SHA1};
use super::promises::News;
use super::scanners::Scanner;
use super::server::{Servers, lease_marker};
use super::tokens::Tokens;
use super::wire::Words;

pub(crate) const MICROSECOND: u64 = 1_000;
pub(crate) const MILLISECOND: u64 = 1_000_000;
pub(crate) const SECOND: u64 = 1_000_000_000;

/// Whether the machine may be told of something at or after a deadline of the same connection
/// without a tick before, as a driver tells it that has slept. The machine runs its deadlines
/// first, and then takes the input for one of the connection that the deadline has made of it.
const INPUTS_MEET_DEADLINES: bool = true;

/// What the world does by itself, or hands to whoever planned it.
#[derive(Debug)]
pub(super) enum Event<A> {
    Resolved(ConnId, Result<Vec<IpAddr>, String>),
    Connected(ConnId, u32),
    ToServer(ConnId, u32, Vec<u8>),
    ToClient {
        conn: ConnId,
        dial: u32,
        bytes: Vec<u8>,
        last_of_garbage: bool,
    },
    /// The next byte of what a node answers by drops.
    Drip(ConnId, u32),
    /// A node that runs a script answers again.
    Busy(usize),
    /// The end of the stream, as the client sees it.
    Ended(ConnId, u32, &'static str),
    Planned(A),
}

impl<A> Event<A> {
    /// The connection whose packets these are.
    pub(super) fn conn(&self) -> Option<ConnId> {
        match self {
            Self::Connected(conn, _)
            | Self::ToServer(conn, ..)
            | Self::ToClient { conn, .. }
            | Self::Drip(conn, _)
            | Self::Ended(conn, ..) => Some(*conn),
            Self::Resolved(..) | Self::Busy(_) | Self::Planned(_) => None,
        }
    }
}

/// One Transmit, taken apart.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) node: usize,
    pub(crate) commands: Vec<Words>,
}

impl Sent {
    pub(crate) fn names(&self) -> Vec<String> {
        self.commands.iter().map(|words| String::from_utf8_lossy(&words[0]).to_ascii_uppercase()).collect()
    }
}

#[derive(Debug)]
pub(crate) struct World<A> {
    pub(crate) now: u64,
    queue: BTreeMap<(u64, u64), Event<A>>,
    sequence: u64,
    pub(crate) choices: Choices,
    pub(crate) weather: Weather,
    pub(crate) servers: Servers,
    pub(crate) cluster: Cluster,
    pub(super) config: Config,
    pub(super) conns: BTreeMap<ConnId, Conn>,
    /// Between the client and each node.
    pub(super) links: Vec<Link>,
    pub(super) held_events: Vec<(usize, Event<A>)>,
    /// How far the machine's clock is ahead.
    ahead: u64,
    /// When the machine wants to be woken, on its clock.
    wait_until: Option<u64>,
    ticks_at_once: u32,
    pub(crate) history: History,
    pub(super) tokens: Tokens,
    pub(crate) ready: Option<Result<(), Error>>,
    pub(crate) sent: Vec<Sent>,
    pub(crate) dials: u64,
    /// When nodes were asked for the topology since the start, on the machine's clock.
    pub(super) asked: Vec<u64>,
    pub(super) news: News,
    /// What was lent and has not come back, by its number.
    pub(crate) leases: BTreeMap<u64, LeaseId>,
    pub(super) scanners: Vec<Scanner>,
    /// What follows a MULTI without its end, by the lease.
    pub(crate) open_transactions: BTreeMap<u64, Transaction>,
    /// The numbers of operations that are sent to one node.
    pub(crate) addressed: BTreeSet<u64>,
    /// Nodes that were told of and do not exist.
    pub(crate) strangers: usize,
    /// Whether servers or settings name nodes as primaries that never were.
    pub(crate) is_misled: bool,
    /// Whether the client's settings let it read from replicas.
    pub(crate) may_read_replicas: bool,
    pub(crate) coverage: Coverage,
    record: Record,
}

/// What is kept of what happens.
#[derive(Debug)]
pub(crate) enum Record {
    Nothing,
    /// All of it is printed.
    Trace,
    Digest(Digest),
}

impl Record {
    pub(crate) fn traced(if_so: bool) -> Self {
        if if_so { Self::Trace } else { Self::Nothing }
    }
}

/// What a step of the world was.
pub(crate) enum Step<A> {
    Planned(A),
    Progress,
    /// Nothing happens before the given time.
    Quiet,
}

impl<A: std::fmt::Debug> World<A> {
    pub(crate) fn new(
        config: Config,
        servers: Servers,
        weather: Weather,
        mut choices: Choices,
        record: Record,
    ) -> Self {
        let mut cluster = Cluster::new(config.clone(), Instant::from_nanoseconds(0), choices.next(8));
        assert_eq!(cluster.add_script(SCRIPT.as_bytes()), SCRIPT_SHA1);
        let may_read_replicas = config.replica_reads != ReplicaReads::Primary;
        let mut world = Self {
            now: 0,
            queue: BTreeMap::new(),
            sequence: 0,
            choices,
            weather,
            servers,
            cluster,
            config,
            conns: BTreeMap::new(),
            links: Vec::new(),
            held_events: Vec::new(),
            ahead: 0,
            wait_until: None,
            ticks_at_once: 0,
            history: History::default(),
            tokens: Tokens::default(),
            ready: None,
            sent: Vec::new(),
            dials: 0,
            asked: Vec::new(),
            news: News::default(),
            leases: BTreeMap::new(),
            scanners: Vec::new(),
            open_transactions: BTreeMap::new(),
            addressed: BTreeSet::new(),
            strangers: 0,
            is_misled: false,
            may_read_replicas,
            coverage: Coverage::default(),
            record,
        };
        world.links = vec![Link::Open; world.servers.nodes.len()];
        world.drain();
        world
    }

    pub(crate) fn log(&self, text: impl FnOnce() -> String) {
        if let Record::Trace = self.record {
            println!("{:>13.6} ms  {}", self.now as f64 / 1e6, text());
        }
    }

    /// Takes something that the machine has told into the digest.
    pub(super) fn digest(&mut self, what: impl std::fmt::Debug) {
        let now = self.machine_now().as_nanoseconds();
        if let Record::Digest(digest) = &mut self.record {
            digest.note(now, what);
        }
    }

    /// The digest of the run so far.
    pub(crate) fn digested(&self) -> Option<u64> {
        if let Record::Digest(digest) = self.record { Some(digest.number()) } else { None }
    }

    pub(super) fn schedule(&mut self, at: u64, event: Event<A>) {
        self.sequence += 1;
        self.queue.insert((at, self.sequence), event);
    }

    /// Hands `act` back from [`Self::step`] at this time.
    pub(crate) fn plan(&mut self, at: u64, act: A) {
        self.schedule(at, Event::Planned(act));
    }

    /// The machine's clock jumps forward.
    pub(crate) fn jump(&mut self, by: u64) {
        let from = self.machine_now();
        self.ahead += by;
        self.coverage.count(Feature::ClockJump);
        self.history.jumped(from.as_nanoseconds(), from.as_nanoseconds() + by);
        if INPUTS_MEET_DEADLINES {
            // What comes next comes before the tick.
            let is_input = |event: &Event<A>| {
                !matches!(event, Event::Planned(_) | Event::ToServer(..) | Event::Drip(..) | Event::Busy(_))
            };
            let next = self.queue.iter().find(|(_, event)| is_input(event)).map(|(key, _)| *key);
            if let Some(event) = next.and_then(|key| self.queue.remove(&key)) {
                self.schedule(self.now.saturating_sub(1), event);
            }
        }
    }

    pub(super) fn machine_now(&self) -> Instant {
        Instant::from_nanoseconds(self.now + self.ahead)
    }

    /// Does the next thing, if it happens before `until`.
    pub(crate) fn step(&mut self, until: u64) -> Step<A> {
        let event_at = self.queue.first_key_value().map(|((at, _), _)| *at);
        let wake_at = self.wait_until.map(|at| at.saturating_sub(self.ahead));
        let next = [event_at, wake_at].into_iter().flatten().min();
        let Some(next) = next.filter(|next| *next <= until) else {
            self.now = self.now.max(until);
            return Step::Quiet;
        };
        self.ticks_at_once = if next <= self.now { self.ticks_at_once + 1 } else { 0 };
        self.now = self.now.max(next);
        let ticks_first = !INPUTS_MEET_DEADLINES && wake_at.is_some_and(|at| at <= next);
        if ticks_first || event_at.is_none_or(|at| at > next) {
            assert!(
                self.ticks_at_once < 20,
                "INVARIANT: the machine does not ask to be woken in the past for ever"
            );
            self.log(|| "tick".into());
            self.cluster.handle(self.machine_now(), Input::Tick);
            self.drain();
            return Step::Progress;
        }
        self.ticks_at_once = 0;
        let (_, event) = self.queue.pop_first().expect("looked at above");
        let Some(event) = self.hold(event) else { return Step::Progress };
        match event {
            Event::Planned(act) => {
                self.log(|| format!("plan: {act:?}"));
                return Step::Planned(act);
            }
            Event::ToServer(conn, dial, bytes) => {
                if self.conn(conn).dial == dial {
                    self.arrive(conn, &bytes);
                }
            }
            Event::Drip(conn, dial) => {
                if self.conn(conn).dial == dial {
                    self.drip(conn);
                }
            }
            Event::Busy(node) => self.take_up(node),
            Event::Resolved(conn, result) => {
                if self.advance(conn, Phase::Resolving, Phase::Resolved) {
                    self.coverage.count_if(Feature::LookUpFailed, result.is_err());
                    self.tell(conn, Input::Resolved { conn, result });
                }
            }
            Event::Connected(conn, dial) => {
                if self.conn(conn).dial == dial && self.advance(conn, Phase::Dialling, Phase::Open) {
                    self.tell(conn, Input::Connected { conn });
                }
            }
            Event::Ended(conn, dial, reason) => {
                let state = self.conns.get_mut(&conn).expect("it was dialled");
                if state.dial == dial && matches!(state.phase, Phase::Dialling | Phase::Open) {
                    state.redialable = true;
                    let feature = match (state.phase, state.is_past_greeting) {
                        (Phase::Dialling, _) => Feature::DialRefused,
                        (_, false) => Feature::HandshakeLost,
                        (_, true) => Feature::ConnectionCut,
                    };
                    self.coverage.count(feature);
                    (state.phase, state.severed) = (Phase::Closed, true);
                    self.tell(conn, Input::Closed { conn, reason: reason.into() });
                }
            }
            Event::ToClient { conn, dial, bytes, last_of_garbage } => {
                if self.conn(conn).phase == Phase::Open && self.conn(conn).dial == dial {
                    self.tell(conn, Input::Received { conn, bytes: Bytes::from(bytes) });
                    let phase = self.conn(conn).phase;
                    let closed = !last_of_garbage || phase != Phase::Open;
                    assert!(closed, "INVARIANT: garbage closes the connection, {conn:?} is {phase:?}");
                }
            }
        }
        Step::Progress
    }

    /// Steps until `done`, or until this time; says whether it is done.
    pub(crate) fn run_until(&mut self, until: u64, mut done: impl FnMut(&Self) -> bool) -> bool {
        while !done(self) {
            match self.step(until) {
                Step::Planned(act) => panic!("nobody takes {act:?}"),
                Step::Progress => {}
                Step::Quiet => return done(self),
            }
        }
        true
    }

    fn tell(&mut self, conn: ConnId, input: Input) {
        self.log(|| match &input {
            Input::Received { bytes, .. } => format!("{conn:?} → client: {}", shown(bytes)),
            other => format!("{conn:?} → client: {other:?}"),
        });
        self.cluster.handle(self.machine_now(), input);
        self.drain();
    }

    /// Submits a command; [`Self::drain`] has to follow.
    pub(crate) fn submit(&mut self, words: &Words, operation: Option<Operation>) -> Result<RequestId, Error> {
        let command = Command::new(words)?;
        let id = self.hand_in(command, &Destination::Cluster);
        self.submitted(id, words, operation, Way::Free);
        Ok(id)
    }

    /// As [`Self::submit`], of one that the history knows what to expect of.
    pub(crate) fn submit_operation(&mut self, operation: Operation) -> RequestId {
        let command = operation.command(self.cluster.scripts());
        let id = self.hand_in(command, &Destination::Cluster);
        self.submitted(id, &operation.words(), Some(operation), Way::Free);
        id
    }

    /// As [`Self::submit`], of a command that is made already.
    pub(crate) fn submit_command(&mut self, command: Command) -> RequestId {
        let id = self.hand_in(command, &Destination::Cluster);
        self.submitted(id, &vec![b"(made)".to_vec()], None, Way::Free);
        id
    }

    /// Takes a request into the history that was handed in by other ways, and has so much time.
    pub(crate) fn note(&mut self, id: RequestId, time: u64) {
        let now = self.machine_now().as_nanoseconds();
        self.history.submitted(id, None, Way::Free, (now, now + time), &self.servers);
    }

    /// As [`Self::submit`], to one node.
    pub(crate) fn submit_to(
        &mut self,
        node: usize,
        words: &Words,
        operation: Option<Operation>,
    ) -> RequestId {
        let state = &self.servers.nodes[node];
        let address = NodeAddr::new(&state.host, state.address.port());
        let command = Command::new(words).expect("a command that can be sent");
        self.addressed.extend(operation.map(|operation| operation.number));
        let id = self.hand_in(command, &Destination::Node(address));
        self.submitted(id, words, operation, Way::Fixed);
        id
    }

    /// As [`Self::submit`], over a connection that is lent.
    pub(crate) fn submit_on(&mut self, lease: u64, words: &Words, operation: Option<Operation>) -> RequestId {
        let command = Command::for_lent(words).expect("a command that can be sent");
        if let Some(operation) = operation {
            self.servers.borrowers.of_number.insert(operation.number, lease);
        }
        let id = self.hand_in(command, &Destination::Lent(self.leases[&lease]));
        self.submitted(id, words, operation, Way::Lent);
        id
    }

    /// Asks for a scan's next batch; [`Self::drain`] has to follow.
    pub(crate) fn next_batch(&mut self, scan: ScanId) -> RequestId {
        let id = self.ask_for_batch(scan);
        self.submitted(id, &vec![b"(next batch)".to_vec()], None, Way::Free);
        id
    }

    fn submitted(&mut self, id: RequestId, words: &Words, operation: Option<Operation>, way: Way) {
        self.log(|| format!("{id:?} submit {way:?} {}", line(words)));
        let now = self.machine_now();
        let extra = operation.map_or(0, |operation| operation.extra_time());
        let deadline = (now + self.config.request_timeout).as_nanoseconds() + extra;
        let times = (now.as_nanoseconds(), deadline);
        self.history.submitted(id, operation, way, times, &self.servers);
    }

    /// Borrows a connection; the first command on it tells the servers whose it is. [`Self::drain`]
    /// has to follow.
    pub(crate) fn lend(&mut self, lease: u64, slot: Option<Slot>) -> RequestId {
        let id = self.cluster.lend(self.machine_now(), slot);
        self.log(|| format!("{id:?} lend {lease} for {slot:?}"));
        let before = self.leases.insert(lease, id);
        assert!(before.is_none(), "a number is lent once");
        let marker = vec![b"ECHO".to_vec(), lease_marker(lease).into_bytes()];
        self.submit_on(lease, &marker, None)
    }

    /// Gives back what was borrowed; [`Self::drain`] has to follow.
    pub(crate) fn give_back(&mut self, lease: u64) {
        let Some(id) = self.leases.remove(&lease) else { return };
        self.log(|| format!("{id:?} give back {lease}"));
        self.servers.borrowers.returned.insert(lease);
        self.cluster.give_back(id);
    }

    pub(crate) fn outcome(&self, id: RequestId) -> Option<&Result<Reply, Error>> {
        self.history.entries[&id].outcome.as_ref()
    }

    /// Does what the machine asks for, until it wants to wait.
    pub(crate) fn drain(&mut self) {
        for _ in 0..1_000_000 {
            let output = self.cluster.poll_output();
            self.digest_output(&output);
            match output {
                Output::Resolve { conn, host } => self.resolve(conn, &host),
                Output::Connect { conn, address } => self.connect(conn, address),
                Output::Transmit { conn, bytes } => self.transmit(conn, &bytes),
                Output::Close { conn } => {
                    self.log(|| format!("{conn:?} close"));
                    let state =
                        self.conns.get_mut(&conn).unwrap_or_else(|| panic!("INVARIANT: {conn:?} exists"));
                    assert_ne!(state.phase, Phase::Closed, "INVARIANT: {conn:?} is closed once");
                    state.redialable = matches!(state.phase, Phase::Dialling | Phase::Open);
                    self.coverage.count_if(Feature::DialTimedOut, state.phase == Phase::Dialling);
                    self.coverage.count_if(Feature::LookUpTimedOut, state.phase == Phase::Resolving);
                    state.phase = Phase::Closed;
                }
                Output::Ready(result) => {
                    self.log(|| format!("ready: {result:?}"));
                    assert!(self.ready.is_none(), "INVARIANT: Ready comes once");
                    let due = self.history.due(self.config.connect_timeout.as_nanos() as u64);
                    let now = self.machine_now().as_nanoseconds();
                    assert!(now <= due + MILLISECOND, "INVARIANT: Ready comes within the connect time-out");
                    self.coverage.count_if(Feature::NotReady, result.is_err());
                    self.ready = Some(result);
                }
                Output::Done { token, result } => {
                    let id = self.tokens.request(token);
                    self.log(|| format!("{id:?} done: {result:?}"));
                    let now = self.machine_now().as_nanoseconds();
                    let result = result.map(|reply| reply.decode());
                    let operation = self.history.entries.get(&id).and_then(|entry| entry.operation);
                    self.coverage.ended(operation, &result);
                    self.history.done(id, result, now, &self.servers);
                }
                Output::WaitUntil(until) => {
                    self.wait_until = until.map(Instant::as_nanoseconds);
                    return;
                }
            }
        }
        panic!("INVARIANT: poll_output comes to WaitUntil");
    }

    pub(crate) fn waits_until(&self) -> Option<u64> {
        self.wait_until
    }
}
