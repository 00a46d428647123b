//! What random runs ask for: requests whose replies show which request they belong to.

use keyslot_core::cluster::{Command, Scripts};
use keyslot_core::resp::ReplyNode;

use super::wire::Words;

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Echo,
    Get,
    Mget,
    Set,
    GetSet,
    Append,
    Incr,
    Del,
    /// MGET of keys in three slots.
    Spread,
    /// DEL of keys in two slots.
    Wipe,
    /// A transaction of two INCRs.
    Both,
    /// EVALSHA of the one script there is, which is an INCR.
    Script,
    /// BLPOP of a list that has an element.
    Pop,
    /// SET of the tag's register, to the request's number.
    Put,
    /// GET of the tag's register: the answer is one of its values.
    Look,
}

pub(crate) const KINDS: [Kind; 20] = [
    Kind::Get,
    Kind::Set,
    Kind::Incr,
    Kind::Mget,
    Kind::GetSet,
    Kind::Append,
    Kind::Del,
    Kind::Echo,
    Kind::Get,
    Kind::Set,
    Kind::Put,
    Kind::Look,
    Kind::Look,
    Kind::Put,
    Kind::Spread,
    Kind::Wipe,
    Kind::Both,
    Kind::Both,
    Kind::Script,
    Kind::Pop,
];

/// One request: its kind, its number, which nobody else has, and the hash tag that decides its
/// slot.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Operation {
    pub(crate) kind: Kind,
    pub(crate) number: u64,
    pub(crate) tag: u64,
}

/// The SHA-1 of the text of [`SCRIPT`].
pub(crate) const SCRIPT_SHA1: &str = "6fc0224ef94f8f236ff737c671c706a18537f247";

/// The script that the client knows, and the servers forget now and then.
pub(crate) const SCRIPT: &str = "return redis.call('INCR', KEYS[1]) -- longer than its name, as scripts are";

/// How many redirects a request follows.
const REDIRECTS_MAX: u64 = 16;
/// How long BLPOP would wait, in milliseconds.
const POP_MS: u64 = 250;

/// How many hash tags the operations use.
pub(crate) const TAG_COUNT: u64 = 8;

/// The key of one kind that carries a request's number.
pub(crate) fn key_of_tag(tag: u64, kind: char, number: u64) -> String {
    format!("{{t{tag}}}:{kind}:{number}")
}

pub(super) fn register(tag: u64) -> String {
    key_of_tag(tag, 'v', 0)
}

/// What the number of a request's second write has more than its first.
pub(super) const SECOND_WRITE: u64 = 1 << 32;

impl Operation {
    /// The numbers of the writes that it consists of.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u64> + use<> {
        let second = matches!(self.kind, Kind::Wipe | Kind::Both).then_some(self.number + SECOND_WRITE);
        std::iter::once(self.number).chain(second)
    }

    /// Whether it has keys in several slots.
    pub(super) fn has_parts(&self) -> bool {
        matches!(self.kind, Kind::Spread | Kind::Wipe)
    }

    pub(crate) fn writes(&self) -> bool {
        !matches!(self.kind, Kind::Echo | Kind::Get | Kind::Mget | Kind::Spread | Kind::Look)
    }

    pub(crate) fn words(&self) -> Words {
        let key = |kind| key_of_tag(self.tag, kind, self.number);
        let number = self.number.to_string();
        let words = match self.kind {
            Kind::Echo => vec!["ECHO".into(), number],
            Kind::Get => vec!["GET".into(), key('g')],
            Kind::Mget => vec!["MGET".into(), key('m'), key('n')],
            Kind::Set => vec!["SET".into(), key('s'), number],
            Kind::GetSet => vec!["GETSET".into(), key('o'), number],
            Kind::Append => vec!["APPEND".into(), key('l'), "x".repeat(self.number as usize)],
            Kind::Incr => vec!["INCR".into(), key('i')],
            Kind::Del => vec!["DEL".into(), key('d'), key('e')],
            Kind::Spread => {
                let key =
                    |further: u64, kind| key_of_tag((self.tag + further) % TAG_COUNT, kind, self.number);
                vec!["MGET".into(), key(1, 'm'), key(0, 'g'), key(3, 'n')]
            }
            Kind::Wipe => {
                let other = key_of_tag((self.tag + 2) % TAG_COUNT, 'd', self.number + SECOND_WRITE);
                vec!["DEL".into(), key('d'), other]
            }
            // The first of the two; see `command`.
            Kind::Both => vec!["INCR".into(), key('i')],
            Kind::Script => vec!["EVALSHA".into(), SCRIPT_SHA1.into(), "1".into(), key('i')],
            Kind::Pop => vec!["BLPOP".into(), key('p'), format!("0.{POP_MS}")],
            Kind::Put => vec!["SET".into(), register(self.tag), number],
            Kind::Look => vec!["GET".into(), register(self.tag)],
        };
        words.into_iter().map(String::into_bytes).collect()
    }

    /// What is handed to the client.
    pub(crate) fn command(&self, scripts: &Scripts) -> Command {
        let words = self.words();
        if self.kind != Kind::Both {
            return Command::new(&words).expect("every operation is a valid command");
        }
        let second = key_of_tag(self.tag, 'i', self.number + SECOND_WRITE);
        let commands = [words.iter().map(Vec::as_slice).collect(), vec![b"INCR", second.as_bytes()]];
        Command::transaction(&commands, scripts).expect("both keys have one slot")
    }

    /// How much longer than others it may take, in nanoseconds. What blocks waits anew after each
    /// redirect.
    pub(crate) fn extra_time(&self) -> u64 {
        if self.kind == Kind::Pop { POP_MS * 1_000_000 * (1 + REDIRECTS_MAX) } else { 0 }
    }

    /// The reply that only this request can have (SET and DEL apart, which all have the same), when
    /// it is executed for the `run`th time. `None` for the read of a register, which has many.
    pub(super) fn expected(&self, run: u64) -> Option<Vec<ReplyNode>> {
        let number = self.number;
        let again = run > 1;
        let bulk = |text: String| ReplyNode::BulkString(text.into_bytes().into());
        let value = |kind: char| bulk(format!("{kind}:{number}"));
        let nodes = match self.kind {
            Kind::Echo => vec![bulk(number.to_string())],
            Kind::Get => vec![value('g')],
            Kind::Mget => vec![ReplyNode::Array(2), value('m'), value('n')],
            Kind::Spread => vec![ReplyNode::Array(3), value('m'), value('g'), value('n')],
            Kind::Wipe => vec![ReplyNode::Integer(2)],
            Kind::Set | Kind::Put => vec![ReplyNode::SimpleString("OK".into())],
            Kind::GetSet if again => vec![bulk(number.to_string())],
            Kind::GetSet => vec![value('o')],
            Kind::Append => {
                let length = format!("l:{number}").len() as u64 + run * number;
                vec![ReplyNode::Integer(length as i64)]
            }
            Kind::Incr => vec![ReplyNode::Integer((number * 1000 + run) as i64)],
            Kind::Script => vec![ReplyNode::Integer((number * 1000 + run) as i64)],
            Kind::Both => {
                let counted = [number, number + SECOND_WRITE].map(|number| (number * 1000 + run) as i64);
                vec![ReplyNode::Array(2), ReplyNode::Integer(counted[0]), ReplyNode::Integer(counted[1])]
            }
            Kind::Pop if again => vec![ReplyNode::Null],
            Kind::Pop => {
                let key = key_of_tag(self.tag, 'p', number);
                vec![ReplyNode::Array(2), bulk(key), value('p')]
            }
            // The servers' DEL takes the first of the two.
            Kind::Del => vec![ReplyNode::Integer(if again { 1 } else { 2 })],
            Kind::Look => return None,
        };
        Some(nodes)
    }
}
