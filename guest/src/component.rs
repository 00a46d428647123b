//! The component: which types are its resources.
#![allow(unsafe_code, reason = "generated: the canonical ABI passes pointers")]

use alloc::vec::Vec;

use keyslot_core::slot::Slot;

use crate::bindings;
use crate::client::Client;
use crate::connection::Connection;
use crate::options::Options;
use crate::scanner::{Options as ScanOptions, Scanner};
use crate::script::Script;
use crate::watched::Watched;

/// What is exported: `redis-cluster` here, `wire` in the file of that name.
pub(crate) struct Component;

impl bindings::exports::keyslot::redis::redis_cluster::Guest for Component {
    type Options = Options;
    type Client = Client;
    type Connection = Connection;
    type Watched = Watched;
    type Script = Script;
    type ScanOptions = ScanOptions;
    type Scanner = Scanner;

    fn keyslot(key: Vec<u8>) -> u16 {
        Slot::of_key(&key).number()
    }
}

bindings::export!(Component with_types_in bindings);
