//! A cluster that misbehaves as a script says, and behaves in all else.
//!
//! [`HostileCluster`] has one node or several, each with a listener and an id of its own. They
//! answer the handshake, the questions for the topology, CLUSTER NODES, scans, transactions and
//! plain commands as a cluster does, without keeping anything: the value of each key is its own
//! name ([`value_of`]). The script is asked first, for each command of each connection, and once
//! when a connection is accepted. What it returns is done instead; where it returns nothing, the
//! cluster's own answer is sent.

mod answers;
mod connection;

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

pub use answers::{array, bulk, cluster_slots, integer, value_of};
use connection::serve;

/// One thing that a node does on a connection.
#[derive(Clone, Debug)]
pub enum Act {
    /// Sends these bytes.
    Send(Arc<[u8]>),
    /// Sends these bytes one by one, with this pause before each.
    Drip(Arc<[u8]>, Duration),
    /// Sends these bytes again and again, with this pause before each time, until nobody listens.
    Repeat(Arc<[u8]>, Duration),
    /// Does nothing for so long.
    Wait(Duration),
    /// Does nothing any more, whatever else is asked.
    Silence,
    /// Sends the cluster's own answer.
    Answer,
    /// Closes the connection.
    Close,
}

impl Act {
    /// Sends these bytes.
    pub fn send(bytes: impl AsRef<[u8]>) -> Self {
        Self::Send(bytes.as_ref().into())
    }
}

/// A command, and where it came from.
#[derive(Debug)]
pub struct Asked<'a> {
    /// The node that was asked, from 0.
    pub node: usize,
    /// The number of the connection among all of the cluster's, from 0.
    pub connection: usize,
    /// The command's name and arguments; nothing when the connection has just been accepted.
    pub words: &'a [String],
    /// The ports of all nodes.
    pub ports: &'a [u16],
}

impl Asked<'_> {
    /// Whether the command begins with these words, whatever their case.
    #[must_use]
    pub fn is(&self, line: &str) -> bool {
        let expected: Vec<&str> = line.split(' ').collect();
        self.words.len() >= expected.len()
            && expected.iter().zip(self.words).all(|(expected, word)| word.eq_ignore_ascii_case(expected))
    }

    /// Whether the connection has just been accepted.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.words.is_empty()
    }

    /// `host:port` of a node.
    #[must_use]
    pub fn address(&self, node: usize) -> String {
        format!("127.0.0.1:{}", self.ports[node % self.ports.len()])
    }
}

/// What a cluster does instead of what is right. `None`: what is right.
pub type Script = Arc<dyn Fn(&Asked<'_>) -> Option<Vec<Act>> + Send + Sync>;

/// Nodes that follow a script until they are told to be good. They end when this value goes.
pub struct HostileCluster {
    shared: Arc<Shared>,
}

/// What all nodes and connections know.
struct Shared {
    ports: Vec<u16>,
    script: Script,
    connections: AtomicUsize,
    is_good: AtomicBool,
    is_over: AtomicBool,
}

impl Shared {
    fn is_good(&self) -> bool {
        self.is_good.load(Ordering::SeqCst)
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }
}

impl HostileCluster {
    /// Starts so many nodes on free ports.
    ///
    /// # Errors
    /// When no port is free.
    pub fn start(nodes: usize, script: Script) -> std::io::Result<Self> {
        let listeners: Vec<_> =
            (0..nodes).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
        let ports = listeners.iter().map(|listener| Ok(listener.local_addr()?.port()));
        let shared = Arc::new(Shared {
            ports: ports.collect::<std::io::Result<_>>()?,
            script,
            connections: AtomicUsize::new(0),
            is_good: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
        });
        for (node, listener) in listeners.into_iter().enumerate() {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    if shared.is_over() {
                        return;
                    }
                    let number = shared.connections.fetch_add(1, Ordering::SeqCst);
                    let shared = Arc::clone(&shared);
                    thread::spawn(move || serve(stream, node, number, &shared));
                }
            });
        }
        Ok(Self { shared })
    }

    /// `redis://host:port` of each node.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        self.shared.ports.iter().map(|port| format!("redis://127.0.0.1:{port}")).collect()
    }

    /// From now on nothing is done but what is right. Connections on which anything else was done
    /// are closed.
    pub fn be_good(&self) {
        self.shared.is_good.store(true, Ordering::SeqCst);
    }

    /// How many connections all nodes together have accepted.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }
}

impl Drop for HostileCluster {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        // Each listener is woken, to see that it is over.
        for port in &self.shared.ports {
            let _ = std::net::TcpStream::connect(("127.0.0.1", *port));
        }
    }
}
