//! What the machine's ends are of: a request's token is its number among all that were handed in.

use std::fmt::Debug;

use keyslot_core::cluster::{Command, Destination, Output, RequestId, ScanId, Token};

use super::world::World;

/// All requests, in the order in which they were handed in.
#[derive(Debug, Default)]
pub(super) struct Tokens(Vec<RequestId>);

impl Tokens {
    fn next(&self) -> Token {
        Token(self.0.len() as u64)
    }

    /// The request that has this token.
    pub(super) fn request(&self, token: Token) -> RequestId {
        self.0[token.0 as usize]
    }
}

impl<A: Debug> World<A> {
    /// Gives the machine a command, of which the history does not hear; [`Self::drain`] has to
    /// follow.
    pub(crate) fn hand_in(&mut self, command: Command, destination: &Destination) -> RequestId {
        let id = self.cluster.submit(self.machine_now(), command, destination, self.tokens.next());
        self.tokens.0.push(id);
        id
    }

    /// As [`Self::hand_in`], of the request for a scan's next batch.
    pub(super) fn ask_for_batch(&mut self, scan: ScanId) -> RequestId {
        let id = self.cluster.next_batch(self.machine_now(), scan, self.tokens.next());
        self.tokens.0.push(id);
        id
    }

    /// Takes an output into the digest. A request's id tells more of the machine than its token.
    pub(super) fn digest_output(&mut self, output: &Output) {
        match output {
            Output::Done { token, result } => {
                let id = self.tokens.request(*token);
                self.digest(format_args!("Done {{ id: {id:?}, result: {result:?} }}"));
            }
            output => self.digest(output),
        }
    }
}
