//! Which requests keep an order, and who has to wait for whom.

use alloc::vec::Vec;

use super::Requests;
use super::order::Entry;
use super::request::Stage;
use crate::cluster::ids::{ConnId, NodeKey, RequestId};
use crate::slot::Slot;

impl Requests {
    fn entry(&self, id: RequestId) -> Option<(Slot, Entry)> {
        let request = self.all.get(id)?;
        Some((request.ordered_slot()?, Entry::new(id, request.serial, &request.command)))
    }

    /// Holds a request that is about to be sent to its slot's owner, if it has to wait for others.
    pub(super) fn hold_in_order(&mut self, id: RequestId, slot: Slot) -> bool {
        if !self.order.may_hold(id, slot) {
            return false;
        }
        let Some(request) = self.all.get(id) else {
            return false;
        };
        let entry = Entry::new(id, request.serial, &request.command);
        let waits = self.order.hold_new(slot, entry);
        self.note_held(waits, id, slot)
    }

    /// Holds a request that is to follow an ASK, if as many as may do.
    pub(super) fn hold_asked(&mut self, id: RequestId) -> bool {
        let Some((slot, entry)) = self.entry(id) else {
            return false;
        };
        let waits = self.order.hold_asked(slot, entry);
        self.note_held(waits, id, slot)
    }

    /// Holds a request that is to be sent again, or that has read too early, if an earlier one for
    /// one of its keys waits or is held.
    pub(super) fn hold_behind_earlier(&mut self, id: RequestId) -> bool {
        if self.order.is_free() {
            return false;
        }
        let Some((slot, entry)) = self.entry(id) else {
            return false;
        };
        let waits = self.order.hold_behind(slot, entry);
        self.note_held(waits, id, slot)
    }

    fn note_held(&mut self, waits: bool, id: RequestId, slot: Slot) -> bool {
        if waits {
            if let Some(request) = self.all.get_mut(id) {
                // It is sent where it belongs once its turn has come, and anew.
                request.target = None;
                request.redirects = 0;
            }
            self.set_stage(id, Stage::InOrder(slot));
        }
        waits
    }

    /// A request begins to wait for its retry: those behind it are held.
    pub(super) fn block_later(&mut self, id: RequestId) {
        if let Some((slot, entry)) = self.entry(id) {
            self.order.block_later(slot, entry);
        }
    }

    /// The slot has another owner: its later commands are held from now on, if any is under way.
    pub(super) fn hold_slot(&mut self, slot: Slot) {
        self.order.hold(slot);
    }

    /// The next requests that nothing holds any more, in order. Each is to be sent.
    pub(super) fn next_released(&mut self) -> Option<(Slot, Vec<RequestId>)> {
        self.order.next_released()
    }

    /// Whether a request waits for others of this slot.
    pub(in crate::cluster) fn is_held(&self, id: RequestId, slot: Slot) -> bool {
        self.all.get(id).is_some_and(|request| request.stage == Stage::InOrder(slot))
    }

    /// Who serves the slots for which commands are under way.
    pub(in crate::cluster) fn owners_of_busy_slots(
        &self,
        owner: impl Fn(Slot) -> Option<NodeKey>,
    ) -> Vec<(Slot, Option<NodeKey>)> {
        self.order.busy_slots().map(|slot| (slot, owner(slot))).collect()
    }

    /// Holds the later commands for those slots that somebody else serves now.
    pub(in crate::cluster) fn hold_moved(
        &mut self,
        owners: &[(Slot, Option<NodeKey>)],
        owner: impl Fn(Slot) -> Option<NodeKey>,
    ) {
        for (slot, before) in owners {
            if owner(*slot) != *before {
                self.order.hold(*slot);
            }
        }
    }

    /// What a connection that has stopped answering still owes is not waited for.
    pub(in crate::cluster) fn exclude_stalled(&mut self, requests: &[RequestId], conn: ConnId) {
        for id in requests {
            if let Some(request) = self.all.get_mut(*id)
                && request.stage == Stage::OnConnection(conn)
            {
                Self::count_out(&mut self.order, request);
                self.leave_order(*id);
            }
        }
    }

    /// Whether a read was answered while an earlier command for its key waits: then it is held, and
    /// the answer is none.
    pub(super) fn has_read_too_early(&mut self, id: RequestId) -> bool {
        let is_read = self.get(id).is_some_and(|request| request.command.read_only);
        is_read && self.hold_behind_earlier(id)
    }
}
