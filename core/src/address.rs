//! Where a node is reached.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use core::fmt;
use core::net::{IpAddr, Ipv6Addr};
use core::str::FromStr;

use litemap::LiteMap;

use crate::error::Quoted;

/// A node's host (a name or an IP address, an IPv6 address without brackets) and port.
///
/// Two addresses are the same node when host and port are the same text: the cluster names its
/// nodes so in MOVED and CLUSTER SLOTS, and that is what routing compares.
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

    /// The address that [`Display`](fmt::Display) writes: `host:port`, an IPv6 host in brackets.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = endpoint(text)?;
        Some(Self { host, port: port? })
    }

    /// An address as a redirect names it: `host:port`, with an IPv6 host bare (`::1:7000`) or in
    /// brackets. An empty host means `asked`, the host of the node that sent it (cluster
    /// specification, "MOVED Redirection"). `None` when there is no port or it is no number
    /// from 1 to 65,535, and when the host is none ([`is_host`]).
    #[must_use]
    pub fn from_redirect(text: &str, asked: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let port = u16::from_str(port).ok().filter(|&port| port != 0)?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        // The client itself has put `asked` there, where a server has left the host to it.
        let host = if host.is_empty() { asked } else { host };
        (host == asked || is_host(host)).then(|| Self::new(host, port))
    }
}

/// The longest name that DNS has, in bytes (RFC 1035, section 2.3.4).
pub(crate) const HOST_LENGTH_MAX: usize = 253;

/// Whether this can be a host that a server names: an IP address (an IPv6 address also with a zone,
/// `fe80::1%eth0`: RFC 4007, section 11), or a name of letters, digits, `-`, `.` and `_`. What is
/// something else is no address that could be reached, and would go where hosts are shown.
#[must_use]
pub fn is_host(text: &str) -> bool {
    (1..=HOST_LENGTH_MAX).contains(&text.len()) && (text.bytes().all(is_in_name) || is_ipv6(text))
}

/// Whether this can be a host that a user names: what [`is_host`] takes, and names of other
/// scripts, which whoever looks them up translates.
pub(crate) fn is_users_host(text: &str) -> bool {
    (1..=HOST_LENGTH_MAX).contains(&text.len()) && (text.chars().all(is_in_users_name) || is_ipv6(text))
}

pub(crate) fn is_in_users_name(character: char) -> bool {
    match u8::try_from(character) {
        Ok(byte) if byte.is_ascii() => is_in_name(byte),
        _ => !character.is_whitespace() && !character.is_control(),
    }
}

fn is_in_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_')
}

fn is_ipv6(text: &str) -> bool {
    let (address, zone) = text.split_once('%').unwrap_or((text, "any"));
    address.parse::<Ipv6Addr>().is_ok() && !zone.is_empty() && zone.bytes().all(is_in_name)
}

/// Where nodes are reached that announce addresses of another network (NAT, containers).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressMap {
    /// By what is announced: a host, or a host with its port.
    entries: LiteMap<Endpoint, Endpoint>,
}

/// A host, and a port unless all are meant.
type Endpoint = (Arc<str>, Option<u16>);

impl AddressMap {
    /// From now on `announced` is reached at `actual`. Each is `host` or `host:port`, an IPv6 host
    /// in brackets where a port follows. An entry with a port comes before one without; without
    /// a port in `actual` the announced one stays.
    ///
    /// # Errors
    /// Says which of the two is empty or malformed, or that `announced` has another entry.
    pub fn insert(&mut self, announced: &str, actual: &str) -> Result<(), String> {
        let read = |text| {
            endpoint(text).ok_or_else(|| {
                let text = Quoted(text);
                format!("{text} is not a host or host:port; a host has letters, digits, '-', '.' and '_'")
            })
        };
        let (from, to) = (read(announced)?, read(actual)?);
        if self.entries.get(&from).is_some_and(|other| *other != to) {
            return Err(format!("{} stands there twice", Quoted(announced)));
        }
        self.entries.insert(from, to);
        Ok(())
    }

    /// Where a node with this announced address is reached.
    #[must_use]
    pub fn actual(&self, announced: NodeAddr) -> NodeAddr {
        if self.entries.is_empty() {
            return announced;
        }
        let NodeAddr { host, port } = announced;
        let exact = (host, Some(port));
        let entry = self.entries.get(&exact).or_else(|| self.entries.get(&(exact.0.clone(), None)));
        match entry {
            Some((host, actual)) => NodeAddr { host: host.clone(), port: actual.unwrap_or(port) },
            None => NodeAddr { host: exact.0, port },
        }
    }
}

impl fmt::Display for AddressMap {
    /// `announced=actual`, with commas between them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (announced, actual)) in self.entries.iter().enumerate() {
            f.write_str(if place > 0 { "," } else { "" })?;
            show_endpoint(announced, f)?;
            f.write_str("=")?;
            show_endpoint(actual, f)?;
        }
        Ok(())
    }
}

fn show_endpoint((host, port): &Endpoint, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match port {
        Some(port) => fmt::Display::fmt(&NodeAddr { host: host.clone(), port: *port }, f),
        None => f.write_str(host),
    }
}

/// The host and, where there is one, the port.
fn endpoint(text: &str) -> Option<Endpoint> {
    let text = text.trim();
    let is_bare = is_ipv6(text) || !text.contains(':');
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, rest)) => (host, Some(rest.strip_prefix(':')?)),
        None if is_bare => (text, None),
        None => text.rsplit_once(':').map(|(host, port)| (host, Some(port)))?,
    };
    let port = match port {
        Some(port) => Some(port.parse().ok().filter(|port: &u16| *port != 0)?),
        None => None,
    };
    is_users_host(host).then(|| (host.to_string().into(), port))
}

impl fmt::Display for NodeAddr {
    /// `host:port`, an IPv6 host in brackets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_ipv6(&self.host) {
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
            ("fe80::1%eth0:7004", Some("[fe80::1%eth0]:7004")),
            ("a_b.example.:1", Some("a_b.example.:1")),
            ("\x1b[2J:1", None),
            ("a\u{9b}b:1", None),
            ("a b:1", None),
            ("b\u{fc}cher.example:1", None),
            ("a\nb:1", None),
            ("user@host:1", None),
            ("a/b:1", None),
            ("a:b:1", None),
            ("fe80::1%:1", None),
            ("fe80::1%a/b:1", None),
        ] {
            let address = NodeAddr::from_redirect(text, "asked").map(|address| address.to_string());
            assert_eq!(address.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn announced_addresses_are_mapped() {
        let mut map = AddressMap::default();
        map.insert("10.0.0.1:7000", "127.0.0.1:17000").unwrap();
        map.insert("10.0.0.1", "gate").unwrap();
        map.insert("[2001:db8::1]:7000", "[::1]:7001").unwrap();
        map.insert("2001:db8::2", "::1").unwrap();
        let actual = |host: &str, port| map.actual(NodeAddr::new(host, port)).to_string();
        assert_eq!(actual("10.0.0.1", 7000), "127.0.0.1:17000");
        assert_eq!(actual("10.0.0.1", 7001), "gate:7001");
        assert_eq!(actual("2001:db8::1", 7000), "[::1]:7001");
        assert_eq!(actual("2001:db8::2", 7000), "[::1]:7000");
        assert_eq!(actual("other", 7000), "other:7000");
        for (announced, wrong) in [
            ("", "a"),
            ("a", ""),
            ("a:0", "b"),
            ("a", "b:99999"),
            ("a b", "c"),
            ("a", ":1"),
            ("a", "b\x1b"),
            ("a*b", "c"),
        ] {
            assert!(map.insert(announced, wrong).is_err(), "{announced:?} → {wrong:?}");
        }
        assert!(map.insert("10.0.0.1", "elsewhere").unwrap_err().contains("twice"));
    }
}
