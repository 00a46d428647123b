//! Replies as JSON, one value on one line.
//!
//! | reply | JSON |
//! |---|---|
//! | status, string, verbatim string that is UTF-8 | string |
//! | string that is not UTF-8 | `{"hex":"00ff"}` |
//! | integer, double | number; `"inf"`, `"-inf"`, `"nan"` |
//! | big number | string of its digits |
//! | null, boolean | `null`, `true`, `false` |
//! | array, set, push | array |
//! | map whose keys are all strings | object, in the server's order |
//! | any other map | array of `[key, value]` |
//! | error | `{"error":{"code":"ERR","message":"…"}}` |
//!
//! What [`escape`] escapes on terminals is escaped here, too, as `\u009b`: so a value is one line
//! for every reader.

use std::str;

use keyslot::{ReplyNode, ReplyRef};
use keyslot_terminal::escape;
use serde_json::{Value, json};

use super::scalar::double;

/// Writes a reply, without a line end after it.
pub(super) fn write(out: &mut Vec<u8>, reply: ReplyRef<'_>) {
    match reply.node() {
        ReplyNode::Null | ReplyNode::Attribute(_) => out.extend(b"null"),
        ReplyNode::Boolean(value) => out.extend(value.to_string().bytes()),
        ReplyNode::Integer(number) => out.extend(number.to_string().bytes()),
        ReplyNode::Double(number) if number.is_finite() => out.extend(double(*number).bytes()),
        ReplyNode::Double(number) => string(out, &double(*number)),
        ReplyNode::SimpleString(text) | ReplyNode::Text(text) | ReplyNode::BigNumber(text) => {
            string(out, text);
        }
        ReplyNode::BulkString(bytes) => binary(out, bytes),
        ReplyNode::VerbatimString(verbatim) => binary(out, &verbatim.text),
        ReplyNode::Error(error) => {
            out.extend(b"{\"error\":{\"code\":");
            string(out, &error.code);
            out.extend(b",\"message\":");
            string(out, &error.message);
            out.extend(b"}}");
        }
        ReplyNode::Array(_) | ReplyNode::Set(_) | ReplyNode::Push(_) => {
            list(out, *b"[]", reply.children(), write);
        }
        ReplyNode::Map(_) if reply.entries().all(|(key, _)| is_string(key)) => {
            list(out, *b"{}", reply.entries(), |out, (key, value)| {
                write(out, key);
                out.push(b':');
                write(out, value);
            });
        }
        ReplyNode::Map(_) => {
            list(out, *b"[]", reply.entries(), |out, (key, value)| list(out, *b"[]", [key, value], write));
        }
    }
}

/// Writes items with commas between and brackets around them.
fn list<T>(
    out: &mut Vec<u8>,
    [open, close]: [u8; 2],
    items: impl IntoIterator<Item = T>,
    write_item: impl Fn(&mut Vec<u8>, T),
) {
    out.push(open);
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write_item(out, item);
    }
    out.push(close);
}

fn is_string(key: ReplyRef<'_>) -> bool {
    match key.node() {
        ReplyNode::SimpleString(_) | ReplyNode::Text(_) => true,
        ReplyNode::BulkString(bytes) => str::from_utf8(bytes).is_ok(),
        _ => false,
    }
}

fn binary(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend(escape::json(&string_or_hex(bytes)).bytes());
}

fn string(out: &mut Vec<u8>, text: &str) {
    out.extend(escape::json(&Value::from(text)).bytes());
}

/// Bytes as a JSON string, or as an object with their hexadecimal digits where they are no UTF-8.
pub(crate) fn string_or_hex(bytes: &[u8]) -> Value {
    match str::from_utf8(bytes) {
        Ok(text) => Value::from(text),
        Err(_) => json!({"hex": bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()}),
    }
}

#[cfg(test)]
mod tests {
    use keyslot::{Reply, ServerError};

    use super::*;

    fn text(nodes: &[ReplyNode]) -> String {
        let mut out = Vec::new();
        write(&mut out, Reply::new(nodes.to_vec()).root());
        String::from_utf8(out).unwrap()
    }

    fn bulk(bytes: &[u8]) -> ReplyNode {
        ReplyNode::BulkString(bytes.to_vec())
    }

    #[test]
    fn scalars() {
        assert_eq!(text(&[bulk("ü\"\n\0".as_bytes())]), r#""ü\"\n\u0000""#);
        assert_eq!(
            text(&[bulk("\u{7f}\u{85}\u{9b}\u{2028}\u{202e}".as_bytes())]),
            r#""\u007f\u0085\u009b\u2028\u202e""#
        );
        assert_eq!(text(&[bulk(b"\0\xff")]), r#"{"hex":"00ff"}"#);
        assert_eq!(text(&[ReplyNode::Null]), "null");
        assert_eq!(text(&[ReplyNode::Double(1e30)]), "1e+30");
        assert_eq!(text(&[ReplyNode::Double(f64::NEG_INFINITY)]), r#""-inf""#);
        let error = ServerError { code: "WRONGTYPE".into(), message: "Operation".into() };
        assert_eq!(
            text(&[ReplyNode::Error(error)]),
            r#"{"error":{"code":"WRONGTYPE","message":"Operation"}}"#
        );
    }

    #[test]
    fn maps_are_objects_when_their_keys_are_strings() {
        let nodes = [
            ReplyNode::Map(2),
            bulk(b"b"),
            ReplyNode::Array(2),
            ReplyNode::Integer(1),
            ReplyNode::Set(0),
            bulk(b"a"),
            ReplyNode::Map(1),
            ReplyNode::Integer(1),
            ReplyNode::Boolean(true),
        ];
        assert_eq!(text(&nodes), r#"{"b":[1,[]],"a":[[1,true]]}"#);
    }

    #[test]
    fn what_is_written_is_json() {
        let nodes = [ReplyNode::Array(3), bulk(b"\xff"), ReplyNode::Double(1e-7), ReplyNode::Double(-0.0)];
        assert!(serde_json::from_str::<serde_json::Value>(&text(&nodes)).is_ok());
    }
}
