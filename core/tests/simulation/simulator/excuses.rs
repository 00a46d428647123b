//! What settings and faults let the client do that it may not do otherwise.

#[derive(Debug)]
pub(super) struct Excuses {
    /// Nodes that were told of and do not exist.
    strangers: usize,
    /// Whether servers or settings name nodes as primaries that never were.
    is_misled: bool,
    /// Whether the client's settings let it read from replicas.
    may_read_replicas: bool,
}

impl Excuses {
    pub(super) fn new(may_read_replicas: bool) -> Self {
        Self { strangers: 0, is_misled: false, may_read_replicas }
    }

    /// Nodes are named as primaries that never were.
    pub(super) fn mislead(&mut self) {
        self.is_misled = true;
    }

    /// A list names as many nodes as there may be.
    pub(super) fn name_strangers(&mut self, count: usize) {
        self.strangers = count;
    }

    pub(super) fn name_stranger(&mut self) {
        self.strangers += 1;
    }

    pub(super) fn strangers(&self) -> usize {
        self.strangers
    }

    pub(super) fn is_misled(&self) -> bool {
        self.is_misled
    }

    pub(super) fn may_read_replicas(&self) -> bool {
        self.may_read_replicas
    }
}
