//! What is done at a planned time: the steps that requests and faults consist of.

use keyslot_core::cluster::ConnId;
use keyslot_core::slot::Slot;

use super::super::coverage::Feature;
use super::super::leases::{Line, use_lease};
use super::super::manners::{Greeting, List, NODES_MAX, Shape};
use super::super::network::Link;
use super::super::operation::Operation;
use super::super::server::{Condition, Migration, Reach};
use super::super::wire::Push;
use super::super::world::World;
use super::slot_of_tag;

/// One step of the plan.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Several requests at once, as a pipeline has them.
    Submit(Vec<Operation>),
    /// A request for one node.
    SubmitTo { node: usize, operation: Operation },
    /// The latest request is given up.
    Forget,
    /// A connection is borrowed, for a tag's slot or any.
    Lend { lease: u64, tag: Option<u64> },
    /// Its borrower uses it, if it has not given it back.
    Use { lease: u64, lines: Vec<Line> },
    /// Its borrower gives it back.
    GiveBack { lease: u64 },
    /// A scan begins.
    Scan { count: u32, parallel: u32 },
    /// A scan goes on after an error.
    AskOn { scanner: usize },
    /// A slot begins to move.
    Migrate { slot: u16, to: usize },
    /// So many of its keys have moved.
    MoveKeys { slot: u16, percent: u64 },
    /// It has moved.
    FinishMigration { slot: u16 },
    /// These nodes and the others do not reach each other.
    Part { nodes: Vec<usize> },
    /// All nodes reach each other.
    Rejoin,
    /// The client and these nodes do not reach each other, or they do again.
    Link { nodes: Vec<usize>, link: Link },
    /// The machine's clock jumps forward.
    Jump { by: u64 },
    /// The client's host has so many sockets.
    Sockets { most: usize },
    /// A server says something unasked (RESP3), on the nth connection.
    Push { nth: usize, push: Push },
    /// The nth connection ends.
    Cut { nth: usize },
    /// The nth connection falls silent for good.
    Mute { nth: usize },
    /// Something happens to one node.
    At(usize, NodeAct),
}

/// What happens to one node.
#[derive(Clone, Debug)]
pub(crate) enum NodeAct {
    /// It hears the newest view.
    Gossip,
    /// It knows of no slot, as one that was just started.
    Amnesia,
    /// It hears no gossip, for long: its view grows old.
    Deafen,
    /// It hears again, and first what it has missed.
    Undeafen,
    /// As a replica, it is behind by so many nanoseconds.
    Lag(u64),
    /// As a replica it takes over; without harm where its primary is well.
    Promote,
    /// What keeps it from serving.
    Condition(Condition),
    /// It answers this error for a slot.
    Lie { slot: u16, text: String },
    /// It lies no more.
    Truth,
    /// It does nothing with what arrives.
    Pause,
    /// It goes on.
    Resume,
    /// What becomes of new connections to it.
    Reach(Reach),
    /// Its process ends; its connections end, or just go silent.
    Crash { silent: bool },
    /// Its process ends and is there again at once, with an empty view.
    Restart,
    /// It pushes to everybody, again and again.
    Flood { push: Push, every: u64, until: u64 },
    /// It answers by drops, so many nanoseconds apart.
    Drip { every: u64 },
    /// It reads nothing, and writes to it do not complete.
    Stick,
    /// It answers handshakes only.
    OnlyGreet,
    /// It wants no new connections, in one of these ways.
    Greet(Greeting),
    /// Its errors have so many bytes.
    TalkMuch { length: usize },
    /// Its lists are as long as they may be.
    ListMuch(List),
    /// It answers EXEC with something else.
    Misshape(Shape),
    /// It ends, and another cluster's node is at its address, with this epoch.
    TakeOver { epoch: u64 },
    /// The stranger has gone, and the node is back.
    Return,
    /// It is itself again.
    Behave,
}

/// Does what was planned.
pub(in super::super) fn perform(world: &mut World<Act>, act: Act) {
    world.servers.catch_up(world.now());
    match act {
        Act::Submit(operations) => {
            for operation in operations {
                world.submit_operation(operation);
            }
        }
        Act::SubmitTo { node, operation } => {
            world.submit_to(node, &operation.words(), Some(operation));
        }
        Act::Forget => forget_latest(world),
        Act::Lend { lease, tag } => {
            let slot = tag.and_then(|tag| Slot::new(slot_of_tag(tag)));
            world.lend(lease, slot);
        }
        Act::Use { lease, lines } => use_lease(world, lease, &lines),
        Act::GiveBack { lease } => world.give_back(lease),
        Act::Scan { count, parallel } => world.begin_scan(count, parallel),
        Act::AskOn { scanner } => world.ask_on(scanner),
        Act::Migrate { slot, to } => {
            let from = world.servers.owner(slot);
            let running = world.servers.migrations.contains_key(&slot);
            if from != to && !running && world.servers.replica_of(to).is_none() {
                world.servers.migrations.insert(slot, Migration { from, to, progress: 0 });
            }
        }
        Act::MoveKeys { slot, percent } => {
            if let Some(migration) = world.servers.migrations.get_mut(&slot) {
                migration.progress = migration.progress.max(percent);
            }
        }
        Act::FinishMigration { slot } => {
            let before = world.servers.version();
            world.servers.finish_migration(slot);
            world.coverage.count_if(Feature::SlotMoved, world.servers.version() > before);
        }
        Act::Part { nodes } => {
            world.coverage.count(Feature::Parted);
            world.servers.part(&nodes);
        }
        Act::Rejoin => world.servers.rejoin(),
        Act::Link { nodes, link } => nodes.into_iter().for_each(|node| world.link(node, link)),
        Act::Jump { by } => world.jump(by),
        Act::Sockets { most } => {
            // A shortage outlasts its cause: for long, requests that wait for a socket are more
            // than a small limit allows.
            if world.config.waiting.requests >= 100 {
                world.limit_sockets(most);
            }
        }
        Act::Push { nth, .. } | Act::Cut { nth } | Act::Mute { nth } => {
            let open = world.open_conns(None);
            if let Some(conn) = open.get(nth % open.len().max(1)).copied() {
                perform_on(world, conn, &act);
            }
        }
        Act::At(node, act) => perform_at(world, node, act),
    }
}

/// Something happens to one connection.
fn perform_on(world: &mut World<Act>, conn: ConnId, act: &Act) {
    match act {
        Act::Push { push, .. } => world.push(conn, *push),
        Act::Mute { .. } => {
            world.coverage.count(Feature::ConnectionMuted);
            world.sever(conn);
        }
        _ => world.cut(conn),
    }
}

fn forget_latest(world: &mut World<Act>) {
    if let Some(id) = world.history.latest_pending() {
        world.log(|| format!("{id:?} forget"));
        world.coverage.count(Feature::Forgotten);
        world.cluster.forget(id);
        world.history.forgotten(id);
        world.forgot_batch(id);
    }
}

fn promote(world: &mut World<Act>, replica: usize) {
    let Some(old) = world.servers.replica_of(replica) else { return };
    let before = world.servers.promotions;
    world.servers.promote(replica);
    let is_in_transaction = world.is_in_transaction(old);
    let has_happened = world.servers.promotions > before;
    world.coverage.count_if(Feature::FailoverInTransaction, has_happened && is_in_transaction);
}

fn perform_at(world: &mut World<Act>, node: usize, act: NodeAct) {
    let state = &mut world.servers.nodes[node];
    match act {
        NodeAct::Gossip => world.servers.gossip(node),
        NodeAct::Amnesia => {
            world.coverage.count(Feature::NodeForgot);
            world.servers.make_empty(node);
        }
        NodeAct::Deafen => state.deaf = true,
        NodeAct::Undeafen => {
            state.deaf = false;
            world.servers.gossip(node);
        }
        NodeAct::Lag(lag) => state.lag = lag,
        NodeAct::Promote => promote(world, node),
        NodeAct::Condition(condition) => state.condition = condition,
        NodeAct::Lie { slot, text } => {
            world.excuses.mislead();
            state.lies.insert(slot, text);
        }
        NodeAct::Truth => state.lies.clear(),
        NodeAct::Pause => {
            state.paused = true;
            world.coverage.count(Feature::NodePaused);
        }
        NodeAct::Resume => world.resume(node),
        NodeAct::Reach(reach) => state.reach = reach,
        NodeAct::Crash { silent } => {
            state.reach = if silent { Reach::BlackHole } else { Reach::Refusing };
            world.coverage.count(Feature::NodeCrashed);
            world.servers.start_anew(node);
            for conn in world.open_conns(Some(node)) {
                if silent { world.sever(conn) } else { world.cut(conn) }
            }
        }
        NodeAct::Restart => {
            world.servers.make_empty(node);
            world.servers.start_anew(node);
            for conn in world.open_conns(Some(node)) {
                world.cut(conn);
            }
        }
        NodeAct::Flood { push, every, until } => {
            world.flood(node, push);
            let next = world.now() + every;
            if next < until {
                world.plan(next, Act::At(node, NodeAct::Flood { push, every, until }));
            }
        }
        NodeAct::Drip { every } => state.manners.drip = Some(every),
        NodeAct::Stick => state.manners.is_stuck = true,
        NodeAct::OnlyGreet => state.manners.only_greets = true,
        NodeAct::Greet(greeting) => state.manners.greeting = greeting,
        NodeAct::TalkMuch { length } => state.manners.error_length = length,
        NodeAct::ListMuch(list) => {
            // Replicas that are read from would all be dialled.
            let list = if world.excuses.may_read_replicas() { List::Ranges } else { list };
            if list == List::Nodes {
                world.excuses.name_strangers(NODES_MAX);
            }
            state.manners.list = Some(list);
        }
        NodeAct::Misshape(shape) => state.manners.exec = Some(shape),
        NodeAct::TakeOver { epoch } => world.take_over(node, epoch),
        NodeAct::Return => world.give_address_back(node),
        NodeAct::Behave => world.behave(node),
    }
}
