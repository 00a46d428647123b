//! Idle connections: closed when they are too old or too many, opened when too few.
//!
//! Each node has an alarm among the pool's timers. It is set when a connection of the node begins,
//! is lent, comes back or ends, and when the topology or the node's health changes. When it goes
//! off, it is set for when the next connection becomes too old. So time costs nothing for nodes on
//! which nothing is due.

use alloc::vec::Vec;

use super::TEND_INTERVAL;
use crate::cluster::ids::{ConnId, NodeKey};
use crate::cluster::links::connection::{Dedicated, Usage};
use crate::cluster::machine::{Cluster, Phase};
use crate::time::Instant;

/// How many are opened to a node at a time to have as many idle as are wanted.
const OPENED_MAX: usize = 4;

impl Cluster {
    /// Closes what has been idle too long or lives too long, and keeps as many idle as are wanted.
    /// Done in passing, when the client is used: nothing wakes it up for this.
    pub(in crate::cluster) fn tend_pools(&mut self) {
        self.nodes.drop_old_failures(&self.cx);
        if !matches!(self.phase, Phase::Clustered | Phase::Standalone(_)) {
            return;
        }
        while let Some(key) = self.pool.next_tended(&self.cx, &mut self.nodes) {
            let least = if self.is_primary(key) { self.cx.config.pool.idle_min as usize } else { 0 };
            let closes_at = self.close_old(key, least);
            let opens_at = self.open_wanted(key, least);
            if let Some(at) = closes_at.into_iter().chain(opens_at).min() {
                self.pool.tend_at(&mut self.nodes, key, at.max(self.cx.now + TEND_INTERVAL));
            }
        }
    }

    /// All nodes are looked at soon: who is a primary may have changed.
    pub(in crate::cluster) fn tend_all_soon(&mut self) {
        for key in self.nodes.keys().collect::<Vec<_>>() {
            self.pool.tend_soon(&self.cx, &mut self.nodes, key);
        }
    }

    /// Closes connections of a node that are too old, or spare and idle too long. Gives when the
    /// next will be.
    fn close_old(&mut self, key: NodeKey, least: usize) -> Option<Instant> {
        let pool = self.cx.config.pool;
        let node = self.nodes.get(key)?;
        let mut spare = node.line().idle().len().saturating_sub(least);
        let mut next: Option<Instant> = None;
        // The one used longest ago is the first.
        let own: Vec<ConnId> = node.line().idle().iter().copied().chain(node.connection()).collect();
        for conn in own {
            let Some(connection) = self.links.get(conn) else {
                continue;
            };
            let is_spare = !connection.is_shared() && spare > 0;
            let idle_until = is_spare.then(|| connection.answered_at() + pool.idle_timeout);
            let due = idle_until.into_iter().fold(connection.made_at() + pool.lifetime_max, Instant::min);
            let is_free = connection.is_ready() && connection.expected().is_empty();
            if is_free && due <= self.cx.now {
                spare -= usize::from(is_spare);
                self.mark_healthy(conn);
                self.close_quietly(conn);
            } else {
                next = next.into_iter().chain([due]).min();
            }
        }
        next
    }

    /// Opens as many connections to a primary as are to be idle. Gives when to look again if there
    /// are too few: one that is down is looked at again when it is well.
    fn open_wanted(&mut self, key: NodeKey, least: usize) -> Option<Instant> {
        let node = self.nodes.get(key).filter(|node| least > 0 && !node.is_down())?;
        let own = node.connections().iter().filter_map(|conn| self.links.get(*conn));
        let ready = own.filter(|own| !own.is_shared() && own.lease().is_none()).count();
        let room = node.line().room(self.cx.config.pool.connections_max) as usize;
        let wanted = least.saturating_sub(ready).min(room);
        let mut opened = 0;
        while opened < wanted.min(OPENED_MAX) && self.links.has_room_for_spare(&self.cx) {
            self.open(key, Usage::Dedicated(Dedicated::default()));
            opened += 1;
        }
        (opened < wanted).then_some(self.cx.now)
    }
}
