//! From a node that has no connection to one that has: look-up, dial, the host's next address, the
//! handshake's first words.

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use super::connection::{Candidate, Connection, State, Usage};
use super::ended::{Driver, is_final};
use crate::cluster::ids::{ConnId, NodeKey};
use crate::cluster::io::Output;
use crate::cluster::machine::{Cluster, Phase};
use crate::error::Error;

/// So long a host's address has to let a socket be opened, as long as another one has not been
/// tried: the delay between two attempts of RFC 8305 (section 8). One that took longer is tried
/// again, patiently, when all have been.
const ADDRESS_PATIENCE: Duration = Duration::from_millis(250);

impl Cluster {
    /// Dials a node that has no connection, unless it is too early to try again, or there is no
    /// room: that comes later then.
    pub(in crate::cluster) fn ensure_connection(&mut self, node_key: NodeKey) {
        let Some(node) = self.nodes.get(node_key) else {
            return;
        };
        let may_dial = node.connection().is_none() && node.may_be_dialled(self.cx.now);
        if may_dial && self.has_room_for(node_key) {
            let conn = self.open(node_key, Usage::Shared);
            if let Some(node) = self.nodes.get_mut(node_key) {
                node.note_dialled(conn);
            }
        }
        self.nodes.look_after(&self.cx, node_key);
    }

    /// Begins to connect to a node. There has to be room.
    pub(in crate::cluster) fn open(&mut self, node_key: NodeKey, usage: Usage) -> Option<ConnId> {
        let ip = self.nodes.get(node_key)?.address().ip();
        let deadline = self.cx.now + self.cx.config.connect_timeout;
        let decoder = self.cx.decoder();
        let connection = Connection::new(node_key, usage, decoder, self.cx.now, deadline);
        let conn = self.links.all.insert(connection);
        self.note_open(conn);
        match ip {
            Some(ip) => self.dial(conn, [ip]),
            None => self.look_up(conn),
        }
        Some(conn)
    }

    /// Tries these addresses, in this order.
    pub(super) fn dial(&mut self, conn: ConnId, addresses: impl IntoIterator<Item = IpAddr>) {
        if let Some(connection) = self.links.get_mut(conn) {
            let candidate = |ip| Candidate { ip, is_second: false };
            connection.others = addresses.into_iter().map(candidate).collect();
            self.dial_next(conn);
        }
    }

    /// Tries the next address. It has its share of the time that is left; [`ADDRESS_PATIENCE`],
    /// when others have not been tried at all.
    fn dial_next(&mut self, conn: ConnId) {
        let decoder = self.cx.decoder();
        let Some(connection) = self.links.get_mut(conn) else {
            return;
        };
        let (Some(node), Some(next)) = (self.nodes.get(connection.node), connection.others.pop_front())
        else {
            return;
        };
        connection.begin_anew(decoder);
        (connection.ip, connection.is_second_try) = (Some(next.ip), next.is_second);
        let share = connection.share(self.cx.now);
        let is_hasty = !next.is_second && !connection.others.is_empty();
        connection.deadline = self.cx.now + if is_hasty { share.min(ADDRESS_PATIENCE) } else { share };
        let address = SocketAddr::new(next.ip, node.address().port());
        self.cx.output(Output::Connect { conn, address });
        self.links.watch(&self.cx, conn);
    }

    /// Goes on to the host's next address, if there is one and the connection is not in use; says
    /// whether it does.
    pub(super) fn goes_on(&mut self, conn: ConnId, error: &Error, driver: Driver) -> bool {
        let is_starting = matches!(self.phase, Phase::Starting(_));
        let Some(connection) = self.links.get_mut(conn) else {
            return false;
        };
        let is_in_use = connection.is_ready() && !(is_starting && connection.is_shared());
        if !is_in_use && let Some(node) = self.nodes.get_mut(connection.node) {
            node.note_failed_ip(connection.ip);
        }
        let is_over = connection.draining || connection.last_deadline <= self.cx.now;
        if connection.others.is_empty() || is_in_use || is_over || is_final(error) {
            return false;
        }
        if driver == Driver::MustClose {
            self.cx.output(Output::Close { conn });
        }
        if connection.state() != State::Dialling {
            self.cx.statistics.disconnects += 1;
            if let Some(node) = self.nodes.get_mut(connection.node) {
                node.statistics_mut().disconnects += 1;
            }
        }
        if connection.is_ready() {
            self.links.note_coming_up();
        }
        self.map.forget_connection(conn);
        self.dial_next(conn);
        true
    }
}
