//! The state machine that is the client.
//!
//! ```text
//! driver:  submit(now, request) ┐                  ┌ Connect, Resolve, Transmit, Close
//!          handle(now, input)   ┴→ Cluster ─poll_output→ Done, Ready, WaitUntil
//! ```

use alloc::string::String;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

use bytes::Bytes;

use crate::address::NodeAddr;
use crate::config::Config;
use crate::error::Error;
use crate::resp::Reply;
use crate::time::Instant;
use crate::topology::Topology;

/// Names one connection for as long as the client lives; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(u64);

/// Names one request for as long as the client lives; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(u64);

/// What happened outside.
#[derive(Debug)]
pub enum Input {
    /// Answers [`Output::Resolve`]: the host's addresses in order of preference, or why there are none.
    Resolved { conn: ConnId, result: Result<Vec<IpAddr>, String> },
    /// Answers [`Output::Connect`]: the connection is open.
    Connected { conn: ConnId },
    /// Bytes came in.
    Received { conn: ConnId, bytes: Bytes },
    /// The connection could not be opened, or it ended. The driver has dropped it.
    Closed { conn: ConnId, reason: String },
    /// Nothing but time has passed.
    Tick,
}

/// What the driver is to do.
#[derive(Debug)]
pub enum Output {
    /// Look up `host`; answer with [`Input::Resolved`].
    Resolve { conn: ConnId, host: String },
    /// Open a connection; answer with [`Input::Connected`] or [`Input::Closed`].
    Connect { conn: ConnId, address: SocketAddr },
    /// Write these bytes, in one write where the socket takes them.
    Transmit { conn: ConnId, bytes: Bytes },
    /// Drop the connection, whatever state it is in. Nothing is heard of it again.
    Close { conn: ConnId },
    /// The client's start has ended: it knows its topology, or cannot be used. Comes once.
    Ready(Result<(), Error>),
    /// The request has ended. Comes once for each.
    Done { id: RequestId, result: Result<Reply, Error> },
    /// Nothing more to do until something happens outside, or until this instant.
    WaitUntil(Option<Instant>),
}

/// One command as the caller gave it, checked and encoded.
#[derive(Clone, Debug)]
pub struct Command {}

impl Command {
    /// Checks and encodes a command: its name, then its arguments.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for an empty command or keys that cannot be told, [`Error::CrossSlot`]
    /// for keys in different slots.
    pub fn new<A: AsRef<[u8]>>(_args: &[A]) -> Result<Self, Error> {
        Ok(Self {})
    }
}

/// The client.
#[derive(Debug)]
pub struct Cluster {}

impl Cluster {
    /// Starts a client: it dials its seeds at once, and says [`Output::Ready`] when it knows the topology.
    #[must_use]
    pub fn new(_config: Config, _now: Instant, _seed: u64) -> Self {
        Self {}
    }

    /// Takes a request. Its end is an [`Output::Done`] with this id.
    pub fn submit(&mut self, _now: Instant, _command: Command) -> RequestId {
        RequestId(0)
    }

    /// Gives a request up: no [`Output::Done`] comes for it.
    pub fn forget(&mut self, _id: RequestId) {}

    /// Takes in what happened.
    pub fn handle(&mut self, _now: Instant, _input: Input) {}

    /// What to do next; call until it says [`Output::WaitUntil`].
    pub fn poll_output(&mut self) -> Output {
        Output::WaitUntil(None)
    }

    /// Ends the client: every request is done with [`Error::Closed`], every connection closed.
    pub fn close(&mut self) {}

    /// The topology as now known.
    #[must_use]
    pub fn topology(&self) -> Option<&Topology> {
        None
    }

    /// The primary that serves this slot.
    #[must_use]
    pub fn primary_of(&self, _slot: crate::slot::Slot) -> Option<&NodeAddr> {
        None
    }
}
