//! Replies as they were sent.
//!
//! Most replies go through the client unread: it has to know where they end and whether they are
//! errors. So they stay the bytes that the decoder has checked, and whoever wants to read one walks
//! through its [`Token`]s.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::str;

use bytes::Bytes;

use super::Held;
use super::NODE_COST;
use super::double::parse_double;
use super::reply::{Reply, ReplyNode};
use crate::error::ServerError;

/// One whole reply as it was sent, valid RESP. Attributes may stand before its root.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RawReply {
    bytes: Bytes,
    nodes: u32,
    /// Counts the bytes among all that is received, if they do not do so themselves.
    held: Held,
}

impl RawReply {
    /// The bytes of a reply that are valid, and how many nodes it has.
    pub(crate) fn new(bytes: Bytes, nodes: u32) -> Self {
        Self::counted(bytes, nodes, Held::default())
    }

    /// The same, of bytes that are counted.
    pub(crate) fn counted(bytes: Bytes, nodes: u32, held: Held) -> Self {
        Self { bytes, nodes, held }
    }

    /// A part of it, which is valid as well, and how many nodes that has.
    pub(crate) fn part(&self, bytes: &[u8], nodes: u32) -> Self {
        Self::counted(self.bytes.slice_ref(bytes), nodes, self.held.clone())
    }

    /// No value, in a form that RESP2 and RESP3 have.
    pub(crate) fn null() -> Self {
        Self::new(Bytes::from_static(b"*-1\r\n"), 1)
    }

    /// An array without elements.
    pub(crate) fn empty_array() -> Self {
        Self::new(Bytes::from_static(b"*0\r\n"), 1)
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The bytes as a list of their own. Those of a reply that came in several chunks are handed
    /// over, not copied, if nobody else has them.
    #[must_use]
    pub fn into_vec(self) -> Vec<u8> {
        self.bytes.into()
    }

    /// How many nodes it has.
    #[must_use]
    pub fn node_count(&self) -> u32 {
        self.nodes
    }

    /// What it counts in [`Limits::reply_size`](super::Limits::reply_size).
    #[must_use]
    pub fn size(&self) -> u64 {
        self.bytes.len() as u64 + u64::from(self.nodes) * NODE_COST
    }

    /// Its nodes in pre-order, attributes included.
    pub fn items(&self) -> impl Iterator<Item = Item<'_>> {
        items(&self.bytes)
    }

    /// The reply, with strings that share the memory of this one.
    #[must_use]
    pub fn decode(&self) -> Reply {
        let mut nodes = Vec::with_capacity(self.nodes as usize);
        let shared = |text: &[u8]| self.bytes.slice_ref(text);
        nodes.extend(self.items().map(|item| match item {
            Item::Null => ReplyNode::Null,
            Item::Boolean(value) => ReplyNode::Boolean(value),
            Item::Integer(value) => ReplyNode::Integer(value),
            Item::Double(value) => ReplyNode::Double(value),
            Item::BigNumber(digits) => ReplyNode::BigNumber(digits.into()),
            Item::SimpleString(text) => ReplyNode::SimpleString(shared(text)),
            Item::BulkString(text) => ReplyNode::BulkString(shared(text)),
            Item::StreamedString(text) => ReplyNode::BulkString(text.into()),
            Item::Verbatim { format, text } => ReplyNode::Verbatim { format, text: shared(text) },
            Item::Error(error) => ReplyNode::Error(error),
            Item::Array(count) => ReplyNode::Array(count),
            Item::Set(count) => ReplyNode::Set(count),
            Item::Map(count) => ReplyNode::Map(count),
            Item::Push(count) => ReplyNode::Push(count),
            Item::Attribute(count) => ReplyNode::Attribute(count),
        }));
        Reply { nodes }
    }

    /// The error, if the root is one. Errors deeper in the reply, as EXEC has them, are no failure
    /// of the whole.
    #[must_use]
    pub fn as_error(&self) -> Option<ServerError> {
        self.error_text().map(ServerError::whole)
    }

    /// The same with as much of its text as the client keeps: a KiB, then a mark and its length.
    #[must_use]
    pub fn as_kept_error(&self) -> Option<ServerError> {
        self.error_text().map(ServerError::kept)
    }

    fn error_text(&self) -> Option<&[u8]> {
        // Nothing else can be one, and most are neither.
        if !matches!(self.bytes.first(), Some(b'-' | b'!' | b'|')) {
            return None;
        }
        match self.root()? {
            Token { marker: b'-', line, .. } => Some(line),
            Token { marker: b'!', payload, .. } => Some(payload),
            _ => None,
        }
    }

    /// The root, behind its attributes.
    #[must_use]
    pub fn root(&self) -> Option<Token<'_>> {
        from_root(&self.bytes).next()
    }

    /// The children of the root, each with its attributes and all that is below it, as they were
    /// sent.
    pub fn children(&self) -> impl Iterator<Item = &[u8]> {
        let mut tokens = from_root(&self.bytes);
        let is_aggregate = tokens.next().is_some_and(|root| root.child_count() != Some(0));
        core::iter::from_fn(move || {
            if !is_aggregate || matches!(tokens.rest.first(), None | Some(b'.')) {
                return None;
            }
            let before = tokens.rest;
            skip(&mut tokens);
            before.get(..before.len() - tokens.rest.len())
        })
    }

    /// Its tokens, from the root on.
    #[must_use]
    pub fn tokens(&self) -> Tokens<'_> {
        from_root(&self.bytes)
    }
}

/// One line of a reply, with the payload behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token<'a> {
    /// The type byte.
    pub marker: u8,
    /// What stands on the line behind it.
    pub line: &'a [u8],
    /// What follows the line, where that is the length of something.
    pub payload: &'a [u8],
    /// All of it, with both line ends.
    pub bytes: &'a [u8],
}

impl<'a> Token<'a> {
    /// How many tokens' subtrees follow that are its children; `None` where `.` ends them. An
    /// attribute's are those of the attribute.
    fn child_count(&self) -> Option<u64> {
        match self.marker {
            b'*' | b'~' | b'>' | b'%' | b'|' => match self.line {
                b"?" => None,
                line => {
                    // Null arrays have -1.
                    let count = parse_integer(line).max(0).unsigned_abs();
                    Some(if matches!(self.marker, b'%' | b'|') { count * 2 } else { count })
                }
            },
            _ => Some(0),
        }
    }

    /// The value of an integer.
    #[must_use]
    pub fn as_integer(&self) -> Option<i64> {
        (self.marker == b':').then(|| parse_integer(self.line))
    }

    /// What it is called in an error.
    pub(crate) fn kind(&self) -> String {
        const SHOWN: usize = 32;

        let line = self.line.get(..SHOWN).unwrap_or(self.line).escape_ascii();
        match self.marker {
            _ if self.is_null() => String::from("null"),
            b'*' => format!("an array of {line}"),
            b'~' => format!("a set of {line}"),
            b'%' => format!("a map of {line}"),
            b':' => format!("the integer {line}"),
            b'+' | b'$' | b'=' => String::from("a string"),
            b'-' => format!("the error {}", ServerError::kept(self.line)),
            _ => String::from("another type"),
        }
    }

    /// Whether it is null in any form.
    #[must_use]
    pub fn is_null(&self) -> bool {
        self.marker == b'_' || (matches!(self.marker, b'$' | b'*') && parse_integer(self.line) < 0)
    }
}

/// The tokens of valid RESP.
#[derive(Clone, Debug)]
pub struct Tokens<'a> {
    rest: &'a [u8],
}

impl<'a> Tokens<'a> {
    /// Those of these bytes.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What is still to come.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    #[inline]
    fn next(&mut self) -> Option<Token<'a>> {
        let (&marker, after) = self.rest.split_first()?;
        let end = after.iter().position(|byte| *byte == b'\r')?;
        let line = after.get(..end)?;
        // The line's length with its type byte and its end.
        let mut length = end + 3;
        let mut payload: &[u8] = &[];
        if matches!(marker, b'$' | b'!' | b'=' | b';')
            && let Some(size @ 0..) = (line != b"?").then(|| parse_integer(line))
            && !(marker == b';' && size == 0)
        {
            let size = usize::try_from(size).ok()?;
            payload = self.rest.get(length..length.checked_add(size)?)?;
            length += size + 2;
        }
        let bytes = self.rest.get(..length)?;
        self.rest = self.rest.get(length..)?;
        Some(Token { marker, line, payload, bytes })
    }
}

/// Passes over a node with its attributes and all that is below it.
fn skip(tokens: &mut Tokens<'_>) {
    // The aggregates that the next token is in: how many children are to come, none until `.`
    // comes, and whether it is an attribute, which is followed by what it describes.
    let mut open: Vec<(Option<u64>, bool)> = Vec::new();
    while let Some(token) = tokens.next() {
        let is_attribute = token.marker == b'|';
        match token.child_count() {
            _ if token.marker == b'.' => {
                if open.pop().is_some_and(|(_, is_attribute)| is_attribute) {
                    continue;
                }
            }
            Some(0) if is_attribute => continue,
            Some(0) if token.marker == b'$' && token.line == b"?" => {
                while tokens.next().is_some_and(|chunk| !chunk.payload.is_empty()) {}
            }
            Some(0) => {}
            count => {
                open.push((count, is_attribute));
                continue;
            }
        }
        // A node has ended, and perhaps those around it.
        loop {
            match open.last_mut() {
                None => return,
                Some((None, _)) => break,
                Some((Some(left), is_attribute)) => {
                    *left -= 1;
                    let is_attribute = *is_attribute;
                    if *left > 0 {
                        break;
                    }
                    open.pop();
                    if is_attribute {
                        break;
                    }
                }
            }
        }
    }
}

/// Passes over the children of the aggregate whose token was just read. Gives how many there are.
fn skip_children(tokens: &mut Tokens<'_>, count: Option<u64>) -> u64 {
    let mut passed = 0;
    while count.is_none_or(|count| passed < count) && !matches!(tokens.rest.first(), None | Some(b'.')) {
        skip(tokens);
        passed += 1;
    }
    if count.is_none() {
        tokens.next();
    }
    passed
}

/// The tokens from the root on, behind its attributes.
fn from_root(bytes: &[u8]) -> Tokens<'_> {
    let mut tokens = Tokens::new(bytes);
    while tokens.rest.first() == Some(&b'|') {
        let count = tokens.next().and_then(|attribute| attribute.child_count());
        skip_children(&mut tokens, count);
    }
    tokens
}

/// One node, with text that lies in the reply's bytes.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "they are the cases of `ReplyNode`")]
pub enum Item<'a> {
    Null,
    Boolean(bool),
    Integer(i64),
    Double(f64),
    BigNumber(&'a str),
    SimpleString(&'a [u8]),
    BulkString(&'a [u8]),
    /// A bulk string that came in pieces.
    StreamedString(Vec<u8>),
    Verbatim {
        format: [u8; 3],
        text: &'a [u8],
    },
    Error(ServerError),
    Array(u32),
    Set(u32),
    Map(u32),
    Push(u32),
    Attribute(u32),
}

/// The nodes of valid RESP, in pre-order.
pub fn items(bytes: &[u8]) -> impl Iterator<Item = Item<'_>> {
    let mut tokens = Tokens::new(bytes);
    core::iter::from_fn(move || {
        let mut token = tokens.next()?;
        // The end of a streamed aggregate is no node.
        while token.marker == b'.' {
            token = tokens.next()?;
        }
        Some(match token.marker {
            b'$' if token.line == b"?" => Item::StreamedString(rest_of_stream(&mut tokens)),
            b'$' | b'*' if token.line.first() == Some(&b'-') && token.is_null() => Item::Null,
            b'$' => Item::BulkString(token.payload),
            b':' => Item::Integer(parse_integer(token.line)),
            b'+' => Item::SimpleString(token.line),
            b'-' => Item::Error(ServerError::whole(token.line)),
            b'*' | b'~' | b'%' | b'>' | b'|' => aggregate(&token, &tokens),
            b'#' => Item::Boolean(token.line == b"t"),
            b',' => Item::Double(parse_double(token.line).unwrap_or(f64::NAN)),
            b'(' => Item::BigNumber(text(token.line)),
            b'!' => Item::Error(ServerError::whole(token.payload)),
            b'=' => {
                let (format, text) = token.payload.split_first_chunk().unwrap_or((b"txt", &[]));
                Item::Verbatim { format: *format, text: text.get(1..).unwrap_or_default() }
            }
            _ => Item::Null,
        })
    })
}

fn rest_of_stream(tokens: &mut Tokens<'_>) -> Vec<u8> {
    let mut text = Vec::new();
    while let Some(chunk) = tokens.next().filter(|chunk| !chunk.payload.is_empty()) {
        text.extend_from_slice(chunk.payload);
    }
    text
}

fn aggregate<'a>(token: &Token<'a>, rest: &Tokens<'a>) -> Item<'a> {
    let children = token.child_count().unwrap_or_else(|| skip_children(&mut rest.clone(), None));
    let children = u32::try_from(children).unwrap_or(u32::MAX);
    match token.marker {
        b'~' => Item::Set(children),
        b'%' => Item::Map(children / 2),
        b'>' => Item::Push(children),
        b'|' => Item::Attribute(children / 2),
        _ => Item::Array(children),
    }
}

fn parse_integer(line: &[u8]) -> i64 {
    // Most are a digit or two.
    match line {
        [digit @ b'0'..=b'9'] => i64::from(digit - b'0'),
        [tens @ b'0'..=b'9', ones @ b'0'..=b'9'] => i64::from(tens - b'0') * 10 + i64::from(ones - b'0'),
        _ => text(line).parse().unwrap_or(0),
    }
}

fn text(line: &[u8]) -> &str {
    str::from_utf8(line).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_costs_what_it_holds() {
        assert!(size_of::<ReplyNode>() as u64 <= NODE_COST);
    }
}
