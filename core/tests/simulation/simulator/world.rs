//! The driver: the loop around a real [`Cluster`] that checks what the machine asks of it.

use keyslot_core::cluster::{Cluster, ConnId, Input, Output, RequestId};
use keyslot_core::config::{Config, ReplicaReads};
use keyslot_core::error::Error;
use keyslot_core::resp::Reply;
use keyslot_core::time::Instant;

use super::choices::Choices;
use super::clock::{Clock, Event, Turn};
use super::coverage::{Coverage, Feature};
use super::digest::Digest;
use super::excuses::Excuses;
use super::flaw::Flaw;
use super::history::History;
use super::leases::Leases;
use super::network::{Network, shown};
use super::operation::{SCRIPT, SCRIPT_SHA1};
use super::promises::Reports;
use super::scanners::Scanners;
use super::server::Servers;
use super::tokens::Tokens;
use super::weather::Weather;

pub(crate) const MICROSECOND: u64 = 1_000;
pub(crate) const MILLISECOND: u64 = 1_000_000;
pub(crate) const SECOND: u64 = 1_000_000_000;

/// Each part's state is its own; what takes several parts is done here or in their files.
#[derive(Debug)]
pub(crate) struct World<A> {
    clock: Clock<A>,
    pub(super) choices: Choices,
    pub(super) network: Network<A>,
    pub(crate) servers: Servers,
    /// The machine.
    pub(crate) cluster: Cluster,
    pub(super) config: Config,
    /// What is wrong with the client.
    pub(super) flaw: Flaw,
    pub(crate) history: History,
    pub(super) tokens: Tokens,
    pub(super) leases: Leases,
    pub(super) scanners: Scanners,
    pub(super) reports: Reports,
    pub(super) excuses: Excuses,
    pub(super) coverage: Coverage,
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
            clock: Clock::new(),
            choices,
            network: Network::new(weather, servers.nodes.len()),
            servers,
            cluster,
            config,
            flaw: Flaw::None,
            history: History::default(),
            tokens: Tokens::default(),
            leases: Leases::default(),
            scanners: Scanners::default(),
            reports: Reports::default(),
            excuses: Excuses::new(may_read_replicas),
            coverage: Coverage::default(),
            record,
        };
        world.drain();
        world
    }

    pub(crate) fn now(&self) -> u64 {
        self.clock.now()
    }

    pub(super) fn machine_now(&self) -> Instant {
        self.clock.machine_now()
    }

    /// When the machine wants to be woken, on its clock.
    pub(crate) fn waits_until(&self) -> Option<u64> {
        self.clock.waits_until()
    }

    pub(crate) fn log(&self, text: impl FnOnce() -> String) {
        if let Record::Trace = self.record {
            println!("{:>13.6} ms  {}", self.now() as f64 / 1e6, text());
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
        self.clock.schedule(at, event);
    }

    /// Hands `act` back from [`Self::step`] at this time.
    pub(crate) fn plan(&mut self, at: u64, act: A) {
        self.schedule(at, Event::Planned(act));
    }

    /// The machine's clock jumps forward.
    pub(crate) fn jump(&mut self, by: u64) {
        let from = self.machine_now().as_nanoseconds();
        self.clock.jump(by);
        self.coverage.count(Feature::ClockJump);
        self.history.jumped(from, from + by);
    }

    /// Does the next thing, if it happens before `until`.
    pub(crate) fn step(&mut self, until: u64) -> Step<A> {
        let before = self.now();
        let turn = self.clock.turn(until);
        if self.now() > before {
            self.choices.turn_to(self.now());
        }
        match turn {
            Turn::Quiet => return Step::Quiet,
            Turn::Tick => {
                self.log(|| "tick".into());
                self.cluster.handle(self.machine_now(), Input::Tick);
                self.drain();
            }
            Turn::Event(event) => match self.hold(event) {
                Some(Event::Planned(act)) => {
                    self.log(|| format!("plan: {act:?}"));
                    return Step::Planned(act);
                }
                Some(event) => self.happen(event),
                None => {}
            },
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

    pub(super) fn tell(&mut self, conn: ConnId, input: Input) {
        self.log(|| match &input {
            Input::Received { bytes, .. } => format!("{conn:?} → client: {}", shown(bytes)),
            other => format!("{conn:?} → client: {other:?}"),
        });
        self.cluster.handle(self.machine_now(), input);
        self.drain();
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
                Output::Close { conn } => self.close(conn),
                Output::Ready(result) => self.is_ready(result),
                Output::Done { token, result } => {
                    let id = self.tokens.request(token);
                    if !self.flaw.loses_outcome() {
                        self.done(id, result.map(|reply| reply.decode()));
                    }
                }
                Output::WaitUntil(until) => {
                    self.clock.wait_until(until);
                    return;
                }
            }
        }
        panic!("INVARIANT: poll_output comes to WaitUntil");
    }

    fn done(&mut self, id: RequestId, result: Result<Reply, Error>) {
        self.log(|| format!("{id:?} done: {result:?}"));
        let now = self.machine_now().as_nanoseconds();
        let (operation, way) = self.history.asked(id);
        self.coverage.ended(operation, way, &result);
        self.history.done(id, result, now, &self.servers);
    }
}
