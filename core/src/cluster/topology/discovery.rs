//! The start: from the seeds to a topology.
//!
//! Every seed that answers is asked, and the first whole answer counts; `refresh.rs` asks from then
//! on.

use alloc::format;

use super::identity::is_named_otherwise;
use super::start::{Answer, Reason, has_no_cluster, start_error};
use crate::address::NodeAddr;
use crate::cluster::ids::ConnId;
use crate::cluster::io::Output;
use crate::cluster::links::connection::{Connection, State};
use crate::cluster::links::ended::Driver;
use crate::cluster::links::handshake;
use crate::cluster::machine::{Cluster, Phase};
use crate::cluster::topology::round::{Refresh, View};
use crate::config::Mode;
use crate::error::Error;
use crate::time::Instant;
use crate::topology::Topology;
use core::time::Duration;

/// So long the start waits for seeds that have been asked, so that it is noticed when they are of
/// different clusters.
const SEED_PATIENCE: Duration = Duration::from_millis(100);

impl Cluster {
    /// A seed is connected: ask it, or take it alone.
    pub(in crate::cluster) fn on_seed_ready(&mut self, conn: ConnId) {
        match self.cx.config.mode {
            Mode::Standalone => self.start_standalone(conn),
            Mode::Auto | Mode::Cluster => {
                // With other addresses to try it has its share of the time for the topology, too.
                if let Some(connection) = self.links.get_mut(conn).filter(|own| own.has_other_addresses()) {
                    connection.limit_check(self.cx.now);
                }
                self.ask(conn);
                self.links.watch(&self.cx, conn);
            }
        }
    }

    /// What a node that cannot tell the topology means: at the start much, later only that another
    /// is asked.
    pub(super) fn on_unusable_answer(&mut self, conn: ConnId, answer: Answer) {
        if !matches!(self.phase, Phase::Starting(_)) {
            return;
        }
        if matches!(&answer, Answer::Refused(error) if has_no_cluster(error))
            && self.cx.config.mode == Mode::Auto
        {
            return self.start_standalone(conn);
        }
        if let Answer::Refused(error) = &answer
            && handshake::passes(error)
        {
            let connection = self.links.get_mut(conn);
            let is_alone = connection.is_some_and(|connection| {
                connection.note_not_now();
                connection.is_standalone()
            });
            // A server alone need not be asked, and SCRIPT KILL has to get through to it.
            if error.code == "BUSY" && is_alone && self.cx.config.mode == Mode::Auto {
                return self.start_standalone(conn);
            }
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

    /// Takes the server at this connection alone.
    fn start_standalone(&mut self, conn: ConnId) {
        let Some(key) = self.links.node_of(conn) else {
            return;
        };
        let Some(node) = self.nodes.get(key) else {
            return;
        };
        let topology = Topology::of_one_server(node.address().clone());
        self.map.set(topology);
        self.phase = Phase::Standalone(key);
        self.map.refresh = Refresh::default();
        self.links.forget_other_addresses();
        self.cx.output(Output::Ready(Ok(())));
        self.dispatch_waiting();
        self.place_waiting_leases();
        self.tend_all_soon();
        self.retire_strangers();
    }

    /// A seed cannot be used. When none can, the client cannot. What `passes` is no reason to give
    /// up: the seed is dialled again, with back-off, within the connect time-out.
    pub(in crate::cluster) fn on_seed_failed(&mut self, address: &NodeAddr, error: Error, passes: bool) {
        let key = self.nodes.at(address);
        if passes && let Some(node) = key.and_then(|key| self.nodes.get_mut(key)) {
            node.want_dial();
        }
        let Phase::Starting(start) = &mut self.phase else {
            return;
        };
        start.reasons.insert(address.clone(), Reason { error, passes });
        let is_of_no_use = |seed| start.reasons.get(seed).is_some_and(|reason| !reason.passes);
        let has_view = !self.map.refresh.views.is_empty();
        if !has_view && self.cx.config.seeds.iter().all(is_of_no_use) {
            self.fail_start();
        }
    }

    fn fail_start(&mut self) {
        let Phase::Starting(start) = &mut self.phase else {
            return;
        };
        let reasons = core::mem::take(&mut start.reasons);
        let error = start_error(&self.cx.config.seeds, &reasons, self.cx.config.connect_timeout);
        self.refuse_start(&error);
    }

    /// Ends the start without success.
    pub(super) fn refuse_start(&mut self, error: &Error) {
        self.cx.output(Output::Ready(Err(error.clone())));
        self.shut_down(error);
    }

    /// When the start ends without success.
    pub(in crate::cluster) fn start_deadline(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Starting(start) => {
                Some(self.start_patience().map_or(start.deadline, |patience| patience.min(start.deadline)))
            }
            _ => None,
        }
    }

    pub(in crate::cluster) fn check_start_deadline(&mut self) {
        let is_over = self.start_deadline().is_some_and(|deadline| deadline <= self.cx.now);
        self.settle_start(is_over);
        if self.start_deadline().is_some_and(|deadline| deadline <= self.cx.now) {
            self.fail_start();
        }
    }

    /// Ends the start when the seeds that were asked have answered, or have had as long as the
    /// first: by its topology, or because they are of different clusters.
    pub(super) fn settle_start(&mut self, is_over: bool) {
        let Phase::Starting(_) = self.phase else {
            return;
        };
        let waits =
            self.start_patience().is_some_and(|until| until > self.cx.now) && self.are_seeds_awaited();
        let views = core::mem::take(&mut self.map.refresh.views);
        let Some(first) = views.first().filter(|_| !waits || is_over) else {
            self.map.refresh.views = views;
            return;
        };
        let known = crate::topology::Index::of(&first.topology);
        if let Some(other) = views.iter().find(|view| !known.is_kin(&first.topology, &view.topology)) {
            let text = format!("seed {} and seed {} are of different clusters", first.from, other.from);
            return self.refuse_start(&Error::Connect(text));
        }
        for view in &views {
            let connection = self.links.get(view.conn);
            if let Some((connection, id)) =
                connection.and_then(|connection| Some((connection, connection.node_id()?)))
                && let Some(node) = self.nodes.get_mut(connection.node())
            {
                node.note_named_otherwise(is_named_otherwise(&view.topology, node.address(), id));
            }
        }
        let View { topology, epoch, asked_at, .. } = first;
        self.adopt(topology, *epoch, *asked_at);
        self.map.refresh.views = views;
    }

    /// Until when the start waits for the seeds that have been asked.
    pub(super) fn start_patience(&self) -> Option<crate::time::Instant> {
        let (began, first) = (self.map.refresh.began_at?, self.map.refresh.first_answer_at?);
        matches!(self.phase, Phase::Starting(_))
            .then(|| first + first.saturating_since(began).min(SEED_PATIENCE))
    }

    /// Whether a seed that is connected has not answered yet.
    fn are_seeds_awaited(&self) -> bool {
        let greets = |connection: &Connection| matches!(connection.state(), State::Handshaking { .. });
        !self.map.refresh.queries.is_empty() || self.links.iter().map(|(_, own)| own).any(greets)
    }
}
