//! Nodes that answer by drops, read nothing, or push without end. A drip and what could not be
//! written are per connection; they end with [`World::behave`].

use keyslot_core::cluster::ConnId;

use super::super::clock::Event;
use super::super::coverage::Feature;
use super::super::manners::Manners;
use super::super::wire::Push;
use super::super::world::World;
use super::Phase;

impl<A: std::fmt::Debug> World<A> {
    /// The server says something that nobody asked for, where the connection speaks RESP3.
    pub(crate) fn push(&mut self, conn: ConnId, push: Push) {
        if self.conn(conn).session.as_ref().is_some_and(|session| session.resp3) {
            self.reply(conn, push.bytes(), false);
        }
    }

    /// Lets what a node sends drip, when it does; else gives it back.
    pub(super) fn hold_for_drip(&mut self, conn: ConnId, bytes: Vec<u8>) -> Option<Vec<u8>> {
        let node = self.conn(conn).node;
        let drip = node.and_then(|node| self.servers.nodes[node].manners.drip);
        let state = self.conn(conn);
        if state.dripping.is_empty() {
            let Some(every) = drip else { return Some(bytes) };
            state.drip_every = every;
            let (at, dial) = (self.now() + every, self.conn(conn).dial);
            self.schedule(at, Event::Drip(conn, dial));
        }
        self.conn(conn).dripping.extend(bytes);
        None
    }

    /// The next byte falls.
    pub(super) fn drip(&mut self, conn: ConnId) {
        let state = self.conn(conn);
        if state.phase != Phase::Open || state.severed {
            state.dripping.clear();
        }
        let every = state.drip_every;
        let length = if every == 0 { state.dripping.len() } else { 1 };
        let bytes: Vec<_> = state.dripping.drain(..length.min(state.dripping.len())).collect();
        if bytes.is_empty() {
            return;
        }
        let is_last = state.dripping.is_empty();
        self.coverage.count(Feature::Drip);
        self.deliver(conn, bytes, false);
        if !is_last {
            let (at, dial) = (self.now() + every, self.conn(conn).dial);
            self.schedule(at, Event::Drip(conn, dial));
        }
    }

    /// From now on the node behaves; what has been held back comes.
    pub(crate) fn behave(&mut self, node: usize) {
        self.servers.nodes[node].manners = Manners::default();
        let conns = self.network.conns.iter().filter(|(_, state)| state.node == Some(node));
        for conn in conns.map(|(conn, _)| *conn).collect::<Vec<_>>() {
            // The next drop is all that is left.
            self.conn(conn).drip_every = 0;
            let bytes = std::mem::take(&mut self.conn(conn).unwritten);
            let state = self.conn(conn);
            if !bytes.is_empty() && state.phase == Phase::Open && !state.severed {
                self.send(conn, bytes);
            }
        }
        if !self.servers.nodes[node].paused {
            self.resume(node);
        }
    }

    /// All that is open to this node and speaks RESP3 gets this push.
    pub(crate) fn flood(&mut self, node: usize, push: Push) {
        for conn in self.open_conns(Some(node)) {
            self.coverage.count(Feature::PushFlood);
            self.push(conn, push);
        }
    }
}
