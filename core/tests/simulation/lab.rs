//! A simulated cluster without chance, for the tests that direct it: a calm network where every
//! piece takes a millisecond, and the few steps that they are made of.

use std::time::Duration;

use keyslot_core::address::NodeAddr;
use keyslot_core::cluster::{Event, RequestId};
use keyslot_core::config::Config;
use keyslot_core::error::Error;
use keyslot_core::resp::{Reply, ReplyNode};
use keyslot_core::slot::Slot;

use crate::simulator::choices::Choices;
use crate::simulator::network::Sent;
use crate::simulator::server::{Dialect, Reach, Servers};
use crate::simulator::weather::Weather;
use crate::simulator::wire::Words;
use crate::simulator::world::{MILLISECOND, Record, SECOND, World};

pub(crate) type Lab = World<()>;

/// Three primaries, all of them seeds, and time-outs of a second.
pub(crate) fn lab_with(dialect: Dialect, change: impl FnOnce(&mut Config, &mut Servers)) -> Lab {
    lab_of(Servers::new(dialect, 3, 0, false), change)
}

/// Three primaries with a replica each: nodes 3, 4 and 5.
pub(crate) fn lab_with_replicas() -> Lab {
    lab_of(Servers::new(Dialect::modern(), 3, 1, false), |_, _| {})
}

pub(crate) fn lab_of(servers: Servers, change: impl FnOnce(&mut Config, &mut Servers)) -> Lab {
    let mut lab = lab_at_start(servers, Weather::calm(), change);
    assert!(lab.run_until(2 * SECOND, |lab| lab.ready().is_some()), "Ready comes");
    // The handshakes with the other seeds end too.
    let settled = lab.now() + 20 * MILLISECOND;
    lab.run_until(settled, |_| false);
    lab
}

/// The same before anything has happened.
pub(crate) fn lab_at_start(
    mut servers: Servers,
    weather: Weather,
    change: impl FnOnce(&mut Config, &mut Servers),
) -> Lab {
    let mut config = Config::new(
        servers.nodes.iter().map(|node| NodeAddr::new(&node.host, node.address.port())).collect(),
    );
    config.request_timeout = Duration::from_secs(1);
    config.attempt_timeout = Some(Duration::from_secs(1));
    config.connect_timeout = Duration::from_secs(1);
    change(&mut config, &mut servers);
    let record = Record::traced(std::env::var_os("KEYSLOT_LAB_TRACE").is_some());
    World::new(config, servers, weather, Choices::seeded(1), record)
}

pub(crate) fn lab() -> Lab {
    let lab = lab_with(Dialect::modern(), |_, _| {});
    assert_eq!(lab.ready(), Some(&Ok(())));
    lab
}

/// A key of this kind whose slot this node serves from the start.
pub(crate) fn key_at(node: usize, kind: char) -> String {
    let keys = (0..).map(|tag| format!("{{t{tag}}}:{kind}:7"));
    keys.into_iter()
        .find(|key| usize::from(Slot::of_key(key.as_bytes()).number()) * 3 / 16_384 == node)
        .unwrap()
}

pub(crate) fn slot_of(key: &str) -> u16 {
    Slot::of_key(key.as_bytes()).number()
}

pub(crate) fn words(line: &str) -> Words {
    line.split(' ').map(|word| word.as_bytes().to_vec()).collect()
}

pub(crate) fn submit(lab: &mut Lab, line: &str) -> RequestId {
    let id = lab.submit(&words(line), None).unwrap();
    lab.drain();
    id
}

pub(crate) fn wait(lab: &mut Lab, duration: u64) {
    let until = lab.now() + duration;
    lab.run_until(until, |_| false);
}

/// The request's outcome, as soon as there is one.
pub(crate) fn outcome(lab: &mut Lab, id: RequestId) -> Result<Reply, Error> {
    let until = lab.now() + 5 * SECOND;
    assert!(lab.run_until(until, |lab| lab.outcome(id).is_some()), "{id:?} ends");
    lab.outcome(id).unwrap().clone()
}

pub(crate) fn run(lab: &mut Lab, line: &str) -> Result<Reply, Error> {
    let id = submit(lab, line);
    outcome(lab, id)
}

pub(crate) fn bulk(text: &str) -> Result<Reply, Error> {
    Ok(Reply::single(ReplyNode::BulkString(text.to_string().into())))
}

pub(crate) fn ok() -> Result<Reply, Error> {
    Ok(Reply::single(ReplyNode::SimpleString("OK".into())))
}

/// Borrows a connection to this node, and waits for it.
pub(crate) fn lend(lab: &mut Lab, lease: u64, node: usize) {
    let marker = lab.lend(lease, Slot::new(slot_of(&key_at(node, 'g'))));
    lab.drain();
    outcome(lab, marker).unwrap();
}

pub(crate) fn run_on(lab: &mut Lab, lease: u64, line: &str) -> Result<Reply, Error> {
    let id = lab.submit_on(lease, &words(line), None);
    lab.drain();
    outcome(lab, id)
}

pub(crate) fn give_back(lab: &mut Lab, lease: u64) {
    lab.give_back(lease);
    lab.drain();
    wait(lab, 10 * MILLISECOND);
}

/// The node's process ends, and refuses connections.
pub(crate) fn crash(lab: &mut Lab, node: usize) {
    lab.servers.catch_up(lab.now());
    lab.servers.nodes[node].reach = Reach::Refusing;
    for conn in lab.open_conns(Some(node)) {
        lab.cut(conn);
    }
}

/// The events since they were last asked for.
pub(crate) fn events(lab: &mut Lab) -> Vec<Event> {
    let (events, _) = lab.cluster.take_events();
    events.into_iter().map(|(_, event)| event).collect()
}

/// What was sent since there were `mark` Transmits: node and command names of each, the client's
/// own left out.
pub(crate) fn sent_since(lab: &Lab, mark: usize) -> Vec<(usize, Vec<String>)> {
    let own = |name: &String| matches!(name.as_str(), "HELLO" | "CLIENT" | "CLUSTER");
    let names = |sent: &Sent| sent.names().into_iter().filter(|name| !own(name)).collect::<Vec<_>>();
    lab.sent()[mark..]
        .iter()
        .map(|sent| (sent.node, names(sent)))
        .filter(|(_, names)| !names.is_empty())
        .collect()
}

pub(crate) fn refreshes_since(lab: &Lab, mark: usize) -> usize {
    let slots = words("CLUSTER SLOTS");
    lab.sent()[mark..].iter().flat_map(|sent| &sent.commands).filter(|words| **words == slots).count()
}
