//! Connections that are closed while the host still has a write of theirs under way.
//!
//! Dropping an output-stream may wait until its write has ended: wasmtime's drop does. A node that
//! has stopped, or that no packet reaches, would so hold up the whole component, for up to a
//! quarter of an hour. So such a connection is shut down and kept here until `check-write` gives a
//! permit or an error. Only then is it dropped.
//!
//! The list is the component's, not a client's: a client may be dropped before its connections can
//! be. Nobody is woken for it. Whoever runs looks at it, at most every [`LOOK_EVERY`].
#![allow(unsafe_code, reason = "a static needs `Sync`, and `RefCell` is not")]

use alloc::string::ToString;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::net::SocketAddr;
use core::time::Duration;

use keyslot_core::time::Instant;

use super::socket::{Dying, Refusal, Socket};

/// How often the connections are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// From so many on, an address that has one of these is not dialled again before it has died.
///
/// None can be dropped to make room, since that waits. Each takes a descriptor and up to 64 KiB of
/// the host. Other addresses are still dialled, so the list is at most this long and as many more
/// as there are connections.
const DYING_MAX: usize = 256;

struct List {
    connections: Vec<Dying>,
    looked_at: Instant,
}

struct SingleThreaded(RefCell<List>);

// SAFETY: a component has one thread (wasm32-wasip2 without the feature `atomics`).
unsafe impl Sync for SingleThreaded {}

static DYING: SingleThreaded =
    SingleThreaded(RefCell::new(List { connections: Vec::new(), looked_at: Instant::from_nanoseconds(0) }));

/// Ends a connection, without waiting for anything.
pub(crate) fn close(socket: Socket) {
    if let Some(dying) = socket.close()
        && let Ok(mut list) = DYING.0.try_borrow_mut()
    {
        list.connections.push(dying);
    }
}

/// Drops the connections that have died, when it is time to look.
pub(crate) fn look(now: Instant) {
    let Ok(mut list) = DYING.0.try_borrow_mut() else {
        return;
    };
    if !list.connections.is_empty() && now.saturating_since(list.looked_at) >= LOOK_EVERY {
        list.looked_at = now;
        list.connections.retain(|dying| !dying.is_dead());
    }
}

/// Begins to dial, unless too many connections are dying of which some are the address's.
pub(super) fn dial(address: SocketAddr) -> Result<Socket, Refusal> {
    if refuses(address) {
        let reason = "too many closed connections still have a write under way";
        return Err(Refusal::Failed(reason.to_string()));
    }
    Socket::dial(address)
}

/// Whether an address is not to be dialled now.
fn refuses(address: SocketAddr) -> bool {
    DYING.0.try_borrow().is_ok_and(|list| {
        list.connections.len() >= DYING_MAX && list.connections.iter().any(|dying| dying.address == address)
    })
}
