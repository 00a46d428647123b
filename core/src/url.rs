//! Addresses as users write them: `redis://user:password@host:port/database`.
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

/// The port when a URL names none.
const DEFAULT_PORT: u16 = 6379;

/// What one URL says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeedUrl {
    /// The node.
    pub address: NodeAddr,
    /// `rediss://` or `valkeys://`.
    pub tls: bool,
    /// The user, percent-decoded; `None` when it is not given or empty.
    pub username: Option<String>,
    /// The password, percent-decoded; empty where a user and a colon stand before nothing.
    pub password: Option<String>,
    /// The database after the slash.
    pub database: Option<u32>,
}

impl SeedUrl {
    /// Reads a URL; a bare `host` or `host:port` is taken as `redis://`.
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
        if let Some(mark) = rest.chars().find(|c| matches!(c, '?' | '#')) {
            return Err(format!("unexpected \"{mark}\" in a URL: settings are options, not part of the URL"));
        }
        // Without an @ the rest may be a user and a password that somebody forgot to end.
        let may_be_secret = userinfo.is_none() && rest.contains(':');
        let (authority, database) = match rest.split_once('/') {
            Some((authority, "")) => (authority, None),
            Some((authority, database)) => {
                let number = database.parse().map_err(|_| match may_be_secret {
                    true => "what follows the slash in a URL is no database number".to_owned(),
                    false => format!("\"{database}\" is no database number"),
                })?;
                (authority, Some(number))
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
        let decoded = |part: Option<&str>| part.map(percent_decode).transpose();
        let username = username.filter(|username| !username.is_empty());
        let password = password.filter(|password| username.is_some() || !password.is_empty());
        Ok(Self {
            address: address(authority, may_be_secret)?,
            tls,
            username: decoded(username)?,
            password: decoded(password)?,
            database,
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
}

impl Seeds {
    /// Reads several URLs.
    ///
    /// # Errors
    /// One line: there is none, one is wrong, or two contradict each other.
    pub fn parse<S: AsRef<str>>(urls: &[S]) -> Result<Self, String> {
        let mut parsed = Vec::with_capacity(urls.len());
        for url in urls {
            parsed.push(SeedUrl::parse(url.as_ref())?);
        }
        let Some(first) = parsed.first() else {
            return Err("no URL was given: name at least one node".to_owned());
        };
        let mut seeds =
            Self { addresses: Vec::new(), tls: first.tls, username: None, password: None, database: None };
        for url in parsed {
            if url.tls != seeds.tls {
                return Err("some URLs are redis:// and some rediss:// (with TLS): the nodes of one cluster are one or the other".to_owned());
            }
            agree(&mut seeds.username, url.username, "users")?;
            agree(&mut seeds.password, url.password, "passwords")?;
            agree(&mut seeds.database, url.database, "databases")?;
            if !seeds.addresses.contains(&url.address) {
                seeds.addresses.push(url.address);
            }
        }
        Ok(seeds)
    }
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

/// Undoes `%2F` and the like. The error does not quote: it may be a password.
fn percent_decode(text: &str) -> Result<String, String> {
    let malformed = || "the user or the password in a URL has a malformed %-escape".to_owned();
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let mut digit = || bytes.next().and_then(|digit| char::from(digit).to_digit(16));
        let (high, low) = digit().zip(digit()).ok_or_else(malformed)?;
        decoded.push(u8::try_from(high * 16 + low).map_err(|_| malformed())?);
    }
    String::from_utf8(decoded).map_err(|_| malformed())
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn urls_say_what_they_say() {
        let full = SeedUrl::parse("rediss://us%20er:p%40ss:w@redis.example:7000/3").unwrap();
        assert_eq!(full.address, NodeAddr::new("redis.example", 7000));
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
            assert_eq!(SeedUrl::parse(url).unwrap().address.to_string(), address, "{url}");
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
            ("redis://user:1?secret", "\"?\""),
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
            ("redis://a?db=1", "\"?\""),
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
}
