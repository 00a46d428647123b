//! What callers ask the machine for: commands in all ways there are.

use keyslot_core::address::NodeAddr;
use keyslot_core::cluster::{Command, Destination, RequestId, ScanId};
use keyslot_core::error::Error;
use keyslot_core::resp::Reply;

use super::history::Way;
use super::network::line;
use super::operation::Operation;
use super::wire::Words;
use super::world::World;

impl<A: std::fmt::Debug> World<A> {
    /// Submits a command; [`Self::drain`] has to follow.
    pub(crate) fn submit(&mut self, words: &Words, operation: Option<Operation>) -> Result<RequestId, Error> {
        let command = Command::new(words)?;
        let id = self.hand_in(command, &Destination::Cluster);
        self.submitted(id, words, operation, Way::Free);
        Ok(id)
    }

    /// As [`Self::submit`], of one that the history knows what to expect of.
    pub(crate) fn submit_operation(&mut self, operation: Operation) -> RequestId {
        let command = operation.command(self.cluster.scripts());
        let id = self.hand_in(command, &Destination::Cluster);
        self.submitted(id, &operation.words(), Some(operation), Way::Free);
        id
    }

    /// As [`Self::submit`], of a command that is made already.
    pub(crate) fn submit_command(&mut self, command: Command) -> RequestId {
        let id = self.hand_in(command, &Destination::Cluster);
        self.submitted(id, &vec![b"(made)".to_vec()], None, Way::Free);
        id
    }

    /// Takes a request into the history that was handed in by other ways, and has so much time.
    pub(crate) fn note(&mut self, id: RequestId, time: u64) {
        let now = self.machine_now().as_nanoseconds();
        self.history.submitted(id, None, Way::Free, (now, now + time), &self.servers);
    }

    /// As [`Self::submit`], to one node.
    pub(crate) fn submit_to(
        &mut self,
        node: usize,
        words: &Words,
        operation: Option<Operation>,
    ) -> RequestId {
        let state = &self.servers.nodes[node];
        let address = NodeAddr::new(&state.host, state.address.port());
        let command = Command::new(words).expect("a command that can be sent");
        let id = self.hand_in(command, &Destination::Node(address));
        self.submitted(id, words, operation, Way::Fixed);
        id
    }

    /// As [`Self::submit`], over a connection that is lent.
    pub(crate) fn submit_on(&mut self, lease: u64, words: &Words, operation: Option<Operation>) -> RequestId {
        let command = Command::for_lent(words).expect("a command that can be sent");
        if let Some(operation) = operation {
            self.servers.borrowers.of_number.insert(operation.number, lease);
        }
        let id = self.hand_in(command, &Destination::Lent(self.leases.id(lease)));
        self.submitted(id, words, operation, Way::Lent);
        id
    }

    /// Asks for a scan's next batch; [`Self::drain`] has to follow.
    pub(crate) fn next_batch(&mut self, scan: ScanId) -> RequestId {
        let id = self.ask_for_batch(scan);
        self.submitted(id, &vec![b"(next batch)".to_vec()], None, Way::Free);
        id
    }

    fn submitted(&mut self, id: RequestId, words: &Words, operation: Option<Operation>, way: Way) {
        self.log(|| format!("{id:?} submit {way:?} {}", line(words)));
        let now = self.machine_now();
        let extra = operation.map_or(0, |operation| operation.extra_time());
        let deadline = (now + self.config.request_timeout).as_nanoseconds() + extra;
        let times = (now.as_nanoseconds(), deadline);
        self.history.submitted(id, operation, way, times, &self.servers);
    }

    pub(crate) fn outcome(&self, id: RequestId) -> Option<&Result<Reply, Error>> {
        self.history.outcome(id)
    }
}
