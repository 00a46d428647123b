//! The machine's drivers, one for each version of WASI.

mod p2;

pub(crate) use p2::Driver;
