//! What is known of a node that the client may connect to.

use alloc::collections::VecDeque;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;

use crate::address::NodeAddr;
use crate::cluster::events::Event;
use crate::cluster::ids::{ConnId, NodeKey, RequestId};
use crate::cluster::nodes::staleness::{Leave, Staleness};
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
    /// The address of its host at which a connection last failed before it was of use, or stalled:
    /// the next dial begins with the one behind it.
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
    /// Its dedicated connections, and who waits for one.
    pub(super) line: Line,
    pub(super) statistics: NodeStatistics,
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

    pub(in crate::cluster) fn address(&self) -> &NodeAddr {
        &self.address
    }

    /// The connection that all requests share.
    pub(in crate::cluster) fn connection(&self) -> Option<ConnId> {
        self.connection
    }

    /// All its connections.
    pub(in crate::cluster) fn connections(&self) -> &[ConnId] {
        &self.connections
    }

    /// There is one connection more.
    pub(in crate::cluster) fn attach(&mut self, conn: ConnId, is_shared: bool) {
        self.connections.push(conn);
        if !is_shared {
            self.line.note_open();
        }
    }

    /// There is one connection less.
    pub(in crate::cluster) fn detach(&mut self, conn: ConnId, is_shared: bool) {
        if let Some(index) = self.connections.iter().position(|own| *own == conn) {
            self.connections.swap_remove(index);
        }
        if !is_shared {
            self.line.note_closed();
        }
    }

    /// It is dialled, for the connection that all share.
    pub(in crate::cluster) fn note_dialled(&mut self, conn: Option<ConnId>) {
        self.connection = conn;
        self.is_new = false;
        self.dials = self.dials.saturating_add(1);
    }

    /// It was not dialled after all.
    pub(in crate::cluster) fn note_not_dialled(&mut self) {
        self.dials = self.dials.saturating_sub(1);
    }

    /// A connection is not the one that all share any more. Whether it was.
    pub(in crate::cluster) fn stop_sharing(&mut self, conn: ConnId) -> bool {
        self.connection.take_if(|own| *own == conn).is_some()
    }

    /// The connection that all share has come into use. Gives what there is to tell: one that takes
    /// the place of a connection that was too old is no news.
    pub(in crate::cluster) fn note_ready(&mut self, now: Instant) -> Option<Event> {
        let attempts = core::mem::take(&mut self.dials);
        if core::mem::replace(&mut self.told_up, true) {
            return None;
        }
        let node = self.address.clone();
        Some(match self.failures {
            0 => Event::Connected { node },
            _ => Event::Reconnected { node, after: now.saturating_since(self.failed_at), attempts },
        })
    }

    /// A connection that was made then says that another node is at the address.
    pub(in crate::cluster) fn leave_stale(&mut self, made_at: Instant, now: Instant) -> Leave {
        self.stale.leave(made_at, now)
    }

    /// Whether the last event told of it is that it is connected; from now on it is another.
    pub(in crate::cluster) fn take_told_up(&mut self) -> bool {
        core::mem::take(&mut self.told_up)
    }

    /// Whether it may be dialled now.
    pub(in crate::cluster) fn may_be_dialled(&self, now: Instant) -> bool {
        self.redial_at <= now
    }

    /// It may be dialled at once, whatever happened before.
    pub(in crate::cluster) fn dial_at_once(&mut self, now: Instant) {
        self.redial_at = self.redial_at.min(now);
    }

    /// It has become a primary: it is connected to, unless it has just failed.
    pub(in crate::cluster) fn note_new(&mut self, now: Instant) {
        self.is_new = self.connection.is_none() && self.may_be_dialled(now);
    }

    /// It is connected to although nobody waits for it.
    pub(in crate::cluster) fn want_dial(&mut self) {
        self.is_new = true;
    }

    /// The address of its host at which a connection last failed before it was of use, or stalled.
    pub(in crate::cluster) fn failed_ip(&self) -> Option<IpAddr> {
        self.failed_ip
    }

    pub(in crate::cluster) fn note_failed_ip(&mut self, ip: Option<IpAddr>) {
        self.failed_ip = ip;
    }

    /// Why the last connection failed or ended.
    pub(in crate::cluster) fn last_error(&self) -> &str {
        &self.last_error
    }

    pub(in crate::cluster) fn listed(&self) -> Listed {
        self.listed
    }

    pub(in crate::cluster) fn set_listed(&mut self, listed: Listed) {
        self.listed = listed;
    }

    /// Whether it goes when nothing waits for it.
    pub(in crate::cluster) fn is_retired(&self) -> bool {
        self.retired
    }

    /// Requests for when it is connected.
    pub(in crate::cluster) fn queue(&self) -> &Queue {
        &self.queue
    }

    pub(in crate::cluster) fn queue_mut(&mut self) -> &mut Queue {
        &mut self.queue
    }

    /// Since when reads are in the queue that the primary could serve as well.
    pub(in crate::cluster) fn note_read_waits(&mut self, now: Instant) {
        self.reads_since.get_or_insert(now);
    }

    /// Takes out all that waits, in order.
    pub(in crate::cluster) fn take_queue(&mut self) -> VecDeque<RequestId> {
        self.reads_since = None;
        self.queue.take()
    }

    /// Its dedicated connections, and who waits for one.
    pub(in crate::cluster) fn line(&self) -> &Line {
        &self.line
    }

    pub(in crate::cluster) fn line_mut(&mut self) -> &mut Line {
        &mut self.line
    }

    /// Whether anybody waits for one of its connections.
    pub(in crate::cluster) fn is_awaited(&self) -> bool {
        !self.queue.is_empty() || self.line.has_waiters()
    }

    pub(in crate::cluster) fn statistics(&self) -> &NodeStatistics {
        &self.statistics
    }

    pub(in crate::cluster) fn statistics_mut(&mut self) -> &mut NodeStatistics {
        &mut self.statistics
    }

    pub(in crate::cluster) fn availability_zone(&self) -> Option<&str> {
        self.availability_zone.as_deref()
    }

    pub(in crate::cluster) fn set_availability_zone(&mut self, zone: &str) {
        self.availability_zone = Some(zone.to_string());
    }

    /// Those of its replicas that may serve reads, when it is a primary.
    pub(in crate::cluster) fn replicas(&self) -> &[NodeKey] {
        &self.replicas
    }

    pub(in crate::cluster) fn set_replicas(&mut self, replicas: Vec<NodeKey>) {
        self.replicas = replicas;
    }

    /// Whose turn it is among its replicas.
    pub(in crate::cluster) fn next_turn(&mut self) -> usize {
        self.turn = self.turn.wrapping_add(1);
        self.turn
    }

    /// Whether reads are sent to it: then it is connected to before the next one.
    pub(in crate::cluster) fn set_serves_reads(&mut self, serves: bool) {
        self.serves_reads = serves;
    }

    /// Reads may be sent to it, as far as it could serve the last.
    pub(in crate::cluster) fn may_read(&self, now: Instant) -> bool {
        self.avoid_until <= now
    }

    /// No reads are sent to it before this.
    pub(in crate::cluster) fn avoid_reads_until(&mut self, at: Instant) {
        self.avoid_until = at;
    }

    /// The id that its last connection gave, unless ids tell nothing at its address.
    pub(in crate::cluster) fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// Whether ids tell nothing at its address.
    pub(in crate::cluster) fn is_unchecked(&self) -> bool {
        self.is_unchecked
    }

    /// Who is at its address names it otherwise than itself, if so: then ids tell nothing there.
    pub(in crate::cluster) fn note_named_otherwise(&mut self, is_named_otherwise: bool) {
        self.is_unchecked |= is_named_otherwise;
    }

    /// It is the one at its address. Its id is kept, unless somebody else answers at a seed's.
    pub(in crate::cluster) fn recognise(&mut self, id: Option<String>, is_seed: bool) {
        self.stranger = None;
        if !is_seed && !self.is_unchecked && id.is_some() {
            self.id = id;
        }
    }

    /// The id of who was at its address when it should have been another.
    pub(in crate::cluster) fn stranger(&self) -> Option<&str> {
        self.stranger.as_deref()
    }

    pub(in crate::cluster) fn note_stranger(&mut self, id: Option<String>) {
        self.stranger = id;
    }

    /// What the first connection said of its id binds nobody.
    pub(in crate::cluster) fn forget_id(&mut self) {
        self.id = None;
    }

    /// Another cluster counts: nothing is known of who is there, and it may be dialled.
    pub(in crate::cluster) fn forget_identity(&mut self, now: Instant) {
        (self.id, self.is_unchecked) = (None, false);
        self.dial_at_once(now);
    }

    /// Who was a stranger is the one who belongs there now.
    pub(in crate::cluster) fn note_found(&mut self, now: Instant) {
        self.stranger = None;
        self.dial_at_once(now);
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
