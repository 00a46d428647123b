//! What happens to a connection at a time that was known before, and what the client hears of it.

use bytes::Bytes;
use keyslot_core::cluster::Input;

use super::super::clock::Event;
use super::super::coverage::Feature;
use super::super::world::World;
use super::Phase;

impl<A: std::fmt::Debug> World<A> {
    /// Something happens, unless the connection is another one by now.
    pub(in super::super) fn happen(&mut self, event: Event<A>) {
        match event {
            Event::ToServer(conn, dial, bytes) => {
                if self.conn(conn).dial == dial {
                    self.arrive(conn, &bytes);
                }
            }
            Event::Drip(conn, dial) => {
                if self.conn(conn).dial == dial {
                    self.drip(conn);
                }
            }
            Event::Busy(node) => self.take_up(node),
            Event::Resolved(conn, result) => {
                if self.advance(conn, Phase::Resolving, Phase::Resolved) {
                    self.coverage.count_if(Feature::LookUpFailed, result.is_err());
                    self.tell(conn, Input::Resolved { conn, result });
                }
            }
            Event::Connected(conn, dial) => {
                if self.conn(conn).dial == dial && self.advance(conn, Phase::Dialling, Phase::Open) {
                    let is_next = self.conn(conn).addresses > 1;
                    self.coverage.count_if(Feature::NextAddress, is_next);
                    self.tell(conn, Input::Connected { conn });
                }
            }
            Event::Ended(conn, dial, reason) => {
                let state = self.network.conns.get_mut(&conn).expect("it was dialled");
                if state.dial == dial && matches!(state.phase, Phase::Dialling | Phase::Open) {
                    state.redialable = true;
                    let feature = match (state.phase, state.is_past_greeting) {
                        (Phase::Dialling, _) => Feature::DialRefused,
                        (_, false) => Feature::HandshakeLost,
                        (_, true) => Feature::ConnectionCut,
                    };
                    self.coverage.count(feature);
                    (state.phase, state.severed) = (Phase::Closed, true);
                    self.tell(conn, Input::Closed { conn, reason: reason.into() });
                }
            }
            Event::ToClient { conn, dial, bytes, last_of_garbage } => {
                if self.conn(conn).phase == Phase::Open && self.conn(conn).dial == dial {
                    self.tell(conn, Input::Received { conn, bytes: Bytes::from(bytes) });
                    let phase = self.conn(conn).phase;
                    let closed = !last_of_garbage || phase != Phase::Open;
                    assert!(closed, "INVARIANT: garbage closes the connection, {conn:?} is {phase:?}");
                }
            }
            Event::Planned(_) => {}
        }
    }
}
