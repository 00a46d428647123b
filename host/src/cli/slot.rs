//! `keyslot slot`: where keys live.

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use keyslot_terminal::{Cell, Style, Table, escape};
use serde_json::json;

use super::failure::Failure;
use super::format::string_or_hex;
use super::global::Global;

/// Show the slot of each key, and the node that serves it
///
/// Keys with the same hash tag, the part in the first braces, have the same slot and can be used in
/// one command.
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
            rows.push((key, slot, node));
        }

        let text = if global.json {
            let rows: Vec<_> = rows
                .iter()
                .map(|(key, slot, node)| json!({"key": string_or_hex(key), "slot": slot, "node": node}))
                .collect();
            format!("{}\n", escape::json(&json!(rows)))
        } else {
            let mut table = Table::new(Style::for_stdout(), &["key", "slot", "node"]);
            for (key, slot, node) in rows {
                let node = node.map_or_else(|| Cell::new("none").bad(), Cell::new);
                table.add_row([Cell::new(key), Cell::number(slot), node]);
            }
            table.text()
        };
        io::stdout().lock().write_all(text.as_bytes())?;
        Ok(ExitCode::SUCCESS)
    }
}
