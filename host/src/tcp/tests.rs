//! What the poll loop depends on.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream as Peer};
use std::time::{Duration, Instant};

use bytes::Bytes;
use wasmtime_wasi::p2::{InputStream, OutputStream, StreamError};

use super::connection::STREAM_SIZE;
use super::*;

/// A connection, and its peer, which blocks.
async fn pair() -> (Arc<Connection>, Peer) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let stream = TcpStream::connect(listener.local_addr().expect("it is bound")).await.expect("a connection");
    let (peer, _) = listener.accept().expect("a peer");
    (Arc::new(Connection::new(stream)), peer)
}

/// Writes until the system takes no more.
fn fill(output: &mut Output) -> usize {
    let mut written = 0;
    while output.check_write().expect("it is open") > 0 {
        output.write(Bytes::from(vec![b'v'; STREAM_SIZE])).expect("it is open");
        written += STREAM_SIZE;
    }
    written
}

/// The runtime has one thread, so the reactor runs only while this waits.
#[tokio::test(flavor = "current_thread")]
async fn a_read_finds_what_the_reactor_has_not_heard_of() {
    let (connection, mut peer) = pair().await;
    let mut input = Input::new(connection);
    assert_eq!(input.read(100).expect("it is open"), "", "nothing has come in");
    peer.write_all(b"+OK").expect("it is open");
    assert_eq!(input.read(100).expect("it is open"), "+OK");
    assert_eq!(input.read(100).expect("it is open"), "");
    drop(peer);
    assert!(matches!(input.read(100), Err(StreamError::Closed)), "the end is found");
}

#[tokio::test]
async fn what_the_system_does_not_take_at_once_is_sent_as_it_does() {
    let (connection, mut peer) = pair().await;
    let mut output = Output::new(connection);
    let written = fill(&mut output);
    let reading = std::thread::spawn(move || {
        let mut received = Vec::new();
        peer.read_to_end(&mut received).map(|_| received.len())
    });
    output.ready().await;
    assert!(output.check_write().expect("it is open") > 0, "the write has ended");
    drop(output);
    assert_eq!(reading.join().expect("it does not panic").expect("it is open"), written);
}

#[tokio::test]
async fn a_write_that_nobody_takes_holds_up_neither_a_drop_nor_a_shutdown() {
    for shut_down_first in [false, true] {
        let (connection, mut peer) = pair().await;
        let mut output = Output::new(Arc::clone(&connection));
        fill(&mut output);
        let started = Instant::now();
        if shut_down_first {
            connection.end_sending();
            assert!(matches!(output.check_write(), Err(StreamError::Closed)));
            output.ready().await;
        }
        OutputStream::cancel(&mut output).await;
        drop((output, connection));
        assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
        // The task lets go of the socket, and the peer gets to its end.
        tokio::task::yield_now().await;
        let ended = tokio::task::spawn_blocking(move || peer.read_to_end(&mut Vec::new()));
        let ended = tokio::time::timeout(Duration::from_secs(10), ended).await;
        ended.expect("the connection is closed").expect("it does not panic").expect("it is no error");
    }
}

#[tokio::test]
async fn the_end_of_the_peer_is_an_error_of_the_next_write() {
    let (connection, peer) = pair().await;
    let mut output = Output::new(connection);
    drop(peer);
    let started = Instant::now();
    while output.write(Bytes::from_static(b"+PING\r\n")).is_ok() {
        assert!(started.elapsed() < Duration::from_secs(10), "nothing is wrong with it");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(output.check_write().is_err());
}

#[test]
fn only_hosts_at_ports_are_dialled() {
    let may = |address: &str, family| may_be_dialled(address.parse().expect("an address"), family);
    assert!(may("127.0.0.1:6379", IpAddressFamily::Ipv4));
    assert!(may("[::1]:6379", IpAddressFamily::Ipv6));
    for (address, family) in [
        ("127.0.0.1:6379", IpAddressFamily::Ipv6),
        ("[::1]:6379", IpAddressFamily::Ipv4),
        ("[::ffff:127.0.0.1]:6379", IpAddressFamily::Ipv6),
        ("127.0.0.1:0", IpAddressFamily::Ipv4),
        ("0.0.0.0:6379", IpAddressFamily::Ipv4),
        ("[::]:6379", IpAddressFamily::Ipv6),
        ("224.0.0.1:6379", IpAddressFamily::Ipv4),
        ("255.255.255.255:6379", IpAddressFamily::Ipv4),
        ("[ff02::1]:6379", IpAddressFamily::Ipv6),
    ] {
        assert!(!may(address, family), "{address}");
    }
}
