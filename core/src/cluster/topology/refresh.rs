//! Learning the topology anew.
//!
//! ```text
//!   in doubt, or asked long ago ─→ ask up to three random nodes ─→ views ─→ the best one counts
//! ```
//!
//! One round of questions at a time is under way: CLUSTER SLOTS, which every server knows and which
//! decides where slots are; CLUSTER SHARDS, which adds health and availability zones where the
//! server has it (Redis 7.0); CLUSTER INFO, whose `cluster_current_epoch` says how recent the
//! node's view is. All three are one write to each node.
//!
//! The first view counts at once when it is no older than the present topology, so that one slow
//! node delays nothing. When the round is over, the view with the highest epoch counts, and among
//! several of that epoch the one that most nodes share. A view of a lower epoch is believed only
//! when there is nothing else for a few rounds.
//!
//! All this is about views of the present cluster. What becomes of those of another is in
//! `identity.rs`.

use alloc::string::ToString;
use alloc::vec::Vec;
use core::time::Duration;

use crate::cluster::events::Event;
use crate::cluster::ids::ConnId;
use crate::cluster::links::connection::{Connection, State};
use crate::cluster::machine::{Cluster, Phase};
use crate::error::ServerError;
use crate::resp::{Reply, ReplyRef};
use crate::time::Instant;
use crate::topology::Topology;

/// How many nodes are asked in one round.
const ASKED_MAX: usize = 3;
/// From one round to the next at least half of this; it doubles while rounds bring nothing new.
const INTERVAL_BASE: Duration = Duration::from_millis(100);
/// From one round to the next at most, while the topology is in doubt.
const INTERVAL_CAP: Duration = Duration::from_millis(500);

use super::round::{Conclusion, STRANGE_ROUNDS_MAX, View};
use super::start::Answer;

impl Cluster {
    /// Begins a round when the topology is in doubt or old, and ends one that has lasted long
    /// enough.
    pub(in crate::cluster) fn drive_refresh(&mut self) {
        if !matches!(self.phase, Phase::Clustered) {
            return;
        }
        if let Some(ends_at) = self.map.refresh.round_ends_at() {
            if ends_at <= self.cx.now {
                self.end_round();
            }
            return;
        }
        let wanted = self.map.refresh.wanted || self.map.refresh.due_at <= self.cx.now;
        if !wanted || self.map.refresh.not_before > self.cx.now {
            return;
        }
        let has_contact = self.links.has_contact();
        // Those that have said another id, and so whether the node was replaced; a known node has
        // to be asked, too.
        let is_strange = |connection: &Connection| connection.state() == State::Strange;
        let strange = self.links.iter().filter(|(_, connection)| is_strange(connection));
        let strange = strange.map(|(conn, _)| conn).take(ASKED_MAX - usize::from(has_contact));
        let strange: Vec<_> = strange.collect();
        if !has_contact {
            if self.map.refresh.wanted {
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
        self.map.refresh.wanted = false;
        let wait = self.cx.random.backoff(INTERVAL_BASE, INTERVAL_CAP, self.map.refresh.fruitless);
        self.map.refresh.not_before = self.cx.now + wait;
        self.cx.statistics.refreshes += 1;
        let others = ASKED_MAX - strange.len();
        strange.into_iter().for_each(|conn| self.ask(conn));
        for _ in 0..others.min(usable.len()) {
            // Not empty: this comes no more often than it has elements, and `below` stays below its
            // length.
            let chosen = usable.swap_remove(self.cx.random.below(usable.len()));
            self.ask(chosen);
        }
    }

    /// Takes the answer to CLUSTER SLOTS in.
    pub(in crate::cluster) fn on_slots(&mut self, conn: ConnId, number: u64, reply: &Reply) {
        let asked = self.host_of(conn);
        let map = &self.cx.config.address_map;
        let Some(query) = self.map.refresh.queries.iter_mut().find(|query| query.number == number) else {
            return;
        };
        let unusable = match reply.as_error() {
            Some(error) => {
                let error = error.to_kept();
                // That is an answer, and no other comes before somebody has changed it.
                if is_forbidden(&error) && matches!(self.phase, Phase::Clustered) {
                    self.map.refresh.refused = true;
                    self.tell_refused(conn, "CLUSTER SLOTS", &error);
                }
                Answer::Refused(error)
            }
            None => match Topology::from_cluster_slots(reply, &asked) {
                Ok(mut topology) => {
                    topology.map_addresses(map);
                    query.topology = Some(topology);
                    return;
                }
                Err(why) => Answer::Unusable(why),
            },
        };
        self.map.abandon_query(number);
        self.on_unusable_answer(conn, unusable);
    }

    /// Takes the answer to CLUSTER SHARDS in. That it is an error on older servers does no harm.
    pub(in crate::cluster) fn on_shards(&mut self, conn: ConnId, number: u64, reply: &Reply) {
        let asked = self.host_of(conn);
        let map = &self.cx.config.address_map;
        let query = self.map.refresh.queries.iter_mut().find(|query| query.number == number);
        if let Some(topology) = query.and_then(|query| query.topology.as_mut())
            && let Ok(mut shards) = Topology::from_cluster_shards(reply, &asked, false)
        {
            shards.map_addresses(map);
            topology.enrich(shards);
        }
    }

    /// Takes the answer to CLUSTER INFO in, and with it the whole view.
    pub(in crate::cluster) fn on_info(&mut self, conn: ConnId, number: u64, reply: &Reply) {
        let Some(index) = self.map.refresh.queries.iter().position(|query| query.number == number) else {
            return self.mark_healthy(conn);
        };
        let query = self.map.refresh.queries.swap_remove(index);
        let node = self.links.get(conn).and_then(|connection| self.nodes.get(connection.node()));
        let (Some(topology), Some(node)) = (query.topology, node) else {
            return;
        };
        let from = node.address().clone();
        let text = reply.cursor().and_then(ReplyRef::as_str).unwrap_or_default();
        let epoch = text.lines().find_map(|line| line.strip_prefix("cluster_current_epoch:"));
        let epoch = epoch.and_then(|epoch| epoch.trim().parse().ok());
        self.on_view(View { topology, epoch, asked_at: query.asked_at, conn, from });
    }

    fn host_of(&self, conn: ConnId) -> alloc::string::String {
        let node = self.links.get(conn).and_then(|connection| self.nodes.get(connection.node()));
        node.map(|node| node.address().host()).unwrap_or_default().into()
    }

    fn on_view(&mut self, view: View) {
        self.map.refresh.first_answer_at.get_or_insert(self.cx.now);
        let conn = view.conn;
        if let Phase::Starting(_) = self.phase {
            self.mark_healthy(conn);
            // `settle_start` decides.
            return self.map.refresh.views.push(view);
        }
        if !self.is_kin(conn, &view.topology) {
            self.map.refresh.strange_views.push(view);
            return self.on_stranger(conn);
        }
        self.mark_healthy(conn);
        let is_first = self.map.refresh.views.is_empty();
        let is_newer = match (view.epoch, self.map.refresh.epoch) {
            (Some(new), Some(present)) => new > present || (new == present && is_first),
            (_, None) => is_first,
            (None, Some(_)) => false,
        };
        if is_newer {
            self.adopt(&view.topology, view.epoch, view.asked_at);
        }
        self.reconsider(conn, &view.topology);
        self.map.refresh.views.push(view);
    }

    /// Ends the round: the view that counts is taken for the topology.
    fn end_round(&mut self) {
        let Conclusion { answers, best, stranger } = self.map.conclude(self.cx.now);
        if let Some(view) = best {
            self.adopt(&view.topology, view.epoch, view.asked_at);
        }
        if let Some(view) = stranger
            && self.is_forsaken()
        {
            self.map.refresh.strange_rounds = 0;
            self.go_over(&view);
        }
        let changed = self.map.refresh.note_round();
        self.cx.tell(Event::Refreshed { answers, changed });
        self.map.schedule(&mut self.cx);
        if self.is_anything_unserved() {
            self.map.want_refresh();
        } else {
            self.map.refresh.calm_down();
        }
    }

    /// When `drive_refresh` has something to do.
    pub(in crate::cluster) fn next_refresh(&self) -> Option<Instant> {
        if !matches!(self.phase, Phase::Clustered) {
            return None;
        }
        match self.map.refresh.round_ends_at() {
            Some(at) => Some(at),
            // Without anybody to ask, the seeds are dialled then.
            None if self.map.refresh.wanted
                && (self.map.refresh.not_before > self.cx.now || !self.refresh_wants_connections()) =>
            {
                Some(self.map.refresh.not_before)
            }
            None => None,
        }
    }

    /// Whether requests wait for a node that is down or unknown: somebody may have taken over.
    pub(super) fn is_anything_unserved(&self) -> bool {
        let waits = |node: &crate::cluster::nodes::node::Node| node.is_down() && node.is_awaited();
        self.requests.has_unrouted() || self.nodes.values().any(waits)
    }

    /// Another cluster has taken the place of the one that was known.
    pub(super) fn go_over(&mut self, view: &View) {
        self.cx.tell(Event::ConnectFailed {
            node: view.from.clone(),
            reason: "no known node answers; the client goes over to the cluster that is at this address"
                .to_string(),
            attempts: STRANGE_ROUNDS_MAX,
        });
        self.map.forget_patches(|_| true);
        for node in self.nodes.values_mut() {
            node.forget_identity(self.cx.now);
        }
        self.adopt(&view.topology, view.epoch, view.asked_at);
    }
}

/// Whether an access list forbids the question, or the server does not know it: not what a node
/// says that will know more soon.
fn is_forbidden(error: &ServerError) -> bool {
    let is_unknown = || error.message.to_ascii_lowercase().starts_with("unknown command");
    error.code == "NOPERM" || (error.code == "ERR" && is_unknown())
}
