//! How each node answers a PING.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::{Client, Target};
use crate::{Error, Role};

/// How a node has answered a PING.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeReport {
    /// `host:port`.
    pub address: String,
    /// What the node is, as the topology has it.
    pub role: Role,
    /// After how long it answered, connecting included where it was not connected; or why it did not.
    pub answer: Result<Duration, Error>,
}

impl Client {
    /// Sends a PING to every node of the topology, replicas too, all at the same time, and returns what each answered, in
    /// the topology's order. It dials nodes that are not connected. Takes no longer than the request time-out, and holds
    /// up no other caller.
    ///
    /// # Errors
    ///
    /// As [`Self::topology`]. What is wrong with a node is told in its report.
    pub async fn health(&self) -> Result<Vec<NodeReport>, Error> {
        let nodes = self.topology().await?.into_iter().flat_map(|shard| shard.nodes);
        let mut pings = JoinSet::new();
        let mut reports = Vec::new();
        for (index, node) in nodes.enumerate() {
            let client = self.clone();
            let target = Target::Node(node.address.clone());
            pings.spawn(async move {
                let started = Instant::now();
                let answer = client.handle.execute(target, vec![b"PING".to_vec()]).await;
                (index, answer.map(|_| started.elapsed()))
            });
            // Until it is told better.
            let answer = Err(Error::Host("the runtime that ran the client has ended".to_owned()));
            reports.push(NodeReport { address: node.address, role: node.role, answer });
        }
        while let Some(ended) = pings.join_next().await {
            if let Ok((index, answer)) = ended {
                reports[index].answer = answer;
            }
        }
        Ok(reports)
    }
}
