//! A server whose every word is made for the terminal of whoever reads it.

use std::io::{Read, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;

/// What a terminal would obey: a title, a cleared screen, a step back, a colour by a C1 control,
/// text from right to left. A simple string can hold it: there is no line break.
pub(super) const EVIL: &str = "\u{1b}]0;title\u{7}\u{1b}[2J\u{8}\u{7f}\u{b}\u{9b}31m\u{85}\u{202e}";

/// The same, C1 controls as bytes, and what begins lines.
pub(super) fn evil_bytes() -> Vec<u8> {
    [EVIL.as_bytes(), b"\x9b2J\x90\r\nforged\rforged\nforged"].concat()
}

/// Text for people, of several lines, all of them UTF-8.
pub(super) fn evil_text() -> String {
    format!("first:{EVIL}\r\nsecond:\t{EVIL}\rforged\nthird")
}

/// What the server says that it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// One without cluster support.
    Single,
    /// A cluster of one node; its zone is evil, and so are the hosts of a replica and of the node
    /// that a redirect names.
    Cluster,
    /// One that refuses each connection.
    Refusing,
}

/// Starts one, for as long as the test runs. Returns its port.
pub(super) fn start(kind: Kind) -> anyhow::Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || serve(stream, kind, port));
        }
    });
    Ok(port)
}

fn serve(mut stream: TcpStream, kind: Kind, port: u16) {
    let mut input = Vec::new();
    let mut buffer = vec![0; 1 << 16];
    let mut retried = false;
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        input.extend(&buffer[..length]);
        let mut answers = Vec::new();
        while let Some((words, used)) = command(&input) {
            input.drain(..used);
            let words: Vec<_> = words.iter().map(String::as_str).collect();
            answers.extend(match words[..] {
                ["RETRIED"] if !std::mem::replace(&mut retried, true) => error("TRYAGAIN", EVIL),
                _ => answer(&words, kind, port),
            });
        }
        if stream.write_all(&answers).is_err() {
            return;
        }
    }
}

/// The words of the command that this begins with, and its length.
fn command(input: &[u8]) -> Option<(Vec<String>, usize)> {
    fn number(input: &[u8], at: &mut usize) -> Option<usize> {
        let end = *at + input.get(*at..)?.windows(2).position(|pair| pair == b"\r\n")?;
        let number = str::from_utf8(input.get(*at + 1..end)?).ok()?.parse().ok()?;
        *at = end + 2;
        Some(number)
    }
    let mut at = 0;
    let mut words = Vec::new();
    for _ in 0..number(input, &mut at)? {
        let length = number(input, &mut at)?;
        words.push(String::from_utf8_lossy(input.get(at..at + length)?).to_ascii_uppercase());
        at += length + 2;
    }
    (at <= input.len()).then_some((words, at))
}

fn answer(words: &[&str], kind: Kind, port: u16) -> Vec<u8> {
    match *words {
        _ if kind == Kind::Refusing => error("ERR", EVIL),
        ["HELLO", "3", ..] => b"%1\r\n$5\r\nproto\r\n:3\r\n".to_vec(),
        ["HELLO", ..] => [b"*2\r\n".to_vec(), bulk("proto"), b":2\r\n".to_vec()].concat(),
        ["CLUSTER", "SLOTS" | "SHARDS"] if kind == Kind::Single => {
            error("ERR", "This instance has cluster support disabled")
        }
        ["CLUSTER", "SLOTS"] => slots(port),
        ["CLUSTER", "SHARDS"] => error("ERR", EVIL),
        ["MOVED"] => error("MOVED", &format!("1 {EVIL}:6379")),
        ["PING"] if kind == Kind::Cluster => error("ERR", EVIL),
        ["STATUS"] => format!("+ok {EVIL}\r\n").into_bytes(),
        ["ERROR"] => error("ERR", EVIL),
        ["CODE"] => error(&format!("CODE{EVIL}{}", "X".repeat(100_000)), EVIL),
        ["BULK"] => bulk(evil_bytes()),
        ["TEXT"] => bulk(evil_text()),
        ["VERBATIM"] => verbatim(&evil_text()),
        ["NESTED"] => [
            b"*5\r\n".to_vec(),
            format!("+ok {EVIL}\r\n").into_bytes(),
            verbatim(&evil_text()),
            error("ERR", EVIL),
            bulk(evil_bytes()),
            [b"%1\r\n".to_vec(), bulk(evil_bytes()), format!("+{EVIL}\r\n").into_bytes()].concat(),
        ]
        .concat(),
        ["GARBAGE"] => format!("{EVIL}\r\n").into_bytes(),
        ["INFO" | "LOLWUT", ..]
        | ["CLIENT", "LIST"]
        | ["CLUSTER", "INFO" | "NODES"]
        | ["MEMORY", "DOCTOR"] => bulk(format!("cluster_my_epoch:1\r\n{}", evil_text())),
        ["DBSIZE"] => b":1\r\n".to_vec(),
        ["SCAN", ..] => [b"*2\r\n".to_vec(), bulk("0"), b"*1\r\n".to_vec(), bulk(evil_bytes())].concat(),
        _ => b"+OK\r\n".to_vec(),
    }
}

/// CLUSTER SLOTS: this server with an evil zone, and a replica that is nowhere.
fn slots(port: u16) -> Vec<u8> {
    let node = |host: &str, id: &str| {
        let zone = [b"*2\r\n".to_vec(), bulk("availability-zone"), bulk(evil_text())].concat();
        let port = format!(":{port}\r\n").into_bytes();
        [b"*4\r\n".to_vec(), bulk(host), port, bulk(id), zone].concat()
    };
    let range = b"*1\r\n*4\r\n:0\r\n:16383\r\n".to_vec();
    [range, node("127.0.0.1", EVIL), node(EVIL, "replica")].concat()
}

fn error(code: &str, message: &str) -> Vec<u8> {
    format!("-{code} {message}\r\n").into_bytes()
}

fn bulk(text: impl AsRef<[u8]>) -> Vec<u8> {
    let text = text.as_ref();
    [format!("${}\r\n", text.len()).as_bytes(), text, b"\r\n"].concat()
}

fn verbatim(text: &str) -> Vec<u8> {
    format!("={}\r\ntxt:{text}\r\n", text.len() + 4).into_bytes()
}
