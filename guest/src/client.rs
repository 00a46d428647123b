//! The exported `client`.

use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cell::RefCell;
use core::time::Duration;

use keyslot_core::address::NodeAddr;
use keyslot_core::cluster::{Cluster, Command, Destination};
use keyslot_core::error::{Error, Quoted};
use keyslot_core::resp::RawReply;
use keyslot_core::slot::Slot;
use keyslot_core::time::Instant;
use keyslot_core::topology::{self, Member};
use wasi::clocks::monotonic_clock;
use wasi::random::random::get_random_u64;

use crate::bindings::exports::keyslot::redis::redis_cluster::{
    self, Completion, Counter, Event, EventList, GuestClient, NodeReply, NodeReport, NodeStatistics,
    OptionsBorrow, Route, ScanOptionsBorrow, ScanSubject, Shard, TicketRange,
};
use crate::bindings::exports::keyslot::redis::types;
use crate::connection::Connection;
use crate::convert;
use crate::driver::{Driver, Ended};
use crate::options::Options;
use crate::scanner::Scanner;
use crate::watched::Watched;

/// How large the replies are together that one `wait` returns, unless the first alone is larger.
/// While they are copied to the caller no deadline is looked at, and they are held twice.
const WAIT_SIZE: u64 = 16 << 20;

pub(crate) type CommandWords = Vec<Vec<u8>>;
pub(crate) type WitResult = Result<types::Reply, types::Error>;

/// A connected client.
pub(crate) struct Client(pub(crate) Rc<Shared>);

/// What a client and the connections that it has lent have together: the machine and its driver.
pub(crate) struct Shared {
    pub(crate) driver: RefCell<Driver>,
    decode_responses: bool,
    /// How large the replies of one call may be together.
    pub(crate) reply_size: u64,
    made_at: Instant,
}

impl Shared {
    /// Runs many commands and gives the results in their order.
    pub(crate) fn run_all(
        &self,
        commands: Vec<CommandWords>,
        lent: bool,
        destination: Destination,
    ) -> Vec<WitResult> {
        // Every place is written over.
        let mut results: Vec<WitResult> = commands.iter().map(|_| Err(types::Error::Closed)).collect();
        let mut left = self.reply_size;
        let mut commands = encoded(commands, lent, destination);
        self.driver.borrow_mut().run(&mut commands, &mut |index, ended| {
            if let Some(result) = results.get_mut(index) {
                let ended = within(&mut left, self.reply_size, ended);
                *result = convert::result(ended, self.decode_responses);
            }
        });
        results
    }

    /// Commands as one transaction.
    pub(crate) fn transaction(&self, commands: &[CommandWords]) -> Result<Command, Error> {
        let commands: Vec<Vec<&[u8]>> =
            commands.iter().map(|words| words.iter().map(Vec::as_slice).collect()).collect();
        Command::transaction(&commands, self.driver.borrow().cluster().scripts())
    }

    /// What a transaction's commands have come to; none when it was not executed.
    pub(crate) fn results_of(&self, ended: Ended) -> Result<Option<Vec<WitResult>>, types::Error> {
        let reply = ended.map_err(convert::wit_error)?;
        if reply.root().is_some_and(|root| root.is_null()) {
            return Ok(None);
        }
        Ok(Some(reply.children().map(|child| convert::child(child, self.decode_responses)).collect()))
    }

    /// The nodes that a route leads to.
    fn nodes_of(&self, route: Route) -> Result<Vec<NodeAddr>, Error> {
        let driver = self.driver.borrow();
        let cluster = driver.cluster();
        let wanted: fn(&Member) -> bool = match route {
            Route::Node(node) => {
                return Ok(Vec::from([parse_node(&node)?]));
            }
            Route::Slot(number) => {
                let wrong = || Error::InvalidArgument(alloc::format!("the slot {number} is not below 16384"));
                let slot = Slot::new(number).ok_or_else(wrong)?;
                return Ok(Vec::from([primary_of(cluster, slot)?.clone()]));
            }
            Route::AllPrimaries => |member| member.role == topology::Role::Primary,
            Route::AllReplicas => |member| member.role == topology::Role::Replica,
            Route::AllNodes => |_| true,
        };
        if cluster.is_closed() {
            return Err(Error::Closed);
        }
        let members = cluster.topology().shards.iter().flat_map(|shard| &shard.nodes);
        Ok(members.filter(|member| wanted(member)).map(|member| member.address.clone()).collect())
    }

    /// Sends a command to each of these nodes and to no other. Gives how it has ended and after how
    /// many microseconds.
    fn ask_each(&self, nodes: &[NodeAddr], command: &Command) -> Vec<(Ended, u64)> {
        let started = monotonic_clock::now();
        let mut answers: Vec<(Ended, u64)> = nodes.iter().map(|_| (Err(Error::Closed), 0)).collect();
        let mut commands = nodes.iter().map(|node| Ok((command.clone(), Destination::Node(node.clone()))));
        self.driver.borrow_mut().run(&mut commands, &mut |index, ended| {
            if let Some(answer) = answers.get_mut(index) {
                *answer = (ended, monotonic_clock::now().saturating_sub(started) / 1_000);
            }
        });
        answers
    }

    /// Waits for tickets' commands to end, and gives those that have, up to [`WAIT_SIZE`]. A larger
    /// reply comes alone.
    pub(crate) fn wait(&self, timeout_ms: u32, give: impl FnMut(u64, Ended)) {
        self.wait_for(timeout_ms, WAIT_SIZE, u64::MAX, give);
    }

    /// As `wait`, up to this many bytes of replies. One that is as large as `alone_from` is given
    /// alone.
    pub(crate) fn wait_for(
        &self,
        timeout_ms: u32,
        most: u64,
        alone_from: u64,
        mut give: impl FnMut(u64, Ended),
    ) {
        let mut driver = self.driver.borrow_mut();
        driver.wait(Duration::from_millis(timeout_ms.into()));
        let completed = driver.completed();
        let mut left = most.min(self.reply_size);
        let mut is_first = true;
        while let Some((_, ended)) = completed.front() {
            let size = ended.as_ref().map_or(0, RawReply::size);
            let fits = take_from(&mut left, size) && size < alone_from;
            if !fits && !is_first {
                break;
            }
            if let Some((ticket, ended)) = completed.pop_front() {
                give(ticket, ended);
            }
            if !fits {
                break;
            }
            is_first = false;
        }
    }

    /// Hands many commands in and gives the first one's ticket.
    pub(crate) fn submit_all(
        &self,
        commands: Vec<CommandWords>,
        lent: bool,
        destination: Destination,
    ) -> u64 {
        self.driver.borrow_mut().submit(&mut encoded(commands, lent, destination))
    }
}

/// The commands as they are sent. Each one's words are dropped when it has been encoded.
fn encoded(
    commands: Vec<CommandWords>,
    lent: bool,
    destination: Destination,
) -> impl Iterator<Item = Result<(Command, Destination), Error>> {
    commands.into_iter().map(move |words: CommandWords| {
        let command = if lent { Command::for_lent(&words)? } else { Command::new(&words)? };
        Ok((command, destination.clone()))
    })
}

fn primary_of(cluster: &Cluster, slot: Slot) -> Result<&NodeAddr, Error> {
    match cluster.primary_of(slot) {
        _ if cluster.is_closed() => Err(Error::Closed),
        Some(address) => Ok(address),
        None => Err(Error::ClusterDown(alloc::format!("no node serves slot {slot}"))),
    }
}

/// The node that a caller names.
pub(crate) fn destination(node: &str) -> Result<Destination, Error> {
    parse_node(node).map(Destination::Node)
}

fn parse_node(node: &str) -> Result<NodeAddr, Error> {
    let wrong = || Error::InvalidArgument(alloc::format!("the node {} is not host:port", Quoted(node)));
    NodeAddr::parse(node).ok_or_else(wrong)
}

fn connect(options: &Options) -> Result<redis_cluster::Client, Error> {
    let config = options.validate()?;
    let made_at = Instant::from_nanoseconds(monotonic_clock::now());
    let (decode_responses, reply_size) = (config.decode_responses, config.limits.reply_size);
    let mut driver = Driver::new(Cluster::new(config, made_at, get_random_u64()));
    driver.start()?;
    let driver = RefCell::new(driver);
    Ok(redis_cluster::Client::new(Client(Rc::new(Shared { driver, decode_responses, reply_size, made_at }))))
}

impl GuestClient for Client {
    fn connect(options: OptionsBorrow<'_>) -> Result<redis_cluster::Client, types::Error> {
        connect(options.get::<Options>()).map_err(convert::wit_error)
    }

    fn open(url: String) -> Result<redis_cluster::Client, types::Error> {
        connect(&Options::of_url(url)).map_err(convert::wit_error)
    }

    fn execute(&self, words: CommandWords) -> WitResult {
        let results = self.0.run_all(Vec::from([words]), false, Destination::Cluster);
        results.into_iter().next().unwrap_or(Err(types::Error::Closed))
    }

    fn pipeline(&self, commands: Vec<CommandWords>) -> Vec<WitResult> {
        self.0.run_all(commands, false, Destination::Cluster)
    }

    fn submit(&self, commands: Vec<CommandWords>) -> u64 {
        self.0.submit_all(commands, false, Destination::Cluster)
    }

    fn submit_to(&self, node: String, commands: Vec<CommandWords>) -> u64 {
        match destination(&node) {
            Ok(destination) => self.0.submit_all(commands, false, destination),
            Err(error) => {
                let mut failed = commands.iter().map(|_| Err(error.clone()));
                self.0.driver.borrow_mut().submit(&mut failed)
            }
        }
    }

    fn wait(&self, timeout_ms: u32) -> Vec<Completion> {
        let mut completions = Vec::new();
        self.0.wait(timeout_ms, |ticket, ended| {
            completions.push(Completion { ticket, result: convert::result(ended, self.0.decode_responses) });
        });
        completions
    }

    fn cancel(&self, tickets: Vec<TicketRange>) -> Vec<u64> {
        let tickets = tickets.into_iter().filter(|range| range.count > 0);
        self.0.driver.borrow_mut().cancel(&tickets.map(|range| (range.first, range.count)).collect())
    }

    fn transaction(&self, commands: Vec<CommandWords>) -> Result<Vec<WitResult>, types::Error> {
        let command = self.0.transaction(&commands).map_err(convert::wit_error)?;
        let ended = self.0.driver.borrow_mut().run_one(command, Destination::Cluster);
        let results = self.0.results_of(ended)?;
        // Nothing is watched that could have changed.
        results.ok_or_else(|| types::Error::Protocol("EXEC was answered with null".to_string()))
    }

    fn watch(&self, keys: Vec<Vec<u8>>) -> Result<redis_cluster::Watched, types::Error> {
        let Some(first) = keys.first() else {
            return Err(types::Error::InvalidArgument("there are no keys to watch".to_string()));
        };
        let lease = self.0.driver.borrow_mut().lend(Some(Slot::of_key(first)));
        let connection = Connection::new(Rc::clone(&self.0), lease);
        let watched = Watched::new(connection, &keys).map_err(convert::wit_error)?;
        Ok(redis_cluster::Watched::new(watched))
    }

    fn node_for_key(&self, key: Vec<u8>) -> Result<String, types::Error> {
        let driver = self.0.driver.borrow();
        let primary = primary_of(driver.cluster(), Slot::of_key(&key));
        primary.map(ToString::to_string).map_err(convert::wit_error)
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

    fn nodes(&self, route: Route) -> Result<Vec<String>, types::Error> {
        let addresses = self.0.nodes_of(route).map_err(convert::wit_error)?;
        Ok(addresses.iter().map(ToString::to_string).collect())
    }

    fn execute_on(&self, words: CommandWords, route: Route) -> Result<Vec<NodeReply>, types::Error> {
        let nodes = self.0.nodes_of(route).map_err(convert::wit_error)?;
        let command = Command::new(&words).map_err(convert::wit_error)?;
        let answers = self.0.ask_each(&nodes, &command);
        let replies = nodes.iter().zip(answers).map(|(node, (ended, _))| NodeReply {
            node: node.to_string(),
            result: convert::result(ended, self.0.decode_responses),
        });
        Ok(replies.collect())
    }

    fn health(&self) -> Vec<NodeReport> {
        let members: Vec<_> = {
            let driver = self.0.driver.borrow();
            let members = driver.cluster().topology().shards.iter().flat_map(|shard| &shard.nodes);
            members.map(|member| (member.address.clone(), convert::role(member.role))).collect()
        };
        let nodes: Vec<_> = members.iter().map(|(address, _)| address.clone()).collect();
        let Ok(ping) = Command::new(&["PING"]) else {
            return Vec::new();
        };
        let answers = self.0.ask_each(&nodes, &ping);
        let reports = members.into_iter().zip(answers).map(|((address, role), (ended, micros))| NodeReport {
            address: address.to_string(),
            role,
            answer: match ended {
                Ok(_) => Ok(micros),
                Err(Error::Server(refusal)) if !refusal.is_unwell() => Ok(micros),
                Err(error) => Err(convert::wit_error(error)),
            },
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

    fn scan(
        &self,
        subject: ScanSubject,
        options: ScanOptionsBorrow<'_>,
    ) -> Result<redis_cluster::Scanner, types::Error> {
        Scanner::open(&self.0, subject, options.get())
    }

    fn close(&self) {
        self.0.driver.borrow_mut().close();
    }
}

/// The result, if what is `left` of the call's limit holds its reply.
pub(crate) fn within(left: &mut u64, limit: u64, ended: Ended) -> Ended {
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
