//! The state machine that is the client.
//!
//! ```text
//! driver:  submit(now, command) ┐                     ┌ Resolve, Connect, Transmit, Close
//!          handle(now, input)   ┴→ Cluster ─ poll_output ─┼ Ready, Done
//!                                                      └ WaitUntil
//! ```
//!
//! After every [`submit`](Cluster::submit), [`forget`](Cluster::forget) and
//! [`handle`](Cluster::handle), the driver calls [`poll_output`](Cluster::poll_output) until it
//! says [`Output::WaitUntil`]; then it sleeps until a socket has something to say or that instant
//! has come:
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
//!         Output::Done { token, result } => { /* give the result to whoever asked */ }
//!         Output::WaitUntil(instant) => break, // sleep on the sockets and this instant
//!     }
//! }
//! cluster.handle(now, Input::Tick);
//! ```
//!
//! | folder, file | what of the machine is there |
//! |---|---|
//! | `mod.rs`, `callers.rs` | the contract; what callers ask for |
//! | `machine.rs` | what the machine keeps, and how far it has come |
//! | `carry.rs`, `news.rs` | carries news to the steps, and does what falls due; what a step tells those above it |
//! | `io.rs`, `ids.rs`, `context.rs` | inputs and outputs; names; what every part needs |
//! | `links/` | connections: dial, handshake, bytes, health, loss |
//! | `nodes/` | what is known of a node, and of addresses that failed |
//! | `topology/` | who serves what; who is asked when that is in doubt; who is at an address; who serves a read |
//! | `requests/` | a request's way: dispatch, order, parts, reply, redirect, retry, end |
//! | `pool/` | connections that are dedicated to one caller at a time |
//! | `scans/` | scans of all keys, or of one |
//! | `observe.rs`, `events.rs`, `statistics.rs` | what the driver can ask about |
//! | `queue.rs`, `timers.rs`, `random.rs` | requests that wait in line; deadlines; chance |

mod callers;
mod carry;
mod context;
mod events;
mod ids;
mod io;
mod links;
mod machine;
mod news;
mod nodes;
mod observe;
mod pool;
mod queue;
mod random;
mod requests;
mod scans;
mod shut_down;
mod statistics;
mod timers;
mod topology;

use alloc::collections::VecDeque;

use bytes::Bytes;

pub use crate::command::prepared::Command;
pub use crate::command::script::Scripts;
use crate::config::Config;
use crate::error::Error;
use crate::time::Instant;
use context::Context;
pub use events::Event;
pub use ids::{ConnId, LeaseId, RequestId, ScanId, Token};
pub use io::{Destination, Input, Output};
use links::Links;
pub use machine::Cluster;
use machine::Phase;
use nodes::Nodes;
use pool::Pool;
use requests::Requests;
use scans::Scans;
pub use scans::{ScanOptions, Subject};
pub use statistics::{Latency, NodeStatistics, Statistics};
use topology::ClusterMap;
use topology::start::Start;

impl Cluster {
    /// Starts a client: it dials its seeds at once, and says [`Output::Ready`] when it knows the
    /// topology.
    ///
    /// Requests may be submitted before that; they wait. The same settings, seed, inputs and times
    /// give the same outputs.
    #[must_use]
    pub fn new(config: Config, now: Instant, seed: u64) -> Self {
        let deadline = now + config.connect_timeout;
        let mut cluster = Self {
            cx: Context::new(config, now, seed),
            phase: Phase::Starting(Start::new(deadline)),
            nodes: Nodes::default(),
            links: Links::default(),
            requests: Requests::default(),
            pool: Pool::default(),
            scans: Scans::default(),
            map: ClusterMap::default(),
            news: VecDeque::new(),
        };
        // With a topology nothing need be asked before the first request; nodes are dialled when
        // they are needed.
        if let Some(topology) = cluster.cx.config.topology.take() {
            cluster.adopt(&topology, None, now);
            cluster.map.refresh_when_connected(now);
            cluster.carry_on();
            return cluster;
        }
        for seed in cluster.cx.config.seeds.clone() {
            let node = cluster.nodes.find(&cluster.cx, &seed);
            cluster.ensure_connection(node);
        }
        cluster
    }

    /// Takes in what happened.
    pub fn handle(&mut self, now: Instant, input: Input) {
        // What came in is older than what falls due now, and says more.
        self.cx.now = self.cx.now.max(now);
        match input {
            Input::Resolved { conn, result } => self.on_resolved(conn, result),
            Input::Connected { conn } => self.on_connected(conn),
            Input::Received { conn, bytes } => self.receive(conn, bytes),
            Input::Closed { conn, reason } => self.on_closed(conn, reason),
            Input::NoSocket { conn, reason } => self.on_no_socket(conn, reason),
            Input::Tick => {}
        }
        self.carry_on();
        self.advance(now);
    }

    /// What to do next; to be called until it says [`Output::WaitUntil`].
    pub fn poll_output(&mut self) -> Output {
        self.drive();
        if let Some(output) = self.cx.outputs.pop_front() {
            return output;
        }
        while let Some(conn) = self.links.next_unflushed() {
            if let Some(bytes) = self.flush(conn) {
                self.links.mark_rest_unflushed(&self.cx, conn);
                return Output::Transmit { conn, bytes };
            }
        }
        Output::WaitUntil(self.next_wake())
    }

    /// A connection for which so much is queued that it is worth a write before the next requests
    /// are handed in.
    ///
    /// A driver that hands many in may ask after each, and [`flush`](Self::flush) it: then the
    /// server works on the first while the last are still being routed.
    pub fn next_full(&mut self) -> Option<ConnId> {
        self.links.next_full()
    }

    /// The next of what a connection has queued, which is to be written as an [`Output::Transmit`]
    /// would be. There may be more.
    pub fn flush(&mut self, conn: ConnId) -> Option<Bytes> {
        let bytes = self.links.flush(&mut self.cx, conn)?;
        let node = self.links.node_of(conn).and_then(|key| self.nodes.get_mut(key));
        if let Some(node) = node {
            node.statistics_mut().bytes_out += bytes.len() as u64;
        }
        Some(bytes)
    }

    /// Takes note whether a socket may hold more than the driver has read in its turn.
    ///
    /// While it may, and the connection owes no reply, nothing is written to it: what is still
    /// unread answers nothing that is still to be sent. The driver reads on in its next turn.
    pub fn set_unread(&mut self, conn: ConnId, is_unread: bool) {
        self.links.set_unread(conn, is_unread);
    }

    /// The connections that the next [`Output::Transmit`]s are for.
    ///
    /// A driver that has not looked at its sockets for a while reads from these before it goes on:
    /// what comes in now answers nothing that is still to be sent, and a connection that has
    /// ended is found out in time.
    pub fn unflushed(&self) -> impl Iterator<Item = ConnId> {
        self.links.unflushed()
    }

    /// Ends the client: every request is done with [`Error::Closed`], every connection closed.
    pub fn close(&mut self) {
        if let Phase::Starting(_) = self.phase {
            self.cx.output(Output::Ready(Err(Error::Closed)));
        }
        self.shut_down(&Error::Closed);
    }

    /// Whether the client was closed, or its start has failed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }
}
