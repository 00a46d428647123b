//! The exported `connection`: one that is lent.

use alloc::rc::Rc;
use alloc::vec::Vec;

use keyslot_core::cluster::{Cluster, Command, LeaseId};

use crate::bindings::exports::keyslot::redis::redis_cluster::GuestConnection;
use crate::bindings::exports::keyslot::redis::types;
use crate::client::{CommandWords, Shared, WitResult};

/// A connection of the caller's own, until it is dropped.
pub(crate) struct Connection {
    shared: Rc<Shared>,
    lease: LeaseId,
}

impl Connection {
    pub(crate) fn new(shared: Rc<Shared>, lease: LeaseId) -> Self {
        Self { shared, lease }
    }
}

impl GuestConnection for Connection {
    fn execute(&self, words: CommandWords) -> WitResult {
        let mut results = self.pipeline(Vec::from([words]));
        results.pop().unwrap_or(Err(types::Error::Closed))
    }

    fn pipeline(&self, commands: Vec<CommandWords>) -> Vec<WitResult> {
        self.shared.run_all(commands, Command::for_lent, |cluster, now, command| {
            cluster.submit_on(now, self.lease, command)
        })
    }

    fn submit(&self, commands: Vec<CommandWords>) -> u64 {
        let commands = commands.into_iter().map(|words| Command::for_lent(&words));
        let submit = |cluster: &mut Cluster, now, command| cluster.submit_on(now, self.lease, command);
        self.shared.driver.borrow_mut().submit(commands, submit)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.driver.borrow_mut().give_back(self.lease);
    }
}
