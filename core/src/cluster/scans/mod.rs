//! Scans: what is asked of which node next, and what the caller gets.
//!
//! ```text
//!   next ─→ request at the scan ───────────────────────────────→ a batch, or the end
//!                                                                ↑
//!   pass over a node: CLUSTER NODES ─→ INFO ─→ SCAN ─→ page ─→ batch that waits for `next`
//!                                               ↑       │ empty │ handed out
//!                                               └───────┴───────┴─ at the end ─→ CLUSTER NODES
//! ```
//!
//! Which slots a pass does is the [`SlotCoverage`](crate::scan::SlotCoverage)'s to say. Passes run
//! at the same time, as many as the caller wants; each has one question under way or one batch
//! waiting, so a scan's memory does not grow with the keys. Their requests are the machine's own,
//! fixed to the pass's node, and go on while nobody waits.
//!
//! A cursor is good at the process that gave it. So its `run_id` is asked for again (INFO) when the
//! connection is another one than the last page's; when it has changed the pass begins anew.
//!
//! Errors: what passes (a node that is down, LOADING) makes the pass wait and try again, and the
//! next `next` that times out is told of it; the rest is told at once. Either way the scan goes on
//! with the next `next`.

mod alarms;
mod answer;
mod drive;
mod page;
mod pass;
mod scan;

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use slotmap::SlotMap as Arena;

use super::ids::{RequestId, ScanId};
use super::timers::Timers;
use crate::error::Error;
use crate::scan::ResumeToken;
use pass::Pass;
use scan::{Scan, Source};
pub use scan::{ScanOptions, Subject};

/// All scans, those of which something has come, and when each wants attention.
#[derive(Debug, Default)]
pub(in crate::cluster) struct Scans {
    all: Arena<ScanId, Scan>,
    due: Vec<ScanId>,
    alarms: Timers<ScanId>,
}

impl Scans {
    fn get(&self, id: ScanId) -> Option<&Scan> {
        self.all.get(id)
    }

    fn get_mut(&mut self, id: ScanId) -> Option<&mut Scan> {
        self.all.get_mut(id)
    }

    /// Something has come of a scan: it is driven before the driver waits.
    fn mark_due(&mut self, id: ScanId) {
        self.due.push(id);
    }

    /// Begins a scan.
    pub(in crate::cluster) fn open(&mut self, options: ScanOptions) -> Result<ScanId, Error> {
        Ok(self.all.insert(Scan::new(options)?))
    }

    /// How far a scan has come. There is no token of a scan of one key.
    pub(in crate::cluster) fn token(&self, id: ScanId) -> Option<Vec<u8>> {
        let scan = self.get(id)?;
        let mut token = ResumeToken { filter: scan.filter(), ..ResumeToken::default() };
        match &scan.source {
            Source::Keys(coverage) => token.coverage = coverage.clone(),
            Source::Node(address) => token.node = Some(address.clone()),
            Source::Collection(..) => return None,
        }
        token.passes = scan.passes.iter().map(Pass::bookmark).collect();
        Some(token.encode())
    }

    /// Ends a scan. Gives what its passes have asked, and who waits for its batches.
    pub(in crate::cluster) fn close(&mut self, id: ScanId) -> Option<(Vec<RequestId>, VecDeque<RequestId>)> {
        let mut scan = self.all.remove(id)?;
        let asked = scan.passes.iter().filter_map(|pass| pass.asked.map(|(request, _)| request));
        Some((asked.collect(), scan.waiting.take()))
    }

    /// Lets a request wait for a scan's next batch. False when there is no such scan.
    pub(in crate::cluster) fn wait(&mut self, id: ScanId, request: RequestId) -> bool {
        let Some(scan) = self.get_mut(id) else {
            return false;
        };
        scan.waiting.push_back(request);
        self.mark_due(id);
        true
    }

    /// A request that waited for a batch is gone; `is_live` is false for it.
    pub(in crate::cluster) fn forget_waiting(
        &mut self,
        id: ScanId,
        request: RequestId,
        is_live: impl Fn(RequestId) -> bool,
    ) {
        if let Some(scan) = self.get_mut(id) {
            scan.waiting.forget(request, is_live);
        }
    }

    /// The questions of a scan that are under way.
    pub(in crate::cluster) fn asked(&self, id: ScanId) -> Vec<RequestId> {
        let passes = self.get(id).into_iter().flat_map(|scan| &scan.passes);
        passes.filter_map(|pass| pass.asked.map(|(request, _)| request)).collect()
    }

    pub(in crate::cluster) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(in crate::cluster) fn len(&self) -> usize {
        self.all.len()
    }

    /// What a pass has asked last, for people, when it is the machine's own question and no page.
    pub(in crate::cluster) fn question(&self, id: ScanId, number: u32) -> Option<&'static str> {
        let pass = self.all.get(id)?.passes.iter().find(|pass| pass.number == number)?;
        pass.asked?.1.name()
    }

    /// How many things it holds.
    pub(in crate::cluster) fn footprint(&self) -> usize {
        self.all.values().map(|scan| 1 + scan.footprint()).sum()
    }

    /// How many entries its alarms have, which are swept now and then.
    pub(in crate::cluster) fn swept(&self) -> usize {
        self.alarms.len()
    }

    /// Forgets all scans.
    pub(in crate::cluster) fn shut_down(&mut self) {
        self.all.clear();
        self.alarms = Timers::default();
    }

    /// Gives a pass up: its slots are to do, as they were.
    fn drop_pass(&mut self, id: ScanId, number: u32) {
        if let Some(scan) = self.get_mut(id) {
            scan.passes.retain(|pass| pass.number != number);
            self.mark_due(id);
        }
    }
}
