//! The client's settings, with their defaults.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

use crate::address::NodeAddr;
use crate::resp::Limits;

/// How to find out what the seeds are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Ask: a server without cluster support is used alone.
    #[default]
    Auto,
    /// The seeds are a cluster's; a server without cluster support is an error.
    Cluster,
    /// The first seed that answers is used alone, and never asked for slots.
    Standalone,
}

/// Which protocol to speak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// RESP3 where the server knows HELLO, else RESP2.
    #[default]
    Auto,
    /// RESP2, without asking.
    Resp2,
    /// RESP3; a server that does not know it is an error.
    Resp3,
}

/// All settings of a client.
#[derive(Clone, Debug)]
pub struct Config {
    /// The nodes to ask first; at least one.
    pub seeds: Vec<NodeAddr>,
    /// What the seeds are.
    pub mode: Mode,
    /// RESP2 or RESP3.
    pub protocol: Protocol,
    /// The ACL user; `None` is the server's `default`.
    pub username: Option<String>,
    /// The password; `None` sends no AUTH.
    pub password: Option<String>,
    /// What CLIENT SETNAME is given.
    pub client_name: Option<String>,
    /// The database that SELECT chooses; only 0 exists in a cluster before Valkey 9.
    pub database: u32,
    /// How long a connection may take from dialling to the end of its handshake, and the client to its first topology.
    pub connect_timeout: Duration,
    /// How long a request may take, with all its redirects and retries.
    pub request_timeout: Duration,
    /// How many redirects one request follows.
    pub max_redirects: u32,
    /// What the decoder accepts.
    pub limits: Limits,
}

impl Config {
    /// The defaults, for these seeds.
    #[must_use]
    pub fn new(seeds: Vec<NodeAddr>) -> Self {
        Self {
            seeds,
            mode: Mode::Auto,
            protocol: Protocol::Auto,
            username: None,
            password: None,
            client_name: Some("keyslot".to_string()),
            database: 0,
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(5),
            max_redirects: 16,
            limits: Limits::default(),
        }
    }
}
