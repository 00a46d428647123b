//! What the machine counts.

/// Counters since the client was made. The WIT's `counter` documents each name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Requests taken from the caller.
    pub requests: u64,
    /// Commands put on connections, with those sent again and the client's own.
    pub commands: u64,
    /// Batches of commands handed to the driver.
    pub flushes: u64,
    /// MOVED redirects followed.
    pub moved: u64,
    /// ASK redirects followed.
    pub ask: u64,
    /// Commands sent again for another reason than a redirect.
    pub retries: u64,
    /// Times the topology was asked for.
    pub refreshes: u64,
    /// Connections opened.
    pub connects: u64,
    /// Connections that ended or failed.
    pub disconnects: u64,
    /// Bytes handed to the driver.
    pub bytes_out: u64,
    /// Bytes received.
    pub bytes_in: u64,
}
