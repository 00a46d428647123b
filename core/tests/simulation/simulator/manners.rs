//! How a node treats its connections and shapes its answers when it is not well: drips, sockets that nobody reads,
//! answers of other shapes and lengths than they have by right.
//!
//! A drip and what could not be written are per connection; they end with [`World::behave`].

use keyslot_core::cluster::ConnId;

use super::busy::LongScripts;
use super::network::Phase;
use super::server::Servers;
use super::wire::{Answer, Words};
use super::world::{Event, World};

/// Nodes in a list that is as long as lists may be.
pub(crate) const NODES_MAX: usize = 4_096;

/// What is odd about a node.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Manners {
    /// It answers byte by byte, so many nanoseconds apart.
    pub(crate) drip: Option<u64>,
    /// It reads nothing: what the buffers on the way do not take stays with the client's driver.
    pub(crate) is_stuck: bool,
    /// It answers the handshake, and then nothing.
    pub(crate) only_greets: bool,
    /// Its scripts run until they are killed.
    pub(crate) scripts: Option<LongScripts>,
    /// What it answers to EXEC, when it would be the results.
    pub(crate) exec: Option<Shape>,
    /// Its errors have so many bytes; redirects are as they are.
    pub(crate) error_length: usize,
    /// Its CLUSTER SLOTS is as long as it may be.
    pub(crate) list: Option<List>,
}

/// What EXEC is answered with instead of one result for each command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    TooFew,
    TooMany,
    Nothing,
    Map,
    Integer,
    Text,
}

/// How a list comes to its limit without saying anything untrue of the slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum List {
    /// Each slot is a range.
    Ranges,
    /// The first range has replicas that nobody has heard of.
    Nodes,
}

impl Shape {
    pub(super) fn of(self, answer: Answer) -> Answer {
        let Answer::Array(mut results) = answer else { return answer };
        match self {
            Self::TooFew => drop(results.pop()),
            Self::TooMany => results.push(Answer::Integer(1)),
            Self::Nothing => results.clear(),
            Self::Map => {
                return Answer::Map(vec![("first", Answer::Integer(1)), ("second", Answer::Integer(2))]);
            }
            Self::Integer => return Answer::Integer(2),
            Self::Text => return Answer::Simple("OK"),
        }
        Answer::Array(results)
    }
}

impl Servers {
    /// The answer as the node words it.
    pub(super) fn worded(&self, node: usize, answer: Answer) -> Answer {
        let length = self.nodes[node].manners.error_length;
        match answer {
            Answer::Error(text) if text.len() < length && !is_redirect(&text) => {
                let more = length - text.len() - 1;
                Answer::Error(format!("{text} {}", "x".repeat(more)))
            }
            answer => answer,
        }
    }

    /// A node's ranges, as many as there may be.
    pub(super) fn spread_out(
        &self,
        node: usize,
        ranges: Vec<(usize, usize, usize)>,
    ) -> Vec<(usize, usize, usize)> {
        match self.nodes[node].manners.list {
            Some(List::Ranges) => {
                let slots = |(first, last, owner)| (first..=last).map(move |slot| (slot, slot, owner));
                ranges.into_iter().flat_map(slots).collect()
            }
            Some(List::Nodes) | None => ranges,
        }
    }

    /// Replicas that nobody has heard of, for the range that begins at this slot.
    pub(super) fn strangers(&self, node: usize, first: usize) -> Vec<Answer> {
        if self.nodes[node].manners.list != Some(List::Nodes) || first != 0 {
            return Vec::new();
        }
        let stranger = |number: usize| {
            let host = Answer::text(&format!("10.200.{}.{}", number / 256, number % 256));
            let id = Answer::text(&format!("{:040x}", 1_000 + number));
            Answer::Array(vec![host, Answer::Integer(6379), id, Answer::Array(Vec::new())])
        };
        (0..NODES_MAX - self.nodes.len()).map(stranger).collect()
    }
}

fn is_redirect(text: &str) -> bool {
    text.starts_with("MOVED") || text.starts_with("ASK")
}

/// Whether a command is one of the handshake's.
pub(super) fn is_greeting(words: &Words) -> bool {
    matches!(&words[0][..], b"HELLO" | b"AUTH" | b"CLIENT" | b"SELECT" | b"READONLY")
}

impl<A: std::fmt::Debug> World<A> {
    /// Lets what a node sends drip, when it does; else gives it back.
    pub(super) fn hold_for_drip(&mut self, conn: ConnId, bytes: Vec<u8>) -> Option<Vec<u8>> {
        let node = self.conn(conn).node;
        let drip = node.and_then(|node| self.servers.nodes[node].manners.drip);
        let state = self.conn(conn);
        if state.dripping.is_empty() {
            let Some(every) = drip else { return Some(bytes) };
            state.drip_every = every;
            let at = self.now + every;
            self.schedule(at, Event::Drip(conn));
        }
        self.conn(conn).dripping.extend(bytes);
        None
    }

    /// The next byte falls.
    pub(super) fn drip(&mut self, conn: ConnId) {
        let state = self.conn(conn);
        if state.phase != Phase::Open || state.severed {
            state.dripping.clear();
        }
        let every = state.drip_every;
        let length = if every == 0 { state.dripping.len() } else { 1 };
        let bytes: Vec<_> = state.dripping.drain(..length.min(state.dripping.len())).collect();
        if bytes.is_empty() {
            return;
        }
        let is_last = state.dripping.is_empty();
        self.deliver(conn, bytes, false);
        if !is_last {
            let at = self.now + every;
            self.schedule(at, Event::Drip(conn));
        }
    }

    /// From now on the node behaves; what has been held back comes.
    pub(crate) fn behave(&mut self, node: usize) {
        self.servers.nodes[node].manners = Manners::default();
        let conns = self.conns.iter().filter(|(_, state)| state.node == Some(node));
        for conn in conns.map(|(conn, _)| *conn).collect::<Vec<_>>() {
            // The next drop is all that is left.
            self.conn(conn).drip_every = 0;
            let bytes = std::mem::take(&mut self.conn(conn).unwritten);
            let state = self.conn(conn);
            if !bytes.is_empty() && state.phase == Phase::Open && !state.severed {
                self.send(conn, bytes);
            }
        }
        if !self.servers.nodes[node].paused {
            self.resume(node);
        }
    }

    /// All that is open to this node and speaks RESP3 gets this push.
    pub(crate) fn flood(&mut self, node: usize, kind: u64) {
        for conn in self.open_conns(Some(node)) {
            self.push(conn, kind);
        }
    }
}
