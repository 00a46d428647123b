//! The machine with servers that answer at once, whatever a test wants.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use keyslot_core::address::NodeAddr;
use keyslot_core::cluster::{Cluster, Command, ConnId, Destination, Input, Output, Token};
use keyslot_core::config::Config;
use keyslot_core::resp::take_request;
use keyslot_core::time::Instant;

/// What the servers answer to a command.
pub(crate) type Answer<'a> = dyn FnMut(&[&[u8]]) -> Option<Bytes> + 'a;

pub(crate) struct Machine {
    pub(crate) cluster: Cluster,
    pub(crate) now: Instant,
    open: HashMap<ConnId, SocketAddr>,
    /// Those of them that are dialled.
    dialled: HashSet<ConnId>,
    /// The most that were dialled at the same time, and the most names that were looked up.
    pub(crate) dialled_max: usize,
    pub(crate) looked_up_max: usize,
    looked_up: HashSet<ConnId>,
    /// How often each port was dialled.
    pub(crate) dials: HashMap<u16, usize>,
    /// What becomes of a dial.
    pub(crate) dial: fn(SocketAddr) -> Dial,
    /// The most connections that were open or dialled at the same time.
    pub(crate) open_max: usize,
    /// How many sockets the host has, and how often it had none.
    pub(crate) sockets: usize,
    pub(crate) refused: usize,
    pub(crate) done: Vec<Token>,
    pub(crate) failed: Vec<String>,
}

/// What becomes of a dial.
pub(crate) enum Dial {
    Opens,
    /// And is closed when something is written.
    OpensAndCloses,
    NeverOpens,
}

/// Where every client begins.
pub(crate) fn config() -> Config {
    Config::new(vec![NodeAddr::new("127.0.0.1", 7000)])
}

/// The address of the node with this number.
pub(crate) fn address(number: usize) -> NodeAddr {
    NodeAddr::new(&format!("10.{}.{}.{}", number >> 16, (number >> 8) & 255, number & 255), 7000)
}

impl Machine {
    pub(crate) fn new(config: Config) -> Self {
        let now = Instant::from_nanoseconds(1);
        Self {
            cluster: Cluster::new(config, now, 1),
            now,
            open: HashMap::new(),
            dialled: HashSet::new(),
            dialled_max: 0,
            looked_up_max: 0,
            looked_up: HashSet::new(),
            dials: HashMap::new(),
            dial: |_| Dial::Opens,
            open_max: 0,
            sockets: usize::MAX,
            refused: 0,
            done: Vec::new(),
            failed: Vec::new(),
        }
    }

    fn closes(&self, conn: ConnId) -> bool {
        let address = self.open.get(&conn);
        address.is_some_and(|address| matches!((self.dial)(*address), Dial::OpensAndCloses))
    }

    /// Lets time pass.
    pub(crate) fn wait(&mut self, time: Duration, answer: &mut Answer<'_>) {
        self.now = self.now + time;
        self.cluster.handle(self.now, Input::Tick);
        self.run(answer);
    }

    pub(crate) fn submit(&mut self, command: Command, destination: &Destination) {
        self.cluster.submit(self.now, command, destination, Token::default());
    }

    /// Does what the machine wants until it wants nothing more: one event for each dial, and one
    /// for each write.
    pub(crate) fn run(&mut self, answer: &mut Answer<'_>) {
        let mut inputs = VecDeque::new();
        loop {
            let output = self.cluster.poll_output();
            if !matches!(output, Output::WaitUntil(_)) {
                inputs.extend(self.carry_out(output, answer));
                continue;
            }
            let Some(input) = inputs.pop_front() else { return };
            match &input {
                Input::Resolved { conn, .. } => drop(self.looked_up.remove(conn)),
                Input::Connected { conn } | Input::Closed { conn, .. } => {
                    self.dialled.remove(conn);
                }
                _ => {}
            }
            self.cluster.handle(self.now, input);
        }
    }

    /// Does one thing, and returns what will come of it.
    fn carry_out(&mut self, output: Output, answer: &mut Answer<'_>) -> Option<Input> {
        match output {
            Output::Resolve { conn, .. } => {
                self.looked_up.insert(conn);
                self.looked_up_max = self.looked_up_max.max(self.looked_up.len());
                return Some(Input::Resolved { conn, result: Ok(vec![[127, 0, 0, 1].into()]) });
            }
            Output::Connect { conn, address } => return self.connect(conn, address),
            Output::Transmit { conn, .. } if self.closes(conn) => {
                self.open.remove(&conn);
                return Some(Input::Closed { conn, reason: "the connection was closed".to_owned() });
            }
            Output::Transmit { conn, bytes } => {
                return Some(Input::Received { conn, bytes: replies(&bytes, answer) });
            }
            Output::Close { conn } => {
                self.open.remove(&conn);
                self.dialled.remove(&conn);
                self.looked_up.remove(&conn);
            }
            Output::Done { token, result } => {
                self.done.push(token);
                self.failed.extend(result.err().map(|error| error.to_string()));
            }
            Output::Ready(_) | Output::WaitUntil(_) => {}
        }
        None
    }

    fn connect(&mut self, conn: ConnId, address: SocketAddr) -> Option<Input> {
        if self.open.len() >= self.sockets {
            self.refused += 1;
            let reason = "no descriptor is left".to_owned();
            self.cluster.handle(self.now, Input::NoSocket { conn, reason });
            return None;
        }
        self.open.insert(conn, address);
        self.open_max = self.open_max.max(self.open.len());
        self.dialled.insert(conn);
        self.dialled_max = self.dialled_max.max(self.dialled.len());
        *self.dials.entry(address.port()).or_default() += 1;
        (!matches!((self.dial)(address), Dial::NeverOpens)).then_some(Input::Connected { conn })
    }
}

/// What the servers answer to what was sent in one write.
fn replies(mut bytes: &[u8], answer: &mut Answer<'_>) -> Bytes {
    let mut replies = Vec::new();
    let mut args = Vec::new();
    while let Ok(Some(_)) = take_request(&mut bytes, &mut args) {
        match answer(&args) {
            Some(reply) => replies.extend_from_slice(&reply),
            None if args[0] == b"HELLO" => replies.extend_from_slice(b"%1\r\n$5\r\nproto\r\n:3\r\n"),
            None if args == [&b"CLIENT"[..], b"ID"] => replies.extend_from_slice(b":7\r\n"),
            None if args[0] == b"CLUSTER" => replies.extend_from_slice(b"-ERR no\r\n"),
            None => replies.extend_from_slice(b"+OK\r\n"),
        }
    }
    replies.into()
}

/// A list of RESP: its items.
pub(crate) fn array(items: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    let items: Vec<_> = items.into_iter().collect();
    let mut out = format!("*{}\r\n", items.len()).into_bytes();
    items.iter().for_each(|item| out.extend_from_slice(item));
    out
}

pub(crate) fn text(text: &str) -> Vec<u8> {
    format!("${}\r\n{text}\r\n", text.len()).into_bytes()
}

pub(crate) fn number(number: usize) -> Vec<u8> {
    format!(":{number}\r\n").into_bytes()
}

/// A node's id.
pub(crate) fn id(number: usize) -> String {
    format!("{number:040x}")
}

/// CLUSTER SLOTS of this many shards: the slots in turn by `slots`, and the numbers of each shard's
/// nodes.
pub(crate) fn cluster_slots(shards: impl IntoIterator<Item = (usize, usize, Vec<usize>)>) -> Bytes {
    let node = |node: &usize| {
        let place = address(*node);
        array([text(place.host()), number(place.port().into()), text(&id(*node))])
    };
    let row = |(first, last, nodes): (usize, usize, Vec<usize>)| {
        array([number(first), number(last)].into_iter().chain(nodes.iter().map(node)))
    };
    array(shards.into_iter().map(row)).into()
}

/// CLUSTER SHARDS of the same.
pub(crate) fn cluster_shards(shards: impl IntoIterator<Item = (Vec<usize>, Vec<usize>)>) -> Bytes {
    let node = |(place, node): (usize, &usize)| {
        let role = if place == 0 { "master" } else { "replica" };
        let fields =
            [("id", id(*node)), ("endpoint", address(*node).host().to_owned()), ("role", role.to_owned())];
        let fields = fields.into_iter().flat_map(|(name, value)| [text(name), text(&value)]);
        let rest = [text("port"), number(7000), text("health"), text("online")];
        array(fields.chain(rest))
    };
    let shard = |(slots, nodes): (Vec<usize>, Vec<usize>)| {
        let slots = array(slots.into_iter().map(number));
        let nodes = array(nodes.iter().enumerate().map(node));
        array([text("slots"), slots, text("nodes"), nodes])
    };
    array(shards.into_iter().map(shard)).into()
}
