//! Who is who, in truth and in each node's view: slots, replicas and epochs; what changes them
//! (moves, failovers) and how the nodes hear of it or do not (gossip, partitions). And what a node
//! says about it: CLUSTER SLOTS, SHARDS, INFO.
//!
//! Sources: cluster specification, "Configuration epochs" and "Handling of configuration changes";
//! `cluster.c`.

use keyslot_core::slot::{SLOT_COUNT, Slot};

use super::server::{Condition, MILLISECOND, NOBODY, Reach, Servers};
use super::wire::Answer;

/// So long a node without a majority goes on before it says CLUSTERDOWN.
pub(crate) const NODE_TIMEOUT: u64 = 300 * MILLISECOND;

/// One state of the configuration.
#[derive(Clone, Debug)]
pub(crate) struct View {
    /// Counts all changes; a move to a node that has the highest configuration epoch already
    /// changes no epoch.
    version: u64,
    /// The cluster's current epoch.
    pub(crate) epoch: u64,
    /// Each node's configuration epoch.
    config_epochs: Vec<u64>,
    /// Who serves each slot.
    pub(crate) owners: Vec<u8>,
    /// The primary that each node is a replica of.
    pub(crate) replica_of: Vec<Option<usize>>,
}

impl View {
    /// The first `primaries` of the nodes have equal parts of the slots, the others are their
    /// replicas.
    pub(crate) fn new(primaries: usize, nodes: usize) -> Self {
        let slots = usize::from(SLOT_COUNT);
        Self {
            version: 1,
            epoch: primaries as u64,
            config_epochs: (0..nodes).map(|node| (node % primaries) as u64 + 1).collect(),
            owners: (0..slots).map(|slot| (slot * primaries / slots) as u8).collect(),
            replica_of: (0..nodes).map(|node| (node >= primaries).then(|| node % primaries)).collect(),
        }
    }

    /// That of a node that was just started for the first time.
    fn empty(nodes: usize) -> Self {
        Self {
            version: 0,
            epoch: 0,
            config_epochs: vec![0; nodes],
            owners: vec![NOBODY; usize::from(SLOT_COUNT)],
            replica_of: vec![None; nodes],
        }
    }

    /// Whether the node that has it knows of itself alone.
    pub(super) fn is_empty(&self) -> bool {
        self.version == 0
    }

    /// The configuration epoch of a node; a replica's is its primary's.
    pub(super) fn config_epoch(&self, node: usize) -> u64 {
        self.config_epochs[self.replica_of[node].unwrap_or(node)]
    }

    fn primaries(&self) -> impl Iterator<Item = usize> {
        (0..self.replica_of.len()).filter(|node| self.replica_of[*node].is_none())
    }

    fn members(&self, primary: usize) -> impl Iterator<Item = usize> {
        let replicas = (0..self.replica_of.len()).filter(move |node| self.replica_of[*node] == Some(primary));
        std::iter::once(primary).chain(replicas)
    }

    /// The slots as ranges with their owner.
    pub(super) fn ranges(&self) -> Vec<(usize, usize, usize)> {
        let mut ranges = Vec::new();
        let mut first = 0;
        for slot in 1..=self.owners.len() {
            if self.owners.get(slot) != Some(&self.owners[first]) {
                if self.owners[first] != NOBODY {
                    ranges.push((first, slot - 1, usize::from(self.owners[first])));
                }
                first = slot;
            }
        }
        ranges
    }
}

/// What changes the configuration, and who hears of it.
impl Servers {
    pub(crate) fn owner(&self, slot: u16) -> usize {
        usize::from(self.truth.owners[usize::from(slot)])
    }

    pub(crate) fn replica_of(&self, node: usize) -> Option<usize> {
        self.truth.replica_of[node]
    }

    /// Ends a slot's move: source and target know at once, the others when they are told
    /// ([`Self::gossip`]). It waits while one of the two has no majority.
    pub(crate) fn finish_migration(&mut self, slot: u16) {
        let Some(migration) = self.migrations.get(&slot).copied() else { return };
        if self.is_cut_off(migration.from) || self.is_cut_off(migration.to) {
            return;
        }
        self.migrations.remove(&slot);
        let truth = &mut self.truth;
        truth.owners[usize::from(slot)] = migration.to as u8;
        truth.version += 1;
        if truth.config_epochs[migration.to] != truth.epoch {
            truth.epoch += 1;
            truth.config_epochs[migration.to] = truth.epoch;
        }
        for node in [migration.from, migration.to] {
            self.hear(node);
        }
    }

    /// The node hears the newest view, unless nobody who has it reaches the node.
    pub(crate) fn gossip(&mut self, node: usize) {
        if !self.nodes[node].deaf && !self.is_cut_off(node) {
            self.hear(node);
        }
    }

    fn hear(&mut self, node: usize) {
        let now = self.now;
        let state = &mut self.nodes[node];
        if state.view.version < self.truth.version {
            state.view.clone_from(&self.truth);
            state.applied = now;
        }
        self.store.unfork(node);
        self.drop_copy(node);
    }

    /// The node starts anew without its configuration.
    pub(crate) fn make_empty(&mut self, node: usize) {
        self.nodes[node].view = View::empty(self.nodes.len());
    }

    /// The replica takes the slots and the moves of its primary over, which becomes its replica.
    /// When the primary is well, it hands over in order; else what the replica has not applied
    /// is lost.
    pub(crate) fn promote(&mut self, replica: usize) {
        let Some(old) = self.truth.replica_of[replica] else { return };
        if self.is_cut_off(replica) || self.nodes[replica].reach != Reach::Up {
            return;
        }
        let is_orderly = self.replicates(replica, old);
        let applied = self.nodes[replica].applied;
        self.lossy_promotions += u64::from(!is_orderly);
        self.unheard_promotions += u64::from(self.is_cut_off(old));
        if self.is_cut_off(old) {
            self.store.fork(old);
        }
        if !is_orderly {
            let owners = &self.truth.owners;
            let is_old = |key: &[u8]| usize::from(owners[Slot::of_key(key).index()]) == old;
            self.store.roll_back(self.now, applied, is_old);
        }
        let truth = &mut self.truth;
        truth.replica_of[replica] = None;
        for primary in truth.replica_of.iter_mut().filter(|primary| **primary == Some(old)) {
            *primary = Some(replica);
        }
        truth.replica_of[old] = Some(replica);
        for owner in truth.owners.iter_mut().filter(|owner| usize::from(**owner) == old) {
            *owner = replica as u8;
        }
        truth.version += 1;
        truth.epoch += 1;
        truth.config_epochs[replica] = truth.epoch;
        self.promotions += 1;
        self.were_primaries.insert(replica);
        let concerned = |migration: &super::server::Migration| migration.from == old || migration.to == old;
        let broken_off = self.migrations.iter().filter(|(_, it)| concerned(it) && it.progress > 0);
        self.standing.disturbed.extend(broken_off.map(|(slot, _)| *slot));
        self.migrations.retain(|_, migration| !concerned(migration));
        self.hear(replica);
        match self.is_cut_off(old) {
            true => self.keep_copy(old),
            false => self.hear(old),
        }
    }

    /// These nodes and the others do not reach each other any more.
    pub(crate) fn part(&mut self, nodes: &[usize]) {
        self.parted_at = Some(self.now);
        for (node, state) in self.nodes.iter_mut().enumerate() {
            state.is_apart = nodes.contains(&node);
        }
    }

    /// All nodes reach each other again.
    pub(crate) fn rejoin(&mut self) {
        self.parted_at = None;
        self.nodes.iter_mut().for_each(|node| node.is_apart = false);
    }

    /// Counts all changes of the configuration.
    pub(crate) fn version(&self) -> u64 {
        self.truth.version
    }

    /// Whether the node reaches no majority of the primaries.
    fn is_cut_off(&self, node: usize) -> bool {
        let side = self.nodes[node].is_apart;
        let here = self.truth.primaries().filter(|primary| self.nodes[*primary].is_apart == side).count();
        self.parted_at.is_some() && 2 * here <= self.truth.primaries().count()
    }

    /// Whether the node has noticed that it reaches no majority.
    pub(crate) fn says_down(&self, node: usize) -> bool {
        self.is_cut_off(node) && self.parted_at.is_some_and(|at| self.now >= at + NODE_TIMEOUT)
    }

    /// Whether what the primary writes reaches this replica.
    fn replicates(&self, replica: usize, primary: usize) -> bool {
        let works = |node: usize| self.nodes[node].reach == Reach::Up && !self.nodes[node].paused;
        let linked = self.parted_at.is_none() || self.nodes[replica].is_apart == self.nodes[primary].is_apart;
        linked && works(replica) && works(primary)
    }

    /// It is `now`: the replicas have applied what was written until a while ago, each after its
    /// own lag. To be called before anything happens to the links between nodes.
    pub(crate) fn catch_up(&mut self, now: u64) {
        self.now = now;
        for replica in 0..self.nodes.len() {
            let Some(primary) = self.truth.replica_of[replica] else { continue };
            if self.replicates(replica, primary) {
                let node = &mut self.nodes[replica];
                node.applied = node.applied.max(now.saturating_sub(node.lag));
            }
        }
    }
}

/// What a node says about its view.
impl Servers {
    fn announced_host(&self, node: usize) -> Answer {
        let state = &self.nodes[node];
        let host = state.announced.as_ref().unwrap_or(&state.host);
        if self.dialect.empty_hosts { Answer::text("") } else { Answer::text(host) }
    }

    pub(super) fn slots_answer(&self, asked: usize) -> Answer {
        let view = &self.nodes[asked].view;
        let range = |(first, last, owner): (usize, usize, usize)| {
            let mut items = vec![Answer::Integer(first as i64), Answer::Integer(last as i64)];
            // Replicas that have failed are left out.
            let members =
                view.members(owner).filter(|node| *node == owner || self.nodes[*node].reach == Reach::Up);
            items.extend(members.map(|node| {
                let id = Answer::text(&self.nodes[node].id);
                let at = self.balancer.unwrap_or(node);
                let port = Answer::Integer(self.nodes[at].address.port().into());
                Answer::Array(vec![self.announced_host(at), port, id, Answer::Array(Vec::new())])
            }));
            items.extend(self.strangers(asked, first));
            Answer::Array(items)
        };
        let ranges = self.spread_out(asked, view.ranges());
        Answer::Array(ranges.into_iter().map(range).collect())
    }

    pub(super) fn shards_answer(&self, asked: usize) -> Answer {
        let view = &self.nodes[asked].view;
        let ranges = view.ranges();
        let shard = |primary: usize| {
            let own = ranges.iter().filter(|(_, _, owner)| *owner == primary);
            let slots = own
                .flat_map(|(first, last, _)| [Answer::Integer(*first as i64), Answer::Integer(*last as i64)]);
            let nodes = view.members(primary).map(|node| {
                let (state, at) = (&self.nodes[node], self.balancer.unwrap_or(node));
                let health = match (state.reach, state.condition) {
                    (Reach::Refusing | Reach::BlackHole, _) => "fail",
                    (Reach::Up, Condition::Loading) => "loading",
                    (Reach::Up, _) => "online",
                };
                let mut fields = vec![
                    ("id", Answer::text(&state.id)),
                    ("port", Answer::Integer(self.nodes[at].address.port().into())),
                    ("ip", Answer::text(&state.address.ip().to_string())),
                    ("endpoint", self.announced_host(at)),
                    ("role", Answer::text(if node == primary { "master" } else { "replica" })),
                    ("replication-offset", Answer::Integer(1)),
                    ("health", Answer::text(health)),
                ];
                if self.dialect.zones {
                    fields.push(("availability-zone", Answer::text(&state.zone)));
                }
                Answer::Map(fields)
            });
            Answer::Map(vec![
                ("slots", Answer::Array(slots.collect())),
                ("nodes", Answer::Array(nodes.collect())),
            ])
        };
        // An empty node knows of itself alone.
        let known = view.primaries().filter(|primary| view.version > 0 || *primary == asked);
        Answer::Array(known.map(shard).collect())
    }

    pub(super) fn info_answer(&self, asked: usize) -> Answer {
        let node = &self.nodes[asked];
        let view = &node.view;
        let served = view.owners.iter().filter(|owner| **owner != NOBODY).count();
        let is_down =
            node.condition == Condition::ClusterDown || self.says_down(asked) || served < view.owners.len();
        let own = view.replica_of[asked].unwrap_or(asked);
        let size = view.primaries().filter(|primary| view.owners.contains(&(*primary as u8))).count();
        let known = if view.version == 0 { 1 } else { self.nodes.len() };
        let lines = [
            ("cluster_enabled", "1".to_string()),
            ("cluster_state", if is_down { "fail" } else { "ok" }.to_string()),
            ("cluster_slots_assigned", served.to_string()),
            ("cluster_slots_ok", served.to_string()),
            ("cluster_slots_pfail", "0".to_string()),
            ("cluster_slots_fail", "0".to_string()),
            ("cluster_known_nodes", known.to_string()),
            ("cluster_size", size.to_string()),
            ("cluster_current_epoch", view.epoch.to_string()),
            ("cluster_my_epoch", view.config_epochs[own].to_string()),
            ("cluster_stats_messages_sent", "0".to_string()),
            ("cluster_stats_messages_received", "0".to_string()),
        ];
        Answer::Verbatim(lines.map(|(name, value)| format!("{name}:{value}\r\n")).concat())
    }
}
