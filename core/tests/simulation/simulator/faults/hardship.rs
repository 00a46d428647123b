//! One node holds up, or misleads, everybody who talks to it.

use super::super::manners::{DENIED, FULL, Greeting, List, Shape};
use super::super::server::Condition;
use super::super::wire::Push;
use super::super::world::MILLISECOND;
use super::{NodeAct, Place, Planner};

impl Planner<'_> {
    /// It does so until it behaves again.
    pub(super) fn misbehaves(&mut self, place: Place, act: NodeAct) {
        self.around(place, act, NodeAct::Behave);
    }

    pub(super) fn drip(&mut self, place: Place) {
        let every = self.choices.pick(&[50, 20, 150]) * MILLISECOND;
        self.misbehaves(place, NodeAct::Drip { every });
    }

    pub(super) fn push_flood(&mut self, place: Place) {
        if self.choices.chance(60) {
            self.around(place, NodeAct::Pause, NodeAct::Resume);
        }
        let every = self.choices.pick(&[50, 10, 150]) * MILLISECOND;
        let push = self.choices.pick(&Push::ALL);
        self.misbehaves(place, NodeAct::Flood { push, every, until: place.until });
    }

    pub(super) fn refused_greetings(&mut self, place: Place) {
        let greeting = self.choices.pick(&[
            Greeting::ToFirst(FULL),
            Greeting::AtAccept(FULL),
            Greeting::ToFirst(DENIED),
            Greeting::AtAccept(DENIED),
            Greeting::HangsUp,
            Greeting::HangsUpOn("CLUSTER SLOTS"),
            Greeting::ToFirst("LOADING Redis is loading the dataset in memory"),
        ]);
        self.misbehaves(place, NodeAct::Greet(greeting));
    }

    pub(super) fn long_errors(&mut self, place: Place) {
        let lengths = [1 << 16, 1 << 16, 1 << 16, 1 << 18, (1 << 20) - 1, 1 << 20];
        let length = self.choices.pick(&lengths);
        let conditions = [Condition::Normal, Condition::ClusterDown, Condition::Loading];
        let condition = NodeAct::Condition(self.choices.pick(&conditions));
        self.around(place, condition, NodeAct::Condition(Condition::Normal));
        self.misbehaves(place, NodeAct::TalkMuch { length });
    }

    /// They cost as much as a whole run without them, so most are left out.
    pub(super) fn lists_at_limits(&mut self, place: Place) {
        if self.choices.chance(10) {
            let list = self.choices.pick(&[List::Ranges, List::Nodes]);
            self.misbehaves(place, NodeAct::ListMuch(list));
        }
    }

    pub(super) fn exec_shapes(&mut self, place: Place) {
        use Shape::*;
        let shape = self.choices.pick(&[TooFew, TooMany, Nothing, Map, Integer, Text]);
        self.misbehaves(place, NodeAct::Misshape(shape));
    }

    pub(super) fn strangers(&mut self, place: Place) {
        let at = place.from + self.choices.below(500) * MILLISECOND;
        self.promotion(place.node, at);
        self.at(place.until, place.node, NodeAct::Return);
        let epoch = self.choices.pick(&[1, 1_000, 4]);
        self.misbehaves(place, NodeAct::TakeOver { epoch });
    }
}
