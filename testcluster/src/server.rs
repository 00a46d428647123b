//! One server that is no cluster.

use std::net::IpAddr;

use crate::connection::Connection;
use crate::error::Error;
use crate::info::Connected;
use crate::process::{ServerOptions, ServerProcess};

/// A running server without cluster support. Dropping it ends the process and removes its folder.
#[derive(Debug)]
pub struct TestServer {
    process: ServerProcess,
}

impl TestServer {
    /// Starts a server and waits until it answers.
    ///
    /// # Errors
    ///
    /// When there is no server program, or it does not answer.
    pub fn start() -> Result<Self, Error> {
        Self::builder().start()
    }

    /// A server with settings of its own.
    #[must_use]
    pub fn builder() -> TestServerBuilder {
        TestServerBuilder::default()
    }

    /// The port it listens on.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.process.port()
    }

    /// `host:port`, an IPv6 host in brackets.
    #[must_use]
    pub fn address(&self) -> String {
        self.process.address().to_string()
    }

    /// `redis://host:port`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://{}", self.address())
    }

    /// A new connection, authenticated when the server was given a password.
    ///
    /// # Errors
    ///
    /// When the server does not answer.
    pub fn connection(&self) -> Result<Connection, Error> {
        self.process.connection()
    }

    /// The connections that it has, the one that asks for them included.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub fn connected(&self) -> Result<Vec<Connected>, Error> {
        Connected::ask(&mut self.connection()?).map_err(Error::call(self.port()))
    }

    /// Ends the process at once, as a crash would.
    ///
    /// # Errors
    ///
    /// When the system refuses.
    pub fn kill(&mut self) -> Result<(), Error> {
        self.process.kill()
    }

    /// Starts it again on the same port, empty.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub fn restart(&mut self) -> Result<(), Error> {
        self.process.restart()
    }

    /// Stops the process where it is: its sockets stay open, and nothing answers.
    ///
    /// # Errors
    ///
    /// When it is not running.
    pub fn pause(&mut self) -> Result<(), Error> {
        self.process.pause()
    }

    /// Lets it go on after [`pause`](Self::pause).
    ///
    /// # Errors
    ///
    /// When it is not running.
    pub fn resume(&mut self) -> Result<(), Error> {
        self.process.resume()
    }
}

/// Settings of a [`TestServer`].
#[derive(Clone, Debug, Default)]
pub struct TestServerBuilder {
    options: ServerOptions,
}

impl TestServerBuilder {
    /// The address that it listens on; 127.0.0.1 unless given.
    #[must_use]
    pub const fn host(mut self, host: IpAddr) -> Self {
        self.options.host = host;
        self
    }

    /// The default user's password. The same as `arg("--requirepass", …)`.
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.options.set_password(password);
        self
    }

    /// One more argument with its value, as in `arg("--maxmemory", "10mb")`.
    #[must_use]
    pub fn arg(mut self, name: &str, value: &str) -> Self {
        self.options.push(name, value);
        self
    }

    /// More arguments, as they are: `args(["--user", "alice", "on", ">secret", "~*", "+@all"])`.
    #[must_use]
    pub fn args<'a>(mut self, args: impl IntoIterator<Item = &'a str>) -> Self {
        self.options.args.extend(args.into_iter().map(str::to_owned));
        self
    }

    /// Starts the server and waits until it answers.
    ///
    /// # Errors
    ///
    /// When there is no server program, or it does not answer.
    pub fn start(self) -> Result<TestServer, Error> {
        Ok(TestServer { process: ServerProcess::start(&self.options)? })
    }
}
