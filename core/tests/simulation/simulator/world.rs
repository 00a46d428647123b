//! The driver: a virtual clock, one queue of events, the network between the client and the servers, and
//! the loop around a real [`Cluster`] that checks what the machine asks of it.
//!
//! Bytes keep their order in each direction of a connection; everything else (where they are split, how long they
//! take, where a connection is cut) comes from the [`Choices`].

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use bytes::Bytes;
use keyslot_core::cluster::{Cluster, Command, ConnId, Input, Output, RequestId};
use keyslot_core::config::Config;
use keyslot_core::error::Error;
use keyslot_core::resp::Reply;
use keyslot_core::time::Instant;

use super::choices::Choices;
use super::ledger::{Ledger, Operation};
use super::server::{Reach, Servers, Session};
use super::wire::{GARBAGE_KINDS, Words, garbage, take_command};

pub(crate) const MICROSECOND: u64 = 1_000;
pub(crate) const MILLISECOND: u64 = 1_000_000;
pub(crate) const SECOND: u64 = 1_000_000_000;

/// Nobody listens at the first, and nothing comes back from the second.
const REFUSED: Ipv4Addr = Ipv4Addr::new(10, 9, 9, 9);
const SILENT: Ipv4Addr = Ipv4Addr::new(10, 9, 9, 8);

/// How badly the network behaves: percentages, and the latency of a piece of bytes.
#[derive(Clone, Debug)]
pub(crate) struct Weather {
    pub(crate) latency: (u64, u64),
    pub(crate) split: u64,
    pub(crate) refuse: u64,
    pub(crate) silent_dial: u64,
    pub(crate) lookup_failure: u64,
    pub(crate) slow: u64,
    pub(crate) cut: u64,
    pub(crate) garbage: u64,
}

impl Weather {
    pub(crate) fn calm() -> Self {
        let latency = (MILLISECOND, MILLISECOND);
        Self { latency, split: 0, refuse: 0, silent_dial: 0, lookup_failure: 0, slow: 0, cut: 0, garbage: 0 }
    }
}

/// What the world does by itself, or hands to whoever planned it.
#[derive(Debug)]
enum Event<A> {
    Resolved(ConnId, Result<Vec<IpAddr>, String>),
    Connected(ConnId, u32),
    ToServer(ConnId, Vec<u8>),
    ToClient {
        conn: ConnId,
        bytes: Vec<u8>,
        last_of_garbage: bool,
    },
    /// The end of the stream, as the client sees it.
    Ended(ConnId, u32, &'static str),
    Planned(A),
}

/// Where a connection is in the driver's hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Resolving,
    Resolved,
    Dialling,
    Open,
    Closed,
}

#[derive(Debug)]
struct Conn {
    phase: Phase,
    /// Counts the dials: what happens to an earlier one is not told.
    dial: u32,
    node: Option<usize>,
    /// `None` before the connection is open, and when the server's end is gone.
    session: Option<Session>,
    inbox: Vec<u8>,
    /// When the last piece under way arrives, each way.
    to_server_at: u64,
    to_client_at: u64,
    /// Nothing that is sent from now on arrives, either way.
    severed: bool,
    /// The client closed it while dialling, and may dial the host's next address.
    redialable: bool,
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
    config: Config,
    conns: BTreeMap<ConnId, Conn>,
    wait_until: Option<u64>,
    ticks_at_once: u32,
    pub(crate) ledger: Ledger,
    pub(crate) ready: Option<Result<(), Error>>,
    pub(crate) sent: Vec<Sent>,
    pub(crate) dials: u64,
    trace: bool,
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
        trace: bool,
    ) -> Self {
        let cluster = Cluster::new(config.clone(), Instant::from_nanoseconds(0), choices.next(8));
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
            wait_until: None,
            ticks_at_once: 0,
            ledger: Ledger::default(),
            ready: None,
            sent: Vec::new(),
            dials: 0,
            trace,
        };
        world.drain();
        world
    }

    pub(crate) fn log(&self, text: impl FnOnce() -> String) {
        if self.trace {
            println!("{:>13.6} ms  {}", self.now as f64 / 1e6, text());
        }
    }

    fn schedule(&mut self, at: u64, event: Event<A>) {
        self.sequence += 1;
        self.queue.insert((at, self.sequence), event);
    }

    /// Hands `act` back from [`Self::step`] at this time.
    pub(crate) fn plan(&mut self, at: u64, act: A) {
        self.schedule(at, Event::Planned(act));
    }

    /// Does the next thing, if it happens before `until`.
    pub(crate) fn step(&mut self, until: u64) -> Step<A> {
        let event_at = self.queue.first_key_value().map(|((at, _), _)| *at);
        let next = [event_at, self.wait_until].into_iter().flatten().min();
        let Some(next) = next.filter(|next| *next <= until) else {
            self.now = self.now.max(until);
            return Step::Quiet;
        };
        self.ticks_at_once = if next <= self.now { self.ticks_at_once + 1 } else { 0 };
        self.now = self.now.max(next);
        if event_at.is_none_or(|at| at > next) {
            assert!(
                self.ticks_at_once < 20,
                "INVARIANT: the machine does not ask to be woken in the past for ever"
            );
            self.log(|| "tick".into());
            self.cluster.handle(Instant::from_nanoseconds(self.now), Input::Tick);
            self.drain();
            return Step::Progress;
        }
        self.ticks_at_once = 0;
        let (_, event) = self.queue.pop_first().expect("looked at above");
        match event {
            Event::Planned(act) => {
                self.log(|| format!("plan: {act:?}"));
                return Step::Planned(act);
            }
            Event::ToServer(conn, bytes) => self.arrive(conn, &bytes),
            Event::Resolved(conn, result) => {
                if self.advance(conn, Phase::Resolving, Phase::Resolved) {
                    self.tell(conn, Input::Resolved { conn, result });
                }
            }
            Event::Connected(conn, dial) => {
                if self.conn(conn).dial == dial && self.advance(conn, Phase::Dialling, Phase::Open) {
                    self.tell(conn, Input::Connected { conn });
                }
            }
            Event::Ended(conn, dial, reason) => {
                let state = self.conn(conn);
                if state.dial == dial && matches!(state.phase, Phase::Dialling | Phase::Open) {
                    state.redialable = state.phase == Phase::Dialling;
                    (state.phase, state.severed) = (Phase::Closed, true);
                    self.tell(conn, Input::Closed { conn, reason: reason.into() });
                }
            }
            Event::ToClient { conn, bytes, last_of_garbage } => {
                if self.conn(conn).phase == Phase::Open {
                    self.tell(conn, Input::Received { conn, bytes: Bytes::from(bytes) });
                    let phase = self.conn(conn).phase;
                    let closed = !last_of_garbage || phase == Phase::Closed;
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

    /// Whether the connection was in phase `from`; then it is in `to`.
    fn advance(&mut self, conn: ConnId, from: Phase, to: Phase) -> bool {
        let state = self.conn(conn);
        let fits = state.phase == from;
        if fits {
            state.phase = to;
        }
        fits
    }

    fn tell(&mut self, conn: ConnId, input: Input) {
        self.log(|| match &input {
            Input::Received { bytes, .. } => format!("{conn:?} → client: {}", shown(bytes)),
            other => format!("{conn:?} → client: {other:?}"),
        });
        self.cluster.handle(Instant::from_nanoseconds(self.now), input);
        self.drain();
    }

    /// Submits a command; [`Self::drain`] has to follow.
    pub(crate) fn submit(&mut self, words: &Words, operation: Option<Operation>) -> Result<RequestId, Error> {
        let command = Command::new(words)?;
        let id = self.cluster.submit(Instant::from_nanoseconds(self.now), command);
        self.log(|| format!("{id:?} submit {}", line(words)));
        self.ledger.submitted(id, operation, self.now);
        Ok(id)
    }

    pub(crate) fn outcome(&self, id: RequestId) -> Option<&Result<Reply, Error>> {
        self.ledger.entries[&id].outcome.as_ref()
    }

    /// Does what the machine asks for, until it wants to wait.
    pub(crate) fn drain(&mut self) {
        for _ in 0..100_000 {
            match self.cluster.poll_output() {
                Output::Resolve { conn, host } => self.resolve(conn, &host),
                Output::Connect { conn, address } => self.connect(conn, address),
                Output::Transmit { conn, bytes } => self.transmit(conn, &bytes),
                Output::Close { conn } => {
                    self.log(|| format!("{conn:?} close"));
                    let state = self.conn(conn);
                    assert_ne!(state.phase, Phase::Closed, "INVARIANT: {conn:?} is closed once");
                    state.redialable = state.phase == Phase::Dialling;
                    state.phase = Phase::Closed;
                }
                Output::Ready(result) => {
                    self.log(|| format!("ready: {result:?}"));
                    assert!(self.ready.is_none(), "INVARIANT: Ready comes once");
                    let deadline = self.config.connect_timeout.as_nanos() as u64 + MILLISECOND;
                    assert!(self.now <= deadline, "INVARIANT: Ready comes within the connect time-out");
                    self.ready = Some(result);
                }
                Output::Done { id, result } => {
                    self.log(|| format!("{id:?} done: {result:?}"));
                    let timeout = self.config.request_timeout.as_nanos() as u64;
                    self.ledger.done(id, result, self.now, timeout);
                }
                Output::WaitUntil(until) => {
                    self.wait_until = until.map(Instant::as_nanoseconds);
                    return;
                }
            }
        }
        panic!("INVARIANT: poll_output comes to WaitUntil");
    }

    fn conn(&mut self, conn: ConnId) -> &mut Conn {
        self.conns.get_mut(&conn).unwrap_or_else(|| panic!("INVARIANT: {conn:?} exists"))
    }

    fn enter(&mut self, conn: ConnId, phase: Phase) {
        let state = Conn {
            phase,
            dial: 0,
            node: None,
            session: None,
            inbox: Vec::new(),
            to_server_at: 0,
            to_client_at: 0,
            severed: false,
            redialable: false,
        };
        let before = self.conns.insert(conn, state);
        assert!(before.is_none(), "INVARIANT: {conn:?} is new");
    }

    fn latency(&mut self) -> u64 {
        let (low, high) = self.weather.latency;
        let slow = self.weather.slow;
        let late = if self.choices.chance(slow) { self.choices.between(100, 3000) * MILLISECOND } else { 0 };
        self.choices.between(low, high) + late
    }

    fn resolve(&mut self, conn: ConnId, host: &str) {
        self.log(|| format!("{conn:?} resolve {host}"));
        let node = self.servers.nodes.iter().find(|node| node.host == host);
        let mut result = node.map(|node| vec![node.address.ip()]).ok_or_else(|| "no such host".to_string());
        self.enter(conn, Phase::Resolving);
        let percent = self.weather.lookup_failure;
        if let (true, Ok(addresses)) = (self.choices.chance(percent), &mut result) {
            // The first of two addresses leads nowhere.
            addresses.insert(0, IpAddr::V4(self.choices.pick(&[REFUSED, SILENT])));
        }
        let at = self.now + self.latency();
        let percent = self.weather.lookup_failure;
        match self.choices.chance(percent) {
            false => self.schedule(at, Event::Resolved(conn, result)),
            true if self.choices.chance(50) => {
                self.schedule(at, Event::Resolved(conn, Err("try again".into())));
            }
            // The look-up never ends.
            true => {}
        }
    }

    fn connect(&mut self, conn: ConnId, address: SocketAddr) {
        self.log(|| format!("{conn:?} connect {address}"));
        self.dials += 1;
        if self.conns.contains_key(&conn) {
            let state = self.conn(conn);
            let fits = state.phase == Phase::Resolved || state.redialable;
            assert!(fits, "INVARIANT: Connect comes once for an address, {conn:?} is {:?}", state.phase);
            (state.phase, state.severed, state.redialable) = (Phase::Dialling, false, false);
            state.dial += 1;
        } else {
            self.enter(conn, Phase::Dialling);
        }
        let dial = self.conn(conn).dial;
        let at = self.now + self.latency();
        let node = self.servers.at(address);
        let (refuse, silent) = (self.weather.refuse, self.weather.silent_dial);
        let refused = self.choices.chance(refuse);
        match node.map_or(Reach::Refusing, |node| self.servers.nodes[node].reach) {
            _ if address.ip() == SILENT => {}
            Reach::BlackHole => {}
            Reach::Up if !refused => {
                if !self.choices.chance(silent) {
                    let session = node.map(|node| self.servers.session(node));
                    let state = self.conn(conn);
                    (state.node, state.session) = (node, session);
                    self.schedule(at, Event::Connected(conn, dial));
                }
            }
            Reach::Up | Reach::Refusing => self.schedule(at, Event::Ended(conn, dial, "connection refused")),
        }
    }

    fn transmit(&mut self, conn: ConnId, bytes: &Bytes) {
        let state = self.conn(conn);
        assert_eq!(state.phase, Phase::Open, "INVARIANT: Transmit only on an open connection, {conn:?}");
        assert!(!bytes.is_empty(), "INVARIANT: Transmit carries something");
        let node = state.node.expect("an open connection has a node");
        let severed = state.severed;
        let mut rest = bytes.to_vec();
        let commands: Vec<_> = std::iter::from_fn(|| take_command(&mut rest)).collect();
        assert!(rest.is_empty(), "INVARIANT: Transmit carries whole commands");
        self.log(|| {
            let lines: Vec<_> = commands.iter().map(line).collect();
            format!("{conn:?} → node {node}{}: {}", if severed { " (lost)" } else { "" }, lines.join(" | "))
        });
        self.sent.push(Sent { node, commands });
        if severed {
            return;
        }
        let mut bytes = bytes.to_vec();
        let cut = self.weather.cut;
        let cut = self.choices.chance(cut);
        if cut {
            bytes.truncate(self.choices.index(bytes.len() + 1));
        }
        let mut at = self.conn(conn).to_server_at;
        for piece in self.split(bytes) {
            at = at.max(self.now + self.latency());
            self.schedule(at, Event::ToServer(conn, piece));
        }
        self.conn(conn).to_server_at = at;
        if cut {
            // The server still executes what arrived; the client hears of the end at some time.
            self.conn(conn).severed = true;
            self.end(conn);
        }
    }

    fn split(&mut self, bytes: Vec<u8>) -> Vec<Vec<u8>> {
        let percent = self.weather.split;
        let mut pieces = vec![bytes];
        while pieces.len() < 4 && self.choices.chance(percent) {
            let last = pieces.last_mut().expect("never empty");
            if last.len() < 2 {
                break;
            }
            let at = 1 + self.choices.index(last.len() - 1);
            let rest = last.split_off(at);
            pieces.push(rest);
        }
        pieces
    }

    fn arrive(&mut self, conn: ConnId, bytes: &[u8]) {
        let state = self.conn(conn);
        state.inbox.extend_from_slice(bytes);
        self.serve(conn);
    }

    /// The server takes what has arrived on this connection.
    fn serve(&mut self, conn: ConnId) {
        let Some(mut session) = self.conn(conn).session.take() else { return };
        let node = session.node;
        let running = !self.servers.nodes[node].paused && self.servers.nodes[node].reach == Reach::Up;
        let mut inbox = if running { std::mem::take(&mut self.conn(conn).inbox) } else { Vec::new() };
        let mut out = Vec::new();
        let mut spoilt = false;
        while let Some(words) = take_command(&mut inbox) {
            let answer = self.servers.execute(&mut session, &words);
            self.log(|| {
                let mut bytes = Vec::new();
                answer.encode(false, &mut bytes);
                format!("{conn:?} node {node} runs {}: {}", line(&words), shown(&bytes))
            });
            let percent = self.weather.garbage;
            if self.choices.chance(percent) {
                let kind = self.choices.below(GARBAGE_KINDS);
                out.extend(garbage(kind));
                spoilt = true;
                break;
            }
            answer.encode(session.resp3, &mut out);
        }
        let percent = self.weather.cut;
        let state = self.conn(conn);
        if !inbox.is_empty() {
            state.inbox = inbox;
        }
        let severed = state.severed;
        state.session = Some(session);
        if spoilt {
            self.sever(conn);
        }
        if out.is_empty() || severed {
            return;
        }
        if !spoilt && self.choices.chance(percent) {
            out.truncate(self.choices.index(out.len() + 1));
            self.reply(conn, out, false);
            self.cut(conn);
        } else {
            self.reply(conn, out, spoilt);
        }
    }

    /// Sends bytes to the client, whatever they are.
    pub(crate) fn reply(&mut self, conn: ConnId, bytes: Vec<u8>, garbage: bool) {
        let mut at = self.conn(conn).to_client_at;
        let pieces = self.split(bytes);
        let count = pieces.len();
        for (index, piece) in pieces.into_iter().enumerate() {
            at = at.max(self.now + self.latency());
            let last_of_garbage = garbage && index + 1 == count;
            self.schedule(at, Event::ToClient { conn, bytes: piece, last_of_garbage });
        }
        self.conn(conn).to_client_at = at;
    }

    /// The server's end goes, without a sign to the client.
    pub(crate) fn sever(&mut self, conn: ConnId) {
        let state = self.conn(conn);
        (state.severed, state.session) = (true, None);
        state.inbox.clear();
    }

    /// The connection ends for both sides, for the client after what is under way to it.
    pub(crate) fn cut(&mut self, conn: ConnId) {
        self.sever(conn);
        self.end(conn);
    }

    fn end(&mut self, conn: ConnId) {
        let at = self.now + self.latency();
        let state = self.conn(conn);
        let (at, dial) = (at.max(state.to_client_at), state.dial);
        self.schedule(at, Event::Ended(conn, dial, "connection reset"));
    }

    /// Takes up what arrived while the node was paused.
    pub(crate) fn resume(&mut self, node: usize) {
        self.servers.nodes[node].paused = false;
        let conns = self.conns.iter().filter(|(_, state)| state.node == Some(node));
        for conn in conns.map(|(conn, _)| *conn).collect::<Vec<_>>() {
            self.serve(conn);
        }
    }

    /// The connections that are open, to this node or to any.
    pub(crate) fn open_conns(&self, node: Option<usize>) -> Vec<ConnId> {
        let open = |state: &Conn| state.phase == Phase::Open && (node.is_none() || state.node == node);
        self.conns.iter().filter(|(_, state)| open(state)).map(|(conn, _)| *conn).collect()
    }

    /// How many connections are open to the client alone.
    pub(crate) fn silent_conns(&self) -> usize {
        self.conns.values().filter(|state| state.phase == Phase::Open && state.severed).count()
    }

    /// How many connections the client holds, in whatever phase.
    pub(crate) fn held(&self) -> usize {
        self.conns.values().filter(|state| state.phase != Phase::Closed).count()
    }

    pub(crate) fn waits_until(&self) -> Option<u64> {
        self.wait_until
    }
}

fn line(words: &Words) -> String {
    let words: Vec<_> = words.iter().map(|word| shown(word)).collect();
    words.join(" ")
}

fn shown(bytes: &[u8]) -> String {
    const SHOWN: usize = 160;
    let more = if bytes.len() > SHOWN { "…" } else { "" };
    format!("{}{more}", bytes.get(..SHOWN).unwrap_or(bytes).escape_ascii())
}
