//! What happens to clusters: slots move, nodes die, come back, stall, take over and join.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::cluster::{TestCluster, TestNode};
use crate::error::Error;
use crate::info::{CommandStatistics, Connected};
use crate::process::ServerProcess;

/// How long an epoch may take to get around. Nodes tell each other at once.
const EPOCH_DEADLINE: Duration = Duration::from_secs(10);

/// How many slots move at the same time when many do. Each change of a slot makes a node write its
/// configuration to the disk, once for all that it reads at a time.
const SLOTS_AT_A_TIME: usize = 20;

impl TestCluster {
    /// Moves one slot with all its keys, key by key, and leaves the slot with `to`. Every running
    /// primary knows the new owner when this returns; replicas hear of it by gossip.
    ///
    /// # Errors
    ///
    /// When a node refuses.
    pub fn migrate_slot(&self, slot: u16, to: usize) -> Result<(), Error> {
        let from = self.node_of_slot(slot)?;
        if from == to {
            return Ok(());
        }
        self.migrate_slots(&[slot], from, to)
    }

    /// Moves many slots of `from` with all their keys, as `redis-cli --cluster reshard` does but
    /// several at a time: their migrations are opened together, their keys moved one by one,
    /// and they are closed together.
    ///
    /// # Errors
    ///
    /// When a node refuses.
    pub fn migrate_slots(&self, slots: &[u16], from: usize, to: usize) -> Result<(), Error> {
        for slots in slots.chunks(SLOTS_AT_A_TIME) {
            self.open_migrations(slots, from, to)?;
            for slot in slots {
                while self.migrate_keys(*slot, 1)? > 0 {}
            }
            self.close_migrations(slots, from, to)?;
        }
        Ok(())
    }

    /// Opens the migration of a slot: from now on `from` answers ASK for keys of the slot that it
    /// does not have, and `to` serves the slot's keys after ASKING.
    ///
    /// # Errors
    ///
    /// When a node refuses.
    pub fn start_slot_migration(&self, slot: u16, from: usize, to: usize) -> Result<(), Error> {
        self.open_migrations(&[slot], from, to)
    }

    /// Moves up to `count` keys of a slot whose migration is open, one by one. Returns how many it
    /// found: fewer than `count` when these were the last.
    ///
    /// # Errors
    ///
    /// When the migration is not open, or a node refuses.
    pub fn migrate_keys(&self, slot: u16, count: usize) -> Result<usize, Error> {
        let (from, to) = self.migration(slot)?;
        let (source, target) = (&self.nodes[from], &self.nodes[to]);
        let mut connection = source.connection()?;
        let keys = connection
            .strings(&["CLUSTER", "GETKEYSINSLOT", &slot.to_string(), &count.to_string()])
            .map_err(Error::call(source.port()))?;

        let (host, port) = (target.host().to_string(), target.port().to_string());
        let mut command: Vec<&[u8]> = vec![b"MIGRATE", host.as_bytes(), port.as_bytes(), b"", b"0", b"5000"];
        if let Some(password) = &self.options.password {
            command.extend([&b"AUTH"[..], password.as_bytes()]);
        }
        for key in &keys {
            let mut command = command.clone();
            command.extend([&b"KEYS"[..], &key[..]]);
            // OK, or NOKEY when the key has gone meanwhile.
            connection.string(&command).map_err(Error::call(source.port()))?;
        }
        Ok(keys.len())
    }

    /// Closes the migration of a slot: `to` owns it, and every running primary is told.
    ///
    /// Waits first until `to` has heard of the configuration epoch of every primary. A target takes
    /// the slot under an epoch above all that it knows. Were that of `from` still on its way,
    /// the last of the packets in which `from` claims the slot would win it back in the eyes of
    /// `to`, and no node would serve it any more. Were another's, two nodes would have
    /// one epoch, and the one of them that goes on to the next might be `from`, which then wins the
    /// slot back in the same way.
    ///
    /// # Errors
    ///
    /// When the migration is not open, keys are left, or a node refuses.
    pub fn finish_slot_migration(&self, slot: u16) -> Result<(), Error> {
        let (from, to) = self.migration(slot)?;
        self.close_migrations(&[slot], from, to)
    }

    /// Ends a node at once, as a crash would. [`wait_until_agreed`](Self::wait_until_agreed) then
    /// waits until the others know it, and a replica has taken over.
    ///
    /// # Errors
    ///
    /// When the system refuses.
    pub fn kill(&self, node: usize) -> Result<(), Error> {
        self.nodes[node].process().kill()
    }

    /// Ends every node at once, as a power failure would.
    ///
    /// # Errors
    ///
    /// When the system refuses.
    pub fn kill_all(&self) -> Result<(), Error> {
        self.nodes.iter().try_for_each(|node| node.process().kill())
    }

    /// Starts a node again on the same port and in the same folder; it has kept its id, and its
    /// keys only where the cluster was given `--appendonly yes`.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub fn restart(&self, node: usize) -> Result<(), Error> {
        self.nodes[node].process().restart()
    }

    /// Starts again every node that is part of the cluster, as [`restart`](Self::restart) does.
    ///
    /// # Errors
    ///
    /// When one does not answer.
    pub fn restart_all(&self) -> Result<(), Error> {
        let members = self.nodes.iter().filter(|node| !node.is_forgotten());
        members.map(TestNode::process).try_for_each(|mut process| process.restart())
    }

    /// Stops a node where it is: its sockets stay open, and nothing answers.
    ///
    /// # Errors
    ///
    /// When it is not running.
    pub fn pause(&self, node: usize) -> Result<(), Error> {
        self.nodes[node].process().pause()
    }

    /// Lets a node go on after [`pause`](Self::pause).
    ///
    /// # Errors
    ///
    /// When it was killed.
    pub fn resume(&self, node: usize) -> Result<(), Error> {
        self.nodes[node].process().resume()
    }

    /// Lets a replica take over from its running primary, and waits until all nodes agree about it.
    ///
    /// # Errors
    ///
    /// When the node is no replica, or it does not come about within the deadline.
    pub fn failover(&self, replica: usize) -> Result<(), Error> {
        let node = &self.nodes[replica];
        node.run(&["CLUSTER", "FAILOVER"])?;
        self.wait_until(&format!("replica {} is a primary", node.port()), |cluster| {
            let view = cluster.view(replica)?;
            let is_primary = view.myself().is_some_and(|line| line.has("master"));
            Ok(if is_primary { Ok(()) } else { Err("it is still a replica".to_owned()) })
        })?;
        self.wait_until_agreed()
    }

    /// Adds an empty primary and waits until all nodes agree. Returns its index.
    ///
    /// # Errors
    ///
    /// When it does not come about within the deadline.
    pub fn add_node(&mut self) -> Result<usize, Error> {
        let node = TestNode::new(ServerProcess::start(&self.options)?, &self.options)?;
        for other in self.running() {
            node.meet(&self.nodes[other])?;
        }
        self.nodes.push(node);
        self.wait_until_agreed()?;
        Ok(self.nodes.len() - 1)
    }

    /// Makes a node without slots a replica of another, and waits until all nodes agree.
    ///
    /// # Errors
    ///
    /// When the node has slots, or it does not come about within the deadline.
    pub fn replicate(&self, replica: usize, primary: usize) -> Result<(), Error> {
        self.follow(&self.nodes[replica], &self.nodes[primary])?;
        self.wait_until_agreed()
    }

    /// Lets every running node forget a killed one for good, and waits until all agree without it.
    /// The node keeps its index, and must not be started again.
    ///
    /// # Errors
    ///
    /// When the node was not killed, is the primary of a running one, or it does not come about
    /// within the deadline.
    pub fn forget(&self, node: usize) -> Result<(), Error> {
        let forgotten = &self.nodes[node];
        if forgotten.process_id().is_some() {
            return Err(Error::Unfit(format!("the node on port {} was not killed", forgotten.port())));
        }
        for other in self.running() {
            self.nodes[other].run(&["CLUSTER", "FORGET", forgotten.id()])?;
        }
        forgotten.forgotten.store(true, Ordering::SeqCst);
        self.wait_until_agreed()
    }

    /// How often a node has executed a command since it started, as INFO commandstats has it:
    /// `get`, `cluster|slots` (a server before Redis 7.0 counts all of CLUSTER under
    /// `cluster`).
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub fn command_calls(&self, node: usize, command: &str) -> Result<u64, Error> {
        // What was never called is not listed.
        Ok(self.command_statistics(node)?.get(command).map_or(0, |statistics| statistics.calls))
    }

    /// What a node has done with each command since it started, as INFO commandstats has it.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub fn command_statistics(&self, node: usize) -> Result<BTreeMap<String, CommandStatistics>, Error> {
        let port = self.nodes[node].port();
        let info = self.connection(node)?.string(&["INFO", "commandstats"]).map_err(Error::call(port))?;
        Ok(info.lines().filter_map(CommandStatistics::parse).collect())
    }

    /// The connections that a node has, the one that asks for them included.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub fn connected(&self, node: usize) -> Result<Vec<Connected>, Error> {
        Connected::ask(&mut self.connection(node)?).map_err(Error::call(self.nodes[node].port()))
    }

    /// CONFIG SET of a running node.
    ///
    /// # Errors
    ///
    /// When it refuses.
    pub fn configure(&self, node: usize, name: &str, value: &str) -> Result<(), Error> {
        self.nodes[node].run(&["CONFIG", "SET", name, value])
    }

    /// Cuts a replica off from its primary: it does not get the primary's writes any more, until
    /// [`reattach`](Self::reattach). Both stay part of the cluster and keep all their other
    /// connections. Waits until the replica knows it.
    ///
    /// The replica is made to log in as a user that the primary does not have, and its connection
    /// is ended.
    ///
    /// # Errors
    ///
    /// When the node is no replica, or it does not come about within the deadline.
    pub fn detach(&self, replica: usize) -> Result<(), Error> {
        self.configure(replica, "masterauth", "nobody's")?;
        self.configure(replica, "masteruser", "nobody")?;
        let node = &self.nodes[replica];
        node.connection()?
            .integer(&["CLIENT", "KILL", "TYPE", "master"])
            .map_err(Error::call(node.port()))?;
        self.wait_until_linked(replica, false)
    }

    /// Undoes [`detach`](Self::detach), and waits until the replica follows its primary.
    ///
    /// # Errors
    ///
    /// When it does not come about within the deadline.
    pub fn reattach(&self, replica: usize) -> Result<(), Error> {
        self.configure(replica, "masteruser", "")?;
        self.configure(replica, "masterauth", self.options.password.as_deref().unwrap_or_default())?;
        self.wait_until_linked(replica, true)
    }

    /// Waits until a replica says that it has, or has not, a link to its primary.
    fn wait_until_linked(&self, replica: usize, linked: bool) -> Result<(), Error> {
        let node = &self.nodes[replica];
        let wanted = if linked { "master_link_status:up" } else { "master_link_status:down" };
        self.wait_until(&format!("replica {} says {wanted}", node.port()), |_| {
            let info = node.connection()?.string(&["INFO", "replication"]);
            let info = info.map_err(Error::call(node.port()))?;
            Ok(if info.contains(wanted) { Ok(()) } else { Err("it says otherwise".to_owned()) })
        })
    }

    /// How many keys a node holds.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub fn key_count(&self, node: usize) -> Result<i64, Error> {
        self.connection(node)?.integer(&["DBSIZE"]).map_err(Error::call(self.nodes[node].port()))
    }

    fn open_migrations(&self, slots: &[u16], from: usize, to: usize) -> Result<(), Error> {
        let (source, target) = (&self.nodes[from], &self.nodes[to]);
        set_slots(target, slots, "IMPORTING", source)?;
        set_slots(source, slots, "MIGRATING", target)?;
        self.migrations().extend(slots.iter().map(|slot| (*slot, (from, to))));
        Ok(())
    }

    fn close_migrations(&self, slots: &[u16], from: usize, to: usize) -> Result<(), Error> {
        let target = &self.nodes[to];
        let primaries = self.primaries()?;
        let epochs = primaries.iter().map(|&node| self.epoch(node, "cluster_my_epoch"));
        let newest = epochs.collect::<Result<Vec<_>, _>>()?.into_iter().max().unwrap_or_default();
        let heard = |cluster: &Self| Ok(cluster.epoch(to, "cluster_current_epoch")? >= newest);
        self.wait_for("the target's knowledge of all epochs", EPOCH_DEADLINE, heard)?;
        let others = primaries.into_iter().filter(|&node| node != from && node != to);
        for node in [to, from].into_iter().chain(others) {
            set_slots(&self.nodes[node], slots, "NODE", target)?;
        }
        self.migrations().retain(|slot, _| !slots.contains(slot));
        Ok(())
    }

    fn migration(&self, slot: u16) -> Result<(usize, usize), Error> {
        let migration = self.migrations().get(&slot).copied();
        migration.ok_or_else(|| Error::Unfit(format!("slot {slot} is not being migrated")))
    }

    /// An epoch as CLUSTER INFO of this node has it.
    fn epoch(&self, node: usize, field: &str) -> Result<u64, Error> {
        let port = self.nodes[node].port();
        let info = self.connection(node)?.string(&["CLUSTER", "INFO"]).map_err(Error::call(port))?;
        let mut fields = info.lines().filter_map(|line| line.split_once(':'));
        let value = fields.find(|(name, _)| *name == field).and_then(|(_, value)| value.trim().parse().ok());
        value.ok_or_else(|| Error::Unfit(format!("CLUSTER INFO of the node at port {port} has no {field}")))
    }
}

/// CLUSTER SETSLOT for each slot, with the other node's id.
fn set_slots(node: &TestNode, slots: &[u16], state: &str, other: &TestNode) -> Result<(), Error> {
    let set =
        |slot: &u16| ["CLUSTER", "SETSLOT", &slot.to_string(), state, other.id()].map(str::to_owned).to_vec();
    let commands: Vec<_> = slots.iter().map(set).collect();
    node.connection()?.all_ok(&commands).map_err(Error::call(node.port()))
}
