//! Where a request goes next: a function of the request and of how much of the cluster is known,
//! and of nothing else.

use alloc::string::ToString;

use super::request::{Request, Target};
use crate::address::NodeAddr;
use crate::cluster::ids::{LeaseId, NodeKey, ScanId};
use crate::command::prepared::Spread;
use crate::command::route::Route;
use crate::error::Error;
use crate::slot::Slot;

/// Why SCAN with a cursor goes nowhere by itself.
const NAME_A_NODE: &str = "a cursor of SCAN is good at the node that gave it, and only there: iterate with `scan`, which knows \
                           the nodes, or send each SCAN to a node that you name";

/// How much is known of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cluster) enum Known {
    Nothing,
    Cluster,
    /// There is this one server.
    Server(NodeKey),
    /// The client is closed.
    Closed,
}

/// Where a request goes.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Next {
    /// Nowhere: it is done, with an empty list.
    Empty,
    /// To its end.
    Refuse(Error),
    /// To several nodes, in parts, when there are several that it concerns.
    Gather,
    /// Over a connection of its own.
    Alone,
    /// Over the connection that its caller has, or is to have.
    OnLease(LeaseId),
    /// To those who wait for a batch of this scan.
    AtScan(ScanId),
    /// To the node that the caller names.
    Named(NodeAddr),
    /// To the node that a redirect names.
    Redirected(NodeAddr),
    /// To this server, after the earlier ones for this slot.
    Server(NodeKey, Option<Slot>),
    /// To the slot's primary, or if it may be to one of its replicas; to the primary after the
    /// earlier ones, when it is ordered.
    Slot { slot: Slot, from_replica: bool, is_ordered: bool },
    /// To any primary.
    AnyPrimary,
    /// It waits until something is known.
    Wait,
}

/// Says where a request goes next. It goes in parts only if it `may_gather`.
pub(super) fn route(request: &Request, known: Known, may_gather: bool) -> Next {
    let command = &request.command;
    if command.queued == Some(0) && request.target.is_none() && known != Known::Closed {
        return Next::Empty;
    }
    let is_whole = request.target.is_none() && command.spread != Spread::None;
    if is_whole && known == Known::Cluster && may_gather {
        return Next::Gather;
    }
    if blocks_alone(request, known) {
        return Next::Alone;
    }
    // It must not wait for what it is to end.
    let is_ordered = !command.while_busy;
    match (known, &request.target, &command.route) {
        (Known::Closed, ..) => Next::Refuse(Error::Closed),
        (_, Some(Target::Lent(lease)), _) => Next::OnLease(*lease),
        (_, Some(Target::Scan(scan)), _) => Next::AtScan(*scan),
        (Known::Nothing, ..) => Next::Wait,
        (_, Some(Target::Node(address)), _) => Next::Named(address.clone()),
        (Known::Server(node), _, route) => Next::Server(node, route.slot().filter(|_| is_ordered)),
        (Known::Cluster, Some(Target::Moved(address) | Target::Ask(address)), _) => {
            Next::Redirected(address.clone())
        }
        (Known::Cluster, None, Route::Slot(slot)) => {
            let from_replica = command.is_read && !request.primary_only;
            Next::Slot { slot: *slot, from_replica, is_ordered }
        }
        (Known::Cluster, None, Route::Any) => Next::AnyPrimary,
        (Known::Cluster, None, Route::OneNode) => {
            Next::Refuse(Error::InvalidArgument(NAME_A_NODE.to_string()))
        }
        (Known::Cluster, None, Route::CrossSlot(why)) => Next::Refuse(Error::CrossSlot(why.to_string())),
    }
}

/// Whether a request is to have a connection of its own, since it blocks.
fn blocks_alone(request: &Request, known: Known) -> bool {
    let alone = request.command.blocks.is_some_and(|blocks| blocks.alone);
    let is_possible = match known {
        Known::Cluster => !matches!(request.command.route, Route::CrossSlot(_)),
        Known::Server(_) => true,
        Known::Nothing | Known::Closed => false,
    };
    alone && is_possible && matches!(request.target, None | Some(Target::Node(_)))
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;
    use crate::command::{Command, Scripts};
    use crate::time::Instant;

    fn request(line: &str, target: Option<Target>) -> Request {
        let words: Vec<_> = line.split(' ').collect();
        let command = Command::for_lent(&words).unwrap();
        Request::new(command, target, 1, Instant::default(), Instant::NEVER)
    }

    fn at() -> NodeAddr {
        NodeAddr::new("a", 1)
    }

    #[test]
    fn what_is_known_and_what_is_asked_decide_together() {
        let slot = Slot::of_key(b"k");
        let one = NodeKey::default();
        let to_slot = |from_replica| Next::Slot { slot, from_replica, is_ordered: true };
        let (lease, scan) = (LeaseId::default(), ScanId::default());
        for (line, target, known, next) in [
            ("GET k", None, Known::Nothing, Next::Wait),
            ("GET k", None, Known::Closed, Next::Refuse(Error::Closed)),
            ("GET k", None, Known::Cluster, to_slot(true)),
            ("SET k v", None, Known::Cluster, to_slot(false)),
            ("SET k v", None, Known::Server(one), Next::Server(one, Some(slot))),
            ("PING", None, Known::Server(one), Next::Server(one, None)),
            ("ECHO x", None, Known::Cluster, Next::AnyPrimary),
            ("GET k", Some(Target::Node(at())), Known::Nothing, Next::Wait),
            ("GET k", Some(Target::Node(at())), Known::Cluster, Next::Named(at())),
            ("GET k", Some(Target::Node(at())), Known::Server(one), Next::Named(at())),
            ("GET k", Some(Target::Moved(at())), Known::Cluster, Next::Redirected(at())),
            ("GET k", Some(Target::Ask(at())), Known::Cluster, Next::Redirected(at())),
            ("GET k", Some(Target::Ask(at())), Known::Server(one), Next::Server(one, Some(slot))),
            ("GET k", Some(Target::Lent(lease)), Known::Nothing, Next::OnLease(lease)),
            ("GET k", Some(Target::Lent(lease)), Known::Closed, Next::Refuse(Error::Closed)),
            ("GET k", Some(Target::Scan(scan)), Known::Cluster, Next::AtScan(scan)),
            ("BLPOP k 0", None, Known::Cluster, Next::Alone),
            ("BLPOP k 0", None, Known::Nothing, Next::Wait),
            ("BLPOP k 0", Some(Target::Node(at())), Known::Server(one), Next::Alone),
            ("BLPOP k 0", Some(Target::Lent(lease)), Known::Cluster, Next::OnLease(lease)),
            ("MGET a b", None, Known::Cluster, Next::Gather),
            ("MGET a b", Some(Target::Node(at())), Known::Cluster, Next::Named(at())),
            ("DBSIZE", None, Known::Cluster, Next::Gather),
            ("DBSIZE", None, Known::Server(one), Next::Server(one, None)),
        ] {
            assert_eq!(
                route(&request(line, target.clone()), known, true),
                next,
                "{line} {target:?} {known:?}"
            );
        }
    }

    #[test]
    fn what_has_no_place_is_refused_unsent() {
        let refused = |line, known| match route(&request(line, None), known, false) {
            Next::Refuse(error) => Some(error),
            _ => None,
        };
        assert!(matches!(refused("SCAN 17", Known::Cluster), Some(Error::InvalidArgument(_))));
        assert!(matches!(refused("MSETNX a 1 b 2", Known::Cluster), Some(Error::CrossSlot(_))));
        assert!(matches!(refused("BLPOP a b 0", Known::Cluster), Some(Error::CrossSlot(_))));
        for line in ["SCAN 17", "MSETNX a 1 b 2"] {
            assert_eq!(refused(line, Known::Server(NodeKey::default())), None, "a server alone takes {line}");
        }
        assert_eq!(route(&request("DBSIZE", None), Known::Cluster, false), Next::AnyPrimary);
    }

    #[test]
    fn a_read_that_a_replica_could_not_serve_and_what_ends_a_script_go_their_own_ways() {
        let mut read = request("GET k", None);
        read.primary_only = true;
        assert!(matches!(route(&read, Known::Cluster, true), Next::Slot { from_replica: false, .. }));
        let kill = request("SCRIPT KILL", None);
        assert_eq!(
            route(&kill, Known::Server(NodeKey::default()), true),
            Next::Server(NodeKey::default(), None)
        );
    }

    #[test]
    fn a_transaction_without_commands_is_asked_of_a_server_only_where_keys_are_watched() {
        let empty = |target| {
            let command = Command::transaction(&[], &Scripts::default()).unwrap();
            Request::new(command, target, 1, Instant::default(), Instant::NEVER)
        };
        let lease = LeaseId::default();
        assert_eq!(route(&empty(None), Known::Nothing, true), Next::Empty);
        assert_eq!(route(&empty(None), Known::Closed, true), Next::Refuse(Error::Closed));
        assert_eq!(route(&empty(Some(Target::Lent(lease))), Known::Cluster, true), Next::OnLease(lease));
    }
}
