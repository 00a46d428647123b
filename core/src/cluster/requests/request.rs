//! A request: one command, and how far it has come.

use alloc::boxed::Box;

use bytes::Bytes;

use crate::address::NodeAddr;
use crate::cluster::ids::{LeaseId, Token};
use crate::cluster::requests::parts::Gather;
use crate::cluster::requests::queueing::QueueingBox;
use crate::command::prepared::Command;
use crate::error::ServerError;
use crate::slot::Slot;
use crate::time::Instant;

/// A request under way.
#[derive(Debug)]
pub(in crate::cluster) struct Request {
    pub(super) command: Command,
    /// Where a redirect or the caller sends it, instead of where its slot belongs.
    pub(super) target: Option<Target>,
    /// Whether it was last sent to a replica, although the primary could serve it.
    pub(super) at_replica: bool,
    /// Whether the primary has to serve it, since a replica could not.
    pub(super) primary_only: bool,
    /// Redirects followed so far.
    pub(super) redirects: u32,
    /// Times it was sent again for another reason.
    pub(super) retries: u32,
    /// The last server error that it waits to get over.
    pub(super) last_error: Option<Box<ServerError>>,
    /// Whether it was sent again because a node did not answer, rather than because a connection
    /// had ended.
    pub(super) stalled: bool,
    /// Whether a copy of it that got no answer may have been executed.
    pub(super) may_have_run: bool,
    pub(super) stage: Stage,
    /// The connection that it has been lent for itself, since it blocks.
    pub(super) own_lease: Option<crate::cluster::LeaseId>,
    /// Of a transaction: what was answered before EXEC.
    pub(super) queueing: Option<QueueingBox>,
    /// Its place among all requests, for those of one slot.
    pub(super) serial: u64,
    /// How many bytes it is counted with among what waits.
    pub(super) held_bytes: Option<u64>,
    /// For which slot it is counted as under way.
    pub(super) counted: Option<Slot>,
    /// When it was last put on a connection.
    pub(super) sent_at: Instant,
    /// When its time runs out.
    pub(super) deadline: Instant,
    /// What it is a part of.
    pub(super) parent: Option<Parent>,
    /// What the caller calls it. A part's is of no use.
    pub(super) token: Token,
    /// Its parts, while they are under way.
    pub(super) gather: Option<Box<Gather>>,
}

/// What a request is a part of.
#[derive(Clone, Copy, Debug)]
pub(in crate::cluster) enum Parent {
    /// Another request: which part.
    Whole { id: crate::cluster::RequestId, part: u32 },
    /// A scan's pass with this number.
    Pass { scan: crate::cluster::ScanId, number: u32 },
}

impl Request {
    pub(in crate::cluster) fn new(
        command: Command,
        target: Option<Target>,
        serial: u64,
        now: Instant,
        deadline: Instant,
    ) -> Self {
        Self {
            command,
            target,
            at_replica: false,
            primary_only: false,
            redirects: 0,
            retries: 0,
            last_error: None,
            stalled: false,
            may_have_run: false,
            stage: Stage::Nowhere,
            own_lease: None,
            queueing: None,
            serial,
            held_bytes: None,
            counted: None,
            sent_at: now,
            deadline,
            parent: None,
            token: Token::default(),
            gather: None,
        }
    }
}

impl Request {
    pub(in crate::cluster) fn command(&self) -> &Command {
        &self.command
    }

    /// Where a redirect or the caller sends it.
    pub(in crate::cluster) fn target(&self) -> Option<&Target> {
        self.target.as_ref()
    }

    /// What it is a part of.
    pub(in crate::cluster) fn parent(&self) -> Option<Parent> {
        self.parent
    }

    pub(in crate::cluster) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// When it was last put on a connection; before that, when it was taken in.
    pub(in crate::cluster) fn sent_at(&self) -> Instant {
        self.sent_at
    }

    /// It has a connection for itself until it ends.
    pub(in crate::cluster) fn take_own(&mut self, lease: LeaseId) {
        // It may stay for long: it is not to hold the memory of those that came with it.
        self.command.frame = Bytes::copy_from_slice(&self.command.frame);
        self.own_lease = Some(lease);
        self.target = Some(Target::Lent(lease));
    }

    /// Counts a redirect that is followed.
    pub(in crate::cluster) fn note_redirect(&mut self) -> u32 {
        self.redirects += 1;
        self.redirects
    }

    /// A node did not answer it. A replica gets it no more.
    pub(in crate::cluster) fn note_stalled(&mut self) {
        self.stalled = true;
        self.primary_only |= self.at_replica;
    }

    /// The lent connection that it is for.
    pub(in crate::cluster) fn lease(&self) -> Option<crate::cluster::LeaseId> {
        match self.target {
            Some(Target::Lent(lease)) => Some(lease),
            _ => None,
        }
    }

    /// Where it is. [`Requests::set_stage`](super::Requests::set_stage) moves it.
    pub(in crate::cluster) fn stage(&self) -> Stage {
        self.stage
    }

    /// The slot whose order it keeps.
    pub(super) fn ordered_slot(&self) -> Option<Slot> {
        let is_fixed = self.target.as_ref().is_some_and(Target::is_fixed);
        self.command.route.slot().filter(|_| !is_fixed && !self.at_replica)
    }

    pub(in crate::cluster) fn is_on_connection(&self) -> bool {
        matches!(self.stage, Stage::OnConnection(_))
    }
}

/// Where a request goes that does not follow its slot.
#[derive(Clone, Debug)]
pub(in crate::cluster) enum Target {
    /// Where MOVED points.
    Moved(NodeAddr),
    /// Where ASK points: ASKING goes first.
    Ask(NodeAddr),
    /// To the node that the caller names and to no other.
    Node(NodeAddr),
    /// Over the connection that the caller has been lent.
    Lent(crate::cluster::LeaseId),
    /// To nobody: it waits for this scan's next batch.
    Scan(crate::cluster::ScanId),
}

impl Target {
    /// Whether the caller chose it: then there is no other way.
    pub(super) fn is_fixed(&self) -> bool {
        matches!(self, Self::Node(_) | Self::Lent(_) | Self::Scan(_))
    }
}

/// Where a request is.
///
/// ```text
///   new ─→ Nowhere ─┬─→ AtNode, Unrouted, AtLease ─→ OnConnection ─┬─→ its end, from any stage
///             ↑     │                                              │ refused, lost:
///             │     │         InOrder, Delayed ←───────────────────┴─→ any of these
///             └─────┼─────────────────┘
///                   └─→ Gathering, AtScan ─→ its end
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cluster) enum Stage {
    /// On no list: it is being dispatched.
    Nowhere,
    /// In a node's queue, until that is connected.
    AtNode(crate::cluster::ids::NodeKey),
    /// On a connection.
    OnConnection(crate::cluster::ConnId),
    /// In the queue of those whose slot has no node.
    Unrouted,
    /// Waiting for its retry.
    Delayed,
    /// Waiting for earlier requests of its slot.
    InOrder(Slot),
    /// Waiting for the connection that its caller is to be lent.
    AtLease(crate::cluster::LeaseId),
    /// Waiting for a scan's batch.
    AtScan(crate::cluster::ScanId),
    /// Waiting for its parts.
    Gathering,
}

impl Stage {
    /// Whether it counts as waiting for a node, a connection or a retry.
    pub(super) fn is_backlog(self) -> bool {
        matches!(self, Self::AtNode(_) | Self::Unrouted | Self::Delayed | Self::AtLease(_))
    }

    /// Whether a request may go from here to there.
    pub(super) fn may_become(self, next: Self) -> bool {
        match (self, next) {
            (_, Self::Nowhere) => true,
            // Those two wait for something that ends them.
            (Self::Gathering | Self::AtScan(_), _) => false,
            (before, Self::Gathering | Self::AtScan(_)) => matches!(before, Self::Nowhere | Self::Unrouted),
            // Those begin anew, or wait behind others.
            (Self::Delayed, next) => matches!(next, Self::InOrder(_)),
            (Self::InOrder(_), _) => false,
            // It waits for another connection then.
            (Self::AtLease(_), next) => matches!(next, Self::OnConnection(_) | Self::AtLease(_)),
            (Self::Nowhere | Self::AtNode(_) | Self::OnConnection(_) | Self::Unrouted, _) => true,
        }
    }
}
