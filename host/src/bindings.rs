//! The package `keyslot:redis` as Rust types and calls, generated from the WIT files.

wasmtime::component::bindgen!({
    path: "../wit",
    world: "redis",
    exports: { default: async },
    additional_derives: [PartialEq],
});
