//! Scans: what is asked of which node next, and what the caller gets.
//!
//! ```text
//!   next ─→ request at the scan ───────────────────────────────→ a batch, or the end
//!                                                                ↑
//!   pass over a node: CLUSTER NODES ─→ INFO ─→ SCAN ─→ page ─→ batch that waits for `next`
//!                                              ↑         │  └─ handed out, or empty ─┐
//!                                              └─────────┴───────────────────────────┘ ─→ CLUSTER NODES
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

use alloc::vec::Vec;

use slotmap::SlotMap as Arena;

use super::ids::ScanId;
use super::timers::Timers;
use scan::Scan;
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
