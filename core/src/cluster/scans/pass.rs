//! One pass of a scan over a node, and what its answers say.

use alloc::string::{String, ToString};

use crate::address::NodeAddr;
use crate::cluster::ids::{ConnId, RequestId};
use crate::error::Error;
use crate::resp::RawReply;
use crate::scan::{Bookmark, Claim};
use crate::time::Instant;

/// The cursor that a pass begins with, and that a server gives at its end.
pub(super) const BEGIN: &str = "0";

/// Servers' have 40 bytes. Whoever says a longer one is taken not to say which process it is.
pub(super) const RUN_ID_LENGTH_MAX: usize = 64;

/// What a pass asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cluster) enum Question {
    /// CLUSTER NODES, before the first page.
    View,
    /// INFO: which process it is.
    Identity,
    /// SCAN and its like.
    Page,
    /// CLUSTER NODES, after the last page.
    Review,
    /// It is over.
    Nothing,
}

impl Question {
    /// What is sent; `None` for a page, which is the caller's.
    pub(in crate::cluster) fn name(self) -> Option<&'static str> {
        match self {
            Self::View | Self::Review => Some("CLUSTER NODES"),
            Self::Identity => Some("INFO"),
            Self::Page | Self::Nothing => None,
        }
    }
}

/// A pass over one node, or over one key.
#[derive(Debug)]
pub(in crate::cluster) struct Pass {
    pub(super) number: u32,
    /// None for a key, and for a server that is used alone.
    pub(super) node: Option<NodeAddr>,
    /// The id of the node, when it is passed over for slots that move there.
    pub(super) half_of: Option<String>,
    /// Whether others came first, which give it keys.
    pub(super) is_late: bool,
    /// The request under way.
    pub(super) asked: Option<(RequestId, Question)>,
    /// The connection of the last answer that the cursor goes with.
    pub(super) conn: Option<ConnId>,
    /// The process that gave the cursor; empty when it did not say.
    run_id: String,
    pub(super) claim: Option<Claim>,
    /// Whether keys of slots that are done may come.
    pub(super) repeats: bool,
    /// For the next page; empty after the last one.
    pub(super) cursor: String,
    /// The same as of what has been handed out.
    pub(super) told: String,
    pub(super) batch: Option<RawReply>,
    /// Why it waits, and until when.
    pub(super) failure: Option<Error>,
    pub(super) failures: u32,
    pub(super) not_before: Instant,
}

impl Pass {
    pub(in crate::cluster) fn new(number: u32, node: Option<NodeAddr>, half_of: Option<String>) -> Self {
        let (run_id, cursor) = (String::new(), BEGIN.to_string());
        Self { half_of, ..Self::resumed(number, Bookmark { node, run_id, cursor, claim: None }) }
    }

    pub(super) fn resumed(number: u32, Bookmark { node, run_id, cursor, claim }: Bookmark) -> Self {
        Self {
            number,
            node,
            half_of: None,
            is_late: false,
            asked: None,
            conn: None,
            run_id,
            claim,
            repeats: true,
            told: cursor.clone(),
            cursor,
            batch: None,
            failure: None,
            failures: 0,
            not_before: Instant::default(),
        }
    }

    pub(super) fn bookmark(&self) -> Bookmark {
        Bookmark {
            node: self.node.clone(),
            run_id: self.run_id.clone(),
            cursor: self.told.clone(),
            claim: self.claim.clone(),
        }
    }

    pub(super) fn has_batch(&self) -> bool {
        self.batch.is_some()
    }

    /// Takes the batch to hand it out.
    pub(super) fn take_batch(&mut self) -> Option<RawReply> {
        self.told.clone_from(&self.cursor);
        self.batch.take()
    }

    /// Whether all of it has been handed out.
    pub(in crate::cluster) fn is_over(&self) -> bool {
        self.told.is_empty()
    }

    /// What is to be asked next.
    pub(in crate::cluster) fn question(&self, by_slots: bool, by_process: bool) -> Question {
        match () {
            () if by_slots && self.claim.is_none() => Question::View,
            () if self.cursor.is_empty() && by_slots => Question::Review,
            () if self.cursor.is_empty() => Question::Nothing,
            () if by_process && self.conn.is_none() => Question::Identity,
            () => Question::Page,
        }
    }

    pub(super) fn begin_anew(&mut self) {
        (self.cursor, self.told) = (BEGIN.to_string(), BEGIN.to_string());
        self.claim = None;
    }

    /// Learns which process answers on this connection.
    pub(super) fn identify(&mut self, run_id: &str, conn: Option<ConnId>) {
        let is_same = self.run_id == run_id && !run_id.is_empty();
        if !is_same && self.cursor != BEGIN {
            self.begin_anew();
        }
        self.run_id = run_id.to_string();
        self.conn = conn;
    }
}
