//! What a caller holds of something that the worker keeps in the component.

use tokio::sync::mpsc;

/// Names a connection, a scan or a script that the worker keeps. No number is used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct ResourceId(pub(super) u64);

/// The right to use what has this id. The worker is sent the id when the right ends.
pub(super) struct Lease {
    id: ResourceId,
    dropped: mpsc::UnboundedSender<ResourceId>,
}

impl Lease {
    pub(super) fn new(id: ResourceId, dropped: mpsc::UnboundedSender<ResourceId>) -> Self {
        Self { id, dropped }
    }

    pub(super) fn id(&self) -> ResourceId {
        self.id
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // A worker that is gone keeps nothing.
        let _ = self.dropped.send(self.id);
    }
}
