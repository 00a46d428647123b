//! The clock, and the one poll over all that the driver waits for.

use alloc::vec::Vec;

use keyslot_core::cluster::ConnId;
use keyslot_core::time::Instant;
use litemap::LiteMap;
use wasi::clocks::monotonic_clock;
use wasi::io::poll::{Pollable, poll};

use super::lookup::Lookup;
use super::socket::Socket;

/// What a pollable of the list is for.
#[derive(Clone, Copy)]
pub(super) enum Source {
    Socket(ConnId),
    Lookup(ConnId),
    Timer,
}

/// A pollable that is ready at an instant, or none.
#[derive(Default)]
pub(super) struct Timer(Option<(Instant, Pollable)>);

impl Timer {
    /// Keeps the timer if it is ready no later than `wake`. One that is early costs a turn of the
    /// loop, a new one for each request would cost two calls of the host.
    pub(super) fn set(&mut self, wake: Option<Instant>) {
        let Some(wake) = wake else {
            self.0 = None;
            return;
        };
        if self.0.as_ref().is_none_or(|(at, _)| *at > wake) {
            self.0 = Some((wake, monotonic_clock::subscribe_instant(wake.as_nanoseconds())));
        }
    }
}

/// Sleeps until something is ready, and gives what is. Nothing when there is nothing to wait for,
/// or when the host ended the sleep early.
pub(super) fn sleep(
    sockets: &LiteMap<ConnId, Socket>,
    lookups: &LiteMap<ConnId, Lookup>,
    timer: &Timer,
) -> Vec<Source> {
    let mut sources = Vec::new();
    let mut pollables = Vec::new();
    for (conn, socket) in sockets {
        socket.subscribe(|pollable| {
            sources.push(Source::Socket(*conn));
            pollables.push(pollable);
        });
    }
    for (conn, lookup) in lookups {
        sources.push(Source::Lookup(*conn));
        pollables.push(lookup.ready());
    }
    if let Some((_, pollable)) = &timer.0 {
        sources.push(Source::Timer);
        pollables.push(pollable);
    }
    // An empty list would trap. The machine always has a deadline while a request is open.
    if pollables.is_empty() {
        return Vec::new();
    }
    poll(&pollables).into_iter().filter_map(|index| sources.get(index as usize).copied()).collect()
}

pub(super) fn now() -> Instant {
    Instant::from_nanoseconds(monotonic_clock::now())
}
