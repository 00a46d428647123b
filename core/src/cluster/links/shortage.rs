//! What the client does when its host has no socket left.
//!
//! A process may have fewer descriptors than `limit-connections`, and other parts of it use some.
//! That is no node's fault, so no node is counted as failed. The connections that are open then
//! become the limit, less an eighth: the process needs descriptors for other things, too, such as
//! looking names up. From then on all is as at the configured limit: an idle connection makes way
//! for what requests wait for, and what then lacks one waits.
//!
//! ```text
//!   no shortage ── a socket is refused ──→ limit: 7/8 of what is open ──┐
//!        ↑                                      ↑ │ refused again:      │ each pause without a
//!        │                                      └─┘ twice the pause     │ refusal: an eighth more
//!        └── the configured limit is reached, or nothing for a minute ──┘
//! ```
//!
//! With no other connection open there is nothing to wait for: the dial has failed as any other.

use alloc::format;
use alloc::string::String;
use core::time::Duration;

use super::dial_list::Shortage;
use super::{DIALLING_MAX, Links};
use crate::cluster::context::Context;
use crate::cluster::events::Event;
use crate::time::Instant;

/// How long the limit stays as it is before it grows, at first and at most.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(32);

/// A shortage that nobody has seen for so long is over.
const FORGOTTEN: Duration = Duration::from_secs(60);

impl Links {
    /// How many connections there may be now.
    pub(in crate::cluster) fn connections_max(&self, cx: &Context) -> usize {
        let configured = cx.config.connections_max as usize;
        self.dials.shortage.as_ref().map_or(configured, |shortage| shortage.limit.min(configured))
    }

    /// Whether a connection may be opened that nobody waits for.
    pub(in crate::cluster) fn has_room_for_spare(&self, cx: &Context) -> bool {
        self.len() < self.connections_max(cx) && self.dials.coming_up < DIALLING_MAX
    }

    /// Why a node cannot be dialled when all connections are in use.
    pub(in crate::cluster) fn why_no_room(&self, cx: &Context) -> String {
        let most = self.connections_max(cx);
        match self.dials.shortage {
            Some(_) => format!(
                "the host's process has descriptors for {most} connections, and all of these are in use (ulimit -n, \
                 limit-connections)"
            ),
            None => format!("all {most} connections of the client are in use (limit-connections)"),
        }
    }

    /// So many connections are open, and no more can be.
    pub(super) fn shorten(&mut self, cx: &mut Context, open: usize, reason: String) {
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
    pub(in crate::cluster) fn ease_shortage(&mut self, cx: &Context) {
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
        self.dials.has_next().then_some(shortage.grows_at)
    }
}
