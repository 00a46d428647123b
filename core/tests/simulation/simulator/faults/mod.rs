//! What goes wrong in a random run: the faults by name, how often each is chosen, and when.
//!
//! A fault that is not healed by its own plan is healed by the run's end (`heal` in `scenario.rs`).
//!
//! | module | what it is |
//! |---|---|
//! | [`act`] | the steps that requests and faults consist of, and how they are done |
//! | [`disaster`] | several nodes, the network or the clock |
//! | [`hardship`] | a node that holds up or misleads everybody |
//! | [`trouble`] | one node or one connection |

mod act;
mod disaster;
mod hardship;
mod trouble;

pub(super) use act::{Act, NodeAct, perform};

use keyslot_core::slot::Slot;

use super::choices::Choices;
use super::operation::{TAG_COUNT, key_of_tag};
use super::plan::{Kind, Plan};
use super::server::Servers;
use super::wire::Push;
use super::world::MILLISECOND;

/// What a run has for faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    /// Slots move and replicas take over in order, which no request may notice.
    Orderly,
    /// Everything.
    Faulty,
}

/// What can go wrong, or change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A slot moves from one primary to another, in steps.
    SlotMoves,
    /// A node hears no gossip for a while.
    Deafness,
    /// A replica is behind.
    Lag,
    /// A replica takes over.
    Failover,
    /// A server says something unasked.
    Push,
    /// A node does not serve, and says why.
    Condition,
    /// Redirects are wrong.
    Lies,
    /// A node stops for a while.
    Pause,
    /// New connections to a node fail.
    Unreachable,
    /// A node's process ends, and its replica takes over.
    Crash,
    /// A node forgets who is who, with its process or without.
    Amnesia,
    /// A connection falls silent for good.
    MutedConnection,
    /// A connection ends.
    CutConnection,
    /// Packets between the client and some nodes wait or are lost.
    BrokenLink,
    /// The nodes fall into two sides.
    Partition,
    /// The client's clock jumps.
    ClockJump,
    /// The client's host has few sockets.
    FewSockets,
    /// A node crashes and comes back again and again.
    Flapping,
    /// Several nodes crash at once.
    MassCrash,
    /// A replica that is behind takes over: the last writes are lost.
    LossyFailover,
    /// Writes to a node never complete.
    StuckWrites,
    /// A node's replies come byte by byte.
    Drip,
    /// A node pushes without end, and may answer nothing meanwhile.
    PushFlood,
    /// A node accepts connections, greets, and falls silent.
    OnlyGreetings,
    /// A node refuses new connections, each in one way.
    RefusedGreetings,
    /// The texts of a node's errors are huge.
    LongErrors,
    /// A node's lists are as long as they may be.
    ListsAtLimits,
    /// EXEC's results are not what was queued.
    ExecShapes,
    /// A node's address comes to belong to another cluster.
    Strangers,
}

/// What no request may notice, each with how often it is chosen.
const ORDERLY: &[(Fault, u64)] = &[
    (Fault::SlotMoves, 3),
    (Fault::Deafness, 1),
    (Fault::Lag, 1),
    (Fault::Failover, 1),
    (Fault::Push, 4),
    (Fault::SlotMoves, 14),
];

/// All of them, each with how often it is chosen.
const FAULTY: &[(Fault, u64)] = &[
    (Fault::SlotMoves, 3),
    (Fault::Deafness, 1),
    (Fault::Lag, 1),
    (Fault::Failover, 1),
    (Fault::Condition, 1),
    (Fault::Lies, 1),
    (Fault::Pause, 1),
    (Fault::Unreachable, 1),
    (Fault::Crash, 2),
    (Fault::Amnesia, 1),
    (Fault::MutedConnection, 1),
    (Fault::CutConnection, 1),
    (Fault::Push, 1),
    (Fault::BrokenLink, 1),
    (Fault::Partition, 2),
    (Fault::ClockJump, 1),
    (Fault::FewSockets, 1),
    (Fault::Flapping, 1),
    (Fault::MassCrash, 1),
    (Fault::LossyFailover, 2),
    (Fault::StuckWrites, 1),
    (Fault::Drip, 1),
    (Fault::PushFlood, 1),
    (Fault::OnlyGreetings, 1),
    (Fault::RefusedGreetings, 1),
    (Fault::LongErrors, 1),
    (Fault::ListsAtLimits, 1),
    (Fault::ExecShapes, 1),
    (Fault::Strangers, 1),
];

impl Fault {
    fn random(choices: &mut Choices, faults: &[(Self, u64)]) -> Self {
        let all = faults.iter().map(|(_, weight)| weight).sum();
        let mut rest = choices.below(all);
        for (fault, weight) in faults {
            if rest < *weight {
                return *fault;
            }
            rest -= weight;
        }
        unreachable!("the weights' sum is above the number")
    }
}

/// The plan of a run's faults, in the making.
struct Planner<'a> {
    choices: &'a mut Choices,
    servers: &'a Servers,
    /// Those of one fault.
    steps: Vec<(u64, Act)>,
}

/// When a fault begins and ends, and the node that it has to do with.
#[derive(Clone, Copy)]
struct Place {
    from: u64,
    until: u64,
    node: usize,
}

pub(super) fn plan_faults(choices: &mut Choices, servers: &Servers, mood: Mood, plan: &mut Plan) {
    let mut planner = Planner { choices, servers, steps: Vec::new() };
    let (lengths, faults): (&[u64], _) = match mood {
        Mood::Orderly => (&[20, 300, 1_500], ORDERLY),
        Mood::Faulty => (&[20, 100, 500, 2_000, 9_000], FAULTY),
    };
    for _ in 0..planner.choices.pick(&[0, 3, 1, 5, 8, 12]) {
        let from = planner.choices.below(3_000) * MILLISECOND;
        let until = from + planner.choices.pick(lengths) * MILLISECOND;
        let node = planner.choices.index(servers.nodes.len());
        let fault = Fault::random(planner.choices, faults);
        planner.plan_fault(fault, Place { from, until, node });
        plan.add(Kind::Fault(fault), std::mem::take(&mut planner.steps));
    }
}

impl Planner<'_> {
    fn plan_fault(&mut self, fault: Fault, place: Place) {
        match fault {
            Fault::SlotMoves => self.slot_moves(place),
            Fault::Deafness => self.around(place, NodeAct::Deafen, NodeAct::Undeafen),
            Fault::Lag => {
                let lag = self.choices.pick(&[1, 50, 500, 3_000]) * MILLISECOND;
                self.around(place, NodeAct::Lag(lag), NodeAct::Lag(0));
            }
            Fault::Failover => self.promotion(place.node, place.from),
            Fault::Push => {
                let (nth, push) = (self.choices.index(8), self.choices.pick(&Push::ALL));
                self.steps.push((place.from, Act::Push { nth, push }));
            }
            Fault::Condition => self.condition(place),
            Fault::Lies => self.lies(place),
            Fault::Pause => self.around(place, NodeAct::Pause, NodeAct::Resume),
            Fault::Unreachable => self.unreachable(place),
            Fault::Crash => self.crash(place),
            Fault::Amnesia => self.amnesia(place),
            Fault::MutedConnection => {
                let nth = self.choices.index(8);
                self.steps.push((place.from, Act::Mute { nth }));
            }
            Fault::CutConnection => {
                let nth = self.choices.index(8);
                self.steps.push((place.from, Act::Cut { nth }));
            }
            Fault::BrokenLink => self.broken_link(place),
            Fault::Partition => self.partition(place),
            Fault::ClockJump => self.clock_jump(place),
            Fault::FewSockets => self.few_sockets(place),
            Fault::Flapping => self.flapping(place),
            Fault::MassCrash => self.mass_crash(place),
            Fault::LossyFailover => self.lossy_failover(place),
            Fault::StuckWrites => self.misbehaves(place, NodeAct::Stick),
            Fault::Drip => self.drip(place),
            Fault::PushFlood => self.push_flood(place),
            Fault::OnlyGreetings => self.misbehaves(place, NodeAct::OnlyGreet),
            Fault::RefusedGreetings => self.refused_greetings(place),
            Fault::LongErrors => self.long_errors(place),
            Fault::ListsAtLimits => self.lists_at_limits(place),
            Fault::ExecShapes => self.exec_shapes(place),
            Fault::Strangers => self.strangers(place),
        }
    }

    fn at(&mut self, at: u64, node: usize, act: NodeAct) {
        self.steps.push((at, Act::At(node, act)));
    }

    /// Something begins and ends at a node.
    fn around(&mut self, place: Place, begin: NodeAct, end: NodeAct) {
        self.at(place.from, place.node, begin);
        self.at(place.until, place.node, end);
    }

    fn slot_moves(&mut self, place: Place) {
        let servers = self.servers;
        let primaries = (0..servers.nodes.len()).filter(|node| servers.replica_of(*node).is_none()).count();
        let slot = slot_of_tag(self.choices.below(TAG_COUNT));
        if primaries == 1 {
            return;
        }
        let to = self.choices.index(primaries);
        self.steps.push((place.from, Act::Migrate { slot, to }));
        for step in 1..=3 {
            let at = place.from + (place.until - place.from) * step / 4;
            self.steps.push((at, Act::MoveKeys { slot, percent: 33 * step }));
        }
        self.steps.push((place.until, Act::FinishMigration { slot }));
        self.gossip(place.until);
    }

    /// Every node hears the news after a while.
    fn gossip(&mut self, from: u64) {
        for node in 0..self.servers.nodes.len() {
            let at = from + self.choices.below(300) * MILLISECOND;
            self.at(at, node, NodeAct::Gossip);
        }
    }

    /// A replica of this node takes over, where there is one.
    fn promotion(&mut self, node: usize, at: u64) {
        let mut nodes = 0..self.servers.nodes.len();
        if let Some(replica) = nodes.find(|replica| self.servers.replica_of(*replica) == Some(node)) {
            self.at(at, replica, NodeAct::Promote);
            self.gossip(at);
        }
    }

    /// A primary that has a replica, where there are replicas at all.
    fn backed_up(&self, node: usize) -> usize {
        let servers = self.servers;
        let is_backed_up = (0..servers.nodes.len()).any(|replica| servers.replica_of(replica).is_some());
        if is_backed_up { servers.replica_of(node).unwrap_or(node) } else { node }
    }

    fn some_nodes(&mut self) -> Vec<usize> {
        let count = self.servers.nodes.len();
        let first = self.choices.index(count);
        let length = self.choices.between(1, count as u64) as usize;
        (0..length).map(|step| (first + step) % count).collect()
    }
}

fn slot_of_tag(tag: u64) -> u16 {
    Slot::of_key(key_of_tag(tag, 'g', 0).as_bytes()).number()
}
