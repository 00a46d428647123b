//! Whatever the arguments of whatever command: finding its keys never panics, and what is found is there.
//!
//! Arguments are drawn from words that mean something to key specifications (keywords, numbers of keys,
//! numbers that overflow), so that most lists come near to being valid.

use keyslot_core::command::{CommandSpec, all, find};
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
