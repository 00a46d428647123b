//! The network between the client and the servers: dials, pieces of bytes, cuts, and links that
//! hold or lose everything.
//!
//! Bytes keep their order in each direction of a connection; everything else (where they are split,
//! how long they take, where a connection is cut) comes from the choices.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use bytes::Bytes;
use keyslot_core::cluster::ConnId;

use super::busy::Turn;
use super::coverage::Feature;
use super::manners::{Manners, Refusal, is_greeting};
use super::server::{Reach, Session, arguments, lease_of_marker};
use super::store::number_of;
use super::wire::{Answer, Garbage, Push, Words, take_command};
use super::world::{Event, MILLISECOND, Sent, World};

/// Nobody listens at the first, and nothing comes back from the second.
pub(crate) const REFUSED: Ipv4Addr = Ipv4Addr::new(10, 9, 9, 9);
pub(crate) const SILENT: Ipv4Addr = Ipv4Addr::new(10, 9, 9, 8);

/// How badly the network behaves: percentages, and the latency of a piece of bytes.
#[derive(Clone, Debug)]
pub(crate) struct Weather {
    pub(crate) latency: (u64, u64),
    pub(crate) split: u64,
    pub(crate) refuse: u64,
    pub(crate) silent_dial: u64,
    pub(crate) lookup_failure: u64,
    /// Every name has this address too, and first.
    pub(crate) first_address: Option<Ipv4Addr>,
    pub(crate) slow: u64,
    pub(crate) cut: u64,
    pub(crate) garbage: u64,
    /// Pushes between two replies (RESP3).
    pub(crate) pushes: u64,
}

impl Weather {
    pub(crate) fn calm() -> Self {
        let latency = (MILLISECOND, MILLISECOND);
        Self {
            latency,
            split: 0,
            refuse: 0,
            silent_dial: 0,
            lookup_failure: 0,
            first_address: None,
            slow: 0,
            cut: 0,
            garbage: 0,
            pushes: 0,
        }
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
pub(super) enum Phase {
    Resolving,
    Resolved,
    Dialling,
    Open,
    Closed,
}

#[derive(Debug)]
pub(super) struct Conn {
    pub(super) phase: Phase,
    /// Counts the dials: what happens to an earlier one is not told.
    pub(super) dial: u32,
    pub(super) node: Option<usize>,
    /// `None` before the connection is open, and when the server's end is gone.
    pub(super) session: Option<Session>,
    /// The manners of the address, where they are others than the node's.
    pub(super) manners: Option<Manners>,
    /// Whether it has been answered anything.
    greeted: bool,
    /// Whether more than a handshake was sent on it.
    pub(super) is_past_greeting: bool,
    inbox: Vec<u8>,
    /// When the last piece under way arrives, each way.
    to_server_at: u64,
    to_client_at: u64,
    /// Nothing that is sent from now on arrives, either way.
    pub(super) severed: bool,
    /// It has ended, and the client may dial the host's next address at once.
    pub(super) redialable: bool,
    /// Whether a borrower has used it.
    is_exclusive: bool,
    /// What the node has yet to let fall, and how long it takes from one byte to the next; zero:
    /// the rest at once.
    pub(super) dripping: Vec<u8>,
    pub(super) drip_every: u64,
    /// What the driver could not write, because nobody reads. Closing the connection drops it and
    /// waits for nothing.
    pub(super) unwritten: Vec<u8>,
}

impl<A: std::fmt::Debug> World<A> {
    /// Whether the connection was in phase `from`; then it is in `to`.
    pub(super) fn advance(&mut self, conn: ConnId, from: Phase, to: Phase) -> bool {
        let state = self.conn(conn);
        let fits = state.phase == from;
        if fits {
            state.phase = to;
        }
        fits
    }

    pub(super) fn conn(&mut self, conn: ConnId) -> &mut Conn {
        self.conns.get_mut(&conn).unwrap_or_else(|| panic!("INVARIANT: {conn:?} exists"))
    }

    fn enter(&mut self, conn: ConnId, phase: Phase) {
        let state = Conn {
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
            is_exclusive: false,
            dripping: Vec::new(),
            drip_every: 0,
            unwritten: Vec::new(),
        };
        let before = self.conns.insert(conn, state);
        assert!(before.is_none(), "INVARIANT: {conn:?} is new");
    }

    fn latency(&mut self) -> u64 {
        let (low, high) = self.weather.latency;
        let slow = self.weather.slow;
        let late = if self.choices.chance(slow) { self.choices.between(100, 3000) * MILLISECOND } else { 0 };
        self.choices.between(low, high) + late
    }

    pub(super) fn resolve(&mut self, conn: ConnId, host: &str) {
        self.log(|| format!("{conn:?} resolve {host}"));
        let node = self.servers.nodes.iter().find(|node| node.host == host);
        let mut result = node.map(|node| vec![node.address.ip()]).ok_or_else(|| "no such host".to_string());
        if let (Some(first), Ok(addresses)) = (self.weather.first_address, &mut result) {
            addresses.insert(0, IpAddr::V4(first));
        }
        self.enter(conn, Phase::Resolving);
        let percent = self.weather.lookup_failure;
        if let (true, Ok(addresses)) = (self.choices.chance(percent), &mut result) {
            // The first of two addresses leads nowhere.
            addresses.insert(0, IpAddr::V4(self.choices.pick(&[REFUSED, SILENT])));
        }
        let at = self.now + self.latency();
        let percent = self.weather.lookup_failure;
        match self.choices.chance(percent) {
            false => self.schedule(at, Event::Resolved(conn, result)),
            true if self.choices.chance(50) => {
                self.schedule(at, Event::Resolved(conn, Err("try again".into())));
            }
            // The look-up never ends.
            true => {}
        }
    }

    pub(super) fn connect(&mut self, conn: ConnId, address: SocketAddr) {
        self.log(|| format!("{conn:?} connect {address}"));
        self.dials += 1;
        if self.conns.contains_key(&conn) {
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
        let dial = self.conn(conn).dial;
        let at = self.now + self.latency();
        let (node, manners) = self.servers.at(address);
        self.conn(conn).manners = manners;
        let (refuse, silent) = (self.weather.refuse, self.weather.silent_dial);
        let refused = self.choices.chance(refuse);
        let link = node.map_or(Link::Open, |node| self.links[node]);
        self.servers.catch_up(self.now);
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

    pub(super) fn transmit(&mut self, conn: ConnId, bytes: &Bytes) {
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
        self.sent.push(Sent { node, commands });
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
        let cut = self.weather.cut;
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
            at = at.max(self.now + self.latency());
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
            if words.get(1).is_some_and(|word| lease_of_marker(word).is_some()) {
                self.conn(conn).is_exclusive = true;
                let lent = |state: &&Conn| {
                    state.is_exclusive && state.phase != Phase::Closed && state.node == Some(node)
                };
                let lent = self.conns.values().filter(lent).count();
                let most = self.config.pool.connections_max as usize;
                assert!(
                    lent <= most,
                    "INVARIANT: {lent} connections of node {node} are lent, {most} at most"
                );
            }
            if name == "CLUSTER" && words[1] == b"SLOTS" && self.ready.is_some() {
                self.asked.push(self.machine_now().as_nanoseconds());
            }
            if let Some((keys, writes)) = arguments(&name, words)
                && !self.servers.were_primaries.contains(&node)
                && !self.is_misled
                && !self.addressed.contains(&number_of(&keys[0]).unwrap_or(0))
            {
                assert!(
                    !writes && self.may_read_replicas,
                    "INVARIANT: replicas get reads, where the settings allow it: {} at node {node}",
                    line(words)
                );
            }
        }
    }

    fn split(&mut self, bytes: Vec<u8>) -> Vec<Vec<u8>> {
        let percent = self.weather.split;
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

    pub(super) fn arrive(&mut self, conn: ConnId, bytes: &[u8]) {
        let state = self.conn(conn);
        state.inbox.extend_from_slice(bytes);
        self.serve(conn);
    }

    /// The server takes what has arrived on this connection.
    fn serve(&mut self, conn: ConnId) {
        let Some(mut session) = self.conn(conn).session.take() else { return };
        let node = session.node;
        self.servers.catch_up(self.now);
        let manners = self.conn(conn).manners.unwrap_or(self.servers.nodes[node].manners);
        let state = &self.servers.nodes[node];
        let reaches = state.reach == Reach::Up || session.stranger.is_some();
        let running = !state.paused && !manners.is_stuck && reaches;
        let (only_greets, has_long_scripts) = (manners.only_greets, manners.scripts.is_some());
        let mut inbox = if running { std::mem::take(&mut self.conn(conn).inbox) } else { Vec::new() };
        let mut out = Vec::new();
        let (mut spoilt, mut falls_silent, mut hung_up) = (false, false, false);
        loop {
            let before = has_long_scripts.then(|| inbox.clone());
            let Some(words) = take_command(&mut inbox) else { break };
            let answer = match self.turn(conn, node, &words) {
                Turn::Runs => None,
                Turn::Answered(answer) => Some(answer),
                Turn::Waits => {
                    inbox = before.expect("it has manners");
                    break;
                }
                Turn::Begins => break,
            };
            if only_greets && !is_greeting(&words) {
                falls_silent = true;
                break;
            }
            let percent = self.weather.pushes;
            if session.resp3 && self.choices.chance(percent) {
                out.extend(self.choices.pick(&Push::ALL).bytes());
                self.coverage.count(Feature::Push);
            }
            let is_first = !std::mem::replace(&mut self.conn(conn).greeted, true);
            let refused = manners.refusal(is_first, &words);
            self.coverage.count_if(Feature::HandshakeRefused, refused.is_some());
            let hangs_up = matches!(refused, Some(Refusal::HangsUp(_)));
            let asked = self.servers.asked(&session);
            let answer = match refused {
                Some(Refusal::HangsUp(None)) => {
                    hung_up = true;
                    break;
                }
                Some(Refusal::HangsUp(Some(text)) | Refusal::Answers(text)) => Answer::error(text),
                None => answer.unwrap_or_else(|| self.servers.execute(&mut session, &words)),
            };
            let answer = self.servers.worded(node, answer);
            self.coverage.answered(asked, &words, &answer);
            self.log(|| {
                let mut bytes = Vec::new();
                answer.encode(false, &mut bytes);
                format!("{conn:?} node {node} runs {}: {}", line(&words), shown(&bytes))
            });
            let percent = self.weather.garbage;
            if self.choices.chance(percent) {
                out.extend(self.choices.pick(&Garbage::ALL).bytes());
                spoilt = true;
                self.coverage.count(Feature::Garbage);
                break;
            }
            answer.encode(session.resp3, &mut out);
            if hangs_up {
                hung_up = true;
                break;
            }
        }
        let percent = self.weather.cut;
        let state = self.conn(conn);
        if !inbox.is_empty() {
            state.inbox = inbox;
        }
        let severed = state.severed;
        state.session = Some(session);
        if spoilt || falls_silent {
            self.sever(conn);
        }
        if hung_up && !severed {
            if !out.is_empty() {
                self.deliver(conn, out, spoilt);
            }
            return self.cut(conn);
        }
        if out.is_empty() || severed {
            return;
        }
        if !spoilt && self.choices.chance(percent) {
            out.truncate(self.choices.index(out.len() + 1));
            self.reply(conn, out, false);
            self.cut(conn);
        } else {
            self.reply(conn, out, spoilt);
        }
    }

    /// Sends bytes to the client, whatever they are.
    pub(crate) fn reply(&mut self, conn: ConnId, bytes: Vec<u8>, garbage: bool) {
        if let Some(bytes) = self.hold_for_drip(conn, bytes) {
            self.deliver(conn, bytes, garbage);
        }
    }

    /// Bytes set out for the client.
    pub(super) fn deliver(&mut self, conn: ConnId, bytes: Vec<u8>, garbage: bool) {
        let (mut at, dial) = (self.conn(conn).to_client_at, self.conn(conn).dial);
        let pieces = self.split(bytes);
        let count = pieces.len();
        for (index, piece) in pieces.into_iter().enumerate() {
            at = at.max(self.now + self.latency());
            let last_of_garbage = garbage && index + 1 == count;
            self.schedule(at, Event::ToClient { conn, dial, bytes: piece, last_of_garbage });
        }
        self.conn(conn).to_client_at = at;
    }

    /// The server's end goes, without a sign to the client.
    pub(crate) fn sever(&mut self, conn: ConnId) {
        let state = self.conn(conn);
        (state.severed, state.session) = (true, None);
        state.inbox.clear();
        state.unwritten.clear();
    }

    /// The connection ends for both sides, for the client after what is under way to it.
    pub(crate) fn cut(&mut self, conn: ConnId) {
        self.sever(conn);
        self.end(conn);
    }

    fn end(&mut self, conn: ConnId) {
        let at = self.now + self.latency();
        let state = self.conn(conn);
        let (at, dial) = (at.max(state.to_client_at), state.dial);
        self.schedule(at, Event::Ended(conn, dial, "connection reset"));
    }

    /// Takes up what arrived while the node was paused.
    pub(crate) fn resume(&mut self, node: usize) {
        self.servers.nodes[node].paused = false;
        self.take_up(node);
    }

    /// Takes up what has arrived at a node and waits.
    pub(super) fn take_up(&mut self, node: usize) {
        let conns = self.conns.iter().filter(|(_, state)| state.node == Some(node));
        for conn in conns.map(|(conn, _)| *conn).collect::<Vec<_>>() {
            self.serve(conn);
        }
    }

    /// The server says something that nobody asked for, where the connection speaks RESP3.
    pub(crate) fn push(&mut self, conn: ConnId, push: Push) {
        if self.conn(conn).session.as_ref().is_some_and(|session| session.resp3) {
            self.reply(conn, push.bytes(), false);
        }
    }

    /// From now on the packets between the client and this node are treated so.
    pub(crate) fn link(&mut self, node: usize, link: Link) {
        self.links[node] = link;
        match link {
            Link::Held => self.coverage.count(Feature::LinkHeld),
            Link::Lost => {
                self.coverage.count(Feature::LinkLost);
                let conns = self.conns.iter().filter(|(_, state)| state.node == Some(node));
                for conn in conns.map(|(conn, _)| *conn).collect::<Vec<_>>() {
                    self.sever(conn);
                }
            }
            Link::Open => {
                let held = std::mem::take(&mut self.held_events);
                let (released, held) = held.into_iter().partition(|(of, _)| *of == node);
                self.held_events = held;
                // Before what is still under way, which was sent later.
                let at = self.now.saturating_sub(1);
                for (_, event) in Vec::from_iter(released) {
                    self.schedule(at, event);
                }
            }
        }
    }

    /// Whether the event waits until its node's link is open again.
    pub(super) fn hold(&mut self, event: Event<A>) -> Option<Event<A>> {
        let node = event.conn().and_then(|conn| self.conns.get(&conn)).and_then(|state| state.node);
        match node.filter(|node| self.links[*node] == Link::Held) {
            Some(node) => {
                self.held_events.push((node, event));
                None
            }
            None => Some(event),
        }
    }

    /// The connections that are open, to this node or to any.
    pub(crate) fn open_conns(&self, node: Option<usize>) -> Vec<ConnId> {
        let open = |state: &Conn| state.phase == Phase::Open && (node.is_none() || state.node == node);
        self.conns.iter().filter(|(_, state)| open(state)).map(|(conn, _)| *conn).collect()
    }

    /// Whether somebody has sent MULTI to the node, and not yet EXEC.
    pub(crate) fn is_in_transaction(&self, node: usize) -> bool {
        let sessions = self.conns.values().filter_map(|state| state.session.as_ref());
        sessions.filter(|session| session.node == node).any(|session| session.transaction.is_some())
    }

    /// How many connections are open to the client alone.
    pub(crate) fn silent_conns(&self) -> usize {
        self.conns.values().filter(|state| state.phase == Phase::Open && state.severed).count()
    }

    /// How many connections the client holds, in whatever phase.
    pub(crate) fn held(&self) -> usize {
        self.conns.values().filter(|state| state.phase != Phase::Closed).count()
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
