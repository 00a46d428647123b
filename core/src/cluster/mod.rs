//! The state machine that is the client.
//!
//! ```text
//! driver:  submit(now, command) ┐                     ┌ Resolve, Connect, Transmit, Close
//!          handle(now, input)   ┴→ Cluster ─ poll_output ─┼ Ready, Done
//!                                                      └ WaitUntil
//! ```
//!
//! After every [`submit`](Cluster::submit), [`forget`](Cluster::forget) and [`handle`](Cluster::handle), the driver calls
//! [`poll_output`](Cluster::poll_output) until it says [`Output::WaitUntil`]; then it sleeps until a socket has something
//! to say or that instant has come:
//!
//! ```
//! use keyslot_core::cluster::{Cluster, Input, Output};
//! # use keyslot_core::{address::NodeAddr, config::Config, time::Instant};
//! # let config = Config::new(vec![NodeAddr::new("127.0.0.1", 7000)]);
//! # let now = Instant::default();
//! let mut cluster = Cluster::new(config, now, 42);
//! loop {
//!     match cluster.poll_output() {
//!         Output::Resolve { conn, host } => { /* look it up, then handle(Resolved) */ }
//!         Output::Connect { conn, address } => { /* dial, then handle(Connected or Closed) */ }
//!         Output::Transmit { conn, bytes } => { /* one write */ }
//!         Output::Close { conn } => { /* drop the socket */ }
//!         Output::Ready(result) => { /* the topology is known, or the client is of no use */ }
//!         Output::Done { id, result } => { /* give the result to whoever asked */ }
//!         Output::WaitUntil(instant) => break, // sleep on the sockets and this instant
//!     }
//! }
//! cluster.handle(now, Input::Tick);
//! ```
//!
//! | file | what of the machine is there |
//! |---|---|
//! | `mod.rs` | the contract, inputs and outputs, timers |
//! | `requests.rs` | a request's way: dispatch, reply, redirect, retry, end |
//! | `gather.rs` | commands that several nodes answer together |
//! | `order.rs` | the order of commands for one slot |
//! | `replicas.rs` | which node of a shard serves a read |
//! | `connections.rs` | a connection's way: dial, handshake, replies, loss |
//! | `dials.rs`, `failures.rs` | how many connections there are, and which node is dialled next; failures of addresses |
//! | `attention.rs` | when connections and nodes want attention |
//! | `liveness.rs` | health checks, and nodes that stop answering |
//! | `pool.rs` | connections that are lent for exclusive use |
//! | `lent.rs` | what becomes of a lent connection's first command when it is refused |
//! | `transaction.rs`, `scripts.rs`, `blocking.rs` | MULTI to EXEC; EVALSHA; commands that block |
//! | `scans.rs`, `scan.rs`, `scan_pass.rs` | scans of all keys, or of one |
//! | `answers.rs` | how large the answers to its own questions may be, and of which types |
//! | `discovery.rs`, `refresh.rs` | the start, and learning the topology anew |
//! | `refused.rs` | the client's own commands that a server refuses |
//! | `identity.rs`, `stale.rs` | who is at an address; connections whose address has another node by now |
//! | `events.rs`, `statistics.rs` | what the driver can ask about |
//! | `request.rs`, `connection.rs`, `node.rs`, `handshake.rs`, `outgoing.rs`, `slots.rs`, `verdict.rs`, `timers.rs`, `queue.rs` | the parts |

mod answers;
mod attention;
mod blocking;
mod connection;
mod connections;
mod dials;
mod discovery;
mod events;
mod failures;
mod gather;
mod handshake;
mod identity;
mod lent;
mod liveness;
mod node;
mod order;
mod outgoing;
mod pool;
mod queue;
mod random;
mod refresh;
mod refused;
mod replicas;
mod request;
mod requests;
mod route;
mod scan;
mod scan_pass;
mod scans;
mod scripts;
mod slots;
mod stale;
mod statistics;
mod timers;
mod transaction;
mod verdict;

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use litemap::LiteMap;
use slotmap::SlotMap as Arena;

use crate::address::NodeAddr;
use crate::config::Config;
use crate::error::Error;
use crate::resp::{Meter, RawReply};
use crate::slot::Slot;
use crate::time::Instant;
use crate::topology::{Index, Topology};
use connection::{Connection, State};
use dials::Dials;
use discovery::Start;
use events::Events;
pub use events::{Event, MovedSlots, TopologyChange};
use failures::Failures;
use node::Node;
use order::Order;
use pool::Lease;
use queue::Queue;
use random::Random;
use refresh::Refresh;
pub use request::Command;
use request::{Request, Target};
use requests::Held;
use scan::Scan;
pub use scan::{ScanOptions, Subject};
pub use scripts::Scripts;
use slots::SlotMap;
pub use statistics::{Latency, NodeStatistics, Statistics};
use timers::Timers;

slotmap::new_key_type! {
    /// Names one connection.
    pub struct ConnId;

    /// Names one request.
    pub struct RequestId;

    /// Names a connection that is lent, from asking for it to giving it back.
    pub struct LeaseId;

    /// Names a scan, from opening to closing it.
    pub struct ScanId;

    /// Names one node for as long as the client knows it.
    struct NodeKey;
}

impl RequestId {
    /// A small number that no other request under way has: an index for a driver's table.
    #[must_use]
    pub fn index(self) -> usize {
        // The low half of the key is its place in the arena, from 1 on; the high half tells its users apart.
        (slotmap::Key::data(&self).as_ffi() & u64::from(u32::MAX)) as usize
    }
}

/// Where the caller sends a request.
#[derive(Clone, Debug)]
pub enum Destination {
    /// Where its keys are; without keys, where the servers' command tips say.
    Cluster,
    /// To this node and to no other, whatever its keys: redirects and passing errors are answered to the caller, and it
    /// ends at once when the node cannot be connected to.
    Node(NodeAddr),
    /// Over this connection, and so to one node, too: nothing is sent again.
    Lent(LeaseId),
    /// To this scan, with [`Command::next_batch`]: see [`Cluster::next_batch`].
    Scan(ScanId),
}

/// What happened outside.
#[derive(Debug)]
pub enum Input {
    /// Answers [`Output::Resolve`].
    Resolved {
        /// The connection that the name was looked up for.
        conn: ConnId,
        /// The host's addresses in order of preference, or why there are none.
        result: Result<Vec<IpAddr>, String>,
    },
    /// Answers [`Output::Connect`]: the connection is open.
    Connected {
        /// The connection.
        conn: ConnId,
    },
    /// Bytes came in.
    Received {
        /// The connection.
        conn: ConnId,
        /// The bytes, in the order they came; any number of them.
        bytes: Bytes,
    },
    /// The connection could not be opened, or it ended. The driver has dropped it.
    Closed {
        /// The connection.
        conn: ConnId,
        /// Why, for people.
        reason: String,
    },
    /// Nothing but time has passed.
    Tick,
}

/// What the driver is to do.
#[derive(Debug)]
pub enum Output {
    /// Look `host` up; answer with [`Input::Resolved`].
    Resolve {
        /// The connection that it is for.
        conn: ConnId,
        /// A host name.
        host: String,
    },
    /// Open a connection; answer with [`Input::Connected`] or [`Input::Closed`]. It comes again, with the host's
    /// next address, when one could not be opened, or was closed before the connection was of use.
    Connect {
        /// The connection.
        conn: ConnId,
        /// Where to.
        address: SocketAddr,
    },
    /// Write these bytes, in one write where the socket takes them.
    Transmit {
        /// The connection.
        conn: ConnId,
        /// All that it has queued.
        bytes: Bytes,
    },
    /// Drop the connection, whatever state it is in. Nothing may be said of it any more, unless it is to be
    /// opened again.
    Close {
        /// The connection.
        conn: ConnId,
    },
    /// The client's start has ended: it knows its topology, or is of no use. Comes once.
    Ready(Result<(), Error>),
    /// The request has ended. Comes once for each.
    Done {
        /// The request.
        id: RequestId,
        /// Its reply as it was sent, or why there is none. A reply that is an error is [`Error::Server`].
        result: Result<RawReply, Error>,
    },
    /// Nothing more to do until something happens outside, or until this instant.
    WaitUntil(Option<Instant>),
}

/// The client.
///
/// ```text
///   Starting ── topology known ──→ Running ── close ──→ Closed
///      └── no seed can be used ─────────────────────────↑
/// ```
#[derive(Debug)]
pub struct Cluster {
    config: Config,
    random: Random,
    /// The latest time that the driver told.
    now: Instant,
    phase: Phase,
    nodes: Arena<NodeKey, Node>,
    by_address: LiteMap<NodeAddr, NodeKey>,
    connections: Arena<ConnId, Connection>,
    requests: Arena<RequestId, Request>,
    leases: Arena<LeaseId, Lease>,
    scans: Arena<ScanId, Scan>,
    /// Scans of which something has come.
    scans_due: Vec<ScanId>,
    topology: Topology,
    /// Where the topology's nodes stand in it.
    directory: Index,
    slots: SlotMap,
    refresh: Refresh,
    /// When the pools were last looked through.
    tended_at: Instant,
    /// Requests whose slot has no node, until a topology has one; before the start's end, all requests.
    unrouted: Queue,
    /// What waits, and must not be without bound.
    held: Held,
    order: Order,
    scripts: Scripts,
    /// When requests' time runs out.
    deadlines: Timers<RequestId>,
    /// When delayed requests are tried again.
    delayed: Timers<RequestId>,
    /// When connections, nodes and those who wait for a lent connection want attention.
    connection_alarms: Timers<ConnId>,
    node_alarms: Timers<NodeKey>,
    lease_deadlines: Timers<LeaseId>,
    dials: Dials,
    /// The connection that came into use last.
    contact: Option<ConnId>,
    /// Of addresses whose nodes were forgotten.
    failures: Failures,
    outputs: VecDeque<Output>,
    /// Connections with something to flush.
    unflushed: Vec<ConnId>,
    /// Those of them that have much.
    full: Vec<ConnId>,
    events: Events,
    statistics: Statistics,
    /// What replies hold, from their first byte until the driver lets go of them.
    meter: Meter,
}

/// How far the client has come.
#[derive(Debug)]
enum Phase {
    Starting(Start),
    /// The seeds are a cluster's.
    Clustered,
    /// This one server is all there is.
    Standalone(NodeKey),
    Closed,
}

impl Cluster {
    /// Starts a client: it dials its seeds at once, and says [`Output::Ready`] when it knows the topology.
    ///
    /// Requests may be submitted before that; they wait. The same settings, seed, inputs and times give the
    /// same outputs.
    #[must_use]
    pub fn new(config: Config, now: Instant, seed: u64) -> Self {
        let deadline = now + config.connect_timeout;
        let mut cluster = Self {
            random: Random::new(seed),
            now,
            phase: Phase::Starting(Start::new(deadline)),
            nodes: Arena::with_key(),
            by_address: LiteMap::new(),
            connections: Arena::with_key(),
            requests: Arena::with_key(),
            leases: Arena::with_key(),
            scans: Arena::with_key(),
            scans_due: Vec::new(),
            topology: Topology::default(),
            directory: Index::default(),
            slots: SlotMap::new(),
            refresh: Refresh::default(),
            tended_at: now,
            unrouted: Queue::default(),
            held: Held::default(),
            order: Order::new(),
            scripts: Scripts::default(),
            deadlines: Timers::default(),
            delayed: Timers::default(),
            connection_alarms: Timers::default(),
            node_alarms: Timers::default(),
            lease_deadlines: Timers::default(),
            dials: Dials::default(),
            contact: None,
            failures: Failures::default(),
            outputs: VecDeque::new(),
            unflushed: Vec::new(),
            full: Vec::new(),
            events: Events::default(),
            statistics: Statistics::default(),
            meter: Meter::limited(config.received_bytes),
            config,
        };
        // With a topology nothing need be asked before the first request; nodes are dialled when they are needed.
        if let Some(topology) = cluster.config.topology.take() {
            cluster.adopt(&topology, None, now);
            cluster.refresh_when_connected();
            return cluster;
        }
        for seed in cluster.config.seeds.clone() {
            let node = cluster.node_at(&seed);
            cluster.ensure_connection(node);
        }
        cluster
    }

    /// Takes a request. Its end is an [`Output::Done`] with this id.
    pub fn submit(&mut self, now: Instant, command: Command, destination: &Destination) -> RequestId {
        if now > self.now {
            self.advance(now);
        }
        let id = self.accept(
            command,
            match destination {
                Destination::Cluster => None,
                Destination::Node(address) => Some(Target::Node(address.clone())),
                Destination::Lent(lease) => Some(Target::Lent(*lease)),
                Destination::Scan(scan) => Some(Target::Scan(*scan)),
            },
        );
        self.drive_refresh();
        id
    }

    /// Gives a request up: no [`Output::Done`] comes for it. It may be executed all the same.
    pub fn forget(&mut self, id: RequestId) {
        let request = self.requests.get(id);
        let blocked =
            request.filter(|request| request.command.blocks.is_some() && request.is_on_connection());
        let blocked = blocked.and_then(Request::lease);
        let on = self.connections_of(id);
        self.abandon(id);
        // The server would take something for nobody.
        if let Some(lease) = blocked {
            self.end_given_up(lease);
        }
        // It, or its parts, may have been the last on connections that take no more.
        for conn in on {
            self.close_if_drained(conn);
        }
    }

    /// The connections on which replies to a request, or to its parts, are due.
    fn connections_of(&self, id: RequestId) -> Vec<ConnId> {
        let whole = self.requests.get(id);
        let parts = whole.and_then(|request| request.gather.as_ref());
        let parts = parts.into_iter().flat_map(|gather| gather.under_way());
        let requests = whole.into_iter().chain(parts.filter_map(|part| self.requests.get(part)));
        let conn = |request: &Request| match request.place {
            request::Place::OnConnection(conn) => Some(conn),
            _ => None,
        };
        requests.filter_map(conn).collect()
    }

    /// Takes in what happened.
    pub fn handle(&mut self, now: Instant, input: Input) {
        // What came in is older than what falls due now, and says more.
        self.now = self.now.max(now);
        match input {
            Input::Resolved { conn, result } => self.on_resolved(conn, result),
            Input::Connected { conn } => self.on_connected(conn),
            Input::Received { conn, bytes } => self.on_received(conn, bytes),
            Input::Closed { conn, reason } => self.on_closed(conn, reason),
            Input::Tick => {}
        }
        self.advance(now);
    }

    /// What to do next; to be called until it says [`Output::WaitUntil`].
    pub fn poll_output(&mut self) -> Output {
        self.drive_dials();
        loop {
            self.release_held();
            if !self.drive_scans() {
                break;
            }
        }
        if let Some(output) = self.outputs.pop_front() {
            return output;
        }
        self.full.clear();
        while let Some(conn) = self.unflushed.pop() {
            if let Some(connection) = self.connections.get_mut(conn) {
                if !connection.may_be_written() {
                    connection.is_held = true;
                    continue;
                }
                connection.is_unflushed = false;
            }
            if let Some(bytes) = self.flush(conn) {
                if self.connections.get(conn).is_some_and(Connection::has_unflushed) {
                    self.mark_unflushed(conn);
                }
                return Output::Transmit { conn, bytes };
            }
        }
        Output::WaitUntil(self.next_wake())
    }

    /// A connection for which so much is queued that it is worth a write before the next requests are handed in.
    ///
    /// A driver that hands many in may ask after each, and [`flush`](Self::flush) it: then the server works on the first
    /// while the last are still being routed.
    pub fn next_full(&mut self) -> Option<ConnId> {
        self.full.pop()
    }

    /// The next of what a connection has queued, which is to be written as an [`Output::Transmit`] would be. There may be
    /// more.
    pub fn flush(&mut self, conn: ConnId) -> Option<Bytes> {
        let connection = self.connections.get_mut(conn).filter(|connection| connection.may_be_written())?;
        let bytes = connection.flush()?;
        self.statistics.flushes += 1;
        self.statistics.bytes_out += bytes.len() as u64;
        if let Some(node) = self.nodes.get_mut(connection.node) {
            node.statistics.bytes_out += bytes.len() as u64;
        }
        Some(bytes)
    }

    /// Takes note whether a socket may hold more than the driver has read in its turn.
    ///
    /// While it may, and the connection owes no reply, nothing is written to it: what is still unread
    /// answers nothing that is still to be sent. The driver reads on in its next turn.
    pub fn set_unread(&mut self, conn: ConnId, is_unread: bool) {
        if let Some(connection) = self.connections.get_mut(conn) {
            connection.is_unread = is_unread;
            if !is_unread && core::mem::take(&mut connection.is_held) {
                self.unflushed.push(conn);
            }
        }
    }

    /// The connections that the next [`Output::Transmit`]s are for.
    ///
    /// A driver that has not looked at its sockets for a while reads from these before it goes on: what comes in now
    /// answers nothing that is still to be sent, and a connection that has ended is found out in time.
    pub fn unflushed(&self) -> impl Iterator<Item = ConnId> {
        self.unflushed.iter().copied()
    }

    /// Ends the client: every request is done with [`Error::Closed`], every connection closed.
    pub fn close(&mut self) {
        if let Phase::Starting(_) = self.phase {
            self.outputs.push_back(Output::Ready(Err(Error::Closed)));
        }
        self.shut_down(&Error::Closed);
    }

    /// Whether the client was closed, or its start has failed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }

    /// The topology as now known; without shards before the start's end.
    #[must_use]
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// The primary that serves this slot, as now known.
    #[must_use]
    pub fn primary_of(&self, slot: Slot) -> Option<&NodeAddr> {
        let node = match self.phase {
            Phase::Standalone(node) => node,
            _ => self.slots.owner(slot)?,
        };
        self.nodes.get(node).map(|node| &node.address)
    }

    /// The counters.
    #[must_use]
    pub fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    /// How many bytes of memory replies hold: what has come in and is not whole, and whole replies until the last who
    /// has them lets go. Small ones that came whole are left out.
    #[must_use]
    pub fn received_bytes(&self) -> usize {
        self.meter.bytes() as usize
    }

    /// What is counted for each node that the client knows, and how many of its requests are under way on connections.
    pub fn node_statistics(&self) -> impl Iterator<Item = (&NodeAddr, &NodeStatistics, usize)> {
        self.by_address.iter().filter_map(|(address, key)| {
            let node = self.nodes.get(*key)?;
            let own = node.connections.iter().filter_map(|conn| self.connections.get(*conn));
            let in_flight = own.map(|connection| connection.waiting.len()).sum();
            Some((address, &node.statistics, in_flight))
        })
    }

    /// What has happened since this was last asked, oldest first, and how many events before that were dropped
    /// because nobody had asked for long.
    pub fn take_events(&mut self) -> (Vec<(Instant, Event)>, u64) {
        self.events.take()
    }

    fn tell(&mut self, event: Event) {
        self.events.push(self.now, event);
    }

    /// Whether this request is under way: its [`Output::Done`] is still to be made.
    #[must_use]
    pub fn is_pending(&self, id: RequestId) -> bool {
        self.requests.contains_key(id)
    }

    /// How many requests are under way.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.requests.len()
    }

    /// How many things of any kind the machine holds: requests, connections and what waits on them,
    /// nodes, timers. For tests of the promise that nothing grows without bound.
    #[must_use]
    pub fn footprint(&self) -> usize {
        let waiting: usize = self.connections.values().map(|connection| connection.waiting.len()).sum();
        let of_node = |node: &Node| node.queue.footprint() + node.borrowers.len() + node.idle.len();
        let queued: usize = self.nodes.values().map(of_node).sum();
        // What is swept now and then may have this much for each thing that is counted already.
        let beyond = |entries: usize, counted: usize| entries.saturating_sub(256 + 4 * counted);
        self.requests.len()
            + self.connections.len()
            + waiting
            + self.nodes.len()
            + queued
            + self.leases.len()
            + self.scans.values().map(|scan| 1 + scan.footprint()).sum::<usize>()
            + self.unrouted.footprint()
            + self.order.held()
            + self.deadlines.len()
            + self.delayed.len()
            + beyond(self.connection_alarms.len(), self.connections.len())
            + beyond(self.node_alarms.len(), self.nodes.len())
            + beyond(self.lease_deadlines.len(), self.leases.len())
            + beyond(self.dials.footprint(), self.nodes.len() + self.connections.len())
            + self.failures.len()
            + self.outputs.len()
            + self.refresh.queries.len()
    }

    /// Moves the clock, which never goes back, and does what has fallen due.
    fn advance(&mut self, now: Instant) {
        self.now = self.now.max(now);
        while let Some(id) = self.deadlines.pop_due(self.now) {
            self.time_out(id);
        }
        while let Some(id) = self.delayed.pop_due(self.now) {
            self.retry(id);
        }
        self.check_connections();
        self.check_nodes();
        self.check_lease_deadlines();
        self.check_scans();
        self.check_start_deadline();
        self.seek_contact();
        self.tend_pools();
        self.drive_refresh();
    }

    /// When `advance` has something to do.
    fn next_wake(&mut self) -> Option<Instant> {
        let alarm = self.next_alarm();
        let timers = [
            self.deadlines.next(),
            self.delayed.next(),
            self.start_deadline(),
            self.next_refresh(),
            alarm,
            self.next_scan_wake(),
        ];
        timers.into_iter().flatten().min()
    }

    /// Ends everything that is under way.
    fn shut_down(&mut self, error: &Error) {
        self.phase = Phase::Closed;
        let requests: Vec<_> = self.requests.keys().collect();
        for id in requests {
            self.finish(id, Err(error.clone()));
        }
        for (conn, connection) in self.connections.drain() {
            if connection.is_announced() {
                self.outputs.push_back(Output::Close { conn });
            }
        }
        self.leases.clear();
        self.scans.clear();
        self.nodes.clear();
        self.by_address.clear();
        self.unrouted = Queue::default();
        self.unflushed.clear();
        self.full.clear();
        self.deadlines = Timers::default();
        self.delayed = Timers::default();
        self.connection_alarms = Timers::default();
        self.node_alarms = Timers::default();
        self.lease_deadlines = Timers::default();
        self.dials = Dials::default();
        self.failures = Failures::default();
        self.refresh = Refresh::default();
        self.slots = SlotMap::new();
        self.order = Order::new();
    }

    /// What is known of the node at this address, from now on if nothing was.
    fn node_at(&mut self, address: &NodeAddr) -> NodeKey {
        if let Some(key) = self.by_address.get(address) {
            // It is asked for again: it stays until the next topology decides.
            if let Some(node) = self.nodes.get_mut(*key) {
                node.retired = false;
            }
            return *key;
        }
        let mut node = Node::new(address.clone());
        self.failures.recall(&mut node, self.now);
        let key = self.nodes.insert(node);
        self.by_address.insert(address.clone(), key);
        self.look_after(key);
        key
    }

    fn mark_unflushed(&mut self, conn: ConnId) {
        let connection = self.connections.get_mut(conn);
        if connection.is_some_and(|connection| !core::mem::replace(&mut connection.is_unflushed, true)) {
            self.unflushed.push(conn);
            self.watch(conn);
        }
    }
}
