//! What this host does by `wire`, through the typed functions: transactions, watched keys, scripts,
//! and giving up.

use keyslot_testcluster::TestServer;

use super::*;
use crate::bindings::exports::keyslot::redis::redis_cluster::TicketRange;
use crate::bindings::exports::keyslot::redis::types::ReplyNode;

fn commands(lines: &[&str]) -> Vec<Vec<Vec<u8>>> {
    lines.iter().map(|line| line.split(' ').map(|word| word.as_bytes().to_vec()).collect()).collect()
}

#[tokio::test]
async fn transactions_and_watched_keys_are_there() {
    let server = TestServer::start().expect("a server");
    let mut instance = instance(&Options::new([server.url()])).await;
    let results = instance.transaction(&commands(&["SET a 1", "INCR a", "LPUSH a x"])).await;
    let results = results.expect("no trap").expect("it was executed");
    assert_eq!(results[1], Ok(vec![ReplyNode::Integer(2)]));
    assert!(matches!(&results[2], Err(types::Error::Server(error)) if error.code == "WRONGTYPE"));
    let refused = instance.transaction(&commands(&["SET a"])).await.expect("no trap");
    assert!(matches!(refused, Err(types::Error::Server(error)) if error.code == "EXECABORT"));

    for others_write in [false, true] {
        let watched = instance.watch(&[b"a".to_vec()]).await.expect("no trap").expect("watched");
        if others_write {
            instance.execute(&command(&["SET", "a", "5"])).await.expect("no trap").expect("set");
        }
        let results = instance.exec(watched, &command(&["SET", "a", "3"])).await.expect("no trap");
        assert_eq!(results.expect("no error").is_none(), others_write);
    }
    let empty = instance.watch(&[]).await.expect("no trap");
    assert!(matches!(empty, Err(types::Error::InvalidArgument(_))));
}

#[tokio::test]
async fn scripts_are_known_until_they_are_dropped() {
    let server = TestServer::start().expect("a server");
    let mut instance = instance(&Options::new([server.url()])).await;
    let (script, sha1) = instance.add_script(b"return ARGV[1]").await.expect("no trap");
    let (again, same) = instance.add_script(b"return ARGV[1]").await.expect("no trap");
    assert_eq!(sha1, same);
    let evalsha = command(&["EVALSHA", &sha1, "0", "x"]);
    instance.release(again.into()).await.expect("no trap");
    let reply = instance.execute(&evalsha).await.expect("no trap").expect("the other one is there");
    assert_eq!(reply.as_str(), Some("x"));
    instance.execute(&command(&["SCRIPT", "FLUSH"])).await.expect("no trap").expect("flushed");
    instance.release(script.into()).await.expect("no trap");
    let error = instance.execute(&evalsha).await.expect("no trap").expect_err("nobody knows it");
    assert!(matches!(error, Error::Server(error) if error.code == "NOSCRIPT"));
}

#[tokio::test]
async fn what_is_given_up_is_not_told_and_pops_nothing() {
    let server = TestServer::start().expect("a server");
    let mut instance = instance(&Options::new([server.url()])).await;
    let first =
        instance.submit_typed(&commands(&["BLPOP list 0", "PING", "BLPOP list 0"])).await.expect("no trap");
    let completions = instance.wait_typed(5_000, pending()).await.expect("no trap");
    assert_eq!(completions.iter().map(|completion| completion.ticket).collect::<Vec<_>>(), [first + 1]);
    let mut given_up = instance.cancel(&[TicketRange { first, count: 3 }]).await.expect("no trap");
    given_up.sort_unstable();
    assert_eq!(given_up, [first, first + 2]);
    assert_eq!(instance.wait_typed(0, pending()).await.expect("no trap"), []);
    let reply = instance.execute(&command(&["RPUSH", "list", "x"])).await.expect("no trap").expect("pushed");
    assert_eq!(reply.as_integer(), Some(1));
    let reply = instance.execute(&command(&["LLEN", "list"])).await.expect("no trap").expect("a length");
    assert_eq!(reply.as_integer(), Some(1));
    assert_eq!(instance.cancel(&[TicketRange { first: 0, count: u64::MAX }]).await.expect("no trap"), []);
}
