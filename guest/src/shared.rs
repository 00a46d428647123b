//! What a client and all that was made with it have together.

use alloc::vec::Vec;
use core::cell::RefCell;
use core::time::Duration;

use keyslot_core::address::NodeAddr;
use keyslot_core::cluster::{Cluster, Command, Destination};
use keyslot_core::config::Config;
use keyslot_core::error::{Error, Quoted};
use keyslot_core::session::{Budget, Ended, Portion};
use keyslot_core::slot::Slot;
use keyslot_core::time::Instant;
use keyslot_core::topology::{self, Member};
use wasi::clocks::monotonic_clock;
use wasi::random::random::get_random_u64;

use crate::bindings::exports::keyslot::redis::redis_cluster::Route;
use crate::bindings::exports::keyslot::redis::types;
use crate::convert;
use crate::io::Driver;

pub(crate) type CommandWords = Vec<Vec<u8>>;
pub(crate) type WitResult = Result<types::Reply, types::Error>;

/// What a client and the connections that it has lent have together: the machine and its driver.
pub(crate) struct Shared {
    pub(crate) driver: RefCell<Driver>,
    pub(crate) decode_responses: bool,
    /// How large the replies of one call may be together.
    pub(crate) reply_size: u64,
    pub(crate) made_at: Instant,
}

impl Shared {
    /// Starts a client.
    pub(crate) fn connect(config: Config) -> Result<Self, Error> {
        let made_at = Instant::from_nanoseconds(monotonic_clock::now());
        let (decode_responses, reply_size) = (config.decode_responses, config.limits.reply_size);
        let mut driver = Driver::new(Cluster::new(config, made_at, get_random_u64()));
        driver.start()?;
        Ok(Self { driver: RefCell::new(driver), decode_responses, reply_size, made_at })
    }

    /// Runs many commands and gives the results in their order.
    pub(crate) fn run_all(
        &self,
        commands: Vec<CommandWords>,
        lent: bool,
        destination: Destination,
    ) -> Vec<WitResult> {
        // Every place is written over.
        let mut results: Vec<WitResult> = commands.iter().map(|_| Err(types::Error::Closed)).collect();
        let mut budget = Budget::new(self.reply_size);
        let mut commands = encoded(commands, lent, destination);
        self.driver.borrow_mut().run(&mut commands, &mut |index, ended| {
            if let Some(result) = results.get_mut(index) {
                let ended = budget.within(ended);
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
    pub(crate) fn nodes_of(&self, route: Route) -> Result<Vec<NodeAddr>, Error> {
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
    pub(crate) fn ask_each(&self, nodes: &[NodeAddr], command: &Command) -> Vec<(Ended, u64)> {
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

    /// Waits for tickets' commands to end, and gives those that have and that are in this portion.
    pub(crate) fn wait(&self, timeout_ms: u32, portion: Portion, give: impl FnMut(u64, Ended)) {
        let mut driver = self.driver.borrow_mut();
        driver.wait(Duration::from_millis(timeout_ms.into()));
        driver.take_completions(portion, give);
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

pub(crate) fn primary_of(cluster: &Cluster, slot: Slot) -> Result<&NodeAddr, Error> {
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
