//! The options that say where the servers are and how to talk to them.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use keyslot::{Client, Limit, Mode, Options, Protocol, ReplicaReads};
use keyslot_core::url::Seeds;

use super::failure::Failure;
use super::topology_json;
use super::watch::Watch;

/// The connection options, the same for every subcommand.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct ConnectionArgs {
    /// A node, as redis://[[user]:password@]host[:port][/database] (or valkey://) or host[:port];
    /// several, by spaces or repetition, are nodes of one cluster
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "KEYSLOT_URL",
        hide_env_values = true,
        value_delimiter = ' ',
        default_value = "redis://127.0.0.1:6379"
    )]
    url: Vec<String>,

    /// The user to log in as
    #[arg(long, global = true, value_name = "NAME")]
    user: Option<String>,

    /// The password; the environment is the safer place for it [env: KEYSLOT_PASSWORD or
    /// REDISCLI_AUTH]
    #[arg(long, global = true, value_name = "PASSWORD", env = "KEYSLOT_PASSWORD", hide_env = true)]
    pass: Option<String>,

    /// Speak RESP2: the default of exec and of the prompt, so that replies look as redis-cli shows
    /// them
    #[arg(long, global = true, overrides_with = "resp3")]
    resp2: bool,

    /// Speak RESP3, which tells maps, sets and doubles apart
    #[arg(long, short = '3', global = true, overrides_with = "resp2")]
    resp3: bool,

    /// What the nodes are; auto asks them
    #[arg(long, global = true, value_enum, default_value_t = ModeArg::Auto)]
    mode: ModeArg,

    /// How long connecting may take: 500ms, 5s, 1m
    #[arg(long, global = true, value_name = "TIME", value_parser = parse_time, default_value = "5s")]
    connect_timeout: Duration,

    /// How long a command may take, with all redirects and retries: 500ms, 5s, 1m
    #[arg(long, global = true, value_name = "TIME", value_parser = parse_time, default_value = "5s")]
    request_timeout: Duration,

    /// How many connections there may be at the same time; 512, or fewer where the process may have
    /// few descriptors (ulimit -n)
    #[arg(long, global = true, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    max_connections: Option<u32>,

    /// Who serves commands that only read
    #[arg(long, global = true, value_enum, value_name = "STRATEGY", default_value_t = ReadsArg::Primary)]
    replica_reads: ReadsArg,

    /// Where this client stands, for --replica-reads same-zone
    #[arg(long, global = true, value_name = "ZONE")]
    availability_zone: Option<String>,

    /// Reach the node that the servers call ANNOUNCED at ACTUAL, each host or host:port; for
    /// clusters behind NAT, port forwarding or container networks; may be repeated
    #[arg(long, global = true, value_name = "ANNOUNCED=ACTUAL", value_parser = parse_mapping)]
    map_address: Vec<(String, String)>,

    /// Start from the topology in this file, as 'keyslot --json topology' prints it, instead of
    /// asking for one
    #[arg(long, global = true, value_name = "FILE")]
    topology: Option<PathBuf>,

    /// Who shows what happens to the clients; nobody without --verbose.
    #[arg(skip)]
    pub(super) watch: Option<Watch>,
}

/// Who serves commands that only read.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum ReadsArg {
    /// The primary
    Primary,
    /// A replica chosen at random
    PreferReplica,
    /// The replicas in turn
    RoundRobin,
    /// Any node of the shard
    Random,
    /// The node that has answered fastest of late
    LowestLatency,
    /// A node in the zone of --availability-zone
    SameZone,
}

/// Whether a cluster is expected.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum ModeArg {
    Auto,
    Cluster,
    Standalone,
}

impl ConnectionArgs {
    /// Connects for commands whose replies are printed: RESP2 unless RESP3 is asked for, as
    /// `redis-cli` does it.
    pub(crate) async fn connect_for_replies(&self) -> Result<Client, Failure> {
        let protocol = if self.resp3 { Protocol::Resp3 } else { Protocol::Resp2 };
        self.start(self.options_of_user(protocol)?).await
    }

    /// Connects for the client's own answers.
    pub(crate) async fn connect(&self) -> Result<Client, Failure> {
        self.start(self.options_of_user(self.protocol())?).await
    }

    /// Connects for commands of which so many, with so many bytes, may wait for nodes that are
    /// down.
    pub(crate) async fn connect_for_loads(&self, commands: u64, bytes: u64) -> Result<Client, Failure> {
        let options = self.options_of_user(self.protocol())?;
        let options = options.limit(Limit::WaitingRequests, commands).limit(Limit::WaitingBytes, bytes);
        self.start(options).await
    }

    /// Connects to these nodes, without the user and the password that are meant for others.
    pub(crate) async fn connect_to_own(&self, urls: &[String]) -> Result<Client, Failure> {
        self.start(self.options(urls, self.protocol())).await
    }

    /// The database that the URLs name.
    pub(crate) fn database(&self) -> u32 {
        Seeds::parse(&self.url).ok().and_then(|seeds| seeds.database).unwrap_or(0)
    }

    /// How long a command may take.
    pub(crate) fn request_timeout(&self) -> Duration {
        self.request_timeout
    }

    /// All that the command line says.
    fn options_of_user(&self, protocol: Protocol) -> Result<Options, Failure> {
        let mut options = self.options(&self.url, protocol);
        if let Some(user) = &self.user {
            options = options.username(user);
        }
        if let Some(password) = self.pass.clone().or_else(|| std::env::var("REDISCLI_AUTH").ok()) {
            options = options.password(password);
        }
        options = options.replica_reads(match self.replica_reads {
            ReadsArg::Primary => ReplicaReads::Primary,
            ReadsArg::PreferReplica => ReplicaReads::PreferReplica,
            ReadsArg::RoundRobin => ReplicaReads::RoundRobin,
            ReadsArg::Random => ReplicaReads::Random,
            ReadsArg::LowestLatency => ReplicaReads::LowestLatency,
            ReadsArg::SameZone => ReplicaReads::SameZone,
        });
        if let Some(zone) = &self.availability_zone {
            options = options.availability_zone(zone);
        }
        for (announced, actual) in &self.map_address {
            options = options.map_address(announced, actual);
        }
        if let Some(file) = &self.topology {
            options = options.topology(topology_json::of_file(file).map_err(Failure::Usage)?);
        }
        Ok(options)
    }

    async fn start(&self, options: Options) -> Result<Client, Failure> {
        let client = Box::pin(Client::connect(options)).await?;
        if let Some(watch) = &self.watch {
            watch.start(&client);
        }
        Ok(client)
    }

    fn options(&self, urls: &[String], protocol: Protocol) -> Options {
        let mode = match self.mode {
            ModeArg::Auto => Mode::Auto,
            ModeArg::Cluster => Mode::Cluster,
            ModeArg::Standalone => Mode::Standalone,
        };
        let options = Options::new(urls)
            .mode(mode)
            .protocol(protocol)
            .connect_timeout(self.connect_timeout)
            .request_timeout(self.request_timeout);
        match self.max_connections {
            Some(most) => options.limit(Limit::Connections, most.into()),
            None => options,
        }
    }

    fn protocol(&self) -> Protocol {
        match (self.resp2, self.resp3) {
            (true, _) => Protocol::Resp2,
            (_, true) => Protocol::Resp3,
            _ => Protocol::Auto,
        }
    }
}

/// Reads `500ms`, `5s`, `1.5s`, `2m`; a number alone means seconds, as `redis-cli` has it.
fn parse_time(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit_ms = match &text[digits.len()..] {
        "ms" => 1.0,
        "" | "s" => 1_000.0,
        "m" => 60_000.0,
        _ => return Err("expected a time such as 500ms, 5s or 1m".to_owned()),
    };
    let number: f64 = digits.parse().map_err(|_| "expected a time such as 500ms, 5s or 1m".to_owned())?;
    let milliseconds = (number * unit_ms).round();
    if !(1.0..=f64::from(u32::MAX)).contains(&milliseconds) {
        return Err("must lie between 1ms and 49 days".to_owned());
    }
    Duration::try_from_secs_f64(milliseconds / 1_000.0).map_err(|error| error.to_string())
}

/// Reads `ANNOUNCED=ACTUAL`.
fn parse_mapping(text: &str) -> Result<(String, String), String> {
    let (announced, actual) = text.split_once('=').ok_or("expected ANNOUNCED=ACTUAL")?;
    Ok((announced.to_owned(), actual.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let milliseconds = |text| parse_time(text).map(|time| time.as_millis());
        assert_eq!(milliseconds("500ms"), Ok(500));
        assert_eq!(milliseconds("5s"), Ok(5_000));
        assert_eq!(milliseconds("1.5s"), Ok(1_500));
        assert_eq!(milliseconds("2m"), Ok(120_000));
        assert_eq!(milliseconds("3"), Ok(3_000));
        for wrong in ["", "s", "0", "-1s", "5 s", "5h", "1e99s", "nan", "inf", "ms"] {
            assert!(parse_time(wrong).is_err(), "{wrong}");
        }
    }
}
