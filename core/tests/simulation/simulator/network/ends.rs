//! Connections that end, and links that hold or lose everything.

use keyslot_core::cluster::ConnId;

use super::super::clock::Event;
use super::super::coverage::Feature;
use super::super::world::World;
use super::{Link, Phase};

impl<A: std::fmt::Debug> World<A> {
    /// The client closes a connection.
    pub(in super::super) fn close(&mut self, conn: ConnId) {
        self.log(|| format!("{conn:?} close"));
        let phase = self.conn(conn).phase;
        assert_ne!(phase, Phase::Closed, "INVARIANT: {conn:?} is closed once");
        self.coverage.count_if(Feature::DialTimedOut, phase == Phase::Dialling);
        self.coverage.count_if(Feature::LookUpTimedOut, phase == Phase::Resolving);
        let state = self.conn(conn);
        state.redialable = matches!(phase, Phase::Dialling | Phase::Open);
        state.phase = Phase::Closed;
    }

    /// The server's end goes, without a sign to the client.
    pub(crate) fn sever(&mut self, conn: ConnId) {
        let state = self.conn(conn);
        (state.severed, state.session) = (true, None);
        state.inbox.clear();
        state.unwritten.clear();
    }

    /// The connection ends for both sides, for the client after what is under way to it.
    pub(crate) fn cut(&mut self, conn: ConnId) {
        self.sever(conn);
        self.end(conn);
    }

    /// What is being dialled to the stranger at a node's address is refused.
    pub(in super::super) fn refuse_dials_to_stranger(&mut self, node: usize) {
        let conns = self.network.conns.iter();
        let dialled = conns.filter(|(_, state)| state.phase == Phase::Dialling && state.node == Some(node));
        for (conn, dial) in dialled.map(|(conn, state)| (*conn, state.dial)).collect::<Vec<_>>() {
            if self.is_with_stranger(conn) {
                self.schedule(self.now(), Event::Ended(conn, dial, "connection refused"));
            }
        }
    }

    pub(super) fn end(&mut self, conn: ConnId) {
        let at = self.now() + self.latency();
        let state = self.conn(conn);
        let (at, dial) = (at.max(state.to_client_at), state.dial);
        self.schedule(at, Event::Ended(conn, dial, "connection reset"));
    }

    /// From now on the packets between the client and this node are treated so.
    pub(crate) fn link(&mut self, node: usize, link: Link) {
        self.network.links[node] = link;
        match link {
            Link::Held => self.coverage.count(Feature::LinkHeld),
            Link::Lost => {
                self.coverage.count(Feature::LinkLost);
                let conns = self.network.conns.iter().filter(|(_, state)| state.node == Some(node));
                for conn in conns.map(|(conn, _)| *conn).collect::<Vec<_>>() {
                    self.sever(conn);
                }
            }
            Link::Open => {
                let held = std::mem::take(&mut self.network.held);
                let (released, held) = held.into_iter().partition(|(of, _)| *of == node);
                self.network.held = held;
                // Before what is still under way, which was sent later.
                let at = self.now().saturating_sub(1);
                for (_, event) in Vec::from_iter(released) {
                    self.schedule(at, event);
                }
            }
        }
    }

    /// Whether the event waits until its node's link is open again.
    pub(in super::super) fn hold(&mut self, event: Event<A>) -> Option<Event<A>> {
        let node = event.conn().and_then(|conn| self.network.conns.get(&conn)).and_then(|state| state.node);
        match node.filter(|node| self.network.links[*node] == Link::Held) {
            Some(node) => {
                self.network.held.push((node, event));
                None
            }
            None => Some(event),
        }
    }
}
