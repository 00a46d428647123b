//! Shows `Client::submit`: encoded commands in, and of each whether it went well.

use super::*;
use crate::Load;

#[tokio::test]
async fn of_each_submitted_command_is_told_whether_it_went_well() {
    let server = Server::start().await;
    let client = server.client().await;
    let first =
        client.submit(&b"*2\r\n$4\r\nECHO\r\n$1\r\na\r\n*2\r\n$4\r\nINCR\r\n$1\r\na\r\n*0\r\n"[..]).await;
    let first = first.expect("three requests");
    let second = client.submit("*1\r\n$4\r\nPING\r\n".repeat(25_000)).await.expect("many requests");
    let none = client.submit(Vec::new()).await.expect("no request is one, too");
    assert_eq!((first.count(), second.count(), none.count()), (3, 25_000, 0));
    let outcomes = first.outcomes().await;
    assert_eq!(outcomes[0], Ok(()));
    assert!(matches!(&outcomes[1], Err(Error::Server(error)) if error.code == "WRONGTYPE"), "{outcomes:?}");
    assert!(matches!(&outcomes[2], Err(Error::InvalidArgument(_))), "{outcomes:?}");
    assert!(second.outcomes().await.into_iter().all(|outcome| outcome.is_ok()));
    assert_eq!(none.outcomes().await, []);
}

#[tokio::test]
async fn of_what_is_no_request_nothing_is_submitted() {
    let server = Server::start().await;
    let client = server.client().await;
    for (requests, why) in [
        (&b"*1\r\n$4\r\nPING\r\n*1\r\n$4\r\nPI"[..], "behind 1 requests: the last request is cut off"),
        (b"PING\r\n", "behind 0 requests: a request begins with byte 0x50"),
    ] {
        let error = client.submit(requests).await.expect_err("no whole requests");
        assert!(matches!(&error, Error::InvalidArgument(text) if text.contains(why)), "{error}");
    }
    client.close().await;
    let closed = client.submit(&b"*1\r\n$4\r\nPING\r\n"[..]).await.expect("it has a place");
    assert_eq!(closed.outcomes().await, [Err(Error::Closed)]);
}

/// The ends of so many commands of a load, in the order in which they came.
async fn ends_of(load: &mut Load, count: usize) -> Vec<(u64, Result<(), Error>)> {
    let mut all = Vec::new();
    while all.len() < count {
        all.extend(load.ended().await.expect("the runtime is there"));
    }
    all
}

#[tokio::test]
async fn a_load_tells_of_each_command_once_and_waits_for_none_that_is_slower() {
    let server = Server::start().await;
    let client = server.client().await;
    let mut load = client.load();
    let echo = b"*2\r\n$4\r\nECHO\r\n$1\r\na\r\n";
    let incr = b"*2\r\n$4\r\nINCR\r\n$1\r\na\r\n";
    let slow = b"*3\r\n$4\r\nSLOW\r\n$1\r\na\r\n$3\r\n400\r\n";
    let numbers = load.submit([&echo[..], incr, slow, echo].concat()).await.expect("four requests");
    assert_eq!(numbers, 0..4);
    assert_eq!(load.submit(Vec::new()).await.expect("no request is one, too"), 4..4);
    assert_eq!(load.submit(&echo[..]).await.expect("a request"), 4..5);
    let begun = Instant::now();
    let ends = ends_of(&mut load, 2).await;
    assert!(begun.elapsed() < Duration::from_millis(400), "they waited for the slow one");
    assert!(matches!(&ends[..], [(0, Ok(())), (1, Err(Error::Server(_)))]), "{ends:?}");
    let ends = ends_of(&mut load, 3).await;
    assert_eq!(ends.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [2, 3, 4]);

    assert!(load.submit(&b"*1\r\n$4\r\nPI"[..]).await.is_err());
    client.close().await;
    assert_eq!(load.submit(&echo[..]).await.expect("it has a place"), 5..6);
    assert_eq!(ends_of(&mut load, 1).await, [(5, Err(Error::Closed))]);
}

#[tokio::test]
async fn what_a_load_was_told_of_does_not_end_again_when_the_component_is_given_up() {
    let server = Server::start().await;
    let client = Client::connect(server.trapping()).await.expect("the server answers");
    let mut load = client.load();
    let large = b"*2\r\n$3\r\nGET\r\n$9\r\n100000000\r\n";
    let requests = [&b"*2\r\n$4\r\nECHO\r\n$1\r\na\r\n"[..], large, b"*1\r\n$4\r\nPING\r\n"].concat();
    load.submit(requests).await.expect("three requests");
    let mut ends = ends_of(&mut load, 3).await;
    ends.sort_by_key(|(number, _)| *number);
    assert!(
        matches!(&ends[..], [(0, Ok(())), (1, Err(Error::Host(_))), (2, Err(Error::Host(_)))]),
        "{ends:?}"
    );
}
