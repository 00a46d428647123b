//! One pass of a scan over a node, and what its answers say.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use bytes::Bytes;

use super::connections::Driver;
use super::request::{Command, Place};
use super::scan::{Scan, Source};
use super::verdict::{Verdict, judge};
use super::{Cluster, ConnId, RequestId, ScanId};
use crate::address::NodeAddr;
use crate::error::Error;
use crate::resp::{RawReply, ReplyRef, Token, Tokens};
use crate::scan::{Bookmark, Claim, Ledger, NodeView};
use crate::slot::Slot;
use crate::time::Instant;
use crate::topology::Role;

/// The cursor that a pass begins with, and that a server gives at its end.
const BEGIN: &str = "0";

/// Servers' have 40 bytes. Whoever says a longer one is taken not to say which process it is.
const RUN_ID_LENGTH_MAX: usize = 64;

/// What a pass asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// CLUSTER NODES, before the first page.
    View,
    /// INFO: which process it is.
    Identity,
    /// SCAN and its like.
    Page,
    /// CLUSTER NODES, after the last page.
    Review,
    /// It is over.
    Nothing,
}

impl Question {
    /// What is sent; `None` for a page, which is the caller's.
    pub(super) fn name(self) -> Option<&'static str> {
        match self {
            Self::View | Self::Review => Some("CLUSTER NODES"),
            Self::Identity => Some("INFO"),
            Self::Page | Self::Nothing => None,
        }
    }
}

/// A pass over one node, or over one key.
#[derive(Debug)]
pub(super) struct Pass {
    pub(super) number: u32,
    /// None for a key, and for a server that is used alone.
    pub(super) node: Option<NodeAddr>,
    /// The id of the node, when it is passed over for slots that move there.
    pub(super) half_of: Option<String>,
    /// Whether others came first, which give it keys.
    pub(super) is_late: bool,
    /// The request under way.
    pub(super) asked: Option<(RequestId, Question)>,
    /// The connection of the last answer that the cursor goes with.
    pub(super) conn: Option<ConnId>,
    /// The process that gave the cursor; empty when it did not say.
    run_id: String,
    pub(super) claim: Option<Claim>,
    /// Whether keys of slots that are done may come.
    repeats: bool,
    /// For the next page; empty after the last one.
    pub(super) cursor: String,
    /// The same as of what has been handed out.
    told: String,
    batch: Option<RawReply>,
    /// Why it waits, and until when.
    pub(super) failure: Option<Error>,
    pub(super) failures: u32,
    pub(super) not_before: Instant,
}

impl Pass {
    pub(super) fn new(number: u32, node: Option<NodeAddr>, half_of: Option<String>) -> Self {
        let (run_id, cursor) = (String::new(), BEGIN.to_string());
        Self { half_of, ..Self::resumed(number, Bookmark { node, run_id, cursor, claim: None }) }
    }

    pub(super) fn resumed(number: u32, Bookmark { node, run_id, cursor, claim }: Bookmark) -> Self {
        Self {
            number,
            node,
            half_of: None,
            is_late: false,
            asked: None,
            conn: None,
            run_id,
            claim,
            repeats: true,
            told: cursor.clone(),
            cursor,
            batch: None,
            failure: None,
            failures: 0,
            not_before: Instant::default(),
        }
    }

    pub(super) fn bookmark(&self) -> Bookmark {
        Bookmark {
            node: self.node.clone(),
            run_id: self.run_id.clone(),
            cursor: self.told.clone(),
            claim: self.claim.clone(),
        }
    }

    pub(super) fn has_batch(&self) -> bool {
        self.batch.is_some()
    }

    /// Takes the batch to hand it out.
    pub(super) fn take_batch(&mut self) -> Option<RawReply> {
        self.told.clone_from(&self.cursor);
        self.batch.take()
    }

    /// Whether all of it has been handed out.
    pub(super) fn is_over(&self) -> bool {
        self.told.is_empty()
    }

    /// What is to be asked next.
    pub(super) fn question(&self, by_slots: bool, by_process: bool) -> Question {
        match () {
            () if by_slots && self.claim.is_none() => Question::View,
            () if self.cursor.is_empty() && by_slots => Question::Review,
            () if self.cursor.is_empty() => Question::Nothing,
            () if by_process && self.conn.is_none() => Question::Identity,
            () => Question::Page,
        }
    }

    fn begin_anew(&mut self) {
        (self.cursor, self.told) = (BEGIN.to_string(), BEGIN.to_string());
        self.claim = None;
    }

    /// Learns which process answers on this connection.
    fn identify(&mut self, run_id: &str, conn: Option<ConnId>) {
        let is_same = self.run_id == run_id && !run_id.is_empty();
        if !is_same && self.cursor != BEGIN {
            self.begin_anew();
        }
        self.run_id = run_id.to_string();
        self.conn = conn;
    }
}

/// What becomes of a pass after an answer.
enum Next {
    GoesOn,
    /// It has done what it could.
    Ends,
    /// It could do nothing.
    EndsInVain,
}

impl Cluster {
    /// A pass's question was answered, or has failed. What follows is done by `drive_scans`.
    pub(super) fn on_pass(&mut self, id: ScanId, number: u32, place: Place, result: Result<RawReply, Error>) {
        let Some(scan) = self.scans.get_mut(id) else {
            return;
        };
        let Some(index) = scan.passes.iter().position(|pass| pass.number == number) else {
            return;
        };
        self.scans_due.push(id);
        let mut pass = scan.passes.swap_remove(index);
        let question = pass.asked.take().map_or(Question::Nothing, |(_, question)| question);
        let conn = match place {
            Place::OnConnection(conn) => Some(conn),
            _ => None,
        };
        let next = match result {
            // Whoever does not say which process it is has a cursor that is good for one connection.
            Err(Error::Server(_)) if question == Question::Identity => {
                pass.identify("", conn);
                Ok(Next::GoesOn)
            }
            Err(error) => Err(error),
            Ok(reply) => match question {
                Question::View => scan.on_view(&mut pass, &reply),
                Question::Review => {
                    // One that is cut off does not know it, or not yet, that another has taken over.
                    let address = pass.node.as_ref();
                    let mut here = address.into_iter().flat_map(|at| self.directory.at(&self.topology, at));
                    let is_replica = here.any(|(_, member)| member.role == Role::Replica);
                    scan.on_review(&pass, &reply, is_replica)
                }
                Question::Page => {
                    scan.paged_at = self.now;
                    scan.on_page(&mut pass, conn, &reply)
                }
                Question::Identity | Question::Nothing => {
                    let reply = reply.decode();
                    let text = reply.cursor().and_then(ReplyRef::as_str).unwrap_or_default();
                    let run_id = text.lines().find_map(|line| line.strip_prefix("run_id:"));
                    let run_id = run_id.map(str::trim).filter(|run_id| run_id.len() <= RUN_ID_LENGTH_MAX);
                    pass.identify(run_id.unwrap_or_default(), conn);
                    Ok(Next::GoesOn)
                }
            },
        };
        match next {
            Ok(Next::GoesOn) => scan.passes.push(pass),
            Ok(Next::Ends) => scan.fruitless = 0,
            Ok(Next::EndsInVain) => match pass.half_of {
                Some(node) if question == Question::View => self.reopen(id, &node),
                _ => {
                    // The node itself says that it does not serve what a MOVED has said it would.
                    let node = pass.node.as_ref().and_then(|node| self.by_address.get(node)).copied();
                    self.slots.forget_patches(|patched| Some(patched) == node);
                    self.note_fruitless(id, None);
                }
            },
            Err(error) => {
                scan.passes.push(pass);
                // An answer to something else: so would the next one be.
                if let (Error::Protocol(_), Some(conn)) = (&error, conn) {
                    self.lose(conn, error.clone(), Driver::MustClose);
                }
                self.note_failure(id, number, error);
            }
        }
    }
}

impl Scan {
    /// What the node says before the first page.
    fn on_view(&mut self, pass: &mut Pass, reply: &RawReply) -> Result<Next, Error> {
        let view = node_view(reply, pass)?;
        let Source::Keys(ledger) = &mut self.source else {
            return Ok(Next::Ends);
        };
        if !pass.is_late && pass.half_of.is_none() && ledger.is_early(&view) {
            self.postponed.extend(pass.node.take());
            return Ok(Next::Ends);
        }
        let claim = ledger.claim(&view);
        if claim.is_empty() {
            return Ok(Next::EndsInVain);
        }
        pass.repeats = ledger.repeats(&view);
        pass.claim = Some(claim);
        Ok(Next::GoesOn)
    }

    /// What the node says after the last page.
    fn on_review(&mut self, pass: &Pass, reply: &RawReply, is_replica: bool) -> Result<Next, Error> {
        let mut view = node_view(reply, pass)?;
        view.is_primary &= !is_replica;
        let (Source::Keys(ledger), Some(claim)) = (&mut self.source, &pass.claim) else {
            return Ok(Next::Ends);
        };
        let done = ledger.done_count();
        let gained = ledger.conclude(claim, &view);
        if ledger.done_count() > done {
            (self.trouble, self.reopened) = (None, 0);
        }
        Ok(if gained { Next::Ends } else { Next::EndsInVain })
    }

    /// A page has come.
    fn on_page(&mut self, pass: &mut Pass, conn: Option<ConnId>, reply: &RawReply) -> Result<Next, Error> {
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
            Source::Keys(ledger) if pass.repeats => without_done(batch, ledger),
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

/// Whether an error is one that goes away by itself.
pub(super) fn is_passing(error: &Error) -> bool {
    match error {
        Error::Connect(_) | Error::ConnectionLost(_) | Error::Timeout(_) | Error::ClusterDown(_) => true,
        Error::Server(error) => {
            !matches!(judge(error, "", &Command::next_batch()), Verdict::Surface | Verdict::Authentication)
        }
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

/// The cursor and the list of a page, whose elements have these markers. In the list they are bulk strings.
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

/// Whether this is a cursor: a decimal number of 64 bits, as servers write it (Redis documentation, "SCAN").
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
fn without_done(batch: RawReply, ledger: &Ledger) -> RawReply {
    let is_done = |key: &[u8]| ledger.is_done(Slot::of_key(key));
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
