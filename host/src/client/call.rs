//! What callers ask the worker for.

use super::lease::{Lease, ResourceId};
use super::recipient::Responder;
use super::submission::Submission;
use crate::Error;
use crate::bindings::exports::keyslot::redis::redis_cluster::{
    Counter, NodeStatistics, Route, ScanSubject, Shard,
};
use crate::scan_options::ScanOptions;

/// What a caller asks for.
pub(super) enum Call {
    Submit(Submission),
    Ask(Query),
    Close { reply: Responder<()> },
}

/// What is answered without a server. With a script comes the SHA-1 of its text.
pub(super) enum Query {
    NodeForKey { key: Vec<u8>, reply: Responder<Result<String, Error>> },
    Keyslot { key: Vec<u8>, reply: Responder<u16> },
    Topology { reply: Responder<Vec<Shard>> },
    Counters { reply: Responder<Vec<Counter>> },
    Statistics { reply: Responder<Vec<NodeStatistics>> },
    Memory { reply: Responder<u64> },
    Lend { key: Option<Vec<u8>>, reply: Responder<Lease> },
    Scan { subject: ScanSubject, options: Box<ScanOptions>, reply: Responder<Lease> },
    ScanToken { scan: ResourceId, reply: Responder<Option<Vec<u8>>> },
    Nodes { route: Route, reply: Responder<Result<Vec<String>, Error>> },
    Script { source: Vec<u8>, reply: Responder<(Lease, String)> },
}

impl Call {
    pub(super) fn refuse(self, error: &Error) {
        match self {
            Self::Submit(submission) => submission.fail(error),
            Self::Ask(query) => query.refuse(error),
            // Closing twice does nothing.
            Self::Close { reply } => drop(reply.send(Ok(()))),
        }
    }
}

impl Query {
    fn refuse(self, error: &Error) {
        fn send<T>(reply: Responder<T>, error: &Error) {
            let _ = reply.send(Err(error.clone()));
        }
        match self {
            Self::NodeForKey { reply, .. } => send(reply, error),
            Self::Keyslot { reply, .. } => send(reply, error),
            Self::Topology { reply } => send(reply, error),
            Self::Counters { reply } => send(reply, error),
            Self::Statistics { reply } => send(reply, error),
            Self::Memory { reply } => send(reply, error),
            Self::Lend { reply, .. } | Self::Scan { reply, .. } => send(reply, error),
            Self::ScanToken { reply, .. } => send(reply, error),
            Self::Nodes { reply, .. } => send(reply, error),
            Self::Script { reply, .. } => send(reply, error),
        }
    }
}
