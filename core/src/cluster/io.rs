//! The machine's contract with its driver: where requests go, what happened, what is to be done.

use alloc::string::String;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

use bytes::Bytes;

use super::ids::{ConnId, LeaseId, ScanId, Token};
use crate::address::NodeAddr;
use crate::error::Error;
use crate::resp::RawReply;
use crate::time::Instant;

/// Where the caller sends a request.
#[derive(Clone, Debug)]
pub enum Destination {
    /// Where its keys are; without keys, where the servers' command tips say.
    Cluster,
    /// To this node and to no other, whatever its keys: redirects and passing errors are answered
    /// to the caller, and it ends at once when the node cannot be connected to.
    Node(NodeAddr),
    /// Over this connection, and so to one node, too: nothing is sent again.
    Lent(LeaseId),
    /// To this scan, with [`Command::next_batch`](super::Command::next_batch): see
    /// [`Cluster::next_batch`](super::Cluster::next_batch).
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
    /// Answers [`Output::Connect`]: the host has no socket left, for whatever node. The driver has
    /// dropped the connection.
    NoSocket {
        /// The connection.
        conn: ConnId,
        /// Why, and what can be done about it, for people.
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
    /// Open a connection; answer with [`Input::Connected`], [`Input::Closed`] or
    /// [`Input::NoSocket`]. It comes again, with the host's next address, when one could not be
    /// opened, or was closed before the connection was of use.
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
    /// Drop the connection, whatever state it is in. Nothing may be said of it any more, unless it
    /// is to be opened again.
    Close {
        /// The connection.
        conn: ConnId,
    },
    /// The client's start has ended: it knows its topology, or is of no use. Comes once.
    Ready(Result<(), Error>),
    /// The request has ended. Comes once for each.
    Done {
        /// What its caller calls it.
        token: Token,
        /// Its reply as it was sent, or why there is none. A reply that is an error is
        /// [`Error::Server`].
        result: Result<RawReply, Error>,
    },
    /// Nothing more to do until something happens outside, or until this instant.
    WaitUntil(Option<Instant>),
}
