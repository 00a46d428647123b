//! Rounds of questions for the topology: who was asked, what has come, and which view counts.

use alloc::vec::Vec;
use core::time::Duration;

use crate::address::NodeAddr;
use crate::cluster::context::Context;
use crate::cluster::ids::ConnId;
use crate::time::Instant;
use crate::topology::Topology;

/// While a node is not well, the topology is asked for again after at most this; it doubles with
/// each round.
const AILING_INTERVAL: Duration = Duration::from_secs(2);
/// A round without any answer is over after this.
const ROUND_TIMEOUT: Duration = Duration::from_secs(1);
/// After the first answer the others have this long.
const ROUND_PATIENCE: Duration = Duration::from_millis(100);
/// A node that may not be asked is not asked again sooner.
const REFUSED_INTERVAL: Duration = Duration::from_secs(1);
/// So many rounds in a row that bring only older views are not believed.
const STALE_ROUNDS_MAX: u32 = 3;
/// After so many rounds in a row in which no known node has answered, another cluster's view
/// counts.
pub(super) const STRANGE_ROUNDS_MAX: u32 = 3;

/// Whether the topology is in doubt, and who has been asked.
#[derive(Debug, Default)]
pub(in crate::cluster) struct Refresh {
    pub(super) wanted: bool,
    /// No round before this.
    pub(super) not_before: Instant,
    /// A round from this on, also without a doubt.
    pub(super) due_at: Instant,
    /// Rounds in a row that brought nothing new.
    pub(super) fruitless: u32,
    stale_rounds: u32,
    /// Rounds in a row that told of a node that is not well.
    ailing_rounds: u32,
    pub(super) queries: Vec<Query>,
    pub(super) serial: u64,
    /// When the round under way began.
    pub(super) began_at: Option<Instant>,
    pub(super) first_answer_at: Option<Instant>,
    pub(super) views: Vec<View>,
    /// Views of another cluster.
    pub(super) strange_views: Vec<View>,
    /// Rounds in a row that brought nothing but such views.
    pub(super) strange_rounds: u32,
    pub(super) changed: bool,
    /// Whether a node has refused to answer, in the round under way.
    pub(super) refused: bool,
    /// `cluster_current_epoch` of the present topology.
    pub(super) epoch: Option<u64>,
}

/// One node's answer that is to come.
#[derive(Debug)]
pub(super) struct Query {
    pub(super) number: u64,
    pub(super) conn: ConnId,
    pub(super) asked_at: Instant,
    /// The parts that have come.
    pub(super) topology: Option<Topology>,
}

/// One node's answer.
#[derive(Debug)]
pub(super) struct View {
    pub(super) topology: Topology,
    pub(super) epoch: Option<u64>,
    pub(super) asked_at: Instant,
    /// Who has given it.
    pub(super) conn: ConnId,
    pub(super) from: NodeAddr,
}

/// What a round of questions has come to.
#[derive(Debug)]
pub(super) struct Conclusion {
    /// How many nodes of the present cluster have answered.
    pub(super) answers: u32,
    /// The view that counts from now on.
    pub(super) best: Option<View>,
    /// Another cluster's, when nothing else has come for some rounds.
    pub(super) stranger: Option<View>,
}

impl Refresh {
    /// A connection is gone: its answer does not come.
    pub(super) fn forget_connection(&mut self, conn: ConnId) {
        self.queries.retain(|query| query.conn != conn);
    }

    /// A query's connection has ended, or its answer was of no use.
    pub(super) fn abandon(&mut self, number: u64) {
        self.queries.retain(|query| query.number != number);
    }

    /// When the round under way ends: at once when nobody is left who could answer.
    pub(super) fn round_ends_at(&self) -> Option<Instant> {
        let began_at = self.began_at?;
        if self.queries.is_empty() {
            return Some(began_at);
        }
        let timeout = began_at + ROUND_TIMEOUT;
        Some(self.first_answer_at.map_or(timeout, |first| (first + ROUND_PATIENCE).min(timeout)))
    }

    /// Decides which of the round's views counts, and whether it is another than the `present`
    /// topology.
    pub(super) fn conclude(&mut self, present: &Topology, now: Instant) -> Conclusion {
        self.queries.clear();
        (self.began_at, self.first_answer_at) = (None, None);
        let mut views = core::mem::take(&mut self.views);
        let mut strange_views = core::mem::take(&mut self.strange_views);
        let mut conclusion = Conclusion { answers: views.len() as u32, best: None, stranger: None };
        if let Some(best) = best_of(&views) {
            let best = views.swap_remove(best);
            let is_stale = best.epoch.is_some() && best.epoch < self.epoch;
            self.stale_rounds = if is_stale { self.stale_rounds + 1 } else { 0 };
            if is_stale && self.stale_rounds < STALE_ROUNDS_MAX {
                self.wanted = true;
            } else if is_stale || !best.topology.agrees_with(present) {
                self.stale_rounds = 0;
                conclusion.best = Some(best);
            }
        } else if self.refused {
            self.not_before = self.not_before.max(now + REFUSED_INTERVAL);
        } else {
            self.wanted = true;
        }
        self.refused = false;
        let newest = strange_views.iter().enumerate().max_by_key(|(_, view)| view.epoch);
        if conclusion.answers > 0 {
            self.strange_rounds = 0;
        } else if let Some(newest) = newest.map(|(index, _)| index) {
            self.strange_rounds += 1;
            if self.strange_rounds >= STRANGE_ROUNDS_MAX {
                conclusion.stranger = Some(strange_views.swap_remove(newest));
            }
        }
        conclusion
    }

    /// A round is over. Gives whether it has changed anything.
    pub(super) fn note_round(&mut self) -> bool {
        let changed = core::mem::take(&mut self.changed);
        self.fruitless = if changed { 0 } else { self.fruitless.saturating_add(1) };
        if changed {
            self.ailing_rounds = 0;
        }
        changed
    }

    /// Nothing waits for a node that is down: unless there is another doubt, the next round need
    /// not wait long.
    pub(super) fn calm_down(&mut self) {
        if !self.wanted {
            self.fruitless = 0;
        }
    }

    /// Sets when the topology is asked for although nobody doubts it. The tenth by chance keeps
    /// clients that were started together from asking together. While a node is not well it is
    /// sooner: nothing but the topology tells when a replica may serve reads again.
    pub(super) fn schedule(&mut self, cx: &mut Context, is_ailing: bool) {
        let interval = cx.config.refresh_interval;
        self.ailing_rounds = if is_ailing { self.ailing_rounds.saturating_add(1) } else { 0 };
        let wait = match self.ailing_rounds.checked_sub(1) {
            Some(rounds) => cx.random.backoff(AILING_INTERVAL.min(interval), interval, rounds),
            None => interval - cx.random.up_to(interval / 10),
        };
        self.due_at = cx.now + wait;
    }
}

/// The view of the highest epoch; among several of that epoch the one that most nodes share.
fn best_of(views: &[View]) -> Option<usize> {
    let newest = views.iter().map(|view| view.epoch).max().flatten();
    let supporters =
        |view: &View| views.iter().filter(|other| other.topology.agrees_with(&view.topology)).count();
    let best = views.iter().enumerate().filter(|(_, view)| view.epoch == newest);
    best.max_by_key(|(_, view)| supporters(view)).map(|(index, _)| index)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topology(host: &str) -> Topology {
        Topology::of_one_server(NodeAddr::new(host, 1))
    }

    fn view(host: &str, epoch: Option<u64>) -> View {
        let (asked_at, conn) = (Instant::default(), ConnId::default());
        View { topology: topology(host), epoch, asked_at, conn, from: NodeAddr::new(host, 1) }
    }

    fn of(views: &[(&str, Option<u64>)]) -> Vec<View> {
        views.iter().map(|(host, epoch)| view(host, *epoch)).collect()
    }

    /// Whose view counts after a round with these.
    fn concluded(refresh: &mut Refresh, views: &[(&str, Option<u64>)]) -> Option<NodeAddr> {
        refresh.views = of(views);
        refresh.conclude(&topology("present"), Instant::default()).best.map(|view| view.from)
    }

    #[test]
    fn the_highest_epoch_counts_and_then_what_most_nodes_say() {
        let host = |host| Some(NodeAddr::new(host, 1));
        for (views, best) in [
            (&[("a", Some(4)), ("b", Some(5)), ("a", Some(4))][..], host("b")),
            (&[("a", Some(5)), ("b", Some(5)), ("a", Some(5))], host("a")),
            (&[("a", None), ("b", Some(1)), ("a", None)], host("b")),
            (&[("a", None), ("b", None), ("b", None)], host("b")),
            (&[("present", Some(9))], None),
            (&[], None),
        ] {
            assert_eq!(concluded(&mut Refresh::default(), views), best, "{views:?}");
        }
    }

    #[test]
    fn an_older_view_is_believed_when_there_is_nothing_else_for_three_rounds() {
        let mut refresh = Refresh { epoch: Some(7), ..Refresh::default() };
        for _ in 0..2 {
            assert_eq!(concluded(&mut refresh, &[("a", Some(6))]), None);
            assert!(core::mem::take(&mut refresh.wanted), "it is asked again");
        }
        assert_eq!(concluded(&mut refresh, &[("a", Some(6))]), Some(NodeAddr::new("a", 1)));
        assert_eq!(concluded(&mut refresh, &[("a", Some(6))]), None, "the count begins anew");
        assert_eq!(concluded(&mut refresh, &[("present", Some(7))]), None);
        assert_eq!(refresh.stale_rounds, 0, "a view of the present epoch ends it");
    }

    #[test]
    fn another_clusters_view_counts_only_after_three_rounds_without_a_known_node() {
        let mut refresh = Refresh::default();
        let mut round = |views: &[(&str, Option<u64>)]| {
            refresh.views = of(views);
            refresh.strange_views = of(&[("x", Some(1)), ("y", Some(3))]);
            let stranger = refresh.conclude(&topology("present"), Instant::default()).stranger;
            stranger.map(|view| view.from)
        };
        assert_eq!([round(&[]), round(&[]), round(&[("present", None)])], [None, None, None]);
        assert_eq!([round(&[]), round(&[])], [None, None]);
        assert_eq!(round(&[]), Some(NodeAddr::new("y", 1)));
    }

    #[test]
    fn a_round_ends_with_its_last_answer_or_soon_after_the_first() {
        let at = |milliseconds: u64| Instant::from_nanoseconds(milliseconds * 1_000_000);
        let query = |number| Query { number, conn: ConnId::default(), asked_at: at(0), topology: None };
        let mut refresh = Refresh::default();
        assert_eq!(refresh.round_ends_at(), None);
        (refresh.began_at, refresh.queries) = (Some(at(5)), Vec::from([query(1), query(2)]));
        assert_eq!(refresh.round_ends_at(), Some(at(1_005)));
        refresh.first_answer_at = Some(at(20));
        assert_eq!(refresh.round_ends_at(), Some(at(120)));
        refresh.first_answer_at = Some(at(990));
        assert_eq!(refresh.round_ends_at(), Some(at(1_005)));
        refresh.abandon(1);
        refresh.abandon(2);
        assert_eq!(refresh.round_ends_at(), Some(at(5)));
    }
}
