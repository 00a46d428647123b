//! Keys that are watched, and what is written if they have not changed.

use super::Client;
use super::connection::Connection;
use super::requests::Requests;
use super::submission::Target;
use crate::{Error, Reply, ReplyRef};

impl Client {
    /// Runs commands as a transaction: MULTI, the commands and EXEC in one write to the node of
    /// their slot. All are executed, with nothing between them, or none. The results are in the
    /// commands' order; one that fails while the others have their effect is [`Error::Server`]
    /// in its place. No commands give an empty list, and nothing is sent.
    ///
    /// When the slot has moved nothing has been executed, and the whole is sent again where it is
    /// now.
    ///
    /// # Errors
    ///
    /// [`Error::CrossSlot`] and [`Error::InvalidArgument`] before anything is sent;
    /// [`Error::Server`] with the code EXECABORT when the server refused a command, which the
    /// message names; [`Error::ConnectionLost`] and [`Error::Timeout`] when it may have
    /// been executed, all of it or nothing.
    pub async fn transaction(&self, commands: Vec<Vec<Vec<u8>>>) -> Result<Vec<Result<Reply, Error>>, Error> {
        let requests = Requests::transaction(&commands);
        let reply = self.handle.execute(self.caller, Target::Transaction, requests).await?;
        results_of(&reply).ok_or_else(|| Error::Protocol("EXEC was answered with null".to_owned()))
    }

    /// Watches keys of one slot, on a connection of its own. When the slot has just moved it
    /// follows.
    ///
    /// # Errors
    ///
    /// [`Error::CrossSlot`] when the keys are in different slots, [`Error::InvalidArgument`] when
    /// there are none; those of [`Self::lend`]'s connection.
    pub async fn watch(&self, keys: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Result<Watched, Error> {
        let keys: Vec<Vec<u8>> = keys.into_iter().map(|key| key.as_ref().to_vec()).collect();
        let Some(first) = keys.first() else {
            return Err(Error::InvalidArgument("there are no keys to watch".to_owned()));
        };
        let connection = self.lend(Some(first)).await?;
        connection.execute(std::iter::once(&b"WATCH".to_vec()).chain(&keys)).await?;
        Ok(Watched { connection, queued: Vec::new() })
    }
}

/// Keys that are watched, from [`Client::watch`]: what [`exec`](Self::exec) writes is written only
/// if none of them has changed since.
///
/// ```no_run
/// # async fn example(client: &keyslot::Client) -> Result<(), keyslot::Error> {
/// loop {
///     let mut stock = client.watch(["stock"]).await?;
///     let now = stock.execute(["GET", "stock"]).await?;
///     let left = now.as_str().and_then(|text| text.parse::<i64>().ok()).unwrap_or(0) - 1;
///     stock.queue(["SET", "stock", &left.to_string()]);
///     if stock.exec().await?.is_some() {
///         break; // nobody else has changed it meanwhile
///     }
/// }
/// # Ok(())
/// # }
/// ```
///
/// It has a connection of its own; dropping it gives that back, and forgets the keys.
#[derive(Debug)]
pub struct Watched {
    connection: Connection,
    queued: Vec<Vec<Vec<u8>>>,
}

impl Watched {
    /// Runs a command at once, as a read between the watch and [`exec`](Self::exec) needs it.
    ///
    /// # Errors
    ///
    /// [`Error::Server`] with MOVED, ASK, TRYAGAIN or CLUSTERDOWN when the slot has moved or the
    /// node is not well, and [`Error::ConnectionLost`]: begin again with [`Client::watch`].
    pub fn execute(
        &self,
        args: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) -> impl Future<Output = Result<Reply, Error>> + Send {
        self.connection.execute(args)
    }

    /// Notes a command for [`exec`](Self::exec). Nothing is sent.
    pub fn queue(&mut self, args: impl IntoIterator<Item = impl AsRef<[u8]>>) {
        self.queued.push(args.into_iter().map(|arg| arg.as_ref().to_vec()).collect());
    }

    /// Runs what was queued as one transaction, in one write. Afterwards nothing is queued and
    /// nothing is watched any more.
    ///
    /// None: nothing was executed, because a watched key has changed, or its slot has moved. Begin
    /// again. Where nothing was queued, an empty list says that what was read still holds.
    ///
    /// # Errors
    ///
    /// Those of [`Client::transaction`].
    pub async fn exec(&mut self) -> Result<Option<Vec<Result<Reply, Error>>>, Error> {
        let requests = Requests::transaction(&std::mem::take(&mut self.queued));
        let result = self.connection.transaction(requests).await;
        if let Err(Error::InvalidArgument(_) | Error::CrossSlot(_)) = result {
            // Nothing was sent.
            self.unwatch().await;
        }
        Ok(results_of(&result?))
    }

    /// Forgets what was queued, and what is watched.
    pub async fn discard(&mut self) {
        self.queued.clear();
        self.unwatch().await;
    }

    /// Forgets what is watched: [`exec`](Self::exec) then runs in any case, unless the slot has
    /// moved.
    pub async fn unwatch(&self) {
        // Where it fails, the connection has ended, and the watch with it.
        let _ = self.connection.execute(["UNWATCH"]).await;
    }
}

/// What EXEC has answered; none when nothing was executed.
fn results_of(reply: &Reply) -> Option<Vec<Result<Reply, Error>>> {
    let own = |child: Reply| child.into_error().map_or_else(Ok, |error| Err(Error::Server(error)));
    (!reply.is_null()).then(|| reply.children().map(ReplyRef::to_reply).map(own).collect())
}
