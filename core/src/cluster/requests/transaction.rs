//! Transactions: MULTI, commands and EXEC as one request, in one write.
//!
//! ```text
//!   MULTI        ─→ +OK
//!   each command ─→ +QUEUED, or an error
//!   EXEC         ─→ the replies, null, or an error: then none has run
//! ```
//!
//! All go to the node of their one slot, one behind the other, so nothing comes between them on a
//! connection that others share. When EXEC answers with an error, nothing was executed, and the
//! reason decides what becomes of the whole: a redirect is followed, a passing state waited for,
//! and the transaction sent again; anything else is the caller's.
//!
//! One without commands is still asked of a server where keys are watched, to learn whether one of
//! them has changed. Elsewhere there is nothing to ask.
//!
//! Sources: Redis documentation, "Transactions"; `multi.c`, and `processCommand` in `server.c`, of
//! Redis and Valkey.

use super::queueing::Misfit;
use crate::cluster::ids::{ConnId, RequestId};
use crate::cluster::links::ended::Driver;
use crate::cluster::machine::Cluster;

impl Cluster {
    /// Ends a transaction whose answers are none, and its connection when that is in doubt.
    pub(super) fn on_misfit(&mut self, conn: ConnId, id: RequestId, Misfit { error, in_doubt }: Misfit) {
        self.finish(id, Err(error.clone()));
        if in_doubt {
            self.lose(conn, error, Driver::MustClose);
        }
    }
}
