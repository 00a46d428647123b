//! A component that counts on a Redis cluster, and knows nothing of it but `wit/`.
//!
//! The component takes the seeds' URLs as arguments. It counts its own runs in the key `runs` and
//! its lines of output in `{runs}:lines`, and prints both. It links no Redis library: compose it
//! with the Keyslot component and run the result anywhere that runs WASI 0.2.
//!
//! ```text
//! counter.wasm ── imports ─→ keyslot:redis/redis-cluster ←─ exports ── keyslot_redis.wasm
//! ```
#![allow(missing_docs, unreachable_pub, reason = "wit-bindgen generates the bindings into this crate")]
#![allow(unsafe_code, reason = "generated: the canonical ABI passes pointers")]

wit_bindgen::generate!({
    path: "../../wit",
    world: "client",
});

use std::process::ExitCode;

use keyslot::redis::redis_cluster::{Client, Options, keyslot};
use keyslot::redis::types::{Error, Reply, ReplyNode};

fn main() -> ExitCode {
    let urls: Vec<String> = std::env::args().skip(1).collect();
    match count(&urls) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("counter: {error}");
            ExitCode::FAILURE
        }
    }
}

fn count(urls: &[String]) -> Result<(), Error> {
    let client = Client::connect(&Options::new(urls))?;
    let runs = integer(&client.execute(&words(&["INCR", "runs"]))?);
    println!("run {runs}, counted in slot {} at {}", keyslot(b"runs"), client.node_for_key(b"runs")?);

    // One write for the whole pipeline: both keys have the tag `runs`, so one node has them.
    let pipeline = [words(&["INCRBY", "{runs}:lines", "2"]), words(&["GET", "runs"])];
    let mut results = client.pipeline(&pipeline).into_iter();
    let lines = integer(&results.next().unwrap_or(Err(Error::Closed))?);
    println!("{lines} lines in all runs");
    Ok(())
}

/// A command from its words.
fn words(words: &[&str]) -> Vec<Vec<u8>> {
    words.iter().map(|word| word.as_bytes().to_vec()).collect()
}

fn integer(reply: &Reply) -> i64 {
    match reply.first() {
        Some(ReplyNode::Integer(value)) => *value,
        _ => 0,
    }
}
