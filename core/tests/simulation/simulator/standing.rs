//! Keys that are there throughout, and what SCAN says of them.
//!
//! They lie where their slots are: at the owner, in part at the target of a slot that moves, and as
//! a copy at a primary that was replaced without hearing of it. Each process goes through them in
//! an order of its own, so that a cursor of another process leads astray.

use std::collections::{BTreeMap, BTreeSet};

use keyslot_core::slot::Slot;

use super::operation::{TAG_COUNT, key_of_tag};
use super::server::{NOBODY, Servers, Session};
use super::wire::{Answer, Words};

/// How many of them a tag has: so many move with its slot.
const KEYS_OF_TAG: u64 = 6;

/// How many lie in slots that stay.
const OTHER_KEYS: u64 = 30;

#[derive(Debug, Default)]
pub(crate) struct Standing {
    /// What a replaced primary still has.
    copies: BTreeMap<usize, Vec<Vec<u8>>>,
    /// Slots whose move was broken off when some of their keys had moved: those are back where they
    /// came from, and a scan may have missed them.
    pub(crate) disturbed: BTreeSet<u16>,
    /// How many times each node's process was started anew.
    pub(crate) starts: BTreeMap<usize, u64>,
}

/// All of them.
pub(crate) fn standing_keys() -> impl Iterator<Item = Vec<u8>> {
    let of_tag = |tag| (0..KEYS_OF_TAG).map(move |number| key_of_tag(tag, 'k', number));
    let others = (0..OTHER_KEYS).map(|number| key_of_tag(100 + number, 'k', number));
    (0..TAG_COUNT).flat_map(of_tag).chain(others).map(String::into_bytes)
}

fn order(seed: u64, key: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let mut hash = key.iter().fold(0xcbf2_9ce4_8422_2325 ^ seed.wrapping_mul(0x9E37_79B9_7F4A_7C15), step);
    hash = (hash ^ (hash >> 31)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    1 + (hash >> 16)
}

impl Servers {
    /// What the node has of them.
    fn standing_at(&self, node: usize) -> Vec<Vec<u8>> {
        if let Some(copy) = self.standing.copies.get(&node) {
            return copy.clone();
        }
        let primary = self.truth.replica_of[node].unwrap_or(node);
        let is_here = |key: &Vec<u8>| {
            let slot = Slot::of_key(key).number();
            let place = match self.migrations.get(&slot) {
                Some(migration) => self.location(key, migration),
                None => Some(self.owner(slot)),
            };
            place == Some(primary)
        };
        standing_keys().filter(is_here).collect()
    }

    /// The node was replaced and has not heard of it: it keeps what it has.
    pub(super) fn keep_copy(&mut self, node: usize) {
        let copy = self.standing_at(node);
        self.standing.copies.insert(node, copy);
    }

    /// It has heard.
    pub(super) fn drop_copy(&mut self, node: usize) {
        self.standing.copies.remove(&node);
    }

    /// The node's process is another one from now on.
    pub(crate) fn start_anew(&mut self, node: usize) {
        *self.standing.starts.entry(node).or_default() += 1;
    }

    fn process(&self, node: usize) -> u64 {
        node as u64 * 1_000 + self.standing.starts.get(&node).copied().unwrap_or(0)
    }

    /// INFO server.
    pub(super) fn server_info(&self, node: usize) -> Answer {
        Answer::Verbatim(format!(
            "# Server\r\nredis_version:7.0.15\r\nrun_id:{:040x}\r\n",
            self.process(node)
        ))
    }

    /// SCAN cursor [COUNT count].
    pub(super) fn scan(&self, session: &Session, words: &Words) -> Answer {
        let number = |word: Option<&Vec<u8>>| std::str::from_utf8(word?).ok()?.parse::<u64>().ok();
        let Some(cursor) = number(words.get(1)) else { return Answer::error("ERR invalid cursor") };
        let count = words.iter().position(|word| word == b"COUNT").and_then(|at| number(words.get(at + 1)));
        let seed = self.process(session.node);
        let mut keys = self.standing_at(session.node);
        keys.sort_by_key(|key| order(seed, key));
        keys.retain(|key| order(seed, key) >= cursor);
        let rest = keys.split_off(keys.len().min(count.unwrap_or(10) as usize));
        let next = rest.first().map_or(0, |key| order(seed, key));
        let keys = keys.into_iter().map(Answer::Bulk).collect();
        Answer::Array(vec![Answer::text(&next.to_string()), Answer::Array(keys)])
    }

    /// CLUSTER NODES.
    pub(super) fn nodes_answer(&self, asked: usize) -> Answer {
        let view = &self.nodes[asked].view;
        let mut text = String::new();
        for (node, state) in self.nodes.iter().enumerate() {
            if view.is_empty() && node != asked {
                continue;
            }
            let host = state.announced.as_ref().unwrap_or(&state.host);
            let host = if self.dialect.empty_hosts { "" } else { host };
            let port = state.address.port();
            let myself = if node == asked { "myself," } else { "" };
            let (role, primary) = match view.replica_of[node] {
                Some(primary) => ("slave", self.nodes[primary].id.clone()),
                None => ("master", "-".to_string()),
            };
            let epoch = view.config_epoch(node);
            text += &format!(
                "{} {host}:{port}@{},{} {myself}{role} {primary} 0 0 {epoch} connected",
                state.id,
                10_000 + port,
                state.host
            );
            for (first, last, _) in view.ranges().into_iter().filter(|(.., owner)| *owner == node) {
                text += &if first == last { format!(" {first}") } else { format!(" {first}-{last}") };
            }
            let open = self.migrations.iter().filter(|_| node == asked && role == "master");
            for (slot, migration) in open {
                let owner = view.owners[usize::from(*slot)];
                if migration.from == node && usize::from(owner) == node {
                    text += &format!(" [{slot}->-{}]", self.nodes[migration.to].id);
                } else if migration.to == node && usize::from(owner) != node && owner != NOBODY {
                    text += &format!(" [{slot}-<-{}]", self.nodes[migration.from].id);
                }
            }
            text += "\n";
        }
        Answer::Verbatim(text)
    }
}
