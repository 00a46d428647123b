//! Commands for chosen nodes, and how each node answers a PING.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::Client;
use super::call::Query;
use super::handle::runtime_ended;
use super::requests::Requests;
use super::submission::Target;
use crate::bindings::exports::keyslot::redis::redis_cluster::{Role, Route};
use crate::{Error, Reply};

/// How a node has answered a PING.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeReport {
    /// `host:port`.
    pub address: String,
    /// What the node is, as the topology has it.
    pub role: Role,
    /// After how long it answered, connecting included where it was not connected; or why it did
    /// not.
    pub answer: Result<Duration, Error>,
}

impl Client {
    /// Runs one command on each of the route's nodes and on no others, whatever its keys, all at
    /// the same time. Gives what each has answered, with its address, in the topology's order.
    /// Redirects are not followed, nothing is merged.
    ///
    /// A replica answers commands with keys only where the client reads from replicas
    /// ([`Options::replica_reads`](crate::Options::replica_reads)); else it answers MOVED.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] for a node or slot that cannot be, [`Error::ClusterDown`] when no
    /// node is known to serve the slot. What is wrong with a node, or with the command, is told
    /// in its result.
    pub async fn execute_on(
        &self,
        route: Route,
        args: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) -> Result<Vec<(String, Result<Reply, Error>)>, Error> {
        let args: Vec<Vec<u8>> = args.into_iter().map(|arg| arg.as_ref().to_vec()).collect();
        let nodes = self.handle.ask(|reply| Query::Nodes { route, reply }).await??;
        let answers = self.execute_on_each(nodes, &args).await;
        Ok(answers.into_iter().map(|(node, answer, _)| (node, answer)).collect())
    }

    /// Sends a PING to every node of the topology, replicas too, all at the same time, and returns
    /// what each answered, in the topology's order. It dials nodes that are not connected.
    /// Takes no longer than the request time-out, and holds up no other caller.
    ///
    /// A node that refuses the PING (NOPERM …) has answered. LOADING, BUSY and MASTERDOWN, which
    /// say that it serves nobody for now, are its error.
    ///
    /// # Errors
    ///
    /// As [`Self::topology`]. What is wrong with a node is told in its report.
    pub async fn health(&self) -> Result<Vec<NodeReport>, Error> {
        let nodes: Vec<_> = self.topology().await?.into_iter().flat_map(|shard| shard.nodes).collect();
        let addresses = nodes.iter().map(|node| node.address.clone()).collect();
        let answers = self.execute_on_each(addresses, &[b"PING".to_vec()]).await;
        let reports = nodes.iter().zip(answers).map(|(node, (address, answer, after))| NodeReport {
            address,
            role: node.role,
            answer: match answer {
                Err(error) if error.is_unwell() => Err(error),
                // Also one that refuses the PING is there.
                _ => Ok(after),
            },
        });
        Ok(reports.collect())
    }

    /// Sends a command to each of these nodes. Gives their answers in the nodes' order, with how
    /// long each took.
    async fn execute_on_each(
        &self,
        nodes: Vec<String>,
        args: &[Vec<u8>],
    ) -> Vec<(String, Result<Reply, Error>, Duration)> {
        let mut calls = JoinSet::new();
        let mut answers = Vec::with_capacity(nodes.len());
        for (index, node) in nodes.into_iter().enumerate() {
            let (client, target) = (self.clone(), Target::Node(node.clone()));
            let requests = Requests::one(args);
            calls.spawn(async move {
                let started = Instant::now();
                let answer = client.handle.execute(client.caller, target, requests).await;
                (index, answer, started.elapsed())
            });
            // Stays when the runtime ends meanwhile.
            answers.push((node, Err(runtime_ended()), Duration::ZERO));
        }
        while let Some(ended) = calls.join_next().await {
            if let Ok((index, answer, after)) = ended {
                (answers[index].1, answers[index].2) = (answer, after);
            }
        }
        answers
    }
}
