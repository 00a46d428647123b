//! Ten thousand commands in one pipeline, and what they left behind.

use std::collections::BTreeMap;
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};
use keyslot::Client;
use keyslot_terminal::table::grouped;
use keyslot_terminal::{Cell, Table};

use super::show::{Show, counter, ensure};
use crate::cli::failure::Failure;

const COMMANDS: u64 = 10_000;
/// How many values are read back at a time, so that there is progress to show.
const READ_AT_ONCE: usize = 500;

pub(super) async fn run(client: &Client, show: &Show) -> Result<(), Failure> {
    show.section("A pipeline of 10,000 commands: all nodes at the same time")?;
    let mut commands_of_node = BTreeMap::<String, u64>::new();
    for number in 0..COMMANDS {
        *commands_of_node.entry(client.node_for_key(&key(number)).await?).or_default() += 1;
    }
    let commands = (0..COMMANDS).map(|number| vec![b"SET".to_vec(), key(number), value(number)]).collect();

    let writes = counter(client, "socket-writes").await?;
    let start = Instant::now();
    let results = client.pipeline(commands).await;
    let elapsed = start.elapsed();
    let writes = counter(client, "socket-writes").await? - writes;
    for result in results {
        let reply = result?;
        ensure(reply.as_str() == Some("OK"), || format!("SET answered {reply:?}"))?;
    }

    let mut table = Table::new(show.style, &["node", "commands"]);
    for (node, commands) in &commands_of_node {
        table.add_row([Cell::new(node), Cell::number(grouped(*commands))]);
    }
    show.table(&table)?;
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate"
    )]
    let rate = (COMMANDS as f64 / elapsed.as_secs_f64()) as u64;
    show.line(format_args!(
        "{} commands in {:.1} ms with {} socket writes: {} a second",
        grouped(COMMANDS),
        elapsed.as_secs_f64() * 1_000.0,
        grouped(writes),
        show.style.bold(grouped(rate)),
    ))?;

    read_back(client).await?;
    show.line(format_args!("{} values read back, each the right one", grouped(COMMANDS)))
}

/// Reads all values and compares them, with a progress bar where standard error is a terminal.
async fn read_back(client: &Client) -> Result<(), Failure> {
    let progress = ProgressBar::new(COMMANDS);
    if let Ok(style) = ProgressStyle::with_template("  reading back {wide_bar} {pos}/{len}") {
        progress.set_style(style);
    }
    let numbers: Vec<_> = (0..COMMANDS).collect();
    for numbers in numbers.chunks(READ_AT_ONCE) {
        let commands = numbers.iter().map(|&number| vec![b"GET".to_vec(), key(number)]).collect();
        for (&number, result) in numbers.iter().zip(client.pipeline(commands).await) {
            let reply = result?;
            ensure(reply.as_bytes() == Some(&value(number)[..]), || {
                format!("{} is {reply:?}", String::from_utf8_lossy(&key(number)))
            })?;
            progress.inc(1);
        }
    }
    progress.finish_and_clear();
    Ok(())
}

fn key(number: u64) -> Vec<u8> {
    format!("pipeline:{number}").into_bytes()
}

fn value(number: u64) -> Vec<u8> {
    format!("value {number}").into_bytes()
}
