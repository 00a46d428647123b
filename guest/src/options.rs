//! The exported `options`.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cell::RefCell;
use core::time::Duration;

use keyslot_core::config::{self, Config};
use keyslot_core::error::{Error, Quoted};
use keyslot_core::url::Seeds;

use crate::bindings::exports::keyslot::redis::redis_cluster::{
    GuestOptions, Limit, Mode, PoolSetting, Protocol, ReplicaReads, RetryWrites, Shard,
};
use crate::convert;

/// Settings as they were given; `validate` makes them a [`Config`].
pub(crate) struct Options(RefCell<Given>);

struct Given {
    urls: Vec<String>,
    username: Option<String>,
    password: Option<String>,
    database: Option<u32>,
    /// Everything else has a default to start from.
    config: Config,
    decode_responses: bool,
    /// What is wrong with the first setting that cannot be a part of a [`Config`].
    mistake: Option<String>,
}

/// Settings that a client can be made of.
pub(crate) struct Valid {
    pub(crate) config: Config,
    pub(crate) decode_responses: bool,
}

impl Options {
    /// Checks all settings together.
    pub(crate) fn validate(&self) -> Result<Valid, Error> {
        let given = self.0.borrow();
        if let Some(mistake) = &given.mistake {
            return Err(Error::InvalidArgument(mistake.clone()));
        }
        let seeds = Seeds::parse(&given.urls).map_err(Error::InvalidArgument)?;
        if seeds.tls {
            return Err(Error::Tls(
                "this build of the component has no TLS: use redis:// or valkey:// URLs".to_string(),
            ));
        }
        let mut config = given.config.clone();
        config.seeds = seeds.addresses;
        config.username = given.username.clone().or(seeds.username);
        config.password = given.password.clone().or(seeds.password);
        config.database = given.database.or(seeds.database).unwrap_or(0);
        config.check().map_err(Error::InvalidArgument)?;
        Ok(Valid { config, decode_responses: given.decode_responses })
    }

    fn set(&self, change: impl FnOnce(&mut Given)) {
        change(&mut self.0.borrow_mut());
    }

    fn set_config(&self, change: impl FnOnce(&mut Config)) {
        change(&mut self.0.borrow_mut().config);
    }

    /// As `set`, for what may be wrong in itself.
    fn try_set(&self, change: impl FnOnce(&mut Config) -> Result<(), String>) {
        self.set(|given| {
            if let Err(mistake) = change(&mut given.config) {
                given.mistake.get_or_insert(mistake);
            }
        });
    }
}

fn milliseconds(count: u32) -> Duration {
    Duration::from_millis(count.into())
}

impl GuestOptions for Options {
    fn new(urls: Vec<String>) -> Self {
        Self(RefCell::new(Given {
            urls,
            username: None,
            password: None,
            database: None,
            config: Config::new(Vec::new()),
            decode_responses: false,
            mistake: None,
        }))
    }

    fn set_username(&self, username: String) {
        self.set(|given| given.username = Some(username));
    }

    fn set_password(&self, password: String) {
        self.set(|given| given.password = Some(password));
    }

    fn set_client_name(&self, name: String) {
        self.try_set(|config| match name.chars().find(|c| !c.is_ascii_graphic()) {
            // CLIENT SETNAME takes these and no others.
            Some(wrong) => {
                let wrong = Quoted(wrong.encode_utf8(&mut [0; 4])).to_string();
                Err(format!("client-name holds {wrong}: it takes printable ASCII without spaces"))
            }
            None => {
                config.client_name = Some(name).filter(|name| !name.is_empty());
                Ok(())
            }
        });
    }

    fn set_library_info(&self, tell: bool) {
        self.set_config(|config| config.library_info = tell);
    }

    fn set_database(&self, database: u32) {
        self.set(|given| given.database = Some(database));
    }

    fn set_mode(&self, mode: Mode) {
        self.set_config(|config| {
            config.mode = match mode {
                Mode::Auto => config::Mode::Auto,
                Mode::Cluster => config::Mode::Cluster,
                Mode::Standalone => config::Mode::Standalone,
            };
        });
    }

    fn set_protocol(&self, protocol: Protocol) {
        self.set_config(|config| {
            config.protocol = match protocol {
                Protocol::Auto => config::Protocol::Auto,
                Protocol::Resp2 => config::Protocol::Resp2,
                Protocol::Resp3 => config::Protocol::Resp3,
            };
        });
    }

    fn set_connect_timeout_ms(&self, count: u32) {
        self.set_config(|config| config.connect_timeout = milliseconds(count));
    }

    fn set_request_timeout_ms(&self, count: u32) {
        self.set_config(|config| config.request_timeout = milliseconds(count));
    }

    fn set_attempt_timeout_ms(&self, count: u32) {
        self.set_config(|config| config.attempt_timeout = Some(milliseconds(count)));
    }

    fn set_max_redirects(&self, redirects: u32) {
        self.set_config(|config| config.max_redirects = redirects);
    }

    fn set_max_retries(&self, retries: u32) {
        self.set_config(|config| config.retry.attempts_max = retries);
    }

    fn set_retry_backoff_ms(&self, base: u32, cap: u32) {
        self.set_config(|config| {
            (config.retry.base, config.retry.cap) = (milliseconds(base), milliseconds(cap));
        });
    }

    fn set_retry_writes(&self, retry: RetryWrites) {
        self.set_config(|config| {
            config.retry.writes = match retry {
                RetryWrites::Never => config::RetryWrites::Never,
                RetryWrites::AtLeastOnce => config::RetryWrites::AtLeastOnce,
            };
        });
    }

    fn set_reconnect_backoff_ms(&self, base: u32, cap: u32) {
        self.set_config(|config| {
            config.retry.reconnect_base = milliseconds(base);
            config.retry.reconnect_cap = milliseconds(cap);
        });
    }

    fn set_refresh_interval_ms(&self, count: u32) {
        self.set_config(|config| config.refresh_interval = milliseconds(count));
    }

    fn set_health_check_ms(&self, count: u32) {
        self.set_config(|config| config.health_check_after = milliseconds(count));
    }

    fn set_split_multi_key(&self, split: bool) {
        self.set_config(|config| config.split_multi_key = split);
    }

    fn set_replica_reads(&self, strategy: ReplicaReads) {
        self.set_config(|config| {
            config.replica_reads = match strategy {
                ReplicaReads::Primary => config::ReplicaReads::Primary,
                ReplicaReads::PreferReplica => config::ReplicaReads::PreferReplica,
                ReplicaReads::RoundRobin => config::ReplicaReads::RoundRobin,
                ReplicaReads::Random => config::ReplicaReads::Random,
                ReplicaReads::LowestLatency => config::ReplicaReads::LowestLatency,
                ReplicaReads::SameZone => config::ReplicaReads::SameZone,
            };
        });
    }

    fn set_availability_zone(&self, zone: String) {
        self.set_config(|config| config.availability_zone = Some(zone).filter(|zone| !zone.is_empty()));
    }

    fn set_pool(&self, setting: PoolSetting, value: u32) {
        self.set_config(|config| {
            let pool = &mut config.pool;
            match setting {
                PoolSetting::MaxConnections => pool.connections_max = value,
                PoolSetting::MinIdle => pool.idle_min = value,
                PoolSetting::IdleTimeoutMs => pool.idle_timeout = milliseconds(value),
                PoolSetting::MaxLifetimeMs => pool.lifetime_max = milliseconds(value),
                PoolSetting::CheckoutTimeoutMs => pool.checkout_timeout = milliseconds(value),
            }
        });
    }

    fn map_address(&self, announced: String, actual: String) {
        self.try_set(|config| {
            config.address_map.insert(&announced, &actual).map_err(|why| format!("map-address: {why}"))
        });
    }

    fn set_topology(&self, shards: Vec<Shard>) {
        self.try_set(|config| {
            let topology = convert::topology(shards).map_err(|why| format!("set-topology: {why}"))?;
            config.topology = Some(topology);
            Ok(())
        });
    }

    fn set_limit(&self, limit: Limit, value: u64) {
        let count = u32::try_from(value).unwrap_or(u32::MAX);
        self.set_config(|config| match limit {
            Limit::BulkLength => config.limits.bulk_length = value,
            Limit::Depth => config.limits.depth = count,
            Limit::Elements => config.limits.elements = count,
            Limit::ReplySize => config.limits.reply_size = value,
            Limit::WaitingRequests => config.waiting.requests = count,
            Limit::WaitingBytes => config.waiting.bytes = value,
            Limit::ReceivedBytes => config.received_bytes = value,
            Limit::Connections => config.connections_max = count,
        });
    }

    fn set_decode_responses(&self, decode: bool) {
        self.set(|given| given.decode_responses = decode);
    }
}
