//! A flag for each of the client's settings, made from the core's list.

use clap::builder::{PossibleValue, PossibleValuesParser, ValueParser};
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use keyslot_core::config::Config;
use keyslot_core::settings::{SETTINGS, Setting};

/// The flags that `-h` shows; `--help` shows all.
const FREQUENT: [&str; 7] = [
    "mode",
    "connect-timeout",
    "request-timeout",
    "replica-reads",
    "availability-zone",
    "map-address",
    "limit-connections",
];

/// The settings that the command line gives, in the list's order: names and texts.
#[derive(Debug, Default)]
pub(super) struct Settings(Vec<(&'static str, String)>);

impl Settings {
    pub(super) fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.iter().map(|(name, text)| (*name, text.as_str()))
    }
}

impl Args for Settings {
    fn augment_args(command: Command) -> Command {
        command.next_help_heading("Settings, also as parameters of a URL").args(SETTINGS.iter().map(flag))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Settings {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = |setting: &'static Setting| {
            let texts = matches.get_many::<String>(setting.name).into_iter().flatten();
            texts.map(|text| (setting.name, text.clone()))
        };
        Ok(Self(SETTINGS.iter().flat_map(given).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

fn flag(setting: &'static Setting) -> Arg {
    let default = setting.show(&Config::new(Vec::new()));
    let default = if default.is_empty() { String::new() } else { format!(" [default: {default}]") };
    // -3 and its like are short for it.
    let short: &[&str] = if setting.name == "resp-version" { &["resp2", "resp3"] } else { &[] };
    Arg::new(setting.name)
        .conflicts_with_all(short)
        .long(setting.name)
        .global(true)
        .value_name(setting.placeholder())
        .help(format!("{}{default}", setting.about))
        .action(if setting.is_repeatable() { ArgAction::Append } else { ArgAction::Set })
        .value_parser(parser(setting))
        .hide_short_help(!FREQUENT.contains(&setting.name))
}

fn parser(setting: &'static Setting) -> ValueParser {
    match setting.words() {
        [] => ValueParser::new(|text: &str| {
            setting.set(&mut Config::new(Vec::new()), text).map(|()| text.to_owned())
        }),
        words => PossibleValuesParser::new(words.iter().map(|word| match *word {
            "true" => PossibleValue::new("true").alias("yes"),
            "false" => PossibleValue::new("false").alias("no"),
            word => PossibleValue::new(word),
        }))
        .into(),
    }
}
