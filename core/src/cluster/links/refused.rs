//! When a server refuses what the client asks for its own sake: an access list (ACL) may forbid
//! each of its commands.
//!
//! | refused | what is missing then |
//! |---|---|
//! | READONLY | the node's replicas' reads: the primary serves them, and it is tried again after [`READS_AVOID`] |
//! | ASKING | the commands that an ASK sends there: they end with this refusal |
//! | CLIENT ID, CLIENT UNBLOCK | a command that blocks, once given up, may still take what comes within the server's notice |
//! | CLUSTER SLOTS | news of the topology other than redirects |
//! | CLIENT SETNAME, CLIENT SETINFO, CLUSTER SHARDS, CLUSTER INFO | nothing that is needed |
//!
//! Each is told once for a node, as an event.

use core::time::Duration;

use crate::cluster::ids::ConnId;
use crate::cluster::machine::{Cluster, Phase};
use crate::error::ServerError;

/// So long a node that refuses READONLY gets no reads that its primary could serve.
const READS_AVOID: Duration = Duration::from_secs(10);

impl Cluster {
    /// A node refuses one of the client's own commands.
    pub(in crate::cluster) fn tell_refused(
        &mut self,
        conn: ConnId,
        command: &'static str,
        error: &ServerError,
    ) {
        if let Some(key) = self.links.node_of(conn) {
            self.nodes.tell_refused(&mut self.cx, key, command, error);
        }
    }

    /// Takes the answer to READONLY in.
    pub(super) fn on_read_only(&mut self, conn: ConnId, error: Option<&ServerError>) {
        let Some(connection) = self.links.get_mut(conn) else {
            return;
        };
        connection.reads_refused = error.is_some();
        let key = connection.node;
        // A server alone has nothing to allow.
        let Some(error) = error.filter(|error| {
            !matches!(self.phase, Phase::Standalone(_)) && !error.message.contains("cluster support disabled")
        }) else {
            return;
        };
        if let Some(node) = self.nodes.get_mut(key) {
            node.avoid_reads_until(self.cx.now + READS_AVOID);
        }
        self.tell_refused(conn, "READONLY", error);
    }
}
