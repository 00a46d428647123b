//! Scripts that the component knows.

use std::sync::Arc;

use super::Client;
use super::call::Query;
use super::handle::Handle;
use super::lease::Lease;
use crate::Error;

impl Client {
    /// Makes a Lua script known to the client, for as long as the [`Script`] exists. Sends nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] and [`Error::Host`]; after a trap also those of [`Self::connect`].
    pub async fn script(&self, source: impl AsRef<[u8]>) -> Result<Script, Error> {
        let source = source.as_ref().to_vec();
        let (lease, sha1) = self.handle.ask(|reply| Query::Script { source, reply }).await?;
        Ok(Script { sha1, _lease: lease, _handle: Arc::clone(&self.handle) })
    }
}

/// A Lua script, known by the SHA-1 of its text. While it exists, EVALSHA and EVALSHA_RO with that
/// name work in every call of its client, also in pipelines and transactions: a node that does not
/// know the script gets its text.
///
/// ```no_run
/// # async fn example(client: &keyslot::Client) -> Result<(), keyslot::Error> {
/// let add = client.script("return redis.call('INCRBY', KEYS[1], ARGV[1])").await?;
/// client.execute(add.command(["counter"], ["5"])).await?;
/// client.pipeline(vec![add.command(["a"], ["1"]), add.command(["b"], ["2"])]).await;
/// # Ok(())
/// # }
/// ```
pub struct Script {
    sha1: String,
    _lease: Lease,
    _handle: Arc<Handle>,
}

impl Script {
    /// The SHA-1 of its text: 40 hexadecimal digits.
    #[must_use]
    pub fn sha1(&self) -> &str {
        &self.sha1
    }

    /// The command that runs it. All keys that the script uses are to be given, and to be in one
    /// slot, else [`Error::CrossSlot`].
    pub fn command(
        &self,
        keys: impl IntoIterator<Item = impl AsRef<[u8]>>,
        arguments: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) -> Vec<Vec<u8>> {
        self.words("EVALSHA", keys, arguments)
    }

    /// The same for a script that only reads (EVALSHA_RO): it may be sent again, and to replicas
    /// ([`Options::replica_reads`](crate::Options::replica_reads)).
    pub fn command_read_only(
        &self,
        keys: impl IntoIterator<Item = impl AsRef<[u8]>>,
        arguments: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) -> Vec<Vec<u8>> {
        self.words("EVALSHA_RO", keys, arguments)
    }

    fn words(
        &self,
        name: &str,
        keys: impl IntoIterator<Item = impl AsRef<[u8]>>,
        arguments: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) -> Vec<Vec<u8>> {
        let keys: Vec<_> = keys.into_iter().map(|key| key.as_ref().to_vec()).collect();
        let mut words = vec![name.into(), self.sha1().into(), keys.len().to_string().into_bytes()];
        words.extend(keys);
        words.extend(arguments.into_iter().map(|argument| argument.as_ref().to_vec()));
        words
    }
}

impl std::fmt::Debug for Script {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Script").field("sha1", &self.sha1).finish_non_exhaustive()
    }
}
