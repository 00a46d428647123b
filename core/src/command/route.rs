//! Where a command belongs, by its arguments.
//!
//! A server says MOVED and CROSSSLOT of most commands, but not of all: some look at no slot, and
//! keep a key that is not theirs where nobody finds it. So the client does not count on that. A
//! command with a key goes where the key is, also when something is wrong with it; one with keys of
//! several slots is cut, or refused unsent.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::{CommandSpec, split, unlisted};
use crate::slot::Slot;

/// Where a command belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// To the primary of this slot.
    Slot(Slot),
    /// To any primary.
    Any,
    /// To a node that the caller has to name, where there are several: it is about what another
    /// command has left there.
    OneNode,
    /// Nowhere in a cluster, but a server alone takes it: two of its keys and their slots.
    CrossSlot(Box<str>),
}

impl Route {
    /// The slot that it belongs to.
    pub(crate) fn slot(&self) -> Option<Slot> {
        match self {
            Self::Slot(slot) => Some(*slot),
            Self::Any | Self::OneNode | Self::CrossSlot(_) => None,
        }
    }
}

/// Commands about one slot, whose number is the second argument. Only the slot's primary has
/// something to say.
const BY_SLOT: &[&str] = &["CLUSTER COUNTKEYSINSLOT", "CLUSTER FLUSHSLOT", "CLUSTER GETKEYSINSLOT"];

/// Where a command with these arguments belongs.
pub(crate) fn route(spec: Option<&CommandSpec>, args: &[&[u8]]) -> Route {
    let Some(spec) = spec else {
        let positions = unlisted::positions(args).unwrap_or_else(|| Vec::from([1]));
        return by_keys(None, args, &positions);
    };
    if BY_SLOT.contains(&spec.name) {
        let number = args.get(2).and_then(|number| core::str::from_utf8(number).ok()?.parse().ok());
        return number.and_then(Slot::new).map_or(Route::Any, Route::Slot);
    }
    if spec.name == "SCAN" && args.get(1).is_some_and(|cursor| is_used(cursor)) {
        return Route::OneNode;
    }
    let mut positions = Vec::new();
    match spec.routing_positions(args, &mut positions) {
        Ok(()) if !positions.is_empty() => {}
        // A subcommand that is newer than the table.
        Ok(()) if spec.contains_keys() => positions.push(2),
        Ok(()) => positions.extend(unlisted::positions(args).into_iter().flatten()),
        Err(_) => spec.likely_positions(args, &mut positions),
    }
    by_keys(Some(spec), args, &positions)
}

/// Whether this is a number that a server has answered to SCAN.
fn is_used(cursor: &[u8]) -> bool {
    let digits = cursor.strip_prefix(b"-").unwrap_or(cursor);
    digits.iter().all(u8::is_ascii_digit) && digits.iter().any(|digit| *digit != b'0')
}

/// The one slot of the keys at these positions.
fn by_keys(spec: Option<&CommandSpec>, args: &[&[u8]], positions: &[usize]) -> Route {
    let mut keys = positions.iter().filter_map(|position| args.get(*position)).copied();
    let Some(first) = keys.next() else {
        return Route::Any;
    };
    let slot = Slot::of_key(first);
    match keys.map(|key| (key, Slot::of_key(key))).find(|(_, other)| *other != slot) {
        None => Route::Slot(slot),
        Some((key, other)) => {
            let why = split::why_whole(spec, args);
            let text = format!(
                "key {} is in slot {slot}, key {} in slot {other}; give them one hash tag{}{why}",
                quoted(first),
                quoted(key),
                if why.is_empty() { "" } else { ". It cannot be sent in parts: " },
            );
            Route::CrossSlot(text.into())
        }
    }
}

/// A key for people: printable ASCII as it is, other bytes as `\xNN`, cut after 40 bytes.
pub(crate) fn quoted(key: &[u8]) -> String {
    const SHOWN: usize = 40;
    let more = if key.len() > SHOWN { "…" } else { "" };
    format!("\"{}{more}\"", key.get(..SHOWN).unwrap_or(key).escape_ascii())
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::command::prepared::{Command, Spread};
    use crate::command::{self, BeginSearch, FindKeys};
    use crate::resp::decode_command;

    fn routed(line: &str) -> Route {
        let words: Vec<_> = line.split(' ').collect();
        Command::for_lent(&words).unwrap().route
    }

    fn slot(key: &str) -> Route {
        Route::Slot(Slot::of_key(key.as_bytes()))
    }

    #[test]
    fn keys_of_several_slots_go_nowhere_or_in_parts() {
        for (line, why) in [
            ("MSETEX 2 a 1 b 2 NX", "with NX or XX it is all or nothing"),
            ("MSETEX 2 a 1 b 2 EX 5 xx", "with NX or XX it is all or nothing"),
            ("MSETEX 2 a 1 b 2 NEWER", "it has not the arguments for that"),
            ("MSET a 1 b", "it has not the arguments for that"),
            ("JSON.MSET a $ 1 b", "it has not the arguments for that"),
            ("MSETNX a 1 b 2", ""),
            ("TS.CREATERULE a b AGGREGATION avg 5", ""),
            ("CMS.MERGE a 1 b", ""),
        ] {
            let words: Vec<_> = line.split(' ').collect();
            let command = Command::new(&words).unwrap();
            assert_eq!(command.spread, Spread::None, "{line}");
            let Route::CrossSlot(text) = command.route else { panic!("{line}: {:?}", command.route) };
            assert!(
                text.ends_with(&format!(
                    "tag{}{why}",
                    if why.is_empty() { "" } else { ". It cannot be sent in parts: " }
                )),
                "{text}"
            );
        }
        let words = ["MSETEX", "2", "a", "1", "b", "2", "PXAT", "5"];
        assert_eq!(Command::new(&words).unwrap().spread, Spread::Keys);
    }

    #[test]
    fn what_is_wrong_goes_where_its_keys_are() {
        for (line, key) in [
            ("GET a b", "a"),
            ("SET a", "a"),
            ("MSET a", "a"),
            ("MSET {a}1 1 {a}2", "a"),
            ("EVAL x 5 a", "a"),
            ("EVAL x y a", "a"),
            ("MSETEX 5 a 1", "a"),
            ("ZUNION 0 a", "a"),
            ("BLPOP a", "a"),
            ("XGROUP NEWER a", "a"),
            ("OBJECT NEWER a", "a"),
            ("MEMORY USAGE a", "a"),
            ("OBJECT FREQ a", "a"),
        ] {
            assert_eq!(routed(line), slot(key), "{line}");
        }
        for line in [
            "GET",
            "EVAL x 0 a",
            "XREAD COUNT 2 a b",
            "PING",
            "OBJECT HELP",
            "OBJECT NEWER",
            "CONFIG NEWER a",
        ] {
            assert_eq!(routed(line), Route::Any, "{line}");
        }
    }

    #[test]
    fn commands_about_a_slot_go_to_its_primary() {
        for line in ["CLUSTER COUNTKEYSINSLOT 7", "cluster getkeysinslot 7 10", "CLUSTER FLUSHSLOT 7 ASYNC"] {
            assert_eq!(routed(line), Route::Slot(Slot::new(7).unwrap()), "{line}");
        }
        for line in ["CLUSTER COUNTKEYSINSLOT 16384", "CLUSTER COUNTKEYSINSLOT x", "CLUSTER COUNTKEYSINSLOT"]
        {
            assert_eq!(routed(line), Route::Any, "{line}");
        }
    }

    #[test]
    fn modules_commands_go_where_their_references_say() {
        assert_eq!(routed("FT.CURSOR READ idx 7"), routed("FT.AGGREGATE idx *"));
        assert_eq!(routed("FT.CURSOR DEL idx 7"), slot("idx"));
        assert_eq!(routed("JSON.DEBUG MEMORY a"), slot("a"));
        assert_eq!(routed("DEBUG OBJECT a"), slot("a"));
        assert_eq!(routed("DEBUG SLEEP 0"), Route::Any);
        assert_eq!(routed("TS.MRANGE - + FILTER a=b"), Route::Any);
        assert_eq!(routed("TS.ADD a 1 2"), slot("a"));
    }

    #[test]
    fn a_cursor_of_a_scan_has_its_node() {
        for line in ["SCAN 17", "scan 017 COUNT 5", "SCAN -1"] {
            assert_eq!(routed(line), Route::OneNode, "{line}");
        }
        // The last two are the server's to refuse.
        for line in ["SCAN 0 MATCH x", "SCAN 00", "SCAN", "SCAN x"] {
            assert_eq!(routed(line), Route::Any, "{line}");
        }
        assert_eq!(routed("HSCAN a 17"), slot("a"));
    }

    /// Whatever the arguments of whatever command of the three servers: with a key it goes to that
    /// key's slot, with keys of several slots it is cut or refused, and nothing that may be a
    /// key goes to a node by chance.
    #[test]
    fn no_command_with_a_key_goes_to_a_node_by_chance() {
        const WORDS: &[&str] = &[
            "a", "b", "{a}2", "1", "2", "3", "0", "-1", "x", "NX", "XX", "EX", "KEEPTTL", "STORE", "STREAMS",
            "KEYS", "LIMIT",
        ];
        let mut state = 7u32;
        let mut below = |bound: usize| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) as usize % bound
        };
        let (mut cut, mut refused, mut wrong) = (0, 0, 0);
        for spec in command::all().filter(|spec| !spec.key_specs().is_empty()) {
            for _ in 0..2_000 {
                let mut words: Vec<&str> = spec.name.split(' ').collect();
                let count = below(9);
                words.extend((0..count).map(|_| WORDS[below(WORDS.len())]));
                let args: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
                let Ok(command) = Command::for_lent(&args) else { continue };
                let mut keys = Vec::new();
                let line = words.join(" ");
                if spec.routing_positions(&args, &mut keys).is_err() {
                    wrong += 1;
                    let could_be_a_key = |spec: &command::KeySpec| match (spec.begin_search, spec.find_keys) {
                        (BeginSearch::Index(index), FindKeys::KeyNum { first_key, .. }) => {
                            args.len() > usize::from(index + first_key)
                        }
                        (BeginSearch::Index(index), _) => args.len() > usize::from(index),
                        _ => false,
                    };
                    let may_be_any = !spec.key_specs().iter().any(could_be_a_key);
                    assert!(may_be_any || command.route != Route::Any, "{line}");
                    assert_eq!(command.spread, Spread::None, "{line}");
                    continue;
                }
                let mut slots: Vec<_> = keys.iter().map(|key| Slot::of_key(args[*key])).collect();
                slots.sort_unstable();
                slots.dedup();
                match (slots.as_slice(), &command.route) {
                    ([], Route::Any) => assert_eq!(command.spread, Spread::None, "{line}"),
                    ([one], Route::Slot(slot)) if one == slot => {
                        assert_eq!(command.spread, Spread::None, "{line}");
                    }
                    ([_, _, ..], Route::CrossSlot(_)) if command.spread == Spread::Keys => {
                        cut += 1;
                        is_cut_well(spec, &args, &keys);
                    }
                    ([_, _, ..], Route::CrossSlot(_)) => refused += 1,
                    (slots, route) => panic!("{line}: {slots:?} {route:?}"),
                }
            }
        }
        assert!(cut > 1_000 && refused > 1_000 && wrong > 1_000, "{cut} {refused} {wrong}");
    }

    /// Each part has keys of its slot, by the command's own specification; together they have all,
    /// each with what belongs to it, and each has what the whole has behind its keys.
    fn is_cut_well(spec: &CommandSpec, args: &[&[u8]], keys: &[usize]) {
        let parts = split::split(Some(spec), args).unwrap();
        let mut seen = vec![0; keys.len()];
        let is_counted =
            matches!(spec.key_specs(), [one] if matches!(one.find_keys, FindKeys::KeyNum { .. }));
        let first = keys[0];
        for part in &parts {
            let words = decode_command(&part.frame);
            let mut own = Vec::new();
            spec.routing_positions(&words, &mut own).unwrap();
            assert_eq!(own.len(), part.keys.len());
            let unit = match own.as_slice() {
                [one, other, ..] => other - one,
                _ => (words.len() - first - suffix(args, keys, is_counted).len()).max(1),
            };
            for (at, number) in own.iter().zip(&part.keys) {
                seen[*number as usize] += 1;
                let of_whole = keys[*number as usize];
                assert_eq!(words[*at..at + unit], args[of_whole..of_whole + unit], "{}", spec.name);
                assert_eq!(Slot::of_key(words[*at]), part.slot);
            }
            if is_counted {
                assert_eq!(words[1], format!("{}", own.len()).as_bytes());
                let behind = &words[own[own.len() - 1] + unit..];
                assert_eq!(behind, suffix(args, keys, is_counted));
                let is_condition = |word: &&&[u8]| [&b"NX"[..], b"XX"].contains(*word);
                assert_eq!(behind.iter().find(is_condition), None);
            }
        }
        assert!(seen.iter().all(|times| *times == 1), "{}", String::from_utf8_lossy(&args.concat()));
    }

    fn suffix<'a>(args: &[&'a [u8]], keys: &[usize], is_counted: bool) -> Vec<&'a [u8]> {
        let unit = if keys.len() > 1 { keys[1] - keys[0] } else { 1 };
        if is_counted { args[keys[keys.len() - 1] + unit..].to_vec() } else { Vec::new() }
    }
}
