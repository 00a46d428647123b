//! What the client does when its host has no socket left.
//!
//! A process may have fewer descriptors than `limit connections`, and other parts of it use some. That is no node's
//! fault, so no node is counted as failed. The connections that are open then become the limit, less an eighth: the
//! process needs descriptors for other things, too, such as looking names up. From then on all is as at the configured
//! limit: an idle connection makes way for what requests wait for, and what then lacks one waits.
//!
//! ```text
//!   no shortage ── a socket is refused ──→ limit: 7/8 of what is open ──┐
//!        ↑                                      ↑ │ refused again:      │ each pause without a refusal:
//!        │                                      └─┘ twice the pause     │ an eighth more
//!        └── the configured limit is reached, or nothing for a minute ──┘
//! ```
//!
//! With no other connection open there is nothing to wait for: the dial has failed as any other.

use alloc::format;
use alloc::string::String;
use core::time::Duration;

use crate::cluster::context::Context;
use crate::cluster::events::Event;
use crate::cluster::ids::ConnId;
use crate::cluster::links::Links;
use crate::cluster::{Cluster, Phase};
use crate::time::Instant;

/// How long the limit stays as it is before it grows, at first and at most.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(32);

/// A shortage that nobody has seen for so long is over.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// The host has refused a socket.
#[derive(Debug)]
pub(in crate::cluster) struct Shortage {
    /// How many connections there may be.
    limit: usize,
    pause: Duration,
    grows_at: Instant,
    /// Whether it has grown since a socket was last refused.
    has_grown: bool,
}

impl Links {
    /// How many connections there may be now.
    pub(super) fn connections_max(&self, cx: &Context) -> usize {
        let configured = cx.config.connections_max as usize;
        self.dials.shortage.as_ref().map_or(configured, |shortage| shortage.limit.min(configured))
    }

    /// Why a node cannot be dialled when all connections are in use.
    pub(in crate::cluster) fn why_no_room(&self, cx: &Context) -> String {
        let most = self.connections_max(cx);
        match self.dials.shortage {
            Some(_) => format!(
                "the host's process has descriptors for {most} connections, and all of these are in use (ulimit -n, \
                 limit connections)"
            ),
            None => format!("all {most} connections of the client are in use (limit connections)"),
        }
    }

    /// So many connections are open, and no more can be.
    fn shorten(&mut self, cx: &mut Context, open: usize, reason: String) {
        let limit = open - open / 8;
        let last = self.dials.shortage.take();
        // Of a burst of dials each is refused: that is one refusal.
        let pause = match &last {
            Some(last) if last.has_grown => (last.pause * 2).min(PAUSE_MAX),
            Some(last) => last.pause,
            None => PAUSE_MIN,
        };
        let is_new = last.is_none();
        self.dials.shortage = Some(Shortage { limit, pause, grows_at: cx.now + pause, has_grown: false });
        if is_new {
            let connections = u32::try_from(open).unwrap_or(u32::MAX);
            cx.tell(Event::DescriptorsExhausted { connections, reason });
        }
    }

    /// Lets the limit grow when it is time.
    pub(super) fn ease_shortage(&mut self, cx: &Context) {
        let configured = cx.config.connections_max as usize;
        let Some(shortage) = self.dials.shortage.as_mut().filter(|shortage| shortage.grows_at <= cx.now)
        else {
            return;
        };
        let is_forgotten = cx.now.saturating_since(shortage.grows_at) >= FORGOTTEN;
        shortage.limit += (shortage.limit / 8).max(1);
        shortage.grows_at = cx.now + shortage.pause;
        shortage.has_grown = true;
        if is_forgotten || shortage.limit >= configured {
            self.dials.shortage = None;
        }
    }

    /// When the limit grows for those who wait.
    pub(in crate::cluster) fn next_ease(&self) -> Option<Instant> {
        let shortage = self.dials.shortage.as_ref()?;
        // One that somebody waits for is listed; it may have been dialled since.
        (!self.dials.next.is_empty()).then_some(shortage.grows_at)
    }
}

impl Cluster {
    /// The host has no socket for a connection.
    pub(in crate::cluster) fn on_no_socket(&mut self, conn: ConnId, reason: String) {
        let open = self.links.len().saturating_sub(1);
        if open == 0 || matches!(self.phase, Phase::Starting(_)) {
            return self.on_closed(conn, reason);
        }
        let Some(connection) = self.detach(conn) else {
            return;
        };
        self.map.forget_connection(conn);
        self.links.shorten(&mut self.cx, open, reason.clone());
        let key = connection.node;
        let Some(node) = self.nodes.get_mut(key) else {
            return;
        };
        if node.connection == Some(conn) {
            node.connection = None;
            // It was not dialled.
            node.dials = node.dials.saturating_sub(1);
        }
        if !connection.is_shared() {
            self.on_dedicated_lost(conn, key, connection.lease(), false, &reason);
        }
        self.drop_if_retired(key);
        // It takes an idle connection's place, or is listed.
        self.tend_node(key);
        self.seek_contact();
    }
}
