//! The component: WIT calls in, WASI sockets out, and [`keyslot_core`] between.
//!
//! | module | what it does |
//! |---|---|
//! | `component` | what is exported, and by which types |
//! | `client`, `connection`, `watched`, `script`, `scanner`, `options` | the exported resources |
//! | `wire` | the same with requests and replies as bytes |
//! | `shared` | what a client and all that was made with it have together |
//! | `convert` | the core's types ↔ WIT's |
//! | `io/p2` | the poll loop over the sockets, look-ups and clock of WASI 0.2 |
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
mod component;
mod connection;
mod convert;
mod io;
mod options;
mod scanner;
mod script;
mod shared;
mod watched;
mod wire;

/// The core and this crate are written so that they do not panic; if they do, the component stops
/// at once.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    core::arch::wasm32::unreachable()
}
