//! One server process: its folder, its port, its log, and its end.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::connection::{CallError, Connection};
use crate::error::Error;
use crate::ports::ReservedPort;

/// How long a started server may take until it answers.
const START_TIME_MAX: Duration = Duration::from_secs(20);

/// How often a server that finds its port taken is started again on another one.
const START_ATTEMPTS: usize = 5;

/// How many lines of a log are shown.
const LOG_LINES: usize = 20;

/// The program that is started as a server, with the arguments that go before the server's own.
///
/// `KEYSLOT_REDIS_SERVER`, split at spaces, else `redis-server`.
#[must_use]
pub fn server_program() -> Vec<String> {
    let named = std::env::var("KEYSLOT_REDIS_SERVER").unwrap_or_default();
    let words: Vec<String> = named.split_whitespace().map(str::to_owned).collect();
    if words.is_empty() { vec!["redis-server".to_owned()] } else { words }
}

/// What all servers of a builder have in common.
#[derive(Clone, Debug)]
pub(crate) struct ServerOptions {
    /// The address that they listen on.
    pub(crate) host: IpAddr,
    /// Arguments for the server, after those that this crate gives; the last of a name counts.
    pub(crate) args: Vec<String>,
    /// What the default user must say to AUTH.
    pub(crate) password: Option<String>,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self { host: Ipv4Addr::LOCALHOST.into(), args: Vec::new(), password: None }
    }
}

impl ServerOptions {
    pub(crate) fn set_password(&mut self, password: &str) {
        self.password = Some(password.to_owned());
    }

    pub(crate) fn push(&mut self, name: &str, value: &str) {
        if name == "--requirepass" {
            self.set_password(value);
        } else {
            self.args.extend([name.to_owned(), value.to_owned()]);
        }
    }
}

/// A server process that ends when this value goes.
#[derive(Debug)]
pub(crate) struct ServerProcess {
    /// Absent while the server is stopped by [`kill`](Self::kill).
    child: Option<Child>,
    paused: bool,
    args: Vec<String>,
    host: IpAddr,
    password: Option<String>,
    folder: TempDir,
    port: ReservedPort,
}

impl ServerProcess {
    /// Starts a server on a free port and waits until it answers.
    pub(crate) fn start(options: &ServerOptions) -> Result<Self, Error> {
        Self::launch(options)?.ready(options)
    }

    /// Starts several servers at the same time.
    pub(crate) fn start_many(options: &ServerOptions, count: usize) -> Result<Vec<Self>, Error> {
        let launched: Vec<_> = (0..count).map(|_| Self::launch(options)).collect::<Result<_, _>>()?;
        launched.into_iter().map(|process| process.ready(options)).collect()
    }

    /// Starts again the server that was killed, on the same port and in the same folder.
    pub(crate) fn restart(&mut self) -> Result<(), Error> {
        self.kill()?;
        self.spawn()?;
        self.wait_until_answering()
    }

    /// Ends the process at once, as a crash would.
    pub(crate) fn kill(&mut self) -> Result<(), Error> {
        self.paused = false;
        let Some(mut child) = self.child.take() else {
            return Ok(());
        };
        child.kill().and_then(|()| child.wait()).map_err(Error::io("cannot stop a server")).map(drop)
    }

    /// Stops the process where it is: its sockets stay open, and nothing answers.
    pub(crate) fn pause(&mut self) -> Result<(), Error> {
        self.signal("STOP")?;
        self.paused = true;
        Ok(())
    }

    /// Lets a paused process go on.
    pub(crate) fn resume(&mut self) -> Result<(), Error> {
        self.signal("CONT")?;
        self.paused = false;
        Ok(())
    }

    /// Whether the process is there and not paused.
    pub(crate) const fn is_running(&self) -> bool {
        self.child.is_some() && !self.paused
    }

    pub(crate) const fn port(&self) -> u16 {
        self.port.number()
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        SocketAddr::new(self.host, self.port())
    }

    pub(crate) fn id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// A new connection to the server, authenticated where it wants that.
    pub(crate) fn connection(&self) -> Result<Connection, Error> {
        connect(self.address(), self.password.as_deref())
    }

    /// The last lines that the server wrote.
    pub(crate) fn log_tail(&self) -> String {
        let log = fs::read(self.folder.path().join("log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }

    fn launch(options: &ServerOptions) -> Result<Self, Error> {
        let port = ReservedPort::choose(options.host)?;
        let folder = tempfile::Builder::new()
            .prefix("keyslot-server-")
            .tempdir()
            .map_err(Error::io("cannot make a folder for a server"))?;
        let mut process = Self {
            child: None,
            paused: false,
            args: server_args(options, port.number(), &folder),
            host: options.host,
            password: options.password.clone(),
            folder,
            port,
        };
        process.spawn()?;
        Ok(process)
    }

    /// Waits until the server answers; starts another one on another port when this one's was taken
    /// between the choice and the start.
    fn ready(mut self, options: &ServerOptions) -> Result<Self, Error> {
        for _ in 1..START_ATTEMPTS {
            match self.wait_until_answering() {
                Ok(()) => return Ok(self),
                Err(Error::Ended { log, .. }) if log.contains("Address already in use") => {
                    self = Self::launch(options)?;
                }
                Err(error) => return Err(error),
            }
        }
        self.wait_until_answering().map(|()| self)
    }

    fn spawn(&mut self) -> Result<(), Error> {
        let log = File::options()
            .append(true)
            .create(true)
            .open(self.folder.path().join("log"))
            .map_err(Error::io("cannot write a server's log"))?;
        let errors = log.try_clone().map_err(Error::io("cannot write a server's log"))?;
        let program = server_program();
        let mut command = command(&program);
        command.args(&self.args).stdin(Stdio::null()).stdout(log).stderr(errors);
        let child = spawn_for_life(command).map_err(|error| match error.kind() {
            ErrorKind::NotFound => Error::NotInstalled(program[0].clone()),
            _ => Error::Io { what: format!("cannot start {}", program[0]), source: error },
        })?;
        self.child = Some(child);
        Ok(())
    }

    fn wait_until_answering(&mut self) -> Result<(), Error> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten()) {
                self.child = None;
                return Err(Error::Ended {
                    port: self.port(),
                    status: status.to_string(),
                    log: self.log_tail(),
                });
            }
            let answer = Connection::connect_addr(self.address()).and_then(|mut to| to.string(&["PING"]));
            match answer {
                Ok(_) => return Ok(()),
                // A server that wants a password is up as well.
                Err(CallError::Server(error)) if error.code == "NOAUTH" => return Ok(()),
                Err(error) if started.elapsed() > START_TIME_MAX => {
                    return Err(Error::Deadline {
                        what: format!("the server on port {} answers", self.port()),
                        waited: started.elapsed(),
                        last: error.to_string(),
                    });
                }
                Err(_) => thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    /// Sends a signal to the process itself, by the shell's own `kill`: the standard library can
    /// only send SIGKILL.
    fn signal(&self, name: &str) -> Result<(), Error> {
        let Some(id) = self.id() else {
            return Err(Error::Unfit(format!("the server on port {} is not running", self.port())));
        };
        let status = Command::new("sh").arg("-c").arg(format!("kill -{name} {id}")).status();
        match status.map_err(Error::io("cannot run sh"))? {
            status if status.success() => Ok(()),
            status => Err(Error::Unfit(format!("kill -{name} {id}: {status}"))),
        }
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- the server on port {} wrote last:\n{}", self.port(), self.log_tail());
        }
        // Nothing can be done about a process that cannot be stopped.
        let _ = self.kill();
    }
}

/// A new connection to a server of this crate.
pub(crate) fn connect(address: SocketAddr, password: Option<&str>) -> Result<Connection, Error> {
    let mut connection = Connection::connect_addr(address).map_err(Error::call(address.port()))?;
    if let Some(password) = password {
        connection.ok(&["AUTH", password]).map_err(Error::call(address.port()))?;
    }
    Ok(connection)
}

fn server_args(options: &ServerOptions, port: u16, folder: &TempDir) -> Vec<String> {
    let (host, port) = (options.host.to_string(), port.to_string());
    let folder = folder.path().to_string_lossy();
    let mut args: Vec<String> = [
        ["--port", &port],
        ["--bind", &host],
        ["--daemonize", "no"],
        ["--dir", &folder],
        ["--logfile", ""],
        ["--save", ""],
        ["--appendonly", "no"],
    ]
    .into_iter()
    .flatten()
    .map(str::to_owned)
    .collect();
    if let Some(password) = &options.password {
        args.extend(["--requirepass", password, "--masterauth", password].map(str::to_owned));
    }
    args.extend(options.args.iter().cloned());
    args
}

/// The program, run so that the system kills it when this process dies without dropping anything.
/// That takes util-linux's `setpriv`; where it is missing, a killed parent leaves its servers
/// behind.
fn command(program: &[String]) -> Command {
    static GUARD: LazyLock<Vec<OsString>> = LazyLock::new(|| {
        let guard = ["setpriv", "--pdeathsig", "KILL"];
        let works = Command::new(guard[0])
            .args(&guard[1..])
            .arg("true")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
        if works { guard.map(OsString::from).to_vec() } else { Vec::new() }
    });
    // `setpriv` reports a missing program by an exit code, which would hide what is missing.
    let guard = if is_program(&program[0]) { GUARD.as_slice() } else { &[] };
    let mut words = guard.iter().cloned().chain(program.iter().map(OsString::from));
    let mut command = Command::new(words.next().expect("a program has a name"));
    command.args(words);
    command
}

/// Whether a program of this name exists: a path, or a name to be found in the `PATH`.
fn is_program(name: &str) -> bool {
    if name.contains('/') {
        return fs::metadata(name).is_ok();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(name).is_file())
}

/// Starts the command from a thread that lives as long as this process. The signal that `setpriv`
/// asks for comes when the *thread* that started the child ends, and a test's thread may end before
/// its servers.
fn spawn_for_life(command: Command) -> io::Result<Child> {
    type Order = (Command, Sender<io::Result<Child>>);
    static SPAWNER: LazyLock<Sender<Order>> = LazyLock::new(|| {
        let (orders, inbox) = mpsc::channel::<Order>();
        thread::Builder::new()
            .name("server-spawner".to_owned())
            .spawn(move || {
                for (mut command, outcome) in inbox {
                    // The caller waits for it, so it is there.
                    let _ = outcome.send(command.spawn());
                }
            })
            .expect("a thread can be started");
        orders
    });
    let (outcome, result) = mpsc::channel();
    SPAWNER.send((command, outcome)).expect("the spawner runs for ever");
    result.recv().expect("the spawner answers every order")
}
