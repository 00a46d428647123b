//! Commands that block: each has a connection lent for itself, and a time-out that follows its own argument.
//!
//! On a connection that others share it would hold up what was sent after it. When it is given up, its connection is closed,
//! so that the server takes nothing from a list for nobody.
//!
//! WAIT and WAITAOF are about the writes of *their* connection, and so go over the one that all share.

use core::time::Duration;

use super::request::{Command, Request, Route, Target};
use super::{Cluster, Phase, RequestId};
use crate::resp::parse_double;
use crate::time::Instant;

/// How a command blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Blocks {
    /// As its own argument says; none: until there is something.
    time: Option<Duration>,
    /// Whether it has a connection for itself.
    alone: bool,
}

impl Blocks {
    /// What the command says. One whose time cannot be read does not block: the server refuses it.
    pub(super) fn of(full_name: &str, args: &[&[u8]]) -> Option<Self> {
        let last = args.len().checked_sub(1);
        let (place, unit) = match full_name {
            "BLPOP" | "BRPOP" | "BRPOPLPUSH" | "BLMOVE" | "BZPOPMIN" | "BZPOPMAX" => (last, 1.0),
            "BLMPOP" | "BZMPOP" => (Some(1), 1.0),
            "WAIT" | "WAITAOF" => (last, 0.001),
            // BLOCK stands before STREAMS, behind which keys may have any name.
            "XREAD" | "XREADGROUP" => {
                let options = args.iter().take_while(|arg| !arg.eq_ignore_ascii_case(b"STREAMS"));
                let block = options.into_iter().position(|arg| arg.eq_ignore_ascii_case(b"BLOCK"))?;
                (Some(block + 1), 0.001)
            }
            _ => return None,
        };
        let number = args.get(place?).and_then(|arg| parse_double(arg))?;
        let time = match number {
            0.0 => None,
            _ => Some(Duration::try_from_secs_f64(number * unit).ok()?),
        };
        Some(Self { time, alone: !full_name.starts_with("WAIT") })
    }
}

impl Cluster {
    /// When a command's time runs out that is taken in now; never for one that blocks until there is something.
    pub(super) fn deadline_of(&self, command: &Command) -> Instant {
        let extra = match command.blocks {
            None => Duration::ZERO,
            Some(Blocks { time: Some(time), .. }) => time,
            Some(Blocks { time: None, .. }) => return Instant::NEVER,
        };
        self.now + self.config.request_timeout.saturating_add(extra)
    }

    /// Whether a request is to have a connection of its own.
    pub(super) fn blocks_alone(&self, request: &Request) -> bool {
        let alone = request.command.blocks.is_some_and(|blocks| blocks.alone);
        let is_possible = match self.phase {
            Phase::Clustered => !matches!(request.command.route, Route::CrossSlot(_)),
            Phase::Standalone(_) => true,
            Phase::Starting(_) | Phase::Closed => false,
        };
        alone && is_possible && request.target.is_none()
    }

    /// Puts a request on a connection of its own, which it has until it ends.
    pub(super) fn send_alone(&mut self, id: RequestId) {
        let slot = self.requests.get(id).and_then(|request| request.command.route.slot());
        // Like any request, it waits for its node as long as its own time lasts.
        let lease = self.open_lease(slot, self.config.request_timeout);
        if let Some(request) = self.requests.get_mut(id) {
            request.own_lease = Some(lease);
            request.target = Some(Target::Lent(lease));
        }
        self.send_on_lease(id, lease);
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn the_time_is_the_commands_own_argument() {
        let blocks = |line: &str| {
            let words: Vec<_> = line.split(' ').collect();
            Command::new(&words).unwrap().blocks.map(|blocks| (blocks.time, blocks.alone))
        };
        let time = |seconds| Some((Some(Duration::from_secs_f64(seconds)), true));
        assert_eq!(blocks("BLPOP a 1.5"), time(1.5));
        assert_eq!(blocks("BLMPOP 2 1 a LEFT"), time(2.0));
        assert_eq!(blocks("BLMOVE {a}1 {a}2 LEFT RIGHT 0"), Some((None, true)));
        assert_eq!(blocks("XREAD COUNT 1 BLOCK 1500 STREAMS a $"), time(1.5));
        assert_eq!(blocks("XREAD STREAMS BLOCK 0"), None);
        assert_eq!(blocks("WAIT 1 250"), Some((Some(Duration::from_millis(250)), false)));
        for line in ["BLPOP a x", "BLPOP a -1", "BLPOP a nan", "BLPOP a inf", "BLPOP", "GET a"] {
            assert_eq!(blocks(line), None, "{line}");
        }
    }
}
