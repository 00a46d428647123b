//! `keyslot slot`: where keys live.

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use comfy_table::Cell;
use serde_json::json;

use super::Global;
use super::failure::Failure;
use super::style::Style;
use super::table;

/// Show the slot of each key, and the node that serves it
///
/// Keys with the same hash tag, the part in the first braces, have the same slot and can be used in one command.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  keyslot slot user:7 user:8
  keyslot slot '{user:7}:name' '{user:7}:mail'
  keyslot --json slot user:7")]
pub(crate) struct Slot {
    /// The keys
    #[arg(required = true, value_name = "KEY", allow_hyphen_values = true)]
    keys: Vec<OsString>,
}

impl Slot {
    pub(super) async fn run(self, global: &Global) -> Result<ExitCode, Failure> {
        let client = global.connection.connect().await?;
        let mut rows = Vec::new();
        for key in self.keys {
            let key = key.into_encoded_bytes();
            let slot = client.keyslot(&key).await?;
            // No node serves the slot: that is an answer, too.
            let node = client.node_for_key(&key).await.ok();
            rows.push((shown(&key), slot, node));
        }

        let text = if global.json {
            let rows: Vec<_> = rows
                .iter()
                .map(|(key, slot, node)| json!({"key": key, "slot": slot, "node": node}))
                .collect();
            format!("{}\n", json!(rows))
        } else {
            let mut table = table::new(Style::for_stdout(), &["key", "slot", "node"]);
            for (key, slot, node) in rows {
                let node = node.map_or_else(|| table::bad("none"), Cell::new);
                table.add_row([Cell::new(key), table::number(slot), node]);
            }
            table::text(&table)
        };
        io::stdout().lock().write_all(text.as_bytes())?;
        Ok(ExitCode::SUCCESS)
    }
}

/// A key as text. What is not printable is escaped.
fn shown(key: &[u8]) -> String {
    match str::from_utf8(key) {
        Ok(text) if !text.chars().any(char::is_control) => text.to_owned(),
        _ => key.escape_ascii().to_string(),
    }
}
