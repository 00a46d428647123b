//! Scripts that run until they are killed, and what a server does meanwhile (`src/script.c` of
//! Redis and Valkey): at first nothing at all; after `busy-reply-threshold` it serves what has the
//! flag ALLOW_BUSY, and answers BUSY to the rest.

use keyslot_core::cluster::ConnId;

use super::clock::Event;
use super::manners::is_greeting;
use super::wire::{Answer, Words};
use super::world::World;

/// How a node runs scripts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LongScripts {
    /// After so many nanoseconds it answers again.
    pub(crate) threshold: u64,
    /// Whose script runs, and since when.
    running: Option<(ConnId, u64)>,
}

impl LongScripts {
    pub(crate) fn after(threshold: u64) -> Self {
        Self { threshold, running: None }
    }
}

/// What becomes of a command at a node that may run a script.
pub(super) enum Turn {
    /// It is executed.
    Runs,
    /// It is answered so.
    Answered(Answer),
    /// The connection waits with it, and with all behind it.
    Waits,
    /// It has begun a script: its answer comes later.
    Begins,
}

impl<A: std::fmt::Debug> World<A> {
    /// Decides about a command.
    pub(super) fn turn(&mut self, conn: ConnId, node: usize, words: &Words) -> Turn {
        let now = self.now();
        let Some(scripts) = self.servers.nodes[node].manners.scripts.as_mut() else { return Turn::Runs };
        let begins = words[0].eq_ignore_ascii_case(b"EVAL");
        let kills = words[0].eq_ignore_ascii_case(b"SCRIPT") && words[1].eq_ignore_ascii_case(b"KILL");
        let asks = words[0].eq_ignore_ascii_case(b"FUNCTION") && words[1].eq_ignore_ascii_case(b"STATS");
        match scripts.running {
            None if begins => {
                scripts.running = Some((conn, now));
                let at = now + scripts.threshold;
                self.schedule(at, Event::Busy(node));
                Turn::Begins
            }
            None if kills => Turn::Answered(Answer::error("NOTBUSY No scripts in execution right now.")),
            None if asks => Turn::Answered(Answer::Array(vec![Answer::text("running_script"), Answer::Null])),
            None => Turn::Runs,
            Some((own, _)) if own == conn => Turn::Waits,
            Some((_, since)) if now < since + scripts.threshold => Turn::Waits,
            Some((own, _)) if kills => {
                scripts.running = None;
                let killed =
                    Answer::error("ERR Error running script: Script killed by user with SCRIPT KILL...");
                let mut bytes = Vec::new();
                killed.encode(false, &mut bytes);
                self.reply(own, bytes, false);
                self.schedule(now, Event::Busy(node));
                Turn::Answered(Answer::OK)
            }
            Some(_) if asks => {
                Turn::Answered(Answer::Array(vec![Answer::text("running_script"), Answer::text("f")]))
            }
            // READONLY is refused, too.
            Some(_) if is_greeting(words) && words[0] != b"READONLY" => Turn::Runs,
            Some(_) => Turn::Answered(Answer::error(
                "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
            )),
        }
    }
}
