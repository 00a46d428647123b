//! `keyslot topology`: the cluster's shards and nodes.

use std::io::{self, Write};
use std::process::ExitCode;

use keyslot::{Node, NodeHealth, Shard};
use keyslot_terminal::{Cell, Style, Table, escape};
use serde_json::json;

use super::failure::Failure;
use super::global::Global;
use super::topology_json::{health_name, json_of_shard, role_name};

/// How many characters of a zone are shown.
const ZONE_LENGTH_MAX: usize = 64;

/// Show the shards of the cluster, their slots and their nodes
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  keyslot topology
  keyslot --json topology | jq '.[].nodes[].address'
  keyslot --json topology > shards.json
  keyslot --topology shards.json exec GET k      start from it, without asking")]
pub(crate) struct Topology {}

impl Topology {
    pub(super) async fn run(self, global: &Global) -> Result<ExitCode, Failure> {
        let client = global.connection.connect().await?;
        let shards = client.topology().await?;
        let text = if global.json {
            let shards: Vec<_> = shards.iter().map(json_of_shard).collect();
            format!("{}\n", escape::json(&json!(shards)))
        } else {
            table_of(&shards, Style::for_stdout()).text()
        };
        io::stdout().lock().write_all(text.as_bytes())?;
        Ok(ExitCode::SUCCESS)
    }
}

/// One row for each node; the zones only where the server gives some.
pub(super) fn table_of(shards: &[Shard], style: Style) -> Table {
    let zones = shards.iter().flat_map(|shard| &shard.nodes).any(|node| node.availability_zone.is_some());
    let mut headline = vec!["shard", "slots", "node", "role", "health"];
    if zones {
        headline.push("zone");
    }
    let mut table = Table::new(style, &headline);
    for (number, shard) in shards.iter().enumerate() {
        for (index, node) in shard.nodes.iter().enumerate() {
            let first = index == 0;
            let mut row = vec![
                Cell::number(if first { (number + 1).to_string() } else { String::new() }),
                Cell::new(if first { slots_text(shard) } else { String::new() }),
                Cell::new(&node.address),
                Cell::new(role_name(node.role)),
                health_cell(node),
            ];
            if zones {
                let zone = node.availability_zone.as_deref().unwrap_or_default();
                row.push(Cell::new(escape::beginning(zone, ZONE_LENGTH_MAX)));
            }
            table.add_row(row);
        }
    }
    table
}

fn slots_text(shard: &Shard) -> String {
    let ranges: Vec<_> = shard
        .slots
        .iter()
        .map(|range| {
            if range.first == range.last {
                range.first.to_string()
            } else {
                format!("{}-{}", range.first, range.last)
            }
        })
        .collect();
    if ranges.is_empty() { "none".to_owned() } else { ranges.join(" ") }
}

fn health_cell(node: &Node) -> Cell {
    let name = health_name(node);
    match node.health {
        NodeHealth::Online => Cell::new(name).good(),
        NodeHealth::Failed => Cell::new(name).bad(),
        NodeHealth::Loading | NodeHealth::Unknown => Cell::new(name),
    }
}
