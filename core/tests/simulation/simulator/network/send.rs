//! What the client sends, on its way to a server.

use bytes::Bytes;
use keyslot_core::cluster::ConnId;

use super::super::clock::Event;
use super::super::coverage::Feature;
use super::super::server::{arguments, lease_of_marker};
use super::super::store::number_of;
use super::super::wire::{Words, take_command};
use super::super::world::World;
use super::{Conn, Phase, Sent, is_request, line};

impl<A: std::fmt::Debug> World<A> {
    pub(in super::super) fn transmit(&mut self, conn: ConnId, bytes: &Bytes) {
        let state = self.conn(conn);
        assert_eq!(state.phase, Phase::Open, "INVARIANT: Transmit only on an open connection, {conn:?}");
        assert!(!bytes.is_empty(), "INVARIANT: Transmit carries something");
        let node = state.node.expect("an open connection has a node");
        let severed = state.severed;
        let mut rest = bytes.to_vec();
        let commands: Vec<_> = std::iter::from_fn(|| take_command(&mut rest)).collect();
        assert!(rest.is_empty(), "INVARIANT: Transmit carries whole commands");
        self.log(|| {
            let lines: Vec<_> = commands.iter().map(line).collect();
            format!("{conn:?} → node {node}{}: {}", if severed { " (lost)" } else { "" }, lines.join(" | "))
        });
        self.check_commands(conn, node, &commands);
        self.coverage.count_if(Feature::Pipelined, commands.len() > 1 && commands.iter().all(is_request));
        self.conn(conn).is_past_greeting |= commands.iter().any(is_request);
        self.network.sent.push(Sent { node, commands });
        if severed {
            return;
        }
        let mut bytes = bytes.to_vec();
        if !self.conn(conn).unwritten.is_empty() {
            self.conn(conn).unwritten.extend(bytes);
            return;
        }
        if self.manners(conn).is_some_and(|manners| manners.is_stuck) {
            self.coverage.count(Feature::StuckWrite);
            let rest = bytes.split_off(self.choices.index(bytes.len()));
            self.conn(conn).unwritten = rest;
        }
        let cut = self.network.weather.cut;
        let cut = self.choices.chance(cut);
        if cut {
            bytes.truncate(self.choices.index(bytes.len() + 1));
        }
        self.send(conn, bytes);
        if cut {
            // The server still executes what arrived; the client hears of the end at some time.
            self.conn(conn).severed = true;
            self.end(conn);
        }
    }

    /// Bytes set out for the server.
    pub(super) fn send(&mut self, conn: ConnId, bytes: Vec<u8>) {
        let (mut at, dial) = (self.conn(conn).to_server_at, self.conn(conn).dial);
        for piece in self.split(bytes) {
            at = at.max(self.now() + self.latency());
            self.schedule(at, Event::ToServer(conn, dial, piece));
        }
        self.conn(conn).to_server_at = at;
    }

    /// Nodes get what is for them, and no more connections than the settings allow.
    fn check_commands(&mut self, conn: ConnId, node: usize, commands: &[Words]) {
        let is_stranger = self.is_with_stranger(conn);
        for words in commands {
            if is_stranger {
                self.check_stranger(node, words);
                continue;
            }
            let name = String::from_utf8_lossy(&words[0]).to_ascii_uppercase();
            if let Some(lease) = words.get(1).and_then(|word| lease_of_marker(word)) {
                self.check_lent(conn, node, lease);
            }
            if name == "CLUSTER" && words[1] == b"SLOTS" && self.reports.is_ready_told() {
                self.reports.asked(self.machine_now());
            }
            if let Some((keys, writes)) = arguments(&name, words)
                && !self.servers.were_primaries.contains(&node)
                && !self.excuses.is_misled()
                && !self.has_gone_over(node)
                && !self.history.is_addressed(number_of(&keys[0]).unwrap_or(0))
            {
                assert!(
                    !writes && self.excuses.may_read_replicas(),
                    "INVARIANT: replicas get reads, where the settings allow it: {} at node {node}",
                    line(words)
                );
            }
        }
    }

    /// No more connections of a node are lent than the settings allow.
    fn check_lent(&mut self, conn: ConnId, node: usize, lease: u64) {
        let before = self.conn(conn).lease.replace(lease);
        let is_lent =
            |state: &&Conn| state.lease.is_some() && state.phase != Phase::Closed && state.node == Some(node);
        let lent = self.network.conns.values().filter(is_lent).count();
        let most = self.config.pool.connections_max as usize;
        assert!(lent <= most, "INVARIANT: {lent} connections of node {node} are lent, {most} at most");
        let has_waited = before.is_some_and(|before| self.leases.waited_for(lease, before));
        self.coverage.count_if(Feature::PoolWaited, has_waited && lent == most);
    }
}
