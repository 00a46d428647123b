//! Shows that servers that send more than the component has room for cost it no trap: with half of
//! the default memory limit, eight nodes that each send 250 MB at the same time, and 1,500 errors
//! of a MB.
//!
//! The servers are stand-ins that speak as much RESP as the client asks for itself.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use keyslot::{Client, Error, Options};
use keyslot_core::resp::take_request;
use keyslot_core::slot::Slot;

const NODES: usize = 8;

/// Half of what a component may have by default.
const MEMORY: usize = 512 << 20;

/// What a node answers to GET, and to everything else that callers send: this many bytes behind
/// this head.
type Filled = fn(&str) -> (String, usize);

/// Starts nodes that have the slots between them. Gives their ports.
fn start(filled: Filled) -> Result<Vec<u16>> {
    let listeners: Vec<_> = (0..NODES).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
    let ports: Vec<u16> =
        listeners.iter().map(|listener| Ok(listener.local_addr()?.port())).collect::<Result<_>>()?;
    let mut slots = format!("*{NODES}\r\n");
    for (node, port) in ports.iter().enumerate() {
        let (first, last) = (node * 16_384 / NODES, (node + 1) * 16_384 / NODES - 1);
        slots += &format!("*3\r\n:{first}\r\n:{last}\r\n*3\r\n$9\r\n127.0.0.1\r\n:{port}\r\n");
        slots += &format!("$40\r\n{node:040x}\r\n");
    }
    let slots = Arc::new(slots);
    for listener in listeners {
        let slots = Arc::clone(&slots);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let slots = Arc::clone(&slots);
                std::thread::spawn(move || drop(serve(stream, &slots, filled)));
            }
        });
    }
    Ok(ports)
}

fn serve(mut stream: TcpStream, slots: &str, filled: Filled) -> std::io::Result<()> {
    let mut read = Vec::new();
    let mut piece = vec![0; 64 << 10];
    let filling = vec![b'x'; 1 << 20];
    loop {
        let length = stream.read(&mut piece)?;
        if length == 0 {
            return Ok(());
        }
        read.extend_from_slice(&piece[..length]);
        let mut commands = Vec::new();
        let (mut rest, mut args) = (&read[..], Vec::new());
        while let Ok(Some(_)) = take_request(&mut rest, &mut args) {
            commands
                .push(args.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect::<Vec<_>>());
        }
        read = rest.to_vec();
        for words in commands {
            let second = words.get(1).map_or("", String::as_str);
            match (words[0].as_str(), second) {
                ("HELLO", _) => stream.write_all(b"%1\r\n$5\r\nproto\r\n:3\r\n")?,
                ("CLIENT", _) => stream.write_all(b"+OK\r\n")?,
                ("CLUSTER", "SLOTS") => stream.write_all(slots.as_bytes())?,
                ("CLUSTER", _) => stream.write_all(b"-ERR unknown subcommand\r\n")?,
                _ => {
                    let (head, mut left) = filled(&words[0]);
                    stream.write_all(head.as_bytes())?;
                    while left > 0 {
                        let next = left.min(filling.len());
                        stream.write_all(&filling[..next])?;
                        left -= next;
                    }
                    stream.write_all(b"\r\n")?;
                }
            }
        }
    }
}

fn key_at(node: usize) -> String {
    let owner = |key: &String| usize::from(Slot::of_key(key.as_bytes()).number()) * NODES / 16_384;
    (0..).map(|number| format!("key{number}")).find(|key| owner(key) == node).unwrap_or_default()
}

async fn client(ports: &[u16]) -> Result<Client> {
    let seed = format!("redis://127.0.0.1:{}", ports[0]);
    let options = Options::new([seed]).memory_limit(MEMORY).request_timeout(Duration::from_secs(120));
    Ok(Client::connect(options).await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn eight_nodes_that_send_250_mb_at_once_are_no_trap() -> Result<()> {
    let ports = start(|name| match name {
        "PING" => ("+PONG".into(), 0),
        "ECHO" => ("$1000000\r\n".into(), 1_000_000),
        // A few of these are within the budget, and are handed out at the same time.
        "STRLEN" => ("$60000000\r\n".into(), 60_000_000),
        _ => ("$250000000\r\n".into(), 250_000_000),
    })?;
    let client = client(&ports).await?;
    for command in ["GET", "STRLEN", "GET", "STRLEN"] {
        let mut calls = tokio::task::JoinSet::new();
        for node in 0..NODES {
            let client = client.clone();
            calls.spawn(async move { client.execute([command.to_string(), key_at(node)]).await.map(drop) });
        }
        let mut whole = 0;
        while let Some(result) = calls.join_next().await {
            let result = result?;
            whole += usize::from(result.is_ok());
            let is_told = matches!(&result, Ok(()) | Err(Error::LimitExceeded(_)));
            ensure!(is_told, "{command}: {result:?}");
        }
        ensure!(command == "GET" || whole > 0, "those within the budget come");
        client.execute(["ECHO", "x"]).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_reply_that_the_budget_has_room_for_comes_whole() -> Result<()> {
    let ports = start(|_| ("$150000000\r\n".into(), 150_000_000))?;
    let client = client(&ports).await?;
    for _ in 0..3 {
        let reply = client.execute(["GET", "key"]).await?;
        ensure!(reply.as_bytes().map(<[u8]>::len) == Some(150_000_000));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_of_a_megabyte_each_are_no_trap() -> Result<()> {
    let ports = start(|_| ("-TRYAGAIN ".into(), 1_000_000))?;
    let seed = format!("redis://127.0.0.1:{}", ports[0]);
    let options = Options::new([seed]).memory_limit(MEMORY).request_timeout(Duration::from_secs(10));
    let client = Client::connect(options).await?;
    let commands: Vec<_> =
        (0..1_500).map(|number| vec![b"GET".to_vec(), format!("key{number}").into_bytes()]).collect();
    for result in client.pipeline(commands).await {
        let told = matches!(&result, Err(Error::Server(error)) if error.message.len() < 1_100)
            || matches!(&result, Err(Error::Timeout(_)));
        ensure!(told, "{result:?}");
    }
    Ok(())
}
