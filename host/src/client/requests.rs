//! A call's commands as the bytes that go to the component.

use std::collections::VecDeque;

use bytes::BytesMut;
use keyslot_core::resp::encode_command;

/// How many commands a piece has at most.
const PIECE_COMMANDS_MAX: usize = 10_000;

/// How many bytes a piece has, unless one command alone has more.
const PIECE_BYTES_MAX: usize = 1 << 20;

/// Commands, encoded. A long pipeline is in several pieces, which follow each other into the component as there is room.
pub(super) struct Requests {
    pieces: VecDeque<Piece>,
    count: usize,
}

/// Some of a call's commands.
pub(super) struct Piece {
    pub(super) bytes: BytesMut,
    pub(super) count: usize,
}

impl Requests {
    /// One command.
    pub(super) fn one<A: AsRef<[u8]>>(args: &[A]) -> Self {
        Self::many(std::iter::once(args))
    }

    /// Many, in order.
    pub(super) fn many<A: AsRef<[u8]>>(commands: impl Iterator<Item = impl AsRef<[A]>>) -> Self {
        let mut pieces = VecDeque::new();
        let mut piece = Piece { bytes: BytesMut::new(), count: 0 };
        let mut count = 0;
        for command in commands {
            if piece.count >= PIECE_COMMANDS_MAX || piece.bytes.len() >= PIECE_BYTES_MAX {
                pieces.push_back(std::mem::replace(&mut piece, Piece { bytes: BytesMut::new(), count: 0 }));
            }
            encode_command(command.as_ref(), &mut piece.bytes);
            piece.count += 1;
            count += 1;
        }
        if piece.count > 0 {
            pieces.push_back(piece);
        }
        Self { pieces, count }
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
            assert_eq!(piece.bytes, b"*1\r\n$4\r\nPING\r\n".repeat(piece.count)[..]);
            counts.push(piece.count);
        }
        assert_eq!(counts, [10_000, 10_000, 5_000]);
        let large = vec![vec![0; PIECE_BYTES_MAX]; 2];
        assert_eq!(Requests::many([&large, &large].into_iter()).pieces(), 2);
        assert_eq!(Requests::many(std::iter::empty::<Vec<Vec<u8>>>()).pieces(), 0);
    }
}
