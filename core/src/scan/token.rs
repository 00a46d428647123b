//! A scan as bytes, to be resumed by another client.
//!
//! ```text
//! token    = "KSC1" filter scope slots halves passes checksum:u32
//! scope    = 0                                 the cluster, or the one server
//!          | 1 address                         one node
//! halves   = count (slot to address from epoch)*
//! passes   = count (address run-id cursor claim)*
//! claim    = 0 | 1 id epoch fresh:slots leaving:(count (slot to)*) rest:slots
//! slots    = count (gap length)*               runs of consecutive slots, each counted from
//!                                              the end of the last
//! ```
//!
//! Numbers are LEB128, the checksum apart, which is little-endian; texts have their length before
//! them. `filter` is a hash of the pattern and the type, the checksum one (FNV-1a) of all before
//! it. A cursor that is empty: the node has returned all, and is to be looked at once more.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::{Claim, Half, SlotCoverage, SlotSet};
use crate::address::NodeAddr;
use crate::slot::{SLOT_COUNT, Slot};

const MAGIC: &[u8] = b"KSC1";

/// No text in a token is longer.
const TEXT_MAX: usize = 1_024;

/// How far a scan has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResumeToken {
    /// Tells scans with different patterns or types apart.
    pub filter: u32,
    /// The node that alone is scanned.
    pub node: Option<NodeAddr>,
    /// The slots.
    pub coverage: SlotCoverage,
    /// The passes under way.
    pub passes: Vec<Bookmark>,
}

/// A pass under way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bookmark {
    /// The node's address.
    pub node: Option<NodeAddr>,
    /// The process that gave the cursor.
    pub run_id: String,
    /// The cursor as of the last batch that was handed out.
    pub cursor: String,
    /// What it is to do; nothing where there are no slots.
    pub claim: Option<Claim>,
}

impl ResumeToken {
    /// The bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        put_number(&mut out, self.filter.into());
        match &self.node {
            None => out.push(0),
            node => {
                out.push(1);
                put_address(&mut out, node.as_ref());
            }
        }
        put_slots(&mut out, &self.coverage.done);
        put_number(&mut out, self.coverage.halves.len() as u64);
        for half in self.coverage.halves.values() {
            put_number(&mut out, u64::from(half.slot.number()));
            put_text(&mut out, &half.to);
            put_address(&mut out, half.address.as_ref());
            put_text(&mut out, &half.from);
            put_number(&mut out, half.epoch);
        }
        put_number(&mut out, self.passes.len() as u64);
        for pass in &self.passes {
            put_address(&mut out, pass.node.as_ref());
            put_text(&mut out, &pass.run_id);
            put_text(&mut out, &pass.cursor);
            out.push(u8::from(pass.claim.is_some()));
            if let Some(claim) = &pass.claim {
                put_text(&mut out, &claim.id);
                put_number(&mut out, claim.epoch);
                put_slots(&mut out, &claim.fresh);
                put_number(&mut out, claim.leaving.len() as u64);
                for (slot, to) in &claim.leaving {
                    put_number(&mut out, u64::from(slot.number()));
                    put_text(&mut out, to);
                }
                put_slots(&mut out, &claim.rest);
            }
        }
        let checksum = hash(&out);
        out.extend_from_slice(&checksum.to_le_bytes());
        out
    }

    /// What the bytes say; `None` when they are no token.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (rest, checksum) = bytes.split_last_chunk()?;
        if hash(rest) != u32::from_le_bytes(*checksum) {
            return None;
        }
        let mut token = Self::default();
        let mut input = Input(rest.strip_prefix(MAGIC)?);
        let read = input.token(&mut token);
        read.filter(|()| input.0.is_empty()).map(|()| token)
    }
}

/// FNV-1a.
pub(crate) fn hash(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_number(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

fn put_address(out: &mut Vec<u8>, address: Option<&NodeAddr>) {
    put_text(out, &address.map(ToString::to_string).unwrap_or_default());
}

fn put_slots(out: &mut Vec<u8>, slots: &SlotSet) {
    let mut runs: Vec<(u16, u16)> = Vec::new();
    for slot in slots.iter().map(Slot::number) {
        match runs.last_mut() {
            Some((_, end)) if *end == slot => *end += 1,
            _ => runs.push((slot, slot + 1)),
        }
    }
    put_number(out, runs.len() as u64);
    let mut last = 0;
    for (first, end) in runs {
        put_number(out, u64::from(first - last));
        put_number(out, u64::from(end - first));
        last = end;
    }
}

/// What is still to be read.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn flag(&mut self) -> Option<bool> {
        match self.byte()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn text(&mut self) -> Option<String> {
        let length = usize::try_from(self.number()?).ok().filter(|length| *length <= TEXT_MAX)?;
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(core::str::from_utf8(text).ok()?.to_string())
    }

    /// The outer `None`: it is malformed.
    fn address(&mut self) -> Option<Option<NodeAddr>> {
        let text = self.text()?;
        if text.is_empty() {
            return Some(None);
        }
        NodeAddr::parse(&text).map(Some)
    }

    fn slots(&mut self) -> Option<SlotSet> {
        let mut slots = SlotSet::default();
        let mut next = 0;
        for _ in 0..self.number()? {
            let first = self.number()?.checked_add(next)?;
            next = self.number()?.checked_add(first).filter(|end| *end <= u64::from(SLOT_COUNT))?;
            (first..next).filter_map(|number| Slot::new(number as u16)).for_each(|slot| slots.insert(slot));
        }
        Some(slots)
    }

    /// What is read stays in `token` when it ends before its end.
    fn token(&mut self, token: &mut ResumeToken) -> Option<()> {
        token.filter = u32::try_from(self.number()?).ok()?;
        if self.flag()? {
            token.node = Some(self.address()??);
        }
        token.coverage.done = self.slots()?;
        // Each item takes a byte at least, so a count that is too high ends with the bytes.
        for _ in 0..self.number()? {
            let half = Half {
                slot: self.slot()?,
                to: self.text()?,
                address: self.address()?,
                from: self.text()?,
                epoch: self.number()?,
            };
            if token.coverage.halves.insert(half.slot, half).is_some() {
                return None;
            }
        }
        for _ in 0..self.number()? {
            let mut pass = Bookmark::default();
            self.bookmark(&mut pass)?;
            token.passes.push(pass);
        }
        Some(())
    }

    fn bookmark(&mut self, pass: &mut Bookmark) -> Option<()> {
        pass.node = self.address()?;
        pass.run_id = self.text()?;
        pass.cursor = self.text()?;
        if self.flag()? {
            let claim = pass.claim.insert(Claim::default());
            claim.id = self.text()?;
            claim.epoch = self.number()?;
            claim.fresh = self.slots()?;
            for _ in 0..self.number()? {
                let (slot, to) = (self.slot()?, self.text()?);
                if claim.leaving.last().is_some_and(|(last, _)| *last >= slot) {
                    return None;
                }
                claim.leaving.push((slot, to));
            }
            claim.rest = self.slots()?;
        }
        Some(())
    }

    fn slot(&mut self) -> Option<Slot> {
        Slot::new(u16::try_from(self.number()?).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> ResumeToken {
        let slots = |range: core::ops::Range<u16>| range.filter_map(Slot::new).collect::<SlotSet>();
        let address = NodeAddr::parse("[::1]:7000");
        ResumeToken {
            filter: 7,
            node: None,
            coverage: SlotCoverage {
                done: slots(0..5_000),
                halves: [(
                    Slot::new(16_383).unwrap(),
                    Half {
                        to: "b".to_string(),
                        address: address.clone(),
                        from: "a".to_string(),
                        epoch: 300,
                        slot: Slot::new(16_383).unwrap(),
                    },
                )]
                .into_iter()
                .collect(),
            },
            passes: Vec::from([
                Bookmark { node: address, run_id: "run".into(), cursor: "12345".into(), claim: None },
                Bookmark {
                    node: NodeAddr::parse("host:1"),
                    run_id: String::new(),
                    cursor: String::new(),
                    claim: Some(Claim {
                        id: "c".to_string(),
                        epoch: 1 << 40,
                        fresh: slots(6_000..6_010),
                        leaving: Vec::from([(Slot::new(6_001).unwrap(), "b".to_string())]),
                        rest: slots(0..0),
                    }),
                },
            ]),
        }
    }

    #[test]
    fn a_token_says_what_it_was_made_of() {
        let cluster = token();
        assert_eq!(ResumeToken::decode(&cluster.encode()), Some(cluster.clone()));
        assert!(cluster.encode().len() < 120, "{}", cluster.encode().len());
        let node = ResumeToken { node: NodeAddr::parse("host:6379"), ..ResumeToken::default() };
        assert_eq!(ResumeToken::decode(&node.encode()), Some(node));
    }

    #[test]
    fn what_is_no_token_is_refused() {
        let whole = token().encode();
        for length in 0..whole.len() {
            assert_eq!(ResumeToken::decode(&whole[..length]), None);
        }
        for index in 0..whole.len() {
            let mut changed = whole.clone();
            changed[index] ^= 1;
            assert_eq!(ResumeToken::decode(&changed), None, "byte {index}");
        }
        // What has the right checksum is not believed either.
        for length in 4..whole.len() - 4 {
            let mut cut = whole[..length].to_vec();
            let checksum = hash(&cut);
            cut.extend_from_slice(&checksum.to_le_bytes());
            assert_eq!(ResumeToken::decode(&cut), None, "{length}");
        }
        let mut endless = [MAGIC, &[0; 2], &[0xff; 9], &[1]].concat();
        let checksum = hash(&endless);
        endless.extend_from_slice(&checksum.to_le_bytes());
        assert_eq!(ResumeToken::decode(&endless), None);
    }
}
