//! Callers of large values: of 1 to 8 MiB, written and read beside the load.
//!
//! A value of this size is under way for many reads and writes of a socket, and does not fit into
//! what the system keeps for one: so a fault meets it in the middle. Each key belongs to one task.
//! Each value names its key and its version, over and over again, so a read tells which write it
//! has seen, and whether it is whole. It must be the last one that was acknowledged, or a later one
//! that may have been executed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use keyslot::{Client, Error, Reply};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::load::{Shared, failure};

/// Tasks that read and write large values.
const TASKS: usize = 2;
/// Each has a key for each of these lengths, in bytes.
const LENGTHS: [usize; 4] = [1 << 20, 2 << 20, 4 << 20, 8 << 20];
/// How many calls of the largest value each task begins with, without a rest.
const FIRST_CALLS: usize = 12;
/// How long a task rests after a call, at most. The servers write each value to their disks.
const REST_MAX: Duration = Duration::from_millis(400);

/// One key, and what may be in it.
#[derive(Clone, Debug)]
pub(crate) struct LargeValue {
    pub(crate) key: String,
    length: usize,
    /// The last version that is known to have been written.
    written: u64,
    /// The last version that was sent.
    sent: u64,
    /// Versions that were certainly not executed.
    refused: Vec<u64>,
}

/// The keys, so that what moves can be chosen among them.
pub(crate) fn keys() -> Vec<String> {
    (0..TASKS).flat_map(values).map(|value| value.key).collect()
}

/// The tasks, as futures that end when the load does.
pub(crate) fn tasks(
    client: &Client,
    shared: &Arc<Shared>,
    seed: u64,
) -> Vec<impl Future<Output = Vec<LargeValue>> + Send + use<>> {
    let task = |number: usize| Task {
        client: client.clone(),
        shared: Arc::clone(shared),
        random: StdRng::seed_from_u64(seed.wrapping_add(number as u64) ^ 0x1A_26E5),
        values: values(number),
    };
    (0..TASKS).map(|number| task(number).run()).collect()
}

fn values(task: usize) -> Vec<LargeValue> {
    let value = |length| LargeValue {
        key: format!("large:{task}:{}", length >> 20),
        length,
        written: 0,
        sent: 0,
        refused: Vec::new(),
    };
    LENGTHS.into_iter().map(value).collect()
}

impl LargeValue {
    /// What a version holds.
    fn content(&self, version: u64) -> Vec<u8> {
        let name = format!("{} {version}|", self.key).into_bytes();
        let mut content = name.repeat(self.length.div_ceil(name.len()));
        content.truncate(self.length);
        content
    }

    /// Says what is wrong with a value that was read, which is null before the first write.
    pub(crate) fn judge(&mut self, read: Option<&[u8]>) -> Result<(), String> {
        let version = match read {
            None => Some(0),
            Some(bytes) => {
                let head = String::from_utf8_lossy(&bytes[..bytes.len().min(64)]);
                let version = head.split_once(' ').and_then(|(_, rest)| rest.split_once('|'));
                let version = version.and_then(|(version, _)| version.parse().ok());
                version.filter(|version| *bytes == *self.content(*version))
            }
        };
        let Some(version) = version else {
            let length = read.map_or(0, <[u8]>::len);
            return Err(format!("{} holds {length} bytes that nobody has written", self.key));
        };
        if !(self.written..=self.sent).contains(&version) || self.refused.contains(&version) {
            return Err(format!(
                "{} holds version {version}; {} was acknowledged, {} sent last, {:?} refused",
                self.key, self.written, self.sent, self.refused
            ));
        }
        // What was written before it cannot come back.
        self.wrote(version);
        Ok(())
    }

    fn wrote(&mut self, version: u64) {
        self.written = version;
        self.refused.retain(|refused| *refused > version);
    }
}

struct Task {
    client: Client,
    shared: Arc<Shared>,
    random: StdRng,
    values: Vec<LargeValue>,
}

impl Task {
    async fn run(mut self) -> Vec<LargeValue> {
        // The largest first, written and read by all tasks at the same time: so much memory is
        // needed, and no more later.
        let mut place = self.values.len() - 1;
        let mut calls = 0;
        while !self.shared.is_over() {
            calls += 1;
            let started = Instant::now();
            let writes = calls == 1 || self.random.random_bool(0.5);
            let outcome = if writes { self.write(place).await } else { self.read(place).await };
            let failures: Vec<_> = outcome.as_ref().err().and_then(failure).into_iter().collect();
            if let Err(error) = &outcome
                && failures.is_empty()
            {
                self.shared.unexpected.add(format!("{}: {error}", self.values[place].key));
            }
            self.shared.meter.count(started.elapsed(), u64::from(outcome.is_ok()), &failures);
            if calls < FIRST_CALLS {
                continue;
            }
            let rest = self.random.random_range(Duration::ZERO..REST_MAX);
            tokio::time::sleep(rest).await;
            place = self.random.random_range(0..self.values.len());
        }
        self.values
    }

    async fn write(&mut self, place: usize) -> Result<(), Error> {
        let value = &mut self.values[place];
        value.sent += 1;
        let version = value.sent;
        let content = value.content(version);
        match self.client.execute([b"SET", value.key.as_bytes(), &content]).await {
            Ok(reply) => {
                self.shared.check(reply.as_str() == Some("OK"), || format!("SET {}: {reply:?}", value.key));
                value.wrote(version);
                Ok(())
            }
            Err(error) => {
                if !error.possibly_executed() {
                    value.refused.push(version);
                }
                Err(error)
            }
        }
    }

    async fn read(&mut self, place: usize) -> Result<(), Error> {
        let value = &mut self.values[place];
        let reply: Reply = self.client.execute(["GET", &value.key]).await?;
        let judged = value.judge(reply.as_bytes());
        self.shared.check(judged.is_ok(), || judged.err().unwrap_or_default());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_believed_when_it_is_whole_and_not_too_old() {
        let mut value = values(0).remove(0);
        assert!(value.judge(None).is_ok());
        (value.written, value.sent) = (3, 5);
        value.refused = vec![4];
        assert!(value.judge(None).is_err(), "it was written");
        for (version, right) in [(2, false), (6, false), (4, false), (3, true), (5, true), (3, false)] {
            let content = value.content(version);
            assert_eq!(value.judge(Some(&content)).is_ok(), right, "{version}");
        }
        let whole = value.content(5);
        assert!(value.judge(Some(&whole[1..])).is_err());
        let mut mixed = whole.clone();
        mixed[1 << 19] ^= 1;
        assert!(value.judge(Some(&mixed)).is_err());
        assert!(whole.len() == LENGTHS[0] && value.judge(Some(&whole)).is_ok());
    }
}
