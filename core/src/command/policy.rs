//! The servers' own words for what a cluster client does with a command that concerns several
//! nodes.
//!
//! <https://redis.io/docs/latest/develop/reference/command-tips/>

/// Where a command goes, other than to the one shard that has its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestPolicy {
    /// To every shard's primary.
    AllShards,
    /// To every node, replicas too.
    AllNodes,
    /// To each shard that has some of the keys, with those keys only.
    MultiShard,
    /// As the command itself demands: SCAN.
    Special,
}

/// How the replies of several nodes become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponsePolicy {
    /// Any of the replies when none is an error, otherwise an error.
    AllSucceeded,
    /// The first reply that is no error.
    OneSucceeded,
    /// The sum of the integers, for arrays element by element.
    AggSum,
    /// The least of the integers.
    AggMin,
    /// The greatest of the integers.
    AggMax,
    /// One when all are one, for arrays element by element.
    AggLogicalAnd,
    /// One when any is one, for arrays element by element.
    AggLogicalOr,
    /// As the command itself demands: RANDOMKEY.
    Special,
}
