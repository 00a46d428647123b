//! What a hostile cluster answers where its script says nothing: as a cluster does whose keys all
//! hold their own names.

use keyslot_core::slot::SLOT_COUNT;

/// A bulk string.
pub fn bulk(text: impl AsRef<[u8]>) -> Vec<u8> {
    let text = text.as_ref();
    [format!("${}\r\n", text.len()).as_bytes(), text, b"\r\n"].concat()
}

/// An integer.
#[must_use]
pub fn integer(value: i64) -> Vec<u8> {
    format!(":{value}\r\n").into_bytes()
}

/// An array of these replies.
#[must_use]
pub fn array(items: &[Vec<u8>]) -> Vec<u8> {
    [format!("*{}\r\n", items.len()).into_bytes(), items.concat()].concat()
}

/// What GET is answered with.
#[must_use]
pub fn value_of(key: &str) -> String {
    format!("of:{key}")
}

/// CLUSTER SLOTS of nodes at these ports of 127.0.0.1 that share the slots evenly, all of them
/// primaries.
#[must_use]
pub fn cluster_slots(ports: &[u16]) -> Vec<u8> {
    let rows = shares(ports).map(|(node, port, first, last)| {
        let member = array(&[bulk("127.0.0.1"), integer(port.into()), bulk(id(node))]);
        array(&[integer(first.into()), integer(last.into()), member])
    });
    array(&rows.collect::<Vec<_>>())
}

/// What a connection has said before.
pub(super) struct Session {
    node: usize,
    ports: Vec<u16>,
    /// Commands since MULTI.
    queued: Option<usize>,
}

impl Session {
    pub(super) fn new(node: usize, ports: Vec<u16>) -> Self {
        Self { node, ports, queued: None }
    }
}

/// The right answer to a command.
pub(super) fn answer(session: &mut Session, words: &[String]) -> Vec<u8> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let upper: Vec<String> = words.iter().take(2).map(|word| word.to_ascii_uppercase()).collect();
    let name = upper.first().map(String::as_str).unwrap_or_default();
    let second = upper.get(1).map(String::as_str).unwrap_or_default();
    if let Some(queued) = session.queued.as_mut().filter(|_| !["EXEC", "DISCARD"].contains(&name)) {
        *queued += 1;
        return b"+QUEUED\r\n".to_vec();
    }
    match (name, second) {
        ("HELLO", _) => hello(),
        ("CLIENT", "ID") => integer(7),
        ("CLUSTER", "SLOTS") => cluster_slots(&session.ports),
        ("CLUSTER", "SHARDS") => shards(&session.ports),
        ("CLUSTER", "INFO") => bulk("cluster_enabled:1\r\ncluster_state:ok\r\ncluster_current_epoch:3\r\n"),
        ("CLUSTER", "NODES") => bulk(nodes(session)),
        ("PING", _) => b"+PONG\r\n".to_vec(),
        ("GET", _) => bulk(value_of(words.get(1).copied().unwrap_or_default())),
        ("MGET", _) => array(&words[1..].iter().map(|key| bulk(value_of(key))).collect::<Vec<_>>()),
        ("DEL" | "EXISTS", _) => integer(words.len() as i64 - 1),
        ("INCR" | "DBSIZE", _) => integer(1),
        ("KEYS", _) => array(&[bulk(format!("key:{}", session.node))]),
        ("SCAN", _) => array(&[bulk("0"), array(&[bulk(format!("key:{}", session.node))])]),
        ("HSCAN", _) => array(&[bulk("0"), array(&[bulk("field"), bulk("value")])]),
        ("MULTI", _) => {
            session.queued = Some(0);
            b"+OK\r\n".to_vec()
        }
        ("EXEC", _) => {
            let queued = session.queued.take().unwrap_or_default();
            array(&vec![b"+OK\r\n".to_vec(); queued])
        }
        ("DISCARD", _) => {
            session.queued = None;
            b"+OK\r\n".to_vec()
        }
        _ => b"+OK\r\n".to_vec(),
    }
}

fn hello() -> Vec<u8> {
    let entries =
        [bulk("server"), bulk("redis"), bulk("proto"), integer(3), bulk("mode"), bulk("cluster")].concat();
    [b"%3\r\n".to_vec(), entries].concat()
}

fn shards(ports: &[u16]) -> Vec<u8> {
    let shards = shares(ports).map(|(node, port, first, last)| {
        let member = [
            [bulk("id"), bulk(id(node))],
            [bulk("port"), integer(port.into())],
            [bulk("ip"), bulk("127.0.0.1")],
            [bulk("endpoint"), bulk("127.0.0.1")],
            [bulk("role"), bulk("master")],
            [bulk("health"), bulk("online")],
        ];
        let slots = array(&[integer(first.into()), integer(last.into())]);
        array(&[bulk("slots"), slots, bulk("nodes"), array(&[array(&member.concat())])])
    });
    array(&shards.collect::<Vec<_>>())
}

/// CLUSTER NODES as the session's node has it.
fn nodes(session: &Session) -> String {
    let line = |(node, port, first, last): (usize, u16, u16, u16)| {
        let flags = if node == session.node { "myself,master" } else { "master" };
        let bus = u32::from(port) + 10_000;
        format!("{} 127.0.0.1:{port}@{bus} {flags} - 0 0 {} connected {first}-{last}\n", id(node), node + 1)
    };
    shares(&session.ports).map(line).collect()
}

/// Each node's number and port, and its first and last slot.
fn shares(ports: &[u16]) -> impl Iterator<Item = (usize, u16, u16, u16)> {
    let count = ports.len();
    let share = move |node: usize| (usize::from(SLOT_COUNT) * node / count) as u16;
    ports.iter().enumerate().map(move |(node, port)| (node, *port, share(node), share(node + 1) - 1))
}

fn id(node: usize) -> String {
    format!("{:040x}", node + 1)
}
