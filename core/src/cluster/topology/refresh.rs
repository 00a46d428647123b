//! Learning the topology anew.
//!
//! ```text
//!   in doubt, or asked long ago ─→ ask up to three random nodes ─→ views ─→ the best one counts
//! ```
//!
//! One round of questions at a time is under way: CLUSTER SLOTS, which every server knows and which decides where slots
//! are; CLUSTER SHARDS, which adds health and availability zones where the server has it (Redis 7.0); CLUSTER INFO, whose
//! `cluster_current_epoch` says how recent the node's view is. All three are one write to each node.
//!
//! The first view counts at once when it is no older than the present topology, so that one slow node delays
//! nothing. When the round is over, the view with the highest epoch counts, and among several of that epoch the one that most
//! nodes share. A view of a lower epoch is believed only when there is nothing else for a few rounds.
//!
//! All this is about views of the present cluster. What becomes of those of another is in `identity.rs`.

use alloc::vec::Vec;
use core::time::Duration;

use crate::address::NodeAddr;
use crate::cluster::links::connection::Expected;
use crate::cluster::{Cluster, ConnId, Connection, Event, NodeKey, Output, Phase, State};
use crate::config::ReplicaReads;
use crate::error::ServerError;
use crate::resp::{Reply, ReplyRef};
use crate::time::Instant;
use crate::topology::{Health, Index, Role, Topology};

/// How many nodes are asked in one round.
const ASKED_MAX: usize = 3;
/// From one round to the next at least half of this; it doubles while rounds bring nothing new.
const INTERVAL_BASE: Duration = Duration::from_millis(100);
/// From one round to the next at most, while the topology is in doubt.
const INTERVAL_CAP: Duration = Duration::from_millis(500);
/// While a node is not well, the topology is asked for again after at most this; it doubles with each round.
const AILING_INTERVAL: Duration = Duration::from_secs(2);
/// A round without any answer is over after this.
const ROUND_TIMEOUT: Duration = Duration::from_secs(1);
/// After the first answer the others have this long.
const ROUND_PATIENCE: Duration = Duration::from_millis(100);
/// A node that may not be asked is not asked again sooner.
const REFUSED_INTERVAL: Duration = Duration::from_secs(1);
/// So many replicas of a shard serve reads at most.
const REPLICAS_MAX: usize = 64;
/// So many rounds in a row that bring only older views are not believed.
const STALE_ROUNDS_MAX: u32 = 3;
/// After so many rounds in a row in which no known node has answered, another cluster's view counts.
pub(in crate::cluster) const STRANGE_ROUNDS_MAX: u32 = 3;

/// Whether the topology is in doubt, and who has been asked.
#[derive(Debug, Default)]
pub(in crate::cluster) struct Refresh {
    wanted: bool,
    /// No round before this.
    not_before: Instant,
    /// A round from this on, also without a doubt.
    due_at: Instant,
    /// Rounds in a row that brought nothing new.
    fruitless: u32,
    stale_rounds: u32,
    /// Rounds in a row that told of a node that is not well.
    ailing_rounds: u32,
    pub(in crate::cluster) queries: Vec<Query>,
    serial: u64,
    /// When the round under way began.
    pub(in crate::cluster) began_at: Option<Instant>,
    pub(in crate::cluster) first_answer_at: Option<Instant>,
    pub(in crate::cluster) views: Vec<View>,
    /// Views of another cluster.
    strange_views: Vec<View>,
    /// Rounds in a row that brought nothing but such views.
    strange_rounds: u32,
    changed: bool,
    /// Whether a node has refused to answer, in the round under way.
    refused: bool,
    /// `cluster_current_epoch` of the present topology.
    epoch: Option<u64>,
}

impl Refresh {
    /// A connection is gone: its answer does not come.
    pub(in crate::cluster) fn forget_connection(&mut self, conn: ConnId) {
        self.queries.retain(|query| query.conn != conn);
    }
}

/// One node's answer that is to come.
#[derive(Debug)]
pub(in crate::cluster) struct Query {
    number: u64,
    conn: ConnId,
    asked_at: Instant,
    /// The parts that have come.
    topology: Option<Topology>,
}

/// One node's answer.
#[derive(Debug)]
pub(in crate::cluster) struct View {
    pub(in crate::cluster) topology: Topology,
    pub(in crate::cluster) epoch: Option<u64>,
    pub(in crate::cluster) asked_at: Instant,
    /// Who has given it.
    pub(in crate::cluster) conn: ConnId,
    pub(in crate::cluster) from: NodeAddr,
}

impl Cluster {
    /// Remembers that the topology is in doubt. `drive_refresh` asks when it may.
    pub(in crate::cluster) fn want_refresh(&mut self) {
        self.refresh.wanted = true;
    }

    /// Whether any connection would do, because there is none to ask.
    pub(in crate::cluster) fn refresh_wants_connections(&self) -> bool {
        matches!(self.phase, Phase::Clustered)
            && self.refresh.wanted
            && self.refresh.queries.is_empty()
            && !self.links.has_contact()
    }

    /// Begins a round when the topology is in doubt or old, and ends one that has lasted long enough.
    pub(in crate::cluster) fn drive_refresh(&mut self) {
        if !matches!(self.phase, Phase::Clustered) {
            return;
        }
        if let Some(ends_at) = self.round_ends_at() {
            if ends_at <= self.cx.now {
                self.end_round();
            }
            return;
        }
        let wanted = self.refresh.wanted || self.refresh.due_at <= self.cx.now;
        if !wanted || self.refresh.not_before > self.cx.now {
            return;
        }
        let has_contact = self.links.has_contact();
        // Those that have said another id, and so whether the node was replaced; a known node has to be asked, too.
        let is_strange = |connection: &Connection| connection.state == State::Strange;
        let strange = self.links.iter().filter(|(_, connection)| is_strange(connection));
        let strange = strange.map(|(conn, _)| conn).take(ASKED_MAX - usize::from(has_contact));
        let strange: Vec<_> = strange.collect();
        if !has_contact {
            if self.refresh.wanted {
                // The seeds may know when every node of the last topology is gone.
                for seed in self.cx.config.seeds.clone() {
                    self.nodes.find(&self.cx, &seed);
                }
                self.seek_contact();
            }
            if strange.is_empty() {
                return;
            }
        }
        let usable = |connection: &Connection| connection.is_usable() && connection.is_shared();
        let usable = self.links.iter().filter(|(_, connection)| usable(connection));
        let mut usable: Vec<_> = usable.map(|(conn, _)| conn).collect();
        self.refresh.wanted = false;
        let wait = self.cx.random.backoff(INTERVAL_BASE, INTERVAL_CAP, self.refresh.fruitless);
        self.refresh.not_before = self.cx.now + wait;
        self.cx.statistics.refreshes += 1;
        let others = ASKED_MAX - strange.len();
        strange.into_iter().for_each(|conn| self.ask(conn));
        for _ in 0..others.min(usable.len()) {
            // Not empty: this comes no more often than it has elements, and `below` stays below its length.
            let chosen = usable.swap_remove(self.cx.random.below(usable.len()));
            self.ask(chosen);
        }
    }

    /// Sets when the topology is asked for although nobody doubts it. The tenth by chance keeps clients that
    /// were started together from asking together. While a node is not well it is sooner: nothing but the topology tells when a
    /// replica may serve reads again.
    pub(in crate::cluster) fn schedule_refresh(&mut self) {
        let interval = self.cx.config.refresh_interval;
        let members = self.topology.shards.iter().flat_map(|shard| &shard.nodes);
        let is_ailing =
            members.into_iter().any(|node| matches!(node.health, Health::Failed | Health::Loading));
        self.refresh.ailing_rounds = if is_ailing { self.refresh.ailing_rounds.saturating_add(1) } else { 0 };
        let wait = match self.refresh.ailing_rounds.checked_sub(1) {
            Some(rounds) => self.cx.random.backoff(AILING_INTERVAL.min(interval), interval, rounds),
            None => interval - self.cx.random.up_to(interval / 10),
        };
        self.refresh.due_at = self.cx.now + wait;
    }

    /// The client was given its topology: it is asked for as soon as a node is connected.
    pub(in crate::cluster) fn refresh_when_connected(&mut self) {
        self.refresh.due_at = self.cx.now;
    }

    /// Sends the questions.
    pub(in crate::cluster) fn ask(&mut self, conn: ConnId) {
        if self.links.get(conn).is_none() {
            return;
        }
        if self.refresh.began_at.is_none() {
            self.refresh.began_at = Some(self.cx.now);
            self.refresh.changed = false;
        }
        self.refresh.serial += 1;
        let number = self.refresh.serial;
        self.links.send_words(&mut self.cx, conn, &["CLUSTER", "SLOTS"], Expected::Slots(number));
        self.links.send_words(&mut self.cx, conn, &["CLUSTER", "SHARDS"], Expected::Shards(number));
        self.links.send_words(&mut self.cx, conn, &["CLUSTER", "INFO"], Expected::Info(number));
        self.refresh.queries.push(Query { number, conn, asked_at: self.cx.now, topology: None });
    }

    /// Takes the answer to CLUSTER SLOTS in.
    pub(in crate::cluster) fn on_slots(&mut self, conn: ConnId, number: u64, reply: &Reply) {
        let asked = self.host_of(conn);
        let map = &self.cx.config.address_map;
        let Some(query) = self.refresh.queries.iter_mut().find(|query| query.number == number) else {
            return;
        };
        let unusable = match reply.as_error() {
            Some(error) => {
                let error = error.to_kept();
                // That is an answer, and no other comes before somebody has changed it.
                if is_forbidden(&error) && matches!(self.phase, Phase::Clustered) {
                    self.refresh.refused = true;
                    self.tell_refused(conn, "CLUSTER SLOTS", &error);
                }
                crate::cluster::topology::discovery::Answer::Refused(error)
            }
            None => match Topology::from_cluster_slots(reply, &asked) {
                Ok(mut topology) => {
                    topology.map_addresses(map);
                    query.topology = Some(topology);
                    return;
                }
                Err(why) => crate::cluster::topology::discovery::Answer::Unusable(why),
            },
        };
        self.abandon_query(number);
        self.on_unusable_answer(conn, unusable);
    }

    /// Takes the answer to CLUSTER SHARDS in. That it is an error on older servers does no harm.
    pub(in crate::cluster) fn on_shards(&mut self, conn: ConnId, number: u64, reply: &Reply) {
        let asked = self.host_of(conn);
        let map = &self.cx.config.address_map;
        let query = self.refresh.queries.iter_mut().find(|query| query.number == number);
        if let Some(topology) = query.and_then(|query| query.topology.as_mut())
            && let Ok(mut shards) = Topology::from_cluster_shards(reply, &asked, false)
        {
            shards.map_addresses(map);
            topology.enrich(shards);
        }
    }

    /// Takes the answer to CLUSTER INFO in, and with it the whole view.
    pub(in crate::cluster) fn on_info(&mut self, conn: ConnId, number: u64, reply: &Reply) {
        let Some(index) = self.refresh.queries.iter().position(|query| query.number == number) else {
            return self.mark_healthy(conn);
        };
        let query = self.refresh.queries.swap_remove(index);
        let node = self.links.get(conn).and_then(|connection| self.nodes.get(connection.node));
        let (Some(topology), Some(node)) = (query.topology, node) else {
            return;
        };
        let from = node.address.clone();
        let text = reply.cursor().and_then(ReplyRef::as_str).unwrap_or_default();
        let epoch = text.lines().find_map(|line| line.strip_prefix("cluster_current_epoch:"));
        let epoch = epoch.and_then(|epoch| epoch.trim().parse().ok());
        self.on_view(View { topology, epoch, asked_at: query.asked_at, conn, from });
    }

    fn host_of(&self, conn: ConnId) -> alloc::string::String {
        let node = self.links.get(conn).and_then(|connection| self.nodes.get(connection.node));
        node.map(|node| node.address.host()).unwrap_or_default().into()
    }

    fn on_view(&mut self, view: View) {
        self.refresh.first_answer_at.get_or_insert(self.cx.now);
        let conn = view.conn;
        if let Phase::Starting(_) = self.phase {
            self.mark_healthy(conn);
            // `settle_start` decides.
            return self.refresh.views.push(view);
        }
        if !self.is_kin(conn, &view.topology) {
            self.refresh.strange_views.push(view);
            return self.on_stranger(conn);
        }
        self.mark_healthy(conn);
        let is_first = self.refresh.views.is_empty();
        let is_newer = match (view.epoch, self.refresh.epoch) {
            (Some(new), Some(present)) => new > present || (new == present && is_first),
            (_, None) => is_first,
            (None, Some(_)) => false,
        };
        if is_newer {
            self.adopt(&view.topology, view.epoch, view.asked_at);
        }
        self.reconsider(conn, &view.topology);
        self.refresh.views.push(view);
    }

    /// When the round under way ends: at once when nobody is left who could answer.
    fn round_ends_at(&self) -> Option<Instant> {
        let began_at = self.refresh.began_at?;
        if self.refresh.queries.is_empty() {
            return Some(began_at);
        }
        let timeout = began_at + ROUND_TIMEOUT;
        Some(self.refresh.first_answer_at.map_or(timeout, |first| (first + ROUND_PATIENCE).min(timeout)))
    }

    /// Decides which of the round's views counts.
    fn end_round(&mut self) {
        self.refresh.queries.clear();
        (self.refresh.began_at, self.refresh.first_answer_at) = (None, None);
        let views = core::mem::take(&mut self.refresh.views);
        let strange_views = core::mem::take(&mut self.refresh.strange_views);
        let newest = views.iter().map(|view| view.epoch).max().flatten();
        let supporters =
            |view: &View| views.iter().filter(|other| other.topology.agrees_with(&view.topology)).count();
        let best = views.iter().filter(|view| view.epoch == newest).max_by_key(|view| supporters(view));
        if let Some(best) = best {
            let is_stale = best.epoch.is_some() && best.epoch < self.refresh.epoch;
            self.refresh.stale_rounds = if is_stale { self.refresh.stale_rounds + 1 } else { 0 };
            if is_stale && self.refresh.stale_rounds < STALE_ROUNDS_MAX {
                self.refresh.wanted = true;
            } else if is_stale || !best.topology.agrees_with(&self.topology) {
                self.refresh.stale_rounds = 0;
                self.adopt(&best.topology, best.epoch, best.asked_at);
            }
        } else if self.refresh.refused {
            self.refresh.not_before = self.refresh.not_before.max(self.cx.now + REFUSED_INTERVAL);
        } else {
            self.refresh.wanted = true;
        }
        self.refresh.refused = false;
        if !views.is_empty() {
            self.refresh.strange_rounds = 0;
        } else if let Some(newest) = strange_views.iter().max_by_key(|view| view.epoch) {
            self.refresh.strange_rounds += 1;
            if self.refresh.strange_rounds >= STRANGE_ROUNDS_MAX && self.is_forsaken() {
                self.refresh.strange_rounds = 0;
                self.go_over(newest);
            }
        }
        let answers = views.len() as u32;
        let changed = core::mem::take(&mut self.refresh.changed);
        self.refresh.fruitless = if changed { 0 } else { self.refresh.fruitless.saturating_add(1) };
        if changed {
            self.refresh.ailing_rounds = 0;
        }
        self.cx.tell(Event::Refreshed { answers, changed });
        self.schedule_refresh();
        if self.is_anything_unserved() {
            self.refresh.wanted = true;
        } else if !self.refresh.wanted {
            self.refresh.fruitless = 0;
        }
    }

    /// Whether requests wait for a node that is down or unknown: somebody may have taken over.
    fn is_anything_unserved(&self) -> bool {
        let waits = |node: &crate::cluster::Node| {
            node.is_down() && !(node.queue.is_empty() && node.waiters.is_empty())
        };
        !self.unrouted.is_empty() || self.nodes.values().any(waits)
    }

    /// From now on this topology counts, apart from what MOVED has said since it was asked for.
    pub(in crate::cluster) fn adopt(&mut self, topology: &Topology, epoch: Option<u64>, asked_at: Instant) {
        let is_first = self.topology.shards.is_empty();
        let mut owners = Vec::with_capacity(topology.shards.len());
        self.nodes.values_mut().for_each(|node| node.replicas.clear());
        for shard in &topology.shards {
            let Some(primary) = shard.primary() else {
                continue;
            };
            let key = self.nodes.find(&self.cx, &primary.address);
            let slots = shard.slots.iter().flat_map(|range| range.slots()).collect();
            owners.push((key, slots));
            let fit = |health| matches!(health, Health::Online | Health::Unknown);
            let replicas = shard.nodes.iter().filter(|node| node.role == Role::Replica && fit(node.health));
            let replicas =
                replicas.take(REPLICAS_MAX).map(|node| self.nodes.find(&self.cx, &node.address)).collect();
            if let Some(node) = self.nodes.get_mut(key) {
                node.replicas = replicas;
            }
        }
        for member in topology.shards.iter().flat_map(|shard| &shard.nodes) {
            let node = self.nodes.at(&member.address).and_then(|key| self.nodes.get_mut(key));
            if let (Some(node), Some(zone)) = (node, &member.availability_zone) {
                node.availability_zone = Some(zone.clone());
            }
        }
        let nodes = &self.nodes;
        self.slots.forget_patches(|key| nodes.get(key).is_none_or(crate::cluster::Node::is_down));
        let before = self.owners_of_busy_slots();
        self.slots.replace(owners.iter().cloned(), asked_at, epoch);
        self.hold_moved(&before);
        self.refresh.epoch = epoch;
        if !is_first {
            self.tell_changes(topology);
        }
        self.topology = topology.clone();
        self.directory = Index::of(topology);
        for node in self.nodes.values() {
            let place = self.directory.at(topology, &node.address).next();
            if let (Some(zone), Some((place, _))) = (&node.availability_zone, place) {
                self.topology.name_zone(place, zone);
            }
        }
        if let Phase::Starting(_) = self.phase {
            self.phase = Phase::Clustered;
            self.forget_other_addresses();
            self.schedule_refresh();
            self.cx.output(Output::Ready(Ok(())));
        }
        self.recognise_anew();
        self.dispatch_waiting();
        self.place_waiting_leases();
        self.retire_strangers();
        // With a topology that nobody was asked for, nodes are dialled when they are first needed.
        let from_replicas = self.cx.config.replica_reads != ReplicaReads::Primary && self.refresh.serial > 0;
        let replicas: Vec<_> = self.nodes.values().flat_map(|node| node.replicas.iter().copied()).collect();
        self.nodes.values_mut().for_each(|node| node.serves_reads = false);
        for key in replicas.into_iter().filter(|_| from_replicas) {
            if let Some(node) = self.nodes.get_mut(key) {
                node.serves_reads = true;
            }
            self.ensure_connection(key);
        }
        self.seek_contact();
    }

    /// Says what is different now, and connects to primaries that are new.
    fn tell_changes(&mut self, topology: &Topology) {
        for (from, to) in topology.failovers_since(&self.topology) {
            self.cx.tell(Event::FailedOver { from, to });
        }
        let change = topology.changes_since(&self.topology);
        if change.is_empty() {
            return;
        }
        self.refresh.changed = true;
        let takers = change.moved.iter().filter_map(|moved| self.nodes.at(moved.to.as_ref()?));
        let takers: Vec<_> = takers.collect();
        self.cx.tell(Event::TopologyChanged(change));
        for key in takers {
            if let Some(node) = self.nodes.get_mut(key) {
                // One that fails is not dialled again for this.
                node.is_new = node.connection.is_none() && node.redial_at <= self.cx.now;
            }
            self.ensure_connection(key);
        }
    }

    /// Nodes that are no part of the topology go, once nothing waits for them.
    pub(in crate::cluster) fn retire_strangers(&mut self) {
        let members = self.topology.shards.iter().flat_map(|shard| &shard.nodes);
        let members = members.filter_map(|member| self.nodes.at(&member.address));
        let kept: Vec<_> = members.chain(self.slots.owners().iter().copied()).collect();
        self.nodes.retire_all_but(&kept);
        for key in self.nodes.keys().collect::<Vec<_>>() {
            self.drop_if_retired(key);
        }
    }

    /// Closes a retired node's connections when nobody waits for their replies, and forgets it when it has none left.
    pub(in crate::cluster) fn drop_if_retired(&mut self, key: NodeKey) {
        let Some(node) = self.nodes.get(key).filter(|node| node.retired) else {
            return;
        };
        if !node.queue.is_empty() || !node.waiters.is_empty() {
            return;
        }
        let own = node.connections.iter();
        let own = own.filter_map(|conn| Some((*conn, self.links.get(*conn)?)));
        let (mut unused, mut used) = (Vec::new(), 0);
        for (conn, connection) in own {
            match connection.lease().is_some() || self.is_awaited(conn, connection) {
                true => used += 1,
                false => unused.push(conn),
            }
        }
        for conn in unused {
            self.close_quietly(conn);
        }
        if used == 0 {
            self.nodes.forget(&self.cx, key);
        }
    }

    /// A query's connection has ended, or its answer was of no use.
    pub(in crate::cluster) fn abandon_query(&mut self, number: u64) {
        self.refresh.queries.retain(|query| query.number != number);
    }

    /// When `drive_refresh` has something to do.
    pub(in crate::cluster) fn next_refresh(&self) -> Option<Instant> {
        if !matches!(self.phase, Phase::Clustered) {
            return None;
        }
        match self.round_ends_at() {
            Some(at) => Some(at),
            // Without anybody to ask, the seeds are dialled then.
            None if self.refresh.wanted
                && (self.refresh.not_before > self.cx.now || !self.refresh_wants_connections()) =>
            {
                Some(self.refresh.not_before)
            }
            None => None,
        }
    }
}

/// Whether an access list forbids the question, or the server does not know it: not what a node says that will know more soon.
fn is_forbidden(error: &ServerError) -> bool {
    let is_unknown = || error.message.to_ascii_lowercase().starts_with("unknown command");
    error.code == "NOPERM" || (error.code == "ERR" && is_unknown())
}
