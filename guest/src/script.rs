//! The exported `script`.

use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::bindings::exports::keyslot::redis::redis_cluster::{ClientBorrow, GuestScript};
use crate::client::Client;
use crate::shared::{CommandWords, Shared};

/// A script that its client knows until this is dropped.
pub(crate) struct Script {
    shared: Rc<Shared>,
    sha1: String,
}

impl Script {
    fn words(&self, name: &str, keys: Vec<Vec<u8>>, arguments: Vec<Vec<u8>>) -> CommandWords {
        let mut words = Vec::with_capacity(3 + keys.len() + arguments.len());
        words.extend([name.into(), self.sha1.clone().into_bytes(), keys.len().to_string().into_bytes()]);
        words.extend(keys);
        words.extend(arguments);
        words
    }
}

impl GuestScript for Script {
    fn new(client: ClientBorrow<'_>, source: Vec<u8>) -> Self {
        let shared = Rc::clone(&client.get::<Client>().0);
        let sha1 = shared.driver.borrow_mut().cluster_mut().add_script(&source);
        Self { shared, sha1 }
    }

    fn sha1(&self) -> String {
        self.sha1.clone()
    }

    fn command(&self, keys: Vec<Vec<u8>>, arguments: Vec<Vec<u8>>) -> CommandWords {
        self.words("EVALSHA", keys, arguments)
    }

    fn command_read_only(&self, keys: Vec<Vec<u8>>, arguments: Vec<Vec<u8>>) -> CommandWords {
        self.words("EVALSHA_RO", keys, arguments)
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        self.shared.driver.borrow_mut().cluster_mut().forget_script(&self.sha1);
    }
}
