//! One random run: a cluster, a client, requests and faults over three seconds; then everything
//! heals, and the client must serve every slot again, end idle, and close.

use keyslot_core::config::{Config, RetryWrites};
use keyslot_core::error::Error;

use super::choices::Choices;
use super::coverage::{Coverage, Feature};
use super::digest::Digest;
use super::faults::{Act, Mood, perform, plan_faults};
use super::flaw::Flaw;
use super::leases::{plan_addressed, plan_leases};
use super::network::Link;
use super::operation::{KINDS, Kind, Operation, TAG_COUNT};
use super::plan::{Keep, Kind as Part, Plan};
use super::scanners::plan_scans;
use super::server::{Condition, Reach, Servers};
use super::settings::{random_config, random_servers};
use super::weather::Weather;
use super::world::{MICROSECOND, MILLISECOND, Record, SECOND, Step, World};

/// When the last fault ends.
const HEALED_AT: u64 = 4 * SECOND;
/// From healing to the requests that must succeed: longer than any back-off and any time-out.
const GRACE: u64 = 4 * SECOND;

/// One run to be.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) choices: Choices,
    /// What of its plan is done.
    pub(crate) keep: Keep,
    /// What is wrong with the client.
    pub(crate) flaw: Flaw,
}

impl Case {
    pub(crate) fn seeded(seed: u64) -> Self {
        Self { choices: Choices::seeded(seed), keep: Keep::All, flaw: Flaw::None }
    }

    pub(crate) fn steered(bytes: Vec<u8>) -> Self {
        Self { choices: Choices::Steered { bytes, at: 0 }, ..Self::seeded(0) }
    }
}

/// Runs once, and says what the run has come to. A broken promise panics with a text that begins
/// with `INVARIANT`.
pub(crate) fn run(case: Case, trace: bool) -> Coverage {
    play(case, Record::traced(trace)).coverage
}

/// As `run`; the number stands for all that the machine did.
pub(crate) fn digest(case: Case) -> u64 {
    play(case, Record::Digest(Digest::new())).digested().unwrap_or_default()
}

/// All that the run is to do, whatever of it is kept.
pub(crate) fn plan(case: Case) -> Plan {
    let mut choices = case.choices;
    Setting::random(&mut choices).plan
}

/// What is drawn before a run begins.
struct Setting {
    servers: Servers,
    mood: Mood,
    config: Config,
    is_misled: bool,
    weather: Weather,
    plan: Plan,
    /// How many requests are planned.
    submitted: u64,
}

impl Setting {
    fn random(choices: &mut Choices) -> Self {
        let mut servers = random_servers(choices);
        let mood = choices.pick(&[Mood::Orderly, Mood::Faulty, Mood::Faulty, Mood::Faulty, Mood::Faulty]);
        let (config, is_misled) = random_config(choices, &mut servers, mood);
        let weather = random_weather(choices, mood == Mood::Faulty);
        let mut plan = Plan::default();
        let mut submitted = plan_requests(choices, &mut plan);
        plan_leases(choices, &mut submitted, &mut plan);
        plan_addressed(choices, &servers, &mut submitted, &mut plan);
        plan_faults(choices, &servers, mood, &mut plan);
        plan_scans(choices, &mut plan);
        plan.add_weather(&weather);
        Self { servers, mood, config, is_misled, weather, plan, submitted }
    }
}

fn play(case: Case, record: Record) -> World<Act> {
    let Case { mut choices, keep, flaw } = case;
    let setting = Setting::random(&mut choices);
    let Setting { servers, mood, mut config, is_misled, mut weather, mut plan, submitted } = setting;
    plan.keep(&keep);
    plan.calm(&mut weather);
    let may_repeat = config.retry.writes == RetryWrites::AtLeastOnce;
    if flaw == Flaw::RepeatsWrites {
        config.retry.writes = RetryWrites::AtLeastOnce;
    }
    let shown = format!("{weather:?}");
    let mut world = World::new(config, servers, weather, choices, record);
    world.log(|| format!("{:?} {shown} {:?}", world.servers.dialect, world.config));
    world.flaw = flaw;
    if is_misled {
        world.excuses.mislead();
    }
    if may_repeat {
        world.history.allow_repeats();
    }
    for (at, act) in plan.into_steps() {
        world.plan(at, act);
    }
    advance(&mut world, HEALED_AT);
    heal(&mut world);
    advance(&mut world, HEALED_AT + GRACE);
    finish_scans(&mut world);
    assert_eq!(world.history.pending(), 0, "INVARIANT: no request is left behind");
    if mood == Mood::Orderly {
        world.history.check_all_served();
        if !world.excuses.may_read_replicas() {
            world.history.check_order(&world.servers);
        }
    }
    if !matches!(world.ready(), Some(Err(_))) {
        probe(&mut world, submitted);
    }
    let quiet_from = world.now();
    advance(&mut world, quiet_from + 5 * SECOND);
    check_idle(&world);
    check_effort(&world);
    world.check_news();
    world.check_counters();
    world.check_rounds();
    close(&mut world);
    world.history.check_executions(&world.servers.executions);
    for transaction in world.leases.take_open() {
        world.history.ended(transaction);
    }
    world.history.check_transactions(&world.servers.executions);
    assert!(
        world.excuses.may_read_replicas() || world.servers.replica_reads == 0,
        "INVARIANT: replicas are read only where the settings allow it"
    );
    world.check_news();
    world.digest(*world.cluster.statistics());
    cover(&mut world);
    world
}

/// Counts what shows at the end only.
fn cover(world: &mut World<Act>) {
    let (servers, coverage) = (&world.servers, &mut world.coverage);
    world.history.cover(&servers.executions, coverage);
    coverage.add(Feature::ReplicaRead, servers.replica_reads);
    coverage.add(Feature::Failover, servers.promotions);
    coverage.add(Feature::LossyFailover, servers.lossy_promotions);
    coverage.add(Feature::FailoverAcrossPartition, servers.unheard_promotions);
}

fn random_weather(choices: &mut Choices, faulty: bool) -> Weather {
    let mut weather = Weather::calm();
    weather.latency = (50 * MICROSECOND, choices.pick(&[1, 5, 30]) * MILLISECOND);
    weather.split = choices.pick(&[0, 20, 60]);
    weather.pushes = choices.pick(&[0, 0, 0, 10, 60]);
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
fn plan_requests(choices: &mut Choices, plan: &mut Plan) -> u64 {
    let mut number = 0;
    for _ in 0..choices.between(5, 20) {
        let at = choices.below(3_000) * MILLISECOND;
        let length = choices.pick(&[1, 1, 1, 2, 4, 8]);
        let operations = (0..length).map(|_| operation(choices, &mut number)).collect();
        plan.add_pipeline(at, operations);
        if choices.chance(10) {
            let at = at + choices.below(20) * MILLISECOND;
            plan.add(Part::Cancellation, vec![(at, Act::Forget)]);
        }
    }
    number
}

/// Lets time pass, and does what was planned for it.
fn advance(world: &mut World<Act>, until: u64) {
    let mut steps = 0u32;
    loop {
        match world.step(until) {
            Step::Planned(act) => {
                if world.now() < HEALED_AT || matches!(act, Act::AskOn { .. }) {
                    perform(world, act);
                    world.drain();
                    if world.choices.chance(5) {
                        world.check_news();
                    }
                }
            }
            Step::Progress => {}
            Step::Quiet => return,
        }
        world.follow_scans();
        steps += 1;
        assert!(steps < 200_000, "INVARIANT: a run's work is bounded");
    }
}

/// Ends all faults. Connections that were muted stay so: the client has to find out.
fn heal(world: &mut World<Act>) {
    world.log(|| "heal".into());
    let latency = world.weather().latency;
    *world.weather() = Weather { latency, ..Weather::calm() };
    world.limit_sockets(usize::MAX);
    world.servers.catch_up(world.now());
    world.servers.rejoin();
    let slots: Vec<_> = world.servers.migrations.keys().copied().collect();
    for slot in slots {
        world.servers.finish_migration(slot);
    }
    for node in 0..world.servers.nodes.len() {
        let state = &mut world.servers.nodes[node];
        (state.deaf, state.lag) = (false, 0);
        state.condition = Condition::Normal;
        state.reach = Reach::Up;
        state.lies.clear();
        world.give_address_back(node);
        world.servers.gossip(node);
        world.link(node, Link::Open);
        world.resume(node);
        world.behave(node);
    }
    world.drain();
}

/// Every slot is served again: reads and writes for each tag. A connection that went silent while
/// it was idle is only found out by a request that times out on it, so each of those may cost one
/// round.
fn probe(world: &mut World<Act>, submitted: u64) {
    let mut number = submitted;
    // With a small limit few requests can wait for a node that was down and that nobody has asked
    // since.
    let silent = world.silent_conns() + usize::from(world.config.waiting.requests < 100);
    for round in 0..=silent {
        let mut ids = Vec::new();
        for tag in 0..TAG_COUNT {
            for kind in [Kind::Get, Kind::Set, Kind::Put, Kind::Look] {
                number += 1;
                ids.push(world.submit_operation(Operation { kind, number, tag }));
            }
        }
        world.drain();
        let until = world.now() + 2 * SECOND;
        advance(world, until);
        let mut served = true;
        for id in ids {
            let outcome = world.outcome(id);
            let lost = matches!(
                outcome,
                Some(Err(Error::Timeout(_)
                    | Error::ConnectionLost(_)
                    | Error::PartlyExecuted(_)
                    | Error::LimitExceeded(_)))
            );
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

/// After healing scans come to their end, unless the client is of no use.
fn finish_scans(world: &mut World<Act>) {
    let patience = world.now() + 40 * SECOND;
    while !world.have_scans_ended() && world.now() < patience {
        let until = world.now() + SECOND / 4;
        advance(world, until);
    }
    let is_useless = matches!(world.ready(), Some(Err(_)));
    assert!(world.have_scans_ended() || is_useless, "INVARIANT: after healing, scans come to their end");
    world.end_scans();
    let until = world.now() + 10 * MILLISECOND;
    advance(world, until);
}

/// Nothing is under way, and nothing has been kept.
fn check_idle(world: &World<Act>) {
    assert_eq!(world.history.pending(), 0, "INVARIANT: no request is left behind");
    assert_eq!(world.cluster.pending(), 0, "INVARIANT: the machine keeps no request");
    // One connection for each node and each address that was only ever named: by a seed or a
    // redirect.
    let nodes = world.servers.nodes.len() + 4 + world.excuses.strangers();
    let lent = world.servers.nodes.len() * world.config.pool.connections_max as usize;
    let held = world.held();
    assert!(held <= nodes + lent, "INVARIANT: {held} connections for {nodes} nodes and {lent} lent");
    let footprint = world.cluster.footprint();
    let bound = 4 * nodes + 12 + 2 * lent + 2 * world.leases.count();
    assert!(footprint <= bound, "INVARIANT: the idle machine holds {footprint} things, more than {bound}");
}

/// The work that the servers were given is in proportion to what was asked.
fn check_effort(world: &World<Act>) {
    let requests = world.history.len() as u64;
    let commands = world.servers.commands_seen;
    let config = &world.config;
    let rounds = 13 * SECOND / config.refresh_interval.as_nanos() as u64;
    // With fewer sockets than nodes, several scans take the connections from each other: each page
    // may need one of its own, with its handshake.
    let pages = if world.was_short_of_sockets() { world.servers.pages_asked } else { 0 };
    let bound = 300 + 40 * requests + 9 * rounds + 12 * pages;
    assert!(commands <= bound, "INVARIANT: {commands} commands for {requests} requests, more than {bound}");
    // A node that goes up and down is dialled again and again, and so are addresses that redirects
    // made up.
    let of_node = 60 + 15 * SECOND / config.retry.reconnect_cap.as_nanos() as u64;
    // What blocks is dialled for on its own.
    // Nor do nodes answer that a list has made up.
    let bound = of_node * world.servers.nodes.len() as u64
        + 20 * world.excuses.strangers() as u64
        + 100
        + 6 * requests
        + 2 * pages;
    let dials = world.dials();
    assert!(dials <= bound, "INVARIANT: {dials} dials, more than {bound}");
    // A scan that finds slots elsewhere than expected asks for it, too.
    let (asked, bound) = (world.servers.topologies_asked, 300 + 6 * rounds);
    assert!(asked <= bound, "INVARIANT: the topology was asked for {asked} times, more than {bound}");
}

/// Closing ends what is under way, and what comes after it.
fn close(world: &mut World<Act>) {
    // No request of a plan has it.
    let number = 1 << 20;
    let before = world.submit_operation(Operation { kind: Kind::Incr, number, tag: 1 });
    world.cluster.close();
    let after = world.submit_operation(Operation { kind: Kind::Incr, number: number + 1, tag: 1 });
    world.drain();
    let until = world.now() + 100 * MILLISECOND;
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
