//! How long a command may block, from its words.
//!
//! WAIT and WAITAOF are about the writes of *their* connection, and so go over the one that all
//! share.

use core::time::Duration;

use super::prepared::Command;
use crate::resp::parse_double;
use crate::time::Instant;

/// How a command blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Blocks {
    /// As its own argument says; none: until there is something.
    time: Option<Duration>,
    /// Whether it has a connection for itself.
    pub(crate) alone: bool,
}

impl Blocks {
    /// What the command says. A time that cannot be read counts as none, although the server may
    /// know how (`0x10`).
    pub(crate) fn of(full_name: &str, args: &[&[u8]]) -> Option<Self> {
        let last = args.len().checked_sub(1);
        let (place, unit) = match full_name {
            "BLPOP" | "BRPOP" | "BRPOPLPUSH" | "BLMOVE" | "BZPOPMIN" | "BZPOPMAX" => (last, 1.0),
            "BLMPOP" | "BZMPOP" => (Some(1), 1.0),
            "WAIT" | "WAITAOF" => (last, 0.001),
            "XREAD" | "XREADGROUP" => (Some(place_of_block(args)?), 0.001),
            _ => return None,
        };
        let number = place.and_then(|place| args.get(place)).and_then(|arg| parse_double(arg));
        let time = match number {
            Some(0.0) => None,
            number => {
                let seconds = number.map(|number| number * unit);
                Some(
                    seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()).unwrap_or_default(),
                )
            }
        };
        Some(Self { time, alone: !full_name.starts_with("WAIT") })
    }

    /// How long it waits; none when it is until there is something.
    pub(crate) fn time(self) -> Option<Duration> {
        self.time
    }
}

/// Where the time behind BLOCK stands. The last one counts, and none behind STREAMS, where keys may
/// have any name.
fn place_of_block(args: &[&[u8]]) -> Option<usize> {
    let (mut at, mut block) = (1, None);
    while let Some(option) = args.get(at) {
        let is = |name: &[u8]| option.eq_ignore_ascii_case(name);
        at += match () {
            () if is(b"STREAMS") => break,
            () if is(b"BLOCK") => {
                block = Some(at + 1);
                2
            }
            () if is(b"COUNT") => 2,
            // Its name and the consumer's.
            () if is(b"GROUP") => 3,
            () => 1,
        };
    }
    block
}

/// When a command that is sent at this time has waited as long as it says; never, when it says
/// nothing.
pub(crate) fn after_blocking(sent: Instant, command: &Command) -> Instant {
    match command.blocks.map(Blocks::time) {
        None => sent,
        Some(Some(time)) => sent + time,
        Some(None) => Instant::NEVER,
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
        assert_eq!(
            blocks("XREADGROUP GROUP streams block COUNT 1 BLOCK 5000 BLOCK 2000 STREAMS a >"),
            time(2.0)
        );
        for line in ["BLPOP a x", "BLPOP a -1", "BLPOP a nan", "BLPOP a inf", "BLPOP", "XREAD BLOCK"] {
            assert_eq!(blocks(line), time(0.0), "{line}");
        }
        for line in ["GET a", "XREAD STREAMS a 0"] {
            assert_eq!(blocks(line), None, "{line}");
        }
    }
}
