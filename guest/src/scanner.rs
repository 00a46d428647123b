//! The exported `scanner`, and the `scan-options` that it is made of.

use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::RefCell;

use keyslot_core::address::NodeAddr;
use keyslot_core::cluster::{Command, Destination, ScanId, ScanOptions, Subject};
use keyslot_core::error::Error;
use keyslot_core::resp::{Item, RawReply};

use crate::bindings::exports::keyslot::redis::redis_cluster::{
    self, GuestScanOptions, GuestScanner, ScanSubject,
};
use crate::bindings::exports::keyslot::redis::types;
use crate::convert;
use crate::shared::Shared;

/// Settings as they were given. What is wrong with the node is told by the scan that they are for.
pub(crate) struct Options(RefCell<Given>);

struct Given {
    options: ScanOptions,
    node: Option<String>,
}

impl GuestScanOptions for Options {
    fn new() -> Self {
        Self(RefCell::new(Given { options: ScanOptions::new(Subject::Cluster), node: None }))
    }

    fn set_match(&self, pattern: Vec<u8>) {
        self.0.borrow_mut().options.pattern = Some(pattern);
    }

    fn set_count(&self, count: u32) {
        self.0.borrow_mut().options.count = count;
    }

    fn set_type(&self, name: String) {
        self.0.borrow_mut().options.kind = Some(name.into_bytes());
    }

    fn set_node(&self, node: String) {
        self.0.borrow_mut().node = Some(node);
    }

    fn set_parallel(&self, nodes: u32) {
        self.0.borrow_mut().options.parallel = nodes;
    }

    fn set_token(&self, token: Vec<u8>) {
        self.0.borrow_mut().options.token = Some(token);
    }
}

/// A scan, until it is dropped.
pub(crate) struct Scanner {
    shared: Rc<Shared>,
    scan: ScanId,
}

impl Scanner {
    /// Begins a scan.
    pub(crate) fn open(
        shared: &Rc<Shared>,
        subject: ScanSubject,
        options: &Options,
    ) -> Result<redis_cluster::Scanner, types::Error> {
        let given = options.0.borrow();
        let subject = match (subject, &given.node) {
            (ScanSubject::Keys, None) => Some(Subject::Cluster),
            (ScanSubject::Keys, Some(node)) => NodeAddr::parse(node).map(Subject::Node),
            (ScanSubject::Hash(key), None) => Some(Subject::Hash(key)),
            (ScanSubject::Set(key), None) => Some(Subject::Set(key)),
            (ScanSubject::SortedSet(key), None) => Some(Subject::SortedSet(key)),
            _ => None,
        };
        let wrong = || Error::InvalidArgument("the node is not host:port, or it is a scan of one key".into());
        let opened = subject.ok_or_else(wrong).and_then(|subject| {
            let options = ScanOptions { subject, ..given.options.clone() };
            shared.driver.borrow_mut().open_scan(options)
        });
        let scan = opened.map_err(convert::wit_error)?;
        Ok(redis_cluster::Scanner::new(Self { shared: Rc::clone(shared), scan }))
    }
}

impl GuestScanner for Scanner {
    fn next(&self) -> Result<Option<Vec<Vec<u8>>>, types::Error> {
        let mut batch = Err(Error::Closed);
        let mut request = core::iter::once(Ok((Command::next_batch(), Destination::Scan(self.scan))));
        self.shared.driver.borrow_mut().run(&mut request, &mut |_, ended| batch = ended);
        batch.map(|batch| elements(&batch)).map_err(convert::wit_error)
    }

    fn submit_next(&self) -> u64 {
        let mut request = core::iter::once(Ok((Command::next_batch(), Destination::Scan(self.scan))));
        self.shared.driver.borrow_mut().submit(&mut request)
    }

    fn token(&self) -> Option<Vec<u8>> {
        self.shared.driver.borrow().cluster().scan_token(self.scan)
    }
}

impl Drop for Scanner {
    fn drop(&mut self) {
        self.shared.driver.borrow_mut().close_scan(self.scan);
    }
}

/// The elements of a batch; none when it is null.
fn elements(batch: &RawReply) -> Option<Vec<Vec<u8>>> {
    let mut elements = Vec::with_capacity(batch.node_count() as usize);
    for item in batch.items() {
        match item {
            Item::Null => return None,
            Item::BulkString(text) | Item::SimpleString(text) => elements.push(text.to_vec()),
            _ => {}
        }
    }
    Some(elements)
}
