//! The exported `wire`: requests and replies as bytes.

use alloc::string::String;
use alloc::vec::Vec;

use bytes::Bytes;
use keyslot_core::cluster::{Command, Destination};
use keyslot_core::command::Finder;
use keyslot_core::error::Error;
use keyslot_core::resp::{Frames, RequestError, take_request};
use keyslot_core::session::{Budget, EncodedCompletions, Portion, RepliesInOrder};

use crate::bindings::exports::keyslot::redis::redis_cluster::{ClientBorrow, ConnectionBorrow};
use crate::bindings::exports::keyslot::redis::types;
use crate::bindings::exports::keyslot::redis::wire::{Completions, Guest};
use crate::client::Client;
use crate::component::Component;
use crate::connection::Connection;
use crate::convert;
use crate::shared::{Shared, destination};

impl Guest for Component {
    fn exchange(client: ClientBorrow<'_>, requests: Vec<u8>) -> Result<Vec<u8>, types::Error> {
        let shared = &client.get::<Client>().0;
        let requests = Requests::new(requests)?;
        let mut replies = RepliesInOrder::new(requests.count);
        let mut budget = Budget::new(shared.reply_size);
        let mut commands = requests.commands(false, Destination::Cluster);
        shared.driver.borrow_mut().run(&mut commands, &mut |index, ended| {
            replies.put(index, budget.within(ended));
        });
        Ok(replies.into_bytes())
    }

    fn submit(client: ClientBorrow<'_>, requests: Vec<u8>) -> Result<u64, types::Error> {
        submit(&client.get::<Client>().0, requests, false, Destination::Cluster)
    }

    fn submit_to(client: ClientBorrow<'_>, node: String, requests: Vec<u8>) -> Result<u64, types::Error> {
        let destination = destination(&node).map_err(convert::wit_error)?;
        submit(&client.get::<Client>().0, requests, false, destination)
    }

    fn submit_on(connection: ConnectionBorrow<'_>, requests: Vec<u8>) -> Result<u64, types::Error> {
        let connection = connection.get::<Connection>();
        submit(&connection.shared, requests, true, Destination::Lent(connection.lease))
    }

    fn submit_transaction(client: ClientBorrow<'_>, requests: Vec<u8>) -> Result<u64, types::Error> {
        submit_transaction(&client.get::<Client>().0, requests, Destination::Cluster)
    }

    fn submit_transaction_on(
        connection: ConnectionBorrow<'_>,
        requests: Vec<u8>,
    ) -> Result<u64, types::Error> {
        let connection = connection.get::<Connection>();
        submit_transaction(&connection.shared, requests, Destination::Lent(connection.lease))
    }

    fn wait(client: ClientBorrow<'_>, timeout_ms: u32) -> Completions {
        let shared = &client.get::<Client>().0;
        let mut completions = EncodedCompletions::default();
        shared.wait(timeout_ms, Portion::encoded(shared.reply_size), |ticket, ended| {
            completions.put(ticket, ended);
        });
        let EncodedCompletions { tickets, replies } = completions;
        Completions { tickets, replies }
    }
}

fn submit(
    shared: &Shared,
    requests: Vec<u8>,
    lent: bool,
    destination: Destination,
) -> Result<u64, types::Error> {
    let requests = Requests::new(requests)?;
    Ok(shared.driver.borrow_mut().submit(&mut requests.commands(lent, destination)))
}

fn submit_transaction(
    shared: &Shared,
    requests: Vec<u8>,
    destination: Destination,
) -> Result<u64, types::Error> {
    let requests = Requests::new(requests)?;
    let mut commands = Vec::with_capacity(requests.count);
    let mut rest: &[u8] = &requests.bytes;
    let mut args = Vec::new();
    while let Ok(Some(_)) = take_request(&mut rest, &mut args) {
        commands.push(args.clone());
    }
    let mut driver = shared.driver.borrow_mut();
    let command = Command::transaction(&commands, driver.cluster().scripts()).map_err(convert::wit_error)?;
    Ok(driver.submit(&mut core::iter::once(Ok((command, destination)))))
}

/// Bytes that are whole requests.
struct Requests {
    bytes: Bytes,
    count: usize,
}

impl Requests {
    /// Looks at all of them, so that nothing is sent when the last one is wrong.
    fn new(bytes: Vec<u8>) -> Result<Self, types::Error> {
        let mut args = Vec::new();
        let mut rest = bytes.as_slice();
        let mut count = 0;
        loop {
            match take_request(&mut rest, &mut args) {
                Ok(Some(_)) => count += 1,
                Ok(None) => return Ok(Self { bytes: bytes.into(), count }),
                Err(error) => return Err(no_requests(count, error)),
            }
        }
    }

    /// The commands.
    fn commands(
        &self,
        lent: bool,
        destination: Destination,
    ) -> impl Iterator<Item = Result<(Command, Destination), Error>> + '_ {
        let mut rest: &[u8] = &self.bytes;
        let mut args = Vec::new();
        let mut finder = Finder::default();
        let mut frames = Frames::new(self.bytes.clone());
        core::iter::from_fn(move || {
            let frame = take_request(&mut rest, &mut args).ok()??;
            let command = Command::of_request(frames.frame(frame), &args, lent, &mut finder);
            Some(command.map(|command| (command, destination.clone())))
        })
    }
}

fn no_requests(whole: usize, error: RequestError) -> types::Error {
    convert::wit_error(Error::InvalidArgument(alloc::format!(
        "behind {whole} requests: {error} (requests are RESP arrays of bulk strings)"
    )))
}
