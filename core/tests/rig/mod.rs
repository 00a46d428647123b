//! A server of one's own for the machine: it answers what the client asks for itself, and keeps
//! what callers have sent until a test says what comes back.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use keyslot_core::address::NodeAddr;
use keyslot_core::cluster::{Cluster, Command, ConnId, Destination, Input, Output, RequestId, Token};
use keyslot_core::config::Config;
use keyslot_core::error::Error;
use keyslot_core::resp::{RawReply, take_request};
use keyslot_core::slot::Slot;
use keyslot_core::time::Instant;

pub(crate) type Words = Vec<String>;

/// What a server says to a command of the client's own; `None` keeps it for the test.
pub(crate) type Answers = fn(&Words) -> Option<Vec<u8>>;

pub(crate) struct Rig {
    pub(crate) cluster: Cluster,
    pub(crate) now: u64,
    pub(crate) ready: Option<Result<(), Error>>,
    /// What was sent and is not answered, in order.
    pub(crate) asked: VecDeque<(ConnId, Words)>,
    pub(crate) done: BTreeMap<RequestId, Result<RawReply, Error>>,
    /// The requests by their tokens.
    tokens: Vec<RequestId>,
    /// The connections that the client has closed.
    pub(crate) closed: Vec<ConnId>,
    pub(crate) nodes: BTreeMap<ConnId, u16>,
    answers: Answers,
    node_count: u16,
}

pub(crate) fn config(nodes: u16) -> Config {
    Config::new((0..nodes).map(|node| NodeAddr::new("10.0.0.1", 7000 + node)).collect())
}

impl Rig {
    /// A client whose seeds are all nodes, each with its share of the slots.
    pub(crate) fn new(nodes: u16, config: Config, answers: Answers) -> Self {
        let mut rig = Self {
            cluster: Cluster::new(config, Instant::default(), 1),
            now: 0,
            ready: None,
            asked: VecDeque::new(),
            done: BTreeMap::new(),
            tokens: Vec::new(),
            closed: Vec::new(),
            nodes: BTreeMap::new(),
            answers,
            node_count: nodes,
        };
        rig.drain();
        rig
    }

    /// One that is ready, of servers that behave.
    pub(crate) fn ready(nodes: u16) -> Self {
        let rig = Self::new(nodes, config(nodes), |_| Some(Vec::new()));
        assert_eq!(rig.ready, Some(Ok(())));
        rig
    }

    pub(crate) fn set_answers(&mut self, answers: Answers) {
        self.answers = answers;
    }

    fn time(&self) -> Instant {
        Instant::from_nanoseconds(self.now)
    }

    pub(crate) fn handle(&mut self, input: Input) {
        self.cluster.handle(self.time(), input);
        self.drain();
    }

    pub(crate) fn wait(&mut self, milliseconds: u64) {
        for _ in 0..milliseconds {
            self.now += 1_000_000;
            self.handle(Input::Tick);
        }
    }

    /// Lets these bytes come in.
    pub(crate) fn receive(&mut self, conn: ConnId, bytes: &[u8]) {
        self.handle(Input::Received { conn, bytes: Bytes::copy_from_slice(bytes) });
    }

    pub(crate) fn is_open(&self, conn: ConnId) -> bool {
        !self.closed.contains(&conn)
    }

    pub(crate) fn submit(&mut self, line: &str) -> RequestId {
        let words: Vec<_> = line.split(' ').collect();
        self.hand_in(Command::new(&words).unwrap(), &Destination::Cluster)
    }

    pub(crate) fn hand_in(&mut self, command: Command, destination: &Destination) -> RequestId {
        let token = Token(self.tokens.len() as u64);
        let id = self.cluster.submit(self.time(), command, destination, token);
        self.tokens.push(id);
        self.drain();
        id
    }

    pub(crate) fn transaction(&mut self, lines: &[&str]) -> RequestId {
        let commands: Vec<Vec<&[u8]>> =
            lines.iter().map(|line| line.split(' ').map(str::as_bytes).collect()).collect();
        let command = Command::transaction(&commands, self.cluster.scripts()).unwrap();
        self.hand_in(command, &Destination::Cluster)
    }

    /// The connection over which the first command was sent that is not answered, and all its
    /// commands that are not.
    pub(crate) fn take_asked(&mut self) -> (ConnId, Vec<Words>) {
        let conn = self.asked.front().expect("something was sent").0;
        let (own, others) = self.asked.drain(..).partition(|(other, _)| *other == conn);
        self.asked = others;
        let own: VecDeque<(ConnId, Words)> = own;
        (conn, own.into_iter().map(|(_, words)| words).collect())
    }

    fn drain(&mut self) {
        loop {
            match self.cluster.poll_output() {
                Output::Resolve { .. } => panic!("addresses need no look-up"),
                Output::Connect { conn, address } => {
                    self.nodes.insert(conn, address.port() - 7000);
                    self.cluster.handle(self.time(), Input::Connected { conn });
                }
                Output::Transmit { conn, bytes } => self.take(conn, &bytes),
                Output::Close { conn } => self.closed.push(conn),
                Output::Ready(result) => self.ready = Some(result),
                Output::Done { token, result } => {
                    self.done.insert(self.tokens[token.0 as usize], result);
                }
                Output::WaitUntil(_) => return,
            }
        }
    }

    fn take(&mut self, conn: ConnId, bytes: &[u8]) {
        let (mut rest, mut args) = (bytes, Vec::new());
        while let Ok(Some(_)) = take_request(&mut rest, &mut args) {
            let words: Words = args.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect();
            // Answers come in order.
            if self.asked.iter().any(|(other, _)| *other == conn) {
                self.asked.push_back((conn, words));
                continue;
            }
            match (self.answers)(&words) {
                Some(answer) if !answer.is_empty() => self.say(conn, &answer),
                Some(_) => match self.usual(&words) {
                    Some(answer) => self.say(conn, &answer),
                    None => self.asked.push_back((conn, words)),
                },
                None => self.asked.push_back((conn, words)),
            }
        }
    }

    fn say(&mut self, conn: ConnId, answer: &[u8]) {
        let bytes = Bytes::copy_from_slice(answer);
        self.cluster.handle(self.time(), Input::Received { conn, bytes });
    }

    /// What servers answer to the client's own commands.
    pub(crate) fn usual(&self, words: &Words) -> Option<Vec<u8>> {
        let second = words.get(1).map_or("", String::as_str);
        Some(match (words[0].as_str(), second) {
            ("HELLO", _) => b"%1\r\n$5\r\nproto\r\n:3\r\n".to_vec(),
            ("CLIENT", "ID") => b":7\r\n".to_vec(),
            ("CLIENT" | "READONLY" | "UNWATCH" | "DISCARD", _) => b"+OK\r\n".to_vec(),
            ("CLUSTER", "SLOTS") => self.slots(),
            ("CLUSTER", "SHARDS" | "MYID") => b"-ERR unknown subcommand\r\n".to_vec(),
            ("CLUSTER", "INFO") => b"$23\r\ncluster_current_epoch:1\r\n".to_vec(),
            _ => return None,
        })
    }

    fn slots(&self) -> Vec<u8> {
        let count = u32::from(self.node_count);
        let mut text = format!("*{count}\r\n");
        for node in 0..count {
            let (first, end) = (node * 16_384 / count, (node + 1) * 16_384 / count);
            let port = 7000 + node;
            text += &format!("*3\r\n:{first}\r\n:{}\r\n*3\r\n$8\r\n10.0.0.1\r\n:{port}\r\n", end - 1);
            text += &format!("$40\r\n{node:040x}\r\n");
        }
        text.into_bytes()
    }
}

/// A key that this of so many nodes has.
pub(crate) fn key_at(node: u16, nodes: u16) -> String {
    let keys = (0..).map(|number| format!("key{number}"));
    let owner = |key: &String| u32::from(Slot::of_key(key.as_bytes()).number()) * u32::from(nodes) / 16_384;
    keys.into_iter().find(|key| owner(key) == u32::from(node)).unwrap()
}
