//! The component's exports: they keep the connected client between the calls.
#![allow(missing_docs, unreachable_pub, reason = "wit-bindgen generates the bindings into this module")]
#![allow(unsafe_code, reason = "generated: the canonical ABI passes pointers")]

use std::cell::RefCell;
use std::time::Instant;

use crate::cluster::Cluster;
use crate::decode::{self, Replies};
use crate::work::{self, Data};

wit_bindgen::generate!({
    path: "wit",
    world: "peer",
});

use exports::keyslot::bench_peer::measured::{Decoder, Guest, Shape, Verb};

thread_local! {
    static CLUSTER: RefCell<Option<Cluster>> = const { RefCell::new(None) };
}

struct Peer;

impl Guest for Peer {
    fn connect(urls: Vec<String>, keys: Vec<Vec<u8>>, value: Vec<u8>) -> Result<(), String> {
        let cluster = Cluster::connect(&urls, Data::new(keys, value))?;
        CLUSTER.replace(Some(cluster));
        Ok(())
    }

    fn run(verb: Verb, shape: Shape, keys: u32, calls: u32) -> Result<u64, String> {
        let verb = match verb {
            Verb::Set => work::Verb::Set,
            Verb::Get => work::Verb::Get,
        };
        let shape = match shape {
            Shape::One => work::Shape::One,
            Shape::Pipeline => work::Shape::Pipeline,
            Shape::Many => work::Shape::Many,
        };
        let work = work::Work { verb, shape, keys: keys as usize };
        CLUSTER.with_borrow_mut(|cluster| {
            let cluster = cluster.as_mut().ok_or("not connected")?;
            Ok(cluster.run(work, calls as usize)?.as_nanos() as u64)
        })
    }

    fn decode(decoder: Decoder, bytes: Vec<u8>, replies: u32, times: u32) -> Result<u64, String> {
        let replies = Replies { bytes, count: replies as usize };
        let decode = match decoder {
            Decoder::Keyslot => decode::keyslot,
            Decoder::RedisRs => decode::redis_rs,
        };
        let started = Instant::now();
        for _ in 0..times {
            if decode(&replies)? != replies.count {
                return Err("the decoder found another number of replies".to_owned());
            }
        }
        Ok(started.elapsed().as_nanos() as u64)
    }
}

export!(Peer);
