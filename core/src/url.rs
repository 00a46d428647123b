//! What configures a client, in one string:
//! `redis://user:password@host1:port,host2:port/database?request-timeout=2s&replica-reads=same-zone`.
//!
//! ```text
//!   redis://app:secret@10.0.0.1:7000,10.0.0.2:7000/0?request-timeout=2s&resp-version=3
//!   └scheme┘└─userinfo─┘└─────────hosts──────────┘└database┘└───────parameters──────┘
//! ```
//!
//! The parameters are the settings of [`SETTINGS`](crate::settings::SETTINGS). User, password and
//! values are percent-decoded.
//!
//! Source of the schemes: the IANA registrations of `redis` and `rediss`; `valkey` and `valkeys`,
//! which Valkey's clients take, mean the same. Their case does not matter (RFC 3986, section 3.1).
//! Errors quote the part that is wrong, and never anything that may hold a password.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::Ipv6Addr;

use crate::address::{HOST_LENGTH_MAX, NodeAddr, is_in_users_name, is_users_host};
use crate::config::Config;
use crate::error::Quoted;
use crate::settings;

/// The port when a URL names none.
const DEFAULT_PORT: u16 = 6379;

/// What one URL says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeedUrl {
    /// The nodes; at least one.
    pub addresses: Vec<NodeAddr>,
    /// `rediss://` or `valkeys://`.
    pub tls: bool,
    /// The user, percent-decoded; `None` when it is not given or empty.
    pub username: Option<String>,
    /// The password, percent-decoded; empty where a user and a colon stand before nothing.
    pub password: Option<String>,
    /// The database after the slash.
    pub database: Option<u32>,
    /// The parameters, name and percent-decoded value, in their order. Each is a setting that there
    /// is, and stands there once unless it may be repeated.
    pub settings: Vec<(&'static str, String)>,
}

impl SeedUrl {
    /// Reads a URL; bare hosts, `host` or `host:port`, are taken as `redis://`.
    ///
    /// # Errors
    /// One line that quotes the wrong part.
    pub fn parse(url: &str) -> Result<Self, String> {
        let (tls, rest) = match url.split_once("://") {
            Some((scheme, rest)) => (is_tls(scheme)?, rest),
            None => (false, url),
        };
        // A password may hold anything but what ends the authority; the last @ ends it.
        let (userinfo, rest) = match rest.rsplit_once('@') {
            Some((userinfo, rest)) => (Some(userinfo), rest),
            None => (None, rest),
        };
        if userinfo.is_some_and(has_parameter) {
            return Err("an \"@\" in a parameter of a URL is written %40".to_owned());
        }
        // Without an @ the rest may be a user and a password that somebody forgot to end.
        let may_be_secret = userinfo.is_none() && rest.contains(':');
        if rest.contains('#') {
            return Err("unexpected \"#\" in a URL".to_owned());
        }
        let (rest, parameters) = match rest.split_once('?') {
            Some((rest, query)) => (rest, parameters(query, may_be_secret)?),
            None => (rest, Vec::new()),
        };
        let (hosts, database) = match rest.split_once('/') {
            Some((hosts, "")) => (hosts, None),
            Some((hosts, database)) => {
                let number = database.parse().map_err(|_| match may_be_secret {
                    true => "what follows the slash in a URL is no database number".to_owned(),
                    false => format!("\"{database}\" is no database number"),
                })?;
                (hosts, Some(number))
            }
            None => (rest, None),
        };
        let (username, password) = match userinfo {
            None => (None, None),
            Some(userinfo) => match userinfo.split_once(':') {
                Some((username, password)) => (Some(username), Some(password)),
                None => (Some(userinfo), None),
            },
        };
        let decoded = |part: Option<&str>| match part.map(percent_decode) {
            // It may be a password, so it is not quoted.
            Some(None) => Err("the user or the password in a URL has a malformed %-escape".to_owned()),
            decoded => Ok(decoded.flatten()),
        };
        let username = username.filter(|username| !username.is_empty());
        let password = password.filter(|password| username.is_some() || !password.is_empty());
        Ok(Self {
            addresses: hosts.split(',').map(|host| address(host, may_be_secret)).collect::<Result<_, _>>()?,
            tls,
            username: decoded(username)?,
            password: decoded(password)?,
            database,
            settings: parameters,
        })
    }
}

/// What several URLs of one cluster say together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seeds {
    /// The nodes, each once.
    pub addresses: Vec<NodeAddr>,
    /// Whether they are `rediss://` or `valkeys://`.
    pub tls: bool,
    /// The user of those that have one.
    pub username: Option<String>,
    /// The password of those that have one.
    pub password: Option<String>,
    /// The database of those that have one.
    pub database: Option<u32>,
    /// The settings of those that have some.
    pub settings: Vec<(&'static str, String)>,
}

impl Seeds {
    /// Reads several URLs.
    ///
    /// # Errors
    /// One line: there is none, one is wrong, or two contradict each other.
    pub fn parse<S: AsRef<str>>(urls: &[S]) -> Result<Self, String> {
        let mut urls = urls.iter().map(|url| SeedUrl::parse(url.as_ref()));
        let Some(first) = urls.next() else {
            return Err("no URL was given: name at least one node".to_owned());
        };
        let SeedUrl { addresses, tls, username, password, database, settings } = first?;
        let mut seeds = Self { addresses: Vec::new(), tls, username, password, database, settings };
        seeds.add(addresses);
        for url in urls {
            let url = url?;
            if url.tls != seeds.tls {
                return Err("some URLs are redis:// and some rediss:// (with TLS): the nodes of one cluster are one or the other".to_owned());
            }
            agree(&mut seeds.username, url.username, "users")?;
            agree(&mut seeds.password, url.password, "passwords")?;
            agree(&mut seeds.database, url.database, "databases")?;
            seeds.add(url.addresses);
            for (name, value) in url.settings {
                seeds.add_setting(name, value)?;
            }
        }
        Ok(seeds)
    }

    /// The settings of a client for these: the defaults, and what the URLs say.
    ///
    /// # Errors
    /// One line that names a setting, and says what it takes.
    pub fn into_config(self) -> Result<Config, String> {
        let mut config = Config::new(self.addresses);
        config.username = self.username;
        config.password = self.password;
        config.database = self.database.unwrap_or(0);
        for (name, value) in &self.settings {
            settings::set(&mut config, name, value)?;
        }
        Ok(config)
    }

    fn add(&mut self, addresses: Vec<NodeAddr>) {
        for address in addresses {
            if !self.addresses.contains(&address) {
                self.addresses.push(address);
            }
        }
    }

    /// Adds a setting that another URL may have, too.
    fn add_setting(&mut self, name: &'static str, value: String) -> Result<(), String> {
        let is_repeatable = settings::find(name).is_some_and(settings::Setting::is_repeatable);
        let mut known = self.settings.iter().filter(|(other, _)| *other == name);
        if known.clone().any(|(_, other)| *other == value) {
            return Ok(());
        }
        if !is_repeatable && known.next().is_some() {
            return Err(format!("the URLs say different things of {name}"));
        }
        self.settings.push((name, value));
        Ok(())
    }
}

/// Whether what stands before an @ goes on to a setting, so that the @ is a part of its value.
fn has_parameter(before: &str) -> bool {
    let parameters = before.split_once('?').into_iter().flat_map(|(_, query)| query.split('&'));
    let mut names = parameters.filter_map(|parameter| Some(parameter.split_once('=')?.0));
    names.any(|name| settings::find(name).is_some())
}

/// Reads `name=value&name=value`. `may_be_secret`: what is no setting is quoted only where it is
/// much like one.
fn parameters(query: &str, may_be_secret: bool) -> Result<Vec<(&'static str, String)>, String> {
    let mut known: Vec<(&'static str, String)> = Vec::new();
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let Some(setting) = settings::find(name) else {
            return Err(match may_be_secret && settings::nearest(name).is_none() {
                true => "what follows the \"?\" in a URL is no setting (a user and a password end with @)"
                    .to_owned(),
                false => settings::unknown(name),
            });
        };
        if name.len() == parameter.len() {
            return Err(format!("{name} has no value in a URL: it takes {}", setting.takes()));
        }
        if !setting.is_repeatable() && known.iter().any(|(other, _)| *other == name) {
            return Err(format!("{name} stands twice in a URL"));
        }
        let value = percent_decode(value)
            .ok_or_else(|| format!("{name} has a malformed %-escape in {}", Quoted(value)))?;
        known.push((setting.name, value));
    }
    Ok(known)
}

/// Whether a URL with this scheme is about a server with TLS.
fn is_tls(scheme: &str) -> Result<bool, String> {
    let schemes = [("redis", false), ("rediss", true), ("valkey", false), ("valkeys", true)];
    let known = schemes.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(scheme));
    known.map(|(_, tls)| tls).ok_or_else(|| {
        format!("unknown scheme \"{scheme}\" in a URL: it is redis:// or valkey://, with TLS rediss:// or valkeys://")
    })
}

/// Keeps what was said first; an error when another says otherwise.
fn agree<T: PartialEq>(known: &mut Option<T>, said: Option<T>, what: &str) -> Result<(), String> {
    match (known.as_ref(), said) {
        (Some(known), Some(said)) if *known != said => Err(format!("the URLs name different {what}")),
        (None, said) => {
            *known = said;
            Ok(())
        }
        _ => Ok(()),
    }
}

/// `host`, `host:port`, `[::1]:port` or a bare IPv6 address. `may_be_secret`: a port that is no
/// number is not quoted.
fn address(authority: &str, may_be_secret: bool) -> Result<NodeAddr, String> {
    let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
        let (host, after) =
            rest.split_once(']').ok_or_else(|| format!("no \"]\" ends the host in \"{authority}\""))?;
        if host.parse::<Ipv6Addr>().is_err() {
            return Err(format!("\"{host}\" is no IPv6 address"));
        }
        match after.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None if after.is_empty() => (host, None),
            None => return Err(format!("unexpected \"{after}\" after the host in \"{authority}\"")),
        }
    } else if authority.parse::<Ipv6Addr>().is_ok() {
        (authority, None)
    } else {
        match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        }
    };
    if host.is_empty() {
        return Err(
            "the host is missing in a URL: it is redis://[[user]:password@]host[:port][/database]".to_owned()
        );
    }
    if !is_users_host(host) {
        return Err(match host.chars().find(|&c| !is_in_users_name(c)) {
            Some(wrong) => {
                format!("\"{}\" cannot be part of the host \"{}\"", wrong.escape_debug(), host.escape_debug())
            }
            None => format!("the host in a URL is longer than {HOST_LENGTH_MAX} bytes"),
        });
    }
    let port = match port {
        None => DEFAULT_PORT,
        Some(port) => port
            .parse()
            .ok()
            .filter(|port| *port != 0)
            .ok_or_else(|| match may_be_secret && !port.bytes().all(|byte| byte.is_ascii_digit()) {
                true => format!(
                    "the port after \"{host}\" is no number from 1 to 65535 (a user and a password end with @)"
                ),
                false => format!("\"{port}\" is no port: it is a number from 1 to 65535"),
            })?,
    };
    Ok(NodeAddr::new(host, port))
}

/// Undoes `%2F` and the like. `None`: an escape is none, or what it says is no UTF-8.
fn percent_decode(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let mut digit = || bytes.next().and_then(|digit| char::from(digit).to_digit(16));
        let (high, low) = digit().zip(digit())?;
        decoded.push(u8::try_from(high * 16 + low).ok()?);
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn urls_say_what_they_say() {
        let full = SeedUrl::parse("rediss://us%20er:p%40ss:w@redis.example:7000/3").unwrap();
        assert_eq!(full.addresses, [NodeAddr::new("redis.example", 7000)]);
        assert_eq!(full.username.as_deref(), Some("us er"));
        assert_eq!(full.password.as_deref(), Some("p@ss:w"));
        assert_eq!((full.tls, full.database), (true, Some(3)));
        for (url, address) in [
            ("redis://a", "a:6379"),
            ("redis://a/", "a:6379"),
            ("a", "a:6379"),
            ("127.0.0.1:7000", "127.0.0.1:7000"),
            ("redis://[::1]:7000", "[::1]:7000"),
            ("::1", "[::1]:6379"),
            ("redis_1.example.:1", "redis_1.example.:1"),
            ("b\u{fc}cher.example", "b\u{fc}cher.example:6379"),
            ("redis://:secret@a:1", "a:1"),
        ] {
            assert_eq!(SeedUrl::parse(url).unwrap().addresses[0].to_string(), address, "{url}");
        }
        assert_eq!(SeedUrl::parse("redis://:secret@a").unwrap().username, None);
    }

    /// A host of 260 bytes.
    const LONG_HOST: &str = match str::from_utf8(&[b'a'; 260]) {
        Ok(host) => host,
        Err(_) => "",
    };

    #[test]
    fn schemes_are_known_in_any_case() {
        for (url, tls) in [
            ("valkey://a", false),
            ("valkeys://a", true),
            ("Redis://a", false),
            ("REDISS://a", true),
            ("ValKeys://a", true),
        ] {
            assert_eq!(SeedUrl::parse(url).map(|seed| seed.tls), Ok(tls), "{url}");
        }
        let wrong = SeedUrl::parse("redisss://a").unwrap_err();
        assert!(wrong.contains("\"redisss\"") && wrong.contains("valkeys://"), "{wrong}");
    }

    #[test]
    fn a_password_may_be_empty_and_not_given() {
        for (url, username, password) in [
            ("redis://user:@a", Some("user"), Some("")),
            ("redis://user@a", Some("user"), None),
            ("redis://:@a", None, None),
            ("redis://@a", None, None),
            ("redis://a", None, None),
        ] {
            let seed = SeedUrl::parse(url).unwrap();
            assert_eq!((seed.username.as_deref(), seed.password.as_deref()), (username, password), "{url}");
        }
    }

    #[test]
    fn errors_quote_what_is_wrong_and_no_password() {
        for (url, part) in [
            ("http://a", "http"),
            ("redis://", "host is missing"),
            ("redis://:7000", "host is missing"),
            ("redis://a:", "\"\" is no port"),
            ("redis://user:secret", "the port after \"user\""),
            ("redis://:secret", "host is missing"),
            ("redis://user:1/secret", "what follows the slash"),
            ("redis://user:1?secret", "no setting"),
            ("redis://user:1?secret=1", "no setting"),
            ("redis://:secret?x", "no setting"),
            ("redis://u:secret@h?client-name=a@b", "%40"),
            ("redis://h?mode=auto&client-name=a@b", "%40"),
            ("redis://a#secret", "\"#\""),
            ("redis://a,,b", "host is missing"),
            ("redis://a?request-timeout", "request-timeout has no value in a URL: it takes a time"),
            ("redis://a?mode=auto&mode=auto", "mode stands twice"),
            ("redis://h:7000?request-timout=1s", "\"request-timout\"; there is request-timeout"),
            ("redis://a?client-name=%zz", "client-name has a malformed %-escape in \"%zz\""),
            ("redis://u:p@a:x", "\"x\""),
            ("redis://a:70000", "70000"),
            ("redis://a/x", "\"x\""),
            ("redis://[::1", "[::1"),
            ("redis://[zz]:1", "zz"),
            ("redis://[::1]x", "\"x\""),
            ("redis://a b", "\" \""),
            ("redis://a*b", "\"*\""),
            ("redis://a\x1b[2J", "\"\\u{1b}\""),
            (LONG_HOST, "longer than 253 bytes"),
            ("redis://a?db=1", "there is no setting \"db\""),
            ("redis://u:secret%zz@a", "%-escape"),
            ("redis://u:secret@a:0", "\"0\""),
        ] {
            let error = SeedUrl::parse(url).unwrap_err();
            assert!(error.contains(part), "{url}: {error}");
            assert!(!error.contains("secret"), "{url}: {error}");
        }
    }

    #[test]
    fn several_urls_must_agree() {
        let seeds = Seeds::parse(&["redis://u:p@a", "b:1", "redis://a"]).unwrap();
        assert_eq!(seeds.addresses, [NodeAddr::new("a", 6379), NodeAddr::new("b", 1)]);
        assert_eq!(seeds.password.as_deref(), Some("p"));
        assert!(Seeds::parse::<&str>(&[]).unwrap_err().contains("no URL"));
        assert!(Seeds::parse(&["redis://:p@a", "redis://:q@b"]).unwrap_err().contains("different passwords"));
        assert!(Seeds::parse(&["redis://a", "rediss://b"]).unwrap_err().contains("rediss://"));
    }

    #[test]
    fn one_string_configures_a_client() {
        let url = "redis://app:p%26q@h1:7000,h2:7001,[::1]/3?request-timeout=2s&resp-version=3\
                   &replica-reads=same-zone&availability-zone=eu%2D1&map-address=a:1=b:2&map-address=c=d";
        let config = Seeds::parse(&[url]).unwrap().into_config().unwrap();
        let seeds: Vec<_> = config.seeds.iter().map(NodeAddr::to_string).collect();
        assert_eq!(seeds, ["h1:7000", "h2:7001", "[::1]:6379"]);
        assert_eq!((config.username.as_deref(), config.password.as_deref()), (Some("app"), Some("p&q")));
        let show = |name| settings::find(name).unwrap().show(&config);
        assert_eq!((config.database, &*show("request-timeout"), &*show("resp-version")), (3, "2s", "3"));
        assert_eq!(show("availability-zone"), "eu-1");
        assert_eq!(show("map-address"), "a:1=b:2,c=d");
        assert_eq!(config.check(), Ok(()));
        let wrong = Seeds::parse(&["redis://a?mode=x"]).unwrap().into_config().unwrap_err();
        assert!(wrong.contains("mode is \"x\""), "{wrong}");
    }

    #[test]
    fn several_urls_may_say_the_same_and_nothing_else() {
        let same = Seeds::parse(&["redis://a,b?mode=cluster", "redis://b:6379?mode=cluster", "c"]).unwrap();
        assert_eq!((same.addresses.len(), same.settings.len()), (3, 1));
        let other = Seeds::parse(&["redis://a?mode=cluster", "redis://b?mode=auto"]).unwrap_err();
        assert!(other.contains("different things of mode"), "{other}");
    }
}
