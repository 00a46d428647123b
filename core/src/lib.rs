//! The Redis and Valkey Cluster client without its I/O.
//!
//! One state machine, [`Cluster`](cluster::Cluster), holds the connections, the slot map and every
//! request under way. It opens no socket, reads no clock and draws no random number: a driver does
//! that and tells it what happened. The component's poll loop and the simulated network in `tests/`
//! are two drivers of the same machine.
//!
//! | module | what it is |
//! |---|---|
//! | [`resp`] | RESP2 and RESP3: encoder, incremental decoder, flat replies |
//! | [`slot`], [`address`], [`topology`] | key → slot → node |
//! | [`command`] | the command table and its key specifications |
//! | [`cluster`] | the machine: routing, connections, redirects, retries |
//! | [`session`] | whose each command is: tickets, completions, replies of one call |
//! | [`scan`] | what a scan of all keys has seen, while slots move |
//! | [`wire`] | errors of the client among replies as bytes |
//! | [`config`], [`error`], [`time`] | settings, errors, instants |
#![no_std]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        reason = "a panic is a trap, and every byte a server sends is untrusted"
    )
)]

extern crate alloc;

pub mod address;
pub mod cluster;
pub mod command;
pub mod config;
pub mod error;
pub mod resp;
pub mod scan;
pub mod session;
pub mod settings;
pub mod slot;
pub mod time;
pub mod topology;
pub mod url;
pub mod wire;
