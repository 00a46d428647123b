//! A connection that has ended, and why.

use alloc::string::String;

use super::connection::Connection;
use crate::address::NodeAddr;
use crate::cluster::ids::ConnId;
use crate::error::Error;

/// What a connection has left.
#[derive(Debug)]
pub(in crate::cluster) struct Loss {
    pub(super) conn: ConnId,
    pub(super) connection: Connection,
    /// The node that it was with.
    pub(super) address: NodeAddr,
    /// Whether it was the one that the node's requests shared.
    pub(super) was_current: bool,
    pub(super) error: Error,
    /// The error, for people.
    pub(super) reason: String,
}

/// Whether the driver still has the connection that is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cluster) enum Driver {
    /// It told of the end itself.
    HasClosed,
    /// It is to drop it.
    MustClose,
}

/// Whether it makes no sense to try again, or elsewhere.
pub(super) fn is_final(error: &Error) -> bool {
    matches!(error, Error::Authentication(_) | Error::Tls(_))
}
