//! What is known of a node that the client may connect to.

use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;

use crate::address::NodeAddr;
use crate::cluster::ids::{ConnId, NodeKey};
use crate::cluster::nodes::staleness::Staleness;
use crate::cluster::pool::line::Line;
use crate::cluster::queue::Queue;
use crate::cluster::statistics::NodeStatistics;
use crate::cluster::timers::Alarm;
use crate::time::Instant;

/// Whether a node is on a list of those to dial.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::cluster) enum Listed {
    #[default]
    No,
    /// Nobody waits for it.
    Later,
    /// Somebody does.
    Next,
}

/// So long a read waits for a replica that is being connected to; then the primary serves it.
pub(in crate::cluster) const REPLICA_PATIENCE: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(in crate::cluster) struct Node {
    pub(in crate::cluster) address: NodeAddr,
    /// The id that its last connection gave.
    pub(in crate::cluster) id: Option<String>,
    /// The id of who was at its address when it should have been another.
    pub(in crate::cluster) stranger: Option<String>,
    /// Ids tell nothing at its address: who is there names it otherwise than itself.
    pub(in crate::cluster) is_unchecked: bool,
    /// When its connections were given up because another node is at the address.
    pub(in crate::cluster) stale: Staleness,
    /// The connection that all requests share.
    pub(in crate::cluster) connection: Option<ConnId>,
    /// All its connections.
    pub(in crate::cluster) connections: Vec<ConnId>,
    /// Requests for when it is connected, in order.
    pub(in crate::cluster) queue: Queue,
    /// Since when reads are in the queue that the primary could serve as well.
    pub(in crate::cluster) reads_since: Option<Instant>,
    /// Connections that failed in a row.
    pub(in crate::cluster) failures: u32,
    /// Times it was dialled since its shared connection was last in use.
    pub(in crate::cluster) dials: u32,
    /// When the first of the failures was.
    pub(in crate::cluster) failed_at: Instant,
    /// Whose turn it is among its replicas.
    pub(in crate::cluster) turn: usize,
    /// No dial before this.
    pub(in crate::cluster) redial_at: Instant,
    /// Whether it waits for room to be dialled.
    pub(in crate::cluster) listed: Listed,
    /// It is to be connected to although nobody waits for it: it has become a primary.
    pub(in crate::cluster) is_new: bool,
    /// When it wants attention.
    pub(super) alarm: Alarm,
    /// Whether the last event told of it is that it is connected.
    pub(in crate::cluster) told_up: bool,
    /// The address of its host at which a connection last failed before it was of use, or stalled:
    /// the next dial begins with the one behind it.
    pub(in crate::cluster) failed_ip: Option<IpAddr>,
    /// Which of the client's own commands it has refused, so far as that was told.
    pub(super) told_refused: Vec<&'static str>,
    /// Why the last connection failed or ended.
    pub(in crate::cluster) last_error: String,
    /// Those of its replicas that may serve reads, when it is a primary.
    pub(in crate::cluster) replicas: Vec<NodeKey>,
    /// A replica that reads are sent to: it is connected to before the next one.
    pub(in crate::cluster) serves_reads: bool,
    /// No reads are sent to this replica before this: it could not serve the last.
    pub(in crate::cluster) avoid_until: Instant,
    /// Not part of the topology any more: it goes when nothing waits for it.
    pub(in crate::cluster) retired: bool,
    pub(in crate::cluster) availability_zone: Option<String>,
    /// Its dedicated connections, and who waits for one.
    pub(in crate::cluster) line: Line,
    pub(in crate::cluster) statistics: NodeStatistics,
}

impl Node {
    pub(in crate::cluster) fn new(address: NodeAddr) -> Self {
        Self {
            address,
            id: None,
            stranger: None,
            is_unchecked: false,
            stale: Staleness::default(),
            connection: None,
            connections: Vec::new(),
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
            line: Line::default(),
            statistics: NodeStatistics::default(),
        }
    }

    /// Whether the last that was heard of it is bad.
    pub(in crate::cluster) fn is_down(&self) -> bool {
        self.failures > 0
    }

    /// Whether anything waits for the connection that all share; any does when somebody to ask is
    /// sought.
    pub(super) fn wants_connection(&self, seeks_contact: bool) -> bool {
        !self.queue.is_empty() || self.serves_reads || self.is_new || seeks_contact
    }

    /// When it is to be dialled again, or what waits for it has waited long enough.
    pub(super) fn due_at(&self, now: Instant, seeks_contact: bool) -> Option<Instant> {
        let shared =
            self.connection.is_none() && self.listed == Listed::No && self.wants_connection(seeks_contact);
        // When it is not the wait that keeps waiters waiting, somebody has to give a connection
        // back.
        let lends = self.line.has_waiters() && self.redial_at > now;
        let redial = (shared || lends).then_some(self.redial_at);
        redial.into_iter().chain(self.reads_since.map(|since| since + REPLICA_PATIENCE)).min()
    }
}
