//! Finding the cluster: the start from the seeds, and learning the topology anew when it has changed.
//!
//! One question at a time is under way: CLUSTER SLOTS, which every server knows and which decides where
//! slots are, and CLUSTER SHARDS in the same write, which adds health and availability zones where the
//! server has it (Redis 7.0). At the start it is asked of every seed that answers, and the first answer counts.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

use super::connection::Waiting;
use super::connections::Driver;
use super::{Cluster, ConnId, Output, Phase};
use crate::address::NodeAddr;
use crate::config::Mode;
use crate::error::{Error, ServerError};
use crate::resp::Reply;
use crate::time::Instant;
use crate::topology::Topology;

/// Between two questions to the cluster at least; as much again is added by chance.
const REFRESH_INTERVAL: Duration = Duration::from_millis(50);
/// A node that has not answered by then is passed over.
const QUERY_TIMEOUT: Duration = Duration::from_secs(1);

/// The start: what has become of the seeds.
#[derive(Debug)]
pub(super) struct Start {
    deadline: Instant,
    /// Why each seed cannot be used, of those that are known to be of no use.
    reasons: BTreeMap<NodeAddr, Error>,
}

impl Start {
    pub(super) fn new(deadline: Instant) -> Self {
        Self { deadline, reasons: BTreeMap::new() }
    }
}

/// Whether the topology is in doubt, and who has been asked.
#[derive(Debug, Default)]
pub(super) struct Refresh {
    wanted: bool,
    /// No question before this.
    not_before: Instant,
    pub(super) queries: Vec<Query>,
    serial: u64,
}

/// One node's answer that is to come.
#[derive(Debug)]
pub(super) struct Query {
    number: u64,
    conn: ConnId,
    asked_at: Instant,
    /// The answer's first half.
    topology: Option<Topology>,
}

impl Cluster {
    /// Remembers that the topology is in doubt. `drive_refresh` asks when it may.
    pub(super) fn want_refresh(&mut self) {
        self.refresh.wanted = true;
    }

    /// Whether any connection would do, because there is none to ask.
    pub(super) fn refresh_wants_connections(&self) -> bool {
        matches!(self.phase, Phase::Clustered)
            && self.refresh.wanted
            && self.refresh.queries.is_empty()
            && !self.connections.values().any(|connection| connection.is_ready() && !connection.draining)
    }

    /// Asks a random node for the topology, if it is in doubt and nobody has been asked just now.
    pub(super) fn drive_refresh(&mut self) {
        let due = matches!(self.phase, Phase::Clustered)
            && self.refresh.wanted
            && self.refresh.queries.is_empty()
            && self.refresh.not_before <= self.now;
        if !due {
            return;
        }
        let usable =
            self.connections.iter().filter(|(_, connection)| connection.is_ready() && !connection.draining);
        let usable: Vec<_> = usable.map(|(conn, _)| conn).collect();
        match self.random.choose(&usable) {
            Some(conn) => {
                let jitter = self.random.below(REFRESH_INTERVAL.as_nanos() as usize) as u64;
                self.refresh.not_before = self.now + REFRESH_INTERVAL + Duration::from_nanos(jitter);
                self.ask(*conn);
            }
            None => {
                // The seeds may know when every node of the last topology is gone.
                for seed in self.config.seeds.clone() {
                    self.node_at(&seed);
                }
                self.redial();
            }
        }
    }

    /// Sends the question.
    fn ask(&mut self, conn: ConnId) {
        let Some(connection) = self.connections.get_mut(conn) else {
            return;
        };
        self.refresh.serial += 1;
        let number = self.refresh.serial;
        connection.send_words(&["CLUSTER", "SLOTS"], Waiting::Slots(number));
        connection.send_words(&["CLUSTER", "SHARDS"], Waiting::Shards(number));
        self.refresh.queries.push(Query { number, conn, asked_at: self.now, topology: None });
        self.statistics.commands += 2;
        self.statistics.refreshes += 1;
        self.mark_unflushed(conn);
    }

    /// A seed is connected: ask it, or take it alone.
    pub(super) fn on_seed_ready(&mut self, conn: ConnId) {
        match self.config.mode {
            Mode::Standalone => self.start_standalone(conn),
            Mode::Auto | Mode::Cluster => self.ask(conn),
        }
    }

    /// Takes the answer to CLUSTER SLOTS in.
    pub(super) fn on_slots(&mut self, conn: ConnId, number: u64, reply: &Reply) {
        let Some(query) = self.refresh.queries.iter_mut().find(|query| query.number == number) else {
            return;
        };
        let node = self.connections.get(conn).and_then(|connection| self.nodes.get(connection.node));
        let asked = node.map(|node| node.address.host()).unwrap_or_default();
        let answer = match reply.as_error() {
            Some(error) => Err(Answer::Refused(error.clone())),
            None => Topology::from_cluster_slots(reply, asked).map_err(Answer::Unusable),
        };
        match answer {
            Ok(topology) => query.topology = Some(topology),
            Err(answer) => {
                self.abandon_query(number);
                self.on_unusable_answer(conn, answer);
            }
        }
    }

    /// Takes the answer to CLUSTER SHARDS in, and with it the whole answer.
    pub(super) fn on_shards(&mut self, number: u64, reply: &Reply) {
        let Some(index) = self.refresh.queries.iter().position(|query| query.number == number) else {
            return;
        };
        let query = self.refresh.queries.swap_remove(index);
        let Some(mut topology) = query.topology else {
            return;
        };
        let node = self.connections.get(query.conn).and_then(|connection| self.nodes.get(connection.node));
        let asked = node.map(|node| node.address.host()).unwrap_or_default();
        if let Ok(shards) = Topology::from_cluster_shards(reply, asked) {
            topology.enrich(shards);
        }
        self.adopt(topology, query.asked_at);
    }

    /// What a node that cannot tell the topology means: at the start much, later only that another is asked.
    fn on_unusable_answer(&mut self, conn: ConnId, answer: Answer) {
        if !matches!(self.phase, Phase::Starting(_)) {
            return;
        }
        if matches!(&answer, Answer::Refused(error) if has_no_cluster(error))
            && self.config.mode == Mode::Auto
        {
            return self.start_standalone(conn);
        }
        let reason = match answer {
            Answer::Refused(error) if error.code == "NOPERM" => {
                format!("CLUSTER SLOTS was answered with: {error}; a server alone needs mode standalone")
            }
            Answer::Refused(error) => format!("CLUSTER SLOTS was answered with: {error}"),
            Answer::Unusable(reason) => reason,
        };
        self.lose(conn, Error::Connect(reason), Driver::MustClose);
    }

    /// From now on this topology counts, apart from what MOVED has said since it was asked for.
    fn adopt(&mut self, topology: Topology, asked_at: Instant) {
        let mut owners = Vec::with_capacity(topology.shards.len());
        for shard in &topology.shards {
            if let Some(primary) = shard.primary() {
                let node = self.node_at(&primary.address);
                let slots = shard.slots.iter().flat_map(|range| range.slots()).collect();
                owners.push((node, slots));
            }
        }
        self.slots.replace(owners.into_iter(), asked_at);
        self.topology = topology;
        self.refresh.wanted = false;
        if let Phase::Starting(_) = self.phase {
            self.phase = Phase::Clustered;
            self.refresh.queries.clear();
            self.outputs.push_back(Output::Ready(Ok(())));
        }
        self.dispatch_waiting();
        self.forget_strangers();
    }

    /// Takes the server at this connection alone.
    fn start_standalone(&mut self, conn: ConnId) {
        let Some(key) = self.connections.get(conn).map(|connection| connection.node) else {
            return;
        };
        let Some(node) = self.nodes.get(key) else {
            return;
        };
        self.topology = Topology::of_one_server(node.address.clone());
        self.phase = Phase::Standalone(key);
        self.refresh = Refresh::default();
        self.outputs.push_back(Output::Ready(Ok(())));
        self.dispatch_waiting();
        self.forget_strangers();
    }

    /// Drops what is known of nodes that are no part of the topology and of no use any more.
    fn forget_strangers(&mut self) {
        let members = self.topology.shards.iter().flat_map(|shard| &shard.nodes);
        let members: Vec<_> =
            members.filter_map(|member| self.by_address.get(&member.address).copied()).collect();
        let strangers: Vec<_> = self.nodes.keys().filter(|node| !members.contains(node)).collect();
        for key in strangers {
            let Some(node) = self.nodes.get(key) else {
                continue;
            };
            let conn = node.connection;
            let requests = &self.requests;
            let is_live =
                |waiting: &Waiting| matches!(waiting, Waiting::Request(id) if requests.contains_key(*id));
            let mut own = self.connections.values().filter(|connection| connection.node == key);
            let in_use = own.any(|connection| connection.draining || connection.waiting.iter().any(is_live));
            let serves = self.slots.owners().contains(&key);
            if in_use || serves || !node.queue.is_empty() {
                continue;
            }
            if let Some(node) = self.nodes.remove(key) {
                self.by_address.remove(&node.address);
            }
            if let Some(conn) = conn
                && self.connections.remove(conn).is_some()
            {
                self.refresh.queries.retain(|query| query.conn != conn);
                self.statistics.disconnects += 1;
                self.outputs.push_back(Output::Close { conn });
            }
        }
    }

    /// A query's connection has ended, or its answer was of no use.
    pub(super) fn abandon_query(&mut self, number: u64) {
        self.refresh.queries.retain(|query| query.number != number);
    }

    /// A seed cannot be used. When none can, the client cannot.
    pub(super) fn on_seed_failed(&mut self, address: &NodeAddr, error: Error) {
        let Phase::Starting(start) = &mut self.phase else {
            return;
        };
        start.reasons.insert(address.clone(), error);
        if self.config.seeds.iter().all(|seed| start.reasons.contains_key(seed)) {
            self.fail_start();
        }
    }

    fn fail_start(&mut self) {
        let Phase::Starting(start) = &mut self.phase else {
            return;
        };
        let reasons = core::mem::take(&mut start.reasons);
        let error = start_error(&self.config.seeds, &reasons, self.config.connect_timeout);
        self.outputs.push_back(Output::Ready(Err(error.clone())));
        self.shut_down(&error);
    }

    /// When `check_discovery_deadlines` or `drive_refresh` has something to do.
    pub(super) fn next_discovery_deadline(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Starting(start) => Some(start.deadline),
            Phase::Clustered => match self.refresh.queries.first() {
                Some(query) => Some(query.asked_at + QUERY_TIMEOUT),
                None if self.refresh.wanted && !self.refresh_wants_connections() => {
                    Some(self.refresh.not_before)
                }
                None => None,
            },
            Phase::Standalone(_) | Phase::Closed => None,
        }
    }

    pub(super) fn check_discovery_deadlines(&mut self) {
        match &self.phase {
            Phase::Starting(start) if start.deadline <= self.now => self.fail_start(),
            Phase::Clustered => {
                let now = self.now;
                let late = |query: &mut Query| query.asked_at + QUERY_TIMEOUT <= now;
                for query in self.refresh.queries.extract_if(.., late).collect::<Vec<_>>() {
                    self.suspect(query.conn, query.asked_at);
                }
            }
            _ => {}
        }
    }
}

/// Why a node's answer is no topology.
enum Answer {
    Refused(ServerError),
    Unusable(String),
}

/// Whether this is how a server without cluster support, or a stand-in for one, answers CLUSTER SLOTS.
fn has_no_cluster(error: &ServerError) -> bool {
    let message = error.message.to_ascii_lowercase();
    error.code == "ERR"
        && (message.contains("cluster support disabled") || message.starts_with("unknown command"))
}

/// What the start failed with: each seed and its reason.
fn start_error(seeds: &[NodeAddr], reasons: &BTreeMap<NodeAddr, Error>, within: Duration) -> Error {
    // A refused log-in is the answer of the cluster, and what the user can mend; that other seeds are down is not.
    let refused = reasons.values().find(|error| matches!(error, Error::Authentication(_)));
    let only_refused = |error: &Error| matches!(error, Error::Authentication(_) | Error::Connect(_));
    if let Some(refused) = refused
        && reasons.values().all(only_refused)
    {
        return refused.clone();
    }
    let mut lines = Vec::with_capacity(seeds.len());
    for seed in seeds {
        let reason = match reasons.get(seed) {
            Some(Error::Connect(reason)) => reason.clone(),
            Some(error) => error.to_string(),
            None => format!("no answer within {within:?}"),
        };
        let line = format!("{seed}: {reason}");
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    Error::Connect(lines.join("; "))
}
