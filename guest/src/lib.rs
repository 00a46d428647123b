//! The component: WIT calls in, WASI sockets out, and [`keyslot_core`] between.
//!
//! | module | what it does |
//! |---|---|
//! | `client`, `connection`, `watched`, `script`, `scanner`, `options` | the exported resources |
//! | `convert` | the core's types ↔ WIT's |
//! | `driver` | the poll loop over all sockets and the next deadline |
//! | `socket`, `lookup` | one TCP connection, one name look-up |
//! | `dying` | connections that cannot be dropped yet |
//! | `allocation` | the allocator, and the one that the canonical ABI asks for |
//! | `bindings` | what wit-bindgen makes of `wit/` |
//!
//! It is `no_std`: a component that links std imports all of wasi:cli and wasi:filesystem, which a
//! host would have to supply for nothing.
#![no_std]
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is a trap, and every byte a server sends is untrusted"
)]

extern crate alloc;

mod allocation;
mod bindings;
mod client;
mod connection;
mod convert;
mod driver;
mod dying;
mod lookup;
mod options;
mod scanner;
mod script;
mod socket;
mod watched;
mod wire;

use keyslot_core::slot::Slot;

/// The core and this crate are written so that they do not panic; if they do, the component stops
/// at once.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    core::arch::wasm32::unreachable()
}

struct Component;

impl bindings::exports::keyslot::redis::redis_cluster::Guest for Component {
    type Options = options::Options;
    type Client = client::Client;
    type Connection = connection::Connection;
    type Watched = watched::Watched;
    type Script = script::Script;
    type ScanOptions = scanner::Options;
    type Scanner = scanner::Scanner;

    fn keyslot(key: alloc::vec::Vec<u8>) -> u16 {
        Slot::of_key(&key).number()
    }
}
