//! The exported `connection`: one that is lent.

use alloc::rc::Rc;
use alloc::vec::Vec;

use keyslot_core::cluster::{Command, Destination, LeaseId};
use keyslot_core::session::Ended;

use crate::bindings::exports::keyslot::redis::redis_cluster::GuestConnection;
use crate::bindings::exports::keyslot::redis::types;
use crate::shared::{CommandWords, Shared, WitResult};

/// A connection of the caller's own, until it is dropped.
pub(crate) struct Connection {
    pub(crate) shared: Rc<Shared>,
    pub(crate) lease: LeaseId,
}

impl Connection {
    pub(crate) fn new(shared: Rc<Shared>, lease: LeaseId) -> Self {
        Self { shared, lease }
    }

    /// Runs one command, which may be a transaction.
    pub(crate) fn run(&self, command: Command) -> Ended {
        self.shared.driver.borrow_mut().run_one(command, Destination::Lent(self.lease))
    }
}

impl GuestConnection for Connection {
    fn execute(&self, words: CommandWords) -> WitResult {
        let mut results = self.pipeline(Vec::from([words]));
        results.pop().unwrap_or(Err(types::Error::Closed))
    }

    fn pipeline(&self, commands: Vec<CommandWords>) -> Vec<WitResult> {
        self.shared.run_all(commands, true, Destination::Lent(self.lease))
    }

    fn submit(&self, commands: Vec<CommandWords>) -> u64 {
        self.shared.submit_all(commands, true, Destination::Lent(self.lease))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.driver.borrow_mut().give_back(self.lease);
    }
}
