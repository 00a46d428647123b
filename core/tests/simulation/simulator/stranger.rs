//! A node of another cluster, at an address of this one: it answers as any node does, with ids and slots of its own.
//!
//! It serves nothing: where a test lets the client reach it, the client is told that the cluster is down.

use super::server::{Servers, Session};
use super::wire::{Answer, Words};

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
