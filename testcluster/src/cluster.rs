//! A cluster as a value: how it is made, and what it is like now.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use keyslot_core::slot::SLOT_COUNT;

use crate::connection::Connection;
use crate::error::Error;
use crate::process::{ServerOptions, ServerProcess};
use crate::view::{Report, View, disagreement};

/// How long the cluster may take to be as expected, unless the builder says otherwise.
const DEADLINE: Duration = Duration::from_secs(60);

/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A running cluster. Nodes are named by their index, which stays theirs whatever their role; at
/// the start the primaries come first.
///
/// All methods but [`add_node`](Self::add_node) take `&self`, so that one thread can hurt the
/// cluster while others use it. Dropping it ends every process and removes every folder; when the
/// thread is panicking, the end of each server's log is printed first.
#[derive(Debug)]
pub struct TestCluster {
    pub(crate) nodes: Vec<TestNode>,
    pub(crate) options: ServerOptions,
    deadline: Duration,
    /// The migrations under way: slot → from, to.
    migrations: Mutex<HashMap<u16, (usize, usize)>>,
}

/// One node of a [`TestCluster`].
#[derive(Debug)]
pub struct TestNode {
    address: SocketAddr,
    id: String,
    password: Option<String>,
    process: Mutex<ServerProcess>,
    /// Set for good by [`TestCluster::forget`]: no part of the cluster any more.
    pub(crate) forgotten: AtomicBool,
}

impl TestCluster {
    /// Starts a cluster with the slots shared evenly between the primaries, and waits until all
    /// nodes agree.
    ///
    /// # Errors
    ///
    /// When there is no server program, or the cluster does not come up.
    pub fn start(primaries: usize, replicas_per_primary: usize) -> Result<Self, Error> {
        Self::builder().primaries(primaries).replicas(replicas_per_primary).start()
    }

    /// A cluster with settings of its own.
    #[must_use]
    pub fn builder() -> TestClusterBuilder {
        TestClusterBuilder::default()
    }

    /// All nodes, in the order of their indices.
    #[must_use]
    pub fn nodes(&self) -> &[TestNode] {
        &self.nodes
    }

    /// The ports of all nodes.
    #[must_use]
    pub fn ports(&self) -> Vec<u16> {
        self.nodes.iter().map(TestNode::port).collect()
    }

    /// `host:port` of all nodes.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        self.nodes.iter().map(TestNode::address).collect()
    }

    /// `redis://host:port` of all nodes.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(TestNode::url).collect()
    }

    /// The index of the node that listens on `port`.
    #[must_use]
    pub fn node_of_port(&self, port: u16) -> Option<usize> {
        self.nodes.iter().position(|node| node.port() == port)
    }

    /// A new connection to a node, authenticated when the cluster has a password.
    ///
    /// # Errors
    ///
    /// When the node does not answer.
    pub fn connection(&self, node: usize) -> Result<Connection, Error> {
        self.nodes[node].connection()
    }

    /// The node that serves a slot: of those that say that they do, the one with the newest
    /// configuration.
    ///
    /// # Errors
    ///
    /// When no running node serves it.
    pub fn node_of_slot(&self, slot: u16) -> Result<usize, Error> {
        let mut owner = None;
        for node in self.running() {
            let view = self.view(node)?;
            if let Some(myself) = view.myself().filter(|line| line.has("master") && line.serves(slot)) {
                owner = owner.max(Some((myself.epoch, node)));
            }
        }
        owner.map(|(_, node)| node).ok_or_else(|| Error::Unfit(format!("no running node serves slot {slot}")))
    }

    /// The slots that a node says it serves.
    ///
    /// # Errors
    ///
    /// When the node does not answer.
    pub fn slots_of(&self, node: usize) -> Result<Vec<u16>, Error> {
        let view = self.view(node)?;
        let ranges = view.myself().map(|line| line.slots.clone()).unwrap_or_default();
        Ok(ranges.into_iter().flat_map(|(first, last)| first..=last).collect())
    }

    /// The running nodes that take themselves for primaries, those without slots included.
    ///
    /// # Errors
    ///
    /// When a running node does not answer.
    pub fn primaries(&self) -> Result<Vec<usize>, Error> {
        let mut primaries = Vec::new();
        for node in self.running() {
            if self.view(node)?.myself().is_some_and(|line| line.has("master")) {
                primaries.push(node);
            }
        }
        Ok(primaries)
    }

    /// The running nodes that take themselves for replicas of `primary`.
    ///
    /// # Errors
    ///
    /// When a running node does not answer.
    pub fn replicas_of(&self, primary: usize) -> Result<Vec<usize>, Error> {
        let id = &self.nodes[primary].id;
        let mut replicas = Vec::new();
        for node in self.running() {
            if self.view(node)?.myself().is_some_and(|line| line.primary.as_ref() == Some(id)) {
                replicas.push(node);
            }
        }
        Ok(replicas)
    }

    /// The nodes that are neither killed nor paused.
    #[must_use]
    pub fn running(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|&node| self.nodes[node].is_running()).collect()
    }

    /// Waits until the cluster is in order: all running nodes see the same cluster and say that its
    /// state is ok, every slot is served by a running node, killed and paused nodes are known
    /// to have failed, and every running replica follows its primary.
    ///
    /// # Errors
    ///
    /// When that does not come about within the deadline; the error says what was missing.
    pub fn wait_until_agreed(&self) -> Result<(), Error> {
        self.wait_until("all nodes agree", |cluster| Ok(cluster.disagreement()?.map_or(Ok(()), Err)))
    }

    /// Waits until `condition` is true; `what` completes "waiting until". An error of the condition
    /// counts as "not yet".
    ///
    /// # Errors
    ///
    /// When `deadline` has passed.
    pub fn wait_for(
        &self,
        what: &str,
        deadline: Duration,
        mut condition: impl FnMut(&Self) -> Result<bool, Error>,
    ) -> Result<(), Error> {
        wait(what, deadline, || match condition(self) {
            Ok(true) => Ok(()),
            Ok(false) => Err("it is not so".to_owned()),
            Err(error) => Err(error.to_string()),
        })
    }

    /// Like [`wait_for`](Self::wait_for) with the cluster's own deadline and a condition that says
    /// what is missing.
    pub(crate) fn wait_until(
        &self,
        what: &str,
        mut condition: impl FnMut(&Self) -> Result<Result<(), String>, Error>,
    ) -> Result<(), Error> {
        wait(what, self.deadline, || condition(self).unwrap_or_else(|error| Err(error.to_string())))
            .map_err(|error| self.with_logs(error))
    }

    /// A missed deadline with what the servers wrote last, which says why.
    fn with_logs(&self, error: Error) -> Error {
        let Error::Deadline { what, waited, mut last } = error else { return error };
        for node in &self.nodes {
            let log = node.process().log_tail();
            last.push_str(&format!("\n--- the server on port {} wrote last:\n{log}", node.port()));
        }
        Error::Deadline { what, waited, last }
    }

    pub(crate) fn view(&self, node: usize) -> Result<View, Error> {
        View::ask(&mut self.connection(node)?).map_err(Error::call(self.nodes[node].port()))
    }

    pub(crate) fn migrations(&self) -> MutexGuard<'_, HashMap<u16, (usize, usize)>> {
        self.migrations.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn disagreement(&self) -> Result<Option<String>, Error> {
        let members = self.nodes.iter().filter(|node| !node.is_forgotten());
        let (running, down): (Vec<&TestNode>, Vec<_>) = members.partition(|node| node.is_running());
        let mut reports = Vec::new();
        for node in &running {
            let report = Report::ask(node.port(), &mut node.connection()?);
            reports.push(report.map_err(Error::call(node.port()))?);
        }
        let ports = |nodes: &[&TestNode]| nodes.iter().map(|node| node.port()).collect::<Vec<_>>();
        Ok(disagreement(&reports, &ports(&running), &ports(&down)))
    }

    /// Makes one cluster of nodes that know nothing of each other.
    fn join(&self, primaries: usize) -> Result<(), Error> {
        for (index, node) in self.nodes.iter().enumerate() {
            // Distinct from the start, so that the nodes need not find out that two are equal.
            node.run(&["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()])?;
            if index < primaries {
                let share = |index| usize::from(SLOT_COUNT) * index / primaries;
                let slots = (share(index)..share(index + 1)).map(|slot| slot.to_string());
                let command: Vec<String> =
                    ["CLUSTER", "ADDSLOTS"].map(str::to_owned).into_iter().chain(slots).collect();
                node.run(&command)?;
            }
            // Every pair is introduced: gossip alone takes seconds.
            for other in &self.nodes[..index] {
                node.meet(other)?;
            }
        }
        for (index, replica) in self.nodes.iter().enumerate().skip(primaries) {
            let primary = (index - primaries) % primaries;
            self.follow(replica, &self.nodes[primary])?;
        }
        self.wait_until_agreed()
    }

    /// Makes a node a replica, as soon as it knows its primary.
    pub(crate) fn follow(&self, replica: &TestNode, primary: &TestNode) -> Result<(), Error> {
        let what = format!("node {} can be a replica of {}", replica.port(), primary.port());
        self.wait_until(&what, |_| {
            Ok(replica.run(&["CLUSTER", "REPLICATE", &primary.id]).map_err(|error| error.to_string()))
        })
    }
}

impl Drop for TestCluster {
    /// The nodes end with their processes; here stands only which of them the logs that follow
    /// belong to.
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the cluster's nodes were {:?}, running {:?}", self.addresses(), self.running());
        }
    }
}

impl TestNode {
    pub(crate) fn new(process: ServerProcess, options: &ServerOptions) -> Result<Self, Error> {
        let address = process.address();
        let id = process.connection()?.string(&["CLUSTER", "MYID"]).map_err(Error::call(address.port()))?;
        let (password, process) = (options.password.clone(), Mutex::new(process));
        Ok(Self { address, id, password, process, forgotten: AtomicBool::new(false) })
    }

    /// The address that it listens on.
    #[must_use]
    pub const fn host(&self) -> IpAddr {
        self.address.ip()
    }

    /// The port that it listens on.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.address.port()
    }

    /// `host:port`, an IPv6 host in brackets.
    #[must_use]
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// `redis://host:port`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://{}", self.address())
    }

    /// The 40 hexadecimal digits that the cluster knows it by.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The id of its process; `None` when it was killed.
    #[must_use]
    pub fn process_id(&self) -> Option<u32> {
        self.process().id()
    }

    /// Whether it is neither killed nor paused.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.process().is_running()
    }

    /// Whether it is no part of the cluster any more.
    #[must_use]
    pub fn is_forgotten(&self) -> bool {
        self.forgotten.load(Ordering::SeqCst)
    }

    /// A new connection to it, authenticated when the cluster has a password.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub fn connection(&self) -> Result<Connection, Error> {
        crate::process::connect(self.address, self.password.as_deref())
    }

    /// Runs a command that answers OK.
    pub(crate) fn run<A: AsRef<[u8]>>(&self, command: &[A]) -> Result<(), Error> {
        self.connection()?.ok(command).map_err(Error::call(self.port()))
    }

    /// Introduces another node to it.
    pub(crate) fn meet(&self, other: &Self) -> Result<(), Error> {
        self.run(&["CLUSTER", "MEET", &other.host().to_string(), &other.port().to_string()])
    }

    pub(crate) fn process(&self) -> MutexGuard<'_, ServerProcess> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Settings of a [`TestCluster`].
#[derive(Clone, Debug)]
pub struct TestClusterBuilder {
    primaries: usize,
    replicas: usize,
    node_timeout_ms: u32,
    deadline: Duration,
    options: ServerOptions,
}

impl Default for TestClusterBuilder {
    fn default() -> Self {
        Self {
            primaries: 3,
            replicas: 0,
            node_timeout_ms: 2_000,
            deadline: DEADLINE,
            options: ServerOptions::default(),
        }
    }
}

impl TestClusterBuilder {
    /// How many primaries; 3 unless given. Replicas take over only where there are at least 3.
    #[must_use]
    pub const fn primaries(mut self, primaries: usize) -> Self {
        self.primaries = primaries;
        self
    }

    /// How many replicas each primary has; none unless given.
    #[must_use]
    pub const fn replicas(mut self, replicas_per_primary: usize) -> Self {
        self.replicas = replicas_per_primary;
        self
    }

    /// The address that all nodes listen on and announce; 127.0.0.1 unless given.
    #[must_use]
    pub const fn host(mut self, host: IpAddr) -> Self {
        self.options.host = host;
        self
    }

    /// After how long without an answer a node counts as failed; 2,000 ms unless given.
    #[must_use]
    pub const fn node_timeout_ms(mut self, node_timeout_ms: u32) -> Self {
        self.node_timeout_ms = node_timeout_ms;
        self
    }

    /// How long the cluster may take for each thing that is waited for; a minute unless given.
    #[must_use]
    pub const fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// The default user's password, on all nodes. The same as `arg("--requirepass", …)`.
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.options.set_password(password);
        self
    }

    /// One more argument with its value for all nodes, as in `arg("--maxmemory", "10mb")`.
    #[must_use]
    pub fn arg(mut self, name: &str, value: &str) -> Self {
        self.options.push(name, value);
        self
    }

    /// More arguments for all nodes, as they are: `args(["--user", "alice", "on", ">secret", "~*",
    /// "+@all"])`.
    #[must_use]
    pub fn args<'a>(mut self, args: impl IntoIterator<Item = &'a str>) -> Self {
        self.options.args.extend(args.into_iter().map(str::to_owned));
        self
    }

    /// Starts the cluster and waits until all nodes agree.
    ///
    /// # Errors
    ///
    /// When there is no server program, or the cluster does not come up.
    pub fn start(self) -> Result<TestCluster, Error> {
        if self.primaries == 0 {
            return Err(Error::Unfit("a cluster has at least one primary".to_owned()));
        }
        let node_timeout = self.node_timeout_ms.to_string();
        let cluster_args = [
            ["--cluster-enabled", "yes"],
            ["--cluster-config-file", "nodes.conf"],
            ["--cluster-node-timeout", &node_timeout],
            // Replicas stay with the primary they were given to, however the slots move.
            ["--cluster-allow-replica-migration", "no"],
            // A replica that lost its primary may take over however long ago that was.
            ["--cluster-replica-validity-factor", "0"],
            ["--repl-diskless-sync-delay", "0"],
            ["--repl-ping-replica-period", "1"],
            // A synchronisation that got stuck is begun again well before a test gives up.
            ["--repl-timeout", "10"],
        ];
        let mut options = self.options;
        // A node that does not say where it is counts as standing where its connections come from.
        let announced = ["--cluster-announce-ip".to_owned(), options.host.to_string()];
        let cluster_args = cluster_args.into_iter().flatten().map(str::to_owned).chain(announced);
        options.args.splice(0..0, cluster_args);

        let count = self.primaries * (1 + self.replicas);
        let nodes = ServerProcess::start_many(&options, count)?
            .into_iter()
            .map(|process| TestNode::new(process, &options))
            .collect::<Result<_, _>>()?;
        let cluster = TestCluster { nodes, options, deadline: self.deadline, migrations: Mutex::default() };
        cluster.join(self.primaries)?;
        Ok(cluster)
    }
}

fn wait(
    what: &str,
    deadline: Duration,
    mut condition: impl FnMut() -> Result<(), String>,
) -> Result<(), Error> {
    let started = Instant::now();
    loop {
        match condition() {
            Ok(()) => return Ok(()),
            Err(last) if started.elapsed() >= deadline => {
                return Err(Error::Deadline { what: what.to_owned(), waited: started.elapsed(), last });
            }
            Err(_) => thread::sleep(LOOK_EVERY),
        }
    }
}
