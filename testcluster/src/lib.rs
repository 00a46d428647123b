//! Starts, changes, hurts and stops real local Redis clusters, for tests and for `keyslot demo`.
//!
//! What a cluster client does wrong shows only when a cluster changes under it: slots that move key
//! by key, primaries that die, replicas that take over. [`TestCluster`] is such a cluster as a
//! value: its methods are the things that happen to clusters, each waits for its effect by a
//! condition with a deadline, and dropping it stops every server and removes every file.
//! [`TestServer`] is one server that is no cluster. [`Connection`] talks to a single node, past any
//! client under test.
//!
//! The servers are `redis-server` from the `PATH`, or what `KEYSLOT_REDIS_SERVER` names; its value
//! may be a wrapper with arguments, as in `chroot /srv/sid /usr/bin/valkey-server`, which must then
//! see the temporary folder under the same name. They listen on 127.0.0.1 unless told otherwise, on
//! free ports, and several clusters, of several processes too, can run at the same time. They keep
//! nothing on disk unless they are told to (`.arg("--appendonly", "yes")`): a restarted primary
//! comes back empty.
//!
//! # Example
//!
//! ```no_run
//! use keyslot_testcluster::TestCluster;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let cluster = TestCluster::start(3, 1)?;
//! let owner = cluster.node_of_slot(12_182)?; // the slot of "foo"
//! cluster.connection(owner)?.ok(&["SET", "foo", "bar"])?;
//!
//! let other = cluster.primaries()?.into_iter().find(|&node| node != owner).unwrap();
//! cluster.migrate_slot(12_182, other)?;
//! assert_eq!(cluster.connection(other)?.string(&["GET", "foo"])?, "bar");
//!
//! cluster.kill(other)?;
//! cluster.wait_until_agreed()?; // a replica has taken over
//! # Ok(())
//! # }
//! ```

mod cluster;
mod connection;
mod error;
mod info;
mod ports;
mod process;
mod server;
mod verbs;
mod view;

pub use cluster::{TestCluster, TestClusterBuilder, TestNode};
pub use connection::{CallError, Connection};
pub use error::Error;
pub use info::{CommandStatistics, Connected};
pub use process::server_program;
pub use server::{TestServer, TestServerBuilder};
