//! `keyslot health`: whether each node answers.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use keyslot::{NodeReport, NodeStatistics};
use keyslot_terminal::{Cell, Style, Table, escape};
use serde_json::{Value, json};

use super::failure::{Failure, REFUSED};
use super::global::Global;
use super::topology_json::role_name;

/// The counters that are shown, with their headlines.
const COUNTERS: [(&str, &str); 8] = [
    ("commands", "commands"),
    ("retries", "retries"),
    ("disconnects", "disconnects"),
    ("bytes-out", "bytes out"),
    ("bytes-in", "bytes in"),
    ("latency-p50-us", "p50 µs"),
    ("latency-p99-us", "p99 µs"),
    ("latency-max-us", "max µs"),
];

/// Ask every node of the cluster whether it answers
///
/// Replicas are asked, too, all at the same time. The time is that of a PING, connecting included
/// where the client was not connected.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  keyslot health
  keyslot --request-timeout 500ms health || echo 'a node is down'
  keyslot health --pings 100 --statistics        how fast each node is
  keyslot --json health | jq '.[] | select(.error) | .address'

Exit codes: 0 when every node answers, 1 when one does not, 2 for wrong usage, 3 when nothing can be reached.")]
pub(crate) struct Health {
    /// How many times to ask, one after the other; the table shows the last answers
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pings: u32,

    /// Show what the client has counted for each node
    #[arg(long)]
    statistics: bool,
}

impl Health {
    pub(super) async fn run(self, global: &Global) -> Result<ExitCode, Failure> {
        let client = global.connection.connect().await?;
        let mut reports = client.health().await?;
        for _ in 1..self.pings {
            reports = client.health().await?;
        }
        let statistics = if self.statistics { Some(client.statistics().await?) } else { None };
        let of_node = |report: &NodeReport| {
            let mut nodes = statistics.iter().flatten();
            nodes.find(|node| node.address == report.address)
        };
        let text = if global.json {
            let reports: Vec<_> = reports.iter().map(|report| json_of(report, of_node(report))).collect();
            format!("{}\n", escape::json(&json!(reports)))
        } else {
            let mut table = new_table(self.statistics);
            for report in &reports {
                table.add_row(row(report, self.statistics.then(|| of_node(report))));
            }
            table.text()
        };
        io::stdout().lock().write_all(text.as_bytes())?;
        let well = reports.iter().all(|report| report.answer.is_ok());
        Ok(if well { ExitCode::SUCCESS } else { ExitCode::from(REFUSED) })
    }
}

fn new_table(statistics: bool) -> Table {
    let mut headline = vec!["node", "role"];
    if statistics {
        headline.extend(COUNTERS.map(|(_, title)| title));
    }
    headline.push("answer");
    Table::new(Style::for_stdout(), &headline)
}

/// The answer comes last: a reason may be long.
fn row(report: &NodeReport, statistics: Option<Option<&NodeStatistics>>) -> Vec<Cell> {
    let mut row = vec![Cell::new(&report.address), Cell::new(role_name(report.role))];
    if let Some(node) = statistics {
        row.extend(COUNTERS.map(|(name, _)| Cell::number(counter(node, name))));
    }
    row.push(match &report.answer {
        Ok(time) => Cell::new(milliseconds(*time)).good(),
        Err(error) => Cell::new(escape::message(&error.to_string())).bad(),
    });
    row
}

fn counter(node: Option<&NodeStatistics>, name: &str) -> u64 {
    let mut counters = node.into_iter().flat_map(|node| &node.counters);
    counters.find(|counter| counter.name == name).map_or(0, |counter| counter.value)
}

fn milliseconds(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1_000.0)
}

fn json_of(report: &NodeReport, statistics: Option<&NodeStatistics>) -> Value {
    let micros = |time: &Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let mut value = json!({
        "address": report.address,
        "role": role_name(report.role),
        "answer_us": report.answer.as_ref().ok().map(micros),
        "error": report.answer.as_ref().err().map(ToString::to_string),
    });
    if let Some(node) = statistics {
        let counters = node.counters.iter().map(|counter| (counter.name.clone(), json!(counter.value)));
        value["statistics"] = Value::Object(counters.collect());
    }
    value
}
