//! What is done to the cluster: one fault after the other, in an order that comes from the seed.
//!
//! Every kind comes once before any comes again, so that a short soak has them all. Between two
//! faults all nodes agree again and the load has been answered for a second.
//!
//! A Redis Cluster itself loses writes that a primary has acknowledged and not yet handed to its
//! replica when it dies. This is no loss of the client's, and is kept out: before a primary is
//! killed or stopped, CLIENT PAUSE holds its writes back until its replica has all that was
//! acknowledged. Those that arrive meanwhile are in the server, unanswered, when it dies. For the
//! same reason a stopped primary wakes up only when the client knows its successor and has given up
//! what it had sent to it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use keyslot::Client;
use keyslot_core::slot::Slot;
use keyslot_testcluster::TestCluster;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom as _, SliceRandom as _};
use rand::{RngExt as _, SeedableRng as _};
use tokio::runtime::Handle;

use crate::load::{Complaints, Shared};
use crate::record::{Fault, FaultKind};

/// How long after a fault all has to be answered again.
pub(crate) const RECOVERY_MAX: Duration = Duration::from_secs(30);

/// How long nothing may fail until the load counts as recovered.
const CALM: Duration = Duration::from_secs(1);
/// How long the load is left alone after that.
const REST: std::ops::Range<Duration> = Duration::from_millis(200)..Duration::from_millis(2_500);
/// How long writes are held back before a primary is killed, at most, and how long its replica has.
const PAUSE_MS: &str = "5000";
const REPLICATION_MAX: Duration = Duration::from_secs(3);
/// How many of the load's keys have their slots moved by one reshard.
const MOVED_MAX: usize = 12;
/// How often the connections to a node are cut in a row.
const CUTS: usize = 6;
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What is known of the faults while they go on.
#[derive(Debug, Default)]
pub(crate) struct Log {
    done: Mutex<Vec<Fault>>,
    /// The last one, in words.
    last: Mutex<String>,
    /// Where the load did not recover.
    pub(crate) unrecovered: Complaints,
}

impl Log {
    pub(crate) fn done(&self) -> MutexGuard<'_, Vec<Fault>> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The fault that goes on, or the last one; empty before the first.
    pub(crate) fn last(&self) -> String {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// All that the loop of faults needs.
pub(crate) struct Faults {
    pub(crate) cluster: Arc<TestCluster>,
    pub(crate) client: Client,
    pub(crate) runtime: Handle,
    pub(crate) shared: Arc<Shared>,
    pub(crate) log: Arc<Log>,
    /// Set when the soak is to end early.
    pub(crate) stop: Arc<AtomicBool>,
    /// The keys of the load, some of whose slots move.
    pub(crate) keys: Vec<String>,
    /// The longest that the client waits for an answer.
    pub(crate) request_timeout: Duration,
    pub(crate) random: StdRng,
}

impl Faults {
    /// The generator of the choices. It is not that of the load, whose use depends on the time.
    pub(crate) fn random(seed: u64) -> StdRng {
        StdRng::seed_from_u64(seed ^ 0xFA_0175)
    }

    /// Hurts the cluster until it is time to end. Blocks.
    ///
    /// An error is one of the cluster, which did not do or did not survive what was asked of it.
    pub(crate) fn run(mut self, until: Instant) -> anyhow::Result<()> {
        let mut bag = Vec::new();
        self.rest();
        while Instant::now() < until && !self.is_stopped() {
            if bag.is_empty() {
                bag = FaultKind::ALL.to_vec();
                bag.shuffle(&mut self.random);
            }
            let Some(kind) = bag.pop() else { break };
            let meter = &self.shared.meter;
            let (began, errors_before) = (meter.elapsed(), meter.total().all_errors());
            let outcome = self.cause(kind);
            let agreed = self.shared.meter.elapsed();
            if outcome.is_ok() {
                self.recover(kind);
                self.rest();
            }
            let meter = &self.shared.meter;
            self.log.done().push(Fault {
                kind,
                began,
                agreed,
                errors: meter.total().all_errors() - errors_before,
                last_error: meter.last_error().filter(|at| *at > began),
            });
            outcome.with_context(|| format!("the cluster did not survive: {}", self.log.last()))?;
        }
        Ok(())
    }

    /// Hurts the cluster, undoes it, and returns when all nodes agree again.
    fn cause(&mut self, kind: FaultKind) -> anyhow::Result<()> {
        let primaries = self.cluster.primaries()?;
        let &primary = primaries.choose(&mut self.random).context("no node is a primary")?;
        let &replica = self.cluster.replicas_of(primary)?.first().context("a primary has no replica")?;
        let address = |node: usize| self.cluster.nodes()[node].address();
        let name = match kind {
            // It concerns several.
            FaultKind::Reshard => kind.name().to_owned(),
            FaultKind::KillReplica => format!("{}, {}", kind.name(), address(replica)),
            _ => format!("{}, {}", kind.name(), address(primary)),
        };
        *self.log.last.lock().unwrap_or_else(PoisonError::into_inner) = name;
        match kind {
            FaultKind::KillPrimary => {
                self.hold_writes(primary, replica)?;
                self.cluster.kill(primary)?;
                self.cluster.wait_until_agreed()?;
                self.sleep(Duration::ZERO..Duration::from_secs(1));
                self.cluster.restart(primary)?;
            }
            FaultKind::KillReplica => {
                self.cluster.kill(replica)?;
                self.sleep(Duration::from_millis(100)..Duration::from_secs(3));
                self.cluster.restart(replica)?;
            }
            FaultKind::Failover => self.cluster.failover(replica)?,
            FaultKind::Stall => {
                self.hold_writes(primary, replica)?;
                self.cluster.pause(primary)?;
                let outcome = self.stall(&address(primary));
                self.cluster.resume(primary)?;
                outcome?;
            }
            FaultKind::Reshard => self.reshard(&primaries)?,
            FaultKind::Cut => {
                let mut connection = self.cluster.connection(primary)?;
                for _ in 0..CUTS {
                    connection.integer(&["CLIENT", "KILL", "TYPE", "normal"])?;
                    self.sleep(Duration::from_millis(20)..Duration::from_millis(300));
                }
            }
        }
        Ok(self.cluster.wait_until_agreed()?)
    }

    /// Holds a primary's writes back until its replica has all that came before them.
    fn hold_writes(&self, primary: usize, replica: usize) -> anyhow::Result<()> {
        let mut connection = self.cluster.connection(primary)?;
        connection.ok(&["CLIENT", "PAUSE", PAUSE_MS, "WRITE"])?;
        let offset = self.replication_offset(primary, "master_repl_offset")?;
        let reached = self.cluster.wait_for("the replica has what its primary has", REPLICATION_MAX, |_| {
            Ok(self.replication_offset(replica, "slave_repl_offset").is_ok_and(|reached| reached >= offset))
        });
        if let Err(error) = reached {
            connection.ok(&["CLIENT", "UNPAUSE"])?;
            bail!(error);
        }
        Ok(())
    }

    /// A field of INFO REPLICATION that is an offset.
    fn replication_offset(&self, node: usize, name: &str) -> anyhow::Result<u64> {
        let info = self.cluster.connection(node)?.string(&["INFO", "replication"])?;
        let value = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        Ok(value.with_context(|| format!("INFO REPLICATION has no {name}"))?.trim().parse()?)
    }

    /// Waits while a primary is stopped until nobody waits for it any more.
    fn stall(&mut self, address: &str) -> anyhow::Result<()> {
        self.cluster.wait_until_agreed()?;
        let started = Instant::now();
        while self.takes_for_primary(address) {
            if started.elapsed() > RECOVERY_MAX {
                let text = format!("{address} was replaced, and the client did not learn it");
                self.log.unrecovered.add(text);
                break;
            }
            thread::sleep(LOOK_EVERY);
        }
        thread::sleep(self.request_timeout + CALM);
        Ok(())
    }

    /// Whether the client holds this node for a primary.
    fn takes_for_primary(&self, address: &str) -> bool {
        let topology = self.runtime.block_on(self.client.topology());
        // A primary that was replaced is still listed, without slots.
        let serves = |shard: &keyslot::Shard| {
            !shard.slots.is_empty() && shard.nodes.first().is_some_and(|node| node.address == address)
        };
        topology.is_ok_and(|shards| shards.iter().any(serves))
    }

    /// Moves the slots of some of the load's keys, each to another primary.
    fn reshard(&mut self, primaries: &[usize]) -> anyhow::Result<()> {
        let count = self.random.random_range(1..=MOVED_MAX);
        let keys: Vec<String> = self.keys.sample(&mut self.random, count).cloned().collect();
        for key in keys {
            let slot = Slot::of_key(key.as_bytes()).number();
            let from = self.cluster.node_of_slot(slot)?;
            let others: Vec<usize> = primaries.iter().copied().filter(|node| *node != from).collect();
            let &to = others.choose(&mut self.random).context("there is one primary only")?;
            self.cluster.migrate_slot(slot, to)?;
        }
        Ok(())
    }

    /// Waits until the load is answered again.
    fn recover(&self, kind: FaultKind) {
        let started = Instant::now();
        while !self.shared.meter.is_calm_for(CALM) && !self.is_stopped() {
            if started.elapsed() > RECOVERY_MAX {
                let at = self.shared.meter.elapsed();
                let seconds = RECOVERY_MAX.as_secs();
                let text = format!("{} s: no calm second within {seconds} s of {}", at.round(), kind.name());
                self.log.unrecovered.add(text);
                return;
            }
            thread::sleep(LOOK_EVERY);
        }
    }

    fn rest(&mut self) {
        self.sleep(REST);
    }

    /// Sleeps for a random time, or until the soak is to end.
    fn sleep(&mut self, range: std::ops::Range<Duration>) {
        let end = Instant::now() + self.random.random_range(range);
        while Instant::now() < end && !self.is_stopped() {
            thread::sleep(LOOK_EVERY);
        }
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }
}
