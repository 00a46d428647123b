//! A `no_std` crate for this target links no C library, but the compiler calls `memcmp` and its
//! like. wasi-libc, which comes with the target, has them; nothing else of it is pulled in.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-link-lib=static=c");
}
