//! Replies as bytes. The client's own errors are among them as [`wire`](crate::wire) has it.

use alloc::vec::Vec;

use crate::error::Error;
use crate::resp::RawReply;
use crate::wire::encode_error;

/// How a command has ended.
pub type Ended = Result<RawReply, Error>;

/// From this size on a reply's memory is handed over instead of copied, where it comes alone.
pub(super) const LARGE: u64 = 64 << 10;

/// So many bytes are not doubled when they grow.
const MUCH: usize = 16 << 20;

/// Replies in the order of their commands, put together as they come.
#[derive(Debug)]
pub struct RepliesInOrder {
    bytes: Vec<u8>,
    /// Those that came before their turn.
    early: Vec<Option<Ended>>,
    /// Whose turn it is.
    next: usize,
}

impl RepliesInOrder {
    /// For so many commands.
    #[must_use]
    pub fn new(count: usize) -> Self {
        let mut early = Vec::new();
        early.resize_with(count, || None);
        Self { bytes: Vec::new(), early, next: 0 }
    }

    /// Takes how the command with this index has ended.
    pub fn put(&mut self, index: usize, ended: Ended) {
        if let Some(place) = self.early.get_mut(index) {
            *place = Some(ended);
        }
        while let Some(ended) = self.early.get_mut(self.next).and_then(Option::take) {
            append(&ended, &mut self.bytes);
            self.next += 1;
        }
    }

    /// The replies up to the first that has not come.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// Completions with their replies as bytes, both in the order in which they came.
#[derive(Debug, Default)]
pub struct EncodedCompletions {
    /// Whose each reply is.
    pub tickets: Vec<u64>,
    /// One reply for each ticket.
    pub replies: Vec<u8>,
}

impl EncodedCompletions {
    /// Takes a completion.
    pub fn put(&mut self, ticket: u64, ended: Ended) {
        self.tickets.push(ticket);
        match ended {
            // The first one is often all there is, and always when it is large.
            Ok(reply) if self.replies.is_empty() && reply.size() >= LARGE => {
                self.replies = reply.into_vec();
            }
            ended => append(&ended, &mut self.replies),
        }
    }
}

/// Appends how a command has ended. Twice of much would not fit beside what connections hold, so
/// much grows by an eighth.
fn append(ended: &Ended, bytes: &mut Vec<u8>) {
    let reply = match ended {
        Ok(reply) => reply.as_bytes(),
        Err(error) => return encode_error(error, bytes),
    };
    let length = bytes.len();
    if length >= MUCH && bytes.capacity() - length < reply.len() {
        bytes.reserve_exact(reply.len().max(length / 8));
    }
    bytes.extend_from_slice(reply);
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::string::String;

    use proptest::prelude::*;

    use super::*;

    fn reply(text: String) -> Ended {
        Ok(RawReply::new(text.into_bytes().into(), 1))
    }

    #[test]
    fn replies_wait_for_those_before_them() {
        let mut replies = RepliesInOrder::new(3);
        replies.put(2, reply(":2\r\n".into()));
        replies.put(1, Err(Error::Closed));
        assert_eq!(replies.bytes, b"");
        replies.put(0, reply(":0\r\n".into()));
        // None has this number.
        replies.put(3, reply(":3\r\n".into()));
        assert_eq!(replies.into_bytes(), b":0\r\n-KEYSLOT.CLOSED\r\n:2\r\n");
    }

    proptest! {
        #[test]
        fn replies_are_in_order_in_whatever_order_they_come(
            order in (0..50_usize).prop_flat_map(|count| Just((0..count).collect::<Vec<_>>()).prop_shuffle()),
        ) {
            let mut replies = RepliesInOrder::new(order.len());
            for index in &order {
                replies.put(*index, reply(format!(":{index}\r\n")));
            }
            let expected: String = (0..order.len()).map(|index| format!(":{index}\r\n")).collect();
            prop_assert_eq!(replies.into_bytes(), expected.into_bytes());
        }
    }

    #[test]
    fn a_large_reply_is_handed_over_when_it_comes_first() {
        let large = Vec::from([b'x'; LARGE as usize]);
        let memory = large.as_ptr();
        let mut completions = EncodedCompletions::default();
        completions.put(7, Ok(RawReply::new(large.into(), 0)));
        assert_eq!(completions.replies.as_ptr(), memory);
        completions.put(8, Err(Error::Closed));
        assert_eq!(completions.tickets, [7, 8]);
        assert_eq!(completions.replies.len(), LARGE as usize + "-KEYSLOT.CLOSED\r\n".len());
    }

    #[test]
    fn much_grows_by_an_eighth() {
        let mut bytes = Vec::from([b'x'; 64]);
        bytes.resize(MUCH, b'x');
        bytes.shrink_to_fit();
        append(&reply(":1\r\n".into()), &mut bytes);
        assert!(bytes.capacity() <= MUCH + MUCH / 8, "{}", bytes.capacity());
        assert_eq!(bytes.len(), MUCH + 4);
    }
}
