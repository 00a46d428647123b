//! Shows the component's `wire`: requests and replies as bytes.

use super::*;

/// The requests as bytes.
fn requests(lines: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in lines {
        let words: Vec<_> = line.split(' ').filter(|word| !word.is_empty()).collect();
        bytes.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
        words.iter().for_each(|word| bytes.extend_from_slice(&super::bulk(word.as_bytes())));
    }
    bytes
}

async fn exchange(instance: &mut Instance, requests: &[u8]) -> Result<String, Error> {
    let replies = instance.exchange(requests).await.expect("no trap");
    replies.map(|replies| String::from_utf8(replies).expect("UTF-8"))
}

#[tokio::test]
async fn replies_are_the_servers_bytes_in_the_requests_order() {
    let server = Server::start().await;
    let mut instance = instance(&server.options()).await;
    let lines = requests(&["ECHO a", "", "SUBSCRIBE x", "INCR a", "SLOW list 10", "SET a 1", "ECHO b"]);
    let replies = exchange(&mut instance, &lines).await.expect("replies");
    let lines: Vec<_> = replies.split("\r\n").collect();
    assert_eq!(lines[..2], ["$1", "a"]);
    assert!(lines[2].starts_with("-KEYSLOT.INVALID-ARGUMENT the command is empty"), "{replies}");
    assert!(lines[3].starts_with("-KEYSLOT.INVALID-ARGUMENT SUBSCRIBE cannot be sent"), "{replies}");
    assert_eq!(lines[4..], ["-WRONGTYPE not a number", "*-1", "+OK", "$1", "b", ""]);
    assert_eq!(exchange(&mut instance, b"").await, Ok(String::new()));
}

#[tokio::test]
async fn of_bytes_that_are_no_requests_nothing_is_sent() {
    let server = Server::start().await;
    let mut instance = instance(&server.options()).await;
    let sent = async |instance: &mut Instance| {
        let counters = instance.counters().await.expect("no trap");
        counters.iter().find(|counter| counter.name == "commands").map(|counter| counter.value)
    };
    let before = sent(&mut instance).await;
    let whole = requests(&["ECHO a", "ECHO b"]);
    for (bytes, why) in [
        (&whole[..whole.len() - 1], "behind 1 requests: the last request is cut off"),
        (b"ECHO a\r\n", "behind 0 requests: a request begins with byte 0x45"),
        (b"*1\r\n:1\r\n", "an argument begins with byte 0x3a"),
    ] {
        let error = exchange(&mut instance, bytes).await.expect_err("no requests");
        assert!(matches!(&error, Error::InvalidArgument(text) if text.contains(why)), "{error}");
        let error = instance.submit(bytes).await.expect("no trap").expect_err("no requests");
        assert!(matches!(error, Error::InvalidArgument(_)), "{error}");
    }
    assert_eq!(sent(&mut instance).await, before);
}

#[tokio::test]
async fn both_kinds_of_wait_give_what_was_handed_in_either_way() {
    let server = Server::start().await;
    let mut instance = instance(&server.options()).await;
    let first = instance.submit_typed(&[command(&["ECHO", "a"])]).await.expect("no trap");
    let next = instance.submit(&requests(&["ECHO b"])).await.expect("no trap").expect("a ticket");
    assert_eq!(next, first + 1);
    assert_eq!(exchange(&mut instance, &requests(&["ECHO c"])).await, Ok("$1\r\nc\r\n".to_owned()));
    let completions = instance.wait(0, pending()).await.expect("no trap");
    assert_eq!(completions.tickets, [first, next]);
    assert_eq!(completions.replies, b"$1\r\na\r\n$1\r\nb\r\n");
    let ticket = instance.submit(&requests(&["ECHO d"])).await.expect("no trap").expect("a ticket");
    let ended = instance.wait_typed(5_000, pending()).await.expect("no trap");
    assert_eq!(ended.iter().map(|completion| completion.ticket).collect::<Vec<_>>(), [ticket]);
}

#[tokio::test]
async fn errors_of_the_client_say_what_may_have_run() {
    let server = Server::start().await;
    let mut instance = instance(&server.options().request_timeout(Duration::from_millis(200))).await;
    let replies = exchange(&mut instance, &requests(&["ECHO a", "SLOW list 5000", "ECHO b"])).await;
    let replies = replies.expect("replies");
    let address = server.address;
    let expected =
        format!("$1\r\na\r\n-KEYSLOT.TIMEOUT possibly-executed {address} no reply within 200ms\r\n");
    assert!(replies.starts_with(&expected), "{replies}");
    instance.close().await.expect("no trap");
    let closed = exchange(&mut instance, &requests(&["ECHO a"])).await;
    assert_eq!(closed, Ok("-KEYSLOT.CLOSED\r\n".to_owned()));
}
