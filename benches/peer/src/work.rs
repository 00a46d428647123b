//! What the calls of a benchmark do, and with which keys.

/// What a command does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// SET, or MSET.
    Set,
    /// GET, or MGET.
    Get,
}

/// How the commands of one call travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One command, of one key.
    One,
    /// A pipeline of commands of one key each.
    Pipeline,
    /// One command of many keys.
    Many,
}

/// One call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    /// What its commands do.
    pub verb: Verb,
    /// How they travel.
    pub shape: Shape,
    /// How many keys it has.
    pub keys: usize,
}

impl Work {
    /// The name of its commands.
    #[must_use]
    pub fn command(self) -> &'static str {
        match (self.verb, self.shape) {
            (Verb::Set, Shape::Many) => "MSET",
            (Verb::Set, _) => "SET",
            (Verb::Get, Shape::Many) => "MGET",
            (Verb::Get, _) => "GET",
        }
    }
}

/// The keys that calls take in turn, and the value that all of them have.
#[derive(Clone, Debug)]
pub struct Data {
    keys: Vec<Vec<u8>>,
    value: Vec<u8>,
}

impl Data {
    /// Of these keys.
    ///
    /// # Panics
    ///
    /// When there are none.
    #[must_use]
    pub fn new(keys: Vec<Vec<u8>>, value: Vec<u8>) -> Self {
        assert!(!keys.is_empty(), "a benchmark without keys");
        Self { keys, value }
    }

    /// All keys.
    #[must_use]
    pub fn keys(&self) -> &[Vec<u8>] {
        &self.keys
    }

    /// Each key's value.
    #[must_use]
    pub fn value(&self) -> &[u8] {
        &self.value
    }

    /// The keys of a call that has `count` of them: those behind the keys of the call before.
    #[must_use]
    pub fn keys_of(&self, call: usize, count: usize) -> &[Vec<u8>] {
        let count = count.min(self.keys.len());
        let start = (call * count) % (self.keys.len() - count + 1);
        &self.keys[start..start + count]
    }

    /// The key of a call that has one.
    #[must_use]
    pub fn key_of(&self, call: usize) -> &[u8] {
        &self.keys[call % self.keys.len()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_take_the_keys_in_turn() {
        let data = Data::new((0..5).map(|key| vec![key]).collect(), Vec::new());
        assert_eq!([0, 1, 5].map(|call| data.key_of(call)[0]), [0, 1, 0]);
        assert_eq!(data.keys_of(0, 2), [[0], [1]]);
        assert_eq!(data.keys_of(1, 2), [[2], [3]]);
        assert_eq!(data.keys_of(7, 5).len(), 5);
        assert_eq!(data.keys_of(7, 6).len(), 5);
    }
}
