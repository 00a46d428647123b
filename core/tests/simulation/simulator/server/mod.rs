//! The simulated servers: a cluster's nodes, what each command does ([`execute`]) and where it
//! belongs ([`place`]), and whose a lent connection is ([`borrowers`]).
//!
//! Every key is named `{tag}:kind:number`, and belongs to the one request with this number; a
//! register, `{tag}:v:0`, is written and read by many, each write with its own number as the value.

mod borrowers;
mod execute;
mod place;

pub(super) use borrowers::lease_of_marker;
pub(crate) use borrowers::{Borrowers, lease_marker};
pub(super) use execute::arguments;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::coverage::Asked;
use super::manners::Manners;
use super::standing::Standing;
use super::store::Store;
use super::stranger::Stranger;
use super::transaction::Transaction;
use super::view::View;

pub(crate) const MILLISECOND: u64 = 1_000_000;

/// The entry of a view for a slot that nobody serves.
pub(crate) const NOBODY: u8 = u8::MAX;

/// What a server's version and configuration make of it; the same for all nodes.
#[derive(Clone, Debug)]
pub(crate) struct Dialect {
    pub(crate) hello: bool,
    pub(crate) setinfo: bool,
    pub(crate) shards: bool,
    pub(crate) cluster: bool,
    pub(crate) password: Option<String>,
    /// MOVED and CLUSTER SLOTS leave the host empty: "the one you asked".
    pub(crate) empty_hosts: bool,
    /// It answers CLUSTER MYID.
    pub(crate) myid: bool,
    /// CLUSTER SHARDS tells each node's availability zone (Valkey).
    pub(crate) zones: bool,
}

impl Dialect {
    pub(crate) fn modern() -> Self {
        Self {
            hello: true,
            setinfo: true,
            shards: true,
            cluster: true,
            password: None,
            empty_hosts: false,
            myid: true,
            zones: false,
        }
    }
}

/// What keeps a node from serving, and what it says then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    Normal,
    Loading,
    ClusterDown,
    MasterDown,
    ReadOnly,
}

/// What becomes of a dial to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    Up,
    Refusing,
    /// Nothing comes back, not even a refusal.
    BlackHole,
}

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) id: String,
    /// What it answers to CLUSTER MYID, where that is not its id.
    pub(crate) said_id: Option<String>,
    /// Who is at its address in its place, for connections that are made from now on.
    pub(crate) stranger: Option<Stranger>,
    /// On connections that were made before it redirects to its own address or, alone, takes no
    /// writes.
    pub(crate) stale_before: Option<u64>,
    pub(crate) host: String,
    /// What it calls its host, where that is not what it is reached at.
    pub(crate) announced: Option<String>,
    pub(crate) address: SocketAddr,
    /// Its availability zone.
    pub(crate) zone: String,
    /// Who is who, as this node believes.
    pub(crate) view: View,
    pub(crate) condition: Condition,
    /// Slots for which the node answers this error instead of the truth.
    pub(crate) lies: BTreeMap<u16, String>,
    pub(crate) reach: Reach,
    /// Accepts connections and bytes, and does nothing about them until it goes on.
    pub(crate) paused: bool,
    pub(crate) manners: Manners,
    /// Hears no gossip, but what it takes part in itself.
    pub(crate) deaf: bool,
    /// Which side of a partition between nodes it is on.
    pub(crate) is_apart: bool,
    /// As a replica it applies a write so long after it was made.
    pub(crate) lag: u64,
    /// As a replica it has applied what was written until then.
    pub(crate) applied: u64,
}

/// A slot under way from one primary to another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Migration {
    pub(crate) from: usize,
    pub(crate) to: usize,
    /// How many percent of its keys have moved.
    pub(crate) progress: u64,
}

/// What a connection is, to the server.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) node: usize,
    /// Who has it in the node's place.
    pub(crate) stranger: Option<Stranger>,
    made_at: u64,
    number: u64,
    /// Whom the connection was last lent to; nobody: many share it.
    lease: Option<u64>,
    database: Vec<u8>,
    pub(crate) resp3: bool,
    authenticated: bool,
    asking: bool,
    readonly: bool,
    /// Whether it was a borrower who said READONLY.
    borrower_reads: bool,
    pub(super) transaction: Option<Transaction>,
    /// Watched keys, each with the version that was watched.
    pub(super) watched: Vec<(Vec<u8>, u64, Option<Vec<u8>>)>,
}

#[derive(Debug)]
pub(crate) struct Servers {
    pub(crate) dialect: Dialect,
    pub(crate) nodes: Vec<Node>,
    /// Other addresses of nodes, with the manners that they show there.
    pub(crate) aliases: Vec<(SocketAddr, usize, Manners)>,
    /// Who is who.
    pub(crate) truth: View,
    pub(crate) migrations: BTreeMap<u16, Migration>,
    /// All nodes are at this one's address, and serve each other's keys.
    pub(crate) balancer: Option<usize>,
    /// What other clusters' nodes were asked that only a known node may be asked.
    pub(crate) asked_of_strangers: Vec<String>,
    pub(crate) store: Store,
    pub(crate) standing: Standing,
    /// Keys that were created at a migration's target.
    created_at_target: BTreeSet<Vec<u8>>,
    /// How many times the write with this number was executed.
    pub(crate) executions: BTreeMap<u64, u32>,
    pub(crate) commands_seen: u64,
    pub(crate) topologies_asked: u64,
    /// Pages of scans, and questions that they take.
    pub(crate) pages_asked: u64,
    /// Reads that replicas have answered.
    pub(crate) replica_reads: u64,
    sessions: u64,
    /// Who borrows a connection, and what it is lent for.
    pub(crate) borrowers: Borrowers,
    /// Nodes that are or were a primary.
    pub(crate) were_primaries: BTreeSet<usize>,
    /// How many replicas have taken over; and how many of them without all writes, and without
    /// the old primary's hearing of it.
    pub(crate) promotions: u64,
    pub(crate) lossy_promotions: u64,
    pub(crate) unheard_promotions: u64,
    /// The time on the servers' clocks.
    pub(super) now: u64,
    /// When the nodes fell into two sides.
    pub(super) parted_at: Option<u64>,
}

impl Servers {
    /// `primaries` nodes with equal parts of the slots, then `replicas` for each of them.
    pub(crate) fn new(dialect: Dialect, primaries: usize, replicas: usize, names: bool) -> Self {
        let count = primaries * (1 + replicas);
        let truth = View::new(primaries, count);
        let nodes = (0..count).map(|index| {
            let number = if dialect.empty_hosts { 1 } else { index as u8 + 1 };
            let ip = IpAddr::V4(Ipv4Addr::new(10, 0, 0, number));
            Node {
                id: format!("{index:040x}"),
                said_id: None,
                stranger: None,
                stale_before: None,
                host: if names { format!("node-{index}.test") } else { ip.to_string() },
                announced: None,
                address: SocketAddr::new(ip, 7000 + index as u16),
                zone: format!("zone-{}", (index + index / primaries) % 3),
                view: truth.clone(),
                condition: Condition::Normal,
                lies: BTreeMap::new(),
                reach: Reach::Up,
                paused: false,
                manners: Manners::default(),
                deaf: false,
                is_apart: false,
                lag: 0,
                applied: 0,
            }
        });
        Self {
            nodes: nodes.collect(),
            aliases: Vec::new(),
            dialect,
            truth,
            migrations: BTreeMap::new(),
            balancer: None,
            asked_of_strangers: Vec::new(),
            store: Store::default(),
            standing: Standing::default(),
            created_at_target: BTreeSet::new(),
            executions: BTreeMap::new(),
            commands_seen: 0,
            topologies_asked: 0,
            pages_asked: 0,
            replica_reads: 0,
            sessions: 0,
            borrowers: Borrowers::default(),
            were_primaries: (0..primaries).collect(),
            promotions: 0,
            lossy_promotions: 0,
            unheard_promotions: 0,
            now: 0,
            parted_at: None,
        }
    }

    pub(crate) fn session(&mut self, node: usize) -> Session {
        self.sessions += 1;
        Session {
            node,
            stranger: self.nodes[node].stranger,
            made_at: self.now,
            number: self.sessions,
            lease: None,
            database: b"0".to_vec(),
            resp3: false,
            authenticated: self.dialect.password.is_none(),
            asking: false,
            readonly: false,
            borrower_reads: false,
            transaction: None,
            watched: Vec::new(),
        }
    }

    /// As what a node is asked on a connection.
    pub(super) fn asked(&self, session: &Session) -> Asked {
        let is_replica = self.nodes[session.node].view.replica_of[session.node].is_some();
        Asked { asking: session.asking, as_replica: is_replica && session.readonly }
    }

    /// What becomes of a dial to a node's address.
    pub(crate) fn reach(&self, node: usize) -> Reach {
        if self.nodes[node].stranger.is_some() { Reach::Up } else { self.nodes[node].reach }
    }

    /// The node at an address, and its manners there if they are others than elsewhere.
    pub(crate) fn at(&self, address: SocketAddr) -> (Option<usize>, Option<Manners>) {
        let alias = self.aliases.iter().find(|(own, ..)| *own == address);
        match alias {
            Some((_, node, manners)) => (Some(*node), Some(*manners)),
            None => (self.nodes.iter().position(|node| node.address == address), None),
        }
    }

    /// Whether somebody has the connection for himself.
    pub(super) fn is_lent(session: &Session) -> bool {
        session.lease.is_some()
    }
}
