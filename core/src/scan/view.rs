//! What a node says of itself and of its peers: CLUSTER NODES.
//!
//! Cluster specification, "Cluster topology"; the form is that of
//! <https://redis.io/docs/latest/commands/cluster-nodes/>.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::SlotSet;
use crate::address::NodeAddr;
use crate::slot::{Slot, SlotRange};
use crate::topology::{ID_LENGTH_MAX, NODES_MAX, in_order, order_of};

/// A node's own line of its CLUSTER NODES, and what it knows of the others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeView {
    /// The node's id.
    pub id: String,
    /// Whether it is a primary.
    pub is_primary: bool,
    /// Its configuration epoch.
    pub epoch: u64,
    /// The slots that it owns, those that are moving away included.
    pub owned: SlotSet,
    /// What moves away, with the id of the node that it moves to: by slot, each once.
    pub leaving: Vec<(Slot, String)>,
    /// What moves here, with the id of the node that it comes from: by slot, each once.
    pub coming: Vec<(Slot, String)>,
    /// All nodes that it knows: by id, each once.
    pub peers: Vec<Peer>,
}

/// One node as another knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The node's id.
    pub id: String,
    /// Where it says that it is reached, if it does.
    pub address: Option<NodeAddr>,
    /// Its configuration epoch.
    pub epoch: u64,
}

impl NodeView {
    /// Reads the answer of the node that was asked at the host `asked`. `None` when it is no
    /// CLUSTER NODES, or one that no cluster gives: with more than 4,096 nodes, a node or a
    /// slot twice, or an id of more than 64 bytes.
    #[must_use]
    pub fn parse(text: &str, asked: &str) -> Option<Self> {
        let mut view = Self::default();
        let mut open = SlotSet::default();
        for line in text.lines().filter(|line| !line.is_empty()) {
            let mut fields = line.split(' ');
            let id = fields.next().filter(|id| id.len() <= ID_LENGTH_MAX)?.to_string();
            let address = fields.next()?.split('@').next()?;
            let flags = fields.next()?;
            let epoch = fields.nth(3)?.parse().ok()?;
            let address = NodeAddr::from_redirect(address, asked);
            if flags.split(',').any(|flag| flag == "myself") {
                if !view.id.is_empty() {
                    return None;
                }
                view.id.clone_from(&id);
                view.is_primary = flags.split(',').any(|flag| flag == "master");
                view.epoch = epoch;
                for field in fields.skip(1) {
                    view.take_slots(field, &mut open)?;
                }
            }
            view.peers.push(Peer { id, address, epoch });
            if view.peers.len() > NODES_MAX {
                return None;
            }
        }
        let by_slot = |moves: &mut Vec<(Slot, String)>| {
            *moves = in_order(core::mem::take(moves), |(slot, _)| *slot);
        };
        by_slot(&mut view.leaving);
        by_slot(&mut view.coming);
        let order = order_of(&view.peers, |peer| &peer.id);
        let mut peers: Vec<_> = view.peers.drain(..).map(Some).collect();
        view.peers = order.into_iter().filter_map(|index| peers.get_mut(index)?.take()).collect();
        if !view.peers.is_sorted_by(|one, next| one.id < next.id) {
            return None;
        }
        (!view.id.is_empty()).then_some(view)
    }

    /// `5`, `0-5460`, `[93->-id]` or `[77-<-id]`. Each slot stands once among those that it owns,
    /// and once among the `open` ones.
    fn take_slots(&mut self, field: &str, open: &mut SlotSet) -> Option<()> {
        let slot = |text: &str| text.parse().ok().and_then(Slot::new);
        if let Some(field) = field.strip_prefix('[') {
            let mut parts = field.trim_end_matches(']').splitn(3, '-');
            let (number, direction, id) = (slot(parts.next()?)?, parts.next()?, parts.next()?);
            if id.len() > ID_LENGTH_MAX || !open.add(number) {
                return None;
            }
            let list = if direction == ">" { &mut self.leaving } else { &mut self.coming };
            list.push((number, id.to_string()));
        } else {
            let (first, last) = field.split_once('-').unwrap_or((field, field));
            let mut slots = SlotRange::new(slot(first)?, slot(last)?)?.slots();
            if !slots.all(|slot| self.owned.add(slot)) {
                return None;
            }
        }
        Some(())
    }

    /// What it knows of this node.
    #[must_use]
    pub fn peer(&self, id: &str) -> Option<&Peer> {
        let index = self.peers.binary_search_by(|peer| peer.id.as_str().cmp(id)).ok()?;
        self.peers.get(index)
    }

    /// Where a slot is moving to.
    #[must_use]
    pub fn leaves_to(&self, slot: Slot) -> Option<&str> {
        node_of(&self.leaving, slot)
    }

    /// Where a slot is moving here from.
    #[must_use]
    pub fn comes_from(&self, slot: Slot) -> Option<&str> {
        node_of(&self.coming, slot)
    }
}

/// The id with which this slot stands. The list is by slot.
pub(super) fn node_of(moves: &[(Slot, String)], slot: Slot) -> Option<&str> {
    let index = moves.binary_search_by_key(&slot, |(moving, _)| *moving).ok()?;
    moves.get(index).map(|(_, id)| id.as_str())
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::*;

    #[test]
    fn a_nodes_own_line_is_read() {
        let text = "\
07c37dfeb235213a872192d90877d0cd55635b91 127.0.0.1:30004@31004,hostname4 slave e7d1eecce10fd6bb5eb35b9f99a514335d9ba9ca 0 1426238317239 4 connected\n\
67ed2db8d677e59ec4a4cefb06858cf2a1a89fa1 ::1:30002@31002,hostname2 master - 0 1426238316232 2 connected 5461-10922\n\
292f8b365bb7edb5e285caf0b7e6ddc7265d2f4f :0@0 master,noaddr - 0 1426238318243 3 disconnected 10923-16383\n\
e7d1eecce10fd6bb5eb35b9f99a514335d9ba9ca :30001@31001,hostname1 myself,master - 0 0 7 connected 0-5460 6000 \
[93->-292f8b365bb7edb5e285caf0b7e6ddc7265d2f4f] [7000-<-67ed2db8d677e59ec4a4cefb06858cf2a1a89fa1]\n";
        let view = NodeView::parse(text, "host").unwrap();
        let slot = |number| Slot::new(number).unwrap();
        assert_eq!((view.is_primary, view.epoch, view.owned.len()), (true, 7, 5_462));
        assert!(view.id.starts_with("e7d1") && view.owned.contains(slot(6_000)));
        assert!(view.leaves_to(slot(93)).unwrap().starts_with("292f"));
        assert!(view.comes_from(slot(7_000)).unwrap().starts_with("67ed"));
        assert_eq!((view.leaves_to(slot(94)), view.comes_from(slot(93))), (None, None));
        let addresses: Vec<_> =
            view.peers.iter().map(|peer| peer.address.as_ref().map(ToString::to_string)).collect();
        // By id.
        let expected = [Some("127.0.0.1:30004"), None, Some("[::1]:30002"), Some("host:30001")];
        assert_eq!(addresses, expected.map(|text| text.map(ToString::to_string)));
        assert_eq!(view.peer("67ed2db8d677e59ec4a4cefb06858cf2a1a89fa1").unwrap().epoch, 2);
    }

    #[test]
    fn what_is_no_answer_is_none() {
        for text in [
            "",
            "id",
            "id 127.0.0.1:1@2 master - 0 0 1 connected 0-16383",
            "id 127.0.0.1:1@2 myself,master - 0 0 x connected",
            "id 127.0.0.1:1@2 myself,master - 0 0 1 connected 5-4",
            "id 127.0.0.1:1@2 myself,master - 0 0 1 connected 16384",
            "id 127.0.0.1:1@2 myself,master - 0 0 1 connected 0-5 5",
            "id 127.0.0.1:1@2 myself,master - 0 0 1 connected [5->-a] [5->-a]",
            "id 127.0.0.1:1@2 myself,master - 0 0 1 connected [5->-a] [5-<-b]",
            "a 127.0.0.1:1@2 myself,master - 0 0 1 connected\na 127.0.0.1:2@3 master - 0 0 1 connected",
            "a 127.0.0.1:1@2 myself,master - 0 0 1 connected\nb 127.0.0.1:2@3 myself,master - 0 0 1 connected",
        ] {
            assert_eq!(NodeView::parse(text, "host"), None, "{text}");
        }
    }

    #[test]
    fn a_view_has_no_more_than_a_cluster_can_have() {
        let peers = |count| {
            let peer = |number| format!("{number:040x} 10.0.0.1:7000@17000 slave - 0 0 0 connected\n");
            let own = "id 127.0.0.1:1@2 myself,master - 0 0 1 connected\n".to_string();
            core::iter::once(own).chain((1..count).map(peer)).collect::<String>()
        };
        assert_eq!(NodeView::parse(&peers(NODES_MAX), "host").unwrap().peers.len(), NODES_MAX);
        assert_eq!(NodeView::parse(&peers(NODES_MAX + 1), "host"), None);

        let line =
            |id: &str, to: &str| format!("{id} 127.0.0.1:1@2 myself,master - 0 0 1 connected 5 [5->-{to}]");
        let (most, more) = ("x".repeat(ID_LENGTH_MAX), "x".repeat(ID_LENGTH_MAX + 1));
        assert!(NodeView::parse(&line(&most, &most), "host").is_some());
        assert_eq!(NodeView::parse(&line(&more, "a"), "host"), None);
        assert_eq!(NodeView::parse(&line("a", &more), "host"), None);

        // All slots on the move, the last one first.
        let open = (0..16_384).rev().map(|slot| format!(" [{slot}->-a]")).collect::<String>();
        let text = format!("id 127.0.0.1:1@2 myself,master - 0 0 1 connected 0-16383{open}");
        let view = NodeView::parse(&text, "host").unwrap();
        assert_eq!(view.leaving.len(), 16_384);
        assert!((0..16_384).all(|slot| view.leaves_to(Slot::new(slot).unwrap()) == Some("a")));
    }
}
