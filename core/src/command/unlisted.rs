//! Where the keys are of commands about which no server's table says it: modules' commands, and
//! DEBUG.
//!
//! A command that has no row here and that the table does not know has its key in first place, as
//! nearly all modules' commands do: those of JSON, FT (the index), BF, CF, CMS, TOPK, TDIGEST and
//! TS.
//!
//! Source: the modules' command references, <https://redis.io/docs/latest/commands/> and
//! <https://valkey.io/commands/>.

use alloc::vec::Vec;

use super::{BeginSearch, FindKeys, KeySpec};

/// One command: its name, or its container's and its own.
type Row = (&'static str, &'static [KeySpec]);

const fn range(first: u8, last_key: i8, key_step: u8) -> KeySpec {
    let find_keys = FindKeys::Range { last_key, key_step, limit: 0 };
    KeySpec { begin_search: BeginSearch::Index(first), find_keys, not_key: false }
}

const fn counted(index: u8) -> KeySpec {
    let find_keys = FindKeys::KeyNum { key_num_index: 0, first_key: 1, key_step: 1 };
    KeySpec { begin_search: BeginSearch::Index(index), find_keys, not_key: false }
}

const NONE: &[KeySpec] = &[];
/// `COMMAND SUBCOMMAND key …`
const SECOND: &[KeySpec] = &[range(2, 0, 1)];
/// `COMMAND source destination …`
const TWO: &[KeySpec] = &[range(1, 1, 1)];
/// `COMMAND destination numkeys source…`
const MERGE: &[KeySpec] = &[range(1, 0, 1), counted(2)];
/// `COMMAND name numkeys key…`
const CALL: &[KeySpec] = &[counted(2)];

const ROWS: &[Row] = &[
    ("CMS.MERGE", MERGE),
    // Its other subcommands are about the server.
    ("DEBUG DIGEST-VALUE", &[range(2, -1, 1)]),
    ("DEBUG HTSTATS-KEY", SECOND),
    ("DEBUG LISTPACK", SECOND),
    ("DEBUG OBJECT", SECOND),
    ("DEBUG QUICKLIST", SECOND),
    ("DEBUG SDSLEN", SECOND),
    ("DEBUG ZIPLIST", SECOND),
    ("FT.CONFIG", NONE),
    // READ, DEL and GC, each with the index: a cursor is at the node that FT.AGGREGATE has asked.
    ("FT.CURSOR", SECOND),
    ("FT.DEBUG", SECOND),
    ("FT._DEBUG", SECOND),
    ("GRAPH.CONFIG", NONE),
    ("GRAPH.CONSTRAINT", SECOND),
    ("GRAPH.COPY", TWO),
    ("GRAPH.MEMORY", SECOND),
    ("JSON.DEBUG", SECOND),
    ("JSON.MGET", &[range(1, -2, 1)]),
    ("JSON.MSET", &[range(1, -1, 3)]),
    ("TDIGEST.MERGE", MERGE),
    ("TFCALL", CALL),
    ("TFCALLASYNC", CALL),
    ("TFUNCTION", NONE),
    ("TS.CREATERULE", TWO),
    ("TS.DELETERULE", TWO),
    ("TS.MADD", &[range(1, -1, 3)]),
    // Their filters are about labels; the module asks the other nodes.
    ("TS.MGET", NONE),
    ("TS.MRANGE", NONE),
    ("TS.MREVRANGE", NONE),
    ("TS.QUERYINDEX", NONE),
];

/// Where the keys are of a command that the table does not know, or whose keys it does not tell.
/// `None`: it is not known here.
///
/// With a number of keys that cannot be right the first argument that could be one stands for all,
/// so that the command goes where the server can say what is wrong.
pub(crate) fn positions<A: AsRef<[u8]>>(args: &[A]) -> Option<Vec<usize>> {
    let word = |index: usize| args.get(index).map_or(&b""[..], AsRef::as_ref);
    let is_called = |name: &str| match name.split_once(' ') {
        None => name.as_bytes().eq_ignore_ascii_case(word(0)),
        Some((container, own)) => {
            container.as_bytes().eq_ignore_ascii_case(word(0)) && own.as_bytes().eq_ignore_ascii_case(word(1))
        }
    };
    let (_, specs) = ROWS.iter().find(|(name, _)| is_called(name))?;
    let mut positions = Vec::new();
    specs.iter().for_each(|spec| spec.likely_positions(args, &mut positions));
    Some(positions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_where_the_references_have_them() {
        for (line, expected) in [
            ("FT.CURSOR READ idx 7 COUNT 5", &["idx"][..]),
            ("ft.cursor del idx 7", &["idx"]),
            ("FT.CONFIG GET TIMEOUT", &[]),
            ("TS.MGET FILTER a=b", &[]),
            ("TS.MRANGE - + FILTER a=b", &[]),
            ("TS.QUERYINDEX a=b", &[]),
            ("TS.CREATERULE a b AGGREGATION avg 5", &["a", "b"]),
            ("TS.MADD a 1 2 b 3 4", &["a", "b"]),
            ("CMS.MERGE d 2 a b WEIGHTS 1 2", &["d", "a", "b"]),
            ("TDIGEST.MERGE d 1 a COMPRESSION 5", &["d", "a"]),
            ("TDIGEST.MERGE d x a", &["d", "a"]),
            ("JSON.DEBUG MEMORY a $.b", &["a"]),
            ("JSON.DEBUG HELP", &[]),
            ("JSON.MGET a b $", &["a", "b"]),
            ("JSON.MSET a $ 1 b $", &["a", "b"]),
            ("DEBUG OBJECT a", &["a"]),
            ("DEBUG digest-value a b", &["a", "b"]),
            ("TFCALL lib.f 2 a b x", &["a", "b"]),
        ] {
            let args: Vec<&str> = line.split(' ').collect();
            let keys: Vec<_> = positions(&args).unwrap().into_iter().map(|position| args[position]).collect();
            assert_eq!(keys, expected, "{line}");
        }
        for line in ["JSON.GET a $", "FT.SEARCH idx *", "DEBUG SLEEP 1", "BF.ADD a b", "DEBUG"] {
            let args: Vec<&str> = line.split(' ').collect();
            assert_eq!(positions(&args), None, "{line}");
        }
    }
}
