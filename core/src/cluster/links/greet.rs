//! What follows a look-up and a dial: the host's addresses, and the handshake's first words.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::IpAddr;

use super::connection::{Expected, State};
use super::ended::Driver;
use super::handshake::{self, HandshakeStep};
use crate::cluster::ids::ConnId;
use crate::cluster::machine::{Cluster, Phase};
use crate::cluster::nodes::node::Node;
use crate::error::Error;

impl Cluster {
    pub(in crate::cluster) fn on_resolved(&mut self, conn: ConnId, result: Result<Vec<IpAddr>, String>) {
        if !self.note_resolved(conn) {
            return;
        }
        match result {
            Ok(addresses) if addresses.is_empty() => {
                self.lose(conn, Error::Connect("the name has no address".to_string()), Driver::MustClose);
            }
            Ok(mut addresses) => {
                let node = self.links.get(conn).and_then(|connection| self.nodes.get(connection.node));
                let failed = node.and_then(Node::failed_ip);
                if let Some(index) = addresses.iter().position(|ip| Some(*ip) == failed) {
                    addresses.rotate_left(index + 1);
                }
                self.dial(conn, addresses);
            }
            Err(reason) => self.lose(conn, Error::Connect(reason), Driver::MustClose),
        }
    }

    pub(in crate::cluster) fn on_connected(&mut self, conn: ConnId) {
        let Some(connection) = self.links.get_mut(conn) else {
            return;
        };
        self.cx.statistics.connects += 1;
        connection.answered_at = self.cx.now;
        connection.deadline = self.cx.now + connection.share(self.cx.now);
        let batch = handshake::first_batch(&self.cx.config, connection.is_shared());
        if let Some(node) = self.nodes.get_mut(connection.node) {
            let is_down = node.is_down();
            node.statistics_mut().connects += 1;
            node.statistics_mut().reconnects += u64::from(is_down);
        }
        self.send_handshake(conn, &batch);
    }

    pub(super) fn send_handshake(&mut self, conn: ConnId, batch: &[(HandshakeStep, Vec<String>)]) {
        let asks_identity = self.asks_identity();
        if let Some(connection) = self.links.get_mut(conn) {
            connection.set_state(State::Handshaking { falling_back: false });
            for (step, words) in batch {
                connection.send_words(words, Expected::Handshake(*step), self.cx.now);
                self.cx.statistics.commands += 1;
            }
            if asks_identity {
                let waiting = Expected::Handshake(HandshakeStep::Identity);
                connection.send_words(&["CLUSTER", "MYID"], waiting, self.cx.now);
                self.cx.statistics.commands += 1;
            }
            self.links.mark_unflushed(&self.cx, conn);
        }
    }

    /// Whether a new connection asks for the node's id.
    pub(in crate::cluster) fn asks_identity(&self) -> bool {
        let standalone = self.cx.config.mode == crate::config::Mode::Standalone;
        !standalone && !matches!(self.phase, Phase::Standalone(_))
    }
}
