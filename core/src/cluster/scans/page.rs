//! What a pass's answers say, of the scan's slots and keys.

use super::pass::{BEGIN, Pass, RUN_ID_LENGTH_MAX};
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use bytes::Bytes;

use crate::address::NodeAddr;
use crate::cluster::ids::ConnId;
use crate::cluster::requests::error_policy::{ErrorAction, classify};
use crate::cluster::scans::scan::{Scan, Source};
use crate::command::prepared::Command;
use crate::error::Error;
use crate::resp::{RawReply, ReplyRef, Token, Tokens};
use crate::scan::{NodeView, SlotCoverage};
use crate::slot::Slot;

/// What becomes of a pass after an answer.
pub(super) enum Next {
    GoesOn,
    /// It has done what it could.
    Ends,
    /// It could do nothing.
    EndsInVain,
}

impl Scan {
    /// What the node says before the first page.
    pub(super) fn on_view(&mut self, pass: &mut Pass, reply: &RawReply) -> Result<Next, Error> {
        let view = node_view(reply, pass)?;
        let Source::Keys(coverage) = &mut self.source else {
            return Ok(Next::Ends);
        };
        if !pass.is_late && pass.half_of.is_none() && coverage.is_early(&view) {
            self.postponed.extend(pass.node.take());
            return Ok(Next::Ends);
        }
        let claim = coverage.claim(&view);
        if claim.is_empty() {
            return Ok(Next::EndsInVain);
        }
        pass.repeats = coverage.repeats(&view);
        pass.claim = Some(claim);
        Ok(Next::GoesOn)
    }

    /// What the node says after the last page.
    pub(super) fn on_review(
        &mut self,
        pass: &Pass,
        reply: &RawReply,
        is_replica: bool,
    ) -> Result<Next, Error> {
        let mut view = node_view(reply, pass)?;
        view.is_primary &= !is_replica;
        let (Source::Keys(coverage), Some(claim)) = (&mut self.source, &pass.claim) else {
            return Ok(Next::Ends);
        };
        let done = coverage.done_count();
        let gained = coverage.conclude(claim, &view);
        if coverage.done_count() > done {
            (self.trouble, self.reopened) = (None, 0);
        }
        Ok(if gained { Next::Ends } else { Next::EndsInVain })
    }

    /// A page has come.
    pub(super) fn on_page(
        &mut self,
        pass: &mut Pass,
        conn: Option<ConnId>,
        reply: &RawReply,
    ) -> Result<Next, Error> {
        let of_key = matches!(self.source, Source::Collection(..));
        if pass.conn != conn && !(of_key && pass.cursor == BEGIN) {
            pass.conn = None;
            if of_key {
                pass.begin_anew();
            }
            return Ok(Next::GoesOn);
        }
        pass.conn = conn;
        let (cursor, batch) = page(reply, if of_key { ELEMENTS } else { KEYS })
            .ok_or_else(|| Error::Protocol("the answer to SCAN is no cursor with a list".to_string()))?;
        let batch = match &self.source {
            Source::Keys(coverage) if pass.repeats => without_done(batch, coverage),
            _ => batch,
        };
        pass.cursor = if cursor == BEGIN { String::new() } else { cursor };
        (pass.failures, pass.failure) = (0, None);
        if batch.node_count() > 1 {
            pass.batch = Some(batch);
            self.ready.push_back(pass.number);
        } else {
            pass.told.clone_from(&pass.cursor);
        }
        Ok(Next::GoesOn)
    }
}

/// Which process has answered INFO; empty when it does not say.
pub(super) fn run_id_in(reply: &RawReply) -> String {
    let reply = reply.decode();
    let text = reply.cursor().and_then(ReplyRef::as_str).unwrap_or_default();
    let run_id = text.lines().find_map(|line| line.strip_prefix("run_id:"));
    let run_id = run_id.map(str::trim).filter(|run_id| run_id.len() <= RUN_ID_LENGTH_MAX);
    run_id.unwrap_or_default().to_string()
}

/// Whether an error is one that goes away by itself.
pub(in crate::cluster) fn is_passing(error: &Error) -> bool {
    match error {
        Error::Connect(_) | Error::ConnectionLost(_) | Error::Timeout(_) | Error::ClusterDown(_) => true,
        Error::Server(error) => !matches!(
            classify(error, "", &Command::next_batch()),
            ErrorAction::Surface | ErrorAction::Authentication
        ),
        _ => false,
    }
}

fn node_view(reply: &RawReply, pass: &Pass) -> Result<NodeView, Error> {
    let asked = pass.node.as_ref().map_or("", NodeAddr::host);
    let reply = reply.decode();
    let view = reply.cursor().and_then(ReplyRef::as_str).and_then(|text| NodeView::parse(text, asked));
    view.ok_or_else(|| Error::Protocol("the answer to CLUSTER NODES cannot be read".to_string()))
}

/// How a key is sent.
const KEYS: &[u8] = b"$";

/// How what is in a collection is sent. Some servers give a sorted set's scores as numbers.
const ELEMENTS: &[u8] = b"$+,:";

/// The cursor and the list of a page, whose elements have these markers. In the list they are bulk
/// strings.
fn page(reply: &RawReply, markers: &[u8]) -> Option<(String, RawReply)> {
    let mut tokens = reply.tokens();
    let root = tokens.next().filter(|root| root.marker == b'*' && root.line == b"2");
    let cursor = tokens.next().filter(|cursor| root.is_some() && cursor.marker == b'$')?;
    let cursor = core::str::from_utf8(cursor.payload).ok().filter(|cursor| is_cursor(cursor))?;
    let list = tokens.rest();
    let mut tokens = Tokens::new(list);
    let is_list =
        tokens.next().is_some_and(|list| list.marker == b'*' && !list.is_null() && list.line != b"?");
    let is_element = |token: Token<'_>| markers.contains(&token.marker) && !token.is_null();
    if !is_list || !tokens.all(is_element) {
        return None;
    }
    let batch = reply.part(list, reply.node_count().saturating_sub(2));
    Some((cursor.to_string(), of_bulk_strings(batch)))
}

/// Whether this is a cursor: a decimal number of 64 bits, as servers write it (Redis documentation,
/// "SCAN").
fn is_cursor(text: &str) -> bool {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u64>().is_ok();
    is_number && (text == BEGIN || !text.starts_with('0'))
}

/// A list whose elements are strings and numbers, all of them as bulk strings.
fn of_bulk_strings(batch: RawReply) -> RawReply {
    if batch.tokens().skip(1).all(|element| element.marker == b'$') {
        return batch;
    }
    fn text(token: Token<'_>) -> &[u8] {
        if token.marker == b'$' { token.payload } else { token.line }
    }
    let count = batch.node_count() - 1;
    let mut bytes = alloc::format!("*{count}\r\n").into_bytes();
    for text in batch.tokens().skip(1).map(text) {
        bytes.extend_from_slice(alloc::format!("${}\r\n", text.len()).as_bytes());
        bytes.extend_from_slice(text);
        bytes.extend_from_slice(b"\r\n");
    }
    RawReply::new(Bytes::from(bytes), count + 1)
}

/// A list of keys without those whose slots are done.
fn without_done(batch: RawReply, coverage: &SlotCoverage) -> RawReply {
    let is_done = |key: &[u8]| coverage.is_done(Slot::of_key(key));
    if !batch.tokens().skip(1).any(|key| is_done(key.payload)) {
        return batch;
    }
    let kept: Vec<_> = batch.tokens().skip(1).filter(|key| !is_done(key.payload)).collect();
    let mut bytes = alloc::format!("*{}\r\n", kept.len()).into_bytes();
    kept.iter().for_each(|key| bytes.extend_from_slice(key.bytes));
    RawReply::new(Bytes::from(bytes), kept.len() as u32 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_strings_and_a_cursor() {
        let page_of = |list: &str, count: u32, markers| {
            let reply = alloc::format!("*2\r\n$1\r\n5\r\n{list}");
            let page = page(&RawReply::new(Bytes::from(reply.into_bytes()), count + 3), markers)?;
            assert_eq!((&page.0[..], page.1.node_count()), ("5", count + 1));
            Some(String::from_utf8(page.1.as_bytes().to_vec()).unwrap())
        };
        let keys = "*2\r\n$1\r\na\r\n$0\r\n\r\n";
        assert_eq!(page_of(keys, 2, KEYS).as_deref(), Some(keys));
        let scores = "*4\r\n$1\r\na\r\n,1.5\r\n+b\r\n:-7\r\n";
        let strings = "*4\r\n$1\r\na\r\n$3\r\n1.5\r\n$1\r\nb\r\n$2\r\n-7\r\n";
        assert_eq!(page_of(scores, 4, ELEMENTS).as_deref(), Some(strings));
        for (text, is_one) in [
            ("0", true),
            ("17", true),
            ("18446744073709551615", true),
            ("18446744073709551616", false),
            ("00", false),
            ("017", false),
            ("-1", false),
            ("+1", false),
            ("", false),
            ("abc", false),
            ("1\u{1b}", false),
        ] {
            assert_eq!(is_cursor(text), is_one, "{text:?}");
        }
        for wrong in [":5\r\n", "+a\r\n", ",1\r\n", "$-1\r\n", "_\r\n", "*0\r\n", "#t\r\n"] {
            assert_eq!(page_of(&alloc::format!("*1\r\n{wrong}"), 1, KEYS), None, "{wrong}");
        }
        for wrong in ["_\r\n", "*0\r\n", "#t\r\n"] {
            assert_eq!(page_of(&alloc::format!("*1\r\n{wrong}"), 1, ELEMENTS), None, "{wrong}");
        }
    }
}
