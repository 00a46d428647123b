//! The questions for the topology: three in one write.

use super::round::Query;
use crate::cluster::ids::ConnId;
use crate::cluster::links::connection::Expected;
use crate::cluster::machine::Cluster;

impl Cluster {
    /// Sends the questions.
    pub(in crate::cluster) fn ask(&mut self, conn: ConnId) {
        if self.links.get(conn).is_none() {
            return;
        }
        if self.map.refresh.began_at.is_none() {
            self.map.refresh.began_at = Some(self.cx.now);
            self.map.refresh.changed = false;
        }
        self.map.refresh.serial += 1;
        let number = self.map.refresh.serial;
        self.links.send_words(&mut self.cx, conn, &["CLUSTER", "SLOTS"], Expected::Slots(number));
        self.links.send_words(&mut self.cx, conn, &["CLUSTER", "SHARDS"], Expected::Shards(number));
        self.links.send_words(&mut self.cx, conn, &["CLUSTER", "INFO"], Expected::Info(number));
        self.map.refresh.queries.push(Query { number, conn, asked_at: self.cx.now, topology: None });
    }
}
