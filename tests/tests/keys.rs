//! Shows that the core finds the keys that the server finds.
//!
//! For every command of the running server that can have keys, the test makes argument lists out of
//! the server's own argument trees (core/commands/command-arguments-*.json): optional parts present
//! and absent, each alternative, repetitions, numbers of keys that are right, and then lists with
//! mistakes: cut short, with a wrong number of keys, with keywords where a value belongs.
//! `key_positions` must give what COMMAND GETKEYS gives for each of them.
//!
//! `KEYSLOT_REDIS_SERVER` names another server to compare with.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use keyslot_core::command::find;
use keyslot_core::resp::ReplyRef;
use keyslot_testcluster::{Connection, TestServer};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;

const SEED: u64 = 7;
const LISTS_PER_COMMAND: usize = 48;

/// Words that mean something to some key specification, as values.
const KEYWORDS: [&str; 9] = ["STREAMS", "keys", "STORE", "BY", "get", "LIMIT", "AUTH", "COUNT", ""];

type Line = Vec<String>;

#[test]
fn keys_are_those_of_command_getkeys() -> anyhow::Result<()> {
    let server = TestServer::start()?;
    let mut connection = server.connection()?;
    let documents = documents(&mut connection)?;
    let commands = commands_with_keys(&mut connection)?;
    let mut random = StdRng::seed_from_u64(SEED);

    let (mut compared, mut with_keys) = (0, 0);
    let mut differences = String::new();
    let mut uncovered = Vec::new();
    for name in &commands {
        let arguments = arguments_of(&documents, name);
        let lines: Vec<Line> =
            (0..LISTS_PER_COMMAND).map(|number| line(name, arguments, number, &mut random)).collect();
        let questions: Vec<Line> = lines.iter().map(getkeys).collect();
        let answers = connection.pipeline(&questions)?;
        let keyed_before = with_keys;
        for (line, answer) in lines.iter().zip(&answers) {
            let answer = answer.cursor().context("an empty reply")?;
            let expected = keys_of(answer);
            let (keys, error) = our_keys(line);
            compared += 1;
            with_keys += usize::from(!expected.is_empty());
            if keys != expected {
                let server_says = answer.as_error().map_or(format!("{expected:?}"), ToString::to_string);
                writeln!(differences, "{line:?}: the server says {server_says}, the core {keys:?} {error}")?;
            }
        }
        if with_keys == keyed_before {
            uncovered.push(name);
        }
    }

    println!(
        "{compared} argument lists of {} commands compared, {with_keys} of them with keys",
        commands.len()
    );
    ensure!(differences.is_empty(), "seed {SEED}: differences:\n{differences}");
    ensure!(uncovered.is_empty(), "no argument list with keys was made for {uncovered:?}");
    ensure!(commands.len() > 150 && compared > 5_000, "only {compared} lists of {} commands", commands.len());
    Ok(())
}

/// The keys that the core finds, and its error.
fn our_keys(line: &Line) -> (Vec<&str>, String) {
    let mut positions = Vec::new();
    let error = match find(line) {
        None => "does not know the command".to_owned(),
        Some(spec) => spec.key_positions(line, &mut positions).err().map_or(String::new(), |e| e.to_string()),
    };
    (positions.into_iter().map(|position| &*line[position]).collect(), error)
}

/// The keys in an answer to COMMAND GETKEYS; an error answers that there are none.
fn keys_of(answer: ReplyRef<'_>) -> Vec<&str> {
    answer.children().filter_map(ReplyRef::as_str).collect()
}

fn getkeys(line: &Line) -> Line {
    ["COMMAND", "GETKEYS"].into_iter().map(str::to_owned).chain(line.iter().cloned()).collect()
}

/// The names, as the server has them, of the commands and subcommands with a key specification for
/// keys.
fn commands_with_keys(connection: &mut Connection) -> anyhow::Result<Vec<String>> {
    let reply = connection.call(&["COMMAND"])?;
    let mut names = BTreeSet::new();
    let mut todo: Vec<ReplyRef<'_>> = reply.children().collect();
    while let Some(command) = todo.pop() {
        let fields: Vec<ReplyRef<'_>> = command.children().collect();
        let [name, .., key_specs, subcommands] = &fields[..] else { bail!("COMMAND answers no ten fields") };
        let is_key = |spec: ReplyRef<'_>| {
            let flags = spec.value("flags");
            flags.is_none_or(|flags| flags.children().all(|flag| flag.as_str() != Some("not_key")))
        };
        if key_specs.children().any(is_key) {
            names.insert(name.as_str().context("a name")?.to_owned());
        }
        todo.extend(subcommands.children());
    }
    Ok(names.into_iter().collect())
}

/// The argument trees of the release that is nearest to the server's.
fn documents(connection: &mut Connection) -> anyhow::Result<Value> {
    let info = connection.string(&["INFO", "server"])?;
    let release = |field: &str| {
        let line = info.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
        line.split('.').next()?.parse::<u32>().ok()
    };
    let server = match (release("valkey_version"), release("redis_version")) {
        (Some(_), _) => "valkey-9.1.2",
        (None, Some(8..)) => "redis-8.0.6",
        _ => "redis-7.0.15",
    };
    println!("compared with {server}'s argument trees, seed {SEED}");
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join(format!("../core/commands/command-arguments-{server}.json"));
    Ok(serde_json::from_slice(&std::fs::read(path)?)?)
}

/// The arguments of `xgroup|create` are in the document of `xgroup`. A module's command has none.
fn arguments_of<'a>(documents: &'a Value, name: &str) -> &'a [Value] {
    let document = match name.split_once('|') {
        Some((container, _)) => &documents[container]["subcommands"][name],
        None => &documents[name],
    };
    document["arguments"].as_array().map_or(&[], Vec::as_slice)
}

/// One argument list for a command: the first without, the second with everything optional, the
/// others as chance has it, every third of those with a mistake.
fn line(name: &str, arguments: &[Value], number: usize, random: &mut StdRng) -> Line {
    let mut optional = [Some(false), Some(true)].get(number).copied().flatten();
    loop {
        let mut maker = LineMaker {
            random,
            line: name.split('|').map(str::to_owned).collect(),
            numkeys: None,
            key_count: 0,
            optional,
            hostile: number % 3 == 2,
        };
        if arguments.is_empty() {
            maker.line.extend(["k1", "a", "b"].map(str::to_owned));
        }
        for argument in arguments {
            maker.argument(argument);
        }
        let LineMaker { mut line, numkeys, hostile, .. } = maker;
        if let Some((position, count)) = numkeys {
            line[position] = count.unwrap_or_default().to_string();
            if hostile && random.random_bool(0.5) {
                line[position] = ["0", "-1", "99", "x", "2147483647"][random.random_range(0..5)].to_owned();
            }
        }
        if hostile && random.random_bool(0.3) {
            line.truncate(random.random_range(1 + name.matches('|').count()..=line.len()));
        }
        if !has_two_destinations(&line) && !merges_nothing(&line) {
            return line;
        }
        optional = None;
    }
}

/// GEORADIUS with both STORE and STOREDIST is a mistake whose keys the servers do not agree about:
/// Redis names both destinations, Valkey the last.
fn has_two_destinations(line: &Line) -> bool {
    let stores = |arg: &&String| arg.eq_ignore_ascii_case("STORE") || arg.eq_ignore_ascii_case("STOREDIST");
    line[0].to_ascii_lowercase().starts_with("georadius") && line.iter().filter(stores).count() > 1
}

/// PFMERGE with no source is a command that the servers run, in the slot of its destination,
/// although their COMMAND GETKEYS refuses it.
fn merges_nothing(line: &Line) -> bool {
    line[0] == "pfmerge" && line.len() == 2
}

/// Walks an argument tree and makes a list of arguments out of it.
struct LineMaker<'a> {
    random: &'a mut StdRng,
    line: Line,
    /// Where the number of keys stands, and that number, once the repeated argument after it is
    /// there.
    numkeys: Option<(usize, Option<usize>)>,
    key_count: usize,
    /// Whether optional arguments are there; by chance when `None`.
    optional: Option<bool>,
    /// Whether values may look like keywords.
    hostile: bool,
}

impl LineMaker<'_> {
    fn argument(&mut self, argument: &Value) {
        let has =
            |flag: &str| argument["flags"].as_array().is_some_and(|flags| flags.iter().any(|f| f == flag));
        let repetitions = if let Some((position, None)) = self.numkeys
            && has("multiple")
        {
            let count = self.random.random_range(usize::from(!has("optional"))..=3);
            self.numkeys = Some((position, Some(count)));
            count
        } else if has("optional") && !self.optional.unwrap_or_else(|| self.random.random_bool(0.5)) {
            0
        } else if has("multiple") {
            self.random.random_range(1..=3)
        } else {
            1
        };
        for repetition in 0..repetitions {
            if let Some(token) = argument["token"].as_str()
                && (repetition == 0 || has("multiple_token"))
            {
                let lower = self.random.random_bool(0.3);
                self.line.push(if lower { token.to_lowercase() } else { token.to_owned() });
            }
            self.value(argument);
        }
    }

    fn value(&mut self, argument: &Value) {
        let children = argument["arguments"].as_array().map_or(&[][..], Vec::as_slice);
        match argument["type"].as_str() {
            Some("pure-token") => {}
            Some("block") => children.iter().for_each(|child| self.argument(child)),
            Some("oneof") if children.is_empty() => {}
            Some("oneof") => {
                let chosen = self.random.random_range(0..children.len());
                self.argument(&children[chosen]);
            }
            Some("key") => {
                self.key_count += 1;
                self.line.push(format!("k{}", self.key_count));
            }
            Some("integer") if argument["name"] == "numkeys" => {
                self.numkeys = Some((self.line.len(), None));
                self.line.push("numkeys".to_owned());
            }
            Some("string" | "pattern") if self.hostile && self.random.random_bool(0.25) => {
                self.line.push(KEYWORDS[self.random.random_range(0..KEYWORDS.len())].to_owned());
            }
            Some("string" | "pattern") => self.line.push("value".to_owned()),
            _ => self.line.push(self.random.random_range(0..10).to_string()),
        }
    }
}
