//! Where a request goes: to a node's connection or into its queue, to a lease, a scan, or apart.

use alloc::format;
use alloc::string::ToString;

use super::route::{Next, route};
use crate::cluster::ids::LeaseId;
use crate::cluster::ids::{NodeKey, RequestId, Token};
use crate::cluster::links::connection::{Connection, Expected};
use crate::cluster::machine::{Cluster, Phase};
use crate::cluster::nodes::node::Node;
use crate::cluster::requests::request::{Stage, Target};
use crate::command::prepared::Command;
use crate::command::script::ScriptUse;
use crate::error::Error;
use crate::resp::RawReply;

impl Cluster {
    /// Takes a request in and sends it on its way.
    pub(in crate::cluster) fn accept(
        &mut self,
        command: Command,
        target: Option<Target>,
        token: Token,
    ) -> RequestId {
        self.cx.statistics.requests += 1;
        let deadline = match &target {
            Some(Target::Lent(lease)) => self.deadline_on_lease(&command, *lease),
            _ => self.cx.deadline_of(&command),
        };
        let id = self.requests.add(&self.cx, command, target, token, deadline);
        self.dispatch(id);
        if self.requests.contains(id) {
            self.requests.set_deadline(id, deadline);
            self.refuse_beyond_limits(id);
        }
        id
    }

    /// Ends a new request that would wait for a node that is down, when too much waits already.
    pub(super) fn refuse_beyond_limits(&mut self, id: RequestId) {
        let waits_for_nobody = match self.requests.get(id).map(|request| request.stage) {
            Some(Stage::AtNode(node)) => {
                self.nodes.get(node).is_some_and(|node| self.links.is_out_of_reach(node))
            }
            Some(Stage::Unrouted) => matches!(self.phase, Phase::Clustered),
            Some(Stage::AtLease(_)) => true,
            _ => false,
        };
        if waits_for_nobody && let Some(error) = self.requests.excess(&self.cx.config) {
            self.finish(id, Err(error));
        }
    }

    /// Sends a request where it belongs, or lets it wait for that.
    pub(in crate::cluster) fn dispatch(&mut self, id: RequestId) {
        let known = self.phase.known();
        let Some(mut next) = self.requests.get(id).map(|request| route(request, known, true)) else {
            return;
        };
        if next == Next::Gather {
            let parts = self.scatter(id);
            if !parts.is_empty() {
                return self.send_parts(&parts);
            }
            // It concerns one node.
            let Some(request) = self.requests.get(id) else {
                return;
            };
            next = route(request, known, false);
        }
        let node = match next {
            Next::Empty => return self.finish(id, Ok(RawReply::empty_array())),
            Next::Refuse(error) => return self.finish(id, Err(error)),
            Next::Alone => return self.send_alone(id),
            Next::OnLease(lease) => return self.send_to_lease(id, lease),
            Next::AtScan(scan) if self.scans.wait(scan, id) => {
                return self.requests.set_stage(id, Stage::AtScan(scan));
            }
            Next::AtScan(_) => return self.finish(id, Err(Error::Closed)),
            Next::Named(address) => self.node_for_caller(&address),
            Next::Redirected(address) => Some(self.nodes.find(&self.cx, &address)),
            Next::Server(node, slot) => {
                if slot.is_some_and(|slot| self.requests.hold_in_order(id, slot)) {
                    return;
                }
                Some(node)
            }
            Next::Slot { slot, from_replica, is_ordered } => {
                let owner = self.map.owner(slot);
                let node = owner.map(|owner| if from_replica { self.reader(slot, owner) } else { owner });
                if let Some(request) = self.requests.get_mut(id) {
                    request.at_replica = node != owner;
                }
                if node == owner && is_ordered && self.requests.hold_in_order(id, slot) {
                    return;
                }
                node
            }
            Next::AnyPrimary => self.any_primary(),
            Next::Wait | Next::Gather => None,
        };
        match node {
            Some(node) if self.goes_around(id, node) => self.send_around(id, node),
            Some(node) => self.send_to(id, node),
            None => {
                self.requests.wait_unrouted(id);
                self.map.want_refresh();
            }
        }
    }

    /// Sends the parts of a request on their way.
    fn send_parts(&mut self, parts: &[RequestId]) {
        for part in parts {
            self.dispatch(*part);
            if let Some(request) = self.requests.get(*part) {
                let deadline = request.deadline;
                self.requests.set_deadline(*part, deadline);
                self.refuse_beyond_limits(*part);
            }
        }
    }

    /// Puts a request on the connection that its caller has been lent, unless no node could serve
    /// it there.
    fn send_to_lease(&mut self, id: RequestId, lease: LeaseId) {
        let why = self.requests.get(id).and_then(|request| self.spans_slots(request, lease));
        match why {
            Some(why) => self.finish(id, Err(Error::CrossSlot(why))),
            None => self.send_on_lease(id, lease),
        }
    }

    /// Puts a request on its node's connection, or into the node's queue until there is one.
    pub(super) fn send_to(&mut self, id: RequestId, key: NodeKey) {
        let Some(node) = self.nodes.get_mut(key).filter(|_| self.requests.contains(id)) else {
            return;
        };
        let current = node.connection().and_then(|conn| Some((conn, self.links.get_mut(conn)?)));
        let usable = current.filter(|(_, connection)| connection.is_usable());
        match usable {
            Some((conn, connection))
                if connection.needs_check(self.cx.config.health_check_after, self.cx.now) =>
            {
                self.links.check_health(&mut self.cx, conn);
                self.queue_at(id, key);
                self.nodes.look_after(&self.cx, key);
            }
            Some((conn, connection)) => {
                let Some(request) = self.requests.prepare(&self.cx, id, connection.scripts()) else {
                    return;
                };
                let is_refused = request.at_replica && connection.take_reads_refused();
                if matches!(request.target, Some(Target::Ask(_))) {
                    self.links.send_words(&mut self.cx, conn, &["ASKING"], Expected::Asking);
                }
                if is_refused {
                    self.links.send_words(&mut self.cx, conn, &["READONLY"], Expected::ReadOnly);
                }
                self.links.send(&mut self.cx, conn, &request.command, id);
                let flushes = request.command.script == ScriptUse::Flushes;
                node.statistics_mut().commands += 1;
                self.requests.set_stage(id, Stage::OnConnection(conn));
                if flushes {
                    self.links.forget_sent_scripts();
                }
            }
            None => {
                // Somebody may have taken over since it was last asked for.
                let is_down = node.is_down();
                self.queue_at(id, key);
                self.ensure_connection(key);
                if is_down {
                    self.map.want_refresh();
                }
            }
        }
    }

    pub(super) fn queue_at(&mut self, id: RequestId, key: NodeKey) {
        let could_go_elsewhere = self.requests.is_at_replica(id);
        if let Some(node) = self.nodes.get_mut(key) {
            node.queue_mut().push_back(id);
            if could_go_elsewhere {
                node.note_read_waits(self.cx.now);
            }
            self.requests.set_stage(id, Stage::AtNode(key));
        }
    }

    /// Sends on what waited for this node's connection, in order.
    pub(in crate::cluster) fn send_queue(&mut self, node: NodeKey) {
        let queue = self.nodes.get_mut(node).map(Node::take_queue);
        for id in queue.into_iter().flatten() {
            match self.requests.get(id).map(|request| &request.target) {
                Some(Some(Target::Ask(_))) => {
                    self.requests.forget_ask(id);
                    self.requests.set_stage(id, Stage::Nowhere);
                    self.dispatch(id);
                }
                Some(_) => self.send_to(id, node),
                None => {}
            }
        }
    }

    /// Takes what need not wait for this node out of its queue: reads that the primary can serve,
    /// and what the caller wants of this node alone. With a `reason` nothing else may wait
    /// either.
    pub(in crate::cluster) fn release_queue(&mut self, key: NodeKey, reason: Option<&Error>) {
        let Some(node) = self.nodes.get_mut(key) else {
            return;
        };
        let queue = node.take_queue();
        let (address, is_down, last_error) =
            (node.address().clone(), node.is_down(), node.last_error().to_string());
        for id in queue {
            let at_replica = self.requests.is_at_replica(id);
            let Some(request) = self.requests.get_mut(id) else {
                continue;
            };
            if at_replica {
                request.primary_only = true;
                self.dispatch(id);
            } else if let Some(reason) = reason {
                self.finish(id, Err(reason.clone()));
            } else if is_down && matches!(request.target, Some(Target::Node(_))) {
                self.finish(id, Err(Error::Connect(format!("{address}: {last_error}"))));
            } else if let Some(node) = self.nodes.get_mut(key) {
                node.queue_mut().push_back(id);
            }
        }
    }

    /// Routes anew what waits for a node without a connection or for any node at all: the topology
    /// has changed.
    pub(in crate::cluster) fn dispatch_waiting(&mut self) {
        let mut waiting = self.requests.take_unrouted();
        for node in self.nodes.values_mut() {
            let usable =
                node.connection().and_then(|conn| self.links.get(conn)).is_some_and(Connection::is_usable);
            if !usable {
                waiting.append(&mut node.take_queue());
            }
        }
        for id in waiting {
            if let Some(request) = self.requests.get_mut(id) {
                request.target.take_if(|target| !target.is_fixed());
                self.dispatch(id);
            }
        }
    }

    /// Sends what nothing holds any more.
    pub(in crate::cluster) fn send_released(&mut self) {
        while let Some((slot, released)) = self.requests.next_released() {
            for id in released {
                if self.requests.is_held(id, slot) {
                    self.requests.set_stage(id, Stage::Nowhere);
                    self.dispatch(id);
                }
            }
        }
    }
}
