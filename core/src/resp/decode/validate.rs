//! Checks a frame's lines and payloads one by one, and knows where the frame ends.
//!
//! The open aggregates are a stack of counters, so that no nesting in the input is nesting of calls
//! here.

use alloc::string::String;
use alloc::vec::Vec;
use core::{mem, str};

use super::error::excerpt;
use super::input::Input;
use super::leaf::Leaf;
use super::limits::LineLimit;
use super::marker::{Aggregate, Blob, Marker};
use super::{DEPTH_READ_MAX, DecodeError, LINE_LENGTH_MAX, Limits, NODE_COST};
use crate::resp::double::is_double;

/// The bytes of a line besides its text: the type byte and CR LF.
const LINE_OVERHEAD: u64 = 3;

/// The bytes of a payload besides its text: CR LF.
const PAYLOAD_OVERHEAD: u64 = 2;

/// The frame that is being read.
#[derive(Debug)]
pub(super) struct Validator {
    limits: Limits,
    /// How many nodes it has so far.
    nodes: u32,
    /// The aggregates that still get children, outermost first.
    open: Vec<Open>,
    /// How much text the streamed string that is being read has so far.
    stream: Option<u64>,
    /// Whether an attribute has just ended, so that what it describes must follow.
    dangling: bool,
    push: bool,
    /// Whether it is nested deeper than the limit: then it is read, and dropped.
    too_deep: bool,
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
    children: Children,
}

#[derive(Clone, Copy, Debug)]
enum Children {
    /// So many are to come; never zero.
    Counted(u32),
    /// So many have come, and `.` ends them.
    Streamed(u32),
}

impl Validator {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            nodes: 0,
            open: Vec::new(),
            stream: None,
            dangling: false,
            push: false,
            too_deep: false,
            size: 0,
        }
    }

    pub(super) fn limits(&self) -> Limits {
        self.limits
    }

    pub(super) fn limit_reply(&mut self, size: u64) {
        self.limits.reply_size = size;
    }

    pub(super) fn is_push(&self) -> bool {
        self.push
    }

    pub(super) fn is_too_deep(&self) -> bool {
        self.too_deep
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

    /// Takes a leaf, if it keeps to the limits and may stand here.
    #[inline]
    pub(super) fn whole_leaf(&mut self, leaf: &Leaf) -> Option<Next> {
        let size = leaf.length as u64 + NODE_COST;
        let fits = size <= self.left()
            && leaf.text as u64 <= self.limits.bulk_length
            && self.nodes < self.limits.elements
            && self.stream.is_none();
        if !fits {
            return None;
        }
        self.size += size;
        self.nodes += 1;
        self.dangling = false;
        Some(if self.open.is_empty() { Next::Frame } else { self.child_ended() })
    }

    /// Takes the line behind a type byte.
    pub(super) fn line(&mut self, marker: Marker, text: &[u8]) -> Result<Next, DecodeError> {
        self.charge(text.len() as u64)?;
        match marker {
            Marker::SimpleString => {}
            Marker::Error => self.charge_error(text)?,
            Marker::Integer => drop(parse_integer(text, "integer")?),
            Marker::Null if text.is_empty() => {}
            Marker::Null => return Err(DecodeError::invalid("null", text)),
            Marker::Boolean if matches!(text, b"t" | b"f") => {}
            Marker::Boolean => return Err(DecodeError::invalid("boolean", text)),
            Marker::Double if is_double(text) => {}
            Marker::Double => return Err(DecodeError::invalid("double", text)),
            Marker::BigNumber => check_big_number(text)?,
            Marker::Blob(blob) => return self.blob(blob, text),
            Marker::Aggregate(aggregate) => return self.aggregate(aggregate, text),
            Marker::End if text.is_empty() => return self.end_aggregate(),
            Marker::End => return Err(DecodeError::invalid("end of stream", text)),
        }
        self.leaf()
    }

    /// Takes the payload of a blob.
    pub(super) fn payload(
        &mut self,
        blob: Blob,
        length: usize,
        input: &mut Input,
    ) -> Result<Next, DecodeError> {
        self.charge(length as u64 + PAYLOAD_OVERHEAD)?;
        match blob {
            Blob::String => {}
            Blob::Error => self.charge_error(input.text(length)?)?,
            Blob::Verbatim => {
                let text = input.text(length)?;
                if text.get(3) != Some(&b':') {
                    return Err(DecodeError::VerbatimFormat { text: excerpt(text) });
                }
            }
            Blob::Chunk => {
                self.stream = self.stream.map(|so_far| so_far.saturating_add(length as u64));
                return Ok(Next::Node);
            }
        }
        self.leaf()
    }

    /// Begins the next frame, after [`Next::Frame`]. Gives how many nodes this one has, and whether
    /// it is a push.
    pub(super) fn take_frame(&mut self) -> (u32, bool) {
        (self.size, self.too_deep) = (0, false);
        (mem::take(&mut self.nodes), mem::take(&mut self.push))
    }

    /// Takes the length of a blob.
    fn blob(&mut self, blob: Blob, line: &[u8]) -> Result<Next, DecodeError> {
        if blob == Blob::String && line == b"?" {
            self.stream = Some(0);
            return Ok(Next::Node);
        }
        let length = match parse_length(line, blob.length_name())? {
            Length::Some(0) if blob == Blob::Chunk => {
                self.stream = None;
                return self.leaf();
            }
            Length::Some(length) => length,
            Length::Null if blob == Blob::String => return self.leaf(),
            Length::Null => return Err(DecodeError::invalid(blob.length_name(), line)),
        };

        let limit = match blob {
            Blob::String | Blob::Verbatim | Blob::Chunk => self.limits.bulk_length,
            Blob::Error => LINE_LENGTH_MAX as u64,
        };
        let total = length.saturating_add(self.stream.unwrap_or(0));
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
                Length::Null if aggregate == Aggregate::Array => return self.leaf(),
                Length::Null => return Err(DecodeError::invalid(aggregate.count_name(), line)),
            }
        };

        let depth = self.open.len() as u64;
        self.too_deep |= depth >= u64::from(self.limits.depth);
        let limit = self.limits.depth.max(DEPTH_READ_MAX);
        if depth >= u64::from(limit) {
            return Err(DecodeError::Depth { limit });
        }
        let children = entries.unwrap_or(0).saturating_mul(aggregate.nodes_per_entry().into());
        let elements = children.saturating_add(self.nodes.into()).saturating_add(1);
        let (Ok(children), true) = (u32::try_from(children), elements <= self.limits.elements.into()) else {
            return Err(DecodeError::Elements { elements, limit: self.limits.elements });
        };
        self.count_node()?;
        self.push |= aggregate == Aggregate::Push;

        let children = match entries {
            Some(0) => return Ok(self.ended(aggregate)),
            Some(_) => Children::Counted(children),
            None => Children::Streamed(0),
        };
        self.open.push(Open { aggregate, children });
        Ok(Next::Node)
    }

    /// Takes the end of a streamed aggregate.
    fn end_aggregate(&mut self) -> Result<Next, DecodeError> {
        let Some(&Open { aggregate, children: Children::Streamed(children) }) = self.open.last() else {
            return Err(DecodeError::UnexpectedEnd);
        };
        if self.dangling {
            return Err(DecodeError::DanglingAttribute);
        }
        if !children.is_multiple_of(aggregate.nodes_per_entry()) {
            return Err(DecodeError::OddMap { children });
        }
        self.open.pop();
        Ok(self.ended(aggregate))
    }

    /// In an error's text, each byte that is not UTF-8 becomes a replacement character of three.
    fn charge_error(&mut self, text: &[u8]) -> Result<(), DecodeError> {
        if str::from_utf8(text).is_ok() {
            return Ok(());
        }
        let length = String::from_utf8_lossy(text).len() - usize::from(text.contains(&b' '));
        self.charge(length.saturating_sub(text.len()) as u64)
    }

    fn leaf(&mut self) -> Result<Next, DecodeError> {
        self.count_node()?;
        Ok(self.child_ended())
    }

    fn count_node(&mut self) -> Result<(), DecodeError> {
        if self.nodes >= self.limits.elements {
            let elements = u64::from(self.nodes) + 1;
            return Err(DecodeError::Elements { elements, limit: self.limits.elements });
        }
        self.dangling = false;
        self.nodes += 1;
        Ok(())
    }

    fn ended(&mut self, aggregate: Aggregate) -> Next {
        if aggregate == Aggregate::Attribute {
            self.dangling = true;
            return Next::Node;
        }
        self.child_ended()
    }

    /// A node is whole, with all below it: counts it in its parent, which may be whole with it, and
    /// so on outwards.
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

fn check_big_number(line: &[u8]) -> Result<(), DecodeError> {
    let digits = line.strip_prefix(b"-").or_else(|| line.strip_prefix(b"+")).unwrap_or(line);
    match !digits.is_empty() && digits.iter().all(u8::is_ascii_digit) {
        true => Ok(()),
        false => Err(DecodeError::invalid("big number", line)),
    }
}
