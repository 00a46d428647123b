//! Whose reply comes next on a connection.

use crate::cluster::ids::RequestId;
use crate::cluster::links::handshake::HandshakeStep;

/// Whose reply comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cluster) enum Expected {
    /// A request's; it is dropped when the request is gone.
    Request(RequestId),
    /// A transaction's, before that of its EXEC: MULTI's, or one of its commands'.
    Queued(RequestId),
    /// One of the handshake's.
    Handshake(HandshakeStep),
    /// ASKING's: `+OK`, for nobody.
    Asking,
    /// That of READONLY, which was refused before.
    ReadOnly,
    /// That of CLIENT UNBLOCK, for nobody.
    Unblocking,
    /// CLUSTER SLOTS of the query with this number.
    Slots(u64),
    /// CLUSTER SHARDS of the query with this number.
    Shards(u64),
    /// CLUSTER INFO of the query with this number.
    Info(u64),
    /// The health check's PING.
    Ping,
    /// What undoes the last holder's WATCH or MULTI.
    Cleaning,
}

impl Expected {
    /// The request that it is for.
    pub(in crate::cluster) fn request(&self) -> Option<RequestId> {
        match self {
            Self::Request(id) => Some(*id),
            _ => None,
        }
    }

    /// The request that it is about: the reply is its own, or one of those before its own.
    pub(super) fn of_request(&self) -> Option<RequestId> {
        match self {
            Self::Request(id) | Self::Queued(id) => Some(*id),
            _ => None,
        }
    }
}
