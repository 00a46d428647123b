//! The native host of Keyslot, the Redis and Valkey Cluster client that is a WebAssembly component.
//!
//! This crate runs the component in [wasmtime], supplies its sockets, and makes it an async client
//! that many tasks share. Routing, redirects, retries and the protocol are the component's: the
//! host holds none of it, and answers no question about the cluster itself.
//!
//! ```no_run
//! use keyslot::{Client, Options};
//!
//! #[tokio::main]
//! async fn main() -> Result<(), keyslot::Error> {
//!     let client = Client::connect(Options::new(["redis://10.0.0.1:6379", "10.0.0.2"])).await?;
//!
//!     client.execute(["SET", "greeting", "hello"]).await?;
//!     let reply = client.execute(["GET", "greeting"]).await?;
//!     assert_eq!(reply.as_bytes(), Some(&b"hello"[..]));
//!
//!     // Many commands: one write for each node, all nodes at the same time.
//!     let commands = (0..1_000)
//!         .map(|n| vec![b"SET".to_vec(), format!("key:{n}").into_bytes(), b"value".to_vec()])
//!         .collect();
//!     for result in client.pipeline(commands).await {
//!         result?;
//!     }
//!     Ok(())
//! }
//! ```
//!
//! # What cannot share a connection
//!
//! All commands for a node share one connection. Commands that block have one of their own in any
//! case; [`Client::transaction`] is MULTI to EXEC, [`Client::watch`] optimistic locking,
//! [`Client::script`] EVALSHA. [`Client::lend`] gives a connection for all else; [`Connection`] has
//! an example.
//!
//! # Loads
//!
//! [`Client::pipeline`] holds all its commands and replies. For more than that, [`Client::submit`]
//! takes encoded commands piece by piece and tells only whether each went well; the command
//! `keyslot pipe` is made of it.
//!
//! # Scanning
//!
//! [`Client::scan`] gives every key of the cluster that is there throughout, also while slots move;
//! [`Client::hscan`] and its like what one key has. [`Scan`] has an example.
//!
//! # Watching it
//!
//! [`Client::events`] tells of connections made and lost, failovers and slots that move; so does
//! `tracing`, under the target `keyslot::events`. [`Client::health`] asks every node,
//! [`Client::statistics`] and [`Client::counters`] count, [`Client::memory`] is what the component
//! uses.
//!
//! # What the host guarantees
//!
//! - A call ends with exactly one result, its own, also when the component fails.
//! - Callers on many tasks share one instance; what they ask at the same moment travels as one
//!   batch, and they take turns: nobody waits for the end of another's long pipeline. [`Client`]
//!   has the details.
//! - The component reaches nothing but what it needs: TCP connections to addresses that the
//!   [`NetworkPolicy`] allows, a monotonic clock, random numbers. It has no files, no environment,
//!   no standard streams, and cannot listen.
//! - It has no more memory than [`Options::memory_limit`], and what it computes for long does not
//!   keep other tasks of the runtime waiting.
//!
//! # What it does not do
//!
//! - One instance runs on one core. Where that is the bottleneck, use several clients.
//! - By default the component dials every address that a server names, as redirects do. Where
//!   servers are not trusted, restrict the policy.
//!
//! # The component
//!
//! With the feature `bundled` (default) it is built from the sources and embedded. The environment
//! variable `KEYSLOT_COMPONENT` names another file, both when this crate is built, where that file
//! is embedded instead, and when it runs, where it is loaded instead. [`Options::component`] does
//! the latter for one client. A relative path is taken from the crate's folder when building.
//! Compiled code is kept in the user's cache directory (`keyslot`).

mod bindings;
mod client;
mod descriptors;
mod engine;
mod error;
mod instance;
mod lookups;
mod network;
mod options;
mod reply;
mod scan_options;
mod state;
mod tcp;
mod wasi;
mod watchdog;

pub use bindings::exports::keyslot::redis::redis_cluster::{
    Counter, DescriptorShortage, EventKind, Limit, Mode, MovedSlots, Node, NodeFailure, NodeHealth,
    NodeStatistics, PoolSetting, Reconnection, Refreshed, ReplicaReads, RespVersion, RetryWrites, Role,
    Route, Shard, SlotRange, Takeover, TopologyChange,
};
pub use bindings::exports::keyslot::redis::types::{Interrupted, ReplyNode, ServerError, Verbatim};
pub use client::Client;
pub use client::connection::Connection;
pub use client::events::{Event, Events};
pub use client::nodes::NodeReport;
pub use client::scan::Scan;
pub use client::script::Script;
pub use client::submit::{Load, Submitted};
pub use client::watched::Watched;
pub use error::Error;
pub use network::{NetworkPolicy, PolicyError};
pub use options::{DEFAULT_MEMORY_LIMIT, Options};
pub use reply::{Children, Reply, ReplyRef};
pub use scan_options::ScanOptions;
