//! Single cases, and a model of a cluster whose slots move and whose nodes fail over while it is
//! passed over.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use super::*;
use crate::scan::{Bookmark, Peer, ResumeToken};

fn slot(number: u16) -> Slot {
    Slot::new(number).unwrap()
}

/// A primary with these slots, and `a`, `b` and `c` as peers of the given epochs.
fn view(id: &str, epoch: u64, owned: &[u16]) -> NodeView {
    let peers = ["a", "b", "c"].map(|id| Peer { id: id.to_string(), address: None, epoch: 1 });
    NodeView {
        id: id.to_string(),
        is_primary: true,
        epoch,
        owned: owned.iter().copied().map(slot).collect(),
        peers: peers.to_vec(),
        ..NodeView::default()
    }
}

fn leaving(mut view: NodeView, number: u16, to: &str) -> NodeView {
    view.leaving.push((slot(number), to.to_string()));
    view
}

fn coming(mut view: NodeView, number: u16, from: &str) -> NodeView {
    view.coming.push((slot(number), from.to_string()));
    view
}

fn pass(coverage: &mut SlotCoverage, start: &NodeView, end: &NodeView) {
    let claim = coverage.claim(start);
    coverage.conclude(&claim, end);
}

#[test]
fn a_slot_that_stays_is_done() {
    let mut coverage = SlotCoverage::default();
    pass(&mut coverage, &view("a", 1, &[1, 2]), &view("a", 1, &[2]));
    assert!(!coverage.is_done(slot(1)) && coverage.is_done(slot(2)));
}

#[test]
fn a_node_that_was_changed_does_nothing() {
    let start = view("a", 1, &[1]);
    let replica = NodeView { is_primary: false, ..start.clone() };
    for end in [view("a", 2, &[1]), view("b", 1, &[1]), replica] {
        let mut coverage = SlotCoverage::default();
        pass(&mut coverage, &start, &end);
        assert_eq!(coverage, SlotCoverage::default());
    }
}

#[test]
fn an_open_slot_is_done_by_both_of_its_nodes() {
    let mut coverage = SlotCoverage::default();
    let a = leaving(view("a", 1, &[1]), 1, "b");
    // Too early: what follows from `a` is not there yet.
    pass(&mut coverage, &coming(view("b", 1, &[]), 1, "a"), &coming(view("b", 1, &[]), 1, "a"));
    pass(&mut coverage, &view("a", 1, &[1]), &a);
    assert_eq!((coverage.halves().count(), coverage.done_count()), (1, 0));
    let b = coming(view("b", 1, &[]), 1, "a");
    pass(&mut coverage, &b, &b);
    assert_eq!((coverage.halves().count(), coverage.done_count()), (0, 1));
}

#[test]
fn what_moves_on_is_followed() {
    let mut coverage = SlotCoverage::default();
    let a = leaving(view("a", 1, &[1]), 1, "b");
    pass(&mut coverage, &a, &a);
    let b = leaving(view("b", 1, &[1]), 1, "c");
    pass(&mut coverage, &coming(view("b", 1, &[]), 1, "a"), &b);
    assert_eq!(coverage.halves().next().unwrap().to, "c");
    let c = coming(view("c", 1, &[]), 1, "b");
    pass(&mut coverage, &c, &c);
    assert!(coverage.is_done(slot(1)));
}

#[test]
fn a_slot_that_was_moved_elsewhere_before_is_begun_again() {
    let mut coverage = SlotCoverage::default();
    let to = |id| leaving(view("a", 1, &[1]), 1, id);
    pass(&mut coverage, &to("b"), &to("c"));
    pass(&mut coverage, &to("b"), &view("a", 1, &[1]));
    assert_eq!(coverage, SlotCoverage::default());
    pass(&mut coverage, &to("b"), &to("b"));
    // It has been back at `a` since, and comes once more.
    let mut b = coming(view("b", 1, &[]), 1, "a");
    b.peers[0].epoch = 2;
    pass(&mut coverage, &b, &b);
    assert_eq!(coverage, SlotCoverage::default());
}

#[test]
fn random_moves_hide_no_key() {
    let mut done = 0;
    for seed in 0..500 {
        done += Model::new(seed).run();
    }
    assert!(done > 30, "{done} scans ended while slots moved");
}

/// The slots that move.
const SLOTS: u16 = 4;
/// How many keys each has.
const KEYS: usize = 6;

struct Model {
    random: u64,
    nodes: Vec<Server>,
    /// Where each key is: by slot, then by key.
    keys: Vec<Vec<usize>>,
    ids: usize,
    coverage: SlotCoverage,
    passes: Vec<Pass>,
    returned: Vec<(u16, usize)>,
}

#[derive(Clone, Default)]
struct Server {
    id: String,
    epoch: u64,
    owned: SlotSet,
    leaving: Vec<(Slot, String)>,
    coming: Vec<(Slot, String)>,
}

struct Pass {
    node: usize,
    claim: Claim,
    /// How many of all keys, in an order of the node's own, have been looked at.
    cursor: usize,
}

impl Model {
    fn new(seed: u64) -> Self {
        let mut nodes = vec![Server::default(); 3];
        for (index, node) in nodes.iter_mut().enumerate() {
            (node.id, node.epoch) = (format!("{index}"), index as u64 + 1);
        }
        for slot in (0..SLOT_COUNT).map(slot) {
            nodes[slot.index() % 3].owned.insert(slot);
        }
        let keys = (0..SLOTS).map(|slot| vec![usize::from(slot) % 3; KEYS]).collect();
        let random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let (coverage, passes, returned) = (SlotCoverage::default(), Vec::new(), Vec::new());
        Self { random, nodes, keys, ids: 3, coverage, passes, returned }
    }

    fn below(&mut self, bound: usize) -> usize {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.random >> 33) as usize % bound
    }

    /// Gives whether it ended while slots were still moving.
    fn run(&mut self) -> usize {
        let (moves, calm) = (self.below(24), 400 + self.below(800));
        for step in 0..20_000 {
            if self.coverage.is_complete() {
                let missing = (0..SLOTS).flat_map(|slot| (0..KEYS).map(move |key| (slot, key)));
                let missing: Vec<_> = missing.filter(|key| !self.returned.contains(key)).collect();
                assert_eq!(missing, [], "keys that were not returned");
                return usize::from(step < calm);
            }
            if step < calm && self.below(24) < moves {
                self.change();
            } else {
                self.scan();
            }
        }
        panic!("the scan does not end");
    }

    fn owner(&self, slot: Slot) -> usize {
        self.nodes.iter().position(|node| node.owned.contains(slot)).unwrap()
    }

    fn index_of(&self, id: &str) -> Option<usize> {
        self.nodes.iter().position(|node| node.id == id)
    }

    /// Moves a slot or a key a step further, or lets a replica take over.
    fn change(&mut self) {
        let number = self.below(usize::from(SLOTS)) as u16;
        let slot = slot(number);
        let from = self.owner(slot);
        let to = node_of(&self.nodes[from].leaving, slot).and_then(|id| self.index_of(id));
        match (to, self.below(10)) {
            (_, 0) if self.below(4) == 0 => {
                let node = self.below(3);
                self.nodes[node].id = format!("{}", self.ids);
                self.ids += 1;
                self.nodes[node].epoch = self.highest() + 1;
                self.nodes[node].leaving.clear();
                self.nodes[node].coming.clear();
            }
            (None, _) => {
                // Where some of its keys are already, if the last move was broken off.
                let elsewhere = self.keys[usize::from(number)].iter().find(|node| **node != from).copied();
                let to = elsewhere.unwrap_or((from + 1 + self.below(2)) % 3);
                self.open(slot, from, to);
            }
            (Some(to), 1..=4) => {
                self.keys[usize::from(number)].iter_mut().for_each(|node| *node = to);
                self.close(slot);
                self.nodes[from].owned =
                    self.nodes[from].owned.iter().filter(|owned| *owned != slot).collect();
                self.nodes[to].owned.insert(slot);
                if self.nodes[to].epoch < self.highest() {
                    self.nodes[to].epoch = self.highest() + 1;
                }
            }
            (Some(to), _) => {
                let key = self.below(KEYS);
                self.keys[usize::from(number)][key] = to;
            }
        }
        // Whoever moves slots sets a target anew that has forgotten of it.
        for slot in (0..SLOTS).filter_map(Slot::new) {
            let from = self.owner(slot);
            let to = node_of(&self.nodes[from].leaving, slot).map(|id| self.index_of(id));
            match to {
                Some(Some(to)) if node_of(&self.nodes[to].coming, slot).is_none() => {
                    self.open(slot, from, to);
                }
                Some(None) => self.close(slot),
                _ => {}
            }
        }
    }

    fn highest(&self) -> u64 {
        self.nodes.iter().map(|node| node.epoch).max().unwrap()
    }

    fn open(&mut self, slot: Slot, from: usize, to: usize) {
        self.close(slot);
        let (from_id, to_id) = (self.nodes[from].id.clone(), self.nodes[to].id.clone());
        self.nodes[from].leaving.push((slot, to_id));
        self.nodes[from].leaving.sort();
        self.nodes[to].coming.push((slot, from_id));
        self.nodes[to].coming.sort();
    }

    fn close(&mut self, slot: Slot) {
        for node in &mut self.nodes {
            node.leaving.retain(|(moving, _)| *moving != slot);
            node.coming.retain(|(moving, _)| *moving != slot);
        }
    }

    /// Begins a pass, or takes one a step further.
    fn scan(&mut self) {
        if self.below(50) == 0 {
            self.resume();
        }
        if self.passes.is_empty() || (self.passes.len() < 2 && self.below(3) == 0) {
            let owners = self.coverage.to_do().map(|slot| self.owner(slot)).collect::<Vec<_>>();
            let ids: Vec<_> = self.coverage.halves().map(|half| half.to.clone()).collect();
            for gone in ids.iter().filter(|id| self.index_of(id).is_none()).cloned().collect::<Vec<_>>() {
                self.coverage.reopen(&gone);
            }
            let halves = ids.iter().filter_map(|id| self.index_of(id));
            let mut candidates: Vec<_> = owners.into_iter().chain(halves).collect();
            candidates.retain(|node| self.passes.iter().all(|pass| pass.node != *node));
            if !candidates.is_empty() {
                let node = candidates[self.below(candidates.len())];
                let claim = self.coverage.claim(&self.view(node));
                self.passes.push(Pass { node, claim, cursor: 0 });
            }
            return;
        }
        let index = self.below(self.passes.len());
        let all = usize::from(SLOTS) * KEYS;
        let pass = &mut self.passes[index];
        if pass.cursor < all {
            // Each node has an order of its own.
            let place = (pass.cursor * 7 + pass.node * 5) % all;
            pass.cursor += 1;
            let (slot, key) = (place / KEYS, place % KEYS);
            if self.keys[slot][key] == pass.node {
                self.returned.push((slot as u16, key));
            }
            return;
        }
        let pass = self.passes.swap_remove(index);
        let end = self.view(pass.node);
        self.coverage.conclude(&pass.claim, &end);
    }

    /// The scan goes on as its token has it.
    fn resume(&mut self) {
        let passes = self.passes.iter().map(|pass| Bookmark {
            node: None,
            run_id: String::new(),
            cursor: String::new(),
            claim: Some(pass.claim.clone()),
        });
        let token = ResumeToken {
            coverage: self.coverage.clone(),
            passes: passes.collect(),
            ..ResumeToken::default()
        };
        let token = ResumeToken::decode(&token.encode()).unwrap();
        self.coverage = token.coverage;
        for (pass, bookmark) in self.passes.iter_mut().zip(token.passes) {
            pass.claim = bookmark.claim.unwrap();
        }
    }

    fn view(&self, node: usize) -> NodeView {
        let peer = |node: &Server| Peer { id: node.id.clone(), address: None, epoch: node.epoch };
        let own = &self.nodes[node];
        let mut view = NodeView {
            id: own.id.clone(),
            is_primary: true,
            epoch: own.epoch,
            owned: own.owned.clone(),
            leaving: own.leaving.clone(),
            coming: own.coming.clone(),
            peers: self.nodes.iter().map(peer).collect(),
        };
        view.peers.sort_by(|one, other| one.id.cmp(&other.id));
        view
    }
}
