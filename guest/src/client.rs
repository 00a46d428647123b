//! The exported `client`.

use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cell::RefCell;
use core::time::Duration;

use keyslot_core::address::NodeAddr;
use keyslot_core::cluster::{Cluster, Command, RequestId};
use keyslot_core::error::Error;
use keyslot_core::resp::Reply;
use keyslot_core::slot::Slot;
use keyslot_core::time::Instant;
use wasi::clocks::monotonic_clock;
use wasi::random::random::get_random_u64;

use crate::bindings::exports::keyslot::redis::redis_cluster::{
    self, Completion, Counter, Event, EventList, GuestClient, NodeReport, NodeStatistics, OptionsBorrow,
    Shard,
};
use crate::bindings::exports::keyslot::redis::types;
use crate::connection::Connection;
use crate::convert;
use crate::driver::Driver;
use crate::options::Options;

pub(crate) type CommandWords = Vec<Vec<u8>>;
pub(crate) type WitResult = Result<types::Reply, types::Error>;

/// A connected client.
pub(crate) struct Client(Rc<Shared>);

/// What a client and the connections that it has lent have together: the machine and its driver.
pub(crate) struct Shared {
    pub(crate) driver: RefCell<Driver>,
    decode_responses: bool,
    /// How large the replies of one call may be together.
    reply_size: u64,
    made_at: Instant,
}

impl Shared {
    /// Runs many commands and gives the results in their order.
    pub(crate) fn run_all(
        &self,
        commands: Vec<CommandWords>,
        check: impl Fn(&[Vec<u8>]) -> Result<Command, Error>,
        submit: impl Fn(&mut Cluster, Instant, Command) -> RequestId,
    ) -> Vec<WitResult> {
        let mut results: Vec<WitResult> = Vec::with_capacity(commands.len());
        let mut valid = Vec::with_capacity(commands.len());
        for (index, command) in commands.into_iter().enumerate() {
            // Every result is overwritten but those of commands that cannot be sent.
            let placeholder = match check(&command) {
                Ok(command) => {
                    valid.push((index, command));
                    types::Error::Closed
                }
                Err(error) => convert::wit_error(error),
            };
            results.push(Err(placeholder));
        }
        let mut left = self.reply_size;
        self.driver.borrow_mut().run(valid.into_iter(), submit, |index, ended| {
            if let Some(result) = results.get_mut(index) {
                *result = convert::result(within(&mut left, self.reply_size, ended), self.decode_responses);
            }
        });
        results
    }
}

impl GuestClient for Client {
    fn connect(options: OptionsBorrow<'_>) -> Result<redis_cluster::Client, types::Error> {
        let valid = options.get::<Options>().validate().map_err(convert::wit_error)?;
        let made_at = Instant::from_nanoseconds(monotonic_clock::now());
        let reply_size = valid.config.limits.reply_size;
        let mut driver = Driver::new(Cluster::new(valid.config, made_at, get_random_u64()));
        driver.start().map_err(convert::wit_error)?;
        let driver = RefCell::new(driver);
        let shared = Shared { driver, decode_responses: valid.decode_responses, reply_size, made_at };
        Ok(redis_cluster::Client::new(Self(Rc::new(shared))))
    }

    fn execute(&self, words: CommandWords) -> WitResult {
        let command = Command::new(&words).map_err(convert::wit_error)?;
        // It is encoded now; a large value need not be held twice.
        drop(words);
        let mut result = Err(types::Error::Closed);
        self.0.driver.borrow_mut().run(core::iter::once((0, command)), Cluster::submit, |_, ended| {
            result = convert::result(ended, self.0.decode_responses);
        });
        result
    }

    fn pipeline(&self, commands: Vec<CommandWords>) -> Vec<WitResult> {
        self.0.run_all(commands, Command::new, Cluster::submit)
    }

    fn submit(&self, commands: Vec<CommandWords>) -> u64 {
        // Each one's words are dropped when it has been encoded.
        let commands = commands.into_iter().map(|words| Command::new(&words));
        self.0.driver.borrow_mut().submit(commands, Cluster::submit)
    }

    fn submit_to(&self, node: String, commands: Vec<CommandWords>) -> u64 {
        let address = NodeAddr::parse(&node);
        let commands = commands.into_iter().map(|words| {
            let address = address.clone().ok_or_else(|| {
                Error::InvalidArgument(alloc::format!("the node {node:?} is not host:port"))
            })?;
            Ok((address, Command::new(&words)?))
        });
        let submit =
            |cluster: &mut Cluster, now, (address, command)| cluster.submit_to(now, address, command);
        self.0.driver.borrow_mut().submit(commands, submit)
    }

    fn wait(&self, timeout_ms: u32) -> Vec<Completion> {
        let mut driver = self.0.driver.borrow_mut();
        driver.wait(Duration::from_millis(timeout_ms.into()));
        let completed = driver.completed();
        let mut left = self.0.reply_size;
        let mut completions = Vec::with_capacity(completed.len());
        while let Some((_, ended)) = completed.front() {
            let size = ended.as_ref().map_or(0, Reply::size);
            // No reply is larger than the limit. Should one be, it must not stay for ever.
            if !take_from(&mut left, size) && !completions.is_empty() {
                break;
            }
            if let Some((ticket, ended)) = completed.pop_front() {
                let result = convert::result(ended, self.0.decode_responses);
                completions.push(Completion { ticket, result });
            }
        }
        completions
    }

    fn node_for_key(&self, key: Vec<u8>) -> Result<String, types::Error> {
        let driver = self.0.driver.borrow();
        let slot = Slot::of_key(&key);
        match driver.cluster().primary_of(slot) {
            _ if driver.cluster().is_closed() => Err(types::Error::Closed),
            Some(address) => Ok(address.to_string()),
            None => Err(convert::wit_error(Error::ClusterDown(alloc::format!("no node serves slot {slot}")))),
        }
    }

    fn topology(&self) -> Vec<Shard> {
        self.0.driver.borrow().cluster().topology().shards.iter().map(convert::shard).collect()
    }

    fn counters(&self) -> Vec<Counter> {
        let driver = self.0.driver.borrow();
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
        counters.into_iter().map(|(name, value)| convert::counter(name.to_string(), value)).collect()
    }

    fn statistics(&self) -> Vec<NodeStatistics> {
        let driver = self.0.driver.borrow();
        let nodes = driver.cluster().node_statistics().map(|(address, node, in_flight)| NodeStatistics {
            address: address.to_string(),
            counters: convert::node_counters(node, in_flight),
        });
        nodes.collect()
    }

    fn health(&self) -> Vec<NodeReport> {
        let mut driver = self.0.driver.borrow_mut();
        let members = driver.cluster().topology().shards.iter().flat_map(|shard| &shard.nodes);
        let members: Vec<_> = members.map(|member| (member.address.clone(), member.role)).collect();
        let closed = || Err(types::Error::Closed);
        let mut answers: Vec<_> = members.iter().map(|_| closed()).collect();
        let started = monotonic_clock::now();
        let pings = members.iter().enumerate().filter_map(|(index, (address, _))| {
            let ping = Command::new(&["PING"]).ok()?;
            Some((index, (address.clone(), ping)))
        });
        let submit = |cluster: &mut Cluster, now, (address, ping)| cluster.submit_to(now, address, ping);
        driver.run(pings, submit, |index, ended| {
            let micros = monotonic_clock::now().saturating_sub(started) / 1_000;
            if let Some(answer) = answers.get_mut(index) {
                *answer = ended.map(|_| micros).map_err(convert::wit_error);
            }
        });
        let reports = members.into_iter().zip(answers).map(|((address, role), answer)| NodeReport {
            address: address.to_string(),
            role: convert::role(role),
            answer,
        });
        reports.collect()
    }

    fn take_events(&self) -> EventList {
        let (events, dropped) = self.0.driver.borrow_mut().take_events();
        let events = events.into_iter().map(|(at, event)| Event {
            at_ms: at.saturating_since(self.0.made_at).as_millis() as u64,
            kind: convert::event(event),
        });
        EventList { events: events.collect(), dropped }
    }

    fn lend(&self, key: Option<Vec<u8>>) -> redis_cluster::Connection {
        let slot = key.map(|key| Slot::of_key(&key));
        let lease = self.0.driver.borrow_mut().lend(slot);
        redis_cluster::Connection::new(Connection::new(Rc::clone(&self.0), lease))
    }

    fn close(&self) {
        self.0.driver.borrow_mut().close();
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
