//! The poll loop over WASI 0.2: it does what the machine says, tells it what happens, and sleeps in
//! between.
//!
//! One `poll` covers all sockets, all look-ups and the machine's next deadline. Nothing runs
//! between two calls of the component; `Driver::resume` catches up with what the sockets did
//! meanwhile.
//!
//! While a call of the host waits, every request of the client stands, whatever node it is for. So
//! no call but `poll` may wait. What wasmtime-wasi 48 does:
//!
//! | call | waits? |
//! |---|---|
//! | `poll` | yes, and it alone: for all sockets, look-ups and the next deadline together |
//! | drop of an output-stream | **yes**, until the write under way has ended: called when `check-write` gives a permit or an error (`dying.rs`) |
//! | drop of an input-stream | could, as its trait says; a socket's has nothing to wait for |
//! | `check-write`, `write`, `read` | no: what the system does not take now a task of the host writes; `read` gives an empty list |
//! | `shutdown` | no: it takes effect after the write under way |
//! | drop of a socket | no: dialling is given up, and a descriptor is closed that does not linger |
//! | `start-connect`, `finish-connect` | no: the second says `would-block` |
//! | `resolve-addresses`, `resolve-next-address` | no: a thread of the host looks up; the second says `would-block` |
//! | drop of a look-up | no: its thread goes on by itself, and nobody hears what it finds |
//! | `subscribe`, `subscribe-instant`, drop of a pollable | no: entries of a table |
//! | `create-tcp-socket`, `instance-network`, `now`, `get-random-u64`, what is asked of an error | no |
//!
//! The crate's own host (`host/src/tcp.rs`) ends the write instead of waiting for it.
//!
//! | file | what is there |
//! |---|---|
//! | `socket.rs`, `lookup.rs` | one TCP connection, one name look-up |
//! | `dying.rs` | connections that cannot be dropped yet |
//! | `sleep.rs` | the clock, and the one poll |

mod dying;
mod lookup;
mod sleep;
mod socket;

use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;
use keyslot_core::cluster::{
    Cluster, Command, ConnId, Destination, Event, Input, LeaseId, Output, ScanId, ScanOptions,
};
use keyslot_core::error::Error;
use keyslot_core::session::{Ended, Portion, Session};
use keyslot_core::slot::Slot;
use keyslot_core::time::Instant;
use litemap::LiteMap;

use self::lookup::Lookup;
use self::sleep::{Source, Timer, now, sleep};
use self::socket::{READ_LARGE, READ_SMALL, Refusal, Socket};

/// After so long without a call all sockets are looked at first, not only those that are about to
/// be used.
const IDLE: Duration = Duration::from_millis(100);

/// How much is read from one socket before the others have their turn, in bytes.
const TURN: u64 = 512 << 10;

/// So many bytes may wait for the sockets to take them before `run` hands more commands to the
/// machine.
const WINDOW: usize = 4 << 20;

/// Commands to hand in, and where to; those that cannot be sent are their errors.
pub(crate) type Commands<'a> = &'a mut dyn Iterator<Item = Result<(Command, Destination), Error>>;

pub(crate) struct Driver {
    cluster: Cluster,
    sockets: LiteMap<ConnId, Socket>,
    lookups: LiteMap<ConnId, Lookup>,
    session: Session,
    ready: Option<Result<(), Error>>,
    timer: Timer,
    /// Sockets that may hold more than was read in their last turn. They get another one soon.
    unread: Vec<ConnId>,
    socket_writes: u64,
    last_call_end: Instant,
}

/// How long a socket is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Until {
    /// Until a read brought less than it asked for.
    Short,
    /// Until a read brought nothing.
    Empty,
}

impl Driver {
    pub(crate) fn new(cluster: Cluster) -> Self {
        Self {
            cluster,
            sockets: LiteMap::new(),
            lookups: LiteMap::new(),
            session: Session::default(),
            ready: None,
            timer: Timer::default(),
            unread: Vec::new(),
            socket_writes: 0,
            last_call_end: now(),
        }
    }

    pub(crate) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The machine, for what gives it nothing to do.
    pub(crate) fn cluster_mut(&mut self) -> &mut Cluster {
        &mut self.cluster
    }

    /// What has happened since this was last asked, up to now.
    pub(crate) fn take_events(&mut self) -> (Vec<(Instant, Event)>, u64) {
        self.catch_up();
        self.cluster.take_events()
    }

    pub(crate) fn socket_writes(&self) -> u64 {
        self.socket_writes
    }

    /// Runs until the client's start has ended.
    pub(crate) fn start(&mut self) -> Result<(), Error> {
        loop {
            let wake = self.drain();
            if let Some(result) = self.ready.take() {
                self.last_call_end = now();
                return result;
            }
            self.sleep(wake);
        }
    }

    /// Runs commands until each has its result: `take` gets it with the command's number. They are
    /// handed in as fast as the sockets take them, so that the memory for what is on its way
    /// has a bound.
    #[inline(never)] // It is large, and has many callers.
    pub(crate) fn run(&mut self, commands: Commands<'_>, take: &mut dyn FnMut(usize, Ended)) {
        let mut now = self.resume();
        let mut commands = commands.enumerate();
        let mut open = 0usize;
        let mut all_in = false;
        loop {
            let mut room = WINDOW.saturating_sub(self.unwritten());
            while !all_in && room > 0 {
                match commands.next() {
                    Some((index, Ok((command, destination)))) => {
                        room = room.saturating_sub(command.length());
                        self.session.call(&mut self.cluster, now, index, command, &destination);
                        open += 1;
                        self.write_what_is_much(now);
                    }
                    Some((index, Err(error))) => take(index, Err(error)),
                    None => all_in = true,
                }
            }
            self.look_before_writing(now);
            let wake = self.drain();
            for (index, ended) in self.session.take_returned() {
                open -= 1;
                take(index, ended);
            }
            if open == 0 && all_in {
                break;
            }
            if all_in || self.unwritten() >= WINDOW || !self.unread.is_empty() {
                now = self.sleep(wake).unwrap_or_else(self::now);
            }
        }
        self.last_call_end = self::now();
    }

    /// Runs one command until it has its result.
    pub(crate) fn run_one(&mut self, command: Command, destination: Destination) -> Ended {
        let mut result = Err(Error::Closed);
        self.run(&mut core::iter::once(Ok((command, destination))), &mut |_, ended| result = ended);
        result
    }

    /// Takes commands in and writes what the sockets take now. Gives the first one's ticket; the
    /// others' follow it. One that cannot be sent has ended with its error.
    pub(crate) fn submit(&mut self, commands: Commands<'_>) -> u64 {
        let started = self.resume();
        let first = self.session.next_ticket();
        for command in commands {
            match command {
                Ok((command, destination)) => {
                    self.session.submit(&mut self.cluster, started, command, &destination);
                    self.write_what_is_much(started);
                }
                Err(error) => self.session.refuse(error),
            }
        }
        self.look_before_writing(started);
        self.drain();
        self.last_call_end = started;
        first
    }

    /// Lets the servers begin while more commands are handed in.
    fn write_what_is_much(&mut self, now: Instant) {
        while let Some(conn) = self.cluster.next_full() {
            // As before every write. Nothing is flushed when not all was read.
            self.look_at(conn, now, Until::Empty);
            while let Some(bytes) = self.cluster.flush(conn) {
                self.transmit(conn, bytes);
            }
        }
    }

    fn transmit(&mut self, conn: ConnId, bytes: Bytes) {
        match self.sockets.get_mut(&conn).map(|socket| socket.send(bytes)) {
            Some(Ok(writes)) => self.socket_writes += writes,
            Some(Err(reason)) => self.after_write(conn, Err(reason), now(), Until::Short),
            None => {}
        }
    }

    /// How many bytes wait for the sockets to take them.
    fn unwritten(&self) -> usize {
        self.sockets.values().map(Socket::unwritten).sum()
    }

    /// Runs until a ticket's command has ended, none is under way, the time is up or the host ends
    /// the sleep.
    pub(crate) fn wait(&mut self, timeout: Duration) {
        let started = self.resume();
        let deadline = started + timeout;
        self.last_call_end = started;
        let mut over = false;
        self.look_before_writing(started);
        loop {
            let wake = self.drain();
            if over || self.session.is_wait_over() {
                break;
            }
            let woken = self.sleep(Some(wake.map_or(deadline, |wake| wake.min(deadline))));
            over = woken.is_none_or(|now| now >= deadline);
            self.last_call_end = woken.unwrap_or_else(now);
        }
    }

    /// Gives up the commands with these tickets: first ones, and how many there are. Gives those
    /// that were under way.
    pub(crate) fn cancel(&mut self, tickets: impl Iterator<Item = (u64, u64)>) -> Vec<u64> {
        let cancelled = self.session.cancel(&mut self.cluster, tickets);
        self.look_and_drain();
        cancelled
    }

    /// Takes the completions that are in this portion.
    pub(crate) fn take_completions(&mut self, portion: Portion, give: impl FnMut(u64, Ended)) {
        self.session.take_completions(portion, give);
    }

    /// Lends a connection, which may still have to come.
    pub(crate) fn lend(&mut self, slot: Option<Slot>) -> LeaseId {
        // One that has ended meanwhile is not lent.
        self.catch_up();
        let lease = self.cluster.lend(self.last_call_end, slot);
        self.look_and_drain();
        lease
    }

    /// Takes a lent connection back.
    pub(crate) fn give_back(&mut self, lease: LeaseId) {
        self.cluster.give_back(lease);
        self.look_and_drain();
    }

    /// Begins a scan.
    pub(crate) fn open_scan(&mut self, options: ScanOptions) -> Result<ScanId, Error> {
        self.cluster.open_scan(options)
    }

    /// Ends a scan. What waited for its batches has ended, too.
    pub(crate) fn close_scan(&mut self, scan: ScanId) {
        self.cluster.close_scan(scan);
        self.look_and_drain();
    }

    /// Closes everything.
    pub(crate) fn close(&mut self) {
        self.cluster.close();
        self.drain();
    }

    /// Looks at all sockets, and does what has fallen due.
    fn catch_up(&mut self) {
        let now = now();
        self.look_at_all(self.sockets.keys().copied().collect(), now);
        self.cluster.handle(now, Input::Tick);
        self.look_before_writing(now);
        self.drain();
        self.last_call_end = now;
    }

    /// Catches up after a time without calls. What the sockets hold came during that time, not
    /// after it, so the machine gets it before it hears how late it is.
    fn resume(&mut self) -> Instant {
        let now = now();
        dying::look(now);
        if now.saturating_since(self.last_call_end) >= IDLE {
            self.look_at_all(self.sockets.keys().copied().collect(), self.last_call_end);
            self.cluster.handle(now, Input::Tick);
        }
        now
    }

    /// Whatever the sockets hold that are about to be written to answers nothing that is still to
    /// be sent, and one that has ended takes none of it. So they are read until they are empty.
    /// One that still holds something after its turn, and owes no reply, is not written to: the
    /// machine keeps what is for it.
    fn look_before_writing(&mut self, now: Instant) {
        let mut looked_at: LiteMap<ConnId, ()> = LiteMap::new();
        loop {
            // A reply that was found may have let a command go over another connection.
            let next: Vec<_> =
                self.cluster.unflushed().filter(|conn| !looked_at.contains_key(conn)).collect();
            if next.is_empty() {
                return;
            }
            for conn in next {
                looked_at.insert(conn, ());
                self.look_at(conn, now, Until::Empty);
            }
        }
    }

    /// As `drain`, after a look at what is about to be written to.
    fn look_and_drain(&mut self) {
        if self.cluster.unflushed().next().is_some() {
            self.look_before_writing(now());
        }
        self.drain();
    }

    fn look_at_all(&mut self, conns: Vec<ConnId>, now: Instant) {
        for conn in conns {
            self.look_at(conn, now, Until::Short);
        }
    }

    /// Does all that the machine says. Gives the instant to wake it at.
    fn drain(&mut self) -> Option<Instant> {
        loop {
            match self.cluster.poll_output() {
                Output::Resolve { conn, host } => match Lookup::start(&host) {
                    Ok(lookup) => {
                        self.lookups.insert(conn, lookup);
                    }
                    Err(reason) => self.tell(Input::Resolved { conn, result: Err(reason) }),
                },
                Output::Connect { conn, address } => match dying::dial(address) {
                    Ok(socket) => {
                        self.sockets.insert(conn, socket);
                    }
                    Err(Refusal::NoSocket(reason)) => self.tell(Input::NoSocket { conn, reason }),
                    Err(Refusal::Failed(reason)) => self.tell(Input::Closed { conn, reason }),
                },
                Output::Transmit { conn, bytes } => self.transmit(conn, bytes),
                Output::Close { conn } => {
                    self.close_socket(conn);
                    self.lookups.remove(&conn);
                }
                Output::Ready(result) => self.ready = Some(result),
                Output::Done { token, result } => self.session.done(token, result),
                Output::WaitUntil(wake) => return wake,
            }
        }
    }

    /// Sleeps until a socket, a look-up or the instant has come, and tells the machine. Gives the
    /// time then; none when the host ended the sleep early.
    fn sleep(&mut self, wake: Option<Instant>) -> Option<Instant> {
        let unread = core::mem::take(&mut self.unread);
        self.timer.set(if unread.is_empty() { wake } else { Some(now()) });
        let ready = sleep(&self.sockets, &self.lookups, &self.timer);
        if ready.is_empty() {
            self.unread = unread;
            return None;
        }
        let now = now();
        dying::look(now);
        let mut seen = None;
        for source in ready {
            match source {
                // A socket that can be read and written is in the list twice in a row.
                Source::Socket(conn) if seen == Some(conn) => {}
                Source::Socket(conn) => {
                    seen = Some(conn);
                    self.look_at(conn, now, Until::Short);
                }
                Source::Lookup(conn) => self.look_up(conn, now),
                Source::Timer => self.timer = Timer::default(),
            }
        }
        for conn in unread {
            self.look_at(conn, now, Until::Empty);
        }
        self.cluster.handle(now, Input::Tick);
        Some(now)
    }

    /// Writes, reads or finishes dialling, as the socket is ready to.
    fn look_at(&mut self, conn: ConnId, now: Instant, until: Until) {
        let Some(socket) = self.sockets.get_mut(&conn) else {
            return;
        };
        if socket.is_dialling() {
            match socket.finish_dial() {
                Ok(false) => {}
                Ok(true) => self.cluster.handle(now, Input::Connected { conn }),
                Err(reason) => {
                    self.close_socket(conn);
                    self.cluster.handle(now, Input::Closed { conn, reason });
                }
            }
            return;
        }
        let written = socket.write();
        self.after_write(conn, written, now, until);
    }

    /// Reads what has come in, and ends the connection when it has ended or cannot be written to.
    /// The server's last words come first: they may say why.
    fn after_write(&mut self, conn: ConnId, written: Result<u64, String>, now: Instant, until: Until) {
        let read = self.receive(conn, now, until);
        match (written, read) {
            (Ok(writes), Ok(is_unread)) => {
                self.socket_writes += writes;
                self.cluster.set_unread(conn, is_unread);
                if is_unread && !self.unread.contains(&conn) {
                    self.unread.push(conn);
                }
            }
            (Err(reason), _) | (_, Err(reason)) => {
                if self.close_socket(conn) {
                    self.cluster.handle(now, Input::Closed { conn, reason });
                }
            }
        }
    }

    /// Gives the machine what has come in, up to a turn's share: a server that sends without end
    /// must not keep the loop from its deadlines and the other sockets. True when there may be
    /// more.
    fn receive(&mut self, conn: ConnId, now: Instant, until: Until) -> Result<bool, String> {
        let mut received = 0;
        while received < TURN {
            // The machine may have closed it over what it was given.
            let Some(socket) = self.sockets.get_mut(&conn) else {
                return Ok(false);
            };
            let much = received > 0;
            let bytes = socket.read(much)?;
            let length = bytes.len() as u64;
            if length > 0 {
                self.cluster.handle(now, Input::Received { conn, bytes: Bytes::from(bytes) });
            }
            received += length;
            let is_short = length < if much { READ_LARGE } else { READ_SMALL };
            if length == 0 || is_short && until == Until::Short {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Ends a connection. False when it had ended.
    fn close_socket(&mut self, conn: ConnId) -> bool {
        self.sockets.remove(&conn).map(dying::close).is_some()
    }

    fn look_up(&mut self, conn: ConnId, now: Instant) {
        if let Some(result) = self.lookups.get_mut(&conn).and_then(Lookup::advance) {
            self.lookups.remove(&conn);
            self.cluster.handle(now, Input::Resolved { conn, result });
        }
    }

    fn tell(&mut self, input: Input) {
        self.cluster.handle(now(), input);
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        while let Some((conn, _)) = self.sockets.last() {
            let conn = *conn;
            self.close_socket(conn);
        }
    }
}
