//! One node or one connection is in trouble.

use super::super::operation::TAG_COUNT;
use super::super::server::{Condition, Reach};
use super::super::world::MILLISECOND;
use super::{NodeAct, Place, Planner, slot_of_tag};

/// How a redirect can be wrong.
#[derive(Clone, Copy, Debug)]
enum Lie {
    /// Nobody listens there.
    Refusing,
    /// Nothing comes back from there.
    Silent,
    UnknownHost,
    /// The host is the one that was asked, which another node's port does not go with.
    NoHost,
    NoSuchSlot,
    /// Never the same address.
    Countless,
    NoArguments,
}

impl Lie {
    const ALL: [Self; 7] = [
        Self::Refusing,
        Self::Silent,
        Self::UnknownHost,
        Self::NoHost,
        Self::NoSuchSlot,
        Self::Countless,
        Self::NoArguments,
    ];
}

impl Planner<'_> {
    pub(super) fn condition(&mut self, place: Place) {
        let condition = self.choices.pick(&[
            Condition::Loading,
            Condition::ClusterDown,
            Condition::MasterDown,
            Condition::ReadOnly,
        ]);
        self.around(place, NodeAct::Condition(condition), NodeAct::Condition(Condition::Normal));
    }

    /// Redirects that are wrong: in a circle, to nowhere, or unreadable.
    pub(super) fn lies(&mut self, place: Place) {
        let slot = slot_of_tag(self.choices.below(TAG_COUNT));
        let count = self.servers.nodes.len();
        let (first, second) = (self.choices.index(count), self.choices.index(count));
        let code = self.choices.pick(&["MOVED", "ASK"]);
        let circle = self.choices.chance(50);
        for (node, other) in [(first, second), (second, first)] {
            let text = match circle {
                true => self.servers.redirect_text(code, slot, other),
                false => self.lie(code, slot, other),
            };
            let place = Place { node, ..place };
            self.around(place, NodeAct::Lie { slot, text }, NodeAct::Truth);
        }
    }

    fn lie(&mut self, code: &str, slot: u16, other: usize) -> String {
        match self.choices.pick(&Lie::ALL) {
            Lie::Refusing => format!("{code} {slot} 10.9.9.9:6379"),
            Lie::Silent => format!("{code} {slot} 10.9.9.8:6379"),
            Lie::UnknownHost => format!("{code} {slot} no-such-host.test:6379"),
            Lie::NoHost => format!("{code} {slot} :{}", self.servers.nodes[other].address.port()),
            Lie::NoSuchSlot => format!("{code} 99999 x:y"),
            Lie::Countless => format!("{code} {slot} 10.9.9.9:*"),
            Lie::NoArguments => code.to_string(),
        }
    }

    pub(super) fn unreachable(&mut self, place: Place) {
        let reach = self.choices.pick(&[Reach::Refusing, Reach::BlackHole]);
        self.around(place, NodeAct::Reach(reach), NodeAct::Reach(Reach::Up));
    }

    pub(super) fn crash(&mut self, place: Place) {
        let silent = self.choices.chance(30);
        self.at(place.from, place.node, NodeAct::Crash { silent });
        let at = place.from + self.choices.below(500) * MILLISECOND;
        self.promotion(place.node, at);
        self.at(place.until, place.node, NodeAct::Reach(Reach::Up));
    }

    pub(super) fn amnesia(&mut self, place: Place) {
        let restarts = self.choices.chance(50);
        let act = if restarts { NodeAct::Restart } else { NodeAct::Amnesia };
        self.around(place, act, NodeAct::Gossip);
    }
}
