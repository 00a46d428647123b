//! RESP as the simulated servers speak it. Written on its own, so that a bug in the core's codec
//! does not meet the same bug here and pass.

/// A command as it arrived: its name and arguments.
pub(crate) type Words = Vec<Vec<u8>>;

/// Takes the first whole command off the buffer.
///
/// # Panics
/// When the bytes are no array of bulk strings: the client must not send anything else.
pub(crate) fn take_command(buffer: &mut Vec<u8>) -> Option<Words> {
    let mut at = 0;
    let count = take_header(buffer, &mut at, b'*')?;
    assert!(count > 0, "INVARIANT: a command has a name");
    let mut words = Vec::new();
    for _ in 0..count {
        let length = take_header(buffer, &mut at, b'$')?;
        let word = buffer.get(at..at + length)?;
        let end = buffer.get(at + length..at + length + 2)?;
        assert_eq!(end, b"\r\n", "INVARIANT: a bulk string ends in CRLF");
        words.push(word.to_vec());
        at += length + 2;
    }
    buffer.drain(..at);
    Some(words)
}

fn take_header(buffer: &[u8], at: &mut usize, marker: u8) -> Option<usize> {
    let rest = &buffer[*at..];
    let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
    assert_eq!(
        rest[0],
        marker,
        "INVARIANT: the client sends arrays of bulk strings, not {:?}",
        rest.escape_ascii()
    );
    let digits = std::str::from_utf8(&rest[1..end]).unwrap();
    *at += end + 2;
    Some(digits.parse().unwrap())
}

/// What a server answers.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    Simple(&'static str),
    Error(String),
    Bulk(Vec<u8>),
    /// Text for people: a verbatim string in RESP3, a bulk string in RESP2.
    Verbatim(String),
    Null,
    /// EXEC's, when a watched key has changed.
    NullArray,
    Integer(i64),
    Array(Vec<Answer>),
    Map(Vec<(&'static str, Answer)>),
}

impl Answer {
    pub(crate) const OK: Self = Self::Simple("OK");

    pub(crate) fn text(text: &str) -> Self {
        Self::Bulk(text.as_bytes().to_vec())
    }

    pub(crate) fn error(text: impl Into<String>) -> Self {
        Self::Error(text.into())
    }

    pub(crate) fn encode(&self, resp3: bool, out: &mut Vec<u8>) {
        match self {
            Self::Simple(text) => out.extend_from_slice(format!("+{text}\r\n").as_bytes()),
            Self::Error(text) => out.extend_from_slice(format!("-{text}\r\n").as_bytes()),
            Self::Integer(value) => out.extend_from_slice(format!(":{value}\r\n").as_bytes()),
            Self::Null => out.extend_from_slice(if resp3 { b"_\r\n" } else { b"$-1\r\n" }),
            Self::NullArray => out.extend_from_slice(if resp3 { b"_\r\n" } else { b"*-1\r\n" }),
            Self::Verbatim(text) if resp3 => {
                out.extend_from_slice(format!("={}\r\ntxt:{text}\r\n", text.len() + 4).as_bytes());
            }
            Self::Verbatim(text) => Self::text(text).encode(resp3, out),
            Self::Bulk(bytes) => {
                out.extend_from_slice(format!("${}\r\n", bytes.len()).as_bytes());
                out.extend_from_slice(bytes);
                out.extend_from_slice(b"\r\n");
            }
            Self::Array(items) => {
                out.extend_from_slice(format!("*{}\r\n", items.len()).as_bytes());
                items.iter().for_each(|item| item.encode(resp3, out));
            }
            Self::Map(entries) => {
                let header = if resp3 {
                    format!("%{}\r\n", entries.len())
                } else {
                    format!("*{}\r\n", entries.len() * 2)
                };
                out.extend_from_slice(header.as_bytes());
                for (key, value) in entries {
                    Self::text(key).encode(resp3, out);
                    value.encode(resp3, out);
                }
            }
        }
    }
}

/// What a server says without being asked (RESP3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Push {
    /// A key has changed.
    Invalidated,
    /// All keys have: the server was flushed.
    Flushed,
    /// Five hundred keys have changed.
    ManyInvalidated,
    /// A message of a channel.
    Message,
}

impl Push {
    pub(crate) const ALL: [Self; 4] =
        [Self::Invalidated, Self::Flushed, Self::ManyInvalidated, Self::Message];

    pub(crate) fn bytes(self) -> Vec<u8> {
        match self {
            Self::Invalidated => b">2\r\n$10\r\ninvalidate\r\n*1\r\n$6\r\n{t1}:x\r\n".to_vec(),
            Self::Flushed => b">2\r\n$10\r\ninvalidate\r\n_\r\n".to_vec(),
            Self::ManyInvalidated => {
                let keys = b"$6\r\n{t1}:x\r\n".repeat(500);
                [b">2\r\n$10\r\ninvalidate\r\n*500\r\n".to_vec(), keys].concat()
            }
            Self::Message => b">3\r\n+message\r\n+channel\r\n$2\r\n\r\n\r\n".to_vec(),
        }
    }
}

/// Bytes that no reply begins with: whoever reads them knows at once that the connection is of no
/// more use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Garbage {
    Http,
    HugeString,
    DeepArrays,
    NegativeString,
    NegativeArray,
    HugeArray,
    NoNumber,
    StringWithoutEnd,
    NumberOutOfRange,
    NoType,
}

impl Garbage {
    pub(crate) const ALL: [Self; 10] = [
        Self::Http,
        Self::HugeString,
        Self::DeepArrays,
        Self::NegativeString,
        Self::NegativeArray,
        Self::HugeArray,
        Self::NoNumber,
        Self::StringWithoutEnd,
        Self::NumberOutOfRange,
        Self::NoType,
    ];

    pub(crate) fn bytes(self) -> Vec<u8> {
        match self {
            Self::Http => b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
            Self::HugeString => b"$99999999999999\r\n".to_vec(),
            Self::DeepArrays => b"*1\r\n".repeat(100_000),
            Self::NegativeString => b"$-2\r\n".to_vec(),
            Self::NegativeArray => b"*-7\r\n".to_vec(),
            Self::HugeArray => b"*2147483647\r\n".to_vec(),
            Self::NoNumber => b":12x4\r\n".to_vec(),
            Self::StringWithoutEnd => b"$3\r\nabcdef\r\n".to_vec(),
            Self::NumberOutOfRange => b"$99999999999999999999999999999999\r\n".to_vec(),
            Self::NoType => vec![0xFF; 300],
        }
    }
}
