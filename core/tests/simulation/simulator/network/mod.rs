//! The network between the client and the servers: dials, pieces of bytes, cuts, and links that
//! hold or lose everything.
//!
//! Bytes keep their order in each direction of a connection; everything else (where they are split,
//! how long they take, where a connection is cut) comes from the choices.
//!
//! | module | what it is |
//! |---|---|
//! | [`dial`] | look-ups and new connections |
//! | [`send`] | from the client to a server |
//! | [`serve`] | what a server makes of it, and its answers |
//! | [`events`] | what arrives at the client |
//! | [`ends`] | connections that end, and links that do not work |
//! | [`odd`] | nodes that drip, read nothing or push without end |

mod dial;
mod ends;
mod events;
mod odd;
mod send;
mod serve;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use keyslot_core::cluster::ConnId;

use super::clock::Event;
use super::manners::{Manners, is_greeting};
use super::server::Session;
use super::weather::Weather;
use super::wire::Words;
use super::world::{MILLISECOND, World};

/// Nobody listens at the first, and nothing comes back from the second.
pub(crate) const REFUSED: Ipv4Addr = Ipv4Addr::new(10, 9, 9, 9);
pub(crate) const SILENT: Ipv4Addr = Ipv4Addr::new(10, 9, 9, 8);

/// All connections, and what was sent on them.
#[derive(Debug)]
pub(super) struct Network<A> {
    weather: Weather,
    conns: BTreeMap<ConnId, Conn>,
    /// Between the client and each node.
    links: Vec<Link>,
    /// What waits until a node's link is open again.
    held: Vec<(usize, Event<A>)>,
    dials: u64,
    /// How many sockets the client's host has, and how often it had none.
    sockets: usize,
    refused: u64,
    sent: Vec<Sent>,
}

/// One Transmit, taken apart.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) node: usize,
    pub(crate) commands: Vec<Words>,
}

impl Sent {
    pub(crate) fn names(&self) -> Vec<String> {
        self.commands.iter().map(|words| String::from_utf8_lossy(&words[0]).to_ascii_uppercase()).collect()
    }
}

/// What becomes of the packets between the client and a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    Open,
    /// They are on their way until the link is open again, as TCP sends them again and again.
    Held,
    /// They are gone, and so is each connection that had some, without a sign.
    Lost,
}

/// Where a connection is in the driver's hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Resolving,
    Resolved,
    Dialling,
    Open,
    Closed,
}

#[derive(Debug)]
struct Conn {
    phase: Phase,
    /// Counts the dials: what happens to an earlier one is not told.
    dial: u32,
    node: Option<usize>,
    /// `None` before the connection is open, and when the server's end is gone.
    session: Option<Session>,
    /// The manners of the address, where they are others than the node's.
    manners: Option<Manners>,
    /// Whether it has been answered anything.
    greeted: bool,
    /// Whether more than a handshake was sent on it.
    is_past_greeting: bool,
    inbox: Vec<u8>,
    /// When the last piece under way arrives, each way.
    to_server_at: u64,
    to_client_at: u64,
    /// Nothing that is sent from now on arrives, either way.
    severed: bool,
    /// It has ended, and the client may dial the host's next address at once.
    redialable: bool,
    /// The last borrower who has used it.
    lease: Option<u64>,
    /// How many addresses were dialled for it.
    addresses: u32,
    /// What the node has yet to let fall, and how long it takes from one byte to the next; zero:
    /// the rest at once.
    dripping: Vec<u8>,
    drip_every: u64,
    /// What the driver could not write, because nobody reads. Closing the connection drops it and
    /// waits for nothing.
    unwritten: Vec<u8>,
}

impl Conn {
    fn new(phase: Phase) -> Self {
        Self {
            phase,
            dial: 0,
            node: None,
            session: None,
            manners: None,
            greeted: false,
            is_past_greeting: false,
            inbox: Vec::new(),
            to_server_at: 0,
            to_client_at: 0,
            severed: false,
            redialable: false,
            lease: None,
            addresses: 0,
            dripping: Vec::new(),
            drip_every: 0,
            unwritten: Vec::new(),
        }
    }
}

impl<A> Network<A> {
    /// With open links to so many nodes.
    pub(super) fn new(weather: Weather, nodes: usize) -> Self {
        Self {
            weather,
            conns: BTreeMap::new(),
            links: vec![Link::Open; nodes],
            held: Vec::new(),
            dials: 0,
            sockets: usize::MAX,
            refused: 0,
            sent: Vec::new(),
        }
    }
}

impl<A: std::fmt::Debug> World<A> {
    pub(crate) fn weather(&mut self) -> &mut Weather {
        &mut self.network.weather
    }

    /// How many times the client has dialled.
    pub(crate) fn dials(&self) -> u64 {
        self.network.dials
    }

    /// From now on the client's host has so many sockets.
    pub(super) fn limit_sockets(&mut self, sockets: usize) {
        self.network.sockets = sockets;
    }

    /// Whether the host had no socket for the client at some time.
    pub(super) fn was_short_of_sockets(&self) -> bool {
        self.network.refused > 0
    }

    /// What the client has sent, a Transmit each.
    pub(crate) fn sent(&self) -> &[Sent] {
        &self.network.sent
    }

    pub(super) fn is_with_stranger(&self, conn: ConnId) -> bool {
        let session = self.network.conns.get(&conn).and_then(|state| state.session.as_ref());
        session.is_some_and(|session| session.stranger.is_some())
    }

    /// Whether the connection was in phase `from`; then it is in `to`.
    fn advance(&mut self, conn: ConnId, from: Phase, to: Phase) -> bool {
        let state = self.conn(conn);
        let fits = state.phase == from;
        if fits {
            state.phase = to;
        }
        fits
    }

    fn conn(&mut self, conn: ConnId) -> &mut Conn {
        self.network.conns.get_mut(&conn).unwrap_or_else(|| panic!("INVARIANT: {conn:?} exists"))
    }

    fn enter(&mut self, conn: ConnId, phase: Phase) {
        let before = self.network.conns.insert(conn, Conn::new(phase));
        assert!(before.is_none(), "INVARIANT: {conn:?} is new");
    }

    fn latency(&mut self) -> u64 {
        let (low, high) = self.network.weather.latency;
        let slow = self.network.weather.slow;
        let late = if self.choices.chance(slow) { self.choices.between(100, 3000) * MILLISECOND } else { 0 };
        self.choices.between(low, high) + late
    }

    fn split(&mut self, bytes: Vec<u8>) -> Vec<Vec<u8>> {
        let percent = self.network.weather.split;
        let mut pieces = vec![bytes];
        while pieces.len() < 4 && self.choices.chance(percent) {
            let last = pieces.last_mut().expect("never empty");
            if last.len() < 2 {
                break;
            }
            let at = 1 + self.choices.index(last.len() - 1);
            let rest = last.split_off(at);
            pieces.push(rest);
        }
        pieces
    }

    /// The connections that are open, to this node or to any.
    pub(crate) fn open_conns(&self, node: Option<usize>) -> Vec<ConnId> {
        let open = |state: &Conn| state.phase == Phase::Open && (node.is_none() || state.node == node);
        self.network.conns.iter().filter(|(_, state)| open(state)).map(|(conn, _)| *conn).collect()
    }

    /// Whether somebody has sent MULTI to the node, and not yet EXEC.
    pub(crate) fn is_in_transaction(&self, node: usize) -> bool {
        let sessions = self.network.conns.values().filter_map(|state| state.session.as_ref());
        sessions.filter(|session| session.node == node).any(|session| session.transaction.is_some())
    }

    /// How many connections are open to the client alone.
    pub(crate) fn silent_conns(&self) -> usize {
        self.network.conns.values().filter(|state| state.phase == Phase::Open && state.severed).count()
    }

    /// How many connections the client holds, in whatever phase.
    pub(crate) fn held(&self) -> usize {
        self.network.conns.values().filter(|state| state.phase != Phase::Closed).count()
    }
}

/// Whether a command is none of the handshake's.
fn is_request(words: &Words) -> bool {
    !is_greeting(words)
}

pub(super) fn line(words: &Words) -> String {
    let words: Vec<_> = words.iter().map(|word| shown(word)).collect();
    words.join(" ")
}

pub(super) fn shown(bytes: &[u8]) -> String {
    const SHOWN: usize = 160;
    let more = if bytes.len() > SHOWN { "…" } else { "" };
    format!("{}{more}", bytes.get(..SHOWN).unwrap_or(bytes).escape_ascii())
}
