//! Look-ups and new connections.

use std::net::{IpAddr, SocketAddr};

use keyslot_core::cluster::{ConnId, Input};

use super::super::clock::Event;
use super::super::coverage::Feature;
use super::super::manners::{Greeting, Manners};
use super::super::server::Reach;
use super::super::world::{MILLISECOND, World};
use super::{Conn, Link, Phase, REFUSED, SILENT};

impl<A: std::fmt::Debug> World<A> {
    pub(in super::super) fn resolve(&mut self, conn: ConnId, host: &str) {
        self.log(|| format!("{conn:?} resolve {host}"));
        let node = self.servers.nodes.iter().find(|node| node.host == host);
        let mut result = node.map(|node| vec![node.address.ip()]).ok_or_else(|| "no such host".to_string());
        if let (Some(first), Ok(addresses)) = (self.network.weather.first_address, &mut result) {
            addresses.insert(0, IpAddr::V4(first));
        }
        self.enter(conn, Phase::Resolving);
        let percent = self.network.weather.lookup_failure;
        if let (true, Ok(addresses)) = (self.choices.chance(percent), &mut result) {
            // The first of two addresses leads nowhere.
            addresses.insert(0, IpAddr::V4(self.choices.pick(&[REFUSED, SILENT])));
        }
        let at = self.now() + self.latency();
        let percent = self.network.weather.lookup_failure;
        match self.choices.chance(percent) {
            false => self.schedule(at, Event::Resolved(conn, result)),
            true if self.choices.chance(50) => {
                self.schedule(at, Event::Resolved(conn, Err("try again".into())));
            }
            // The look-up never ends.
            true => {}
        }
    }

    pub(in super::super) fn connect(&mut self, conn: ConnId, address: SocketAddr) {
        self.log(|| format!("{conn:?} connect {address}"));
        if self.is_out_of_sockets() {
            return self.refuse_socket(conn);
        }
        self.network.dials += 1;
        if self.network.conns.contains_key(&conn) {
            let state = self.conn(conn);
            let fits = state.phase == Phase::Resolved || state.redialable;
            assert!(fits, "INVARIANT: Connect comes once for an address, {conn:?} is {:?}", state.phase);
            (state.phase, state.severed, state.redialable) = (Phase::Dialling, false, false);
            state.dial += 1;
            (state.to_server_at, state.to_client_at, state.session, state.greeted) = (0, 0, None, false);
            state.is_past_greeting = false;
            state.inbox.clear();
            state.dripping.clear();
            state.unwritten.clear();
        } else {
            self.enter(conn, Phase::Dialling);
        }
        self.conn(conn).addresses += 1;
        let dial = self.conn(conn).dial;
        let at = self.now() + self.latency();
        let (node, manners) = self.servers.at(address);
        self.conn(conn).manners = manners;
        let (refuse, silent) = (self.network.weather.refuse, self.network.weather.silent_dial);
        let refused = self.choices.chance(refuse);
        let link = node.map_or(Link::Open, |node| self.network.links[node]);
        self.servers.catch_up(self.now());
        match node.map_or(Reach::Refusing, |node| self.servers.reach(node)) {
            _ if address.ip() == SILENT || link == Link::Lost => {}
            Reach::BlackHole => {}
            Reach::Up if !refused => {
                if !self.choices.chance(silent) {
                    let session = node.map(|node| self.servers.session(node));
                    let state = self.conn(conn);
                    (state.node, state.session) = (node, session);
                    self.schedule(at, Event::Connected(conn, dial));
                    self.greet_at_accept(conn, at);
                }
            }
            Reach::Up | Reach::Refusing => {
                self.conn(conn).node = node;
                self.schedule(at, Event::Ended(conn, dial, "connection refused"));
            }
        }
    }

    fn is_out_of_sockets(&self) -> bool {
        let has_socket = |state: &&Conn| matches!(state.phase, Phase::Dialling | Phase::Open);
        self.network.conns.values().filter(has_socket).count() >= self.network.sockets
    }

    /// The host has no socket left: the driver says so at once.
    fn refuse_socket(&mut self, conn: ConnId) {
        self.network.refused += 1;
        if !self.network.conns.contains_key(&conn) {
            self.enter(conn, Phase::Closed);
        }
        let state = self.conn(conn);
        (state.phase, state.redialable) = (Phase::Closed, true);
        self.log(|| format!("{conn:?} → client: no socket"));
        let reason = "no descriptor is left".to_string();
        self.cluster.handle(self.machine_now(), Input::NoSocket { conn, reason });
    }

    /// The manners at a connection's other end.
    pub(super) fn manners(&mut self, conn: ConnId) -> Option<Manners> {
        let state = self.conn(conn);
        let (node, own) = (state.node, state.manners);
        own.or_else(|| node.map(|node| self.servers.nodes[node].manners))
    }

    /// A node that wants no connections says so before it reads.
    fn greet_at_accept(&mut self, conn: ConnId, at: u64) {
        let Some(Greeting::AtAccept(error)) = self.manners(conn).map(|manners| manners.greeting) else {
            return;
        };
        let dial = self.conn(conn).dial;
        let bytes = format!("-{error}\r\n").into_bytes();
        // What the client has sent meanwhile makes no difference.
        let at = at + 3 * MILLISECOND;
        self.schedule(at, Event::ToClient { conn, dial, bytes, last_of_garbage: false });
        self.schedule(at, Event::Ended(conn, dial, "connection reset"));
        self.coverage.count(Feature::HandshakeRefused);
        self.conn(conn).session = None;
    }
}
