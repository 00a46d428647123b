//! A scan that the worker keeps in the component.

use std::sync::Arc;

use super::Client;
use super::call::Query;
use super::handle::Handle;
use super::lease::Lease;
use super::requests::Requests;
use super::submission::{CallerId, Target};
use crate::bindings::exports::keyslot::redis::redis_cluster::ScanSubject;
use crate::scan_options::ScanOptions;
use crate::{Error, Reply};

/// A scan under way, from [`Client::scan`] and its like. Dropping it ends it.
///
/// ```no_run
/// # async fn example(client: &keyslot::Client) -> Result<(), keyslot::Error> {
/// use keyslot::ScanOptions;
///
/// let mut scan = client.scan(ScanOptions::new().pattern("user:*").parallel(3)).await?;
/// while let Some(keys) = scan.next().await? {
///     for key in keys {
///         println!("{}", String::from_utf8_lossy(&key));
///     }
/// }
/// # Ok(())
/// # }
/// ```
///
/// All that was there from its beginning to its end comes, at least once, also when slots move and
/// replicas take over meanwhile. What comes more than once, and what a token is, the WIT package
/// has at `scanner`.
///
/// It keeps its client alive. Should the component have to be given up ([`Error::Host`]), each
/// later call is [`Error::ConnectionLost`]: go on from the last token that you have.
pub struct Scan {
    lease: Lease,
    handle: Arc<Handle>,
    caller: CallerId,
}

impl Scan {
    /// The next batch, as soon as there is one; none when all has come. A batch may be empty: call
    /// again.
    ///
    /// Of keys and sets it holds elements, of hashes fields and values by turns, of sorted sets
    /// members and scores. A caller that drops the future may drop a batch, which a later token
    /// counts as given: whoever may do so keeps the token of before.
    ///
    /// # Errors
    ///
    /// A node did not answer for the request time-out ([`Error::Connect`], [`Error::Timeout`] …),
    /// nobody serves a slot ([`Error::ClusterDown`]), or a server refused the command
    /// ([`Error::Server`]). The next call goes on; nothing is left out.
    pub async fn next(&mut self) -> Result<Option<Vec<Vec<u8>>>, Error> {
        // The component knows what to send.
        let requests = Requests::one::<&[u8]>(&[]);
        let batch = self.handle.execute(self.caller, Target::Scan(self.lease.id()), requests).await?;
        Ok(elements(&batch))
    }

    /// How far the scan has come, as of the last batch that [`Self::next`] gave: for
    /// [`ScanOptions::token`], in this or another process.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] for a scan of one key, which has none; [`Error::Closed`].
    pub async fn token(&self) -> Result<Vec<u8>, Error> {
        let scan = self.lease.id();
        let token = self.handle.ask(|reply| Query::ScanToken { scan, reply }).await?;
        token.ok_or_else(|| Error::InvalidArgument("a scan of one key has no token".to_owned()))
    }
}

impl std::fmt::Debug for Scan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scan").finish_non_exhaustive()
    }
}

fn elements(batch: &Reply) -> Option<Vec<Vec<u8>>> {
    if batch.is_null() {
        return None;
    }
    let elements = batch.children().filter_map(|element| element.as_bytes().map(<[u8]>::to_vec));
    Some(elements.collect())
}

impl Client {
    /// Scans the keys of the cluster, of the one server, or of one node. Asks no server yet.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] for an option that is wrong, and for a token that is damaged or
    /// of another scan.
    pub async fn scan(&self, options: ScanOptions) -> Result<Scan, Error> {
        self.open_scan(ScanSubject::Keys, options).await
    }

    /// Scans the fields and values of a hash.
    ///
    /// # Errors
    ///
    /// As [`Self::scan`].
    pub async fn hscan(&self, key: &[u8], options: ScanOptions) -> Result<Scan, Error> {
        self.open_scan(ScanSubject::Hash(key.to_vec()), options).await
    }

    /// Scans the members of a set.
    ///
    /// # Errors
    ///
    /// As [`Self::scan`].
    pub async fn sscan(&self, key: &[u8], options: ScanOptions) -> Result<Scan, Error> {
        self.open_scan(ScanSubject::Set(key.to_vec()), options).await
    }

    /// Scans the members and scores of a sorted set.
    ///
    /// # Errors
    ///
    /// As [`Self::scan`].
    pub async fn zscan(&self, key: &[u8], options: ScanOptions) -> Result<Scan, Error> {
        self.open_scan(ScanSubject::SortedSet(key.to_vec()), options).await
    }

    async fn open_scan(&self, subject: ScanSubject, options: ScanOptions) -> Result<Scan, Error> {
        let open = |reply| Query::Scan { subject, options: Box::new(options), reply };
        let lease = self.handle.ask(open).await?;
        Ok(Scan { lease, caller: self.handle.new_caller(), handle: Arc::clone(&self.handle) })
    }
}
