//! The exported `watched`: keys that are watched, and what is to be written if they have not
//! changed.

use alloc::vec::Vec;
use core::cell::RefCell;

use keyslot_core::cluster::{Command, Destination};
use keyslot_core::error::Error;

use crate::bindings::exports::keyslot::redis::redis_cluster::GuestWatched;
use crate::bindings::exports::keyslot::redis::types;
use crate::connection::Connection;
use crate::shared::{CommandWords, WitResult};

/// It has its connection until it is dropped.
pub(crate) struct Watched {
    connection: Connection,
    queued: RefCell<Vec<CommandWords>>,
}

impl Watched {
    /// Watches the keys on a connection that was lent for them.
    pub(crate) fn new(connection: Connection, keys: &[Vec<u8>]) -> Result<Self, Error> {
        let watched = Self { connection, queued: RefCell::new(Vec::new()) };
        let words = [b"WATCH".as_slice()].into_iter().chain(keys.iter().map(Vec::as_slice));
        watched.run(&words.collect::<Vec<_>>())?;
        Ok(watched)
    }

    fn run(&self, words: &[&[u8]]) -> Result<(), Error> {
        self.connection.run(Command::for_lent(words)?).map(drop)
    }
}

impl GuestWatched for Watched {
    fn execute(&self, words: CommandWords) -> WitResult {
        let shared = &self.connection.shared;
        let results = shared.run_all(Vec::from([words]), false, Destination::Lent(self.connection.lease));
        results.into_iter().next().unwrap_or(Err(types::Error::Closed))
    }

    fn queue(&self, words: CommandWords) {
        self.queued.borrow_mut().push(words);
    }

    fn exec(&self) -> Result<Option<Vec<WitResult>>, types::Error> {
        let shared = &self.connection.shared;
        let commands = self.queued.take();
        let result = shared.transaction(&commands).and_then(|command| self.connection.run(command));
        if let Err(Error::InvalidArgument(_) | Error::CrossSlot(_)) = result {
            // Nothing was sent.
            self.unwatch();
        }
        shared.results_of(result)
    }

    fn discard(&self) {
        self.queued.take();
        self.unwatch();
    }

    fn unwatch(&self) {
        // Where it fails, the connection has ended, and the watch with it.
        let _ = self.run(&[b"UNWATCH"]);
    }
}
