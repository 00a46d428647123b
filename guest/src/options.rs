//! The exported `options`.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cell::RefCell;
use core::time::Duration;

use keyslot_core::config::Config;
use keyslot_core::error::Error;
use keyslot_core::settings::{self, Value};
use keyslot_core::url::Seeds;

use crate::bindings::exports::keyslot::redis::redis_cluster::{
    GuestOptions, Limit, Mode, PoolSetting, ReplicaReads, RespVersion, RetryWrites, Shard,
};
use crate::convert;

/// Settings as they were given; `validate` checks them together.
pub(crate) struct Options(RefCell<Given>);

struct Given {
    config: Config,
    tls: bool,
    /// What is wrong with the first setting that is wrong in itself.
    mistake: Option<String>,
}

impl Options {
    /// The settings that one URL says.
    pub(crate) fn of_url(url: String) -> Self {
        Self::new(Vec::from([url]))
    }

    /// Checks all settings together.
    pub(crate) fn validate(&self) -> Result<Config, Error> {
        let given = self.0.borrow();
        if let Some(mistake) = &given.mistake {
            return Err(Error::InvalidArgument(mistake.clone()));
        }
        if given.tls {
            return Err(Error::Tls(
                "this build of the component has no TLS: use redis:// or valkey:// URLs".to_string(),
            ));
        }
        given.config.check().map_err(Error::InvalidArgument)?;
        Ok(given.config.clone())
    }

    fn change(&self, change: impl FnOnce(&mut Config) -> Result<(), String>) {
        let mut given = self.0.borrow_mut();
        if let Err(mistake) = change(&mut given.config) {
            given.mistake.get_or_insert(mistake);
        }
    }

    /// Gives the setting of this name a value.
    fn put(&self, name: &str, value: Value<'_>) {
        self.change(|config| {
            settings::find(name).ok_or_else(|| settings::unknown(name)).and_then(|row| row.put(config, value))
        });
    }

    fn put_times(&self, name: &str, base: u32, cap: u32) {
        self.put(name, Value::Times(milliseconds(base), milliseconds(cap)));
    }
}

fn milliseconds(count: u32) -> Duration {
    Duration::from_millis(count.into())
}

/// Setters of one value: the function, what it takes, its setting, and the value of that.
macro_rules! setters {
    ($($function:ident($value:ident: $type:ty) => $name:literal, $made:expr;)*) => {
        $(fn $function(&self, $value: $type) {
            self.put($name, $made);
        })*
    };
}

impl GuestOptions for Options {
    fn new(urls: Vec<String>) -> Self {
        let seeds = Seeds::parse(&urls);
        let tls = seeds.as_ref().is_ok_and(|seeds| seeds.tls);
        let (config, mistake) = match seeds.and_then(Seeds::into_config) {
            Ok(config) => (config, None),
            Err(mistake) => (Config::new(Vec::new()), Some(mistake)),
        };
        Self(RefCell::new(Given { config, tls, mistake }))
    }

    fn set(&self, name: String, value: String) {
        self.change(|config| settings::set(config, &name, &value));
    }

    fn set_username(&self, username: String) {
        self.0.borrow_mut().config.username = Some(username);
    }

    fn set_password(&self, password: String) {
        self.0.borrow_mut().config.password = Some(password);
    }

    fn set_database(&self, database: u32) {
        self.0.borrow_mut().config.database = database;
    }

    setters! {
        set_client_name(name: String) => "client-name", Value::Name(&name);
        set_library_info(tell: bool) => "library-info", Value::Switch(tell);
        set_mode(mode: Mode) => "mode", Value::Word(mode as usize);
        set_resp_version(version: RespVersion) => "resp-version", Value::Word(version as usize);
        set_connect_timeout_ms(ms: u32) => "connect-timeout", Value::Time(milliseconds(ms));
        set_request_timeout_ms(ms: u32) => "request-timeout", Value::Time(milliseconds(ms));
        set_attempt_timeout_ms(ms: u32) => "attempt-timeout", Value::Time(milliseconds(ms));
        set_max_redirects(count: u32) => "max-redirects", Value::Number(count.into());
        set_max_retries(count: u32) => "max-retries", Value::Number(count.into());
        set_retry_writes(retry: RetryWrites) => "retry-writes", Value::Word(retry as usize);
        set_refresh_interval_ms(ms: u32) => "refresh-interval", Value::Time(milliseconds(ms));
        set_health_check_ms(ms: u32) => "health-check", Value::Time(milliseconds(ms));
        set_split_multi_key(split: bool) => "split-multi-key", Value::Switch(split);
        set_replica_reads(reads: ReplicaReads) => "replica-reads", Value::Word(reads as usize);
        set_availability_zone(zone: String) => "availability-zone", Value::Name(&zone);
        set_decode_responses(decode: bool) => "decode-responses", Value::Switch(decode);
    }

    fn set_retry_backoff_ms(&self, base: u32, cap: u32) {
        self.put_times("retry-backoff", base, cap);
    }

    fn set_reconnect_backoff_ms(&self, base: u32, cap: u32) {
        self.put_times("reconnect-backoff", base, cap);
    }

    fn set_pool(&self, setting: PoolSetting, value: u32) {
        let time = Value::Time(milliseconds(value));
        match setting {
            PoolSetting::MaxConnections => self.put("pool-max-connections", Value::Number(value.into())),
            PoolSetting::MinIdle => self.put("pool-min-idle", Value::Number(value.into())),
            PoolSetting::IdleTimeoutMs => self.put("pool-idle-timeout", time),
            PoolSetting::MaxLifetimeMs => self.put("pool-max-lifetime", time),
            PoolSetting::CheckoutTimeoutMs => self.put("pool-checkout-timeout", time),
        }
    }

    fn map_address(&self, announced: String, actual: String) {
        self.put("map-address", Value::Mapping(&announced, &actual));
    }

    fn set_topology(&self, shards: Vec<Shard>) {
        self.change(|config| {
            let topology = convert::topology(shards).map_err(|why| alloc::format!("set-topology: {why}"))?;
            config.topology = Some(topology);
            Ok(())
        });
    }

    fn set_limit(&self, limit: Limit, value: u64) {
        let name = match limit {
            Limit::BulkLength => "limit-bulk-length",
            Limit::Depth => "limit-depth",
            Limit::Elements => "limit-elements",
            Limit::ReplySize => "limit-reply-size",
            Limit::WaitingRequests => "limit-waiting-requests",
            Limit::WaitingBytes => "limit-waiting-bytes",
            Limit::ReceivedBytes => "limit-received-bytes",
            Limit::Connections => "limit-connections",
        };
        self.put(name, Value::Number(value));
    }
}
