//! The client's settings, with their defaults.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

use crate::address::{AddressMap, NodeAddr};
use crate::error::Within;
use crate::resp::Limits;
use crate::topology::Topology;

/// A choice of a few, each of which has a word for it.
pub trait Words {
    /// All words, in the order of the choices.
    fn words(&self) -> &'static [&'static str];
    /// The word of what is chosen.
    fn word(&self) -> &'static str;
    /// Chooses the one at this place; the last when there is none.
    fn choose(&mut self, place: usize);
}

/// Gives an enum's cases their words, in their order.
macro_rules! words {
    ($name:ident { $($case:ident = $word:literal),* $(,)? }) => {
        impl Words for $name {
            fn words(&self) -> &'static [&'static str] {
                &[$($word),*]
            }

            fn word(&self) -> &'static str {
                match self {
                    $(Self::$case => $word),*
                }
            }

            fn choose(&mut self, place: usize) {
                let cases = [$(Self::$case),*];
                if let Some(case) = cases.get(place).or(cases.last()) {
                    *self = *case;
                }
            }
        }
    };
}

words!(Mode { Auto = "auto", Cluster = "cluster", Standalone = "standalone" });
words!(RespVersion { Auto = "auto", Resp2 = "2", Resp3 = "3" });
words!(ReplicaReads {
    Primary = "primary",
    PreferReplica = "prefer-replica",
    RoundRobin = "round-robin",
    Random = "random",
    LowestLatency = "lowest-latency",
    SameZone = "same-zone",
});
words!(RetryWrites { Never = "never", AtLeastOnce = "at-least-once" });

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
pub enum RespVersion {
    /// RESP3 where the server knows HELLO, else RESP2.
    #[default]
    Auto,
    /// RESP2, without asking.
    Resp2,
    /// RESP3; a server that does not know it is an error.
    Resp3,
}

/// Which node of a shard serves commands that only read. Writes always go to the primary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReplicaReads {
    /// The primary.
    #[default]
    Primary,
    /// A replica chosen at random; the primary when there is none that can serve.
    PreferReplica,
    /// The replicas in turn; the primary when there is none that can serve.
    RoundRobin,
    /// Any node of the shard, chosen at random.
    Random,
    /// The node of the shard that has answered fastest of late.
    LowestLatency,
    /// A node in the client's availability zone, replicas first; then as `PreferReplica`.
    SameZone,
}

/// Whether writes that may have been executed are sent again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RetryWrites {
    /// Never: the caller is told that it may have been executed.
    #[default]
    Never,
    /// They are: a write is executed at least once, and perhaps twice.
    AtLeastOnce,
}

/// How often and how fast requests are sent again, and nodes dialled again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// How many times one request is sent again, redirects not counted.
    pub attempts_max: u32,
    /// The first wait before a request is sent again; it doubles with each.
    pub base: Duration,
    /// The longest wait before a request is sent again.
    pub cap: Duration,
    /// What happens to writes that may have been executed.
    pub writes: RetryWrites,
    /// The first wait before a node is dialled again; it doubles with each.
    pub reconnect_base: Duration,
    /// The longest wait before a node is dialled again.
    pub reconnect_cap: Duration,
}

/// The connections of a node that are lent for exclusive use, besides the one that all requests
/// share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// How many there are at most, lent or idle.
    pub connections_max: u32,
    /// How many idle ones are kept open to each primary.
    pub idle_min: u32,
    /// How long one stays open without being lent, those of `idle_min` apart.
    pub idle_timeout: Duration,
    /// How long one lives; it is closed when it is next idle. The shared connection is also
    /// replaced at that age, when nothing is under way on it.
    pub lifetime_max: Duration,
    /// How long a borrower waits for one.
    pub checkout_timeout: Duration,
}

/// What may wait at the same time for nodes that are down or unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitingLimits {
    /// How many requests.
    pub requests: u32,
    /// How many bytes their commands have together.
    pub bytes: u64,
}

/// More lent connections to a node than any server allows for by default (`maxclients`).
const CONNECTIONS_MAX: u32 = 10_000;

/// All settings of a client.
#[derive(Clone, Debug)]
pub struct Config {
    /// The nodes to ask first; at least one.
    pub seeds: Vec<NodeAddr>,
    /// What the seeds are.
    pub mode: Mode,
    /// RESP2 or RESP3.
    pub resp_version: RespVersion,
    /// The ACL user; `None` is the server's `default`.
    pub username: Option<String>,
    /// The password; `None` sends no AUTH.
    pub password: Option<String>,
    /// What CLIENT SETNAME is given; `None` sends none.
    pub client_name: Option<String>,
    /// Whether CLIENT SETINFO tells the library's name and version.
    pub library_info: bool,
    /// The database that SELECT chooses; only 0 exists in a cluster before Valkey 9.
    pub database: u32,
    /// How long a connection may take from dialling to the end of its handshake, and the client to
    /// its first topology.
    pub connect_timeout: Duration,
    /// How long a request may take, with all its redirects and retries.
    pub request_timeout: Duration,
    /// How long a node may be silent while answers are due; then the client takes it for stalled,
    /// and sends what only reads again. Pushes and drips are silence, too. `None`: half of
    /// `request_timeout`.
    pub attempt_timeout: Option<Duration>,
    /// How many redirects one request follows.
    pub max_redirects: u32,
    /// What is sent and dialled again.
    pub retry: Retry,
    /// The topology is asked for after so long at the latest, when the client is used.
    pub refresh_interval: Duration,
    /// After so long without an answer a connection has to answer a PING before it is used again.
    pub health_check_after: Duration,
    /// Whether commands such as MGET and DEL may have keys in several slots.
    pub split_multi_key: bool,
    /// Who serves reads.
    pub replica_reads: ReplicaReads,
    /// Where the client stands, for [`ReplicaReads::SameZone`].
    pub availability_zone: Option<String>,
    /// Lent connections.
    pub pool: Pool,
    /// Bounds on what waits for nodes that are down.
    pub waiting: WaitingLimits,
    /// How many connections are open or coming up at the same time, of all nodes together. When
    /// there are as many, one that nothing is under way on makes way for what requests wait
    /// for; what then still lacks one waits.
    ///
    /// 512 by default: a process has often 1,024 descriptors, of which other things need some.
    pub connections_max: u32,
    /// Where nodes are reached that announce other addresses.
    pub address_map: AddressMap,
    /// A topology to start from, without asking for one.
    pub topology: Option<Topology>,
    /// What the decoder accepts.
    pub limits: Limits,
    /// How many bytes replies may hold together, of all connections, from their first byte until
    /// the driver lets go of them. The connection that passes it is closed. Default: 384 MiB,
    /// so that they, and the largest reply's copy for the caller, fit into a component of 1
    /// GiB.
    pub received_bytes: u64,
    /// Whether the caller is given strings that are UTF-8 as text. The machine gives replies as
    /// they were sent; whoever takes them apart for the caller reads this.
    pub decode_responses: bool,
}

impl Config {
    /// The defaults, for these seeds.
    #[must_use]
    pub fn new(seeds: Vec<NodeAddr>) -> Self {
        Self {
            seeds,
            mode: Mode::Auto,
            resp_version: RespVersion::Auto,
            username: None,
            password: None,
            client_name: Some("keyslot".to_string()),
            library_info: true,
            database: 0,
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(5),
            attempt_timeout: None,
            max_redirects: 16,
            retry: Retry::default(),
            refresh_interval: Duration::from_secs(60),
            health_check_after: Duration::from_secs(15),
            split_multi_key: true,
            replica_reads: ReplicaReads::Primary,
            availability_zone: None,
            pool: Pool::default(),
            waiting: WaitingLimits::default(),
            connections_max: 512,
            address_map: AddressMap::default(),
            topology: None,
            limits: Limits::default(),
            received_bytes: 384 << 20,
            decode_responses: false,
        }
    }

    /// How long a node may be silent while answers are due.
    #[must_use]
    pub fn stall_after(&self) -> Duration {
        self.attempt_timeout.unwrap_or(self.request_timeout / 2)
    }

    /// Whether the settings can be used, and go together.
    ///
    /// # Errors
    /// Names the first setting that cannot, as [`SETTINGS`](crate::settings::SETTINGS) has it, and
    /// says what it would have to be.
    pub fn check(&self) -> Result<(), String> {
        if self.username.is_some() && self.password.is_none() {
            return Err("a user was given without a password; where there is only a password, a URL is \
                        redis://:password@host"
                .into());
        }
        let positive = [
            ("connect-timeout", self.connect_timeout),
            ("request-timeout", self.request_timeout),
            ("attempt-timeout", self.stall_after()),
            ("refresh-interval", self.refresh_interval),
            ("health-check", self.health_check_after),
            ("the base of retry-backoff", self.retry.base),
            ("the base of reconnect-backoff", self.retry.reconnect_base),
            ("pool-idle-timeout", self.pool.idle_timeout),
            ("pool-max-lifetime", self.pool.lifetime_max),
            ("pool-checkout-timeout", self.pool.checkout_timeout),
        ];
        if let Some((name, _)) = positive.iter().find(|(_, value)| value.is_zero()) {
            return Err(format!("{name} is 0; it is at least 1"));
        }
        let counts = [
            ("pool-max-connections", u64::from(self.pool.connections_max)),
            ("limit-connections", self.connections_max.into()),
            ("limit-waiting-requests", self.waiting.requests.into()),
            ("limit-waiting-bytes", self.waiting.bytes),
            ("limit-bulk-length", self.limits.bulk_length),
            ("limit-depth", self.limits.depth.into()),
            ("limit-elements", self.limits.elements.into()),
            ("limit-reply-size", self.limits.reply_size),
            ("limit-received-bytes", self.received_bytes),
        ];
        if let Some((name, _)) = counts.iter().find(|(_, value)| *value == 0) {
            return Err(format!("{name} is 0; it is at least 1"));
        }
        let ordered = [
            ("retry-backoff", "base", self.retry.base, "cap", self.retry.cap),
            ("reconnect-backoff", "base", self.retry.reconnect_base, "cap", self.retry.reconnect_cap),
        ];
        if let Some((name, low, least, high, most)) =
            ordered.iter().find(|(_, _, least, _, most)| least > most)
        {
            return Err(format!(
                "{name}: the {low} of {} is above the {high} of {}",
                Within(*least),
                Within(*most)
            ));
        }
        if self.stall_after() > self.request_timeout {
            return Err(format!(
                "attempt-timeout of {} is above the request-timeout of {}",
                Within(self.stall_after()),
                Within(self.request_timeout)
            ));
        }
        self.check_pool()?;
        if self.replica_reads == ReplicaReads::SameZone && self.availability_zone.is_none() {
            return Err("replica-reads same-zone needs availability-zone to be set".to_string());
        }
        Ok(())
    }

    fn check_pool(&self) -> Result<(), String> {
        let Pool { idle_min, connections_max, .. } = self.pool;
        if connections_max > CONNECTIONS_MAX {
            return Err(format!(
                "pool-max-connections is {connections_max}; it is at most {CONNECTIONS_MAX}"
            ));
        }
        if idle_min > connections_max {
            return Err(format!(
                "pool-min-idle of {idle_min} is above the pool-max-connections of {connections_max}"
            ));
        }
        Ok(())
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts_max: 100,
            base: Duration::from_millis(10),
            cap: Duration::from_secs(1),
            writes: RetryWrites::Never,
            reconnect_base: Duration::from_millis(20),
            reconnect_cap: Duration::from_millis(500),
        }
    }
}

impl Default for Pool {
    fn default() -> Self {
        Self {
            connections_max: 16,
            idle_min: 0,
            idle_timeout: Duration::from_secs(60),
            lifetime_max: Duration::from_secs(3600),
            checkout_timeout: Duration::from_secs(5),
        }
    }
}

impl Default for WaitingLimits {
    fn default() -> Self {
        Self { requests: 20_000, bytes: 32 << 20 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_do_not_go_together_are_named() {
        let wrong = |change: fn(&mut Config)| {
            let mut config = Config::new(Vec::new());
            assert_eq!(config.check(), Ok(()));
            change(&mut config);
            config.check().unwrap_err()
        };
        for (name, change) in [
            ("redis://:password@host", (|c| c.username = Some("word".into())) as fn(&mut Config)),
            ("request-timeout is 0", |c| c.request_timeout = Duration::ZERO),
            ("pool-max-connections is 0", |c| c.pool.connections_max = 0),
            ("min-idle of 17 is above", |c| c.pool.idle_min = 17),
            ("it is at most 10000", |c| c.pool.connections_max = 10_001),
            ("limit-connections is 0", |c| c.connections_max = 0),
            ("limit-waiting-bytes is 0", |c| c.waiting.bytes = 0),
            ("attempt-timeout of 6s is above", |c| c.attempt_timeout = Some(Duration::from_secs(6))),
            ("retry-backoff: the base of 2s is above", |c| c.retry.base = Duration::from_secs(2)),
            ("reconnect-backoff: the base", |c| c.retry.reconnect_cap = Duration::from_millis(1)),
            ("needs availability-zone", |c| c.replica_reads = ReplicaReads::SameZone),
        ] {
            let error = wrong(change);
            assert!(error.contains(name), "{error}");
        }
    }
}
