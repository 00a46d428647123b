//! The exported `client`.

use alloc::string::ToString;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::time::Duration;

use keyslot_core::cluster::{Cluster, Command};
use keyslot_core::error::Error;
use keyslot_core::resp::Reply;
use keyslot_core::slot::Slot;
use keyslot_core::time::Instant;
use wasi::clocks::monotonic_clock;
use wasi::random::random::get_random_u64;

use crate::bindings::exports::keyslot::redis::redis_cluster::{
    self, Completion, Counter, GuestClient, OptionsBorrow, Shard,
};
use crate::bindings::exports::keyslot::redis::types;
use crate::convert;
use crate::driver::Driver;
use crate::options::Options;

type CommandWords = Vec<Vec<u8>>;
type WitResult = Result<types::Reply, types::Error>;

/// A connected client: the machine and its driver.
pub(crate) struct Client {
    driver: RefCell<Driver>,
    decode_responses: bool,
    /// How large the replies of one call may be together.
    reply_size: u64,
}

impl GuestClient for Client {
    fn connect(options: OptionsBorrow<'_>) -> Result<redis_cluster::Client, types::Error> {
        let valid = options.get::<Options>().validate().map_err(convert::wit_error)?;
        let now = Instant::from_nanoseconds(monotonic_clock::now());
        let reply_size = valid.config.limits.reply_size;
        let mut driver = Driver::new(Cluster::new(valid.config, now, get_random_u64()));
        driver.start().map_err(convert::wit_error)?;
        let client =
            Self { driver: RefCell::new(driver), decode_responses: valid.decode_responses, reply_size };
        Ok(redis_cluster::Client::new(client))
    }

    fn execute(&self, words: CommandWords) -> WitResult {
        let command = Command::new(&words).map_err(convert::wit_error)?;
        // It is encoded now; a large value need not be held twice.
        drop(words);
        let mut result = Err(types::Error::Closed);
        self.driver.borrow_mut().run(core::iter::once((0, command)), |_, ended| {
            result = convert::result(ended, self.decode_responses);
        });
        result
    }

    fn pipeline(&self, commands: Vec<CommandWords>) -> Vec<WitResult> {
        let mut results: Vec<WitResult> = Vec::with_capacity(commands.len());
        let mut valid = Vec::with_capacity(commands.len());
        for (index, command) in commands.into_iter().enumerate() {
            // Every result is overwritten but those of commands that cannot be sent.
            let placeholder = match Command::new(&command) {
                Ok(command) => {
                    valid.push((index, command));
                    types::Error::Closed
                }
                Err(error) => convert::wit_error(error),
            };
            results.push(Err(placeholder));
        }
        let mut left = self.reply_size;
        self.driver.borrow_mut().run(valid.into_iter(), |index, ended| {
            if let Some(result) = results.get_mut(index) {
                *result = convert::result(within(&mut left, self.reply_size, ended), self.decode_responses);
            }
        });
        results
    }

    fn submit(&self, commands: Vec<CommandWords>) -> u64 {
        // Each one's words are dropped when it has been encoded.
        let commands = commands.into_iter().map(|words| Command::new(&words));
        self.driver.borrow_mut().submit(commands)
    }

    fn wait(&self, timeout_ms: u32) -> Vec<Completion> {
        let mut driver = self.driver.borrow_mut();
        driver.wait(Duration::from_millis(timeout_ms.into()));
        let completed = driver.completed();
        let mut left = self.reply_size;
        let mut completions = Vec::with_capacity(completed.len());
        while let Some((_, ended)) = completed.front() {
            let size = ended.as_ref().map_or(0, Reply::size);
            // No reply is larger than the limit. Should one be, it must not stay for ever.
            if !take_from(&mut left, size) && !completions.is_empty() {
                break;
            }
            if let Some((ticket, ended)) = completed.pop_front() {
                let result = convert::result(ended, self.decode_responses);
                completions.push(Completion { ticket, result });
            }
        }
        completions
    }

    fn node_for_key(&self, key: Vec<u8>) -> Result<alloc::string::String, types::Error> {
        let driver = self.driver.borrow();
        let slot = Slot::of_key(&key);
        match driver.cluster().primary_of(slot) {
            _ if driver.cluster().is_closed() => Err(types::Error::Closed),
            Some(address) => Ok(address.to_string()),
            None => Err(convert::wit_error(Error::ClusterDown(alloc::format!("no node serves slot {slot}")))),
        }
    }

    fn topology(&self) -> Vec<Shard> {
        self.driver.borrow().cluster().topology().shards.iter().map(convert::shard).collect()
    }

    fn counters(&self) -> Vec<Counter> {
        let driver = self.driver.borrow();
        let statistics = driver.cluster().statistics();
        let counters = [
            ("requests", statistics.requests),
            ("commands", statistics.commands),
            ("flushes", statistics.flushes),
            ("socket-writes", driver.socket_writes()),
            ("moved", statistics.moved),
            ("ask", statistics.ask),
            ("retries", statistics.retries),
            ("refreshes", statistics.refreshes),
            ("connects", statistics.connects),
            ("disconnects", statistics.disconnects),
            ("bytes-out", statistics.bytes_out),
            ("bytes-in", statistics.bytes_in),
        ];
        counters.into_iter().map(|(name, value)| Counter { name: name.to_string(), value }).collect()
    }

    fn close(&self) {
        self.driver.borrow_mut().close();
    }
}

/// The result, if what is `left` of the call's limit holds its reply.
fn within(left: &mut u64, limit: u64, ended: Result<Reply, Error>) -> Result<Reply, Error> {
    let reply = ended?;
    if take_from(left, reply.size()) {
        return Ok(reply);
    }
    Err(Error::LimitExceeded(alloc::format!(
        "the pipeline's replies are larger than {limit} bytes together (limit reply-size); the command was executed"
    )))
}

/// Takes `size` from what is left, if there is as much.
fn take_from(left: &mut u64, size: u64) -> bool {
    let rest = left.checked_sub(size);
    *left = rest.unwrap_or(*left);
    rest.is_some()
}
