//! Replies as `redis-cli` writes them on a terminal: with their types.

use keyslot::{ReplyNode, ReplyRef};
use keyslot_terminal::escape;

use super::scalar::{double, error_text};

/// Writes a reply, without a line end after it.
pub(super) fn write(out: &mut Vec<u8>, reply: ReplyRef<'_>) {
    match reply.node() {
        // Text for people, in lines. Among other values it must not begin a line that looks like
        // one.
        ReplyNode::VerbatimString(verbatim) => out.extend(escape::lines(&verbatim.text).bytes()),
        _ => write_indented(out, reply, 0),
    }
}

fn write_indented(out: &mut Vec<u8>, reply: ReplyRef<'_>, indent: usize) {
    match reply.node() {
        ReplyNode::Null | ReplyNode::Attribute(_) => out.extend(b"(nil)"),
        ReplyNode::Boolean(value) => out.extend(format!("({value})").bytes()),
        ReplyNode::Integer(number) => out.extend(format!("(integer) {number}").bytes()),
        ReplyNode::Double(number) => out.extend(format!("(double) {}", double(*number)).bytes()),
        ReplyNode::BigNumber(digits) => out.extend(format!("(big number) {}", escape::line(digits)).bytes()),
        ReplyNode::SimpleString(text) => out.extend(escape::line(text).bytes()),
        ReplyNode::BulkString(bytes) => quote(out, bytes),
        ReplyNode::Text(text) => quote(out, text.as_bytes()),
        ReplyNode::VerbatimString(verbatim) => out.extend(escape::line(&verbatim.text).bytes()),
        ReplyNode::Error(error) => {
            out.extend(format!("(error) {}", escape::line(error_text(error))).bytes());
        }
        ReplyNode::Array(0) => out.extend(b"(empty array)"),
        ReplyNode::Set(0) => out.extend(b"(empty set)"),
        ReplyNode::Map(0) => out.extend(b"(empty hash)"),
        ReplyNode::Push(0) => out.extend(b"(empty push)"),
        &ReplyNode::Array(items) | &ReplyNode::Push(items) => {
            let numbers = Numbers::new(items, ')', indent);
            for (index, item) in reply.children().enumerate() {
                numbers.write(out, index);
                write_indented(out, item, numbers.inner);
            }
        }
        &ReplyNode::Set(members) => {
            let numbers = Numbers::new(members, '~', indent);
            for (index, member) in reply.children().enumerate() {
                numbers.write(out, index);
                write_indented(out, member, numbers.inner);
            }
        }
        &ReplyNode::Map(entries) => {
            let numbers = Numbers::new(entries, '#', indent);
            for (index, (key, value)) in reply.entries().enumerate() {
                numbers.write(out, index);
                write_indented(out, key, numbers.inner);
                out.extend(b" => ");
                if takes_lines(value) {
                    start_line(out, numbers.inner);
                }
                write_indented(out, value, numbers.inner);
            }
        }
    }
}

/// The numbers that stand before the items of an aggregate, right-aligned.
struct Numbers {
    width: usize,
    marker: char,
    /// Where the numbers stand.
    indent: usize,
    /// Where the items stand.
    inner: usize,
}

impl Numbers {
    fn new(count: u32, marker: char, indent: usize) -> Self {
        let width = count.to_string().len();
        Self { width, marker, indent, inner: indent + width + 2 }
    }

    /// Writes the number of an item: the first where the line already is, the others on a line of
    /// their own.
    fn write(&self, out: &mut Vec<u8>, index: usize) {
        if index > 0 {
            start_line(out, self.indent);
        }
        out.extend(format!("{:>width$}{} ", index + 1, self.marker, width = self.width).bytes());
    }
}

fn start_line(out: &mut Vec<u8>, indent: usize) {
    out.push(b'\n');
    out.resize(out.len() + indent, b' ');
}

/// Whether a value of a map is written on several lines, and so begins on one of its own.
fn takes_lines(value: ReplyRef<'_>) -> bool {
    match value.node() {
        ReplyNode::Array(1) | ReplyNode::Set(1) | ReplyNode::Push(1) | ReplyNode::Map(1) => {
            value.children().last().is_some_and(takes_lines)
        }
        ReplyNode::Array(count) | ReplyNode::Set(count) | ReplyNode::Push(count) | ReplyNode::Map(count) => {
            *count > 1
        }
        _ => false,
    }
}

/// Writes bytes in quotes, what is not printable ASCII as an escape.
fn quote(out: &mut Vec<u8>, bytes: &[u8]) {
    let mut text = String::with_capacity(bytes.len() + 2);
    text.push('"');
    for &byte in bytes {
        match byte {
            b'\\' | b'"' => text.extend(['\\', char::from(byte)]),
            b' '..=b'~' => text.push(char::from(byte)),
            _ => escape::byte(&mut text, byte),
        }
    }
    text.push('"');
    out.extend(text.bytes());
}

#[cfg(test)]
mod tests {
    use keyslot::Reply;

    use super::*;

    fn text(nodes: &[ReplyNode]) -> String {
        let mut out = Vec::new();
        write(&mut out, Reply::new(nodes.to_vec()).root());
        String::from_utf8(out).unwrap()
    }

    fn bulk(text: &str) -> ReplyNode {
        ReplyNode::BulkString(text.as_bytes().to_vec())
    }

    #[test]
    fn scalars() {
        assert_eq!(text(&[ReplyNode::SimpleString("OK".into())]), "OK");
        assert_eq!(text(&[ReplyNode::Null]), "(nil)");
        assert_eq!(text(&[ReplyNode::Boolean(true)]), "(true)");
        assert_eq!(text(&[ReplyNode::Integer(-7)]), "(integer) -7");
        assert_eq!(text(&[ReplyNode::Double(1.5)]), "(double) 1.5");
        let quoted = "\"a b\\\\\\\"\\n\\r\\t\\a\\b\\x00\\x7f\\xc3\\xbc\"";
        assert_eq!(text(&[bulk("a b\\\"\n\r\t\x07\x08\0\x7fü")]), quoted);
    }

    #[test]
    fn nested_arrays_line_up() {
        let nodes = [
            ReplyNode::Array(2),
            ReplyNode::Array(2),
            bulk("a"),
            ReplyNode::Array(2),
            ReplyNode::Integer(1),
            ReplyNode::Null,
            ReplyNode::Array(0),
        ];
        let expected = "1) 1) \"a\"\n   2) 1) (integer) 1\n      2) (nil)\n2) (empty array)";
        assert_eq!(text(&nodes), expected);
    }

    #[test]
    fn numbers_are_as_wide_as_the_last() {
        let mut nodes = vec![ReplyNode::Array(10)];
        nodes.extend([ReplyNode::Array(2), ReplyNode::Integer(1), ReplyNode::Integer(2)]);
        nodes.extend((0..9).map(ReplyNode::Integer));
        let text = text(&nodes);
        assert!(text.starts_with(" 1) 1) (integer) 1\n    2) (integer) 2\n 2) (integer) 0\n"), "{text}");
        assert!(text.ends_with("\n10) (integer) 8"), "{text}");
    }

    #[test]
    fn maps_and_sets() {
        let nodes = [
            ReplyNode::Map(3),
            bulk("one"),
            ReplyNode::Map(1),
            bulk("index"),
            ReplyNode::Integer(1),
            bulk("many"),
            ReplyNode::Set(2),
            bulk("x"),
            bulk("y"),
            bulk("none"),
            ReplyNode::Map(0),
        ];
        let expected = "1# \"one\" => 1# \"index\" => (integer) 1\n\
                        2# \"many\" => \n   1~ \"x\"\n   2~ \"y\"\n\
                        3# \"none\" => (empty hash)";
        assert_eq!(text(&nodes), expected);
    }
}
