//! The exported `client`.

use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use keyslot_core::cluster::{Command, Destination};
use keyslot_core::error::Error;
use keyslot_core::session::Portion;
use keyslot_core::slot::Slot;

use crate::bindings::exports::keyslot::redis::redis_cluster::{
    self, Completion, Counter, Event, EventList, GuestClient, NodeReply, NodeReport, NodeStatistics,
    OptionsBorrow, Route, ScanOptionsBorrow, ScanSubject, Shard, TicketRange,
};
use crate::bindings::exports::keyslot::redis::types;
use crate::connection::Connection;
use crate::convert;
use crate::options::Options;
use crate::scanner::Scanner;
use crate::shared::{CommandWords, Shared, WitResult, destination, primary_of};
use crate::watched::Watched;

/// A connected client.
pub(crate) struct Client(pub(crate) Rc<Shared>);

fn connect(options: &Options) -> Result<redis_cluster::Client, Error> {
    let shared = Shared::connect(options.validate()?)?;
    Ok(redis_cluster::Client::new(Client(Rc::new(shared))))
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
        self.0.wait(timeout_ms, Portion::decoded(self.0.reply_size), |ticket, ended| {
            completions.push(Completion { ticket, result: convert::result(ended, self.0.decode_responses) });
        });
        completions
    }

    fn cancel(&self, tickets: Vec<TicketRange>) -> Vec<u64> {
        let tickets = tickets.into_iter().map(|range| (range.first, range.count));
        self.0.driver.borrow_mut().cancel(tickets)
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
