//! Lines and payloads become the nodes of a flat reply.
//!
//! The open aggregates are a stack of counters, so that no nesting in the input is nesting of calls here.

use alloc::string::String;
use alloc::vec::Vec;
use core::{mem, str};

use bytes::Bytes;

use super::error::excerpt;
use super::input::Line;
use super::limits::LineLimit;
use super::marker::{Aggregate, Blob, Marker};
use super::{DecodeError, Frame, LINE_LENGTH_MAX, Limits, NODE_COST};
use crate::error::ServerError;
use crate::resp::{Reply, ReplyNode};

/// The bytes of a line besides its text: the type byte and CR LF.
const LINE_OVERHEAD: u64 = 3;

/// The bytes of a payload besides its text: CR LF.
const PAYLOAD_OVERHEAD: u64 = 2;

/// The frame that is being decoded.
#[derive(Debug)]
pub(super) struct Assembly {
    limits: Limits,
    nodes: Vec<ReplyNode>,
    /// The aggregates that still get children, outermost first.
    open: Vec<Open>,
    /// The text so far of the streamed string that is being read.
    stream: Option<Vec<u8>>,
    /// Whether an attribute has just ended, so that what it describes must follow.
    dangling: bool,
    push: bool,
    /// What counts in `limits.reply_size`, never more than it.
    size: u64,
}

/// What the decoder has to read next.
pub(super) enum Next {
    /// The frame's next type byte.
    Node,
    /// A payload of so many bytes.
    Payload(Blob, usize),
    /// Nothing: the frame is whole.
    Frame,
}

/// An aggregate whose end is not reached.
#[derive(Debug)]
struct Open {
    aggregate: Aggregate,
    /// Where its node is.
    header: usize,
    children: Children,
}

#[derive(Clone, Copy, Debug)]
enum Children {
    /// So many are to come; never zero.
    Counted(u32),
    /// So many have come, and `.` ends them.
    Streamed(u32),
}

impl Assembly {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            nodes: Vec::new(),
            open: Vec::new(),
            stream: None,
            dangling: false,
            push: false,
            size: 0,
        }
    }

    pub(super) fn limits(&self) -> Limits {
        self.limits
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    pub(super) fn line_limit(&self) -> LineLimit {
        LineLimit::new(self.left(), &self.limits)
    }

    /// Takes a type byte. What cannot stand here is refused before its line is read.
    pub(super) fn begin(&mut self, byte: u8) -> Result<Marker, DecodeError> {
        let marker = Marker::from_byte(byte);
        match (marker, self.stream.is_some()) {
            (Some(Marker::Blob(Blob::Chunk)), true) => {}
            (Some(Marker::Blob(Blob::Chunk)), false) => return Err(DecodeError::UnexpectedChunk),
            (_, true) => return Err(DecodeError::ExpectedChunk { byte }),
            (Some(Marker::Aggregate(Aggregate::Push)), false) if !self.open.is_empty() => {
                return Err(DecodeError::NestedPush { depth: self.open.len() });
            }
            (_, false) => {}
        }
        let marker = marker.ok_or(DecodeError::UnknownType { byte })?;
        self.charge(LINE_OVERHEAD + if marker.is_node() { NODE_COST } else { 0 })?;
        Ok(marker)
    }

    /// Takes the line behind a type byte.
    pub(super) fn line(&mut self, marker: Marker, line: Line<'_>) -> Result<Next, DecodeError> {
        let text = line.as_slice();
        self.charge(text.len() as u64)?;
        match marker {
            Marker::SimpleString => self.leaf(ReplyNode::SimpleString(line.into_bytes())),
            Marker::Error => self.error(text),
            Marker::Integer => self.leaf(ReplyNode::Integer(parse_integer(text, "integer")?)),
            Marker::Null if text.is_empty() => self.leaf(ReplyNode::Null),
            Marker::Null => Err(DecodeError::invalid("null", text)),
            Marker::Boolean => self.leaf(ReplyNode::Boolean(parse_boolean(text)?)),
            Marker::Double => self.leaf(ReplyNode::Double(parse_double(text)?)),
            Marker::BigNumber => self.leaf(ReplyNode::BigNumber(parse_big_number(text)?)),
            Marker::Blob(blob) => self.blob(blob, text),
            Marker::Aggregate(aggregate) => self.aggregate(aggregate, text),
            Marker::End if text.is_empty() => self.end_aggregate(),
            Marker::End => Err(DecodeError::invalid("end of stream", text)),
        }
    }

    /// Takes the payload of a blob.
    pub(super) fn payload(&mut self, blob: Blob, payload: Bytes) -> Result<Next, DecodeError> {
        self.charge(payload.len() as u64 + PAYLOAD_OVERHEAD)?;
        match blob {
            Blob::String => self.leaf(ReplyNode::BulkString(payload)),
            Blob::Error => self.error(&payload),
            Blob::Verbatim => match payload.first_chunk() {
                Some(&[a, b, c, b':']) => {
                    self.leaf(ReplyNode::Verbatim { format: [a, b, c], text: payload.slice(4..) })
                }
                _ => Err(DecodeError::VerbatimFormat { text: excerpt(&payload) }),
            },
            Blob::Chunk => {
                if let Some(stream) = &mut self.stream {
                    stream.extend_from_slice(&payload);
                }
                Ok(Next::Node)
            }
        }
    }

    /// Hands out the frame, after [`Next::Frame`].
    pub(super) fn take_frame(&mut self) -> Frame {
        self.size = 0;
        let reply = Reply { nodes: mem::take(&mut self.nodes) };
        if mem::take(&mut self.push) { Frame::Push(reply) } else { Frame::Reply(reply) }
    }

    /// Takes the length of a blob.
    fn blob(&mut self, blob: Blob, line: &[u8]) -> Result<Next, DecodeError> {
        if blob == Blob::String && line == b"?" {
            self.stream = Some(Vec::new());
            return Ok(Next::Node);
        }
        let length = match parse_length(line, blob.length_name())? {
            Length::Some(0) if blob == Blob::Chunk => {
                let text = self.stream.take().unwrap_or_default();
                return self.leaf(ReplyNode::BulkString(text.into()));
            }
            Length::Some(length) => length,
            Length::Null if blob == Blob::String => return self.leaf(ReplyNode::Null),
            Length::Null => return Err(DecodeError::invalid(blob.length_name(), line)),
        };

        let limit = match blob {
            Blob::String | Blob::Verbatim | Blob::Chunk => self.limits.bulk_length,
            Blob::Error => LINE_LENGTH_MAX as u64,
        };
        let total = length.saturating_add(self.stream.as_ref().map_or(0, Vec::len) as u64);
        if total > limit {
            return Err(DecodeError::BulkLength { length: total, limit });
        }
        if length.saturating_add(PAYLOAD_OVERHEAD) > self.left() {
            return Err(DecodeError::ReplySize { limit: self.limits.reply_size });
        }
        match usize::try_from(length) {
            Ok(length) => Ok(Next::Payload(blob, length)),
            Err(_) => Err(DecodeError::BulkLength { length: total, limit: usize::MAX as u64 }),
        }
    }

    /// Takes the count of an aggregate.
    fn aggregate(&mut self, aggregate: Aggregate, line: &[u8]) -> Result<Next, DecodeError> {
        // `None`: until the end of the stream.
        let entries = if line == b"?" {
            None
        } else {
            match parse_length(line, aggregate.count_name())? {
                Length::Some(count) => Some(count),
                Length::Null if aggregate == Aggregate::Array => return self.leaf(ReplyNode::Null),
                Length::Null => return Err(DecodeError::invalid(aggregate.count_name(), line)),
            }
        };

        if self.open.len() as u64 >= u64::from(self.limits.depth) {
            return Err(DecodeError::Depth { limit: self.limits.depth });
        }
        let children = entries.unwrap_or(0).saturating_mul(aggregate.nodes_per_entry().into());
        let elements = children.saturating_add(self.nodes.len() as u64).saturating_add(1);
        let (Ok(children), true) = (u32::try_from(children), elements <= self.limits.elements.into()) else {
            return Err(DecodeError::Elements { elements, limit: self.limits.elements });
        };
        let header = self.nodes.len();
        self.push_node(aggregate.node(children / aggregate.nodes_per_entry()))?;
        self.push |= aggregate == Aggregate::Push;

        let children = match entries {
            Some(0) => return Ok(self.ended(aggregate)),
            Some(_) => Children::Counted(children),
            None => Children::Streamed(0),
        };
        self.open.push(Open { aggregate, header, children });
        Ok(Next::Node)
    }

    /// Takes the end of a streamed aggregate, and gives its node the count.
    fn end_aggregate(&mut self) -> Result<Next, DecodeError> {
        let Some(&Open { aggregate, header, children: Children::Streamed(children) }) = self.open.last()
        else {
            return Err(DecodeError::UnexpectedEnd);
        };
        if self.dangling {
            return Err(DecodeError::DanglingAttribute);
        }
        if !children.is_multiple_of(aggregate.nodes_per_entry()) {
            return Err(DecodeError::OddMap { children });
        }
        if let Some(node) = self.nodes.get_mut(header) {
            *node = aggregate.node(children / aggregate.nodes_per_entry());
        }
        self.open.pop();
        Ok(self.ended(aggregate))
    }

    fn error(&mut self, text: &[u8]) -> Result<Next, DecodeError> {
        let error = parse_error(text);
        // Each byte that is not UTF-8 has become a replacement character of three.
        let length = error.code.len() + error.message.len();
        self.charge(length.saturating_sub(text.len()) as u64)?;
        self.leaf(ReplyNode::Error(error))
    }

    fn leaf(&mut self, node: ReplyNode) -> Result<Next, DecodeError> {
        self.push_node(node)?;
        Ok(self.child_ended())
    }

    fn push_node(&mut self, node: ReplyNode) -> Result<(), DecodeError> {
        let elements = self.nodes.len() as u64 + 1;
        if elements > self.limits.elements.into() {
            return Err(DecodeError::Elements { elements, limit: self.limits.elements });
        }
        self.dangling = false;
        self.nodes.push(node);
        Ok(())
    }

    fn ended(&mut self, aggregate: Aggregate) -> Next {
        if aggregate == Aggregate::Attribute {
            self.dangling = true;
            return Next::Node;
        }
        self.child_ended()
    }

    /// A node is whole, with all below it: counts it in its parent, which may be whole with it, and so on outwards.
    fn child_ended(&mut self) -> Next {
        while let Some(parent) = self.open.last_mut() {
            match &mut parent.children {
                Children::Streamed(children) => {
                    *children = children.saturating_add(1);
                    return Next::Node;
                }
                Children::Counted(left) if *left > 1 => {
                    *left -= 1;
                    return Next::Node;
                }
                Children::Counted(_) => {}
            }
            // An attribute describes the node after it and is no child itself.
            if parent.aggregate == Aggregate::Attribute {
                self.open.pop();
                self.dangling = true;
                return Next::Node;
            }
            self.open.pop();
        }
        Next::Frame
    }

    fn charge(&mut self, bytes: u64) -> Result<(), DecodeError> {
        if bytes > self.left() {
            return Err(DecodeError::ReplySize { limit: self.limits.reply_size });
        }
        self.size += bytes;
        Ok(())
    }

    /// What is left of the reply's size.
    fn left(&self) -> u64 {
        self.limits.reply_size.saturating_sub(self.size)
    }
}

/// A length or count.
enum Length {
    Some(u64),
    /// `-1`, which only two types have.
    Null,
}

fn parse_length(line: &[u8], what: &'static str) -> Result<Length, DecodeError> {
    match parse_integer(line, what)? {
        -1 => Ok(Length::Null),
        length => u64::try_from(length).map(Length::Some).map_err(|_| DecodeError::invalid(what, line)),
    }
}

fn parse_integer(line: &[u8], what: &'static str) -> Result<i64, DecodeError> {
    str::from_utf8(line)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| DecodeError::invalid(what, line))
}

fn parse_boolean(line: &[u8]) -> Result<bool, DecodeError> {
    match line {
        b"t" => Ok(true),
        b"f" => Ok(false),
        _ => Err(DecodeError::invalid("boolean", line)),
    }
}

/// Rust's own grammar is a superset of the specification's: it has `inf` and `nan` with any sign and in any case,
/// which servers print as their C library does.
fn parse_double(line: &[u8]) -> Result<f64, DecodeError> {
    let text = str::from_utf8(line).ok();
    text.and_then(|text| text.parse().ok()).ok_or_else(|| DecodeError::invalid("double", line))
}

fn parse_big_number(line: &[u8]) -> Result<String, DecodeError> {
    let digits = line.strip_prefix(b"-").or_else(|| line.strip_prefix(b"+")).unwrap_or(line);
    let valid = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    match str::from_utf8(line) {
        Ok(text) if valid => Ok(text.into()),
        _ => Err(DecodeError::invalid("big number", line)),
    }
}

fn parse_error(text: &[u8]) -> ServerError {
    let mut words =
        text.splitn(2, |&byte| byte == b' ').map(|word| String::from_utf8_lossy(word).into_owned());
    ServerError { code: words.next().unwrap_or_default(), message: words.next().unwrap_or_default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_costs_what_it_holds() {
        assert!(size_of::<ReplyNode>() as u64 <= NODE_COST);
    }
}
