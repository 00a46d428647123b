//! What is known of a node that the client may connect to.

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;

use super::dials::Listed;
use super::queue::Queue;
use super::stale::Staleness;
use super::statistics::NodeStatistics;
use super::timers::Alarm;
use super::{ConnId, LeaseId, NodeKey};
use crate::address::NodeAddr;
use crate::time::Instant;

#[derive(Debug)]
pub(super) struct Node {
    pub(super) address: NodeAddr,
    /// The id that its last connection gave.
    pub(super) id: Option<String>,
    /// The id of who was at its address when it should have been another.
    pub(super) stranger: Option<String>,
    /// Ids tell nothing at its address: who is there names it otherwise than itself.
    pub(super) is_unchecked: bool,
    /// When its connections were given up because another node is at the address.
    pub(super) stale: Staleness,
    /// The connection that all requests share.
    pub(super) connection: Option<ConnId>,
    /// All its connections.
    pub(super) connections: Vec<ConnId>,
    /// How many of them are for exclusive use.
    pub(super) exclusive: u32,
    /// Requests for when it is connected, in order.
    pub(super) queue: Queue,
    /// Since when reads are in the queue that the primary could serve as well.
    pub(super) reads_since: Option<Instant>,
    /// Connections that failed in a row.
    pub(super) failures: u32,
    /// Times it was dialled since its shared connection was last in use.
    pub(super) dials: u32,
    /// When the first of the failures was.
    pub(super) failed_at: Instant,
    /// Whose turn it is among its replicas.
    pub(super) turn: usize,
    /// No dial before this.
    pub(super) redial_at: Instant,
    /// Whether it waits for room to be dialled.
    pub(super) listed: Listed,
    /// It is to be connected to although nobody waits for it: it has become a primary.
    pub(super) is_new: bool,
    /// When it wants attention.
    pub(super) alarm: Alarm,
    /// Whether the last event told of it is that it is connected.
    pub(super) told_up: bool,
    /// The address of its host at which a connection last failed before it was of use, or stalled: the next dial begins with
    /// the one behind it.
    pub(super) failed_ip: Option<IpAddr>,
    /// Which of the client's own commands it has refused, so far as that was told.
    pub(super) told_refused: Vec<&'static str>,
    /// Why the last connection failed or ended.
    pub(super) last_error: String,
    /// Those of its replicas that may serve reads, when it is a primary.
    pub(super) replicas: Vec<NodeKey>,
    /// A replica that reads are sent to: it is connected to before the next one.
    pub(super) serves_reads: bool,
    /// No reads are sent to this replica before this: it could not serve the last.
    pub(super) avoid_until: Instant,
    /// Not part of the topology any more: it goes when nothing waits for it.
    pub(super) retired: bool,
    pub(super) availability_zone: Option<String>,
    /// Connections for exclusive use that nobody has; the one used last is the last.
    pub(super) idle: Vec<ConnId>,
    /// Those who wait for one, in order.
    pub(super) borrowers: VecDeque<LeaseId>,
    pub(super) statistics: NodeStatistics,
}

impl Node {
    pub(super) fn new(address: NodeAddr) -> Self {
        Self {
            address,
            id: None,
            stranger: None,
            is_unchecked: false,
            stale: Staleness::default(),
            connection: None,
            connections: Vec::new(),
            exclusive: 0,
            queue: Queue::default(),
            reads_since: None,
            failures: 0,
            dials: 0,
            failed_at: Instant::default(),
            redial_at: Instant::default(),
            listed: Listed::No,
            is_new: false,
            alarm: Alarm::default(),
            told_up: false,
            failed_ip: None,
            told_refused: Vec::new(),
            last_error: String::new(),
            replicas: Vec::new(),
            turn: 0,
            serves_reads: false,
            avoid_until: Instant::default(),
            retired: false,
            availability_zone: None,
            idle: Vec::new(),
            borrowers: VecDeque::new(),
            statistics: NodeStatistics::default(),
        }
    }

    /// Whether the last that was heard of it is bad.
    pub(super) fn is_down(&self) -> bool {
        self.failures > 0
    }
}
