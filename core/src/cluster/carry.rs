//! News are carried to the steps that they concern, what has fallen due is done, and what has
//! become ready is driven on.
//!
//! ```text
//!   an input, a call, an instant ─→ one step ─→ its own part changes at once
//!                                      │ tells                      ↑
//!                                      ↓                            │
//!                                    news ── carry_on, in order ─→ one step
//! ```
//!
//! Steps call the steps below them. What concerns a step above is news. So no step is entered
//! twice, and when a step comes back nothing is gone but what it has taken out itself. A reply that
//! simply ends its request tells nothing.

use bytes::Bytes;

use super::ids::ConnId;
use super::machine::Cluster;
use super::news::News;
use super::requests::request::Parent;
use crate::time::Instant;

impl Cluster {
    /// Carries news on until there are none.
    pub(super) fn carry_on(&mut self) {
        while let Some(news) = self.news.pop_front() {
            self.carry(news);
        }
    }

    fn carry(&mut self, news: News) {
        match news {
            News::Lost(loss) => self.on_lost(*loss),
            News::Greeted(conn) => self.on_greeted(conn),
            News::PartEnded { parent: Parent::Whole { id, part }, result, .. } => {
                self.on_part(id, part, result);
            }
            News::PartEnded { parent: Parent::Pass { scan, number }, stage, result } => {
                self.on_pass(scan, number, stage, result);
            }
            News::LeaseIsOver(lease) => self.release_lease(lease),
            News::FirstIsGone(lease) => self.end_paused(lease),
            News::BatchIsLate(id, scan) => self.end_late_batch(id, scan),
        }
    }

    /// Takes in what a connection has received, a reply at a time.
    pub(super) fn receive(&mut self, conn: ConnId, bytes: Bytes) {
        let length = bytes.len();
        self.on_received(conn, bytes);
        while self.take_frame(conn) {
            self.carry_on();
        }
        self.carry_on();
        self.end_receive(conn, length);
    }

    /// Moves the clock, which never goes back, and does what has fallen due.
    pub(super) fn advance(&mut self, now: Instant) {
        self.cx.now = self.cx.now.max(now);
        while let Some(id) = self.requests.next_late(self.cx.now) {
            self.time_out(id);
            self.carry_on();
        }
        while let Some(id) = self.requests.next_retry(self.cx.now) {
            self.retry(id);
            self.carry_on();
        }
        for conn in self.links.due(&self.cx) {
            self.check_connection(conn);
            self.carry_on();
        }
        for key in self.nodes.due(&self.cx) {
            self.tend_node(key);
            self.carry_on();
        }
        while let Some(lease) = self.pool.expire(&self.cx) {
            self.end_late_lease(lease);
            self.carry_on();
        }
        self.scans.expire(&self.cx);
        self.check_start_deadline();
        self.carry_on();
        self.seek_contact();
        self.tend_pools();
        self.drive_refresh();
        self.carry_on();
    }

    /// When `advance` has something to do.
    pub(super) fn next_wake(&mut self) -> Option<Instant> {
        let timers = [
            self.requests.next_deadline(),
            self.start_deadline(),
            self.next_refresh(),
            self.links.next_deadline(&self.cx),
            self.nodes.next_deadline(&self.cx),
            self.pool.next_deadline(),
            self.scans.next_deadline(),
            self.links.next_ease(),
        ];
        timers.into_iter().flatten().min()
    }

    /// Does what need not wait for anything any more: dials, requests that were held, scans.
    pub(super) fn drive(&mut self) {
        self.drive_dials();
        self.carry_on();
        loop {
            self.send_released();
            self.carry_on();
            if !self.drive_scans() {
                break;
            }
            self.carry_on();
        }
    }
}
