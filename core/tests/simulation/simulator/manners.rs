//! What is odd about a node that is not well: how it treats its connections, and answers of other
//! shapes and lengths than they have by right.

use super::busy::LongScripts;
use super::server::Servers;
use super::wire::{Answer, Words};

/// Nodes in a list that is as long as lists may be.
pub(crate) const NODES_MAX: usize = 4_096;

/// What is odd about a node.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Manners {
    /// It answers byte by byte, so many nanoseconds apart.
    pub(crate) drip: Option<u64>,
    /// It reads nothing: what the buffers on the way do not take stays with the client's driver.
    pub(crate) is_stuck: bool,
    /// It answers the handshake, and then nothing.
    pub(crate) only_greets: bool,
    /// Its scripts run until they are killed.
    pub(crate) scripts: Option<LongScripts>,
    /// What it answers to EXEC, when it would be the results.
    pub(crate) exec: Option<Shape>,
    /// Its errors have so many bytes; redirects are as they are.
    pub(crate) error_length: usize,
    /// Its CLUSTER SLOTS is as long as it may be.
    pub(crate) list: Option<List>,
    /// What becomes of new connections.
    pub(crate) greeting: Greeting,
    /// What commands with these first words are answered with; `None`: an access list without them.
    pub(crate) refuses: &'static [&'static str],
    pub(crate) refuses_with: Option<&'static str>,
}

/// What a node says to new connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Greeting {
    #[default]
    Welcome,
    /// This error, before it has read anything; then it hangs up.
    AtAccept(&'static str),
    /// This error to the first command; then it hangs up.
    ToFirst(&'static str),
    /// It hangs up when it is sent something.
    HangsUp,
    /// It hangs up on a command that begins with these words.
    HangsUpOn(&'static str),
}

/// What full and protected servers say.
pub(crate) const FULL: &str = "ERR max number of clients reached";
pub(crate) const DENIED: &str = "DENIED Redis is running in protected mode because protected mode is enabled";

/// How a command is not executed.
#[derive(Debug)]
pub(super) enum Refusal {
    /// With this error, and the connection goes on.
    Answers(String),
    /// And the connection ends, perhaps after an error.
    HangsUp(Option<String>),
}

/// What EXEC is answered with instead of one result for each command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    TooFew,
    TooMany,
    Nothing,
    Map,
    Integer,
    Text,
}

/// How a list comes to its limit without saying anything untrue of the slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum List {
    /// Each slot is a range.
    Ranges,
    /// The first range has replicas that nobody has heard of.
    Nodes,
}

impl Shape {
    pub(super) fn of(self, answer: Answer) -> Answer {
        let Answer::Array(mut results) = answer else { return answer };
        match self {
            Self::TooFew => drop(results.pop()),
            Self::TooMany => results.push(Answer::Integer(1)),
            Self::Nothing => results.clear(),
            Self::Map => {
                return Answer::Map(vec![("first", Answer::Integer(1)), ("second", Answer::Integer(2))]);
            }
            Self::Integer => return Answer::Integer(2),
            Self::Text => return Answer::Simple("OK"),
        }
        Answer::Array(results)
    }
}

impl Manners {
    /// Whether the node does not even execute the command.
    pub(super) fn refusal(&self, is_first: bool, words: &Words) -> Option<Refusal> {
        let line: Vec<_> =
            words.iter().map(|word| String::from_utf8_lossy(word).to_ascii_uppercase()).collect();
        let line = line.join(" ");
        let begins =
            |with: &str| line.strip_prefix(with).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '));
        match self.greeting {
            Greeting::AtAccept(_) => return Some(Refusal::HangsUp(None)),
            Greeting::ToFirst(error) if is_first => return Some(Refusal::HangsUp(Some(error.into()))),
            Greeting::HangsUp if is_first => return Some(Refusal::HangsUp(None)),
            Greeting::HangsUpOn(with) if begins(with) => return Some(Refusal::HangsUp(None)),
            _ => {}
        }
        let name = line.split(' ').next().unwrap_or_default().to_ascii_lowercase();
        let own = format!("NOPERM User app has no permissions to run the '{name}' command");
        let refused = self.refuses.iter().any(|with| begins(with));
        refused.then(|| Refusal::Answers(self.refuses_with.map_or(own, Into::into)))
    }
}

impl Servers {
    /// The answer as the node words it.
    pub(super) fn worded(&self, node: usize, answer: Answer) -> Answer {
        let length = self.nodes[node].manners.error_length;
        match answer {
            Answer::Error(text) if text.len() < length && !is_redirect(&text) => {
                let more = length - text.len() - 1;
                Answer::Error(format!("{text} {}", "x".repeat(more)))
            }
            answer => answer,
        }
    }

    /// A node's ranges, as many as there may be.
    pub(super) fn spread_out(
        &self,
        node: usize,
        ranges: Vec<(usize, usize, usize)>,
    ) -> Vec<(usize, usize, usize)> {
        match self.nodes[node].manners.list {
            Some(List::Ranges) => {
                let slots = |(first, last, owner)| (first..=last).map(move |slot| (slot, slot, owner));
                ranges.into_iter().flat_map(slots).collect()
            }
            Some(List::Nodes) | None => ranges,
        }
    }

    /// Replicas that nobody has heard of, for the range that begins at this slot.
    pub(super) fn strangers(&self, node: usize, first: usize) -> Vec<Answer> {
        if self.nodes[node].manners.list != Some(List::Nodes) || first != 0 {
            return Vec::new();
        }
        let stranger = |number: usize| {
            let host = Answer::text(&format!("10.200.{}.{}", number / 256, number % 256));
            let id = Answer::text(&format!("{:040x}", 1_000 + number));
            Answer::Array(vec![host, Answer::Integer(6379), id, Answer::Array(Vec::new())])
        };
        (0..NODES_MAX - self.nodes.len()).map(stranger).collect()
    }
}

fn is_redirect(text: &str) -> bool {
    text.starts_with("MOVED") || text.starts_with("ASK")
}

/// Whether a command is one of the handshake's.
pub(super) fn is_greeting(words: &Words) -> bool {
    let is_own = matches!(&words[0][..], b"HELLO" | b"AUTH" | b"CLIENT" | b"SELECT" | b"READONLY");
    is_own || words.get(1).is_some_and(|word| word == b"MYID")
}
