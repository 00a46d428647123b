//! Finding members by id and by address; sorting without the standard library's sorts.

use alloc::collections::BinaryHeap;
use alloc::vec::Vec;
use core::cmp::Reverse;

use crate::address::NodeAddr;

use super::{Member, Topology};

/// Where a member stands in a topology.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(super) shard: usize,
    pub(super) node: usize,
}

/// The members of a topology by id and by address.
#[derive(Debug, Default)]
pub(crate) struct Index {
    by_id: Vec<Place>,
    /// Of one address those without an id first.
    by_address: Vec<Place>,
}

impl Index {
    pub(crate) fn of(topology: &Topology) -> Self {
        let members: Vec<_> = topology.members().collect();
        let sorted = |order: Vec<usize>| {
            order.into_iter().filter_map(|index| members.get(index).map(|(place, _)| *place)).collect()
        };
        Self {
            by_id: sorted(order_of(&members, |(_, member)| member.id.as_str())),
            by_address: sorted(order_of(&members, |(_, member)| (&member.address, !member.id.is_empty()))),
        }
    }

    /// The first member with this id, which is not empty.
    pub(crate) fn with_id(&self, topology: &Topology, id: &str) -> Option<Place> {
        let id_of = |place: &Place| topology.member(*place).map(|member| member.id.as_str());
        let first = self.by_id.partition_point(|place| id_of(place) < Some(id));
        self.by_id.get(first).copied().filter(|place| id_of(place) == Some(id) && !id.is_empty())
    }

    /// The members at this address, of which there may be several where one has taken another's
    /// place.
    pub(crate) fn at<'a>(
        &'a self,
        topology: &'a Topology,
        address: &'a NodeAddr,
    ) -> impl Iterator<Item = (Place, &'a Member)> {
        let address_of = |place: &Place| topology.member(*place).map(|member| &member.address);
        let first = self.by_address.partition_point(|place| address_of(place) < Some(address));
        let places = self.by_address.iter().skip(first);
        let members = places.map_while(|place| Some((*place, topology.member(*place)?)));
        members.take_while(move |(_, member)| member.address == *address)
    }

    /// Whether another topology is of the same cluster: they share a node's id. One without ids may
    /// be of any.
    pub(crate) fn is_kin(&self, topology: &Topology, other: &Topology) -> bool {
        let has_ids = |topology: &Topology| topology.members().any(|(_, member)| !member.id.is_empty());
        let is_known = |member: &Member| self.with_id(topology, &member.id).is_some();
        !has_ids(topology) || !has_ids(other) || other.members().any(|(_, member)| is_known(member))
    }

    /// The first that is the same node: by id where both have one, else by address.
    pub(super) fn find(&self, topology: &Topology, node: &Member) -> Option<Place> {
        let same_address = self.at(topology, &node.address).next();
        let same_address = same_address.filter(|(_, other)| other.id.is_empty() || node.id.is_empty());
        let places = self.with_id(topology, &node.id).into_iter();
        places.chain(same_address.map(|(place, _)| place)).min()
    }
}

/// Who is where.
pub(super) fn identity_at(member: &Member) -> (&str, &NodeAddr) {
    (&member.id, &member.address)
}

/// What a node is told apart by: its id where there is one, else its address.
pub(super) fn identity(member: &Member) -> (&str, Option<&NodeAddr>) {
    (&member.id, member.id.is_empty().then_some(&member.address))
}

/// The items by their key, those of one key in the order they had.
pub(crate) fn in_order<T, K: Ord + Copy>(items: Vec<T>, key: impl Fn(&T) -> K) -> Vec<T> {
    if items.is_sorted_by_key(&key) {
        return items;
    }
    let keys: Vec<K> = items.iter().map(key).collect();
    let order = order_of(&keys, |key| *key);
    let mut items: Vec<_> = items.into_iter().map(Some).collect();
    order.into_iter().filter_map(|index| items.get_mut(index)?.take()).collect()
}

/// The indices of the items, by the items' keys; those of one key in the order they had.
///
/// A heap takes n log n whatever the order is that a server has chosen, and the machine has one for
/// its timers. The standard library's sorts would be a fourteenth of the component.
pub(crate) fn order_of<'a, T, K: Ord>(items: &'a [T], key: impl Fn(&'a T) -> K) -> Vec<usize> {
    let entries = items.iter().enumerate().map(|(index, item)| Reverse((key(item), index)));
    let mut heap: BinaryHeap<_> = entries.collect();
    core::iter::from_fn(|| heap.pop()).map(|Reverse((_, index))| index).collect()
}
