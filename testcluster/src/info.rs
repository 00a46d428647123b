//! What a node says about its commands and its connections.

use std::collections::BTreeMap;

use crate::connection::{CallError, Connection};

/// What a node has done with one command since it started: a line of INFO commandstats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CommandStatistics {
    /// How often it was executed; on a replica also those that its primary sent.
    pub calls: u64,
    /// How often it was refused before it was executed: redirects, wrong numbers of arguments,
    /// READONLY … Servers before Redis 6.2 do not tell.
    pub rejected: u64,
    /// How often it was executed and answered with an error.
    pub failed: u64,
}

impl CommandStatistics {
    /// `cmdstat_get:calls=4,usec=20,usec_per_call=5.00,rejected_calls=0,failed_calls=0`, with the
    /// command's name.
    pub(crate) fn parse(line: &str) -> Option<(String, Self)> {
        let (name, fields) = line.trim_end().strip_prefix("cmdstat_")?.split_once(':')?;
        let number = |name: &str| {
            let mut fields = fields.split(',').filter_map(|field| field.split_once('='));
            fields.find(|(field, _)| *field == name).and_then(|(_, value)| value.parse().ok()).unwrap_or(0)
        };
        let statistics = Self {
            calls: number("calls"),
            rejected: number("rejected_calls"),
            failed: number("failed_calls"),
        };
        Some((name.to_owned(), statistics))
    }
}

/// A connection as its server sees it: a line of CLIENT LIST.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connected {
    fields: BTreeMap<String, String>,
}

impl Connected {
    pub(crate) fn ask(connection: &mut Connection) -> Result<Vec<Self>, CallError> {
        let list = connection.string(&["CLIENT", "LIST"])?;
        Ok(list.lines().map(Self::parse).collect())
    }

    /// `id=3 addr=127.0.0.1:50188 name=keyslot db=0 …`.
    #[must_use]
    pub fn parse(line: &str) -> Self {
        let fields = line.split_whitespace().filter_map(|field| field.split_once('='));
        Self { fields: fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect() }
    }

    /// A field's value; empty where the server does not tell it.
    #[must_use]
    pub fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }

    /// The number that the server calls it by, and no other connection of its life.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.field("id").parse().unwrap_or_default()
    }

    /// What CLIENT SETNAME has called it.
    #[must_use]
    pub fn name(&self) -> &str {
        self.field("name")
    }

    /// Whether it waits in a command that blocks.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        self.field("flags").contains('b')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_commandstats_is_understood() {
        let line =
            "cmdstat_cluster|slots:calls=4,usec=20,usec_per_call=5.00,rejected_calls=1,failed_calls=2\r";
        let (name, statistics) = CommandStatistics::parse(line).unwrap();
        assert_eq!(name, "cluster|slots");
        assert_eq!(statistics, CommandStatistics { calls: 4, rejected: 1, failed: 2 });
        let old = CommandStatistics::parse("cmdstat_get:calls=4,usec=20,usec_per_call=5.00");
        assert_eq!(old.unwrap().1, CommandStatistics { calls: 4, rejected: 0, failed: 0 });
        assert_eq!(CommandStatistics::parse("# Commandstats"), None);
    }

    #[test]
    fn a_line_of_client_list_is_understood() {
        let connected =
            Connected::parse("id=17 addr=127.0.0.1:50188 name= flags=b db=0 cmd=blpop user=default");
        assert_eq!((connected.id(), connected.name(), connected.field("cmd")), (17, "", "blpop"));
        assert!(connected.is_blocked());
    }
}
