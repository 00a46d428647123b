//! The end of everything that is under way.

use alloc::vec::Vec;

use super::machine::{Cluster, Phase};
use crate::error::Error;

impl Cluster {
    /// Ends everything that is under way.
    pub(super) fn shut_down(&mut self, error: &Error) {
        self.phase = Phase::Closed;
        let requests: Vec<_> = self.requests.keys().collect();
        for id in requests {
            self.finish(id, Err(error.clone()));
        }
        self.links.shut_down(&mut self.cx);
        self.pool.shut_down();
        self.scans.shut_down();
        self.nodes.shut_down();
        self.requests.shut_down();
        self.map.shut_down();
        self.news.clear();
    }
}
