//! When scans have something to do without an answer: a pass that failed is tried again, and new ones begin after some that came to nothing.

use super::scan::Scan;
use crate::cluster::Cluster;
use crate::cluster::ids::ScanId;
use crate::time::Instant;

impl Cluster {
    /// Sets a scan's alarm. Nobody is woken for one whose batches nobody waits for.
    pub(super) fn watch_scan(&mut self, id: ScanId) {
        if let Some(scan) = self.scans.get_mut(id) {
            let due = scan.due_at();
            scan.alarm.set(due, id, &mut self.scan_alarms);
        }
        let scans = &self.scans;
        self.scan_alarms
            .sweep(scans.len(), |at, id| scans.get(id).is_some_and(|scan| scan.alarm.is_set_to(at)));
    }

    /// When a scan that somebody waits for has something to do. What has been done meanwhile is no reason to wake up.
    pub(in crate::cluster) fn next_scan_wake(&mut self) -> Option<Instant> {
        while let Some((at, id)) = self.scan_alarms.first() {
            let scan = self.scans.get(id).filter(|scan| scan.alarm.is_set_to(at));
            if scan.and_then(Scan::due_at).is_some_and(|due| due <= at) {
                return Some(at);
            }
            self.scan_alarms.pop_entry(at);
            if self.scans.get_mut(id).is_some_and(|scan| scan.alarm.goes_off(at)) {
                self.watch_scan(id);
            }
        }
        None
    }

    /// Marks the scans that have something to do now.
    pub(in crate::cluster) fn check_scans(&mut self) {
        while let Some((at, id)) = self.scan_alarms.pop_entry(self.cx.now) {
            if let Some(scan) = self.scans.get_mut(id)
                && scan.alarm.goes_off(at)
            {
                // `drive_scan` sets the next alarm.
                self.scans_due.push(id);
            }
        }
    }
}
