//! What the benchmarks run both on this machine and as a component in wasmtime: redis-rs's cluster
//! client, and the decoders of redis-rs and of Keyslot.
//!
//! Both have one source, so the two rows differ only in where it runs. `cargo xtask bench` builds
//! the component; its interface is in wit/peer.wit.

pub mod cluster;
#[cfg(target_family = "wasm")]
mod component;
pub mod decode;
pub mod work;
