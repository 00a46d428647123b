//! What wit-bindgen makes of `wit/`.
#![allow(missing_docs, reason = "the documentation is in wit/")]
#![allow(unsafe_code, reason = "generated: the canonical ABI passes pointers")]
#![allow(unreachable_pub, clippy::all, reason = "generated")]

wit_bindgen::generate!({
    path: "../wit",
    world: "redis",
});
