//! MULTI, commands and EXEC as one command.

use alloc::format;
use alloc::vec::Vec;

use bytes::BytesMut;

use super::prepared::{Command, Effect};
use super::route::Route;
use super::script::Scripts;
use crate::error::Error;
use crate::resp::encode_command;

impl Command {
    /// MULTI, these commands and EXEC as one request. A script that is known is sent whole (EVAL),
    /// for NOSCRIPT inside a transaction could not be mended.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for an empty command, and for one that a transaction cannot have.
    /// That the keys are in different slots is an error where there is a cluster.
    pub fn transaction(commands: &[Vec<&[u8]>], scripts: &Scripts) -> Result<Self, Error> {
        let mut frame = BytesMut::new();
        encode_command(&["MULTI"], &mut frame);
        let mut route = Route::Any;
        let (mut read_only, mut keys_are_guessed) = (true, false);
        for (index, args) in commands.iter().enumerate() {
            let of_command = |error| match error {
                Error::InvalidArgument(text) => {
                    Error::InvalidArgument(format!("command {} of the transaction: {text}", index + 1))
                }
                other => other,
            };
            let command = Self::new(args).map_err(of_command)?;
            read_only &= command.read_only;
            keys_are_guessed |= command.keys_are_guessed;
            route = match (route, command.route) {
                (Route::Slot(one), Route::Slot(other)) if one != other => {
                    let text = format!(
                        "command {} of the transaction is for slot {other}, those before it are for slot {one}; \
                         give their keys one hash tag",
                        index + 1
                    );
                    Route::CrossSlot(text.into())
                }
                (known @ (Route::CrossSlot(_) | Route::OneNode), Route::Any | Route::OneNode)
                | (known @ Route::CrossSlot(_), _)
                | (known @ Route::Slot(_), Route::Any | Route::OneNode | Route::Slot(_)) => known,
                (_, own) => own,
            };
            match scripts.whole(args) {
                Some(whole) => encode_command(&whole, &mut frame),
                None => frame.extend_from_slice(&command.frame),
            }
        }
        encode_command(&["EXEC"], &mut frame);
        let queued = Some(u32::try_from(commands.len()).unwrap_or(u32::MAX));
        let frame = frame.freeze();
        Ok(Self { frame, route, keys_are_guessed, read_only, effect: Effect::Ends, queued, ..Self::plain() })
    }
}
