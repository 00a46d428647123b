//! Shows `Client::submit`: encoded commands in, and of each whether it went well.

use super::*;

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
