//! The simulated servers: a cluster's nodes, who serves which slot in whose view, and what each command
//! does. The rules for MOVED, ASK, TRYAGAIN and ASKING are the cluster specification's ("Redirection and
//! resharding") and those of `getNodeByQuery` in `cluster.c`.
//!
//! All nodes share one key space: at any time each key lies at exactly one node, so only *where* has to be
//! kept. Every key is named `{tag}:kind:number`. It exists from the start, with its kind and number as the value,
//! so that a reply shows which request it belongs to; only kind `s` (SET) has to be created.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use keyslot_core::slot::{SLOT_COUNT, Slot};

use super::wire::{Answer, Words};

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
}

impl Dialect {
    pub(crate) fn modern() -> Self {
        Self { hello: true, setinfo: true, shards: true, cluster: true, password: None, empty_hosts: false }
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
    pub(crate) host: String,
    pub(crate) address: SocketAddr,
    /// The primary that this node is a replica of.
    pub(crate) replica_of: Option<usize>,
    /// Who serves each slot, as this node believes.
    pub(crate) view: Vec<u8>,
    pub(crate) condition: Condition,
    /// Slots for which the node answers this error instead of the truth.
    pub(crate) lies: BTreeMap<u16, String>,
    pub(crate) reach: Reach,
    /// Accepts connections and bytes, and does nothing about them until it goes on.
    pub(crate) paused: bool,
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
    pub(crate) resp3: bool,
    authenticated: bool,
    asking: bool,
    readonly: bool,
}

#[derive(Debug)]
pub(crate) struct Servers {
    pub(crate) dialect: Dialect,
    pub(crate) nodes: Vec<Node>,
    /// Who serves each slot in truth.
    pub(crate) owners: Vec<u8>,
    pub(crate) migrations: BTreeMap<u16, Migration>,
    /// Keys that were written; `None` when deleted.
    written: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    /// Keys that were created at a migration's target.
    created_at_target: BTreeSet<Vec<u8>>,
    /// How many times the write with this number was executed.
    pub(crate) executions: BTreeMap<u64, u32>,
    pub(crate) commands_seen: u64,
    pub(crate) topologies_asked: u64,
}

impl Servers {
    /// `primaries` nodes with equal parts of the slots, then `replicas` for each of them.
    pub(crate) fn new(dialect: Dialect, primaries: usize, replicas: usize, names: bool) -> Self {
        let owners: Vec<u8> =
            (0..usize::from(SLOT_COUNT)).map(|slot| (slot * primaries / 16_384) as u8).collect();
        let nodes = (0..primaries * (1 + replicas)).map(|index| {
            let number = if dialect.empty_hosts { 1 } else { index as u8 + 1 };
            let ip = IpAddr::V4(Ipv4Addr::new(10, 0, 0, number));
            Node {
                host: if names { format!("node-{index}.test") } else { ip.to_string() },
                address: SocketAddr::new(ip, 7000 + index as u16),
                replica_of: (index >= primaries).then(|| index % primaries),
                view: owners.clone(),
                condition: Condition::Normal,
                lies: BTreeMap::new(),
                reach: Reach::Up,
                paused: false,
            }
        });
        Self {
            nodes: nodes.collect(),
            dialect,
            owners,
            migrations: BTreeMap::new(),
            written: BTreeMap::new(),
            created_at_target: BTreeSet::new(),
            executions: BTreeMap::new(),
            commands_seen: 0,
            topologies_asked: 0,
        }
    }

    pub(crate) fn session(&self, node: usize) -> Session {
        let authenticated = self.dialect.password.is_none();
        Session { node, resp3: false, authenticated, asking: false, readonly: false }
    }

    pub(crate) fn at(&self, address: SocketAddr) -> Option<usize> {
        self.nodes.iter().position(|node| node.address == address)
    }

    pub(crate) fn owner(&self, slot: u16) -> usize {
        usize::from(self.owners[usize::from(slot)])
    }

    /// Ends a slot's move: source and target know at once, the others when they are told ([`Self::gossip`]).
    pub(crate) fn finish_migration(&mut self, slot: u16) {
        let Some(migration) = self.migrations.remove(&slot) else { return };
        self.owners[usize::from(slot)] = migration.to as u8;
        for node in [migration.from, migration.to] {
            self.nodes[node].view[usize::from(slot)] = migration.to as u8;
        }
    }

    /// The node hears the truth about all slots.
    pub(crate) fn gossip(&mut self, node: usize) {
        self.nodes[node].view.clone_from(&self.owners);
    }

    /// The replica takes the slots and the moves of its primary over, which becomes its replica.
    pub(crate) fn promote(&mut self, replica: usize) {
        let Some(old) = self.nodes[replica].replica_of.take() else { return };
        for node in &mut self.nodes {
            if node.replica_of == Some(old) {
                node.replica_of = Some(replica);
            }
        }
        self.nodes[old].replica_of = Some(replica);
        for owner in &mut self.owners {
            if usize::from(*owner) == old {
                *owner = replica as u8;
            }
        }
        self.migrations.retain(|_, migration| migration.from != old && migration.to != old);
        self.gossip(replica);
        self.gossip(old);
    }

    /// What one command does and is answered.
    pub(crate) fn execute(&mut self, session: &mut Session, words: &Words) -> Answer {
        self.commands_seen += 1;
        let name = String::from_utf8_lossy(&words[0]).to_ascii_uppercase();
        let asking = std::mem::take(&mut session.asking);
        let word = |index: usize| {
            words.get(index).map(|word| String::from_utf8_lossy(word).into_owned()).unwrap_or_default()
        };
        if !session.authenticated && !matches!(name.as_str(), "HELLO" | "AUTH") {
            return Answer::error("NOAUTH Authentication required.");
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
            "CLIENT" if word(1).eq_ignore_ascii_case("SETINFO") && !self.dialect.setinfo => {
                Answer::error("ERR unknown subcommand 'SETINFO'. Try CLIENT HELP.")
            }
            "CLIENT" | "SELECT" => Answer::OK,
            "READONLY" => {
                session.readonly = true;
                Answer::OK
            }
            "ASKING" => {
                session.asking = true;
                Answer::OK
            }
            "CLUSTER" if !self.dialect.cluster => {
                Answer::error("ERR This instance has cluster support disabled")
            }
            "CLUSTER" if word(1).eq_ignore_ascii_case("SLOTS") => {
                self.topologies_asked += 1;
                self.slots_answer(session.node)
            }
            "CLUSTER" if word(1).eq_ignore_ascii_case("SHARDS") && self.dialect.shards => {
                self.topologies_asked += 1;
                self.shards_answer(session.node)
            }
            "CLUSTER" => Answer::error(format!("ERR unknown subcommand '{}'. Try CLUSTER HELP.", word(1))),
            _ if self.nodes[session.node].condition == Condition::Loading => {
                Answer::error("LOADING Redis is loading the dataset in memory")
            }
            "PING" => Answer::Simple("PONG"),
            "ECHO" => Answer::Bulk(words[1].clone()),
            "GET" => self
                .keyed(session, asking, &words[1..], false, |servers, keys| servers.value_answer(&keys[0])),
            "MGET" => self.keyed(session, asking, &words[1..], false, |servers, keys| {
                Answer::Array(keys.iter().map(|key| servers.value_answer(key)).collect())
            }),
            "SET" => self.keyed(session, asking, &words[1..2], true, |servers, keys| {
                servers.write(&keys[0], Some(words[2].clone()));
                Answer::OK
            }),
            "GETSET" => self.keyed(session, asking, &words[1..2], true, |servers, keys| {
                let old = servers.value_answer(&keys[0]);
                servers.write(&keys[0], Some(words[2].clone()));
                old
            }),
            "APPEND" => self.keyed(session, asking, &words[1..2], true, |servers, keys| {
                let mut value = servers.value(&keys[0]).unwrap_or_default();
                value.extend_from_slice(&words[2]);
                let length = value.len() as i64;
                servers.write(&keys[0], Some(value));
                Answer::Integer(length)
            }),
            "INCR" => self.keyed(session, asking, &words[1..2], true, |servers, keys| {
                let value = servers.value(&keys[0]).unwrap_or_else(|| b"0".to_vec());
                let Ok(value) = String::from_utf8_lossy(&value).parse::<i64>() else {
                    return Answer::error("ERR value is not an integer or out of range");
                };
                servers.write(&keys[0], Some((value + 1).to_string().into_bytes()));
                Answer::Integer(value + 1)
            }),
            "DEL" => self.keyed(session, asking, &words[1..], true, |servers, keys| {
                let found = keys.iter().filter(|key| servers.value(key).is_some()).count();
                servers.write(&keys[0], None);
                Answer::Integer(found as i64)
            }),
            _ => Answer::error(format!("ERR unknown command '{name}', with args beginning with: ")),
        }
    }

    /// Runs a command over keys, or says where it should run.
    fn keyed(
        &mut self,
        session: &Session,
        asking: bool,
        keys: &[Vec<u8>],
        writes: bool,
        run: impl FnOnce(&mut Self, &[Vec<u8>]) -> Answer,
    ) -> Answer {
        if let Some(error) = self.redirect(session, asking, keys, writes) {
            return Answer::Error(error);
        }
        if writes && let Some(number) = number_of(&keys[0]) {
            *self.executions.entry(number).or_default() += 1;
        }
        let slot = Slot::of_key(&keys[0]).number();
        if let Some(migration) = self.migrations.get(&slot)
            && migration.to == session.node
        {
            self.created_at_target.extend(keys.iter().cloned());
        }
        run(self, keys)
    }

    /// The error that a node answers instead of running a command over these keys.
    fn redirect(&self, session: &Session, asking: bool, keys: &[Vec<u8>], writes: bool) -> Option<String> {
        let here = session.node;
        let node = &self.nodes[here];
        let slot = Slot::of_key(&keys[0]).number();
        if keys.iter().any(|key| Slot::of_key(key).number() != slot) && self.dialect.cluster {
            return Some("CROSSSLOT Keys in request don't hash to the same slot".into());
        }
        if let Some(lie) = node.lies.get(&slot) {
            // An address that is never the same, so that the client must not remember them all.
            return Some(lie.replace('*', &(10_000 + self.commands_seen % 50_000).to_string()));
        }
        match node.condition {
            Condition::ClusterDown => return Some("CLUSTERDOWN The cluster is down".into()),
            Condition::MasterDown => {
                return Some(
                    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.".into(),
                );
            }
            Condition::ReadOnly if writes => {
                return Some("READONLY You can't write against a read only replica.".into());
            }
            Condition::Normal | Condition::Loading | Condition::ReadOnly => {}
        }
        if !self.dialect.cluster {
            return None;
        }
        let owner = node.view[usize::from(slot)];
        if owner == NOBODY {
            return Some("CLUSTERDOWN Hash slot not served".into());
        }
        let owner = usize::from(owner);
        let migration = self.migrations.get(&slot);
        let missing = |migration: &Migration| {
            keys.iter().filter(|key| self.location(key, migration) != Some(here)).count()
        };
        if owner == here && node.replica_of.is_none() {
            let migration = migration.filter(|migration| migration.from == here)?;
            let missing = missing(migration);
            return match missing {
                0 => None,
                _ if missing == keys.len() => Some(self.redirect_text("ASK", slot, migration.to)),
                _ => Some("TRYAGAIN Multiple keys request during rehashing of slot".into()),
            };
        }
        if asking && let Some(migration) = migration.filter(|migration| migration.to == here) {
            let try_again = keys.len() > 1 && missing(migration) > 0;
            return try_again.then(|| "TRYAGAIN Multiple keys request during rehashing of slot".into());
        }
        if session.readonly && !writes && node.replica_of == Some(owner) {
            return None;
        }
        Some(self.redirect_text("MOVED", slot, owner))
    }

    /// `MOVED 3999 10.0.0.2:7001`.
    pub(crate) fn redirect_text(&self, code: &str, slot: u16, to: usize) -> String {
        let node = &self.nodes[to];
        let host = if self.dialect.empty_hosts { "" } else { &node.host };
        format!("{code} {slot} {host}:{}", node.address.port())
    }

    /// Which of a migration's two nodes has the key; `None` when it does not exist.
    fn location(&self, key: &[u8], migration: &Migration) -> Option<usize> {
        self.value(key)?;
        let hash = key.iter().fold(17u64, |hash, byte| hash.wrapping_mul(31).wrapping_add(u64::from(*byte)));
        let moved = self.created_at_target.contains(key) || (hash >> 3) % 100 < migration.progress;
        Some(if moved { migration.to } else { migration.from })
    }

    fn write(&mut self, key: &[u8], value: Option<Vec<u8>>) {
        self.written.insert(key.to_vec(), value);
    }

    fn value(&self, key: &[u8]) -> Option<Vec<u8>> {
        if let Some(value) = self.written.get(key) {
            return value.clone();
        }
        let suffix = key.splitn(2, |byte| *byte == b':').nth(1)?;
        match suffix.first()? {
            b's' => None,
            b'i' => Some((number_of(key)? * 1000).to_string().into_bytes()),
            _ => Some(suffix.to_vec()),
        }
    }

    fn value_answer(&self, key: &[u8]) -> Answer {
        self.value(key).map_or(Answer::Null, Answer::Bulk)
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
        let role = if self.nodes[session.node].replica_of.is_some() { "replica" } else { "master" };
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

    /// The slots of the view as ranges with their owner.
    fn ranges(&self, asked: usize) -> Vec<(usize, usize, usize)> {
        let view = &self.nodes[asked].view;
        let mut ranges = Vec::new();
        let mut first = 0;
        for slot in 1..=view.len() {
            if view.get(slot) != Some(&view[first]) {
                if view[first] != NOBODY {
                    ranges.push((first, slot - 1, usize::from(view[first])));
                }
                first = slot;
            }
        }
        ranges
    }

    fn members(&self, primary: usize) -> impl Iterator<Item = usize> {
        let replicas =
            (0..self.nodes.len()).filter(move |index| self.nodes[*index].replica_of == Some(primary));
        std::iter::once(primary).chain(replicas)
    }

    fn announced_host(&self, node: usize) -> Answer {
        if self.dialect.empty_hosts { Answer::text("") } else { Answer::text(&self.nodes[node].host) }
    }

    fn slots_answer(&self, asked: usize) -> Answer {
        let range = |(first, last, owner): (usize, usize, usize)| {
            let mut items = vec![Answer::Integer(first as i64), Answer::Integer(last as i64)];
            items.extend(self.members(owner).map(|node| {
                let port = Answer::Integer(self.nodes[node].address.port().into());
                let id = Answer::text(&format!("{node:040x}"));
                Answer::Array(vec![self.announced_host(node), port, id, Answer::Array(Vec::new())])
            }));
            Answer::Array(items)
        };
        Answer::Array(self.ranges(asked).into_iter().map(range).collect())
    }

    fn shards_answer(&self, asked: usize) -> Answer {
        let ranges = self.ranges(asked);
        let primaries: Vec<_> =
            (0..self.nodes.len()).filter(|node| self.nodes[*node].replica_of.is_none()).collect();
        let shard = |primary: usize| {
            let own = ranges.iter().filter(|(_, _, owner)| *owner == primary);
            let slots = own
                .flat_map(|(first, last, _)| [Answer::Integer(*first as i64), Answer::Integer(*last as i64)]);
            let nodes = self.members(primary).map(|node| {
                Answer::Map(vec![
                    ("id", Answer::text(&format!("{node:040x}"))),
                    ("port", Answer::Integer(self.nodes[node].address.port().into())),
                    ("ip", Answer::text(&self.nodes[node].address.ip().to_string())),
                    ("endpoint", self.announced_host(node)),
                    ("role", Answer::text(if node == primary { "master" } else { "replica" })),
                    ("replication-offset", Answer::Integer(1)),
                    ("health", Answer::text("online")),
                ])
            });
            Answer::Map(vec![
                ("slots", Answer::Array(slots.collect())),
                ("nodes", Answer::Array(nodes.collect())),
            ])
        };
        Answer::Array(primaries.into_iter().map(shard).collect())
    }
}

/// The request number that a key ends in.
fn number_of(key: &[u8]) -> Option<u64> {
    std::str::from_utf8(key.rsplit(|byte| *byte == b':').next()?).ok()?.parse().ok()
}
