//! What is asked of which node next, and what the caller gets.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use bytes::Bytes;
use slotmap::SecondaryMap;

use super::page::is_passing;
use crate::address::NodeAddr;
use crate::cluster::ids::{NodeKey, RequestId, ScanId};
use crate::cluster::machine::{Cluster, Phase};
use crate::cluster::requests::request::{Parent, Request, Target};
use crate::cluster::scans::pass::{Pass, Question};
use crate::cluster::scans::scan::{Scan, Source};
use crate::command::prepared::Command;
use crate::error::{Error, Interrupted, Within};
use crate::resp::RawReply;
use crate::topology::in_order;

/// A node that slots move to and that cannot be reached so many times is given up: what moved there
/// is to be found anew.
const FAILURES_MAX: u32 = 3;

/// So often in a row slots are looked for anew that are half done and cannot be finished; then the
/// scan's caller is told.
const REOPENED_MAX: u32 = 3;

impl Cluster {
    /// The time of a request for a batch has run out, and that of what was asked for it. When pages
    /// came meanwhile, only without keys, that is no failure.
    pub(in crate::cluster) fn end_late_batch(&mut self, id: RequestId, scan: ScanId) {
        let within = Within(self.cx.config.request_timeout);
        let Some(submitted_at) = self.requests.get(id).map(Request::sent_at) else {
            return;
        };
        let Some(scan) = self.scans.get_mut(scan) else {
            return;
        };
        let failure = scan.passes.iter().find_map(|pass| pass.failure.clone());
        let result = match scan.error.take().or(failure).or_else(|| scan.trouble.clone()) {
            Some(error) => Err(error),
            None if scan.paged_at > submitted_at => Ok(RawReply::new(Bytes::from_static(b"*0\r\n"), 1)),
            None => {
                let node = scan.passes.iter().find_map(|pass| pass.node.as_ref());
                Err(Error::Timeout(Interrupted {
                    node: node.map(ToString::to_string).unwrap_or_default(),
                    message: format!("no page within {within}"),
                    possibly_executed: false,
                }))
            }
        };
        self.finish(id, result);
    }

    /// Takes every scan further of which something has come. Gives whether there was any.
    pub(in crate::cluster) fn drive_scans(&mut self) -> bool {
        let mut any = false;
        while let Some(id) = self.scans.due.pop() {
            any = true;
            self.drive_scan(id);
            self.scans.watch(id);
        }
        any
    }

    fn drive_scan(&mut self, id: ScanId) {
        self.hand_out(id);
        let Some(scan) = self.scans.get_mut(id) else {
            return;
        };
        if scan.error.is_some() {
            return;
        }
        scan.not_before.take_if(|at| *at <= self.cx.now);
        match (&scan.source, &self.phase) {
            (_, Phase::Closed) => return,
            (_, Phase::Starting(_)) => scan.not_before = Some(self.cx.now + self.cx.config.retry.base),
            (Source::Keys(_), Phase::Clustered) => {
                // Another server's, which was alone.
                scan.passes.retain(|pass| pass.node.is_some());
                self.begin_passes(id);
            }
            _ if scan.passes.is_empty() => {
                scan.next_pass += 1;
                scan.passes.push(Pass::new(scan.next_pass, None, None));
            }
            _ => {}
        }
        self.ask_all(id);
        self.end_if_complete(id);
    }

    /// Gives those who wait what there is: batches, then an error.
    fn hand_out(&mut self, id: ScanId) {
        while let Some(scan) = self.scans.get_mut(id) {
            let Some(request) = scan.waiting.first(|id| self.requests.contains(id)) else {
                return;
            };
            let ready = scan.ready.pop_front().and_then(|number| scan.pass(number));
            let batch = ready.and_then(Pass::take_batch);
            let Some(result) = batch.map(Ok).or_else(|| scan.error.take().map(Err)) else {
                return;
            };
            scan.waiting.pop_front();
            self.finish(request, result);
        }
    }

    /// Begins passes over nodes that have something to do, as long as there is room.
    fn begin_passes(&mut self, id: ScanId) {
        while let Some(scan) = self.scans.get(id) {
            let active = scan.passes.iter().filter(|pass| pass.failures == 0).count();
            let waits = scan.fruitless > 0 && (!scan.is_wanted() || scan.not_before.is_some());
            if active >= scan.parallel as usize || waits {
                return;
            }
            let Some((node, half_of)) = self.next_node(id, active) else {
                return;
            };
            if let Some(scan) = self.scans.get_mut(id) {
                scan.next_pass += 1;
                let mut pass = Pass::new(scan.next_pass, Some(node.clone()), half_of);
                pass.is_late = scan.postponed.contains(&node);
                scan.passes.push(pass);
            }
            // One question each, and then it is seen whether there is room for more.
            self.ask_all(id);
        }
    }

    /// The node to pass over next; with its id when it is for slots that are half done. Those that
    /// keys move to come last.
    fn next_node(&mut self, id: ScanId, active: usize) -> Option<(NodeAddr, Option<String>)> {
        let scan = self.scans.get(id)?;
        let Source::Keys(coverage) = &scan.source else {
            return None;
        };
        let mut owners: Vec<NodeKey> = Vec::new();
        let mut seen: SecondaryMap<NodeKey, ()> = SecondaryMap::new();
        let mut unserved = None;
        for slot in coverage.to_do() {
            match self.map.owner(slot) {
                Some(owner) if seen.insert(owner, ()).is_some() => {}
                Some(owner) => owners.push(owner),
                None => unserved = Some(slot),
            }
        }
        let busy = scan.passes.iter().filter_map(|pass| pass.node.as_ref());
        let busy = in_order(busy.collect(), |address: &&NodeAddr| *address);
        let is_free = |address: &NodeAddr| busy.binary_search(&address).is_err();
        let postponed = in_order(scan.postponed.iter().collect(), |address: &&NodeAddr| *address);
        let owners = owners.iter().filter_map(|key| Some(self.nodes.get(*key)?.address().clone()));
        let owners: Vec<_> = owners.filter(is_free).collect();
        if let Some(first) = owners.iter().find(|address| postponed.binary_search(address).is_err()) {
            return Some((first.clone(), None));
        }
        if active > 0 {
            return None;
        }
        if let Some(postponed) = owners.into_iter().next() {
            return Some((postponed, None));
        }
        let mut gone = None;
        for half in coverage.halves() {
            let known = self.map.member_with_id(&half.to);
            // A token may name any address; only the cluster's nodes are dialled.
            let told = || half.address.clone().map(|told| self.cx.config.address_map.actual(told));
            let told = || told().filter(|address| self.is_member(address));
            match known.map(|member| member.address.clone()).or_else(told) {
                Some(address) if is_free(&address) => return Some((address, Some(half.to.clone()))),
                Some(_) => {}
                None => {
                    gone = Some(half.to.clone());
                    break;
                }
            }
        }
        if let Some(gone) = gone {
            self.reopen(id, &gone);
            return None;
        }
        if let Some(slot) = unserved
            && scan.passes.is_empty()
        {
            let trouble = Error::ClusterDown(format!("no node serves slot {slot}"));
            self.note_fruitless(id, Some(trouble));
        }
        None
    }

    /// Whether the topology has this node, or a slot's owner is there.
    fn is_member(&self, address: &NodeAddr) -> bool {
        let is_owner = |key: NodeKey| self.map.is_owner(key);
        self.map.members_at(address).next().is_some() || self.nodes.at(address).is_some_and(is_owner)
    }

    /// What moved to this node is to be found anew.
    pub(super) fn reopen(&mut self, id: ScanId, node: &str) {
        let text = format!("slots move to the node {node}, which cannot be reached or does not take them");
        let error = Error::ClusterDown(text);
        if let Some(scan) = self.scans.get_mut(id)
            && let Source::Keys(coverage) = &mut scan.source
        {
            coverage.reopen(node);
            scan.reopened += 1;
            // Passing over the nodes once more gives the same keys once more: the caller decides.
            if scan.reopened > REOPENED_MAX {
                (scan.reopened, scan.error) = (0, Some(error.clone()));
                self.scans.mark_due(id);
            }
        }
        self.note_fruitless(id, Some(error));
    }

    /// A pass has come to nothing, or there is none to begin: the topology has changed, or is about
    /// to.
    pub(super) fn note_fruitless(&mut self, id: ScanId, trouble: Option<Error>) {
        let retry = self.cx.config.retry;
        let fruitless = self.scans.get(id).map_or(0, |scan| scan.fruitless);
        let wait = self.cx.random.backoff(retry.base, retry.cap, fruitless.min(10));
        if let Some(scan) = self.scans.get_mut(id) {
            scan.fruitless = scan.fruitless.saturating_add(1);
            scan.not_before = Some(self.cx.now + wait);
            scan.trouble = trouble.or(scan.trouble.take());
        }
        self.map.want_refresh();
    }

    /// Asks what each pass has to ask next.
    fn ask_all(&mut self, id: ScanId) {
        let passes = self.scans.get(id).into_iter().flat_map(|scan| &scan.passes);
        for number in passes.map(|pass| pass.number).collect::<Vec<_>>() {
            self.ask_next(id, number);
        }
    }

    fn ask_next(&mut self, id: ScanId, number: u32) {
        let by_slots = matches!(self.phase, Phase::Clustered);
        let Some(scan) = self.scans.get(id) else {
            return;
        };
        let by_slots = by_slots && matches!(scan.source, Source::Keys(_));
        let Some(pass) = scan.passes.iter().find(|pass| pass.number == number) else {
            return;
        };
        let must_wait = pass.failures > 0 && (!scan.is_wanted() || pass.not_before > self.cx.now);
        if pass.asked.is_some() || pass.has_batch() || must_wait {
            return;
        }
        if by_slots && pass.failures > 0 && !self.is_still_due(scan, pass) {
            return self.scans.drop_pass(id, number);
        }
        if by_slots && pass.node.as_ref().is_some_and(|address| !self.is_member(address)) {
            return self.scans.drop_pass(id, number);
        }
        let of_key = matches!(scan.source, Source::Collection(..));
        let question = pass.question(by_slots, !of_key);
        let command = match question {
            Question::View | Question::Review => Command::new(&["CLUSTER", "NODES"]),
            Question::Identity => Command::new(&["INFO", "server"]),
            Question::Page => scan.page_command(&pass.cursor),
            Question::Nothing => return,
        };
        let node = match (&scan.source, &self.phase) {
            (Source::Collection(..), _) => None,
            (Source::Node(address), _) => Some(address.clone()),
            (Source::Keys(_), Phase::Standalone(node)) => {
                self.nodes.get(*node).map(|node| node.address().clone())
            }
            (Source::Keys(_), _) => pass.node.clone(),
        };
        match command {
            Ok(command) => self.ask_of(id, number, question, command, node.map(Target::Node)),
            Err(error) => {
                if let Some(scan) = self.scans.get_mut(id) {
                    scan.error = Some(error);
                    self.scans.mark_due(id);
                }
            }
        }
    }

    fn ask_of(
        &mut self,
        id: ScanId,
        number: u32,
        question: Question,
        command: Command,
        target: Option<Target>,
    ) {
        let deadline = self.cx.now + self.cx.config.request_timeout;
        let parent = Parent::Pass { scan: id, number };
        let request = self.requests.add_question(&self.cx, command, target, parent, deadline);
        if let Some(pass) = self.scans.get_mut(id).and_then(|scan| scan.pass(number)) {
            pass.asked = Some((request, question));
        }
        self.dispatch(request);
        if self.requests.contains(request) {
            // It is not refused where too many wait: there is one for each pass, and whoever waits
            // for it was let in.
            self.requests.set_deadline(request, deadline);
        }
    }

    /// Whether a pass that has failed is still of use: the slots are its node's, or move there.
    fn is_still_due(&self, scan: &Scan, pass: &Pass) -> bool {
        let Source::Keys(coverage) = &scan.source else {
            return false;
        };
        let node = pass.node.as_ref().and_then(|address| self.nodes.at(address));
        let is_due = |slot| pass.claim.as_ref().is_none_or(|claim| claim.fresh.contains(slot));
        pass.half_of.is_some() || coverage.to_do().any(|slot| is_due(slot) && self.map.owner(slot) == node)
    }

    /// A pass's question has failed.
    pub(super) fn note_failure(&mut self, id: ScanId, number: u32, error: Error) {
        let retry = self.cx.config.retry;
        let jitter = self.cx.random.backoff(retry.base, retry.cap, 0);
        let Some(scan) = self.scans.get_mut(id) else {
            return;
        };
        // What is asked for one key waits and tries again on its own; a node of the caller's choice
        // is not waited for.
        let passes = match &scan.source {
            Source::Collection(..) => false,
            Source::Node(_) if matches!(error, Error::Connect(_)) => false,
            _ => is_passing(&error),
        };
        if !passes {
            scan.error = Some(error.clone());
        }
        let Some(pass) = scan.pass(number) else {
            return;
        };
        let wait = jitter.saturating_mul(1 << pass.failures.min(5)).min(retry.cap);
        pass.failures = pass.failures.saturating_add(1);
        pass.not_before = self.cx.now + wait;
        pass.failure = passes.then_some(error);
        pass.conn = None;
        if pass.failures >= FAILURES_MAX
            && let Some(node) = pass.half_of.take()
        {
            self.scans.drop_pass(id, number);
            self.reopen(id, &node);
        }
    }

    /// Tells all who wait when everything has been handed out.
    fn end_if_complete(&mut self, id: ScanId) {
        let by_slots = matches!(self.phase, Phase::Clustered);
        let Some(scan) = self.scans.get_mut(id) else {
            return;
        };
        let is_complete = match &scan.source {
            Source::Keys(coverage) if by_slots => coverage.is_complete() && scan.passes.is_empty(),
            _ => scan.passes.first().is_some_and(Pass::is_over),
        };
        if is_complete {
            for request in scan.waiting.take() {
                self.finish(request, Ok(RawReply::new(Bytes::from_static(b"*-1\r\n"), 1)));
            }
        }
    }
}
