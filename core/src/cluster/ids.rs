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

impl RequestId {
    /// A small number that no other request under way has: an index for a driver's table.
    #[must_use]
    pub fn index(self) -> usize {
        // The low half of the key is its place in the arena, from 1 on; the high half tells its
        // users apart.
        (slotmap::Key::data(&self).as_ffi() & u64::from(u32::MAX)) as usize
    }
}
