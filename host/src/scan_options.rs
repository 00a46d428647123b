//! How to scan.

/// How to scan: what to give to [`Client::scan`](crate::Client::scan) and its like.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct ScanOptions {
    pub(crate) pattern: Option<Vec<u8>>,
    pub(crate) count: Option<u32>,
    pub(crate) kind: Option<String>,
    pub(crate) node: Option<String>,
    pub(crate) parallel: Option<u32>,
    pub(crate) token: Option<Vec<u8>>,
}

impl ScanOptions {
    /// Everything, in pages of 1,000, one node after the other.
    pub fn new() -> Self {
        Self::default()
    }

    /// Only what this glob-style pattern matches (MATCH).
    pub fn pattern(mut self, pattern: impl Into<Vec<u8>>) -> Self {
        self.pattern = Some(pattern.into());
        self
    }

    /// About how many elements a server looks at for one page (COUNT). At least 1. Default: 1,000.
    pub fn count(mut self, count: u32) -> Self {
        self.count = Some(count);
        self
    }

    /// Only keys of this type (TYPE).
    pub fn key_type(mut self, name: impl Into<String>) -> Self {
        self.kind = Some(name.into());
        self
    }

    /// Only the keys that this node has, `host:port`.
    pub fn node(mut self, node: impl Into<String>) -> Self {
        self.node = Some(node.into());
        self
    }

    /// How many nodes are scanned at the same time. At least 1. Default: 1.
    pub fn parallel(mut self, nodes: u32) -> Self {
        self.parallel = Some(nodes);
        self
    }

    /// Goes on where another scan was: [`Scan::token`](crate::Scan::token).
    pub fn token(mut self, token: impl Into<Vec<u8>>) -> Self {
        self.token = Some(token.into());
        self
    }
}
