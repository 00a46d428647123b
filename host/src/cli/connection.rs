//! The options that say where the servers are and how to talk to them.

use std::path::PathBuf;
use std::time::Duration;

use keyslot::{Client, Options};
use keyslot_core::config::Config;
use keyslot_core::settings;
use keyslot_core::url::Seeds;

use super::failure::Failure;
use super::settings::Settings;
use super::topology_json;
use super::watch::Watch;

/// The connection options, the same for every subcommand.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct ConnectionArgs {
    /// Nodes of a cluster, or one server: redis://[[user]:password@]host[:port][,host…][/database]
    /// [?setting=value&…] (or valkey://), or host[:port]; several, by spaces or repetition, are of
    /// one cluster
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

    /// Start from the topology in this file, as 'keyslot --json topology' prints it, instead of
    /// asking for one
    #[arg(long, global = true, value_name = "FILE")]
    topology: Option<PathBuf>,

    #[command(flatten)]
    settings: Settings,

    /// Who shows what happens to the clients; nobody without --verbose.
    #[arg(skip)]
    pub(super) watch: Option<Watch>,
}

impl ConnectionArgs {
    /// Connects for commands whose replies are printed: RESP2 unless RESP3 is asked for, as
    /// `redis-cli` does it.
    pub(crate) async fn connect_for_replies(&self) -> Result<Client, Failure> {
        self.start(self.options_of_user(&[("resp-version", "2")])?).await
    }

    /// Connects for the client's own answers.
    pub(crate) async fn connect(&self) -> Result<Client, Failure> {
        self.start(self.options_of_user(&[])?).await
    }

    /// Connects for commands of which so many, with so many bytes, may wait for nodes that are
    /// down.
    pub(crate) async fn connect_for_loads(&self, commands: u64, bytes: u64) -> Result<Client, Failure> {
        let (commands, bytes) = (commands.to_string(), bytes.to_string());
        let limits = [("limit-waiting-requests", &*commands), ("limit-waiting-bytes", &*bytes)];
        self.start(self.options_of_user(&limits)?).await
    }

    /// Connects to these nodes, without the user and the password that are meant for others.
    pub(crate) async fn connect_to_own(&self, urls: &[String]) -> Result<Client, Failure> {
        self.start(self.with_settings(Options::new(urls))).await
    }

    /// The database that the URLs name.
    pub(crate) fn database(&self) -> u32 {
        self.in_effect().database
    }

    /// How long a command may take.
    pub(crate) fn request_timeout(&self) -> Duration {
        self.in_effect().request_timeout
    }

    /// All that the command line says. `defaults` are the subcommand's own, for what it does not
    /// say.
    fn options_of_user(&self, defaults: &[(&str, &str)]) -> Result<Options, Failure> {
        let by_url = Seeds::parse(&self.url).map(|seeds| seeds.settings).unwrap_or_default();
        let mut options = Options::new(&self.url);
        for (name, text) in defaults {
            if !by_url.iter().any(|(set, _)| set == name) {
                options = options.set(*name, *text);
            }
        }
        if let Some(user) = &self.user {
            options = options.username(user);
        }
        if let Some(password) = self.pass.clone().or_else(|| std::env::var("REDISCLI_AUTH").ok()) {
            options = options.password(password);
        }
        if let Some(file) = &self.topology {
            options = options.topology(topology_json::of_file(file).map_err(Failure::Usage)?);
        }
        Ok(self.with_settings(options))
    }

    /// What the flags say, which replaces what the URLs say.
    fn with_settings(&self, mut options: Options) -> Options {
        for (name, text) in self.settings.iter() {
            options = options.set(name, text);
        }
        match (self.resp2, self.resp3) {
            (true, _) => options.set("resp-version", "2"),
            (_, true) => options.set("resp-version", "3"),
            _ => options,
        }
    }

    /// The settings that the URLs and the flags give; what is wrong with them the client reports.
    fn in_effect(&self) -> Config {
        let config = Seeds::parse(&self.url).and_then(Seeds::into_config);
        let mut config = config.unwrap_or_else(|_| Config::new(Vec::new()));
        for (name, text) in self.settings.iter() {
            let _ = settings::set(&mut config, name, text);
        }
        config
    }

    async fn start(&self, options: Options) -> Result<Client, Failure> {
        let client = Box::pin(Client::connect(options)).await?;
        if let Some(watch) = &self.watch {
            watch.start(&client);
        }
        Ok(client)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use keyslot_core::settings::SETTINGS;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        connection: ConnectionArgs,
    }

    fn settings_of(args: &[String]) -> Vec<String> {
        let line = Line::parse_from(["keyslot"].into_iter().map(str::to_owned).chain(args.iter().cloned()));
        let config = line.connection.in_effect();
        SETTINGS.iter().map(|setting| setting.show(&config)).collect()
    }

    #[test]
    fn each_setting_has_a_flag_that_says_what_the_url_says() {
        let default = Config::new(Vec::new());
        for setting in SETTINGS {
            let other = match (setting.placeholder(), setting.words()) {
                (_, words @ [_, ..]) => {
                    words.iter().find(|word| **word != setting.show(&default)).copied().unwrap_or_default()
                }
                ("TIME", _) => "1234ms",
                ("TIME..TIME", _) => "7ms..70ms",
                ("ANNOUNCED=ACTUAL", _) => "a:1=b:2",
                _ => "7",
            };
            let by_flag = settings_of(&[format!("--{}", setting.name), other.to_owned()]);
            let by_url = settings_of(&["--url".to_owned(), format!("redis://h?{}={other}", setting.name)]);
            assert_eq!(by_flag, by_url, "{}", setting.name);
            assert_ne!(by_flag, settings_of(&[]), "{}", setting.name);
        }
    }

    #[test]
    fn flags_come_before_the_url() {
        let url = ["--url", "redis://h?request-timeout=1s", "--request-timeout", "2s"].map(str::to_owned);
        assert!(settings_of(&url).contains(&"2s".to_owned()));
    }
}
