//! Replies as `redis-cli` writes them into a pipe: nothing but the values.

use keyslot::{ReplyNode, ReplyRef};

use super::scalar::{double, error_text};

/// Writes a reply, without a line end after it.
pub(super) fn write(out: &mut Vec<u8>, reply: ReplyRef<'_>) {
    match reply.node() {
        ReplyNode::Null | ReplyNode::Attribute(_) => {}
        ReplyNode::Boolean(value) => out.extend(format!("({value})").bytes()),
        ReplyNode::Integer(number) => out.extend(number.to_string().bytes()),
        ReplyNode::Double(number) => out.extend(double(*number).bytes()),
        ReplyNode::SimpleString(text) | ReplyNode::Text(text) | ReplyNode::BigNumber(text) => {
            out.extend(text.bytes());
        }
        ReplyNode::BulkString(bytes) => out.extend(bytes),
        ReplyNode::VerbatimString(verbatim) => out.extend(&verbatim.text),
        ReplyNode::Error(error) => out.extend(format!("{}\n", error_text(error)).bytes()),
        ReplyNode::Array(_) | ReplyNode::Set(_) | ReplyNode::Push(_) => {
            for (index, item) in reply.children().enumerate() {
                start_item(out, index);
                write(out, item);
            }
        }
        ReplyNode::Map(_) => {
            for (index, (key, value)) in reply.entries().enumerate() {
                start_item(out, index);
                write(out, key);
                out.push(b' ');
                write(out, value);
            }
        }
    }
}

fn start_item(out: &mut Vec<u8>, index: usize) {
    if index > 0 {
        out.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use keyslot::{Reply, ServerError};

    use super::*;

    fn text(nodes: &[ReplyNode]) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out, Reply::new(nodes.to_vec()).root());
        out
    }

    #[test]
    fn values_stand_on_lines_of_their_own() {
        let nodes = [
            ReplyNode::Array(4),
            ReplyNode::Integer(1),
            ReplyNode::Array(0),
            ReplyNode::Array(2),
            ReplyNode::BulkString(b"\0\xff".to_vec()),
            ReplyNode::Null,
            ReplyNode::Error(ServerError { code: "ERR".into(), message: "no".into() }),
        ];
        assert_eq!(text(&nodes), b"1\n\n\0\xff\n\nERR no\n");
    }

    #[test]
    fn an_entry_of_a_map_is_one_line() {
        let nodes = [
            ReplyNode::Map(2),
            ReplyNode::Integer(0),
            ReplyNode::Boolean(false),
            ReplyNode::Integer(1),
            ReplyNode::Double(f64::INFINITY),
        ];
        assert_eq!(text(&nodes), b"0 (false)\n1 inf");
    }
}
