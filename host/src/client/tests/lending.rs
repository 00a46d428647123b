//! Connections that are lent: they hold up nobody, come back when they are dropped, and wait their
//! turn.

use super::*;
use crate::PoolSetting;

#[tokio::test]
async fn a_lent_connection_holds_up_nobody_and_is_used_again() {
    let server = Server::start().await;
    let client = server.client().await;
    let connection = client.lend(Some(b"key")).await.expect("it is lent");
    for word in ["WATCH", "MULTI", "EXEC"] {
        connection.execute([word, "key"]).await.expect("an answer");
    }
    let results = connection.pipeline(vec![command(&["ECHO", "a"]), command(&["ECHO", "b"])]).await;
    let texts: Vec<_> = results.iter().map(|result| result.as_ref().ok().and_then(Reply::as_str)).collect();
    assert_eq!(texts, [Some("a"), Some("b")]);
    assert_eq!(connection.pipeline(Vec::new()).await, []);
    assert_eq!(server.open.load(Ordering::SeqCst), 2);

    let blocked = tokio::spawn(async move {
        let result = connection.execute(["SLOW", "list", "500"]).await;
        drop(connection);
        result
    });
    tokio::time::sleep(Duration::from_millis(20)).await;
    let begin = Instant::now();
    assert!(client.execute(["ECHO", "a"]).await.is_ok());
    assert!(begin.elapsed() < Duration::from_millis(300), "it waited for another's connection");
    assert!(!blocked.is_finished());
    blocked.await.expect("no panic").expect("a reply");

    let again = client.lend(None).await.expect("it is lent");
    again.execute(["ECHO", "a"]).await.expect("an echo");
    assert_eq!(server.open.load(Ordering::SeqCst), 2, "the one that came back was not used");
    let refused = again.execute(["SUBSCRIBE", "channel"]).await;
    assert!(matches!(refused, Err(Error::InvalidArgument(_))), "{refused:?}");
}

#[tokio::test]
async fn a_caller_that_gives_up_leaves_no_connection_behind() {
    let server = Server::start().await;
    let client = server.client().await;
    let connection = client.lend(None).await.expect("it is lent");
    connection.execute(["ECHO", "a"]).await.expect("an echo");
    let blocked = connection.execute(["SLOW", "list", "300"]);
    tokio::time::timeout(Duration::from_millis(50), blocked).await.expect_err("it blocks");
    drop(connection);
    server.until_open(1).await;
    client.execute(["ECHO", "a"]).await.expect("the others' connection stays");
}

#[tokio::test]
async fn a_connection_that_nobody_has_used_yet_is_opened_all_the_same() {
    let server = Server::start().await;
    let options = server.options().pool(PoolSetting::CheckoutTimeoutMs, 400);
    let client = Client::connect(options).await.expect("the server answers");
    let connection = client.lend(None).await.expect("it is lent");
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(server.open.load(Ordering::SeqCst), 2);
    connection.execute(["ECHO", "a"]).await.expect("it came in time");
}

#[tokio::test]
async fn borrowers_wait_their_turn_and_no_longer_than_they_may() {
    let server = Server::start().await;
    let options =
        server.options().pool(PoolSetting::MaxConnections, 1).pool(PoolSetting::CheckoutTimeoutMs, 300);
    let client = Client::connect(options).await.expect("the server answers");
    let first = client.lend(None).await.expect("it is lent");
    first.execute(["ECHO", "a"]).await.expect("an echo");
    let late = client.lend(None).await.expect("it says so later");
    let error = late.execute(["ECHO", "b"]).await;
    assert!(matches!(error, Err(Error::LimitExceeded(_))), "{error:?}");
    drop(late);

    let second = client.lend(None).await.expect("it is lent");
    let begin = Instant::now();
    let (reply, ()) = tokio::join!(second.execute(["ECHO", "c"]), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        drop(first);
    });
    assert_eq!(reply.expect("its turn came").as_str(), Some("c"));
    assert!(begin.elapsed() < Duration::from_millis(250), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn connections_end_with_their_instance_and_with_close() {
    let server = Server::start().await;
    let client = Client::connect(server.trapping()).await.expect("16 MiB are enough");
    let connection = client.lend(None).await.expect("it is lent");
    connection.execute(["ECHO", "a"]).await.expect("an echo");
    let error = client.execute(["GET", "100000000"]).await;
    assert!(matches!(error, Err(Error::Host(_))), "{error:?}");
    client.execute(["ECHO", "still here"]).await.expect("a fresh instance");
    let error = connection.execute(["ECHO", "a"]).await;
    assert!(matches!(&error, Err(Error::ConnectionLost(lost)) if !lost.possibly_executed), "{error:?}");
    drop(connection);

    let connection = client.lend(None).await.expect("it is lent");
    let unused = client.lend(None).await.expect("it is lent");
    connection.execute(["ECHO", "a"]).await.expect("an echo");
    client.close().await;
    assert_eq!(connection.execute(["ECHO", "a"]).await, Err(Error::Closed));
    assert_eq!(unused.pipeline(vec![command(&["PING"])]).await, [Err(Error::Closed)]);
    assert!(matches!(client.lend(None).await, Err(Error::Closed)));
    drop(unused);
    server.until_idle().await;
}

#[tokio::test]
async fn a_connection_keeps_its_client_alive() {
    let server = Server::start().await;
    let client = server.client().await;
    let connection = client.lend(None).await.expect("it is lent");
    drop(client);
    connection.execute(["ECHO", "a"]).await.expect("an echo");
    drop(connection);
    server.until_idle().await;
}

#[tokio::test]
async fn close_does_not_wait_for_connections_that_nobody_uses() {
    let server = Server::start().await;
    let options = server.options().pool(PoolSetting::MaxConnections, 1);
    let client = Client::connect(options).await.expect("the server answers");
    let first = client.lend(None).await.expect("it is lent");
    first.execute(["ECHO", "a"]).await.expect("an echo");
    let _waiting = client.lend(None).await.expect("it is lent");
    tokio::time::sleep(Duration::from_millis(300)).await;
    let begin = Instant::now();
    client.close().await;
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
}
