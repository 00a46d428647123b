//! The client's settings by their names: the one list of them.
//!
//! URLs, the component's `options`, the crate's builder and the command's flags all set a
//! [`Config`] through [`SETTINGS`]. A new setting is a field of `Config` with its default, and a
//! row here; `tests/settings.rs` names the surface that has not got it yet.
//!
//! | values | as text |
//! |---|---|
//! | time | `250ms`, `5s`, `1.5s`, `2m`, `1h`; a number alone is seconds |
//! | two times | `10ms..1s` |
//! | number | `16` |
//! | bytes | `4096`, `64kb`, `32mb`, `1gb` (1,024 each step, as in redis.conf) |
//! | switch | `true`, `false` (also `yes`, `no`) |
//! | word | one of a few |
//! | mapping | `announced=actual`; may be set many times |
//!
//! Three things are not in the list: user, password and database stand before and behind the host
//! in a URL, and a topology is no text.

mod value;

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

use crate::config::{Config, Words};
use crate::error::Quoted;

/// A setting: its name, what it is for, and where its value goes.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// As URLs and flags have it.
    pub name: &'static str,
    /// What it is for, in one sentence.
    pub about: &'static str,
    field: Field,
}

/// What values a setting takes, and the field that they go to.
#[derive(Clone, Copy, Debug)]
enum Field {
    Time(fn(&mut Config) -> &mut Duration),
    OptionalTime(fn(&mut Config) -> &mut Option<Duration>),
    Times(fn(&mut Config) -> (&mut Duration, &mut Duration)),
    Count(fn(&mut Config) -> &mut u32),
    Bytes(fn(&mut Config) -> &mut u64),
    Switch(fn(&mut Config) -> &mut bool),
    Name(fn(&mut Config) -> &mut Option<String>),
    Word(fn(&mut Config) -> &mut dyn Words),
    Mapping,
}

/// A value for a setting. A number or an index that is too large for its setting is taken for the
/// largest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// For a time.
    Time(Duration),
    /// For two times.
    Times(Duration, Duration),
    /// For a number or for bytes.
    Number(u64),
    /// For a switch.
    Switch(bool),
    /// For a name.
    Name(&'a str),
    /// For a word: its place among the words.
    Word(usize),
    /// For a mapping: announced, actual.
    Mapping(&'a str, &'a str),
}

const fn row(name: &'static str, field: Field, about: &'static str) -> Setting {
    Setting { name, about, field }
}

/// All settings.
pub const SETTINGS: &[Setting] = &[
    row(
        "client-name",
        Field::Name(|config| &mut config.client_name),
        "The name that connections are given (CLIENT SETNAME); empty for none",
    ),
    row(
        "library-info",
        Field::Switch(|config| &mut config.library_info),
        "Whether connections tell the client's name and version (CLIENT SETINFO)",
    ),
    row("mode", Field::Word(|config| &mut config.mode), "What the nodes are; auto asks them"),
    row(
        "resp-version",
        Field::Word(|config| &mut config.resp_version),
        "RESP2, RESP3, or RESP3 where the server knows it",
    ),
    row(
        "connect-timeout",
        Field::Time(|config| &mut config.connect_timeout),
        "How long connecting may take, and the client's start",
    ),
    row(
        "request-timeout",
        Field::Time(|config| &mut config.request_timeout),
        "How long a request may take, with all redirects and retries",
    ),
    row(
        "attempt-timeout",
        Field::OptionalTime(|config| &mut config.attempt_timeout),
        "How long a node may be silent while answers are due; half of request-timeout if not set",
    ),
    row(
        "max-redirects",
        Field::Count(|config| &mut config.max_redirects),
        "How many redirects one request follows",
    ),
    row(
        "max-retries",
        Field::Count(|config| &mut config.retry.attempts_max),
        "How many times one request is sent again for other reasons",
    ),
    row(
        "retry-backoff",
        Field::Times(|config| (&mut config.retry.base, &mut config.retry.cap)),
        "How long a request waits before it is sent again: first and longest wait",
    ),
    row(
        "retry-writes",
        Field::Word(|config| &mut config.retry.writes),
        "Whether writes that may have been executed are sent again",
    ),
    row(
        "reconnect-backoff",
        Field::Times(|config| (&mut config.retry.reconnect_base, &mut config.retry.reconnect_cap)),
        "How long a node waits before it is dialled again: first and longest wait",
    ),
    row(
        "refresh-interval",
        Field::Time(|config| &mut config.refresh_interval),
        "How old the topology may be before it is asked for again",
    ),
    row(
        "health-check",
        Field::Time(|config| &mut config.health_check_after),
        "After how long without an answer a connection has to answer a PING before it is used",
    ),
    row(
        "split-multi-key",
        Field::Switch(|config| &mut config.split_multi_key),
        "Whether commands such as MGET and DEL may have keys in several slots",
    ),
    row(
        "replica-reads",
        Field::Word(|config| &mut config.replica_reads),
        "Who serves commands that only read",
    ),
    row(
        "availability-zone",
        Field::Name(|config| &mut config.availability_zone),
        "Where this client stands, for replica-reads same-zone",
    ),
    row(
        "pool-max-connections",
        Field::Count(|config| &mut config.pool.connections_max),
        "How many connections of a node may be dedicated to one caller each",
    ),
    row(
        "pool-min-idle",
        Field::Count(|config| &mut config.pool.idle_min),
        "How many idle ones of these are kept open to each primary",
    ),
    row(
        "pool-idle-timeout",
        Field::Time(|config| &mut config.pool.idle_timeout),
        "How long one of these stays open without being used",
    ),
    row(
        "pool-max-lifetime",
        Field::Time(|config| &mut config.pool.lifetime_max),
        "How old a connection may become",
    ),
    row(
        "pool-checkout-timeout",
        Field::Time(|config| &mut config.pool.checkout_timeout),
        "How long a caller waits for a dedicated connection",
    ),
    row("map-address", Field::Mapping, "Where a node is reached that the servers call by another address"),
    row(
        "limit-bulk-length",
        Field::Bytes(|config| &mut config.limits.bulk_length),
        "The longest string in a reply",
    ),
    row("limit-depth", Field::Count(|config| &mut config.limits.depth), "How deep a reply may be nested"),
    row(
        "limit-elements",
        Field::Count(|config| &mut config.limits.elements),
        "How many nodes a reply may have",
    ),
    row("limit-reply-size", Field::Bytes(|config| &mut config.limits.reply_size), "The largest reply"),
    row(
        "limit-waiting-requests",
        Field::Count(|config| &mut config.waiting.requests),
        "How many requests may wait for nodes that are down",
    ),
    row(
        "limit-waiting-bytes",
        Field::Bytes(|config| &mut config.waiting.bytes),
        "How many bytes the commands of these may have together",
    ),
    row(
        "limit-received-bytes",
        Field::Bytes(|config| &mut config.received_bytes),
        "How many bytes replies may hold together until they are handed to the caller",
    ),
    row(
        "limit-connections",
        Field::Count(|config| &mut config.connections_max),
        "How many connections there may be at the same time",
    ),
    row(
        "decode-responses",
        Field::Switch(|config| &mut config.decode_responses),
        "Whether strings that are UTF-8 are returned as text",
    ),
];

/// The setting of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.name == name)
}

/// Sets the setting of this name to what the text says.
///
/// # Errors
/// One line that names the setting, and says what it takes.
pub fn set(config: &mut Config, name: &str, text: &str) -> Result<(), String> {
    find(name).ok_or_else(|| unknown(name))?.set(config, text)
}

/// Says that there is no such setting, and which one may have been meant.
#[must_use]
pub fn unknown(name: &str) -> String {
    let near = nearest(name).map_or_else(String::new, |near| format!("; there is {near}"));
    format!("there is no setting {}{near}", Quoted(name))
}

/// The setting whose name begins most like this one, if it is like it at all.
pub(crate) fn nearest(name: &str) -> Option<&'static str> {
    let alike = |other: &str| name.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
    let nearest = SETTINGS.iter().map(|setting| setting.name).max_by_key(|other| alike(other));
    nearest.filter(|other| alike(other) >= 4)
}

impl Setting {
    /// Whether it may be set many times, to something else each time.
    #[must_use]
    pub const fn is_repeatable(&self) -> bool {
        matches!(self.field, Field::Mapping)
    }

    /// The words that it takes, when it takes a few only.
    #[must_use]
    pub fn words(&self) -> &'static [&'static str] {
        match self.field {
            Field::Word(field) => field(&mut Config::new(Vec::new())).words(),
            Field::Switch(_) => &["true", "false"],
            _ => &[],
        }
    }

    /// What it takes, in words, to go after "takes": `a time such as 250ms, 5s or 2m`.
    #[must_use]
    pub fn takes(&self) -> String {
        match self.field {
            Field::Time(_) | Field::OptionalTime(_) => "a time such as 250ms, 5s or 2m".to_owned(),
            Field::Times(_) => "two times such as 10ms..1s".to_owned(),
            Field::Count(_) => "a number".to_owned(),
            Field::Bytes(_) => "a number of bytes such as 4096, 64kb or 32mb".to_owned(),
            Field::Name(_) => "printable ASCII without spaces".to_owned(),
            Field::Mapping => "announced=actual, each a host or host:port".to_owned(),
            Field::Switch(_) | Field::Word(_) => self.words().join(" or "),
        }
    }

    /// What stands for its value in a synopsis: `TIME`, `NUMBER`.
    #[must_use]
    pub const fn placeholder(&self) -> &'static str {
        match self.field {
            Field::Time(_) | Field::OptionalTime(_) => "TIME",
            Field::Times(_) => "TIME..TIME",
            Field::Count(_) => "NUMBER",
            Field::Bytes(_) => "BYTES",
            Field::Switch(_) => "SWITCH",
            Field::Name(_) => "NAME",
            Field::Word(_) => "WORD",
            Field::Mapping => "ANNOUNCED=ACTUAL",
        }
    }

    /// Sets it to what the text says.
    ///
    /// # Errors
    /// One line that names the setting, and says what it takes.
    pub fn set(&self, config: &mut Config, text: &str) -> Result<(), String> {
        let value = match self.field {
            Field::Time(_) | Field::OptionalTime(_) => value::time(text).map(Value::Time),
            Field::Times(_) => value::times(text).map(|(base, cap)| Value::Times(base, cap)),
            Field::Count(_) => value::count(text).map(Value::Number),
            Field::Bytes(_) => value::bytes(text).map(Value::Number),
            Field::Switch(_) => value::switch(text).map(Value::Switch),
            Field::Name(_) => Some(Value::Name(text)),
            Field::Word(_) => self.words().iter().position(|word| *word == text).map(Value::Word),
            Field::Mapping => {
                text.split_once('=').map(|(announced, actual)| Value::Mapping(announced, actual))
            }
        };
        self.put(config, value.ok_or_else(|| self.refusal(text))?)
    }

    /// Sets it to a value of its kind.
    ///
    /// # Errors
    /// As [`set`](Self::set), also for a value of another kind.
    pub fn put(&self, config: &mut Config, value: Value<'_>) -> Result<(), String> {
        match (self.field, value) {
            (Field::Time(field), Value::Time(time)) => *field(config) = time,
            (Field::OptionalTime(field), Value::Time(time)) => *field(config) = Some(time),
            (Field::Times(field), Value::Times(base, cap)) => {
                let (first, longest) = field(config);
                (*first, *longest) = (base, cap);
            }
            (Field::Count(field), Value::Number(number)) => {
                *field(config) = u32::try_from(number).unwrap_or(u32::MAX);
            }
            (Field::Bytes(field), Value::Number(number)) => *field(config) = number,
            (Field::Switch(field), Value::Switch(is_on)) => *field(config) = is_on,
            (Field::Name(field), Value::Name(name)) => {
                // CLIENT SETNAME takes these and no others; zones are compared as they are.
                if !name.bytes().all(|byte| byte.is_ascii_graphic()) {
                    return Err(self.refusal(name));
                }
                *field(config) = Some(name.to_string()).filter(|name| !name.is_empty());
            }
            (Field::Word(field), Value::Word(place)) => field(config).choose(place),
            (Field::Mapping, Value::Mapping(announced, actual)) => {
                let inserted = config.address_map.insert(announced, actual);
                return inserted.map_err(|why| format!("{}: {why}", self.name));
            }
            _ => return Err(format!("{} takes {}", self.name, self.takes())),
        }
        Ok(())
    }

    /// What it is set to, as [`set`](Self::set) takes it; empty when it is not set.
    #[must_use]
    pub fn show(&self, config: &Config) -> String {
        let config = &mut config.clone();
        match self.field {
            Field::Time(field) => value::show_time(*field(config)),
            Field::OptionalTime(field) => field(config).map(value::show_time).unwrap_or_default(),
            Field::Times(field) => {
                let (base, cap) = field(config);
                format!("{}..{}", value::show_time(*base), value::show_time(*cap))
            }
            Field::Count(field) => field(config).to_string(),
            Field::Bytes(field) => value::show_bytes(*field(config)),
            Field::Switch(field) => field(config).to_string(),
            Field::Name(field) => field(config).clone().unwrap_or_default(),
            Field::Word(field) => field(config).word().to_owned(),
            Field::Mapping => config.address_map.to_string(),
        }
    }

    fn refusal(&self, text: &str) -> String {
        format!("{} is {}; it takes {}", self.name, Quoted(text), self.takes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A value other than the default for each setting.
    fn other(setting: &Setting) -> String {
        match setting.field {
            Field::Time(_) | Field::OptionalTime(_) => "1234ms".to_owned(),
            Field::Times(_) => "7ms..70ms".to_owned(),
            Field::Count(_) => "7".to_owned(),
            Field::Bytes(_) => "7kb".to_owned(),
            Field::Name(_) => "seven".to_owned(),
            Field::Mapping => "a:1=b:2".to_owned(),
            Field::Switch(_) | Field::Word(_) => {
                let default = setting.show(&Config::new(Vec::new()));
                (*setting.words().iter().find(|word| **word != default).unwrap()).to_owned()
            }
        }
    }

    #[test]
    fn each_setting_is_set_and_shown_and_touches_no_other() {
        let default = Config::new(Vec::new());
        for setting in SETTINGS {
            let mut config = default.clone();
            let text = other(setting);
            setting.set(&mut config, &text).unwrap();
            for any in SETTINGS {
                let expected = if any.name == setting.name { text.clone() } else { any.show(&default) };
                assert_eq!(any.show(&config), expected, "{} after {}", any.name, setting.name);
            }
        }
    }

    #[test]
    fn names_are_words_and_stand_there_once() {
        for (at, setting) in SETTINGS.iter().enumerate() {
            assert!(setting.name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'));
            assert!(SETTINGS[..at].iter().all(|other| other.name != setting.name), "{}", setting.name);
            assert!(!setting.about.ends_with('.') && setting.about.len() <= 95, "{}", setting.about);
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let mut config = Config::new(Vec::new());
        for (name, text, part) in [
            ("request-timeout", "soon", "request-timeout is \"soon\"; it takes a time"),
            ("retry-backoff", "1s", "it takes two times"),
            ("mode", "Cluster", "it takes auto or cluster or standalone"),
            ("library-info", "maybe", "true or false"),
            ("max-retries", "-1", "it takes a number"),
            ("limit-bulk-length", "1tb", "64kb"),
            ("client-name", "a b", "without spaces"),
            ("map-address", "a", "announced=actual"),
            ("map-address", "a*=b", "map-address: \"a*\""),
            ("request-timeuot", "1s", "there is no setting \"request-timeuot\"; there is request-timeout"),
            ("zzz", "1s", "there is no setting \"zzz\""),
        ] {
            let error = set(&mut config, name, text).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
        let mode = find("mode").unwrap();
        assert!(mode.put(&mut config, Value::Number(1)).is_err());
    }
}
