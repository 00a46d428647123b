//! What a client is made from: the settings of the WIT resource `options`, and those of the host.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::NetworkPolicy;
use crate::bindings::exports::keyslot::redis::redis_cluster::{
    Limit, Mode, PoolSetting, Protocol, ReplicaReads, RetryWrites, Shard,
};

/// How much linear memory a component may have, unless [`Options::memory_limit`] says otherwise: 1
/// GiB.
pub const DEFAULT_MEMORY_LIMIT: usize = 1 << 30;

/// The component's default for `set-request-timeout-ms`.
pub(crate) const REQUEST_TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);

/// The settings of a client, to be given to [`Client::connect`](crate::Client::connect).
///
/// ```
/// use std::time::Duration;
///
/// let options = keyslot::Options::new(["redis://10.0.0.1:6379", "redis://10.0.0.2:6379"])
///     .username("app")
///     .password("secret")
///     .request_timeout(Duration::from_secs(2));
/// ```
///
/// What is not set keeps the component's default, which the WIT package documents. The component
/// also judges the values: mistakes are told by `connect`, as
/// [`Error::InvalidArgument`](crate::Error::InvalidArgument).
#[derive(Clone)]
#[must_use]
pub struct Options {
    pub(crate) urls: Vec<String>,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) client_name: Option<String>,
    pub(crate) library_info: Option<bool>,
    pub(crate) database: Option<u32>,
    pub(crate) mode: Option<Mode>,
    pub(crate) protocol: Option<Protocol>,
    pub(crate) connect_timeout: Option<Duration>,
    pub(crate) request_timeout: Option<Duration>,
    pub(crate) attempt_timeout: Option<Duration>,
    pub(crate) max_redirects: Option<u32>,
    pub(crate) max_retries: Option<u32>,
    pub(crate) retry_backoff: Option<(Duration, Duration)>,
    pub(crate) retry_writes: Option<RetryWrites>,
    pub(crate) reconnect_backoff: Option<(Duration, Duration)>,
    pub(crate) refresh_interval: Option<Duration>,
    pub(crate) health_check: Option<Duration>,
    pub(crate) split_multi_key: Option<bool>,
    pub(crate) replica_reads: Option<ReplicaReads>,
    pub(crate) availability_zone: Option<String>,
    pub(crate) pool: Vec<(PoolSetting, u32)>,
    pub(crate) address_map: Vec<(String, String)>,
    pub(crate) topology: Option<Vec<Shard>>,
    pub(crate) limits: Vec<(Limit, u64)>,
    pub(crate) decode_responses: Option<bool>,
    pub(crate) network: NetworkPolicy,
    pub(crate) memory_limit: usize,
    pub(crate) component: Option<PathBuf>,
    /// How long the component may compute, in place of what follows from the request time-out.
    pub(crate) computing_max: Option<Duration>,
}

impl Options {
    /// Settings for the cluster that these nodes belong to, or for the one server.
    ///
    /// Each is `redis://[[user]:password@]host[:port][/database]`, or a bare `host` or `host:port`.
    /// `valkey://` means the same.
    pub fn new(urls: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            urls: urls.into_iter().map(Into::into).collect(),
            username: None,
            password: None,
            client_name: None,
            library_info: None,
            database: None,
            mode: None,
            protocol: None,
            connect_timeout: None,
            request_timeout: None,
            attempt_timeout: None,
            max_redirects: None,
            max_retries: None,
            retry_backoff: None,
            retry_writes: None,
            reconnect_backoff: None,
            refresh_interval: None,
            health_check: None,
            split_multi_key: None,
            replica_reads: None,
            availability_zone: None,
            pool: Vec::new(),
            address_map: Vec::new(),
            topology: None,
            limits: Vec::new(),
            decode_responses: None,
            network: NetworkPolicy::default(),
            memory_limit: DEFAULT_MEMORY_LIMIT,
            component: None,
            computing_max: None,
        }
    }

    /// The ACL user to log in as. Takes precedence over the URLs'.
    pub fn username(mut self, username: impl Into<String>) -> Self {
        self.username = Some(username.into());
        self
    }

    /// The password. Takes precedence over the URLs'.
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.password = Some(password.into());
        self
    }

    /// The name that connections are given, as CLIENT LIST shows it; empty for none.
    pub fn client_name(mut self, name: impl Into<String>) -> Self {
        self.client_name = Some(name.into());
        self
    }

    /// Whether each connection tells the client's name and version (CLIENT SETINFO). With `false`,
    /// and an empty [`client_name`](Self::client_name), neither SETNAME nor SETINFO is sent,
    /// for proxies that hang up on them. Default: true.
    pub fn library_info(mut self, tell: bool) -> Self {
        self.library_info = Some(tell);
        self
    }

    /// The database that SELECT chooses on each connection.
    pub fn database(mut self, database: u32) -> Self {
        self.database = Some(database);
        self
    }

    /// Whether the nodes are a cluster's, one server, or to be asked.
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = Some(mode);
        self
    }

    /// RESP2, RESP3, or what the server knows.
    pub fn protocol(mut self, protocol: Protocol) -> Self {
        self.protocol = Some(protocol);
        self
    }

    /// How long one connection may take to come up, and `connect` to learn the topology. Parts of a
    /// millisecond are rounded up.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = Some(timeout);
        self
    }

    /// How long a request may take, with all its redirects and retries. Parts of a millisecond are
    /// rounded up. The time that a call waits for its turn is not counted.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = Some(timeout);
        self
    }

    /// How long a node may be silent while answers are due, until it is taken for stalled. Not
    /// above the request time-out. Parts of a millisecond are rounded up.
    pub fn attempt_timeout(mut self, timeout: Duration) -> Self {
        self.attempt_timeout = Some(timeout);
        self
    }

    /// How many redirects one request follows.
    pub fn max_redirects(mut self, redirects: u32) -> Self {
        self.max_redirects = Some(redirects);
        self
    }

    /// How many times one request is sent again for other reasons than a redirect.
    pub fn max_retries(mut self, retries: u32) -> Self {
        self.max_retries = Some(retries);
        self
    }

    /// How long a request waits before it is sent again: about `base` the first time, doubled each
    /// time, `cap` at most. Parts of a millisecond are rounded up.
    pub fn retry_backoff(mut self, base: Duration, cap: Duration) -> Self {
        self.retry_backoff = Some((base, cap));
        self
    }

    /// Whether writes that may have been executed are sent again.
    pub fn retry_writes(mut self, retry: RetryWrites) -> Self {
        self.retry_writes = Some(retry);
        self
    }

    /// How long the client waits before it dials a node again that it could not connect to: at most
    /// `base` at first, doubled each time, `cap` at most. Parts of a millisecond are rounded
    /// up.
    pub fn reconnect_backoff(mut self, base: Duration, cap: Duration) -> Self {
        self.reconnect_backoff = Some((base, cap));
        self
    }

    /// How old the topology may be before the client asks for it again. Parts of a millisecond are
    /// rounded up.
    pub fn refresh_interval(mut self, interval: Duration) -> Self {
        self.refresh_interval = Some(interval);
        self
    }

    /// After how long without a byte a connection has to answer a PING before it is used again.
    /// Parts of a millisecond are rounded up.
    pub fn health_check(mut self, after: Duration) -> Self {
        self.health_check = Some(after);
        self
    }

    /// Whether commands that treat each key alone (MGET, DEL, MSET …) may have keys in several
    /// slots. They are then sent in parts, which is not atomic. Default: true.
    pub fn split_multi_key(mut self, split: bool) -> Self {
        self.split_multi_key = Some(split);
        self
    }

    /// Who serves commands that only read.
    pub fn replica_reads(mut self, strategy: ReplicaReads) -> Self {
        self.replica_reads = Some(strategy);
        self
    }

    /// Where this client stands, for [`ReplicaReads::SameZone`].
    pub fn availability_zone(mut self, zone: impl Into<String>) -> Self {
        self.availability_zone = Some(zone.into());
        self
    }

    /// Sets a bound on the connections that [`Client::lend`](crate::Client::lend) gives.
    pub fn pool(mut self, setting: PoolSetting, value: u32) -> Self {
        self.pool.push((setting, value));
        self
    }

    /// The node that the servers call `announced` is reached at `actual`; each is `host` or
    /// `host:port`. May be called many times.
    pub fn map_address(mut self, announced: impl Into<String>, actual: impl Into<String>) -> Self {
        self.address_map.push((announced.into(), actual.into()));
        self
    }

    /// Starts from this topology, as [`Client::topology`](crate::Client::topology) gave it, instead
    /// of asking for one.
    pub fn topology(mut self, shards: Vec<Shard>) -> Self {
        self.topology = Some(shards);
        self
    }

    /// Sets a bound on what a server may send, or on what may wait for nodes.
    ///
    /// [`Limit::ReceivedBytes`] is three eighths of [`memory_limit`](Self::memory_limit) unless it
    /// is set here: the rest is for the copy that makes a growing reply larger, and for the one
    /// that its caller gets. [`Limit::Connections`] is three quarters of the descriptors that
    /// the process may have (`ulimit -n`) where that is less than 512.
    pub fn limit(mut self, limit: Limit, value: u64) -> Self {
        self.limits.push((limit, value));
        self
    }

    /// Whether bulk strings that are UTF-8 come as [`ReplyNode::Text`](crate::ReplyNode::Text).
    pub fn decode_responses(mut self, decode: bool) -> Self {
        self.decode_responses = Some(decode);
        self
    }

    /// Which addresses the component may connect to. Default: every one.
    pub fn network(mut self, policy: NetworkPolicy) -> Self {
        self.network = policy;
        self
    }

    /// How much linear memory the component may have, in bytes. A component that needs more is
    /// given up with [`Error::Host`](crate::Error::Host). Commands and replies that are under
    /// way at the same time must fit. Default: [`DEFAULT_MEMORY_LIMIT`].
    pub fn memory_limit(mut self, bytes: usize) -> Self {
        self.memory_limit = bytes;
        self
    }

    /// The file of the component to run, in place of the one that is embedded. Takes precedence
    /// over the environment variable `KEYSLOT_COMPONENT`, which does the same for a whole
    /// process.
    pub fn component(mut self, file: impl Into<PathBuf>) -> Self {
        self.component = Some(file.into());
        self
    }
}

/// Shows neither the password nor what stands before the host in a URL.
impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let urls: Vec<_> = self.urls.iter().map(|url| without_userinfo(url)).collect();
        f.debug_struct("Options")
            .field("urls", &urls)
            .field("username", &self.username)
            .field("password", &self.password.as_ref().map(|_| "…"))
            .field("client_name", &self.client_name)
            .field("library_info", &self.library_info)
            .field("database", &self.database)
            .field("mode", &self.mode)
            .field("protocol", &self.protocol)
            .field("connect_timeout", &self.connect_timeout)
            .field("request_timeout", &self.request_timeout)
            .field("attempt_timeout", &self.attempt_timeout)
            .field("max_redirects", &self.max_redirects)
            .field("max_retries", &self.max_retries)
            .field("retry_backoff", &self.retry_backoff)
            .field("retry_writes", &self.retry_writes)
            .field("reconnect_backoff", &self.reconnect_backoff)
            .field("refresh_interval", &self.refresh_interval)
            .field("health_check", &self.health_check)
            .field("split_multi_key", &self.split_multi_key)
            .field("replica_reads", &self.replica_reads)
            .field("availability_zone", &self.availability_zone)
            .field("pool", &self.pool)
            .field("address_map", &self.address_map)
            .field("topology", &self.topology)
            .field("limits", &self.limits)
            .field("decode_responses", &self.decode_responses)
            .field("network", &self.network)
            .field("memory_limit", &self.memory_limit)
            .field("component", &self.component)
            .finish()
    }
}

/// The URL with everything between its scheme and its last `@` left out. A password may hold an `@`
/// or a `/` that should have been escaped, so this asks for no well-formed URL.
fn without_userinfo(url: &str) -> String {
    let Some((before, host)) = url.rsplit_once('@') else {
        return url.to_owned();
    };
    let scheme = before.split_once("://").map_or("", |(scheme, _)| scheme);
    format!("{scheme}://…@{host}")
}

/// A duration as the component takes it: whole milliseconds, rounded up, at most what 32 bits hold.
pub(crate) fn whole_milliseconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_holds_no_password() {
        let options = Options::new([
            "redis://app:hunter2@10.0.0.1:6379/0",
            "redis://:hunter2@b",
            "redis://app:p@hunter2/@c",
            "app:hunter2@d",
            "e:7000",
        ])
        .password("hunter2");
        let shown = format!("{options:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
        for kept in ["10.0.0.1:6379/0", "redis://…@b", "@c", "@d", "e:7000"] {
            assert!(shown.contains(kept), "{kept} in {shown}");
        }
    }

    #[test]
    fn durations_become_whole_milliseconds() {
        assert_eq!(whole_milliseconds(Duration::ZERO), 0);
        assert_eq!(whole_milliseconds(Duration::from_nanos(1)), 1);
        assert_eq!(whole_milliseconds(Duration::from_millis(7)), 7);
        assert_eq!(whole_milliseconds(Duration::from_micros(7_001)), 8);
        assert_eq!(whole_milliseconds(Duration::MAX), u32::MAX);
    }
}
