//! When scans have something to do without an answer: a pass that failed is tried again, and new
//! ones begin after some that came to nothing.

use super::Scans;
use super::scan::Scan;
use crate::cluster::context::Context;
use crate::cluster::ids::ScanId;
use crate::time::Instant;

impl Scans {
    /// Sets a scan's alarm. Nobody is woken for one whose batches nobody waits for.
    pub(super) fn watch(&mut self, id: ScanId) {
        if let Some(scan) = self.all.get_mut(id) {
            let due = scan.due_at();
            scan.alarm.set(due, id, &mut self.alarms);
        }
        let all = &self.all;
        self.alarms.sweep(all.len(), |at, id| all.get(id).is_some_and(|scan| scan.alarm.is_set_to(at)));
    }

    /// When a scan that somebody waits for has something to do. What has been done meanwhile is no
    /// reason to wake up.
    pub(in crate::cluster) fn next_deadline(&mut self) -> Option<Instant> {
        while let Some((at, id)) = self.alarms.first() {
            let scan = self.all.get(id).filter(|scan| scan.alarm.is_set_to(at));
            if scan.and_then(Scan::due_at).is_some_and(|due| due <= at) {
                return Some(at);
            }
            self.alarms.pop_entry(at);
            if self.all.get_mut(id).is_some_and(|scan| scan.alarm.goes_off(at)) {
                self.watch(id);
            }
        }
        None
    }

    /// Marks the scans that have something to do now.
    pub(in crate::cluster) fn expire(&mut self, cx: &Context) {
        while let Some((at, id)) = self.alarms.pop_entry(cx.now) {
            if let Some(scan) = self.all.get_mut(id)
                && scan.alarm.goes_off(at)
            {
                // `drive_scan` sets the next alarm.
                self.mark_due(id);
            }
        }
    }
}
