//! What goes wrong in a random run: the faults, when they are planned, and how they are done.
//!
//! A fault that is not healed by its own plan is healed by the run's end (`heal` in `scenario.rs`).

use keyslot_core::slot::Slot;

use super::choices::Choices;
use super::leases::{Line, use_lease};
use super::ledger::{Operation, TAG_COUNT, key_of_tag};
use super::manners::{DENIED, FULL, Greeting, List, NODES_MAX, Shape};
use super::network::Link;
use super::scenario::submit;
use super::server::{Condition, Migration, Reach, Servers};
use super::wire::PUSH_KINDS;
use super::world::{MILLISECOND, SECOND, World};

/// What a run has for faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    /// Slots move and replicas take over in order, which no request may notice.
    Orderly,
    /// Everything.
    Faulty,
}

/// What happens at a planned time.
#[derive(Clone, Debug)]
pub(super) enum Act {
    /// Several requests at once, as a pipeline has them.
    Submit(Vec<Operation>),
    /// The latest request is given up.
    Forget,
    /// A connection is borrowed, for a tag's slot or any.
    Lend {
        lease: u64,
        tag: Option<u64>,
    },
    /// Its borrower uses it, if it has not given it back.
    Use {
        lease: u64,
        lines: Vec<Line>,
    },
    GiveBack {
        lease: u64,
    },
    Scan {
        count: u32,
        parallel: u32,
    },
    /// After an error.
    AskOn {
        scanner: usize,
    },
    SubmitTo {
        node: usize,
        operation: Operation,
    },
    Migrate {
        slot: u16,
        to: usize,
    },
    MoveKeys {
        slot: u16,
        percent: u64,
    },
    FinishMigration {
        slot: u16,
    },
    Gossip {
        node: usize,
    },
    /// The node knows of no slot, as one that was just started.
    Amnesia {
        node: usize,
    },
    /// The node hears no gossip, for long: its view grows old.
    Deafen {
        node: usize,
    },
    /// It hears again, and first what it has missed.
    Undeafen {
        node: usize,
    },
    /// As a replica, the node is behind by so long.
    Lag {
        node: usize,
        lag: u64,
    },
    Condition {
        node: usize,
        condition: Condition,
    },
    Lie {
        node: usize,
        slot: u16,
        text: String,
    },
    Truth {
        node: usize,
    },
    Pause {
        node: usize,
    },
    Resume {
        node: usize,
    },
    Reach {
        node: usize,
        reach: Reach,
    },
    /// The node's process ends; its connections end, or just go silent.
    Crash {
        node: usize,
        silent: bool,
    },
    /// The node's process ends and is there again at once, with an empty view.
    Restart {
        node: usize,
    },
    /// A replica takes over; without harm where its primary is well.
    Promote {
        replica: usize,
    },
    /// These nodes and the others do not reach each other.
    Part {
        nodes: Vec<usize>,
    },
    /// All nodes reach each other.
    Rejoin,
    /// The client and these nodes do not reach each other, or they do again.
    Link {
        nodes: Vec<usize>,
        link: Link,
    },
    /// The machine's clock jumps forward.
    Jump {
        by: u64,
    },
    /// A server says something unasked (RESP3).
    Push {
        nth: usize,
        kind: u64,
    },
    /// The node pushes to everybody, again and again.
    Flood {
        node: usize,
        kind: u64,
        every: u64,
        until: u64,
    },
    /// The node answers by drops.
    Drip {
        node: usize,
        every: u64,
    },
    /// The node reads nothing, and writes to it do not complete.
    Stick {
        node: usize,
    },
    /// The node answers handshakes only.
    /// The node wants no new connections, in one of these ways.
    Greet {
        node: usize,
        greeting: Greeting,
    },
    OnlyGreet {
        node: usize,
    },
    /// The node's errors have so many bytes.
    TalkMuch {
        node: usize,
        length: usize,
    },
    /// The node's lists are as long as they may be.
    ListMuch {
        node: usize,
        list: List,
    },
    /// The node answers EXEC with something else.
    Misshape {
        node: usize,
        shape: Shape,
    },
    /// The node ends, and another cluster's is at its address, with this epoch.
    TakeOver {
        node: usize,
        epoch: u64,
    },
    /// The stranger has gone, and the node is back.
    Return {
        node: usize,
    },
    /// The node is itself again.
    Behave {
        node: usize,
    },
    Cut {
        nth: usize,
    },
    Mute {
        nth: usize,
    },
}

/// How a node holds up, or misleads, everybody who talks to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hardship {
    /// Writes to it never complete.
    StuckWrites,
    /// Its replies come byte by byte.
    Drip,
    /// It pushes without end, and may answer nothing meanwhile.
    PushFlood,
    /// It accepts connections, greets, and falls silent.
    OnlyGreetings,
    /// It refuses new connections, each in one way.
    RefusedGreetings,
    /// The texts of its errors are huge.
    LongErrors,
    /// Its lists are as long as they may be.
    ListsAtLimits,
    /// EXEC's results are not what was queued.
    ExecShapes,
    /// Its address comes to belong to another cluster.
    Strangers,
}

/// All of them: what random runs choose from.
const HARDSHIPS: &[Hardship] = &[
    Hardship::StuckWrites,
    Hardship::Drip,
    Hardship::PushFlood,
    Hardship::OnlyGreetings,
    Hardship::RefusedGreetings,
    Hardship::LongErrors,
    Hardship::ListsAtLimits,
    Hardship::ExecShapes,
    Hardship::Strangers,
];

fn slot_of_tag(tag: u64) -> u16 {
    Slot::of_key(key_of_tag(tag, 'g', 0).as_bytes()).number()
}

pub(super) fn plan_faults(choices: &mut Choices, servers: &Servers, mood: Mood, plan: &mut Vec<(u64, Act)>) {
    for _ in 0..choices.pick(&[0, 3, 1, 5, 8, 12]) {
        let from = choices.below(3_000) * MILLISECOND;
        let lengths: &[u64] = match mood {
            Mood::Orderly => &[20, 300, 1_500],
            Mood::Faulty => &[20, 100, 500, 2_000, 9_000],
        };
        let time = (from, from + choices.pick(lengths) * MILLISECOND);
        let node = choices.index(servers.nodes.len());
        // Each hardship is as likely as any other fault.
        let kinds = if mood == Mood::Faulty { 24 + HARDSHIPS.len() as u64 } else { 24 };
        match (mood, choices.below(kinds)) {
            (_, 0..=2) => plan_move(choices, servers, time, plan),
            (_, 3) => {
                plan.push((time.0, Act::Deafen { node }));
                plan.push((time.1, Act::Undeafen { node }));
            }
            (_, 4) => {
                let lag = choices.pick(&[1, 50, 500, 3_000]) * MILLISECOND;
                plan.push((time.0, Act::Lag { node, lag }));
                plan.push((time.1, Act::Lag { node, lag: 0 }));
            }
            (_, 5) => plan_promotion(choices, servers, node, time.0, plan),
            (Mood::Orderly, 6..=9) => {
                let (nth, kind) = (choices.index(8), choices.below(PUSH_KINDS));
                plan.push((time.0, Act::Push { nth, kind }));
            }
            (Mood::Orderly, _) => plan_move(choices, servers, time, plan),
            (Mood::Faulty, fault @ 6..=15) => plan_trouble(choices, servers, fault, node, time, plan),
            (Mood::Faulty, fault @ 24..) => {
                let hardship = HARDSHIPS[fault as usize - 24];
                plan_hardship(choices, servers, hardship, node, time, plan);
            }
            (Mood::Faulty, fault) => plan_disaster(choices, servers, fault, node, time, plan),
        }
    }
}

/// A slot moves from one primary to another, in steps.
fn plan_move(choices: &mut Choices, servers: &Servers, time: (u64, u64), plan: &mut Vec<(u64, Act)>) {
    let primaries = (0..servers.nodes.len()).filter(|node| servers.replica_of(*node).is_none()).count();
    let slot = slot_of_tag(choices.below(TAG_COUNT));
    if primaries == 1 {
        return;
    }
    let to = choices.index(primaries);
    plan.push((time.0, Act::Migrate { slot, to }));
    for step in 1..=3 {
        let at = time.0 + (time.1 - time.0) * step / 4;
        plan.push((at, Act::MoveKeys { slot, percent: 33 * step }));
    }
    plan.push((time.1, Act::FinishMigration { slot }));
    plan_gossip(choices, servers, time.1, plan);
}

/// Every node hears the news after a while.
fn plan_gossip(choices: &mut Choices, servers: &Servers, from: u64, plan: &mut Vec<(u64, Act)>) {
    for node in 0..servers.nodes.len() {
        plan.push((from + choices.below(300) * MILLISECOND, Act::Gossip { node }));
    }
}

/// A replica of this node takes over, where there is one.
fn plan_promotion(
    choices: &mut Choices,
    servers: &Servers,
    node: usize,
    at: u64,
    plan: &mut Vec<(u64, Act)>,
) {
    let mut nodes = 0..servers.nodes.len();
    if let Some(replica) = nodes.find(|replica| servers.replica_of(*replica) == Some(node)) {
        plan.push((at, Act::Promote { replica }));
        plan_gossip(choices, servers, at, plan);
    }
}

/// One node or connection is in trouble.
fn plan_trouble(
    choices: &mut Choices,
    servers: &Servers,
    fault: u64,
    node: usize,
    time: (u64, u64),
    plan: &mut Vec<(u64, Act)>,
) {
    let (from, until) = time;
    match fault {
        6 => {
            let condition = choices.pick(&[
                Condition::Loading,
                Condition::ClusterDown,
                Condition::MasterDown,
                Condition::ReadOnly,
            ]);
            plan.push((from, Act::Condition { node, condition }));
            plan.push((until, Act::Condition { node, condition: Condition::Normal }));
        }
        7 => {
            let slot = slot_of_tag(choices.below(TAG_COUNT));
            plan_lies(choices, servers, time, slot, plan);
        }
        8 => {
            plan.push((from, Act::Pause { node }));
            plan.push((until, Act::Resume { node }));
        }
        9 => {
            let reach = choices.pick(&[Reach::Refusing, Reach::BlackHole]);
            plan.push((from, Act::Reach { node, reach }));
            plan.push((until, Act::Reach { node, reach: Reach::Up }));
        }
        10 | 11 => {
            plan.push((from, Act::Crash { node, silent: choices.chance(30) }));
            let at = from + choices.below(500) * MILLISECOND;
            plan_promotion(choices, servers, node, at, plan);
            plan.push((until, Act::Reach { node, reach: Reach::Up }));
        }
        12 => {
            let restarts = choices.chance(50);
            plan.push((from, if restarts { Act::Restart { node } } else { Act::Amnesia { node } }));
            plan.push((until, Act::Gossip { node }));
        }
        13 => plan.push((from, Act::Mute { nth: choices.index(8) })),
        14 => plan.push((from, Act::Cut { nth: choices.index(8) })),
        _ => {
            let (nth, kind) = (choices.index(8), choices.below(PUSH_KINDS));
            plan.push((from, Act::Push { nth, kind }));
        }
    }
}

/// Several nodes, the network or the clock are in trouble.
fn plan_disaster(
    choices: &mut Choices,
    servers: &Servers,
    fault: u64,
    node: usize,
    time: (u64, u64),
    plan: &mut Vec<(u64, Act)>,
) {
    let (from, until) = time;
    let count = servers.nodes.len();
    match fault {
        16 => {
            let nodes = some_nodes(choices, count);
            let link = choices.pick(&[Link::Held, Link::Lost]);
            plan.push((from, Act::Link { nodes: nodes.clone(), link }));
            plan.push((until, Act::Link { nodes, link: Link::Open }));
        }
        17 | 18 => {
            // With this node on the other side its replica may take over, before or after the node says that it
            // is alone; and the client may be on either side.
            let node = backed_up(servers, node);
            let mut nodes = vec![node];
            if choices.chance(40) {
                nodes = some_nodes(choices, count);
            }
            let at = from + choices.pick(&[10, 100, 250, 600]) * MILLISECOND;
            plan_promotion(choices, servers, node, at, plan);
            if choices.chance(50) {
                let is_apart = choices.chance(50);
                let beyond: Vec<_> = (0..count).filter(|it| nodes.contains(it) == is_apart).collect();
                plan.push((from, Act::Link { nodes: beyond.clone(), link: Link::Held }));
                plan.push((until, Act::Link { nodes: beyond, link: Link::Open }));
            }
            plan.push((from, Act::Part { nodes }));
            plan.push((until, Act::Rejoin));
            plan_gossip(choices, servers, until, plan);
        }
        19 => {
            let by = choices.pick(&[2, 30, 600, 3_600]) * SECOND;
            plan.push((from, Act::Jump { by }));
        }
        20 => {
            let period = choices.pick(&[2, 20, 100]) * MILLISECOND;
            for round in 0..choices.between(2, 12) {
                let at = from + 2 * round * period;
                plan.push((at, Act::Crash { node, silent: choices.chance(10) }));
                plan.push((at + period, Act::Reach { node, reach: Reach::Up }));
            }
        }
        21 => {
            // All of them once in a while.
            let all = choices.chance(30);
            let nodes = if all { (0..count).collect() } else { some_nodes(choices, count) };
            let silent = choices.chance(30);
            for node in nodes {
                plan.push((from, Act::Crash { node, silent }));
                let back = until + choices.below(300) * MILLISECOND;
                plan.push((back, Act::Reach { node, reach: Reach::Up }));
            }
        }
        _ => {
            // A replica that is behind takes over: the last writes are lost.
            let node = backed_up(servers, node);
            let lag = choices.pick(&[50, 500, 3_000]) * MILLISECOND;
            for node in 0..count {
                plan.push((from, Act::Lag { node, lag }));
            }
            let crash_at = from + choices.below(500) * MILLISECOND;
            plan.push((crash_at, Act::Crash { node, silent: choices.chance(50) }));
            let at = crash_at + choices.below(500) * MILLISECOND;
            plan_promotion(choices, servers, node, at, plan);
            plan.push((until, Act::Reach { node, reach: Reach::Up }));
        }
    }
}

/// One node makes it hard for everybody.
fn plan_hardship(
    choices: &mut Choices,
    servers: &Servers,
    hardship: Hardship,
    node: usize,
    time: (u64, u64),
    plan: &mut Vec<(u64, Act)>,
) {
    let (from, until) = time;
    let act = match hardship {
        Hardship::StuckWrites => Act::Stick { node },
        Hardship::Drip => Act::Drip { node, every: choices.pick(&[50, 20, 150]) * MILLISECOND },
        Hardship::PushFlood => {
            if choices.chance(60) {
                plan.push((from, Act::Pause { node }));
                plan.push((until, Act::Resume { node }));
            }
            let every = choices.pick(&[50, 10, 150]) * MILLISECOND;
            Act::Flood { node, kind: choices.below(PUSH_KINDS), every, until }
        }
        Hardship::OnlyGreetings => Act::OnlyGreet { node },
        Hardship::RefusedGreetings => {
            let greeting = choices.pick(&[
                Greeting::ToFirst(FULL),
                Greeting::AtAccept(FULL),
                Greeting::ToFirst(DENIED),
                Greeting::AtAccept(DENIED),
                Greeting::HangsUp,
                Greeting::HangsUpOn("CLUSTER SLOTS"),
                Greeting::ToFirst("LOADING Redis is loading the dataset in memory"),
            ]);
            Act::Greet { node, greeting }
        }
        Hardship::LongErrors => {
            let length = choices.pick(&[1 << 16, 1 << 16, 1 << 16, 1 << 18, (1 << 20) - 1, 1 << 20]);
            let condition = choices.pick(&[Condition::Normal, Condition::ClusterDown, Condition::Loading]);
            plan.push((from, Act::Condition { node, condition }));
            plan.push((until, Act::Condition { node, condition: Condition::Normal }));
            Act::TalkMuch { node, length }
        }
        Hardship::ListsAtLimits => {
            // They cost as much as a whole run without them.
            if !choices.chance(10) {
                return;
            }
            Act::ListMuch { node, list: choices.pick(&[List::Ranges, List::Nodes]) }
        }
        Hardship::Strangers => {
            let at = from + choices.below(500) * MILLISECOND;
            plan_promotion(choices, servers, node, at, plan);
            plan.push((until, Act::Return { node }));
            Act::TakeOver { node, epoch: choices.pick(&[1, 1_000, 4]) }
        }
        Hardship::ExecShapes => {
            use Shape::*;
            Act::Misshape { node, shape: choices.pick(&[TooFew, TooMany, Nothing, Map, Integer, Text]) }
        }
    };
    plan.push((from, act));
    plan.push((until, Act::Behave { node }));
}

/// A primary that has a replica, where there are replicas at all.
fn backed_up(servers: &Servers, node: usize) -> usize {
    let is_backed_up = (0..servers.nodes.len()).any(|replica| servers.replica_of(replica).is_some());
    if is_backed_up { servers.replica_of(node).unwrap_or(node) } else { node }
}

fn some_nodes(choices: &mut Choices, count: usize) -> Vec<usize> {
    let first = choices.index(count);
    let length = choices.between(1, count as u64) as usize;
    (0..length).map(|step| (first + step) % count).collect()
}

/// Redirects that are wrong: in a circle, to nowhere, or unreadable.
fn plan_lies(
    choices: &mut Choices,
    servers: &Servers,
    time: (u64, u64),
    slot: u16,
    plan: &mut Vec<(u64, Act)>,
) {
    let count = servers.nodes.len();
    let (first, second) = (choices.index(count), choices.index(count));
    let code = choices.pick(&["MOVED", "ASK"]);
    let circle = choices.chance(50);
    for (node, other) in [(first, second), (second, first)] {
        let text = match circle {
            true => servers.redirect_text(code, slot, other),
            false => match choices.below(7) {
                0 => format!("{code} {slot} 10.9.9.9:6379"),
                1 => format!("{code} {slot} 10.9.9.8:6379"),
                2 => format!("{code} {slot} no-such-host.test:6379"),
                3 => format!("{code} {slot} :{}", servers.nodes[other].address.port()),
                4 => format!("{code} 99999 x:y"),
                5 => format!("{code} {slot} 10.9.9.9:*"),
                _ => code.to_string(),
            },
        };
        plan.push((time.0, Act::Lie { node, slot, text }));
        plan.push((time.1, Act::Truth { node }));
    }
}

pub(super) fn perform(world: &mut World<Act>, act: Act) {
    world.servers.catch_up(world.now);
    match act {
        Act::Submit(operations) => {
            for operation in operations {
                submit(world, operation);
            }
        }
        Act::Forget => {
            let last = world.ledger.entries.iter().rev().find(|(_, entry)| entry.outcome.is_none());
            if let Some(id) = last.map(|(id, _)| *id) {
                world.log(|| format!("{id:?} forget"));
                world.cluster.forget(id);
                world.ledger.forgotten(id);
                world.forgot_batch(id);
            }
        }
        Act::Lend { lease, tag } => {
            let slot = tag.and_then(|tag| Slot::new(slot_of_tag(tag)));
            world.lend(lease, slot);
        }
        Act::Use { lease, lines } => use_lease(world, lease, &lines),
        Act::GiveBack { lease } => world.give_back(lease),
        Act::Scan { count, parallel } => world.begin_scan(count, parallel),
        Act::AskOn { scanner } => world.ask_on(scanner),
        Act::SubmitTo { node, operation } => {
            world.submit_to(node, &operation.words(), Some(operation));
        }
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
        Act::FinishMigration { slot } => world.servers.finish_migration(slot),
        Act::Gossip { node } => world.servers.gossip(node),
        Act::Amnesia { node } => world.servers.make_empty(node),
        Act::Deafen { node } => world.servers.nodes[node].deaf = true,
        Act::Undeafen { node } => {
            world.servers.nodes[node].deaf = false;
            world.servers.gossip(node);
        }
        Act::Lag { node, lag } => world.servers.nodes[node].lag = lag,
        Act::Condition { node, condition } => world.servers.nodes[node].condition = condition,
        Act::Lie { node, slot, text } => {
            world.is_misled = true;
            world.servers.nodes[node].lies.insert(slot, text);
        }
        Act::Truth { node } => world.servers.nodes[node].lies.clear(),
        Act::Pause { node } => world.servers.nodes[node].paused = true,
        Act::Resume { node } => world.resume(node),
        Act::Reach { node, reach } => world.servers.nodes[node].reach = reach,
        Act::Crash { node, silent } => {
            world.servers.start_anew(node);
            world.servers.nodes[node].reach = if silent { Reach::BlackHole } else { Reach::Refusing };
            for conn in world.open_conns(Some(node)) {
                if silent { world.sever(conn) } else { world.cut(conn) }
            }
        }
        Act::Restart { node } => {
            world.servers.make_empty(node);
            world.servers.start_anew(node);
            for conn in world.open_conns(Some(node)) {
                world.cut(conn);
            }
        }
        Act::Promote { replica } => world.servers.promote(replica),
        Act::Part { nodes } => world.servers.part(&nodes),
        Act::Rejoin => world.servers.rejoin(),
        Act::Link { nodes, link } => nodes.into_iter().for_each(|node| world.link(node, link)),
        Act::Jump { by } => world.jump(by),
        Act::Flood { node, kind, every, until } => {
            world.flood(node, kind);
            let next = world.now + every;
            if next < until {
                world.plan(next, Act::Flood { node, kind, every, until });
            }
        }
        Act::Drip { node, every } => world.servers.nodes[node].manners.drip = Some(every),
        Act::Stick { node } => world.servers.nodes[node].manners.is_stuck = true,
        Act::OnlyGreet { node } => world.servers.nodes[node].manners.only_greets = true,
        Act::Greet { node, greeting } => world.servers.nodes[node].manners.greeting = greeting,
        Act::TalkMuch { node, length } => world.servers.nodes[node].manners.error_length = length,
        Act::ListMuch { node, list } => {
            // Replicas that are read from would all be dialled.
            let list = if world.may_read_replicas { List::Ranges } else { list };
            if list == List::Nodes {
                world.strangers = NODES_MAX;
            }
            world.servers.nodes[node].manners.list = Some(list);
        }
        Act::Misshape { node, shape } => world.servers.nodes[node].manners.exec = Some(shape),
        Act::TakeOver { node, epoch } => world.take_over(node, epoch),
        Act::Return { node } => world.give_address_back(node),
        Act::Behave { node } => world.behave(node),
        Act::Push { nth, kind } => {
            let open = world.open_conns(None);
            if let Some(conn) = open.get(nth % open.len().max(1)).copied() {
                world.push(conn, kind);
            }
        }
        Act::Cut { nth } | Act::Mute { nth } => {
            let open = world.open_conns(None);
            if let Some(conn) = open.get(nth % open.len().max(1)).copied() {
                if matches!(act, Act::Mute { .. }) { world.sever(conn) } else { world.cut(conn) }
            }
        }
    }
}
