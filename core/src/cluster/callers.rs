//! What callers ask for: requests, connections of their own, scans.

use alloc::string::ToString;
use alloc::vec::Vec;

use super::ids::{LeaseId, RequestId, ScanId, Token};
use super::io::Destination;
use super::machine::{Cluster, Phase};
use super::pool::Lending;
use super::requests::request::{Request, Target};
use super::scans::ScanOptions;
use crate::command::Command;
use crate::error::Error;
use crate::slot::Slot;
use crate::time::Instant;

impl Cluster {
    /// Takes a request. Its end is an [`Output::Done`](super::Output::Done) with this token.
    pub fn submit(
        &mut self,
        now: Instant,
        command: Command,
        destination: &Destination,
        token: Token,
    ) -> RequestId {
        if now > self.cx.now {
            self.advance(now);
        }
        let id = self.accept(
            command,
            match destination {
                Destination::Cluster => None,
                Destination::Node(address) => Some(Target::Node(address.clone())),
                Destination::Lent(lease) => Some(Target::Lent(*lease)),
                Destination::Scan(scan) => Some(Target::Scan(*scan)),
            },
            token,
        );
        self.carry_on();
        self.drive_refresh();
        self.carry_on();
        id
    }

    /// Gives a request up: no [`Output::Done`](super::Output::Done) comes for it. It may be
    /// executed all the same.
    pub fn forget(&mut self, id: RequestId) {
        let request = self.requests.get(id);
        let blocked =
            request.filter(|request| request.command().blocks.is_some() && request.is_on_connection());
        let blocked = blocked.and_then(Request::lease);
        let on = self.requests.connections_of(id);
        self.abandon(id);
        self.carry_on();
        // The server would take something for nobody.
        if let Some(lease) = blocked {
            self.end_given_up(lease);
        }
        // It, or its parts, may have been the last on connections that take no more.
        for conn in on {
            self.close_if_drained(conn);
        }
        self.carry_on();
    }

    /// Lends a connection of one's own to the primary of a slot, or to any, until
    /// [`give_back`](Self::give_back).
    ///
    /// It may have to be opened, or to come back from somebody else: requests wait for it. When
    /// none is there within the check-out time-out, they end with the reason, and so does every
    /// one after them.
    pub fn lend(&mut self, now: Instant, slot: Option<Slot>) -> LeaseId {
        if now > self.cx.now {
            self.advance(now);
        }
        let place = slot.map_or(Lending::Anywhere, Lending::Owner);
        let id = self.open_lease(place, self.cx.config.pool.checkout_timeout);
        self.carry_on();
        self.drive_refresh();
        self.carry_on();
        id
    }

    /// Gives a connection back, or stops waiting for one. Requests that are under way on it end.
    pub fn give_back(&mut self, lease: LeaseId) {
        self.release_lease(lease);
        self.carry_on();
    }

    /// Begins a scan. Nothing is asked before the first [`next_batch`](Self::next_batch).
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a token that is none, or that does not go with the other
    /// options; [`Error::Closed`].
    pub fn open_scan(&mut self, options: ScanOptions) -> Result<ScanId, Error> {
        if let Phase::Closed = self.phase {
            return Err(Error::Closed);
        }
        self.scans.open(options)
    }

    /// Asks for the next keys of a scan. The request's end is an array of them, or null when all
    /// have been handed out. The array is empty when the request's time ran out while pages
    /// came that held none.
    ///
    /// Of one hash or sorted set the array has two items for each element. Keys that were there
    /// throughout the scan come at least once. After an error the scan goes on with the next
    /// call.
    pub fn next_batch(&mut self, now: Instant, scan: ScanId, token: Token) -> RequestId {
        self.submit(now, Command::next_batch(), &Destination::Scan(scan), token)
    }

    /// How far a scan has come, as of the last batch that was handed out: for
    /// [`ScanOptions::token`]. There is none of a scan of one key, nor of a client that was
    /// closed.
    #[must_use]
    pub fn scan_token(&self, scan: ScanId) -> Option<Vec<u8>> {
        self.scans.token(scan)
    }

    /// Ends a scan. Requests that wait for its batches end.
    pub fn close_scan(&mut self, id: ScanId) {
        let Some((asked, waiting)) = self.scans.close(id) else {
            return;
        };
        for request in asked {
            self.forget(request);
        }
        for request in waiting {
            self.finish(request, Err(Error::InvalidArgument("the scan was closed".to_string())));
        }
        self.carry_on();
    }
}
