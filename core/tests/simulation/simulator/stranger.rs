//! A node of another cluster, at an address of this one: it answers as any node does, with ids and
//! slots of its own.
//!
//! It serves nothing: where a test lets the client reach it, the client is told that the cluster is
//! down.

use keyslot_core::address::NodeAddr;

use super::coverage::Feature;
use super::network::line;
use super::server::{Reach, Servers, Session};
use super::wire::{Answer, Words};
use super::world::World;

/// Who is at a node's address in its place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stranger {
    /// Its cluster's current epoch.
    pub(crate) epoch: u64,
}

/// Its id.
pub(crate) fn stranger_id(node: usize) -> String {
    format!("{:040x}", 0xb000_0000 + node)
}

/// Whether a command asks only who somebody is and what he knows.
fn is_question(words: &Words) -> bool {
    matches!(
        &words[0].to_ascii_uppercase()[..],
        b"HELLO" | b"AUTH" | b"CLIENT" | b"SELECT" | b"READONLY" | b"CLUSTER"
    )
}

impl Servers {
    /// What the stranger answers; `None` when he answers as anybody does.
    pub(super) fn stranger_answer(&mut self, session: &Session, words: &Words) -> Option<Answer> {
        let stranger = session.stranger?;
        let word = |index: usize| words.get(index).map(Vec::as_slice).unwrap_or_default();
        if !is_question(words) {
            let line: Vec<_> = words.iter().map(|word| String::from_utf8_lossy(word)).collect();
            self.asked_of_strangers.push(line.join(" "));
            return Some(Answer::error("CLUSTERDOWN The cluster is down"));
        }
        if word(0) != b"CLUSTER" {
            return None;
        }
        let node = &self.nodes[session.node];
        Some(match word(1) {
            b"MYID" if self.dialect.myid => Answer::text(&stranger_id(session.node)),
            b"SLOTS" => {
                let host = node.announced.as_ref().unwrap_or(&node.host);
                let host = if self.dialect.empty_hosts { "" } else { host };
                let row = |first, last, host: &str, port: u16, id: String| {
                    let member = vec![Answer::text(host), Answer::Integer(port.into()), Answer::text(&id)];
                    Answer::Array(vec![Answer::Integer(first), Answer::Integer(last), Answer::Array(member)])
                };
                let other = stranger_id(1_000);
                Answer::Array(vec![
                    row(0, 9_999, host, node.address.port(), stranger_id(session.node)),
                    row(10_000, 16_383, "10.9.9.9", 7_999, other),
                ])
            }
            b"INFO" => Answer::Verbatim(format!("cluster_current_epoch:{}\r\n", stranger.epoch)),
            other => {
                let other = String::from_utf8_lossy(other);
                Answer::error(format!("ERR unknown subcommand '{other}'. Try CLUSTER HELP."))
            }
        })
    }
}

impl<A: std::fmt::Debug> World<A> {
    /// The node ends, and its address is another cluster's from now on, if the client knows who
    /// should be there.
    pub(super) fn take_over(&mut self, node: usize, epoch: u64) {
        let dialect = &self.servers.dialect;
        let is_known = dialect.cluster && dialect.myid && matches!(self.ready(), Some(Ok(())));
        if !is_known || self.known_ids(node).is_empty() {
            return;
        }
        self.servers.start_anew(node);
        self.servers.nodes[node].reach = Reach::Refusing;
        for conn in self.open_conns(Some(node)) {
            self.cut(conn);
        }
        self.servers.nodes[node].stranger = Some(Stranger { epoch });
        self.excuses.name_stranger();
        self.coverage.count(Feature::StrangerAtAddress);
    }

    /// The stranger has gone, and the node is back.
    pub(super) fn give_address_back(&mut self, node: usize) {
        if self.servers.nodes[node].stranger.take().is_none() {
            return;
        }
        self.servers.nodes[node].reach = Reach::Up;
        if self.has_gone_over(node) {
            self.excuses.mislead();
        }
        for conn in self.open_conns(Some(node)) {
            if self.is_with_stranger(conn) {
                self.cut(conn);
            }
        }
        // Nor does it take those that are being dialled.
        self.refuse_dials_to_stranger(node);
    }

    /// Whom the client takes to be at a node's address.
    fn known_ids(&self, node: usize) -> Vec<&str> {
        let state = &self.servers.nodes[node];
        let address = NodeAddr::new(&state.host, state.address.port());
        let members = self.cluster.topology().shards.iter().flat_map(|shard| &shard.nodes);
        let at = members.filter(|member| member.address == address && !member.id.is_empty());
        at.map(|member| member.id.as_str()).collect()
    }

    /// Whether the client takes another cluster's node to be at this node's address, as it does
    /// when it has lost all of its own. That node may be gone again.
    pub(super) fn has_gone_over(&self, node: usize) -> bool {
        self.known_ids(node).contains(&stranger_id(node).as_str())
    }

    /// Another cluster's node gets nothing, unless the client has gone over to its cluster.
    pub(super) fn check_stranger(&mut self, node: usize, words: &Words) {
        if self.has_gone_over(node) {
            self.excuses.mislead();
        }
        let known = self.known_ids(node);
        let is_known_otherwise = !known.is_empty() && !self.has_gone_over(node);
        assert!(
            is_question(words) || !is_known_otherwise,
            "INVARIANT: no request reaches another cluster's node: {} at node {node}",
            line(words)
        );
    }
}
