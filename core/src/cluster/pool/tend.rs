//! Idle connections: closed when they are too old or too many, opened when too few.

use alloc::vec::Vec;
use core::time::Duration;

use crate::cluster::links::connection::{Dedicated, Usage};
use crate::cluster::machine::{Cluster, Phase};

/// How often idle connections are looked through.
const TEND_INTERVAL: Duration = Duration::from_millis(500);

/// How many are opened to a node at a time to have as many idle as are wanted.
const OPENED_MAX: usize = 4;

impl Cluster {
    /// Closes what has been idle too long or lives too long, and keeps as many idle as are wanted.
    /// Done in passing, when the client is used: nothing wakes it up for this.
    pub(in crate::cluster) fn tend_pools(&mut self) {
        if self.pool.tended_at + TEND_INTERVAL > self.cx.now
            || !matches!(self.phase, Phase::Clustered | Phase::Standalone(_))
        {
            return;
        }
        self.pool.tended_at = self.cx.now;
        self.nodes.drop_old_failures(&self.cx);
        let pool = self.cx.config.pool;
        for key in self.nodes.keys().collect::<Vec<_>>() {
            let keeps = self.is_primary(key);
            let Some(node) = self.nodes.get(key) else {
                continue;
            };
            let least = if keeps { pool.idle_min as usize } else { 0 };
            let mut spare = node.line().idle().len().saturating_sub(least);
            let is_down = node.is_down();
            // The one used longest ago is the first.
            for conn in node.line().idle().iter().copied().chain(node.connection()).collect::<Vec<_>>() {
                let Some(connection) = self.links.get(conn) else {
                    continue;
                };
                let is_old = self.cx.now.saturating_since(connection.made_at()) >= pool.lifetime_max;
                let is_idle = self.cx.now.saturating_since(connection.answered_at()) >= pool.idle_timeout;
                let is_free = connection.is_ready() && connection.expected().is_empty();
                let is_spare = !connection.is_shared() && spare > 0;
                if is_free && (is_old || (is_idle && is_spare)) {
                    spare = spare.saturating_sub(usize::from(!connection.is_shared()));
                    self.mark_healthy(conn);
                    self.close_quietly(conn);
                }
            }
            let Some(node) = self.nodes.get(key).filter(|_| least > 0 && !is_down) else {
                continue;
            };
            let own = node.connections().iter().filter_map(|conn| self.links.get(*conn));
            let ready = own.filter(|own| !own.is_shared() && own.lease().is_none()).count();
            let room = node.line().room(pool.connections_max) as usize;
            for _ in 0..least.saturating_sub(ready).min(room).min(OPENED_MAX) {
                if self.links.has_room_for_spare(&self.cx) {
                    self.open(key, Usage::Dedicated(Dedicated::default()));
                }
            }
        }
    }
}
