//! Which addresses the component may connect to.
//!
//! The component dials what it is told to: the URLs, but also every address that a server names in
//! its topology or in a redirect. A server that is not trusted could so have it dial into the
//! host's own network. [`NetworkPolicy::allow`] draws the line outside the component, where nothing
//! that a server sends can move it.

use std::collections::HashSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use wasmtime_wasi::sockets::SocketAddrUse;

/// How many addresses of allowed names a policy remembers for a client. Names whose addresses
/// change would otherwise make it grow without end.
const RESOLVED_MAX: usize = 4_096;

/// Which addresses a component may connect to. It may never listen, and never use UDP.
///
/// By default that is every TCP address, and every name may be looked up. With
/// [`NetworkPolicy::allow`] it is what is listed, and nothing else; a connection to anything else
/// fails with [`Error::Connect`](crate::Error::Connect) before a packet is sent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NetworkPolicy {
    /// None: everything is allowed.
    entries: Option<Vec<Entry>>,
}

impl NetworkPolicy {
    /// Every TCP address, and every name. This is the default.
    #[must_use]
    pub fn any() -> Self {
        Self::default()
    }

    /// Only these. Each is one of:
    ///
    /// | entry | allows |
    /// |---|---|
    /// | `10.0.0.7`, `fd00::7` | this address |
    /// | `10.0.0.0/8`, `fd00::/8` | these addresses |
    /// | `redis.example.com` | to look this name up, and the addresses that it has |
    /// | `*.example.com` | the same for each name below `example.com` |
    ///
    /// and each may be followed by `:port` (an IPv6 address or network then stands in brackets),
    /// which allows that port only. No entries at all allow nothing.
    ///
    /// A name allows only what the component has looked up under that name. Clusters announce their
    /// nodes by address unless they are told to announce names
    /// (`cluster-preferred-endpoint-type hostname`): list the nodes' network as well.
    ///
    /// ```
    /// use keyslot::NetworkPolicy;
    ///
    /// let policy = NetworkPolicy::allow(["10.0.0.0/8:6379", "redis.example.com:6379"])?;
    /// # Ok::<(), keyslot::PolicyError>(())
    /// ```
    pub fn allow(entries: impl IntoIterator<Item = impl AsRef<str>>) -> Result<Self, PolicyError> {
        let entries = entries.into_iter().map(|entry| entry.as_ref().parse()).collect::<Result<_, _>>()?;
        Ok(Self { entries: Some(entries) })
    }

    /// Whether any name at all may be looked up.
    pub(crate) fn has_names(&self) -> bool {
        self.entries.as_ref().is_none_or(|entries| {
            entries.iter().any(|entry| matches!(entry.host, Host::Name(_) | Host::Below(_)))
        })
    }

    /// Whether the address may be connected to without having been looked up.
    fn allows_address(&self, address: SocketAddr) -> bool {
        self.entries.as_ref().is_none_or(|entries| {
            entries.iter().any(|entry| entry.has_port(address.port()) && entry.has_address(address.ip()))
        })
    }

    /// The ports that may be connected to at the addresses of a name.
    fn ports_of_name(&self, name: &str) -> Ports {
        let Some(entries) = &self.entries else {
            return Ports::All;
        };
        let mut ports = Vec::new();
        for entry in entries.iter().filter(|entry| entry.has_name(name)) {
            match entry.port {
                None => return Ports::All,
                Some(port) => ports.push(port),
            }
        }
        Ports::These(ports)
    }
}

/// An entry of a policy that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{entry:?} is no address, network or host name, with or without a port")]
pub struct PolicyError {
    entry: String,
}

/// One line of an allow-list.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    host: Host,
    /// None: every port.
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    /// The addresses whose first so many bits are those of this one.
    Network(IpAddr, u8),
    /// This name, as [`canonical_name`] has it.
    Name(String),
    /// The names that end with this, which begins with a dot.
    Below(String),
}

impl Entry {
    fn has_port(&self, port: u16) -> bool {
        self.port.is_none_or(|allowed| allowed == port)
    }

    fn has_address(&self, address: IpAddr) -> bool {
        match self.host {
            Host::Network(network, bits) => in_network(address.to_canonical(), network, bits),
            Host::Name(_) | Host::Below(_) => false,
        }
    }

    fn has_name(&self, name: &str) -> bool {
        match &self.host {
            Host::Network(..) => false,
            Host::Name(allowed) => name == allowed,
            Host::Below(suffix) => name.len() > suffix.len() && name.ends_with(suffix),
        }
    }
}

impl FromStr for Entry {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        let error = || PolicyError { entry: text.to_owned() };
        let (host, port) = split_port(text).ok_or_else(error)?;
        let host = parse_host(host).ok_or_else(error)?;
        Ok(Self { host, port })
    }
}

/// Host and port. A bare IPv6 address or network has several colons and no port.
fn split_port(text: &str) -> Option<(&str, Option<u16>)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        return match rest.strip_prefix(':') {
            Some(port) => Some((host, Some(parse_port(port)?))),
            None if rest.is_empty() => Some((host, None)),
            None => None,
        };
    }
    match text.split_once(':') {
        Some((_, rest)) if rest.contains(':') => Some((text, None)),
        Some((host, port)) => Some((host, Some(parse_port(port)?))),
        None => Some((text, None)),
    }
}

/// A port in plain digits, from 1.
fn parse_port(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port > 0)
}

fn parse_host(text: &str) -> Option<Host> {
    if let Some((address, bits)) = text.split_once('/') {
        let address: IpAddr = address.parse().ok()?;
        let bits = bits.parse().ok()?;
        return (bits <= width(address)).then_some(Host::Network(address, bits));
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(Host::Network(address.to_canonical(), width(address.to_canonical())));
    }
    if let Some(domain) = text.strip_prefix("*.") {
        return Some(Host::Below(format!(".{}", canonical_name(domain)?)));
    }
    canonical_name(text).map(Host::Name)
}

/// The name in lower case and without the dot of the root; none where it is no host name. The last
/// label of one has a letter: `10.0.0.300` is a mistake, not a name.
fn canonical_name(text: &str) -> Option<String> {
    let name = text.strip_suffix('.').unwrap_or(text).to_lowercase();
    let labels_are_valid = name.split('.').all(|label| {
        !label.is_empty()
            && label.chars().all(|letter| letter.is_alphanumeric() || matches!(letter, '-' | '_'))
    });
    let last = name.rsplit('.').next()?;
    let is_number = last.bytes().all(|byte| byte.is_ascii_digit());
    (labels_are_valid && !is_number).then_some(name)
}

/// How many bits an address has.
fn width(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// Whether the first `bits` bits of both are the same. Addresses of different families never are.
fn in_network(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            let differing = address.to_bits() ^ network.to_bits();
            differing.leading_zeros() >= u32::from(bits)
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => {
            let differing = address.to_bits() ^ network.to_bits();
            differing.leading_zeros() >= u32::from(bits)
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

/// Ports that a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ports {
    /// Each.
    All,
    /// These; none when the name is not allowed.
    These(Vec<u16>),
}

/// An address of an allowed name, with the port that goes with it; none stands for every port.
type Resolved = (IpAddr, Option<u16>);

/// A policy at work for one instance: what it says, and what allowed names have turned out to mean.
#[derive(Clone)]
pub(crate) struct Gate {
    policy: Arc<NetworkPolicy>,
    /// What the look-ups of allowed names gave.
    resolved: Arc<Mutex<HashSet<Resolved>>>,
}

impl Gate {
    pub(crate) fn new(policy: NetworkPolicy) -> Self {
        Self { policy: Arc::new(policy), resolved: Arc::default() }
    }

    /// Whether a socket may do this.
    ///
    /// A connect asks twice: for the peer's address, and before it for binding to the wildcard
    /// address, as the operating system does when it chooses the local port.
    pub(crate) fn permits(&self, address: SocketAddr, purpose: SocketAddrUse) -> bool {
        match purpose {
            SocketAddrUse::TcpConnect => {
                let permitted = self.policy.allows_address(address) || self.is_resolved(address);
                if !permitted {
                    tracing::warn!(%address, "the network policy refuses a connection");
                }
                permitted
            }
            SocketAddrUse::TcpBind => address.ip().is_unspecified() && address.port() == 0,
            _ => false,
        }
    }

    /// What a name that the component wants to look up may be used for; none when it may not be
    /// looked up.
    ///
    /// An address in place of a name tells nothing and permits nothing.
    pub(crate) fn name(&self, name: &str) -> Option<Ports> {
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        if bare.parse::<IpAddr>().is_ok() {
            return Some(Ports::These(Vec::new()));
        }
        if self.policy.entries.is_none() {
            return Some(Ports::All);
        }
        match self.policy.ports_of_name(&canonical_name(name)?) {
            Ports::These(ports) if ports.is_empty() => None,
            ports => Some(ports),
        }
    }

    /// Takes note that a look-up of an allowed name gave this address.
    pub(crate) fn learn(&self, address: IpAddr, ports: &Ports) {
        if self.policy.entries.is_none() {
            return;
        }
        let mut resolved = self.resolved.lock().unwrap_or_else(PoisonError::into_inner);
        if resolved.len() >= RESOLVED_MAX {
            resolved.clear();
        }
        let address = address.to_canonical();
        match ports {
            Ports::All => {
                resolved.insert((address, None));
            }
            Ports::These(ports) => {
                resolved.extend(ports.iter().map(|port| (address, Some(*port))));
            }
        }
    }

    /// Whether names may be looked up at all.
    pub(crate) fn has_names(&self) -> bool {
        self.policy.has_names()
    }

    fn is_resolved(&self, address: SocketAddr) -> bool {
        let resolved = self.resolved.lock().unwrap_or_else(PoisonError::into_inner);
        let ip = address.ip().to_canonical();
        resolved.contains(&(ip, None)) || resolved.contains(&(ip, Some(address.port())))
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Gate").field(&self.policy).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(entries: &[&str]) -> Gate {
        Gate::new(NetworkPolicy::allow(entries).expect("entries are valid"))
    }

    fn connects(gate: &Gate, address: &str) -> bool {
        let address = address.parse().expect("a socket address");
        gate.permits(address, SocketAddrUse::TcpConnect)
    }

    #[test]
    fn the_default_allows_every_connection_and_nothing_else() {
        let gate = Gate::new(NetworkPolicy::default());
        assert!(connects(&gate, "192.0.2.1:1"));
        assert!(connects(&gate, "[2001:db8::1]:65535"));
        assert_eq!(gate.name("anything"), Some(Ports::All));
        let wildcard = "0.0.0.0:0".parse().expect("a socket address");
        assert!(gate.permits(wildcard, SocketAddrUse::TcpBind));
        let chosen = "0.0.0.0:6379".parse().expect("a socket address");
        assert!(!gate.permits(chosen, SocketAddrUse::TcpBind));
        assert!(!gate.permits(chosen, SocketAddrUse::TcpListen));
        assert!(!gate.permits(chosen, SocketAddrUse::TcpAccept));
        assert!(!gate.permits(chosen, SocketAddrUse::UdpSend));
    }

    #[test]
    fn addresses_and_networks_are_told_apart_bit_by_bit() {
        let gate = gate(&["10.1.2.3", "10.2.0.0/15:6379", "[fd00::/9]:7000", "::1", "192.0.2.0/31"]);
        for allowed in [
            "10.1.2.3:1",
            "10.2.0.1:6379",
            "10.3.255.255:6379",
            "[fd7f::1]:7000",
            "[::1]:6379",
            "192.0.2.1:9",
            "[::ffff:10.1.2.3]:1",
        ] {
            assert!(connects(&gate, allowed), "{allowed}");
        }
        for refused in [
            "10.1.2.4:1",
            "10.2.0.1:6380",
            "10.4.0.0:6379",
            "[fd80::1]:7000",
            "[fd00::1]:6379",
            "192.0.2.2:9",
        ] {
            assert!(!connects(&gate, refused), "{refused}");
        }
        assert_eq!(gate.name("redis.example.com"), None);
        assert!(!gate.has_names());
    }

    #[test]
    fn whole_families_and_nothing() {
        assert!(connects(&gate(&["0.0.0.0/0"]), "8.8.8.8:53"));
        assert!(!connects(&gate(&["0.0.0.0/0"]), "[::1]:53"));
        assert!(connects(&gate(&["::/0"]), "[::1]:53"));
        assert!(!connects(&gate(&[]), "127.0.0.1:6379"));
    }

    #[test]
    fn a_name_allows_the_addresses_that_it_has() {
        let gate = gate(&["Redis.Example.com:6379", "*.cache.example", "other"]);
        assert!(gate.has_names());
        assert_eq!(gate.name("redis.EXAMPLE.com."), Some(Ports::These(vec![6379])));
        assert_eq!(gate.name("a.b.cache.example"), Some(Ports::All));
        assert_eq!(gate.name("cache.example"), None);
        assert_eq!(gate.name("evilcache.example"), None);
        assert_eq!(gate.name("secret.internal"), None);

        assert!(!connects(&gate, "192.0.2.1:6379"));
        let ports = gate.name("redis.example.com").expect("it is allowed");
        gate.learn("192.0.2.1".parse().expect("an address"), &ports);
        assert!(connects(&gate, "192.0.2.1:6379"));
        assert!(!connects(&gate, "192.0.2.1:22"));
        gate.learn("192.0.2.2".parse().expect("an address"), &Ports::All);
        assert!(connects(&gate, "192.0.2.2:22"));
    }

    #[test]
    fn an_address_in_place_of_a_name_permits_nothing() {
        let gate = gate(&["other"]);
        let ports = gate.name("192.0.2.1").expect("it tells nothing");
        gate.learn("192.0.2.1".parse().expect("an address"), &ports);
        assert!(!connects(&gate, "192.0.2.1:6379"));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let gate = gate(&["other"]);
        for number in 0..20_000_u32 {
            gate.learn(IpAddr::V4(number.into()), &Ports::All);
        }
        let resolved = gate.resolved.lock().expect("no test panicked");
        assert!(resolved.len() <= RESOLVED_MAX);
    }

    #[test]
    fn mistakes_are_quoted() {
        for wrong in [
            "",
            ":6379",
            "10.0.0.0/33",
            "::/129",
            "10.0.0.300",
            "host:0",
            "host:65536",
            "host:+1",
            "host:",
            "[::1",
            "[::1]6379",
            "a b",
            "a..b",
            "*",
            "*.",
            "10.0.0.0/x",
        ] {
            let error = NetworkPolicy::allow([wrong]).expect_err(wrong);
            assert!(error.to_string().contains(&format!("{wrong:?}")));
        }
    }
}
