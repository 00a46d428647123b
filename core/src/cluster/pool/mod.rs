//! Lending whole connections, for what cannot share one: WATCH to EXEC, commands that block.
//!
//! ```text
//!   lend ─→ Waiting ─→ Opening ─→ Held ─→ give_back ─→ clean? ─ yes ─→ idle, for the next
//!            │ ↑          │        │                     └── no ────→ closed
//!            │ └─ failed ─┘        │
//!            └──── time is up ─────┴─ ended ─→ Ended
//! ```
//!
//! Lending takes no time: requests for a connection that is still to come wait for it.
//! A lease waits its turn in its node's queue. An idle connection that has not been used for a
//! while answers a PING first. One that comes back with a WATCH or an open MULTI is cleaned by
//! UNWATCH or DISCARD; one whose replies are not all there, or whose state was changed in another
//! way, is closed.

mod blocking;
mod lease;
mod lend;
pub(in crate::cluster) mod line;
mod redirect;
mod send;
mod tend;

use slotmap::SlotMap as Arena;

use super::context::Context;
use super::ids::{LeaseId, NodeKey, RequestId};
use super::nodes::Nodes;
use super::timers::Timers;
use crate::time::Instant;
use core::time::Duration;
use lease::Lease;
pub(in crate::cluster) use lease::Lending;

/// How soon a node's connections are looked through after something about them has changed, and how
/// often while there is something to mend.
const TEND_INTERVAL: Duration = Duration::from_millis(500);

/// All leases, and until when they wait for a connection.
#[derive(Debug, Default)]
pub(in crate::cluster) struct Pool {
    all: Arena<LeaseId, Lease>,
    deadlines: Timers<LeaseId>,
    /// When each node's connections are looked through.
    tended: Timers<NodeKey>,
}

impl Pool {
    fn get(&self, id: LeaseId) -> Option<&Lease> {
        self.all.get(id)
    }

    fn get_mut(&mut self, id: LeaseId) -> Option<&mut Lease> {
        self.all.get_mut(id)
    }

    /// Notes until when a lease waits.
    fn set_deadline(&mut self, cx: &Context, id: LeaseId) {
        if let Some(lease) = self.all.get_mut(id) {
            lease.deadline = cx.now + lease.patience;
            self.deadlines.insert(lease.deadline, id);
        }
        let all = &self.all;
        self.deadlines.sweep(all.len(), |at, id| {
            all.get(id).is_some_and(|lease| lease.is_waiting() && lease.deadline == at)
        });
    }

    /// A request that waited for a lease's connection is gone; `is_live` is false for it.
    pub(in crate::cluster) fn forget_waiting(
        &mut self,
        cx: &Context,
        lease: LeaseId,
        id: RequestId,
        is_live: impl Fn(RequestId) -> bool,
    ) {
        if let Some(lease) = self.all.get_mut(lease) {
            // It may have been the one that blocks.
            lease.blocks_until = cx.now;
            lease.queue.forget(id, is_live);
        }
    }

    /// When the next lease has waited long enough.
    pub(in crate::cluster) fn next_deadline(&mut self) -> Option<Instant> {
        while let Some((at, id)) = self.deadlines.first() {
            if self.all.get(id).is_some_and(|lease| lease.is_waiting() && lease.deadline == at) {
                return Some(at);
            }
            self.deadlines.pop_entry(at);
        }
        None
    }

    /// The next lease that has waited long enough.
    pub(in crate::cluster) fn expire(&mut self, cx: &Context) -> Option<LeaseId> {
        while let Some(id) = self.deadlines.pop_due(cx.now) {
            if self.all.get(id).is_some_and(|lease| lease.is_waiting() && lease.deadline <= cx.now) {
                return Some(id);
            }
        }
        None
    }

    /// Something about a node's connections has changed: they are looked through soon.
    pub(in crate::cluster) fn tend_soon(&mut self, cx: &Context, nodes: &mut Nodes, key: NodeKey) {
        self.tend_at(nodes, key, cx.now + TEND_INTERVAL);
    }

    fn tend_at(&mut self, nodes: &mut Nodes, key: NodeKey, at: Instant) {
        if let Some(node) = nodes.get_mut(key) {
            node.line_mut().alarm.set(Some(at), key, &mut self.tended);
        }
        let is_set = |at, key| nodes.get(key).is_some_and(|node| node.line().alarm.is_set_to(at));
        self.tended.sweep(nodes.len(), is_set);
    }

    /// Takes out the next node whose connections are to be looked through.
    fn next_tended(&mut self, cx: &Context, nodes: &mut Nodes) -> Option<NodeKey> {
        while let Some((at, key)) = self.tended.pop_entry(cx.now) {
            if nodes.get_mut(key).is_some_and(|node| node.line_mut().alarm.goes_off(at)) {
                return Some(key);
            }
        }
        None
    }

    pub(in crate::cluster) fn len(&self) -> usize {
        self.all.len()
    }

    /// How many entries its deadlines have, and those of the nodes that it looks after, which are
    /// swept now and then.
    pub(in crate::cluster) fn swept(&self) -> [usize; 2] {
        [self.deadlines.len(), self.tended.len()]
    }

    /// Forgets all leases.
    pub(in crate::cluster) fn shut_down(&mut self) {
        self.all.clear();
        self.deadlines = Timers::default();
        self.tended = Timers::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::NodeAddr;
    use crate::cluster::ids::ConnId;
    use crate::cluster::queue::Queue;
    use crate::config::Config;
    use alloc::vec::Vec;
    use lease::LeaseState;

    const PATIENCE: Duration = Duration::from_secs(1);

    fn at(milliseconds: u64) -> Instant {
        Instant::from_nanoseconds(milliseconds * 1_000_000)
    }

    fn context() -> Context {
        Context::new(Config::new(Vec::from([NodeAddr::new("a", 1)])), at(0), 1)
    }

    fn lease_waits(pool: &mut Pool, cx: &Context) -> LeaseId {
        let id = pool.all.insert(Lease {
            state: LeaseState::Waiting(None),
            queue: Queue::default(),
            place: Lending::Anywhere,
            asked: None,
            blocks_until: cx.now,
            sent: 0,
            patience: PATIENCE,
            deadline: cx.now,
        });
        pool.set_deadline(cx, id);
        id
    }

    #[test]
    fn who_waits_longer_than_its_patience_is_told_once_and_who_holds_never() {
        let (mut cx, mut pool) = (context(), Pool::default());
        let [late, held, again] = [(); 3].map(|()| lease_waits(&mut pool, &cx));
        pool.get_mut(held).unwrap().state = LeaseState::Held(ConnId::default());
        cx.now = at(400);
        // What it had is lost: it waits anew.
        pool.set_deadline(&cx, again);
        assert_eq!(pool.next_deadline(), Some(at(1_000)));
        cx.now = at(999);
        assert_eq!(pool.expire(&cx), None);
        cx.now = at(1_000);
        assert_eq!(pool.expire(&cx), Some(late));
        pool.all.remove(late);
        assert_eq!((pool.expire(&cx), pool.next_deadline()), (None, Some(at(1_400))));
        cx.now = at(5_000);
        assert_eq!((pool.expire(&cx), pool.expire(&cx)), (Some(again), None));
    }

    #[test]
    fn deadlines_of_those_who_wait_no_more_do_not_pile_up() {
        let (cx, mut pool) = (context(), Pool::default());
        for _ in 0..10_000 {
            let id = lease_waits(&mut pool, &cx);
            pool.all.remove(id);
        }
        assert!(pool.swept()[0] <= 66, "{:?}", pool.swept());
    }

    #[test]
    fn a_request_that_is_gone_leaves_its_lease_and_blocks_no_longer() {
        let (mut cx, mut pool) = (context(), Pool::default());
        let id = lease_waits(&mut pool, &cx);
        let mut requests = Arena::<RequestId, ()>::with_key();
        let [first, second] = [(); 2].map(|()| requests.insert(()));
        let lease = pool.get_mut(id).unwrap();
        [first, second].into_iter().for_each(|request| lease.queue.push_back(request));
        lease.blocks_until = at(9_000);
        cx.now = at(10);
        requests.remove(first);
        pool.forget_waiting(&cx, id, first, |id| requests.contains_key(id));
        let lease = pool.get_mut(id).unwrap();
        assert_eq!((lease.queue.take().as_slices().0, lease.blocks_until), (&[second][..], at(10)));
    }

    #[test]
    fn a_node_is_looked_through_once_however_much_has_changed() {
        let (mut cx, mut pool, mut nodes) = (context(), Pool::default(), Nodes::default());
        let [one, other] = ["a", "b"].map(|host| nodes.find(&cx, &NodeAddr::new(host, 1)));
        for _ in 0..1_000 {
            pool.tend_soon(&cx, &mut nodes, one);
        }
        pool.tend_soon(&cx, &mut nodes, other);
        cx.now = at(499);
        assert_eq!(pool.next_tended(&cx, &mut nodes), None);
        cx.now = at(500);
        let due: Vec<_> = core::iter::from_fn(|| pool.next_tended(&cx, &mut nodes)).collect();
        assert_eq!((due, pool.swept()[1]), (Vec::from([one, other]), 0));
        pool.tend_at(&mut nodes, one, at(60_000));
        pool.tend_soon(&cx, &mut nodes, one);
        cx.now = at(1_000);
        assert_eq!(pool.next_tended(&cx, &mut nodes), Some(one), "sooner than was meant");
    }
}
