//! The first steps: what the cluster looks like, single commands, and keys that belong together.

use keyslot::{Client, ReplyRef};
use keyslot_terminal::{Cell, Table};

use super::show::{Show, ensure};
use crate::cli::failure::Failure;
use crate::cli::topology;

const PAIRS: [(&str, &str); 5] =
    [("greeting", "hello"), ("city", "Bergen"), ("colour", "teal"), ("answer", "42"), ("user:7", "Ada")];

pub(super) async fn topology(client: &Client, show: &Show) -> Result<(), Failure> {
    show.section("Topology, as the component has learned it")?;
    show.table(&topology::table_of(&client.topology().await?, show.style))
}

pub(super) async fn set_and_get(client: &Client, show: &Show) -> Result<(), Failure> {
    show.section("SET and GET: each key goes to the node of its slot")?;
    let mut table = Table::new(show.style, &["key", "slot", "node", "SET", "GET"]);
    for (key, value) in PAIRS {
        let set = client.execute(["SET", key, value]).await?;
        let get = client.execute(["GET", key]).await?;
        ensure(get.as_str() == Some(value), || format!("GET {key} is {get:?}, not '{value}'"))?;
        table.add_row([
            Cell::new(key),
            Cell::number(client.keyslot(key.as_bytes()).await?),
            Cell::new(client.node_for_key(key.as_bytes()).await?),
            Cell::new(set.as_str().unwrap_or_default()).good(),
            Cell::new(format!("\"{value}\"")),
        ]);
    }
    show.table(&table)
}

pub(super) async fn hash_tag(client: &Client, show: &Show) -> Result<(), Failure> {
    show.section("One hash tag, one node: keys that can be used in one command")?;
    let (name, mail) = ("{user:7}:name", "{user:7}:mail");
    let mut table = Table::new(show.style, &["key", "slot", "node"]);
    let mut nodes = Vec::new();
    for key in [name, mail] {
        let node = client.node_for_key(key.as_bytes()).await?;
        table.add_row([
            Cell::new(key),
            Cell::number(client.keyslot(key.as_bytes()).await?),
            Cell::new(&node),
        ]);
        nodes.push(node);
    }
    ensure(nodes[0] == nodes[1], || format!("{name} and {mail} are on different nodes: {nodes:?}"))?;
    show.table(&table)?;

    client.execute(["MSET", name, "Ada", mail, "ada@example.org"]).await?;
    let reply = client.execute(["MGET", name, mail]).await?;
    let values: Vec<_> = reply.children().filter_map(ReplyRef::as_str).collect();
    ensure(values == ["Ada", "ada@example.org"], || format!("MGET is {values:?}"))?;
    show.line(format_args!("MGET  \"{}\"  \"{}\"", values[0], values[1]))
}
