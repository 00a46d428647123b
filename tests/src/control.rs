//! What the machine makes of a piece of work: the same, at the same time, where nothing is amiss.
//!
//! A test that says "not delayed" compares with a [`Control`]: a server of its own and a client of
//! its own, to which nothing happens. What takes long there, too, takes long because other programs
//! run; a test that compared with a number alone would fail then, or would have to allow for delays
//! that a user would notice.

use anyhow::Result;
use keyslot::{Client, Options, RespVersion};
use keyslot_testcluster::{TestServer, TestServerBuilder};

use crate::load::Shard;
use crate::options;

/// A server and its client, to which nothing happens.
pub struct Control {
    /// The client.
    pub client: Client,
    _server: TestServer,
}

impl Control {
    /// Starts both. `set` is what the client under test has set, too.
    ///
    /// # Errors
    /// When there is no server program, or it does not answer.
    pub async fn start(protocol: RespVersion, set: impl FnOnce(Options) -> Options) -> Result<Self> {
        Self::start_on(TestServer::builder(), protocol, set).await
    }

    /// The same with a server that is set as those under test are: one that writes to the disk
    /// waits for it as they do.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_on(
        server: TestServerBuilder,
        protocol: RespVersion,
        set: impl FnOnce(Options) -> Options,
    ) -> Result<Self> {
        let server = server.start()?;
        let client = Client::connect(set(options(&[server.url()], protocol))).await?;
        Ok(Self { client, _server: server })
    }

    /// The server as a cluster's only shard, for a load.
    #[must_use]
    pub fn shard() -> Shard {
        let tags = (0..crate::load::TAGS_PER_SHARD).map(|number| format!("control-{number}"));
        Shard { primary: 0, tags: tags.collect() }
    }
}
