//! `keyslot topology`: the cluster's shards and nodes.

use std::io::{self, Write};
use std::process::ExitCode;

use comfy_table::{Cell, Table};
use keyslot::{Node, NodeHealth, Role, Shard};
use serde_json::{Value, json};

use super::Global;
use super::failure::Failure;
use super::style::Style;
use super::table;

/// Show the shards of the cluster, their slots and their nodes
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  keyslot topology
  keyslot --json topology | jq '.[].nodes[].address'")]
pub(crate) struct Topology {}

impl Topology {
    pub(super) async fn run(self, global: &Global) -> Result<ExitCode, Failure> {
        let client = global.connection.connect().await?;
        let shards = client.topology().await?;
        let text = if global.json {
            let shards: Vec<_> = shards.iter().map(json_of_shard).collect();
            format!("{}\n", json!(shards))
        } else {
            table::text(&table_of(&shards, Style::for_stdout()))
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
    let mut table = table::new(style, &headline);
    for (number, shard) in shards.iter().enumerate() {
        for (index, node) in shard.nodes.iter().enumerate() {
            let first = index == 0;
            let mut row = vec![
                table::number(if first { (number + 1).to_string() } else { String::new() }),
                Cell::new(if first { slots_text(shard) } else { String::new() }),
                Cell::new(&node.address),
                Cell::new(role_name(node)),
                health_cell(node),
            ];
            if zones {
                row.push(Cell::new(node.availability_zone.as_deref().unwrap_or_default()));
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
        NodeHealth::Online => table::good(name),
        NodeHealth::Failed => table::bad(name),
        NodeHealth::Loading | NodeHealth::Unknown => Cell::new(name),
    }
}

const fn role_name(node: &Node) -> &'static str {
    match node.role {
        Role::Primary => "primary",
        Role::Replica => "replica",
    }
}

const fn health_name(node: &Node) -> &'static str {
    match node.health {
        NodeHealth::Online => "online",
        NodeHealth::Loading => "loading",
        NodeHealth::Failed => "failed",
        NodeHealth::Unknown => "unknown",
    }
}

fn json_of_shard(shard: &Shard) -> Value {
    let slots: Vec<_> = shard.slots.iter().map(|range| json!([range.first, range.last])).collect();
    let nodes: Vec<_> = shard
        .nodes
        .iter()
        .map(|node| {
            json!({
                "id": node.id,
                "address": node.address,
                "role": role_name(node),
                "health": health_name(node),
                "zone": node.availability_zone,
            })
        })
        .collect();
    json!({"slots": slots, "nodes": nodes})
}
