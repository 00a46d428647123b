//! A call's commands as the bytes that go to the component.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use keyslot_core::resp::{RequestError, encode_command, take_request};

use crate::Error;

/// How many commands a piece has at most.
const PIECE_COMMANDS_MAX: usize = 10_000;

/// How many bytes a piece has, unless one command alone has more.
const PIECE_BYTES_MAX: usize = 1 << 20;

/// Commands, encoded. A long pipeline is in several pieces, which follow each other into the
/// component as there is room.
pub(super) struct Requests {
    pieces: VecDeque<Piece>,
    count: usize,
}

/// Some of a call's commands.
pub(super) struct Piece {
    pub(super) bytes: BytesMut,
    /// How many bytes each command has.
    pub(super) sizes: Vec<usize>,
}

impl Piece {
    fn new() -> Self {
        Self { bytes: BytesMut::new(), sizes: Vec::new() }
    }

    /// How many commands it has.
    pub(super) fn count(&self) -> usize {
        self.sizes.len()
    }
}

impl Requests {
    /// One command.
    pub(super) fn one<A: AsRef<[u8]>>(args: &[A]) -> Self {
        Self::many(std::iter::once(args))
    }

    /// Many, in order.
    pub(super) fn many<A: AsRef<[u8]>>(commands: impl Iterator<Item = impl AsRef<[A]>>) -> Self {
        let mut pieces = VecDeque::new();
        let mut piece = Piece::new();
        let mut count = 0;
        for command in commands {
            if is_full(piece.count(), piece.bytes.len()) {
                pieces.push_back(std::mem::replace(&mut piece, Piece::new()));
            }
            let before = piece.bytes.len();
            encode_command(command.as_ref(), &mut piece.bytes);
            piece.sizes.push(piece.bytes.len() - before);
            count += 1;
        }
        if piece.count() > 0 {
            pieces.push_back(piece);
        }
        Self { pieces, count }
    }

    /// Those that are encoded already.
    pub(super) fn encoded(bytes: Bytes) -> Result<Self, Error> {
        // How many commands each piece has, and how many bytes.
        let mut pieces = vec![(Vec::new(), 0)];
        let mut count = 0;
        let mut rest = &bytes[..];
        let mut words = Vec::new();
        while let Some(command) =
            take_request(&mut rest, &mut words).map_err(|error| no_requests(count, error))?
        {
            if pieces.last().is_some_and(|(sizes, size): &(Vec<usize>, usize)| is_full(sizes.len(), *size)) {
                pieces.push((Vec::new(), 0));
            }
            if let Some((sizes, size)) = pieces.last_mut() {
                sizes.push(command.len());
                *size += command.len();
            }
            count += 1;
        }
        let mut bytes = BytesMut::from(bytes);
        let pieces = pieces.into_iter().filter(|(sizes, _)| !sizes.is_empty());
        let pieces = pieces.map(|(sizes, size)| Piece { bytes: bytes.split_to(size), sizes }).collect();
        Ok(Self { pieces, count })
    }

    /// Many that are one transaction: there is one reply for all.
    pub(super) fn transaction<A: AsRef<[u8]>>(commands: &[Vec<A>]) -> Self {
        let mut bytes = BytesMut::new();
        for command in commands {
            encode_command(command, &mut bytes);
        }
        let sizes = vec![bytes.len()];
        Self { pieces: VecDeque::from([Piece { bytes, sizes }]), count: 1 }
    }

    /// How many commands they were at first.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// How many pieces are left.
    pub(super) fn pieces(&self) -> usize {
        self.pieces.len()
    }

    /// The next piece.
    pub(super) fn first(&self) -> Option<&Piece> {
        self.pieces.front()
    }

    /// Takes it.
    pub(super) fn take_first(&mut self) -> Option<Piece> {
        self.pieces.pop_front()
    }
}

/// The component's own words, which it has no chance to say.
fn no_requests(whole: usize, error: RequestError) -> Error {
    Error::InvalidArgument(format!(
        "behind {whole} requests: {error} (requests are RESP arrays of bulk strings)"
    ))
}

/// Whether a piece of so many commands and bytes takes no more.
fn is_full(commands: usize, bytes: usize) -> bool {
    commands >= PIECE_COMMANDS_MAX || bytes >= PIECE_BYTES_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_pipelines_are_in_pieces() {
        let commands: Vec<Vec<Vec<u8>>> = (0..25_000).map(|_| vec![b"PING".to_vec()]).collect();
        let mut requests = Requests::many(commands.iter());
        assert_eq!((requests.count(), requests.pieces()), (25_000, 3));
        let mut counts = Vec::new();
        while let Some(piece) = requests.take_first() {
            assert_eq!(piece.bytes, b"*1\r\n$4\r\nPING\r\n".repeat(piece.count())[..]);
            counts.push(piece.count());
        }
        assert_eq!(counts, [10_000, 10_000, 5_000]);
        let encoded = Requests::encoded(b"*1\r\n$4\r\nPING\r\n".repeat(25_000).into()).unwrap();
        assert_eq!(encoded.count(), 25_000);
        assert_eq!(encoded.pieces.iter().map(Piece::count).collect::<Vec<_>>(), counts);
        assert!(encoded.pieces.iter().all(|piece| piece.bytes.len() == piece.count() * 14));
        assert_eq!(Requests::encoded(Bytes::new()).map(|requests| requests.pieces()), Ok(0));
        assert!(Requests::encoded(Bytes::from_static(b"*1\r\n$4\r\nPI")).is_err());
        let large = vec![vec![0; PIECE_BYTES_MAX]; 2];
        assert_eq!(Requests::many([&large, &large].into_iter()).pieces(), 2);
        assert_eq!(Requests::many(std::iter::empty::<Vec<Vec<u8>>>()).pieces(), 0);
    }
}
