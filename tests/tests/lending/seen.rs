//! A client's connections as the server sees them.

use anyhow::{Context, Result};
use keyslot::{Connection, Options, RespVersion};
use keyslot_testcluster::{Connected, TestServer};
use keyslot_tests::options;

/// What the connections of a test's client are called.
pub(crate) const NAME: &str = "borrower";

/// Options for a client whose connections can be told from others.
pub(crate) fn given(server: &TestServer, protocol: RespVersion) -> Options {
    options(&[server.url()], protocol).client_name(NAME)
}

/// What the server calls this connection.
pub(crate) async fn id(connection: &Connection) -> Result<u64> {
    id_of(connection.execute(["CLIENT", "ID"]).await?.as_integer())
}

pub(crate) fn id_of(reply: Option<i64>) -> Result<u64> {
    Ok(reply.context("CLIENT ID is answered with a number")?.try_into()?)
}

/// The connection as the server sees it.
pub(crate) async fn info(connection: &Connection) -> Result<Connected> {
    let reply = connection.execute(["CLIENT", "INFO"]).await?;
    Ok(Connected::parse(reply.as_str().context("CLIENT INFO is answered with text")?))
}

/// The client's connections as the server sees them.
pub(crate) fn connected(server: &TestServer) -> Result<Vec<Connected>> {
    let mut connected = server.connected()?;
    connected.retain(|connected| connected.name() == NAME);
    Ok(connected)
}

/// Those in a command that blocks.
pub(crate) fn blocked(server: &TestServer) -> Result<Vec<Connected>> {
    let mut blocked = connected(server)?;
    blocked.retain(Connected::is_blocked);
    Ok(blocked)
}

/// Lets the server close a connection. Returns how many it has closed.
pub(crate) fn kill(server: &TestServer, id: u64) -> Result<i64> {
    Ok(server.connection()?.integer(&["CLIENT", "KILL", "ID", &id.to_string()])?)
}
