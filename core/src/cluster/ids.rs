//! The names of what the machine keeps: connections, requests, leases, scans and nodes.
//!
//! None is used twice, so one that is kept too long finds nothing.

slotmap::new_key_type! {
    /// Names one connection.
    pub struct ConnId;

    /// Names one request.
    pub struct RequestId;

    /// Names a connection that is lent, from asking for it to giving it back.
    pub struct LeaseId;

    /// Names a scan, from opening to closing it.
    pub struct ScanId;

    /// Names one node for as long as the client knows it.
    pub(super) struct NodeKey;
}

/// What the caller calls a request: its end comes with this.
///
/// It is the caller's business whether a token is used twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);
