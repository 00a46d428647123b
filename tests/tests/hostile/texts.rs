//! Errors: with huge texts, without any, in great numbers, and those that pass and never do.
//!
//! Source: Redis documentation, "Redis serialization protocol", "Simple errors" and "Bulk errors";
//! the cluster specification for the passing states.

use keyslot_tests::hostile::Act;

use crate::case::Case;
use crate::deed::Deed;
use crate::shapes::answered;

/// An error with this code and a text of so many bytes.
fn error(code: &str, length: usize) -> Vec<u8> {
    format!("-{code} {}\r\n", "x".repeat(length)).into_bytes()
}

pub(crate) fn cases() -> Vec<Case> {
    const LARGE: usize = 1_000_000;
    let get = |name, expected: &[&'static str], bytes: Vec<u8>| answered(name, expected, "GET", bytes);
    // Sent again a few times. Until the time is over, its end could find the request at the node,
    // which is a time-out.
    let again = |name, expected, bytes| get(name, expected, bytes).settings(|options| options.max_retries(3));
    vec![
        get("an error of 1 MB", &["server ERR"], error("ERR", LARGE)),
        get("an error whose code has 1 MB", &["server*"], error(&"E".repeat(LARGE), 1)),
        get("a bulk error of 1 MB", &["server ERR"], bulk_error(LARGE)),
        get("an error without a text", &["server*"], b"-\r\n".to_vec()),
        get("an error of blanks", &["server*"], b"-    \r\n".to_vec()),
        get("an error of control characters", &["server*"], b"-ERR \x1b[2J\x07\x9b\x00\r\n".to_vec()),
        get("an error that is no UTF-8", &["server*"], b"-ERR \xff\xfe\x80\r\n".to_vec()),
        again("TRYAGAIN for ever", &["server TRYAGAIN"], b"-TRYAGAIN later\r\n".to_vec()),
        again("LOADING for ever", &["server LOADING"], b"-LOADING later\r\n".to_vec()),
        again(
            "CLUSTERDOWN for ever",
            &["server CLUSTERDOWN"],
            b"-CLUSTERDOWN The cluster is down\r\n".to_vec(),
        ),
        again("READONLY for ever", &["server READONLY"], b"-READONLY no writes here\r\n".to_vec()),
        get(
            "NOAUTH in the middle",
            &["authentication", "server NOAUTH"],
            b"-NOAUTH Authentication required.\r\n".to_vec(),
        ),
        again("TRYAGAIN and 1 MB, of one", &["server TRYAGAIN"], error("TRYAGAIN", LARGE)),
        get(
            "TRYAGAIN and 1 MB, of 300 at the same time",
            &["each of server TRYAGAIN, limit-exceeded, connection-lost, timeout"],
            error("TRYAGAIN", LARGE),
        )
        .deed(Deed::Many(300))
        .memory(64)
        .heavy(),
        get(
            "TRYAGAIN and 1 MB, of 1,500 at the same time",
            &["each of server TRYAGAIN, limit-exceeded, connection-lost, timeout"],
            error("TRYAGAIN", LARGE),
        )
        .deed(Deed::Many(1_500))
        .memory(64)
        .heavy(),
        Case::new(
            "3,000 GETs to a node that refuses the handshake with 1 MB",
            &["each of ok, connect, timeout, limit-exceeded"],
            |asked| (asked.node == 1 && asked.is("HELLO")).then(|| vec![Act::send(error("ERR", LARGE))]),
        )
        .nodes(2)
        .deed(Deed::Many(3_000))
        .memory(64)
        .heavy(),
        get("an array of 100 errors of 1 MB", &["ok", "limit-exceeded", "timeout"], {
            [b"*100\r\n".to_vec(), error("ERR", LARGE - 100).repeat(100)].concat()
        })
        .memory(400)
        .heavy(),
    ]
}

fn bulk_error(length: usize) -> Vec<u8> {
    let text = format!("ERR {}", "x".repeat(length));
    format!("!{}\r\n{text}\r\n", text.len()).into_bytes()
}
