//! Whatever the arguments of whatever command: finding its keys never panics, and what is found is
//! there. Cutting a command and merging its parts' replies gives what one server would have
//! answered, and replies of any other shape are refused.
//!
//! Arguments are drawn from words that mean something to key specifications (keywords, numbers of
//! keys, numbers that overflow), so that most lists come near to being valid.

use bytes::Bytes;
use keyslot_core::command::merge::{Merge, merge};
use keyslot_core::command::{CommandSpec, Finder, RequestPolicy, ResponsePolicy, all, find, split};
use keyslot_core::resp::{Decoder, Frame, Limits, RawReply, decode_command, take_request};
use keyslot_core::slot::Slot;
use proptest::collection::vec;
use proptest::prelude::*;

fn argument() -> impl Strategy<Value = Vec<u8>> {
    let words = prop::sample::select(vec![
        "STREAMS",
        "streams",
        "KEYS",
        "STORE",
        "storedist",
        "GET",
        "BY",
        "LIMIT",
        "AUTH",
        "auth2",
        "COUNT",
        "",
        "-1",
        "9223372036854775807",
        "-9223372036854775808",
        "9223372036854775808",
        "4294967297",
        "01",
        "+1",
    ]);
    prop_oneof![
        4 => "[a-d]".prop_map(String::into_bytes),
        3 => "[0-4]".prop_map(String::into_bytes),
        2 => words.prop_map(|word| word.as_bytes().to_vec()),
        1 => vec(any::<u8>(), 0..40),
    ]
}

/// The command's names, then the arguments.
fn command_line(spec: &CommandSpec, arguments: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    spec.name.split(' ').map(|name| name.as_bytes().to_vec()).chain(arguments).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn positions_are_those_of_arguments(arguments in vec(argument(), 0..12)) {
        for spec in all() {
            let args = command_line(spec, arguments.clone());
            let names = spec.name.split(' ').count();
            let mut keys = vec![usize::MAX];
            let mut routing = Vec::new();
            let result = spec.key_positions(&args, &mut keys);
            let routed = spec.routing_positions(&args, &mut routing);
            prop_assert_eq!(keys.remove(0), usize::MAX, "what was there stays");
            prop_assert!(result.is_ok() || keys.is_empty(), "{}: keys in spite of an error", spec.name);
            prop_assert!(routed.is_ok() || routing.is_empty());
            prop_assert_eq!(result.is_ok(), routed.is_ok());
            if let Err(error) = &result {
                let message = error.to_string();
                prop_assert!(!message.contains('\n') && message.len() < 400, "{}", message);
            }
            prop_assert_eq!(spec.check_arity(&args).is_err() && result.is_ok(), false);
            prop_assert!(routing.iter().all(|&position| (names..args.len()).contains(&position)));
            prop_assert!(keys.iter().all(|position| routing.contains(position)), "{}: a key has a slot", spec.name);
            prop_assert!(keys.is_empty() || spec.has_keys());
            let mut distinct = routing.clone();
            distinct.sort_unstable();
            distinct.dedup();
            prop_assert_eq!(distinct.len(), routing.len(), "{}: a position is found once", spec.name);
            let mut likely = Vec::new();
            spec.likely_positions(&args, &mut likely);
            let is_found = routing.iter().all(|position| likely.contains(position));
            prop_assert!(is_found, "{}: what is a key is likely to be one", spec.name);
        }
    }

    #[test]
    fn any_arguments_can_be_looked_up(args in vec(vec(any::<u8>(), 0..30), 0..4)) {
        if let Some(spec) = find(&args) {
            prop_assert!(spec.name.split(' ').next().is_some_and(|name| name.as_bytes().eq_ignore_ascii_case(&args[0])));
        }
    }

    #[test]
    fn a_command_is_found_in_any_case(upper in vec(any::<bool>(), 40)) {
        for spec in all() {
            let mut letters = upper.iter();
            let name: String = spec.name.chars().map(|letter| match letters.next() {
                Some(true) => letter,
                _ => letter.to_ascii_lowercase(),
            }).collect();
            let args: Vec<&str> = name.split(' ').collect();
            prop_assert_eq!(find(&args).map(|spec| spec.name), Some(spec.name));
        }
    }
}

/// A reply as a server sends it.
fn reply(bytes: &[u8]) -> RawReply {
    let mut decoder = Decoder::new(Limits::default());
    decoder.feed(Bytes::copy_from_slice(bytes));
    match decoder.poll_raw() {
        Ok(Some(Frame::Reply(reply))) => reply,
        other => panic!("{} is no reply: {other:?}", bytes.escape_ascii()),
    }
}

/// What a server has under a key: nothing, a string, or a list with an attribute, as a module might
/// have it.
fn value_of(key: &[u8]) -> String {
    let text = key.escape_ascii().to_string();
    match key.len() % 3 {
        0 => "$-1\r\n".to_owned(),
        1 => format!("${}\r\n{text}\r\n", text.len()),
        _ => format!("*2\r\n|1\r\n+ttl\r\n:3\r\n:1\r\n+{text}\r\n"),
    }
}

fn mget<A: AsRef<[u8]>>(keys: impl ExactSizeIterator<Item = A>) -> String {
    let count = keys.len();
    format!("*{count}\r\n") + &keys.map(|key| value_of(key.as_ref())).collect::<String>()
}

/// Replies of every kind, right and wrong.
fn any_reply() -> impl Strategy<Value = RawReply> {
    let integers = vec(-2i64..3, 0..4);
    let text = prop::sample::select(vec![
        "+OK\r\n",
        "$-1\r\n",
        "*-1\r\n",
        "_\r\n",
        "$1\r\na\r\n",
        "%1\r\n+a\r\n:1\r\n",
        "~1\r\n:1\r\n",
        "#t\r\n",
        ",1.5\r\n",
        "*?\r\n:1\r\n.\r\n",
        "*1\r\n*1\r\n:1\r\n",
        "|1\r\n+a\r\n+b\r\n:7\r\n",
        "(123\r\n",
        "=5\r\ntxt:a\r\n",
    ]);
    prop_oneof![
        integers.prop_map(|integers| {
            let elements: String = integers.iter().map(|integer| format!(":{integer}\r\n")).collect();
            reply(format!("*{}\r\n{elements}", integers.len()).as_bytes())
        }),
        (-3i64..4).prop_map(|integer| reply(format!(":{integer}\r\n").as_bytes())),
        text.prop_map(|text| reply(text.as_bytes())),
    ]
}

proptest! {
    #[test]
    fn parts_merge_to_what_one_server_answers(keys in vec("[a-z{}]{0,5}", 1..60)) {
        let mut args = vec![b"MGET".to_vec()];
        args.extend(keys.iter().map(|key| key.clone().into_bytes()));
        let parts = split::split(find(&args), &args).expect("it can be cut");
        let mut seen = vec![0; keys.len()];
        let mut replies = Vec::new();
        for part in &parts {
            let words = decode_command(&part.frame);
            prop_assert_eq!(words.len(), part.keys.len() + 1);
            for (key, number) in words.iter().skip(1).zip(&part.keys) {
                seen[*number as usize] += 1;
                prop_assert_eq!(*key, keys[*number as usize].as_bytes());
                prop_assert_eq!(Slot::of_key(key), part.slot);
            }
            replies.push((part.keys.clone(), reply(mget(words.iter().skip(1)).as_bytes())));
        }
        prop_assert!(seen.iter().all(|times| *times == 1), "each key is in one part");
        let merged = merge(Merge::Keys, &replies, 0).expect("they fit");
        let whole = reply(mget(keys.iter()).as_bytes());
        prop_assert_eq!(merged.as_bytes(), whole.as_bytes());
        prop_assert_eq!(merged.decode(), whole.decode());
        // One reply that is too short or too long, or no array, spoils all.
        for wrong in ["*0\r\n", "+OK\r\n", "$-1\r\n", "~1\r\n:1\r\n"] {
            let mut broken = replies.clone();
            broken[0].1 = reply(wrong.as_bytes());
            prop_assert!(merge(Merge::Keys, &broken, 0).is_err(), "{}", wrong);
        }
        let mut broken = replies;
        broken[0].1 = reply(mget([b"x"].iter().cycle().take(broken[0].0.len() + 1).collect::<Vec<_>>().iter()).as_bytes());
        prop_assert!(merge(Merge::Keys, &broken, 0).is_err());
    }

    #[test]
    fn no_replies_make_merging_panic_and_what_comes_out_is_a_reply(replies in vec(any_reply(), 0..5), chance: usize) {
        let policies = [
            ResponsePolicy::AllSucceeded, ResponsePolicy::OneSucceeded, ResponsePolicy::AggSum, ResponsePolicy::AggMin,
            ResponsePolicy::AggMax, ResponsePolicy::AggLogicalAnd, ResponsePolicy::AggLogicalOr, ResponsePolicy::Special,
        ];
        let ways = [Merge::Keys, Merge::Concatenate, Merge::Union, Merge::Pick];
        for how in ways.into_iter().chain(policies.map(Merge::By)) {
            let parts: Vec<_> =
                replies.iter().enumerate().map(|(index, reply)| (vec![index as u32], reply.clone())).collect();
            if let Ok(merged) = merge(how, &parts, chance) {
                prop_assert_eq!(reply(merged.as_bytes()).decode(), merged.decode(), "{:?}", how);
            }
        }
    }

    #[test]
    fn sums_are_sums(numbers in vec(any::<i32>(), 1..8)) {
        let parts: Vec<_> =
            numbers.iter().map(|number| (Vec::new(), reply(format!(":{number}\r\n").as_bytes()))).collect();
        let sum = merge(Merge::By(ResponsePolicy::AggSum), &parts, 0).expect("they are numbers");
        let expected: i64 = numbers.iter().map(|number| i64::from(*number)).sum();
        prop_assert_eq!(sum.root().and_then(|root| root.as_integer()), Some(expected));
    }

    #[test]
    fn requests_are_taken_apart_as_they_were_put_together(commands in vec(vec(vec(any::<u8>(), 0..20), 0..5), 0..8)) {
        let mut bytes = bytes::BytesMut::new();
        commands.iter().for_each(|command| keyslot_core::resp::encode_command(command, &mut bytes));
        let mut rest: &[u8] = &bytes;
        let mut args = Vec::new();
        for command in &commands {
            prop_assert!(take_request(&mut rest, &mut args).is_ok_and(|frame| frame.is_some()));
            prop_assert_eq!(&args, command);
        }
        prop_assert_eq!(take_request(&mut rest, &mut args), Ok(None));
        for cut in 0..bytes.len() {
            let mut rest = &bytes[..cut];
            while let Ok(Some(_)) = take_request(&mut rest, &mut args) {}
        }
    }

    #[test]
    fn any_bytes_are_requests_or_not(bytes in vec(prop::sample::select(b"*$12:\r\n0a".to_vec()), 0..40)) {
        let mut rest: &[u8] = &bytes;
        let mut args = Vec::new();
        let mut finder = Finder::default();
        while let Ok(Some(_)) = take_request(&mut rest, &mut args) {
            prop_assert_eq!(finder.find(&args).map(|spec| spec.name), find(&args).map(|spec| spec.name));
        }
    }
}

/// A command that is cut has to treat each key alone with all of its options. A new one stands here
/// when that has been looked at, and `split` has what it takes.
#[test]
fn the_commands_that_are_cut_have_been_looked_at() {
    let is_marked = |spec: &&CommandSpec| spec.request_policy == Some(RequestPolicy::MultiShard);
    let marked: Vec<_> = all().filter(is_marked).map(|spec| spec.name).collect();
    let lines = [
        "DEL a b",
        "EXISTS a b",
        "MGET a b",
        "MSET a 1 b 2",
        "MSETEX 2 a 1 b 2 EX 5",
        "TOUCH a b",
        "UNLINK a b",
    ];
    assert_eq!(marked, lines.map(|line| line.split(' ').next().unwrap_or_default()));
    for line in lines {
        let args: Vec<&str> = line.split(' ').collect();
        assert_eq!(split::split(find(&args), &args).map(|parts| parts.len()), Some(2), "{line}");
    }
}
