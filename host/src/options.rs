//! What a client is made from: the settings of the WIT resource `options`, and those of the host.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use keyslot_core::config::{self, Config, Words};
use keyslot_core::settings;
use keyslot_core::url::{SeedUrl, Seeds};

use crate::NetworkPolicy;
use crate::bindings::exports::keyslot::redis::redis_cluster::{
    Limit, Mode, PoolSetting, ReplicaReads, RespVersion, RetryWrites, Shard,
};

/// How much linear memory a component may have, unless [`Options::memory_limit`] says otherwise: 1
/// GiB.
pub const DEFAULT_MEMORY_LIMIT: usize = 1 << 30;

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
    pub(crate) database: Option<u32>,
    /// Settings by their names, as text, in the order in which they were set.
    pub(crate) settings: Vec<(String, String)>,
    pub(crate) topology: Option<Vec<Shard>>,
    pub(crate) network: NetworkPolicy,
    pub(crate) memory_limit: usize,
    pub(crate) component: Option<PathBuf>,
    /// How long the component may compute, in place of what follows from the request time-out.
    pub(crate) computing_max: Option<Duration>,
}

impl Options {
    /// Settings for the cluster that these nodes belong to, or for the one server.
    ///
    /// Each string is `redis://[[user]:password@]host[:port][,host…][/database][?setting=value&…]`,
    /// or bare hosts, `host` or `host:port`. `valkey://` means the same. The settings are those of
    /// [`set`](Self::set); what is set here later replaces what a URL says.
    pub fn new(urls: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            urls: urls.into_iter().map(Into::into).collect(),
            username: None,
            password: None,
            database: None,
            settings: Vec::new(),
            topology: None,
            network: NetworkPolicy::default(),
            memory_limit: DEFAULT_MEMORY_LIMIT,
            component: None,
            computing_max: None,
        }
    }

    /// Sets any setting by the name that it has in URLs, from the text that it has there:
    /// `set("request-timeout", "2s")`. The functions below do the same with types.
    ///
    /// README and the WIT function `options.set` have the table of all.
    pub fn set(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }

    fn time(self, name: &str, time: Duration) -> Self {
        self.set(name, format!("{}ms", whole_milliseconds(time)))
    }

    fn times(self, name: &str, base: Duration, cap: Duration) -> Self {
        self.set(name, format!("{}ms..{}ms", whole_milliseconds(base), whole_milliseconds(cap)))
    }

    /// Sets a number of 32 bits: one that is larger is as good as the largest.
    fn count(self, name: &str, value: u64) -> Self {
        self.set(name, value.min(u32::MAX.into()).to_string())
    }

    /// Sets a word. The WIT enums have their cases in the order of the list's words.
    fn word(self, name: &str, of: &dyn Words, place: u8) -> Self {
        self.set(name, of.words()[usize::from(place)])
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
    pub fn client_name(self, name: impl Into<String>) -> Self {
        self.set("client-name", name)
    }

    /// Whether each connection tells the client's name and version (CLIENT SETINFO). With `false`,
    /// and an empty [`client_name`](Self::client_name), neither SETNAME nor SETINFO is sent,
    /// for proxies that hang up on them. Default: true.
    pub fn library_info(self, tell: bool) -> Self {
        self.set("library-info", tell.to_string())
    }

    /// The database that SELECT chooses on each connection.
    pub fn database(mut self, database: u32) -> Self {
        self.database = Some(database);
        self
    }

    /// Whether the nodes are a cluster's, one server, or to be asked.
    pub fn mode(self, mode: Mode) -> Self {
        self.word("mode", &config::Mode::default(), mode as u8)
    }

    /// RESP2, RESP3, or what the server knows.
    pub fn resp_version(self, version: RespVersion) -> Self {
        self.word("resp-version", &config::RespVersion::default(), version as u8)
    }

    /// How long one connection may take to come up, and `connect` to learn the topology. Parts of a
    /// millisecond are rounded up.
    pub fn connect_timeout(self, timeout: Duration) -> Self {
        self.time("connect-timeout", timeout)
    }

    /// How long a request may take, with all its redirects and retries. Parts of a millisecond are
    /// rounded up. The time that a call waits for its turn is not counted.
    pub fn request_timeout(self, timeout: Duration) -> Self {
        self.time("request-timeout", timeout)
    }

    /// How long a node may be silent while answers are due, until it is taken for stalled. Not
    /// above the request time-out. Parts of a millisecond are rounded up.
    pub fn attempt_timeout(self, timeout: Duration) -> Self {
        self.time("attempt-timeout", timeout)
    }

    /// How many redirects one request follows.
    pub fn max_redirects(self, redirects: u32) -> Self {
        self.set("max-redirects", redirects.to_string())
    }

    /// How many times one request is sent again for other reasons than a redirect.
    pub fn max_retries(self, retries: u32) -> Self {
        self.set("max-retries", retries.to_string())
    }

    /// How long a request waits before it is sent again: about `base` the first time, doubled each
    /// time, `cap` at most. Parts of a millisecond are rounded up.
    pub fn retry_backoff(self, base: Duration, cap: Duration) -> Self {
        self.times("retry-backoff", base, cap)
    }

    /// Whether writes that may have been executed are sent again.
    pub fn retry_writes(self, retry: RetryWrites) -> Self {
        self.word("retry-writes", &config::RetryWrites::default(), retry as u8)
    }

    /// How long the client waits before it dials a node again that it could not connect to: at most
    /// `base` at first, doubled each time, `cap` at most. Parts of a millisecond are rounded
    /// up.
    pub fn reconnect_backoff(self, base: Duration, cap: Duration) -> Self {
        self.times("reconnect-backoff", base, cap)
    }

    /// How old the topology may be before the client asks for it again. Parts of a millisecond are
    /// rounded up.
    pub fn refresh_interval(self, interval: Duration) -> Self {
        self.time("refresh-interval", interval)
    }

    /// After how long without a byte a connection has to answer a PING before it is used again.
    /// Parts of a millisecond are rounded up.
    pub fn health_check(self, after: Duration) -> Self {
        self.time("health-check", after)
    }

    /// Whether commands that treat each key alone (MGET, DEL, MSET …) may have keys in several
    /// slots. They are then sent in parts, which is not atomic. Default: true.
    pub fn split_multi_key(self, split: bool) -> Self {
        self.set("split-multi-key", split.to_string())
    }

    /// Who serves commands that only read.
    pub fn replica_reads(self, strategy: ReplicaReads) -> Self {
        self.word("replica-reads", &config::ReplicaReads::default(), strategy as u8)
    }

    /// Where this client stands, for [`ReplicaReads::SameZone`].
    pub fn availability_zone(self, zone: impl Into<String>) -> Self {
        self.set("availability-zone", zone)
    }

    /// Sets a bound on the connections that [`Client::lend`](crate::Client::lend) gives.
    pub fn pool(self, setting: PoolSetting, value: u32) -> Self {
        match setting {
            PoolSetting::MaxConnections => self.set("pool-max-connections", value.to_string()),
            PoolSetting::MinIdle => self.set("pool-min-idle", value.to_string()),
            PoolSetting::IdleTimeoutMs => self.set("pool-idle-timeout", format!("{value}ms")),
            PoolSetting::MaxLifetimeMs => self.set("pool-max-lifetime", format!("{value}ms")),
            PoolSetting::CheckoutTimeoutMs => self.set("pool-checkout-timeout", format!("{value}ms")),
        }
    }

    /// The node that the servers call `announced` is reached at `actual`; each is `host` or
    /// `host:port`. May be called many times.
    pub fn map_address(self, announced: impl Into<String>, actual: impl Into<String>) -> Self {
        self.set("map-address", format!("{}={}", announced.into(), actual.into()))
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
    pub fn limit(self, limit: Limit, value: u64) -> Self {
        match limit {
            Limit::BulkLength => self.set("limit-bulk-length", value.to_string()),
            Limit::Depth => self.count("limit-depth", value),
            Limit::Elements => self.count("limit-elements", value),
            Limit::ReplySize => self.set("limit-reply-size", value.to_string()),
            Limit::WaitingRequests => self.count("limit-waiting-requests", value),
            Limit::WaitingBytes => self.set("limit-waiting-bytes", value.to_string()),
            Limit::ReceivedBytes => self.set("limit-received-bytes", value.to_string()),
            Limit::Connections => self.count("limit-connections", value),
        }
    }

    /// Whether bulk strings that are UTF-8 come as [`ReplyNode::Text`](crate::ReplyNode::Text).
    pub fn decode_responses(self, decode: bool) -> Self {
        self.set("decode-responses", decode.to_string())
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

    /// All settings as the component is going to have them; the defaults where it is going to
    /// refuse one.
    pub(crate) fn in_effect(&self) -> Config {
        let config = Seeds::parse(&self.urls).and_then(Seeds::into_config);
        let mut config = config.unwrap_or_else(|_| Config::new(Vec::new()));
        for (name, value) in &self.settings {
            // The component reports what is wrong.
            let _ = settings::set(&mut config, name, value);
        }
        config
    }

    /// Whether the setting of this name was set, here or by a URL.
    pub(crate) fn is_set(&self, name: &str) -> bool {
        let by_url =
            Seeds::parse(&self.urls).is_ok_and(|seeds| seeds.settings.iter().any(|(set, _)| *set == name));
        by_url || self.settings.iter().any(|(set, _)| set == name)
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
            .field("database", &self.database)
            .field("settings", &self.settings)
            .field("topology", &self.topology)
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
        let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
        // It may be a user and a password that somebody forgot to end.
        let is_doubtful = SeedUrl::parse(url).is_err();
        return if is_doubtful { format!("{scheme}://…") } else { url.to_owned() };
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
            "redis://app:hunter2",
            "e:7000",
        ])
        .password("hunter2");
        let shown = format!("{options:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
        for kept in ["10.0.0.1:6379/0", "redis://…@b", "@c", "@d", "e:7000"] {
            assert!(shown.contains(kept), "{kept} in {shown}");
        }
    }

    /// A value other than the default for each setting.
    const OTHERS: [(&str, &str); 32] = [
        ("client-name", "seven"),
        ("library-info", "false"),
        ("mode", "cluster"),
        ("resp-version", "3"),
        ("connect-timeout", "7s"),
        ("request-timeout", "1500ms"),
        ("attempt-timeout", "700ms"),
        ("max-redirects", "7"),
        ("max-retries", "8"),
        ("retry-backoff", "7ms..70ms"),
        ("retry-writes", "at-least-once"),
        ("reconnect-backoff", "8ms..80ms"),
        ("refresh-interval", "9s"),
        ("health-check", "11s"),
        ("split-multi-key", "false"),
        ("replica-reads", "same-zone"),
        ("availability-zone", "eu-1"),
        ("pool-max-connections", "12"),
        ("pool-min-idle", "2"),
        ("pool-idle-timeout", "13s"),
        ("pool-max-lifetime", "14s"),
        ("pool-checkout-timeout", "15s"),
        ("map-address", "a:1=b:2"),
        ("limit-bulk-length", "16kb"),
        ("limit-depth", "17"),
        ("limit-elements", "18"),
        ("limit-reply-size", "19kb"),
        ("limit-waiting-requests", "20"),
        ("limit-waiting-bytes", "21kb"),
        ("limit-received-bytes", "22kb"),
        ("limit-connections", "23"),
        ("decode-responses", "true"),
    ];

    /// The same as [`OTHERS`], by the functions.
    fn by_functions() -> Options {
        let (ms, seconds) = (Duration::from_millis, Duration::from_secs);
        Options::new(["h"])
            .client_name("seven")
            .library_info(false)
            .mode(Mode::Cluster)
            .resp_version(RespVersion::Resp3)
            .connect_timeout(seconds(7))
            .request_timeout(ms(1_500))
            .attempt_timeout(ms(700))
            .max_redirects(7)
            .max_retries(8)
            .retry_backoff(ms(7), ms(70))
            .retry_writes(RetryWrites::AtLeastOnce)
            .reconnect_backoff(ms(8), ms(80))
            .refresh_interval(seconds(9))
            .health_check(seconds(11))
            .split_multi_key(false)
            .replica_reads(ReplicaReads::SameZone)
            .availability_zone("eu-1")
            .pool(PoolSetting::MaxConnections, 12)
            .pool(PoolSetting::MinIdle, 2)
            .pool(PoolSetting::IdleTimeoutMs, 13_000)
            .pool(PoolSetting::MaxLifetimeMs, 14_000)
            .pool(PoolSetting::CheckoutTimeoutMs, 15_000)
            .map_address("a:1", "b:2")
            .limit(Limit::BulkLength, 16 << 10)
            .limit(Limit::Depth, 17)
            .limit(Limit::Elements, 18)
            .limit(Limit::ReplySize, 19 << 10)
            .limit(Limit::WaitingRequests, 20)
            .limit(Limit::WaitingBytes, 21 << 10)
            .limit(Limit::ReceivedBytes, 22 << 10)
            .limit(Limit::Connections, 23)
            .decode_responses(true)
    }

    #[test]
    fn functions_names_and_a_url_set_the_same() {
        let shown = |options: &Options| {
            let config = options.in_effect();
            let shown = settings::SETTINGS.iter().map(|setting| (setting.name, setting.show(&config)));
            shown.collect::<Vec<_>>()
        };
        let expected: Vec<_> = OTHERS.map(|(name, text)| (name, text.to_owned())).into();
        assert_eq!(shown(&by_functions()), expected);
        let by_names = OTHERS.iter().fold(Options::new(["h"]), |made, (name, text)| made.set(*name, *text));
        assert_eq!(shown(&by_names), expected);
        let parameters = OTHERS.map(|(name, text)| format!("{name}={text}")).join("&");
        assert_eq!(shown(&Options::new([format!("redis://h/?{parameters}")])), expected);
        // Each is another than the default, so that none is compared with itself.
        for ((name, default), (_, other)) in shown(&Options::new(["h"])).into_iter().zip(expected) {
            assert_ne!(default, other, "{name}");
        }
    }

    #[test]
    fn what_is_set_replaces_what_a_url_says() {
        let options = Options::new(["redis://h?request-timeout=1s"]).request_timeout(Duration::from_secs(2));
        assert_eq!(options.in_effect().request_timeout, Duration::from_secs(2));
        assert!(options.is_set("request-timeout") && !options.is_set("connect-timeout"));
        assert!(Options::new(["redis://h?limit-connections=9"]).is_set("limit-connections"));
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
