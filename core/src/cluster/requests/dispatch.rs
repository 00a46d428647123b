//! Where a request goes: to a node's connection or into its queue, to a lease, a scan, or apart.

use alloc::format;
use alloc::string::ToString;

use crate::address::NodeAddr;
use crate::cluster::links::connection::{Connection, Expected};
use crate::cluster::requests::request::{Stage, Target};
use crate::cluster::{Cluster, NodeKey, Phase, RequestId};
use crate::command::prepared::{Command, Spread};
use crate::command::route::Route;
use crate::command::script::ScriptUse;
use crate::error::Error;
use crate::resp::RawReply;

/// Why SCAN with a cursor goes nowhere by itself.
const NAME_A_NODE: &str = "a cursor of SCAN is good at the node that gave it, and only there: iterate with `scan`, which knows \
                           the nodes, or send each SCAN to a node that you name";

impl Cluster {
    /// Takes a request in and sends it on its way.
    pub(in crate::cluster) fn accept(&mut self, command: Command, target: Option<Target>) -> RequestId {
        self.cx.statistics.requests += 1;
        let deadline = match &target {
            Some(Target::Lent(lease)) => self.deadline_on_lease(&command, *lease),
            _ => self.deadline_of(&command),
        };
        let id = self.requests.add(&self.cx, command, target, deadline);
        self.dispatch(id);
        if self.requests.contains(id) {
            self.requests.set_deadline(id, deadline);
            self.refuse_beyond_limits(id);
        }
        id
    }

    /// Ends a new request that would wait for a node that is down, when too much waits already.
    pub(in crate::cluster) fn refuse_beyond_limits(&mut self, id: RequestId) {
        let waits_for_nobody = match self.requests.get(id).map(|request| request.stage) {
            Some(Stage::AtNode(node)) => self.nodes.get(node).is_some_and(|node| self.is_out_of_reach(node)),
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
        let Some(request) = self.requests.get(id) else {
            return;
        };
        if request.command.queued == Some(0)
            && request.target.is_none()
            && !matches!(self.phase, Phase::Closed)
        {
            return self.finish(id, Ok(RawReply::empty_array()));
        }
        let is_whole = request.target.is_none() && request.command.spread != Spread::None;
        if is_whole && matches!(self.phase, Phase::Clustered) && self.scatter(id) {
            return;
        }
        let Some(request) = self.requests.get(id) else {
            return;
        };
        if self.blocks_alone(request) {
            return self.send_alone(id);
        }
        let node = match (&self.phase, &request.target, &request.command.route) {
            (Phase::Closed, ..) => return self.finish(id, Err(Error::Closed)),
            (_, Some(Target::Lent(lease)), _) => {
                let lease = *lease;
                if let Some(why) = self.spans_slots(request, lease) {
                    return self.finish(id, Err(Error::CrossSlot(why)));
                }
                return self.send_on_lease(id, lease);
            }
            (_, Some(Target::Scan(scan)), _) => {
                let scan = *scan;
                return self.wait_at_scan(id, scan);
            }
            (Phase::Starting(_), ..) => None,
            (_, Some(Target::Node(address)), _) => {
                let address = address.clone();
                self.node_for_caller(&address)
            }
            (Phase::Standalone(node), _, route) => {
                let (node, slot) = (*node, route.slot());
                let slot = slot.filter(|_| !request.command.while_busy);
                if slot.is_some_and(|slot| self.requests.hold_in_order(id, slot)) {
                    return;
                }
                Some(node)
            }
            (Phase::Clustered, Some(Target::Moved(address) | Target::Ask(address)), _) => {
                let address = address.clone();
                Some(self.nodes.find(&self.cx, &address))
            }
            (Phase::Clustered, None, Route::Slot(slot)) => {
                let (slot, from_replica) = (*slot, request.command.is_read && !request.primary_only);
                // It must not wait for what it is to end.
                let is_ordered = !request.command.while_busy;
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
            (Phase::Clustered, None, Route::Any) => self.any_primary(),
            (Phase::Clustered, None, Route::OneNode) => {
                return self.finish(id, Err(Error::InvalidArgument(NAME_A_NODE.to_string())));
            }
            (Phase::Clustered, None, Route::CrossSlot(why)) => {
                let error = Error::CrossSlot(why.to_string());
                return self.finish(id, Err(error));
            }
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

    /// A node that the caller names is dialled at once, whatever happened before.
    pub(in crate::cluster) fn node_for_caller(&mut self, address: &NodeAddr) -> Option<NodeKey> {
        let key = self.redirect_target(address)?;
        if let Some(node) = self.nodes.get_mut(key) {
            node.redial_at = node.redial_at.min(self.cx.now);
        }
        self.nodes.look_after(&self.cx, key);
        Some(key)
    }

    /// A primary for a command without keys: by chance, but none that cannot be reached while others can.
    pub(in crate::cluster) fn any_primary(&mut self) -> Option<NodeKey> {
        let owners = self.map.owners();
        let first = self.cx.random.below(owners.len());
        let (before, after) = owners.split_at_checked(first)?;
        let mut in_turn = after.iter().chain(before);
        let reachable =
            |node: &NodeKey| self.nodes.get(*node).is_some_and(|node| !self.is_out_of_reach(node));
        in_turn.clone().find(|node| reachable(node)).or_else(|| in_turn.next()).copied()
    }

    /// Puts a request on its node's connection, or into the node's queue until there is one.
    pub(super) fn send_to(&mut self, id: RequestId, key: NodeKey) {
        let Some(node) = self.nodes.get_mut(key).filter(|_| self.requests.contains(id)) else {
            return;
        };
        let current = node.connection.and_then(|conn| Some((conn, self.links.get_mut(conn)?)));
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
                let Some(request) = self.requests.prepare(&self.cx, id, &connection.scripts) else {
                    return;
                };
                let is_refused = request.at_replica && core::mem::take(&mut connection.reads_refused);
                if matches!(request.target, Some(Target::Ask(_))) {
                    self.links.send_words(&mut self.cx, conn, &["ASKING"], Expected::Asking);
                }
                if is_refused {
                    self.links.send_words(&mut self.cx, conn, &["READONLY"], Expected::ReadOnly);
                }
                self.links.send(&mut self.cx, conn, &request.command, id);
                let flushes = request.command.script == ScriptUse::Flushes;
                node.statistics.commands += 1;
                self.requests.set_stage(id, Stage::OnConnection(conn));
                if flushes {
                    self.forget_sent_scripts();
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
            node.queue.push_back(id);
            if could_go_elsewhere {
                node.reads_since.get_or_insert(self.cx.now);
            }
            self.requests.set_stage(id, Stage::AtNode(key));
        }
    }

    /// Sends on what waited for this node's connection, in order.
    pub(in crate::cluster) fn send_queue(&mut self, node: NodeKey) {
        let queue = self.nodes.get_mut(node).map(|node| {
            node.reads_since = None;
            node.queue.take()
        });
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

    /// Takes what need not wait for this node out of its queue: reads that the primary can serve, and what the caller
    /// wants of this node alone. With a `reason` nothing else may wait either.
    pub(in crate::cluster) fn release_queue(&mut self, key: NodeKey, reason: Option<&Error>) {
        let Some(node) = self.nodes.get_mut(key) else {
            return;
        };
        node.reads_since = None;
        let (address, is_down, last_error) = (node.address.clone(), node.is_down(), node.last_error.clone());
        for id in node.queue.take() {
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
                node.queue.push_back(id);
            }
        }
    }

    /// Routes anew what waits for a node without a connection or for any node at all: the topology has changed.
    pub(in crate::cluster) fn dispatch_waiting(&mut self) {
        let mut waiting = self.requests.take_unrouted();
        for node in self.nodes.values_mut() {
            let usable =
                node.connection.and_then(|conn| self.links.get(conn)).is_some_and(Connection::is_usable);
            if !usable {
                node.reads_since = None;
                waiting.append(&mut node.queue.take());
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
