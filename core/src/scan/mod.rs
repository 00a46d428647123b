//! What a scan of a cluster's keys has seen, by slots and epochs rather than by nodes.
//!
//! SCAN goes through the keys of one node. While slots move and replicas take over, "every node was
//! gone through" does not say that every key was seen. So a scan keeps a [`SlotCoverage`] of slots:
//!
//! ```text
//!   to do ── a pass over a node that had the slot from start to end ────────────────────────→ done
//!     │ ↑                                                                                       ↑
//!     │ └── whatever else ──┐                                                                   │
//!     └── … and that was ─→ half done ── a later pass over the node that it moves to ───────────┘
//!         moving it away
//! ```
//!
//! A *pass* is `CLUSTER NODES`, SCAN from cursor 0 to cursor 0, `CLUSTER NODES` again; the two
//! [`NodeView`]s are what its node says of itself. A pass that returns a slot's keys as far as they
//! are there does the slot when the node was a primary with the same configuration epoch at both
//! ends and owned it at both: a slot that had left and come back would have raised the epoch
//! (cluster specification, "Configuration epochs"). What moves to another node during a pass is
//! there when the pass has ended: so the slot is half done, and a pass over that node, begun after,
//! does the rest.
//!
//! | file | what is there |
//! |---|---|
//! | `coverage.rs` | what is done, and what a pass does |
//! | `view.rs` | CLUSTER NODES |
//! | `slots.rs` | sets of slots |
//! | `token.rs` | all of it as bytes, to be resumed elsewhere |

mod coverage;
mod slots;
mod token;
mod view;

pub use coverage::{Claim, Half, SlotCoverage};
pub use slots::SlotSet;
pub(crate) use token::hash;
pub use token::{Bookmark, ResumeToken};
pub use view::{NodeView, Peer};
