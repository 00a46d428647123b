//! Commands that come encoded, of which the caller wants to know no more than whether each went
//! well.

use std::ops::Range;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::Client;
use super::call::Call;
use super::handle::runtime_ended;
use super::outcomes::{End, Outcomes};
use super::recipient::Recipient;
use super::requests::Requests;
use super::submission::{Submission, Target};
use crate::Error;

impl Client {
    /// Hands in commands that are encoded as RESP: arrays of bulk strings, one after the other.
    /// They go to the component as they are. Returns as soon as they have their place behind
    /// this clone's earlier calls; what becomes of them tells the [`Submitted`].
    ///
    /// It is for loads that are larger than memory: hand in a piece after the other, and wait for
    /// the first ones' ends before there are too many. Replies are dropped as they come.
    /// [`Client::load`] tells of each command as soon as it has ended.
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
    /// [`Error::InvalidArgument`] for bytes that are no whole requests; [`Error::Host`] when the
    /// client's runtime has ended. Nothing was sent then.
    pub async fn submit(&self, requests: impl Into<Bytes>) -> Result<Submitted, Error> {
        let (sender, ends) = mpsc::unbounded_channel();
        let count = self.hand_in(requests.into(), 0, sender).await?;
        Ok(Submitted { count, ends })
    }

    /// Begins a load: commands that are handed in piece by piece, as with [`Client::submit`], and
    /// of which each is told as soon as it has ended. So those for a node that does not answer
    /// hold up nobody who waits for the others.
    ///
    /// ```no_run
    /// # async fn example(client: &keyslot::Client) -> Result<(), keyslot::Error> {
    /// let mut load = client.load();
    /// let requests = &b"*2\r\n$4\r\nINCR\r\n$1\r\na\r\n*2\r\n$4\r\nINCR\r\n$1\r\nb\r\n"[..];
    /// let numbers = load.submit(requests).await?;
    /// let mut open = numbers.count();
    /// while open > 0 {
    ///     for (number, outcome) in load.ended().await? {
    ///         println!("{number}: {outcome:?}");
    ///         open -= 1;
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn load(&self) -> Load {
        let (sender, ends) = mpsc::unbounded_channel();
        Load { client: self.clone(), next: 0, sender, ends }
    }

    /// Hands commands in of which the first has this number. Gives how many they are.
    async fn hand_in(
        &self,
        requests: Bytes,
        first: u64,
        sender: mpsc::UnboundedSender<Vec<End>>,
    ) -> Result<usize, Error> {
        let requests = Requests::encoded(requests)?;
        let count = requests.count();
        if count > 0 {
            let recipient = Recipient::Outcomes(Outcomes::new(first, count, sender));
            let submission = Submission::new(self.caller, Target::Cluster, requests, recipient);
            self.handle.send(Call::Submit(submission)).await?;
        }
        Ok(count)
    }
}

/// Commands that [`Client::submit`] has handed in. Dropped, it changes nothing for those that are
/// in the component already; the rest may not be sent.
#[derive(Debug)]
pub struct Submitted {
    count: usize,
    ends: mpsc::UnboundedReceiver<Vec<End>>,
}

impl Submitted {
    /// How many commands they are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Waits until all have ended. Tells of each whether it went well, in their order; the errors
    /// are those of [`Client::execute`].
    pub async fn outcomes(mut self) -> Vec<Result<(), Error>> {
        let mut outcomes = vec![None; self.count];
        // The sender goes when the last has ended.
        while let Some(ends) = self.ends.recv().await {
            for End { number, error } in ends {
                let outcome = usize::try_from(number).ok().and_then(|number| outcomes.get_mut(number));
                if let Some(outcome) = outcome {
                    *outcome = Some(error.map_or(Ok(()), |error| Err(*error)));
                }
            }
        }
        outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(|| Err(runtime_ended()))).collect()
    }
}

/// A load, from [`Client::load`]. It is a caller of its own, as a clone of the client is, and keeps
/// its client alive.
///
/// What may be under way at the same time is for the caller to bound. Dropped, it changes nothing
/// for the commands that are in the component already; the rest may not be sent.
#[derive(Debug)]
pub struct Load {
    client: Client,
    /// The number of the next command.
    next: u64,
    sender: mpsc::UnboundedSender<Vec<End>>,
    ends: mpsc::UnboundedReceiver<Vec<End>>,
}

impl Load {
    /// Hands commands in, behind those of before. Gives their numbers: a load's commands are
    /// counted from 0, in their order.
    ///
    /// # Errors
    ///
    /// As [`Client::submit`]. No number was given then.
    pub async fn submit(&mut self, requests: impl Into<Bytes>) -> Result<Range<u64>, Error> {
        let first = self.next;
        let count = self.client.hand_in(requests.into(), first, self.sender.clone()).await?;
        self.next += count as u64;
        Ok(first..self.next)
    }

    /// Waits until at least one command has ended, and gives those that have, each once, with its
    /// number: in the order in which they ended. The errors are those of [`Client::execute`].
    /// Waits for ever when none is under way.
    ///
    /// A future that is dropped takes nothing with it.
    ///
    /// # Errors
    ///
    /// [`Error::Host`] when the client's runtime has ended. Of what was under way nothing more is
    /// told.
    pub async fn ended(&mut self) -> Result<impl Iterator<Item = (u64, Result<(), Error>)> + use<>, Error> {
        let ends = tokio::select! {
            biased;
            Some(ends) = self.ends.recv() => ends,
            () = self.client.handle.worker_ended() => return Err(runtime_ended()),
        };
        let ends = ends.into_iter();
        Ok(ends.map(|End { number, error }| (number, error.map_or(Ok(()), |error| Err(*error)))))
    }
}
