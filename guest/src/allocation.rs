//! The allocator, for this crate and for what the host puts into its memory.
#![allow(
    unsafe_code,
    reason = "the canonical ABI's allocation function is called by the host with raw pointers"
)]

use alloc::alloc::{alloc, dealloc, realloc};
use core::alloc::Layout;

use dlmalloc::GlobalDlmalloc;

#[global_allocator]
static ALLOCATOR: GlobalDlmalloc = GlobalDlmalloc;

/// The canonical ABI's `realloc`: where the host puts arguments and the results of imports.
///
/// On this target it comes with wasi-libc's start-up code, which a `no_std` crate does not link.
///
/// # Safety
/// As the canonical ABI has it: `old` is what an earlier call gave, with the same `align`, or
/// `old_length` is 0.
#[unsafe(no_mangle)]
unsafe extern "C" fn cabi_realloc(old: *mut u8, old_length: usize, align: usize, length: usize) -> *mut u8 {
    let layout = |length| Layout::from_size_align(length, align);
    let (Ok(old_layout), Ok(new_layout)) = (layout(old_length), layout(length)) else {
        core::arch::wasm32::unreachable();
    };
    // SAFETY: sizes are not zero where the allocator is called, and `old` came from it with
    // `old_layout`.
    let new = unsafe {
        match (old_length, length) {
            // An empty list needs a pointer that is aligned, and nothing behind it.
            (0, 0) => return core::ptr::without_provenance_mut(align),
            (0, _) => alloc(new_layout),
            (_, 0) => {
                dealloc(old, old_layout);
                return core::ptr::without_provenance_mut(align);
            }
            _ => realloc(old, old_layout, length),
        }
    };
    if new.is_null() {
        core::arch::wasm32::unreachable();
    }
    new
}
