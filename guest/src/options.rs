//! The exported `options`.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cell::RefCell;
use core::time::Duration;

use keyslot_core::config::{self, Config};
use keyslot_core::error::Error;
use keyslot_core::resp::Limits;
use keyslot_core::url::Seeds;

use crate::bindings::exports::keyslot::redis::redis_cluster::{GuestOptions, Limit, Mode, Protocol};

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
    /// The first setting that was out of range.
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
            return Err(Error::Tls("this build of the component has no TLS: use redis:// URLs".to_string()));
        }
        let mut config = given.config.clone();
        config.seeds = seeds.addresses;
        config.username = given.username.clone().or(seeds.username);
        config.password = given.password.clone().or(seeds.password);
        config.database = given.database.or(seeds.database).unwrap_or(0);
        if config.username.is_some() && config.password.is_none() {
            return Err(Error::InvalidArgument("a user was given without a password".to_string()));
        }
        Ok(Valid { config, decode_responses: given.decode_responses })
    }

    fn set(&self, change: impl FnOnce(&mut Given)) {
        change(&mut self.0.borrow_mut());
    }

    /// As `set`, for a value that has to be at least one.
    fn set_positive(&self, name: &str, value: u64, change: impl FnOnce(&mut Given)) {
        self.set(|given| {
            if value == 0 {
                given.mistake.get_or_insert_with(|| format!("{name} is 0; it is at least 1"));
            } else {
                change(given);
            }
        });
    }
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
        self.set(|given| match name.chars().find(|c| !c.is_ascii_graphic()) {
            // CLIENT SETNAME takes these and no others.
            Some(wrong) => {
                let mistake = format!("client-name holds {wrong:?}: it takes printable ASCII without spaces");
                given.mistake.get_or_insert(mistake);
            }
            None => given.config.client_name = Some(name).filter(|name| !name.is_empty()),
        });
    }

    fn set_database(&self, database: u32) {
        self.set(|given| given.database = Some(database));
    }

    fn set_mode(&self, mode: Mode) {
        self.set(|given| {
            given.config.mode = match mode {
                Mode::Auto => config::Mode::Auto,
                Mode::Cluster => config::Mode::Cluster,
                Mode::Standalone => config::Mode::Standalone,
            };
        });
    }

    fn set_protocol(&self, protocol: Protocol) {
        self.set(|given| {
            given.config.protocol = match protocol {
                Protocol::Auto => config::Protocol::Auto,
                Protocol::Resp2 => config::Protocol::Resp2,
                Protocol::Resp3 => config::Protocol::Resp3,
            };
        });
    }

    fn set_connect_timeout_ms(&self, milliseconds: u32) {
        self.set_positive("connect-timeout-ms", milliseconds.into(), |given| {
            given.config.connect_timeout = Duration::from_millis(milliseconds.into());
        });
    }

    fn set_request_timeout_ms(&self, milliseconds: u32) {
        self.set_positive("request-timeout-ms", milliseconds.into(), |given| {
            given.config.request_timeout = Duration::from_millis(milliseconds.into());
        });
    }

    fn set_max_redirects(&self, redirects: u32) {
        self.set(|given| given.config.max_redirects = redirects);
    }

    fn set_limit(&self, limit: Limit, value: u64) {
        let name = match limit {
            Limit::BulkLength => "limit bulk-length",
            Limit::Depth => "limit depth",
            Limit::Elements => "limit elements",
            Limit::ReplySize => "limit reply-size",
        };
        self.set_positive(name, value, |given| apply_limit(&mut given.config.limits, limit, value));
    }

    fn set_decode_responses(&self, decode: bool) {
        self.set(|given| given.decode_responses = decode);
    }
}

fn apply_limit(limits: &mut Limits, limit: Limit, value: u64) {
    let count = u32::try_from(value).unwrap_or(u32::MAX);
    match limit {
        Limit::BulkLength => limits.bulk_length = value,
        Limit::Depth => limits.depth = count,
        Limit::Elements => limits.elements = count,
        Limit::ReplySize => limits.reply_size = value,
    }
}
