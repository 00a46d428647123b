//! What a step tells those above it.
//!
//! A step changes what is its own at once. What follows from that for others is news: it is put
//! into the machine's queue, and [`carry`](super::carry) takes it to the one step that it concerns,
//! after the step that has told it has come to its end.

use alloc::boxed::Box;

use super::ids::{ConnId, LeaseId, RequestId, ScanId};
use super::links::ended::Loss;
use super::requests::request::{Parent, Stage};
use crate::error::Error;
use crate::resp::RawReply;

/// What has happened in one part and concerns another.
#[derive(Debug)]
pub(super) enum News {
    /// A connection has ended, with all that was on it.
    Lost(Box<Loss>),
    /// A connection's handshake is over, or the view of who is at its address has come to fit.
    Greeted(ConnId),
    /// A part of something has ended, which was there.
    PartEnded { parent: Parent, stage: Stage, result: Result<RawReply, Error> },
    /// The request that this lease was for has ended.
    LeaseIsOver(LeaseId),
    /// The first command of this lease has ended while it waited for its retry.
    FirstIsGone(LeaseId),
    /// The time of a request for this scan's next batch has run out.
    BatchIsLate(RequestId, ScanId),
}
