//! One random run: a cluster, a client, requests and faults over three seconds; then everything heals, and the
//! client must serve every slot again, end idle, and close.

use std::time::Duration;

use keyslot_core::address::NodeAddr;
use keyslot_core::cluster::RequestId;
use keyslot_core::config::{Config, Mode, Protocol};
use keyslot_core::error::Error;
use keyslot_core::slot::Slot;

use super::choices::Choices;
use super::ledger::{KINDS, Kind, Operation, TAG_COUNT, key};
use super::server::{Condition, Dialect, Migration, NOBODY, Reach, Servers};
use super::world::{MICROSECOND, MILLISECOND, SECOND, Step, Weather, World};

/// When the last fault ends.
const HEALED_AT: u64 = 4 * SECOND;
/// From healing to the requests that must succeed: longer than any back-off and any time-out.
const GRACE: u64 = 4 * SECOND;
const REQUEST_TIMEOUT: Duration = Duration::from_millis(1_000);
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

/// What a run has for faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    /// Slots move, which no request may notice.
    Orderly,
    /// Everything.
    Faulty,
}

/// What happens at a planned time.
#[derive(Clone, Debug)]
enum Act {
    /// Several requests at once, as a pipeline has them.
    Submit(Vec<Operation>),
    /// The latest request is given up.
    Forget,
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
    Promote {
        replica: usize,
    },
    Cut {
        nth: usize,
    },
    Mute {
        nth: usize,
    },
}

/// Runs once; a broken promise panics with a text that begins with `INVARIANT`.
pub(crate) fn run(mut choices: Choices, trace: bool) {
    let servers = random_servers(&mut choices);
    let mut config = random_config(&mut choices, &servers);
    let mood = choices.pick(&[Mood::Orderly, Mood::Faulty, Mood::Faulty, Mood::Faulty, Mood::Faulty]);
    if mood == Mood::Orderly {
        // The keys of one command may be apart for as long as their slot moves.
        config.request_timeout = 3 * REQUEST_TIMEOUT;
    }
    let weather = random_weather(&mut choices, mood == Mood::Faulty);
    let mut plan = Vec::new();
    let submitted = plan_requests(&mut choices, &mut plan);
    plan_faults(&mut choices, &servers, mood, &mut plan);
    let mut world = World::new(config, servers, weather, choices, trace);
    world.log(|| format!("{:?} {:?}", world.servers.dialect, world.weather));
    for (at, act) in plan {
        world.plan(at, act);
    }
    advance(&mut world, HEALED_AT);
    heal(&mut world);
    advance(&mut world, HEALED_AT + GRACE);
    assert_eq!(world.ledger.pending(), 0, "INVARIANT: no request is left behind");
    if mood == Mood::Orderly {
        world.ledger.check_all_served();
    }
    if !matches!(world.ready, Some(Err(_))) {
        probe(&mut world, submitted);
    }
    let quiet_from = world.now;
    advance(&mut world, quiet_from + 5 * SECOND);
    check_idle(&world);
    check_effort(&world);
    close(&mut world);
    world.ledger.check_executions(&world.servers.executions);
}

fn random_servers(choices: &mut Choices) -> Servers {
    let cluster = !choices.chance(5);
    let mut dialect = Dialect::modern();
    dialect.hello = !choices.chance(20);
    dialect.setinfo = !choices.chance(30);
    dialect.shards = !choices.chance(30);
    dialect.cluster = cluster;
    dialect.password = choices.chance(20).then(|| "secret".to_string());
    dialect.empty_hosts = choices.chance(15);
    let primaries = if cluster { choices.pick(&[3, 2, 4, 1]) } else { 1 };
    let replicas = if cluster { choices.pick(&[1, 0]) } else { 0 };
    let names = choices.chance(25) && !dialect.empty_hosts;
    Servers::new(dialect, primaries, replicas, names)
}

fn random_config(choices: &mut Choices, servers: &Servers) -> Config {
    let count = choices.between(1, servers.nodes.len() as u64) as usize;
    let seed = |node: &super::server::Node| NodeAddr::new(&node.host, node.address.port());
    let mut seeds: Vec<_> = servers.nodes.iter().take(count).map(seed).collect();
    if choices.chance(20) {
        seeds.insert(0, NodeAddr::new("10.9.9.9", 6379));
    }
    let mut config = Config::new(seeds);
    config.connect_timeout = CONNECT_TIMEOUT;
    config.request_timeout = REQUEST_TIMEOUT;
    config.password.clone_from(&servers.dialect.password);
    let protocols = [Protocol::Auto, Protocol::Resp2, Protocol::Resp3];
    config.protocol = choices.pick(if servers.dialect.hello { &protocols } else { &protocols[..2] });
    config.mode = match servers.dialect.cluster {
        true => choices.pick(&[Mode::Auto, Mode::Cluster]),
        false => choices.pick(&[Mode::Auto, Mode::Standalone]),
    };
    config
}

fn random_weather(choices: &mut Choices, faulty: bool) -> Weather {
    let mut weather = Weather::calm();
    weather.latency = (50 * MICROSECOND, choices.pick(&[1, 5, 30]) * MILLISECOND);
    weather.split = choices.pick(&[0, 20, 60]);
    if faulty {
        weather.refuse = choices.pick(&[0, 0, 10, 30]);
        weather.silent_dial = choices.pick(&[0, 0, 0, 15]);
        weather.lookup_failure = choices.pick(&[0, 0, 20]);
        weather.slow = choices.pick(&[0, 0, 0, 1, 3]);
        weather.cut = choices.pick(&[0, 0, 0, 1, 5]);
        weather.garbage = choices.pick(&[0, 0, 0, 1, 3]);
    }
    weather
}

fn operation(choices: &mut Choices, number: &mut u64) -> Operation {
    *number += 1;
    Operation { kind: choices.pick(&KINDS), number: *number, tag: choices.below(TAG_COUNT) }
}

/// Says how many requests it has planned.
fn plan_requests(choices: &mut Choices, plan: &mut Vec<(u64, Act)>) -> u64 {
    let mut number = 0;
    for _ in 0..choices.between(5, 20) {
        let at = choices.below(3_000) * MILLISECOND;
        let length = choices.pick(&[1, 1, 1, 2, 4, 8]);
        let operations = (0..length).map(|_| operation(choices, &mut number)).collect();
        plan.push((at, Act::Submit(operations)));
        if choices.chance(10) {
            plan.push((at + choices.below(20) * MILLISECOND, Act::Forget));
        }
    }
    number
}

fn slot_of_tag(tag: u64) -> u16 {
    Slot::of_key(key(tag, 'g', 0).as_bytes()).number()
}

fn plan_faults(choices: &mut Choices, servers: &Servers, mood: Mood, plan: &mut Vec<(u64, Act)>) {
    let nodes = servers.nodes.len();
    let primaries = servers.nodes.iter().filter(|node| node.replica_of.is_none()).count();
    for _ in 0..choices.pick(&[0, 3, 1, 5, 8, 12]) {
        let from = choices.below(3_000) * MILLISECOND;
        let until = from
            + match mood {
                Mood::Orderly => choices.pick(&[20, 300, 1_500]) * MILLISECOND,
                Mood::Faulty => choices.pick(&[20, 100, 500, 2_000, 9_000]) * MILLISECOND,
            };
        let node = choices.index(nodes);
        let slot = slot_of_tag(choices.below(TAG_COUNT));
        match if mood == Mood::Orderly { 0 } else { choices.below(11) } {
            0 | 1 if primaries == 1 => {}
            0 | 1 => {
                let to = choices.index(primaries);
                plan.push((from, Act::Migrate { slot, to }));
                for step in 1..=3 {
                    plan.push((from + (until - from) * step / 4, Act::MoveKeys { slot, percent: 33 * step }));
                }
                plan.push((until, Act::FinishMigration { slot }));
                for node in 0..nodes {
                    plan.push((until + choices.below(300) * MILLISECOND, Act::Gossip { node }));
                }
            }
            2 => {
                let condition = choices.pick(&[
                    Condition::Loading,
                    Condition::ClusterDown,
                    Condition::MasterDown,
                    Condition::ReadOnly,
                ]);
                plan.push((from, Act::Condition { node, condition }));
                plan.push((until, Act::Condition { node, condition: Condition::Normal }));
            }
            3 => plan_lies(choices, servers, (from, until), slot, plan),
            4 => {
                plan.push((from, Act::Pause { node }));
                plan.push((until, Act::Resume { node }));
            }
            5 => {
                let reach = choices.pick(&[Reach::Refusing, Reach::BlackHole]);
                plan.push((from, Act::Reach { node, reach }));
                plan.push((until, Act::Reach { node, reach: Reach::Up }));
            }
            6 | 7 => {
                plan.push((from, Act::Crash { node, silent: choices.chance(30) }));
                if let Some(replica) = servers.nodes.iter().position(|it| it.replica_of == Some(node)) {
                    let at = from + choices.below(500) * MILLISECOND;
                    plan.push((at, Act::Promote { replica }));
                    for node in 0..nodes {
                        plan.push((at + choices.below(300) * MILLISECOND, Act::Gossip { node }));
                    }
                }
                plan.push((until, Act::Reach { node, reach: Reach::Up }));
            }
            8 => {
                plan.push((from, Act::Amnesia { node }));
                plan.push((until, Act::Gossip { node }));
            }
            9 => plan.push((from, Act::Mute { nth: choices.index(8) })),
            _ => plan.push((from, Act::Cut { nth: choices.index(8) })),
        }
    }
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

/// Lets time pass, and does what was planned for it.
fn advance(world: &mut World<Act>, until: u64) {
    let mut steps = 0u32;
    loop {
        match world.step(until) {
            Step::Planned(act) => {
                if world.now < HEALED_AT {
                    perform(world, act);
                    world.drain();
                }
            }
            Step::Progress => {}
            Step::Quiet => return,
        }
        steps += 1;
        assert!(steps < 200_000, "INVARIANT: a run's work is bounded");
    }
}

fn perform(world: &mut World<Act>, act: Act) {
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
            }
        }
        Act::Migrate { slot, to } => {
            let from = world.servers.owner(slot);
            let running = world.servers.migrations.contains_key(&slot);
            if from != to && !running && world.servers.nodes[to].replica_of.is_none() {
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
        Act::Amnesia { node } => world.servers.nodes[node].view.fill(NOBODY),
        Act::Condition { node, condition } => world.servers.nodes[node].condition = condition,
        Act::Lie { node, slot, text } => {
            world.servers.nodes[node].lies.insert(slot, text);
        }
        Act::Truth { node } => world.servers.nodes[node].lies.clear(),
        Act::Pause { node } => world.servers.nodes[node].paused = true,
        Act::Resume { node } => world.resume(node),
        Act::Reach { node, reach } => world.servers.nodes[node].reach = reach,
        Act::Crash { node, silent } => {
            world.servers.nodes[node].reach = if silent { Reach::BlackHole } else { Reach::Refusing };
            for conn in world.open_conns(Some(node)) {
                if silent { world.sever(conn) } else { world.cut(conn) }
            }
        }
        Act::Promote { replica } => {
            if world.servers.nodes[replica].reach == Reach::Up {
                world.servers.promote(replica);
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

fn submit(world: &mut World<Act>, operation: Operation) -> RequestId {
    world.submit(&operation.words(), Some(operation)).expect("every operation is a valid command")
}

/// Ends all faults. Connections that were muted stay so: the client has to find out.
fn heal(world: &mut World<Act>) {
    world.log(|| "heal".into());
    let latency = world.weather.latency;
    world.weather = Weather { latency, ..Weather::calm() };
    let slots: Vec<_> = world.servers.migrations.keys().copied().collect();
    for slot in slots {
        world.servers.finish_migration(slot);
    }
    for node in 0..world.servers.nodes.len() {
        world.servers.gossip(node);
        let state = &mut world.servers.nodes[node];
        state.condition = Condition::Normal;
        state.reach = Reach::Up;
        state.lies.clear();
        world.resume(node);
    }
    world.drain();
}

/// Every slot is served again: a read and a write for each tag. A connection that went silent while it was idle
/// is only found out by a request that times out on it, so each of those may cost one round.
fn probe(world: &mut World<Act>, submitted: u64) {
    let mut number = submitted;
    let silent = world.silent_conns();
    for round in 0..=silent {
        let mut ids = Vec::new();
        for tag in 0..TAG_COUNT {
            for kind in [Kind::Get, Kind::Set] {
                number += 1;
                ids.push(submit(world, Operation { kind, number, tag }));
            }
        }
        world.drain();
        let until = world.now + 2 * SECOND;
        advance(world, until);
        let mut served = true;
        for id in ids {
            let outcome = world.outcome(id);
            let lost = matches!(outcome, Some(Err(Error::Timeout(_))));
            let fits = matches!(outcome, Some(Ok(_))) || (round < silent && lost);
            assert!(
                fits,
                "INVARIANT: after healing, round {round} of {silent}, every slot is served: {id:?} {outcome:?}"
            );
            served &= !lost;
        }
        if served {
            return;
        }
    }
}

/// Nothing is under way, and nothing has been kept.
fn check_idle(world: &World<Act>) {
    assert_eq!(world.ledger.pending(), 0, "INVARIANT: no request is left behind");
    assert_eq!(world.cluster.pending(), 0, "INVARIANT: the machine keeps no request");
    // One connection for each node and each address that was only ever named: by a seed or a redirect.
    let nodes = world.servers.nodes.len() + 4;
    assert!(world.held() <= nodes, "INVARIANT: {} connections for {nodes} nodes", world.held());
    let footprint = world.cluster.footprint();
    let bound = 4 * nodes + 12;
    assert!(footprint <= bound, "INVARIANT: the idle machine holds {footprint} things, more than {bound}");
}

/// The work that the servers were given is in proportion to what was asked.
fn check_effort(world: &World<Act>) {
    let requests = world.ledger.entries.len() as u64;
    let commands = world.servers.commands_seen;
    let bound = 300 + 40 * requests;
    assert!(commands <= bound, "INVARIANT: {commands} commands for {requests} requests, more than {bound}");
    let (dials, bound) = (world.dials, 60 * world.servers.nodes.len() as u64 + 100);
    assert!(dials <= bound, "INVARIANT: {dials} dials, more than {bound}");
    let (asked, bound) = (world.servers.topologies_asked, 200);
    assert!(asked <= bound, "INVARIANT: the topology was asked for {asked} times, more than {bound}");
}

/// Closing ends what is under way, and what comes after it.
fn close(world: &mut World<Act>) {
    let number = world.ledger.entries.len() as u64 + 1;
    let before = submit(world, Operation { kind: Kind::Incr, number, tag: 1 });
    world.cluster.close();
    let after = submit(world, Operation { kind: Kind::Incr, number: number + 1, tag: 1 });
    world.drain();
    let until = world.now + 100 * MILLISECOND;
    advance(world, until);
    for id in [before, after] {
        let outcome = world.outcome(id);
        let closed = matches!(outcome, Some(Err(_)));
        assert!(closed, "INVARIANT: a closed client ends its requests: {id:?} {outcome:?}");
    }
    assert_eq!(world.held(), 0, "INVARIANT: a closed client has no connections");
    assert_eq!(world.waits_until(), None, "INVARIANT: a closed client waits for nothing");
    assert_eq!(world.cluster.pending(), 0, "INVARIANT: a closed client has no requests");
}
