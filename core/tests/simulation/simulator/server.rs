//! The simulated servers: a cluster's nodes, and what each command does. The rules for MOVED, ASK,
//! TRYAGAIN and ASKING are the cluster specification's ("Redirection and resharding") and those of
//! `getNodeByQuery` in `cluster.c`.
//!
//! Every key is named `{tag}:kind:number`, and belongs to the one request with this number; a
//! register, `{tag}:v:0`, is written and read by many, each write with its own number as the value.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use keyslot_core::slot::Slot;

use super::coverage::Asked;
use super::manners::Manners;
use super::standing::Standing;
use super::store::{Read, Source, Store, is_register, number_of};
use super::stranger::Stranger;
use super::transaction::Transaction;
use super::view::View;
use super::wire::{Answer, Words};

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

    /// What one command does and is answered.
    pub(crate) fn execute(&mut self, session: &mut Session, words: &Words) -> Answer {
        self.commands_seen += 1;
        let name = String::from_utf8_lossy(&words[0]).to_ascii_uppercase();
        if !session.authenticated && !matches!(name.as_str(), "HELLO" | "AUTH") {
            return Answer::error("NOAUTH Authentication required.");
        }
        if let Some(answer) = self.stranger_answer(session, words) {
            return answer;
        }
        let before = session.lease;
        self.check_borrower(session, &name, words);
        let answer = match name.as_str() {
            "MULTI" | "EXEC" | "DISCARD" | "WATCH" | "UNWATCH" => self.transact(session, &name, words),
            _ if session.transaction.is_some() => self.transact(session, &name, words),
            _ => self.run(session, words),
        };
        // A borrower whose first command is refused may go elsewhere with it.
        if matches!(answer, Answer::Error(_)) && session.lease != before {
            let lease = session.lease.take();
            self.borrowers.sessions.retain(|borrower, _| Some(*borrower) != lease);
        }
        // ASKING is for the next command; before MULTI it is for the whole transaction.
        if name != "ASKING" && session.transaction.is_none() {
            session.asking = false;
        }
        answer
    }

    /// What one borrower leaves on a connection is not there for the next, and nobody else uses it
    /// meanwhile.
    fn check_borrower(&mut self, session: &mut Session, name: &str, words: &Words) {
        if let Some(lease) = words.get(1).and_then(|word| lease_of_marker(word)) {
            let is_clean =
                session.transaction.is_none() && session.watched.is_empty() && session.database == b"0";
            let is_clean = is_clean && !session.asking && !session.readonly;
            assert!(is_clean, "INVARIANT: a lent connection is clean: lease {lease} of {session:?}");
            return self.lend(session, lease);
        }
        let Some((keys, _)) = arguments(name, words) else { return };
        // It has a connection that no borrower has.
        if name == "BLPOP" && session.lease.is_none_or(|lease| self.borrowers.returned.contains(&lease)) {
            session.lease = None;
        }
        // Directed tests use their keys as they like.
        if is_register(&keys[0]) || self.borrowers.of_number.is_empty() {
            return;
        }
        let lease = number_of(&keys[0]).and_then(|number| self.borrowers.of_number.get(&number).copied());
        match (lease, session.lease) {
            (Some(lease), now) if now != Some(lease) => self.lend(session, lease),
            (lease, now) => {
                assert_eq!(lease, now, "INVARIANT: a lent connection is nobody else's: {words:?}");
            }
        }
    }

    fn lend(&mut self, session: &mut Session, lease: u64) {
        let before = session.lease.replace(lease);
        assert!(
            before.is_none_or(|before| self.borrowers.returned.contains(&before)),
            "INVARIANT: a connection is lent to one at a time: {before:?} and {lease}"
        );
        let number = *self.borrowers.sessions.entry(lease).or_insert(session.number);
        assert_eq!(number, session.number, "INVARIANT: lease {lease} has one connection");
    }

    pub(super) fn knows(&self, name: &str) -> bool {
        let known = [
            "HELLO",
            "AUTH",
            "CLIENT",
            "SELECT",
            "READONLY",
            "READWRITE",
            "ASKING",
            "CLUSTER",
            "UNWATCH",
            "PING",
            "ECHO",
            "SCAN",
            "INFO",
            "MSETEX",
        ];
        known.contains(&name) || arguments(name, &Vec::new()).is_some()
    }

    /// Why the node runs no such command, whatever its keys.
    pub(super) fn refusal(&self, node: usize, name: &str) -> Option<String> {
        let is_data = matches!(name, "PING" | "ECHO" | "SCAN") || arguments(name, &Vec::new()).is_some();
        let is_loading = self.nodes[node].condition == Condition::Loading;
        (is_data && is_loading).then(|| "LOADING Redis is loading the dataset in memory".to_string())
    }

    /// Runs a command outside of a transaction, or at its end.
    pub(super) fn run(&mut self, session: &mut Session, words: &Words) -> Answer {
        let name = String::from_utf8_lossy(&words[0]).to_ascii_uppercase();
        let word = |index: usize| {
            words.get(index).map(|word| String::from_utf8_lossy(word).into_owned()).unwrap_or_default()
        };
        if let Some(error) = self.refusal(session.node, &name) {
            return Answer::Error(error);
        }
        match name.as_str() {
            "HELLO" => self.hello(session, words),
            "AUTH" => match (&self.dialect.password, words.last()) {
                (Some(password), Some(given)) if password.as_bytes() == given => {
                    session.authenticated = true;
                    Answer::OK
                }
                (Some(_), _) => {
                    Answer::error("WRONGPASS invalid username-password pair or user is disabled.")
                }
                (None, _) => Answer::error("ERR Client sent AUTH, but no password is set"),
            },
            "CLIENT" if word(1).eq_ignore_ascii_case("ID") => Answer::Integer(session.number as i64),
            "CLIENT" if word(1).eq_ignore_ascii_case("UNBLOCK") => Answer::Integer(0),
            "CLIENT" if word(1).eq_ignore_ascii_case("SETINFO") && !self.dialect.setinfo => {
                Answer::error("ERR unknown subcommand 'SETINFO'. Try CLIENT HELP.")
            }
            "CLIENT" | "UNWATCH" => Answer::OK,
            "SELECT" => {
                session.database.clone_from(&words[1]);
                Answer::OK
            }
            "READONLY" | "READWRITE" | "ASKING" if !self.dialect.cluster => {
                Answer::error("ERR This instance has cluster support disabled")
            }
            "READONLY" | "READWRITE" => {
                session.readonly = name == "READONLY";
                session.borrower_reads |= words[0] == b"readonly";
                Answer::OK
            }
            "ASKING" => {
                session.asking = true;
                Answer::OK
            }
            "CLUSTER" if self.dialect.cluster && self.dialect.myid && word(1) == "MYID" => {
                Answer::text(&self.id_said_on(session))
            }
            "CLUSTER" => self.cluster_answer(session.node, &word(1).to_ascii_uppercase()),
            "PING" => words.get(1).map_or(Answer::Simple("PONG"), |word| Answer::Bulk(word.clone())),
            "ECHO" => Answer::Bulk(words[1].clone()),
            "SCAN" => self.scan(session, words),
            "INFO" => self.server_info(session.node),
            // As Valkey 9.1.2 does: it looks at no slot.
            "MSETEX" => Answer::Integer(1),
            _ => match arguments(&name, words) {
                Some((keys, writes)) => self.run_keyed(session, &name, words, keys, writes),
                None => Answer::error(format!("ERR unknown command '{name}', with args beginning with: ")),
            },
        }
    }

    fn cluster_answer(&mut self, node: usize, question: &str) -> Answer {
        match question {
            _ if !self.dialect.cluster => Answer::error("ERR This instance has cluster support disabled"),
            "SLOTS" => {
                self.topologies_asked += 1;
                self.slots_answer(node)
            }
            "SHARDS" if self.dialect.shards => {
                self.topologies_asked += 1;
                self.shards_answer(node)
            }
            "INFO" => self.info_answer(node),
            "NODES" => self.nodes_answer(node),
            _ => Answer::error(format!("ERR unknown subcommand '{question}'. Try CLUSTER HELP.")),
        }
    }

    /// Runs a command over keys, or says where it should run.
    fn run_keyed(
        &mut self,
        session: &Session,
        name: &str,
        words: &Words,
        keys: &[Vec<u8>],
        writes: bool,
    ) -> Answer {
        let source = match self.place(session, keys, writes) {
            Ok(source) => source,
            Err(error) => return Answer::Error(error),
        };
        if name == "EVALSHA" && self.commands_seen.is_multiple_of(3) {
            return Answer::error("NOSCRIPT No matching script. Please use EVAL.");
        }
        let key = &keys[0];
        let number = number_of(if is_register(key) { words.last().unwrap_or(key) } else { key });
        if writes && let Some(number) = number {
            *self.executions.entry(number).or_default() += 1;
        }
        if let Some(migration) = self.migrations.get(&Slot::of_key(key).number())
            && migration.to == session.node
        {
            self.created_at_target.extend(keys.iter().cloned());
        }
        // A borrower may say READONLY as it likes.
        let is_ours = session.lease.is_none() && !session.borrower_reads;
        self.replica_reads += u64::from(is_ours && matches!(source, Source::Replica { .. }));
        self.apply(source, name, words, keys)
    }

    fn apply(&mut self, source: Source, name: &str, words: &Words, keys: &[Vec<u8>]) -> Answer {
        let key = &keys[0];
        let now = self.now;
        let store = &mut self.store;
        let value = store.value(source, key);
        let answer = |value: Option<Vec<u8>>| value.map_or(Answer::Null, Answer::Bulk);
        match name {
            "GET" => {
                if is_register(key) {
                    store.reads.push(Read { key: key.clone(), value: value.clone(), source });
                }
                answer(value)
            }
            "MGET" => Answer::Array(keys.iter().map(|key| answer(store.value(source, key))).collect()),
            "SET" => {
                store.write(source, now, key, Some(words[2].clone()));
                Answer::OK
            }
            "GETSET" => {
                store.write(source, now, key, Some(words[2].clone()));
                answer(value)
            }
            "APPEND" => {
                let mut value = value.unwrap_or_default();
                value.extend_from_slice(&words[2]);
                let length = value.len() as i64;
                store.write(source, now, key, Some(value));
                Answer::Integer(length)
            }
            "BLPOP" => {
                store.write(source, now, key, None);
                value.map_or(Answer::NullArray, |value| {
                    Answer::Array(vec![Answer::Bulk(key.clone()), Answer::Bulk(value)])
                })
            }
            "INCR" | "EVAL" | "EVALSHA" => {
                let text = value.unwrap_or_else(|| b"0".to_vec());
                let Ok(value) = String::from_utf8_lossy(&text).parse::<i64>() else {
                    return Answer::error("ERR value is not an integer or out of range");
                };
                store.write(source, now, key, Some((value + 1).to_string().into_bytes()));
                Answer::Integer(value + 1)
            }
            // DEL. The first key is enough to show it.
            _ => {
                let found = keys.iter().filter(|key| store.value(source, key).is_some()).count();
                store.write(source, now, key, None);
                Answer::Integer(found as i64)
            }
        }
    }

    /// The state of the keys that a node runs a command on, or the error that it answers instead.
    pub(super) fn place(&self, session: &Session, keys: &[Vec<u8>], writes: bool) -> Result<Source, String> {
        let here = session.node;
        let node = &self.nodes[here];
        let slot = Slot::of_key(&keys[0]).number();
        if keys.iter().any(|key| Slot::of_key(key).number() != slot) && self.dialect.cluster {
            return Err("CROSSSLOT Keys in request don't hash to the same slot".into());
        }
        if let Some(lie) = node.lies.get(&slot) {
            // An address that is never the same, so that the client must not remember them all.
            return Err(lie.replace('*', &(10_000 + self.commands_seen % 50_000).to_string()));
        }
        match node.condition {
            Condition::ClusterDown => return Err("CLUSTERDOWN The cluster is down".into()),
            Condition::MasterDown => {
                return Err(
                    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.".into(),
                );
            }
            Condition::ReadOnly if writes => {
                return Err("READONLY You can't write against a read only replica.".into());
            }
            Condition::Normal | Condition::Loading | Condition::ReadOnly => {}
        }
        let is_stale = node.stale_before.is_some_and(|before| session.made_at < before);
        match self.dialect.cluster {
            true if is_stale => return Err(self.redirect_text("MOVED", slot, here)),
            false if is_stale && writes => {
                return Err("READONLY You can't write against a read only replica.".into());
            }
            _ => {}
        }
        if !self.dialect.cluster || self.balancer.is_some() {
            return Ok(Source::Primary);
        }
        let owner = node.view.owners[usize::from(slot)];
        if owner == NOBODY {
            return Err("CLUSTERDOWN Hash slot not served".into());
        }
        if self.says_down(here) {
            return Err("CLUSTERDOWN The cluster is down".into());
        }
        let owner = usize::from(owner);
        let migration = self.migrations.get(&slot);
        let missing = |migration: &Migration| {
            keys.iter().filter(|key| self.location(key, migration) != Some(here)).count()
        };
        let try_again = || "TRYAGAIN Multiple keys request during rehashing of slot".to_string();
        if owner == here && node.view.replica_of[here].is_none() {
            if self.owner(slot) != here {
                return Ok(Source::Fork(here));
            }
            let Some(migration) = migration.filter(|migration| migration.from == here) else {
                return Ok(Source::Primary);
            };
            return match missing(migration) {
                0 => Ok(Source::Primary),
                missing if missing == keys.len() => Err(self.redirect_text("ASK", slot, migration.to)),
                _ => Err(try_again()),
            };
        }
        if session.asking
            && let Some(migration) = migration.filter(|migration| migration.to == here)
        {
            let is_split = keys.len() > 1 && missing(migration) > 0;
            return if is_split { Err(try_again()) } else { Ok(Source::Primary) };
        }
        if session.readonly && !writes && node.view.replica_of[here] == Some(owner) {
            return Ok(Source::Replica { applied: node.applied });
        }
        Err(self.redirect_text("MOVED", slot, owner))
    }

    /// What CLUSTER MYID is answered with.
    fn id_said_on(&self, session: &Session) -> String {
        let nodes = &self.nodes;
        let node = match self.balancer {
            Some(_) => &nodes[session.number as usize % nodes.len()],
            None => &nodes[session.node],
        };
        node.said_id.as_ref().unwrap_or(&node.id).clone()
    }

    /// `MOVED 3999 10.0.0.2:7001`.
    pub(crate) fn redirect_text(&self, code: &str, slot: u16, to: usize) -> String {
        let node = &self.nodes[to];
        let host = if self.dialect.empty_hosts { "" } else { node.announced.as_ref().unwrap_or(&node.host) };
        format!("{code} {slot} {host}:{}", node.address.port())
    }

    /// Which of a migration's two nodes has the key; `None` when it does not exist.
    pub(super) fn location(&self, key: &[u8], migration: &Migration) -> Option<usize> {
        self.store.value(Source::Primary, key)?;
        let hash = key.iter().fold(17u64, |hash, byte| hash.wrapping_mul(31).wrapping_add(u64::from(*byte)));
        let moved = self.created_at_target.contains(key) || (hash >> 3) % 100 < migration.progress;
        Some(if moved { migration.to } else { migration.from })
    }

    fn hello(&self, session: &mut Session, words: &Words) -> Answer {
        if !self.dialect.hello {
            return Answer::error("ERR unknown command 'HELLO', with args beginning with: '3' ");
        }
        if let Some(auth) = words.iter().position(|word| word.eq_ignore_ascii_case(b"AUTH")) {
            let given = words.get(auth + 2).map(Vec::as_slice);
            if self.dialect.password.as_ref().is_some_and(|password| Some(password.as_bytes()) != given) {
                return Answer::error("WRONGPASS invalid username-password pair or user is disabled.");
            }
            session.authenticated = true;
        }
        if !session.authenticated {
            return Answer::error("NOAUTH HELLO must be called with the client already authenticated.");
        }
        session.resp3 = words.get(1).is_some_and(|version| version == b"3");
        let mode = if self.dialect.cluster { "cluster" } else { "standalone" };
        let role = if self.nodes[session.node].view.replica_of[session.node].is_some() {
            "replica"
        } else {
            "master"
        };
        Answer::Map(vec![
            ("server", Answer::text("redis")),
            ("version", Answer::text("7.0.15")),
            ("proto", Answer::Integer(if session.resp3 { 3 } else { 2 })),
            ("id", Answer::Integer(7)),
            ("mode", Answer::text(mode)),
            ("role", Answer::text(role)),
            ("modules", Answer::Array(Vec::new())),
        ])
    }
}

/// Who has what lent connection.
#[derive(Debug, Default)]
pub(crate) struct Borrowers {
    /// The lease over which the operation with this number is sent.
    pub(crate) of_number: BTreeMap<u64, u64>,
    pub(crate) returned: BTreeSet<u64>,
    /// The connection of each lease.
    sessions: BTreeMap<u64, u64>,
}

/// What a borrower says first: its number.
pub(crate) fn lease_marker(lease: u64) -> String {
    format!("lease:{lease}")
}

/// The number of the lease whose marker this is.
pub(crate) fn lease_of_marker(word: &[u8]) -> Option<u64> {
    std::str::from_utf8(word).ok()?.strip_prefix("lease:")?.parse().ok()
}

/// The keys among a command's words, and whether it writes; `None` for one that has no keys or is
/// not known.
pub(super) fn arguments<'a>(name: &str, words: &'a Words) -> Option<(&'a [Vec<u8>], bool)> {
    let all = words.get(1..).unwrap_or_default();
    let first = all.get(..1).unwrap_or_default();
    match name {
        "BLPOP" => Some((first, true)),
        "EVAL" | "EVALSHA" => Some((all.get(2..3).unwrap_or_default(), true)),
        "GET" => Some((first, false)),
        "MGET" => Some((all, false)),
        "SET" | "GETSET" | "APPEND" | "INCR" => Some((first, true)),
        "DEL" => Some((all, true)),
        _ => None,
    }
}
