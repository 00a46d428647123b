//! What the benchmarks run both on this machine and as a component in wasmtime: redis-rs's cluster client, and the
//! decoders of redis-rs and of Keyslot.
//!
//! One source for both, so that what differs between the two rows is where it runs. `cargo xtask bench` builds the
//! component; its interface is in wit/peer.wit.

pub mod cluster;
#[cfg(target_family = "wasm")]
mod component;
pub mod decode;
pub mod work;
