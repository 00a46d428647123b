//! A connection that the component has lent.

use std::sync::Arc;

use super::Client;
use super::call::Query;
use super::handle::Handle;
use super::lease::Lease;
use super::requests::Requests;
use super::submission::{CallerId, Target};
use crate::{Error, Reply};

impl Client {
    /// Lends a connection of one's own to the primary that serves this key's slot, or, without a
    /// key, to any primary. Dropping it gives it back.
    ///
    /// Returns at once. The connection may still have to be opened, or to come back from another
    /// borrower: its commands wait for that, and fail when it takes longer than
    /// [`PoolSetting::CheckoutTimeoutMs`](crate::PoolSetting::CheckoutTimeoutMs).
    ///
    /// # Errors
    ///
    /// As [`Self::topology`].
    pub async fn lend(&self, key: Option<&[u8]>) -> Result<Connection, Error> {
        let key = key.map(<[u8]>::to_vec);
        let lease = self.handle.ask(|reply| Query::Lend { key, reply }).await?;
        Ok(Connection { lease, caller: self.handle.new_caller(), handle: Arc::clone(&self.handle) })
    }
}

/// A connection of one's own, from [`Client::lend`]: for WATCH to EXEC, for
/// commands that block, for everything that cannot share one.
///
/// ```no_run
/// # async fn example(client: &keyslot::Client) -> Result<(), keyslot::Error> {
/// let connection = client.lend(Some(b"stock")).await?;
/// loop {
///     connection.execute(["WATCH", "stock"]).await?;
///     let stock = connection.execute(["GET", "stock"]).await?;
///     let left = stock.as_str().and_then(|text| text.parse::<i64>().ok()).unwrap_or(0) - 1;
///     connection.execute(["MULTI"]).await?;
///     connection.execute(["SET", "stock", &left.to_string()]).await?;
///     if !connection.execute(["EXEC"]).await?.is_null() {
///         break; // nobody else has changed it meanwhile
///     }
/// }
/// # Ok(())
/// # }
/// ```
///
/// - Dropping it gives it back: clean, or, where that is in doubt, closed. So a caller that gives
///   up in the middle of a transaction, or of a command that blocks, leaves nothing behind.
/// - Its first command decides which node it is to: when that is redirected, both go where the slot
///   is now. Then it stays with its node. A slot that moves away is answered with MOVED
///   ([`Error::Server`]), and nothing is sent again: drop it then and lend another.
///   [`Client::watch`] is made of it.
/// - It keeps its client alive.
/// - Should the component have to be given up ([`Error::Host`]), its connections are gone: each
///   later call is [`Error::ConnectionLost`].
pub struct Connection {
    lease: Lease,
    handle: Arc<Handle>,
    caller: CallerId,
}

impl Connection {
    /// Runs one command on this connection. As [`Client::execute`], but
    /// also WATCH, MULTI, EXEC, SELECT and others that a shared connection cannot carry.
    ///
    /// # Errors
    ///
    /// [`Error::LimitExceeded`], [`Error::Connect`], [`Error::ClusterDown`] and
    /// [`Error::Authentication`] say why there is no connection; [`Error::ConnectionLost`] that
    /// it has ended. Both stay so.
    pub fn execute(
        &self,
        args: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) -> impl Future<Output = Result<Reply, Error>> + Send {
        let args: Vec<_> = args.into_iter().collect();
        self.handle.execute(self.caller, Target::Connection(self.lease.id()), Requests::one(&args))
    }

    /// Runs commands that are one transaction; null when nothing was executed.
    pub(super) async fn transaction(&self, requests: Requests) -> Result<Reply, Error> {
        self.handle.execute(self.caller, Target::TransactionOn(self.lease.id()), requests).await
    }

    /// Runs several commands in one write. The results are in their order.
    pub async fn pipeline(&self, commands: Vec<Vec<Vec<u8>>>) -> Vec<Result<Reply, Error>> {
        self.handle.pipeline(self.caller, Target::Connection(self.lease.id()), commands).await
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}
