//! Cutting a command over many keys into one command a slot.
//!
//! MGET, DEL, MSET and their like treat each key alone, which is why a cluster client may cut them;
//! the servers mark them `multi_shard`. A server takes only keys of one slot in one command, so a
//! part has a slot's keys, not a node's.
//!
//! MSETEX is marked, too, and counts its keys: each part has a count of its own, and all options.
//! With NX or XX it is all or nothing, and so are options that are not known here: then it is not
//! cut.
//!
//! <https://redis.io/docs/latest/develop/reference/command-tips/>, "multi_shard"

use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use bytes::{Bytes, BytesMut};

use super::{BeginSearch, CommandSpec, FindKeys, KeySpec, RequestPolicy, ResponsePolicy};
use crate::resp::encode_command;
use crate::slot::{SLOT_COUNT, Slot};

/// What of a command goes to one slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The slot.
    pub slot: Slot,
    /// Which of the command's keys it has, counted from 0 in the order of the arguments.
    pub keys: Vec<u32>,
    /// The command with these keys only, encoded.
    pub frame: Bytes,
}

/// How a command repeats: `NAME (key argument…)… suffix…`, or `NAME count (key argument…)…
/// suffix…`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    /// Whether the number of keys comes first.
    counted: bool,
    /// A key and the arguments that go with it.
    unit: usize,
    /// Arguments at the end that every part has.
    suffix: usize,
}

impl Shape {
    /// The first key's position.
    fn first(&self) -> usize {
        1 + usize::from(self.counted)
    }
}

/// Commands of the JSON module, which the table does not know: `JSON.MGET key… path`, `JSON.MSET
/// (key path value)…`.
const OF_MODULES: &[(&str, Shape)] = &[
    ("JSON.MGET", Shape { counted: false, unit: 1, suffix: 1 }),
    ("JSON.MSET", Shape { counted: false, unit: 3, suffix: 0 }),
];

/// Options that say the same of each key, with how many arguments each has.
const OPTIONS: &[(&str, usize)] = &[("EX", 1), ("EXAT", 1), ("KEEPTTL", 0), ("PX", 1), ("PXAT", 1)];

/// With more parts than this, a table finds a slot's part faster than a search.
const SEARCHED_MAX: usize = 16;

/// The parts of a command, in the order of their first keys. `None` when it cannot be cut: it
/// treats its keys together, or has a wrong number of arguments.
#[must_use]
pub fn split<A: AsRef<[u8]>>(spec: Option<&CommandSpec>, args: &[A]) -> Option<Vec<Part>> {
    let name = args.first()?;
    let shape = shape(spec, args)?;
    let rest = args.get(shape.first()..)?;
    let (units, suffix) = rest.split_at_checked(rest.len().checked_sub(shape.suffix)?)?;
    let mut parts: Vec<(Slot, Vec<u32>)> = Vec::new();
    let mut table: Vec<Option<u16>> = Vec::new();
    for (number, unit) in (0..).zip(units.chunks_exact(shape.unit)) {
        let slot = Slot::of_key(unit.first()?.as_ref());
        if parts.len() == SEARCHED_MAX && table.is_empty() {
            table = vec![None; usize::from(SLOT_COUNT)];
            for (index, (slot, _)) in (0..).zip(&parts) {
                *table.get_mut(slot.index())? = Some(index);
            }
        }
        let known = match table.get(slot.index()) {
            Some(index) => index.map(usize::from),
            None => parts.iter().position(|(other, _)| *other == slot),
        };
        match known.and_then(|index| parts.get_mut(index)) {
            Some((_, keys)) => keys.push(number),
            None => {
                if let Some(entry) = table.get_mut(slot.index()) {
                    *entry = u16::try_from(parts.len()).ok();
                }
                parts.push((slot, vec![number]));
            }
        }
    }
    // One allocation for all parts' bytes.
    let mut buffer = BytesMut::new();
    let counted = parts.iter().filter(|_| shape.counted);
    let counts: Vec<String> = counted.map(|(_, keys)| keys.len().to_string()).collect();
    let mut words: Vec<&[u8]> = Vec::new();
    let mut encoded = Vec::with_capacity(parts.len());
    for (index, (slot, keys)) in parts.into_iter().enumerate() {
        words.clear();
        words.push(name.as_ref());
        words.extend(counts.get(index).map(String::as_bytes));
        for number in &keys {
            let first = *number as usize * shape.unit;
            words.extend(units.get(first..first + shape.unit)?.iter().map(AsRef::as_ref));
        }
        words.extend(suffix.iter().map(AsRef::as_ref));
        encode_command(&words, &mut buffer);
        encoded.push(Part { slot, keys, frame: buffer.split().freeze() });
    }
    Some(encoded)
}

/// How the replies to the parts of a module's command become one; `None` is by key.
#[must_use]
pub fn policy_of_module<A: AsRef<[u8]>>(args: &[A]) -> Option<ResponsePolicy> {
    let is_set = args.first().is_some_and(|name| name.as_ref().eq_ignore_ascii_case(b"JSON.MSET"));
    is_set.then_some(ResponsePolicy::AllSucceeded)
}

/// The key with this number, counted from 0, of a command that can be cut.
#[must_use]
pub fn key_at<'a, A: AsRef<[u8]>>(
    spec: Option<&CommandSpec>,
    args: &'a [A],
    number: usize,
) -> Option<&'a [u8]> {
    let shape = shape(spec, args)?;
    args.get(shape.first() + number * shape.unit).map(AsRef::as_ref)
}

/// Whether a command treats each of its keys alone, and has the arguments for it.
#[must_use]
pub fn can_split<A: AsRef<[u8]>>(spec: Option<&CommandSpec>, args: &[A]) -> bool {
    shape(spec, args).is_some()
}

/// Why a command stays whole that is cut otherwise, for people; empty for all others.
#[must_use]
pub fn why_whole<A: AsRef<[u8]>>(spec: Option<&CommandSpec>, args: &[A]) -> &'static str {
    let is_cut = match spec {
        Some(spec) => spec.request_policy == Some(RequestPolicy::MultiShard),
        None => of_module(args).is_some(),
    };
    let is_condition =
        |arg: &A| [&b"NX"[..], b"XX"].iter().any(|word| word.eq_ignore_ascii_case(arg.as_ref()));
    match is_cut && !can_split(spec, args) {
        true if spec.is_some_and(|spec| spec.name == "MSETEX") && args.iter().any(is_condition) => {
            "with NX or XX it is all or nothing"
        }
        true => "it has not the arguments for that",
        false => "",
    }
}

fn of_module<A: AsRef<[u8]>>(args: &[A]) -> Option<Shape> {
    let name = args.first()?.as_ref();
    let is_this = |known: &str| known.as_bytes().eq_ignore_ascii_case(name);
    OF_MODULES.iter().find(|(known, _)| is_this(known)).map(|(_, shape)| *shape)
}

/// How the command repeats; `None` when it does not, or when the arguments are not of that shape.
fn shape<A: AsRef<[u8]>>(spec: Option<&CommandSpec>, args: &[A]) -> Option<Shape> {
    let shape = match spec {
        None => of_module(args)?,
        Some(spec) if spec.request_policy != Some(RequestPolicy::MultiShard) => return None,
        Some(spec) => {
            let [KeySpec { begin_search: BeginSearch::Index(1), find_keys, not_key: false }] =
                spec.key_specs()
            else {
                return None;
            };
            match *find_keys {
                FindKeys::Range { last_key: last_key @ ..=-1, key_step: step @ 1.., limit: 0 } => {
                    let suffix = usize::from(last_key.unsigned_abs()) - 1;
                    Shape { counted: false, unit: step.into(), suffix }
                }
                FindKeys::KeyNum { key_num_index: 0, first_key: 1, key_step: step @ 1.. } => {
                    let count = usize::try_from(super::keys::integer(args.get(1)?.as_ref())?).ok()?;
                    let options = args.get(count.checked_mul(step.into())?.checked_add(2)?..)?;
                    are_of_each_key(options).then_some(())?;
                    Shape { counted: true, unit: step.into(), suffix: options.len() }
                }
                _ => return None,
            }
        }
    };
    let units = args.len().checked_sub(shape.first() + shape.suffix)?;
    (units > 0 && units % shape.unit == 0).then_some(shape)
}

/// Whether all of these are options which a part may have as the whole has them.
fn are_of_each_key<A: AsRef<[u8]>>(options: &[A]) -> bool {
    let mut options = options.iter();
    while let Some(option) = options.next() {
        let is_this = |name: &str| name.as_bytes().eq_ignore_ascii_case(option.as_ref());
        let Some((_, arguments)) = OPTIONS.iter().find(|(name, _)| is_this(name)) else {
            return false;
        };
        if (0..*arguments).any(|_| options.next().is_none()) {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command;

    fn parts(line: &str) -> Option<Vec<(Vec<u32>, String)>> {
        let words: Vec<_> = line.split(' ').collect();
        let text = |frame: &Bytes| {
            let frame = String::from_utf8(frame.to_vec()).unwrap();
            let words = frame.split("\r\n").skip(2).step_by(2);
            words.collect::<Vec<_>>().join(" ")
        };
        let parts = split(command::find(&words), &words)?;
        Some(parts.into_iter().map(|part| (part.keys, text(&part.frame))).collect())
    }

    #[test]
    fn each_slot_gets_its_keys_with_what_belongs_to_them() {
        let part = |keys: &[u32], line: &str| (keys.to_vec(), String::from(line));
        assert_eq!(
            parts("mget {a}1 b {a}2 b"),
            Some(vec![part(&[0, 2], "mget {a}1 {a}2"), part(&[1, 3], "mget b b")])
        );
        assert_eq!(
            parts("MSET a 1 b 2 {a}x 3"),
            Some(vec![part(&[0, 2], "MSET a 1 {a}x 3"), part(&[1], "MSET b 2")])
        );
        assert_eq!(
            parts("JSON.MGET a b $.x"),
            Some(vec![part(&[0], "JSON.MGET a $.x"), part(&[1], "JSON.MGET b $.x")])
        );
        assert_eq!(
            parts("JSON.MSET a $ 1 b $ 2"),
            Some(vec![part(&[0], "JSON.MSET a $ 1"), part(&[1], "JSON.MSET b $ 2")])
        );
        assert_eq!(
            parts("msetex 3 a 1 b 2 {a}x 3 px 50"),
            Some(vec![part(&[0, 2], "msetex 2 a 1 {a}x 3 px 50"), part(&[1], "msetex 1 b 2 px 50")])
        );
        assert_eq!(
            parts("MSETEX 2 NX 1 b 2 KEEPTTL"),
            Some(vec![part(&[0], "MSETEX 1 NX 1 KEEPTTL"), part(&[1], "MSETEX 1 b 2 KEEPTTL")])
        );
    }

    #[test]
    fn what_cannot_be_cut_is_left_whole() {
        for line in [
            "MGET",
            "MSET a 1 b",
            "MSETNX a 1 b 2",
            "SINTER a b",
            "GET a",
            "JSON.MGET",
            "JSON.MSET a $",
            "MSETEX 2 a 1 b 2 NX",
            "MSETEX 2 a 1 b 2 EX 5 xx",
            "MSETEX 2 a 1 b 2 NEWER",
            "MSETEX 2 a 1 b 2 EX",
            "MSETEX 3 a 1 b 2",
            "MSETEX 1 a 1 b 2",
            "MSETEX x a 1 b 2",
            "MSETEX 0",
            "X a b",
        ] {
            assert_eq!(parts(line), None, "{line}");
        }
    }

    #[test]
    fn many_parts_have_every_key_once() {
        let words: Vec<_> = core::iter::once(String::from("DEL"))
            .chain((0..5_000).map(|number| alloc::format!("key:{number}")))
            .collect();
        let parts = split(command::find(&words), &words).unwrap();
        let mut seen = vec![0; 5_000];
        for part in &parts {
            for key in &part.keys {
                seen[*key as usize] += 1;
                assert_eq!(Slot::of_key(words[*key as usize + 1].as_bytes()), part.slot);
            }
        }
        assert!(seen.iter().all(|times| *times == 1));
        let mut slots: Vec<_> = parts.iter().map(|part| part.slot).collect();
        slots.sort_unstable();
        slots.dedup();
        assert_eq!(slots.len(), parts.len(), "no slot has two parts");
    }
}
