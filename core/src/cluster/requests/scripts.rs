//! Scripts that the caller has given: what EVALSHA names is sent whole (EVAL) to a node that does
//! not know it.
//!
//! Until a script has run over a connection, each command that runs it carries its text there; so
//! none has to be sent again out of its order. From then on EVALSHA is enough, unless somebody has
//! flushed the scripts: NOSCRIPT says that nothing was executed, so the whole script may follow.

use alloc::string::String;

use crate::cluster::ids::{ConnId, RequestId};
use crate::cluster::machine::Cluster;
use crate::command::script::{ScriptUse, Scripts};
use crate::error::ServerError;
use crate::resp::RawReply;

impl Cluster {
    /// Remembers a script and gives the SHA-1 of its text, in 40 hexadecimal digits: from now on
    /// EVALSHA and EVALSHA_RO with it work at every node. Each is to be forgotten as often as
    /// it was added.
    pub fn add_script(&mut self, source: &[u8]) -> String {
        self.requests.scripts.add(source)
    }

    /// Forgets a script that was added.
    pub fn forget_script(&mut self, sha: &str) {
        if let Some(number) = self.requests.scripts.forget(sha) {
            for connection in self.links.values_mut() {
                connection.forget_script(number);
            }
        }
    }

    /// The scripts that are known.
    #[must_use]
    pub fn scripts(&self) -> &Scripts {
        &self.requests.scripts
    }

    /// A script has run: the node knows it. In a transaction it has only been queued.
    pub(super) fn note_script(&mut self, conn: ConnId, id: RequestId, reply: &RawReply) {
        let script = self.requests.get(id).map(|request| request.command.script);
        if let (Some(ScriptUse::Carries(number)), Some(connection)) = (script, self.links.get_mut(conn))
            && **reply.as_bytes() != *b"+QUEUED\r\n"
        {
            connection.note_script(number);
        }
    }

    /// Puts the whole script into a request that was answered NOSCRIPT. False when it is not known.
    pub(super) fn take_whole_script(&mut self, id: RequestId, conn: ConnId, error: &ServerError) -> bool {
        // A script that writes could answer with any other text after it has.
        if error.code != "NOSCRIPT" || !error.message.starts_with("No matching script") {
            return false;
        }
        if let Some(connection) = self.links.get_mut(conn) {
            connection.forget_scripts();
        }
        self.requests.put_whole_script(id)
    }
}
