//! What a client tells of itself: events, health, counters of each node, memory.

use std::fmt::{Debug, Write as _};
use std::sync::Mutex;
use std::time::SystemTime;

use tracing::field::{Field, Visit};
use tracing::span;

use super::*;
use crate::bindings::exports::keyslot::redis::redis_cluster::{
    self, EventKind, EventList, NodeFailure, Reconnection, Refreshed, Takeover, TopologyChange,
};
use crate::client::events::Feed;
use crate::{Event, Events, NodeReport, Role};

/// The next event, with a deadline.
async fn next(events: &mut Events) -> Option<Event> {
    tokio::time::timeout(Duration::from_secs(5), events.next()).await.expect("an event comes in time")
}

/// The next events' names, up to this one.
async fn until(events: &mut Events, name: &str) -> Vec<&'static str> {
    let mut names = Vec::new();
    while names.last() != Some(&name) {
        let event = next(events).await.expect("the client lives");
        assert_eq!(event.missed, 0);
        names.push(event.kind.name());
    }
    names
}

#[tokio::test]
async fn events_tell_of_connections_that_come_and_go() {
    let server = Server::start().await;
    let client = server.client().await;
    let (mut events, mut others) = (client.events(), client.events());
    let first = next(&mut events).await.expect("the client lives");
    assert_eq!(first.kind, EventKind::Connected(server.address.to_string()));
    assert!(first.at.elapsed().expect("it is over") < Duration::from_secs(5));
    assert_eq!(next(&mut others).await, Some(first));

    // A write, which is not sent again.
    let error = client.execute(["DIE"]).await;
    assert!(matches!(error, Err(Error::ConnectionLost(_))), "{error:?}");
    until(&mut events, "disconnected").await;
    client.execute(["ECHO", "a"]).await.expect("a new connection");
    until(&mut events, "reconnected").await;

    let address = server.address;
    drop(server);
    let shown = next(&mut others).await.expect("the client lives").to_string();
    assert!(shown.starts_with(&format!("disconnected {address}: ")), "{shown}");

    client.close().await;
    while next(&mut events).await.is_some() {}
    assert_eq!(next(&mut client.events()).await, None);
}

#[tokio::test]
async fn somebody_who_listens_hears_of_an_idle_client_too() {
    let server = Server::start().await;
    let client = server.client().await;
    let mut events = client.events();
    until(&mut events, "connected").await;
    // The connection ends when its answer is no longer waited for.
    let late = client.execute(["SLOW", "list", "200"]);
    tokio::time::timeout(Duration::from_millis(20), late).await.expect_err("it blocks");
    let dying = client.execute(["DIE"]);
    tokio::time::timeout(Duration::from_millis(20), dying).await.expect_err("it waits");
    until(&mut events, "disconnected").await;
    drop(client);
    while next(&mut events).await.is_some() {}
}

#[tokio::test]
async fn a_slow_receiver_is_told_how_many_it_missed() {
    let (feed, listeners) = Feed::new();
    let (mut slow, started_at) = (listeners.listen(), SystemTime::now());
    let event = |at_ms| redis_cluster::Event { at_ms, kind: EventKind::Connected(at_ms.to_string()) };
    feed.publish(started_at, EventList { events: (0..1_030).map(event).collect(), dropped: 7 });
    let first = next(&mut slow).await.expect("the feed is open");
    // Seven in the component, and six here, in whose place others came.
    assert_eq!((first.missed, first.kind), (13, EventKind::Connected("6".to_owned())));
    assert_eq!(first.at, started_at + Duration::from_millis(6));
    assert_eq!(next(&mut slow).await.map(|event| event.missed), Some(0));

    let mut quick = listeners.listen();
    feed.publish(started_at, EventList { events: vec![event(2_000)], dropped: 7 });
    assert_eq!(next(&mut quick).await.map(|event| event.missed), Some(7));
}

#[tokio::test]
async fn health_asks_every_node_and_holds_up_nobody() {
    let server = Server::start().await;
    let client = server.client().await;
    let reports = client.health().await.expect("reports");
    let [NodeReport { address, role: Role::Primary, answer: Ok(_) }] = &reports[..] else {
        panic!("{reports:?}");
    };
    assert_eq!(*address, server.address.to_string());

    let stalled = Server::start().await;
    let client = Client::connect(stalled.options().request_timeout(Duration::from_millis(400))).await;
    let client = client.expect("the server answers");
    let blocking = tokio::spawn({
        let client = client.clone();
        async move { client.execute(["SLOW", "list", "2000"]).await }
    });
    until_requests(&client, 1).await;
    let asking = tokio::spawn({
        let client = client.clone();
        async move { client.health().await }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(client.topology().await.expect("at once").len(), 1);
    assert!(!asking.is_finished());
    let reports = asking.await.expect("no panic").expect("reports");
    assert!(matches!(reports[0].answer, Err(Error::Timeout(_))), "{reports:?}");
    assert!(blocking.await.expect("no panic").is_err());
}

#[tokio::test]
async fn what_is_counted_and_used_can_be_asked() {
    let server = Server::start().await;
    let client = server.client().await;
    client.execute(["ECHO", "a"]).await.expect("an echo");
    let nodes = client.statistics().await.expect("statistics");
    assert_eq!(nodes[0].address, server.address.to_string());
    let commands = nodes[0].counters.iter().find(|counter| counter.name == "commands");
    assert!(commands.is_some_and(|counter| counter.value >= 1), "{nodes:?}");

    let before = client.memory().await.expect("a number");
    assert!(before > 0 && before.is_multiple_of(65_536), "{before}");
    client.execute(["GET", "8000000"]).await.expect("8 MB");
    let after = client.memory().await.expect("a number");
    assert!(after >= before + 8_000_000, "{before} {after}");

    // A topology that was given back needs no question.
    let shards = client.topology().await.expect("a topology");
    let again = Client::connect(server.options().mode(Mode::Auto).topology(shards.clone())).await;
    assert_eq!(again.expect("it connects").topology().await, Ok(shards));
}

/// Keeps what `tracing` is told, as `LEVEL target field=value …`.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = write!(self.0, " {field}={value:?}");
    }
}

impl tracing::Subscriber for Log {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target() == "keyslot::events"
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut fields = Fields(format!("{} {}", event.metadata().level(), event.metadata().target()));
        event.record(&mut fields);
        self.0.lock().expect("no test has panicked").push(fields.0);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[test]
fn every_event_is_one_of_tracing_too() {
    let failure = |attempts| NodeFailure { node: "a:1".to_owned(), reason: "why".to_owned(), attempts };
    let change = TopologyChange { moved: Vec::new(), joined: vec!["b:2".to_owned()], left: Vec::new() };
    let kinds = [
        (EventKind::Connected("a:1".to_owned()), "INFO", "message=connected node=\"a:1\""),
        (
            EventKind::ConnectFailed(failure(2)),
            "WARN",
            "message=connect-failed node=\"a:1\" reason=\"why\" attempts=2",
        ),
        (EventKind::Disconnected(failure(0)), "WARN", "message=disconnected node=\"a:1\" reason=\"why\""),
        (
            EventKind::Reconnected(Reconnection { node: "a:1".to_owned(), after_ms: 7, attempts: 2 }),
            "INFO",
            "message=reconnected node=\"a:1\" after_ms=7 attempts=2",
        ),
        (
            EventKind::FailedOver(Takeover { before: "a:1".to_owned(), now: "b:2".to_owned() }),
            "WARN",
            "message=failed-over before=\"a:1\" now=\"b:2\"",
        ),
        (
            EventKind::TopologyChanged(change),
            "INFO",
            "message=topology-changed moved=0 joined=[\"b:2\"] left=[]",
        ),
        (EventKind::Retried(failure(1)), "DEBUG", "message=retried node=\"a:1\" reason=\"why\" attempts=1"),
        (
            EventKind::Refreshed(Refreshed { answers: 3, changed: true }),
            "DEBUG",
            "message=refreshed answers=3 changed=true",
        ),
    ];
    let (log, (feed, _)) = (Log::default(), Feed::new());
    tracing::subscriber::with_default(log.clone(), || {
        let event = |kind: &EventKind| redis_cluster::Event { at_ms: 0, kind: kind.clone() };
        let events = kinds.iter().map(|(kind, ..)| event(kind)).collect();
        feed.publish(SystemTime::now(), EventList { events, dropped: 0 });
    });
    let told = log.0.lock().expect("no test has panicked");
    let expected: Vec<_> =
        kinds.iter().map(|(_, level, fields)| format!("{level} keyslot::events {fields}")).collect();
    assert_eq!(*told, expected);
}
