//! What callers have of the component: connections, scans and scripts.

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::lease::{Lease, ResourceId};
use crate::Error;
use crate::instance::{Connection, Instance, Resource, Scanner, Script, Trap};

/// The component's resources, by the ids that callers know.
///
/// Connections and scans belong to one instance: there are none without one. Scripts outlive it.
pub(super) struct Resources {
    connections: HashMap<ResourceId, KeptConnection>,
    scans: HashMap<ResourceId, Scanner>,
    scripts: HashMap<ResourceId, KeptScript>,
    /// The number for the next one. None is used twice.
    next: u64,
    /// The ids whose leases callers have dropped, and what sends them.
    dropped: mpsc::UnboundedReceiver<ResourceId>,
    dropping: mpsc::UnboundedSender<ResourceId>,
}

struct KeptConnection {
    connection: Connection,
    /// Whether it has carried a command.
    is_used: bool,
    since: Instant,
}

struct KeptScript {
    source: Vec<u8>,
    script: Script,
}

impl Resources {
    pub(super) fn new() -> Self {
        let (dropping, dropped) = mpsc::unbounded_channel();
        Self {
            connections: HashMap::new(),
            scans: HashMap::new(),
            scripts: HashMap::new(),
            next: 0,
            dropped,
            dropping,
        }
    }

    pub(super) fn add_connection(&mut self, connection: Connection) -> Lease {
        let lease = self.lease();
        let kept = KeptConnection { connection, is_used: false, since: Instant::now() };
        self.connections.insert(lease.id(), kept);
        lease
    }

    pub(super) fn add_scan(&mut self, scan: Scanner) -> Lease {
        let lease = self.lease();
        self.scans.insert(lease.id(), scan);
        lease
    }

    pub(super) fn add_script(&mut self, source: Vec<u8>, script: Script) -> Lease {
        let lease = self.lease();
        self.scripts.insert(lease.id(), KeptScript { source, script });
        lease
    }

    fn lease(&mut self) -> Lease {
        let id = ResourceId(self.next);
        self.next += 1;
        Lease::new(id, self.dropping.clone())
    }

    /// A connection that is about to carry a command.
    pub(super) fn use_connection(&mut self, id: ResourceId) -> Option<Connection> {
        let kept = self.connections.get_mut(&id)?;
        kept.is_used = true;
        Some(kept.connection)
    }

    pub(super) fn scan(&self, id: ResourceId) -> Option<Scanner> {
        self.scans.get(&id).copied()
    }

    /// Connections that have carried no command: those that callers have had for so long, and
    /// whether there are others.
    pub(super) fn unused_connections(&self, for_so_long: Duration) -> (Vec<ResourceId>, bool) {
        let unused = self.connections.iter().filter(|(_, kept)| !kept.is_used);
        let (due, early): (Vec<_>, Vec<_>) =
            unused.partition(|(_, kept)| kept.since.elapsed() >= for_so_long);
        (due.into_iter().map(|(id, _)| *id).collect(), !early.is_empty())
    }

    /// Waits until a caller has dropped a lease.
    pub(super) async fn dropped(&mut self) -> Option<ResourceId> {
        self.dropped.recv().await
    }

    /// A lease that a caller has dropped, if there is one.
    pub(super) fn next_dropped(&mut self) -> Option<ResourceId> {
        self.dropped.try_recv().ok()
    }

    /// Takes out what has this id. A connection or a scan of an earlier instance is gone already.
    pub(super) fn remove(&mut self, id: ResourceId) -> Option<Resource> {
        let connection = self.connections.remove(&id).map(|kept| Resource::from(kept.connection));
        let scan = self.scans.remove(&id).map(Resource::from);
        let script = self.scripts.remove(&id).map(|kept| Resource::from(kept.script));
        connection.or(scan).or(script)
    }

    /// Forgets what was the instance's, which is gone.
    pub(super) fn instance_ended(&mut self) {
        self.connections.clear();
        self.scans.clear();
    }

    /// Makes all scripts known to a fresh instance.
    pub(super) async fn add_scripts_to(&mut self, instance: &mut Instance) -> Result<(), Error> {
        for kept in self.scripts.values_mut() {
            let added = instance.add_script(&kept.source).await;
            (kept.script, _) = added.map_err(|Trap(message)| Error::Host(message))?;
        }
        Ok(())
    }
}
