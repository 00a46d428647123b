//! A topology as JSON: what `keyslot --json topology` prints and `--topology` reads.

use std::fs;
use std::io::Read as _;
use std::path::Path;

use keyslot::{Node, NodeHealth, Role, Shard, SlotRange};
use serde_json::{Value, json};

pub(super) const fn role_name(role: Role) -> &'static str {
    match role {
        Role::Primary => "primary",
        Role::Replica => "replica",
    }
}

pub(super) const fn health_name(node: &Node) -> &'static str {
    match node.health {
        NodeHealth::Online => "online",
        NodeHealth::Loading => "loading",
        NodeHealth::Failed => "failed",
        NodeHealth::Unknown => "unknown",
    }
}

pub(super) fn json_of_shard(shard: &Shard) -> Value {
    let slots: Vec<_> = shard.slots.iter().map(|range| json!([range.first, range.last])).collect();
    let nodes: Vec<_> = shard
        .nodes
        .iter()
        .map(|node| {
            json!({
                "id": node.id,
                "address": node.address,
                "role": role_name(node.role),
                "health": health_name(node),
                "zone": node.availability_zone,
            })
        })
        .collect();
    json!({"slots": slots, "nodes": nodes})
}

/// The topology in a file, as `json_of_shard` writes it.
pub(super) fn of_file(file: &Path) -> Result<Vec<Shard>, String> {
    let failed = |why: String| format!("--topology {}: {why}", file.display());
    let mut text = String::new();
    let read = fs::File::open(file).and_then(|file| file.take(FILE_SIZE_MAX + 1).read_to_string(&mut text));
    match read.map_err(|error| failed(error.to_string()))? as u64 {
        ..=FILE_SIZE_MAX => of_json(&text).map_err(failed),
        _ => Err(failed(format!("the file is larger than {} MiB", FILE_SIZE_MAX >> 20))),
    }
}

/// A file of 4,096 nodes and 16,384 ranges of slots has less than 4 MiB.
const FILE_SIZE_MAX: u64 = 16 << 20;

/// A node needs nothing but its address and role: the rest is for people, or only the servers know
/// it.
fn of_json(text: &str) -> Result<Vec<Shard>, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    list(&value, "the shards")?.iter().map(shard_of_json).collect()
}

fn shard_of_json(shard: &Value) -> Result<Shard, String> {
    let slot = |value: &Value| value.as_u64().and_then(|slot| u16::try_from(slot).ok());
    let range = |range: &Value| match range.as_array().map(Vec::as_slice) {
        Some([first, last]) => slot(first).zip(slot(last)).map(|(first, last)| SlotRange { first, last }),
        _ => None,
    };
    let slots = list(&shard["slots"], "slots")?
        .iter()
        .map(|value| range(value).ok_or_else(|| format!("{value} is not [first, last]")));
    let nodes = list(&shard["nodes"], "nodes")?.iter().map(node_of_json);
    Ok(Shard { slots: slots.collect::<Result<_, _>>()?, nodes: nodes.collect::<Result<_, _>>()? })
}

fn node_of_json(node: &Value) -> Result<Node, String> {
    let text = |name: &str| node[name].as_str().map(str::to_owned);
    Ok(Node {
        id: text("id").unwrap_or_default(),
        address: text("address").ok_or_else(|| format!("{node} has no address"))?,
        role: match node["role"].as_str() {
            Some("primary") => Role::Primary,
            Some("replica") => Role::Replica,
            _ => return Err(format!("{node} is neither primary nor replica")),
        },
        health: match node["health"].as_str() {
            Some("online") => NodeHealth::Online,
            Some("loading") => NodeHealth::Loading,
            Some("failed") => NodeHealth::Failed,
            _ => NodeHealth::Unknown,
        },
        availability_zone: text("zone"),
    })
}

fn list<'a>(value: &'a Value, what: &str) -> Result<&'a [Value], String> {
    value.as_array().map(Vec::as_slice).ok_or_else(|| format!("{what} are not a list"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_can_be_read_back() {
        let node = |role, health, zone: Option<&str>| Node {
            id: "07c37dfeb235213a872192d90877d0cd55635b91".to_owned(),
            address: "[::1]:7000".to_owned(),
            role,
            health,
            availability_zone: zone.map(str::to_owned),
        };
        let shards = vec![Shard {
            slots: vec![SlotRange { first: 0, last: 5 }, SlotRange { first: 7, last: 16_383 }],
            nodes: vec![
                node(Role::Primary, NodeHealth::Online, Some("a")),
                node(Role::Replica, NodeHealth::Failed, None),
            ],
        }];
        let json: Vec<_> = shards.iter().map(json_of_shard).collect();
        assert_eq!(of_json(&json!(json).to_string()), Ok(shards));
    }

    #[test]
    fn what_is_no_topology_is_quoted() {
        for (text, part) in [
            ("{", "EOF"),
            ("{}", "the shards are not a list"),
            ("[{}]", "slots are not a list"),
            (r#"[{"slots":[[0]],"nodes":[]}]"#, "[0] is not [first, last]"),
            (r#"[{"slots":[[0,70000]],"nodes":[]}]"#, "[0,70000]"),
            (r#"[{"slots":[],"nodes":[{"role":"primary"}]}]"#, "has no address"),
            (r#"[{"slots":[],"nodes":[{"address":"a:1","role":"king"}]}]"#, "neither primary nor replica"),
        ] {
            let error = of_json(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
