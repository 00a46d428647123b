//! The type bytes, and what the line behind each of them is.

/// What a type byte begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Marker {
    SimpleString,
    Error,
    Integer,
    Null,
    Boolean,
    Double,
    BigNumber,
    /// A length, then as many bytes.
    Blob(Blob),
    /// A count, then as many nodes.
    Aggregate(Aggregate),
    /// The end of a streamed aggregate.
    End,
}

/// What has a length and a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blob {
    String,
    Error,
    Verbatim,
    /// A part of a streamed string.
    Chunk,
}

/// What has a count and children.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aggregate {
    Array,
    Set,
    Map,
    Push,
    Attribute,
}

impl Marker {
    pub(super) fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            b'+' => Self::SimpleString,
            b'-' => Self::Error,
            b':' => Self::Integer,
            b'_' => Self::Null,
            b'#' => Self::Boolean,
            b',' => Self::Double,
            b'(' => Self::BigNumber,
            b'$' => Self::Blob(Blob::String),
            b'!' => Self::Blob(Blob::Error),
            b'=' => Self::Blob(Blob::Verbatim),
            b';' => Self::Blob(Blob::Chunk),
            b'*' => Self::Aggregate(Aggregate::Array),
            b'~' => Self::Aggregate(Aggregate::Set),
            b'%' => Self::Aggregate(Aggregate::Map),
            b'>' => Self::Aggregate(Aggregate::Push),
            b'|' => Self::Aggregate(Aggregate::Attribute),
            b'.' => Self::End,
            _ => return None,
        })
    }

    /// Whether it adds a node to the reply.
    pub(super) fn is_node(self) -> bool {
        !matches!(self, Self::Blob(Blob::Chunk) | Self::End)
    }
}

impl Blob {
    /// What its line is, for an error message.
    pub(super) fn length_name(self) -> &'static str {
        match self {
            Self::String => "bulk string length",
            Self::Error => "bulk error length",
            Self::Verbatim => "verbatim string length",
            Self::Chunk => "string chunk length",
        }
    }
}

impl Aggregate {
    /// What its line is, for an error message.
    pub(super) fn count_name(self) -> &'static str {
        match self {
            Self::Array => "array count",
            Self::Set => "set count",
            Self::Map => "map count",
            Self::Push => "push count",
            Self::Attribute => "attribute count",
        }
    }

    /// How many nodes one entry has.
    pub(super) fn nodes_per_entry(self) -> u32 {
        match self {
            Self::Array | Self::Set | Self::Push => 1,
            Self::Map | Self::Attribute => 2,
        }
    }
}
