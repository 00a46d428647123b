//! Commands that come encoded, of which the caller wants to know no more than whether each went well.

use bytes::Bytes;
use tokio::sync::oneshot;

use super::{Call, Caller, Client, Progress, Requests, Run, Target, ended};
use crate::Error;

impl Client {
    /// Hands in commands that are encoded as RESP: arrays of bulk strings, one after the other. They go to the component as
    /// they are. Returns as soon as they have their place behind this clone's earlier calls; what becomes of them tells the
    /// [`Submitted`].
    ///
    /// It is for loads that are larger than memory: hand in a piece after the other, and wait for the first ones' ends
    /// before there are too many. Replies are dropped as they come.
    ///
    /// ```no_run
    /// # async fn example(client: &keyslot::Client) -> Result<(), keyslot::Error> {
    /// let first = client.submit(&b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n"[..]).await?;
    /// let second = client.submit(&b"*2\r\n$4\r\nINCR\r\n$1\r\na\r\n"[..]).await?;
    /// for outcome in first.outcomes().await.into_iter().chain(second.outcomes().await) {
    ///     outcome?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] for bytes that are no whole requests; [`Error::Host`] when the client's runtime has ended.
    /// Nothing was sent then.
    pub async fn submit(&self, requests: impl Into<Bytes>) -> Result<Submitted, Error> {
        let requests = Requests::encoded(requests.into())?;
        let count = requests.count();
        let (sender, outcomes) = oneshot::channel();
        if count > 0 {
            let progress = Progress::New(Caller::Outcomes(sender));
            let run = Run { lane: self.lane, target: Target::Cluster, requests, progress };
            self.handle.calls.send(Call::Run(run)).await.map_err(|_| ended())?;
        }
        Ok(Submitted { count, outcomes })
    }
}

/// Commands that [`Client::submit`] has handed in. Dropped, it changes nothing for those that are in the component already;
/// the rest may not be sent.
#[derive(Debug)]
pub struct Submitted {
    count: usize,
    outcomes: oneshot::Receiver<Result<Vec<Result<(), Error>>, Error>>,
}

impl Submitted {
    /// How many commands they are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Waits until all have ended. Tells of each whether it went well, in their order; the errors are those of
    /// [`Client::execute`].
    pub async fn outcomes(self) -> Vec<Result<(), Error>> {
        if self.count == 0 {
            return Vec::new();
        }
        let outcomes = self.outcomes.await.unwrap_or_else(|_| Err(ended()));
        outcomes.unwrap_or_else(|error| vec![Err(error); self.count])
    }
}
