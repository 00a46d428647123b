//! What a client tells of itself: events, health, counters of each node, memory.

use super::*;
use crate::bindings::exports::keyslot::redis::redis_cluster::{self, EventKind, EventList};
use crate::{NodeReport, Role};

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
    let late = client.execute(["BLPOP", "list", "200"]);
    tokio::time::timeout(Duration::from_millis(20), late).await.expect_err("it blocks");
    let dying = client.execute(["DIE"]);
    tokio::time::timeout(Duration::from_millis(20), dying).await.expect_err("it waits");
    until(&mut events, "disconnected").await;
    drop(client);
    while next(&mut events).await.is_some() {}
}

#[tokio::test]
async fn a_slow_receiver_is_told_how_many_it_missed() {
    let (feed, subscriptions) = Feed::new();
    let (mut slow, started_at) = (subscriptions.subscribe(), std::time::SystemTime::now());
    let event = |at_ms| redis_cluster::Event { at_ms, kind: EventKind::Connected(at_ms.to_string()) };
    feed.tell(started_at, EventList { events: (0..1_030).map(event).collect(), dropped: 7 });
    let first = next(&mut slow).await.expect("the feed is open");
    assert_eq!((first.missed, first.kind), (6, EventKind::Connected("6".to_owned())));
    assert_eq!(first.at, started_at + Duration::from_millis(6));
    assert_eq!(next(&mut slow).await.map(|event| event.missed), Some(0));

    let mut quick = subscriptions.subscribe();
    feed.tell(started_at, EventList { events: vec![event(2_000)], dropped: 7 });
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
        async move { client.execute(["BLPOP", "list", "2000"]).await }
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
