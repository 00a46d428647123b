//! redis-rs's synchronous cluster client.

use std::time::{Duration, Instant};

use redis::Value;
use redis::cluster::{ClusterClient, ClusterClientBuilder, ClusterConnection, ClusterPipeline};

use crate::work::{Data, Shape, Verb, Work};

/// How long it waits for a reply: longer than anything here takes.
pub const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);

/// The client as both of its flavours are used here: as it comes, but with patience.
///
/// # Errors
///
/// When a URL is wrong.
pub fn client(urls: &[String]) -> redis::RedisResult<ClusterClient> {
    ClusterClientBuilder::new(urls.iter().map(String::as_str)).response_timeout(RESPONSE_TIMEOUT).build()
}

/// A connected client.
pub struct Cluster {
    connection: ClusterConnection,
    data: Data,
}

impl Cluster {
    /// Connects to the cluster.
    ///
    /// # Errors
    ///
    /// redis-rs's, as text.
    pub fn connect(urls: &[String], data: Data) -> Result<Self, String> {
        let connection = client(urls).and_then(|client| client.get_connection());
        Ok(Self { connection: connection.map_err(|error| error.to_string())?, data })
    }

    /// Makes so many calls, and says how long they took.
    ///
    /// # Errors
    ///
    /// redis-rs's, as text, and replies that are not what was asked for.
    pub fn run(&mut self, work: Work, calls: usize) -> Result<Duration, String> {
        let started = Instant::now();
        for call in 0..calls {
            let is_right = match work.shape {
                Shape::One => self.one(work, call),
                Shape::Pipeline => self.pipeline(work, call),
                Shape::Many => self.many(work, call),
            };
            if !is_right.map_err(|error| error.to_string())? {
                return Err("redis-rs returned another reply than expected".to_owned());
            }
        }
        Ok(started.elapsed())
    }

    fn one(&mut self, work: Work, call: usize) -> redis::RedisResult<bool> {
        let command = one(work, self.data.key_of(call), self.data.value());
        let value: Value = command.query(&mut self.connection)?;
        Ok(is_right(work.verb, &value, self.data.value()))
    }

    fn pipeline(&mut self, work: Work, call: usize) -> redis::RedisResult<bool> {
        let keys = self.data.keys_of(call, work.keys);
        let mut pipeline = ClusterPipeline::with_capacity(keys.len());
        for key in keys {
            let command = pipeline.cmd(work.command()).arg(key);
            if work.verb == Verb::Set {
                command.arg(self.data.value());
            }
        }
        let values: Vec<Value> = pipeline.query(&mut self.connection)?;
        Ok(values.len() == keys.len()
            && values.iter().all(|value| is_right(work.verb, value, self.data.value())))
    }

    fn many(&mut self, work: Work, call: usize) -> redis::RedisResult<bool> {
        let keys = self.data.keys_of(call, work.keys);
        let value: Value = many(work, keys, self.data.value()).query(&mut self.connection)?;
        Ok(are_right(work.verb, &value, keys.len(), self.data.value()))
    }
}

/// The command of one key.
#[must_use]
pub fn one(work: Work, key: &[u8], value: &[u8]) -> redis::Cmd {
    let mut command = redis::cmd(work.command());
    command.arg(key);
    if work.verb == Verb::Set {
        command.arg(value);
    }
    command
}

/// The command of many keys.
#[must_use]
pub fn many(work: Work, keys: &[Vec<u8>], value: &[u8]) -> redis::Cmd {
    let mut command = redis::cmd(work.command());
    for key in keys {
        command.arg(key);
        if work.verb == Verb::Set {
            command.arg(value);
        }
    }
    command
}

/// Whether it is the reply to a command of one key.
#[must_use]
pub fn is_right(verb: Verb, reply: &Value, value: &[u8]) -> bool {
    match (verb, reply) {
        (Verb::Set, Value::Okay) => true,
        (Verb::Get, Value::BulkString(bytes)) => bytes == value,
        _ => false,
    }
}

/// Whether it is the reply to a command of many keys.
#[must_use]
pub fn are_right(verb: Verb, reply: &Value, count: usize, value: &[u8]) -> bool {
    match (verb, reply) {
        (Verb::Set, Value::Okay) => true,
        (Verb::Get, Value::Array(values)) => {
            values.len() == count && values.iter().all(|reply| is_right(verb, reply, value))
        }
        _ => false,
    }
}
