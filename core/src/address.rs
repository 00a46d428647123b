//! Where a node is reached.

use alloc::sync::Arc;
use core::fmt;
use core::net::{IpAddr, Ipv6Addr};
use core::str::FromStr;

/// A node's host (a name or an IP address, an IPv6 address without brackets) and port.
///
/// Two addresses are the same node when host and port are the same text: the cluster names its nodes so
/// in MOVED and CLUSTER SLOTS, and that is what routing compares.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeAddr {
    host: Arc<str>,
    port: u16,
}

impl NodeAddr {
    /// The address of `port` on `host`.
    #[must_use]
    pub fn new(host: &str, port: u16) -> Self {
        Self { host: host.into(), port }
    }

    /// A name or an IP address; an IPv6 address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The TCP port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The host as an IP address, when it is one and needs no look-up.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    /// An address as a redirect names it: `host:port`, with an IPv6 host bare (`::1:7000`) or in brackets.
    /// An empty host means `asked`, the host of the node that sent it (cluster specification, "MOVED
    /// Redirection"). `None` when there is no port or it is no number from 1 to 65,535.
    #[must_use]
    pub fn from_redirect(text: &str, asked: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let port = u16::from_str(port).ok().filter(|&port| port != 0)?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        Some(Self::new(if host.is_empty() { asked } else { host }, port))
    }
}

impl fmt::Display for NodeAddr {
    /// `host:port`, an IPv6 host in brackets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.parse::<Ipv6Addr>().is_ok() {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn redirects_name_all_kinds_of_hosts() {
        for (text, expected) in [
            ("127.0.0.1:7000", Some("127.0.0.1:7000")),
            ("redis-1.example:6379", Some("redis-1.example:6379")),
            (":7001", Some("asked:7001")),
            ("::1:7002", Some("[::1]:7002")),
            ("[2001:db8::7]:7003", Some("[2001:db8::7]:7003")),
            ("host", None),
            ("host:", None),
            ("host:0", None),
            ("host:65536", None),
            ("host:-1", None),
        ] {
            let address = NodeAddr::from_redirect(text, "asked").map(|address| address.to_string());
            assert_eq!(address.as_deref(), expected, "{text}");
        }
    }
}
