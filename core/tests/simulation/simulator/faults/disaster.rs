//! Several nodes, the network or the clock are in trouble.

use super::super::network::Link;
use super::super::server::Reach;
use super::super::world::{MILLISECOND, SECOND};
use super::{Act, NodeAct, Place, Planner};

impl Planner<'_> {
    pub(super) fn broken_link(&mut self, place: Place) {
        let nodes = self.some_nodes();
        let link = self.choices.pick(&[Link::Held, Link::Lost]);
        self.link_is(place, nodes, link);
    }

    fn link_is(&mut self, place: Place, nodes: Vec<usize>, link: Link) {
        self.steps.push((place.from, Act::Link { nodes: nodes.clone(), link }));
        self.steps.push((place.until, Act::Link { nodes, link: Link::Open }));
    }

    pub(super) fn partition(&mut self, place: Place) {
        // With this node on the other side its replica may take over, before or after the node says
        // that it is alone. The client may be on either side.
        let node = self.backed_up(place.node);
        let mut nodes = vec![node];
        if self.choices.chance(40) {
            nodes = self.some_nodes();
        }
        let at = place.from + self.choices.pick(&[10, 100, 250, 600]) * MILLISECOND;
        self.promotion(node, at);
        if self.choices.chance(50) {
            let is_apart = self.choices.chance(50);
            let all = 0..self.servers.nodes.len();
            let beyond = all.filter(|node| nodes.contains(node) == is_apart).collect();
            self.link_is(place, beyond, Link::Held);
        }
        self.steps.push((place.from, Act::Part { nodes }));
        self.steps.push((place.until, Act::Rejoin));
        self.gossip(place.until);
    }

    pub(super) fn clock_jump(&mut self, place: Place) {
        let by = self.choices.pick(&[2, 30, 600, 3_600]) * SECOND;
        self.steps.push((place.from, Act::Jump { by }));
    }

    pub(super) fn few_sockets(&mut self, place: Place) {
        let most = self.choices.pick(&[2, 1, 3, 5]);
        self.steps.push((place.from, Act::Sockets { most }));
        self.steps.push((place.until, Act::Sockets { most: usize::MAX }));
    }

    pub(super) fn flapping(&mut self, place: Place) {
        let period = self.choices.pick(&[2, 20, 100]) * MILLISECOND;
        for round in 0..self.choices.between(2, 12) {
            let at = place.from + 2 * round * period;
            let silent = self.choices.chance(10);
            self.at(at, place.node, NodeAct::Crash { silent });
            self.at(at + period, place.node, NodeAct::Reach(Reach::Up));
        }
    }

    /// All of them once in a while.
    pub(super) fn mass_crash(&mut self, place: Place) {
        let all = self.choices.chance(30);
        let nodes = if all { (0..self.servers.nodes.len()).collect() } else { self.some_nodes() };
        let silent = self.choices.chance(30);
        for node in nodes {
            self.at(place.from, node, NodeAct::Crash { silent });
            let back = place.until + self.choices.below(300) * MILLISECOND;
            self.at(back, node, NodeAct::Reach(Reach::Up));
        }
    }

    pub(super) fn lossy_failover(&mut self, place: Place) {
        let node = self.backed_up(place.node);
        let lag = self.choices.pick(&[50, 500, 3_000]) * MILLISECOND;
        for node in 0..self.servers.nodes.len() {
            self.at(place.from, node, NodeAct::Lag(lag));
        }
        let crash_at = place.from + self.choices.below(500) * MILLISECOND;
        let silent = self.choices.chance(50);
        self.at(crash_at, node, NodeAct::Crash { silent });
        let at = crash_at + self.choices.below(500) * MILLISECOND;
        self.promotion(node, at);
        self.at(place.until, node, NodeAct::Reach(Reach::Up));
    }
}
