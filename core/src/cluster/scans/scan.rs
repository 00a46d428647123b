//! One scan: its options, its passes, and who waits for it.

use alloc::collections::VecDeque;
use alloc::string::ToString;
use alloc::vec::Vec;

use crate::address::NodeAddr;
use crate::cluster::queue::Queue;
use crate::cluster::scans::pass::Pass;
use crate::cluster::timers::Alarm;
use crate::command::prepared::Command;
use crate::error::Error;
use crate::scan::{ResumeToken, SlotCoverage};
use crate::time::Instant;

/// The longest token that is read.
const TOKEN_MAX: usize = 4 << 20;

/// What to scan, and how.
#[derive(Clone, Debug)]
pub struct ScanOptions {
    /// What to scan.
    pub subject: Subject,
    /// MATCH.
    pub pattern: Option<Vec<u8>>,
    /// COUNT: about how much a server looks at for one page. At least 1.
    pub count: u32,
    /// TYPE, where keys are scanned.
    pub kind: Option<Vec<u8>>,
    /// How many nodes are scanned at the same time. At least 1.
    pub parallel: u32,
    /// Where to go on, from [`Cluster::scan_token`](crate::cluster::Cluster::scan_token).
    pub token: Option<Vec<u8>>,
}

impl ScanOptions {
    /// All of it, in pages of 1,000, one node after the other.
    #[must_use]
    pub fn new(subject: Subject) -> Self {
        Self { subject, pattern: None, count: 1_000, kind: None, parallel: 1, token: None }
    }
}

/// What is scanned.
#[derive(Clone, Debug)]
pub enum Subject {
    /// All keys.
    Cluster,
    /// The keys that this node has.
    Node(NodeAddr),
    /// The fields and values of this hash.
    Hash(Vec<u8>),
    /// The members of this set.
    Set(Vec<u8>),
    /// The members and scores of this sorted set.
    SortedSet(Vec<u8>),
}

/// A scan under way.
#[derive(Debug)]
pub(in crate::cluster) struct Scan {
    pub(super) source: Source,
    pattern: Option<Vec<u8>>,
    count: u32,
    kind: Option<Vec<u8>>,
    pub(super) parallel: u32,
    pub(super) passes: Vec<Pass>,
    pub(super) next_pass: u32,
    /// Those who wait for a batch, in order.
    pub(super) waiting: Queue,
    /// Passes whose batch waits to be handed out, in the order in which they came.
    pub(super) ready: VecDeque<u32>,
    /// What the next caller is told at once.
    pub(super) error: Option<Error>,
    /// Why no slot could be done of late.
    pub(super) trouble: Option<Error>,
    /// How often slots were to be found anew since the last one was done.
    pub(super) reopened: u32,
    /// Nodes that get keys from others that come first.
    pub(super) postponed: Vec<NodeAddr>,
    /// When the last page came.
    pub(super) paged_at: Instant,
    /// Passes in a row that came to nothing; until when none begins.
    pub(super) fruitless: u32,
    pub(super) not_before: Option<Instant>,
    /// When it wants attention.
    pub(super) alarm: Alarm,
}

#[derive(Debug)]
pub(in crate::cluster) enum Source {
    /// A cluster's slots; of a server alone, all that it has.
    Keys(SlotCoverage),
    /// What one node has.
    Node(NodeAddr),
    /// What one key has: by this command.
    Collection(&'static str, Vec<u8>),
}

impl Scan {
    pub(in crate::cluster) fn new(options: ScanOptions) -> Result<Self, Error> {
        let wrong = |text: &str| Err(Error::InvalidArgument(text.to_string()));
        if options.count == 0 || options.parallel == 0 {
            return wrong("a scan's count and parallel are at least 1");
        }
        let source = match options.subject {
            Subject::Cluster => Source::Keys(SlotCoverage::default()),
            Subject::Node(address) => Source::Node(address),
            Subject::Hash(key) => Source::Collection("HSCAN", key),
            Subject::Set(key) => Source::Collection("SSCAN", key),
            Subject::SortedSet(key) => Source::Collection("ZSCAN", key),
        };
        if matches!(source, Source::Collection(..)) && (options.kind.is_some() || options.token.is_some()) {
            return wrong("a scan of one key has no type and no token");
        }
        let mut scan = Self {
            source,
            pattern: options.pattern,
            count: options.count,
            kind: options.kind,
            parallel: options.parallel,
            passes: Vec::new(),
            next_pass: 0,
            waiting: Queue::default(),
            ready: VecDeque::new(),
            error: None,
            trouble: None,
            reopened: 0,
            postponed: Vec::new(),
            paged_at: Instant::default(),
            fruitless: 0,
            not_before: None,
            alarm: Alarm::default(),
        };
        if let Some(token) = options.token {
            scan.resume(&token)?;
        }
        Ok(scan)
    }

    fn resume(&mut self, token: &[u8]) -> Result<(), Error> {
        let wrong = |text: &str| Err(Error::InvalidArgument(text.to_string()));
        let Some(token) = (token.len() <= TOKEN_MAX).then(|| ResumeToken::decode(token)).flatten() else {
            return wrong("the token is none of a scan, or is damaged");
        };
        if token.filter != self.filter() {
            return wrong("the token is of a scan with another match or type");
        }
        match (&mut self.source, token.node) {
            (Source::Keys(coverage), None) => *coverage = token.coverage,
            (source @ Source::Keys(_), Some(node)) => *source = Source::Node(node),
            (Source::Node(address), Some(node)) if *address == node => {}
            _ => return wrong("the token is of a scan of something else"),
        }
        for bookmark in token.passes {
            self.next_pass += 1;
            self.passes.push(Pass::resumed(self.next_pass, bookmark));
        }
        Ok(())
    }

    pub(super) fn pass(&mut self, number: u32) -> Option<&mut Pass> {
        self.passes.iter_mut().find(|pass| pass.number == number)
    }

    /// Tells scans with different patterns or types apart.
    pub(in crate::cluster) fn filter(&self) -> u32 {
        let hash = |text: &Option<Vec<u8>>| text.as_ref().map_or(0, |text| crate::scan::hash(text));
        hash(&self.pattern) ^ hash(&self.kind).rotate_left(1)
    }

    pub(super) fn page_command(&self, cursor: &str) -> Result<Command, Error> {
        let mut words: Vec<&[u8]> = match &self.source {
            Source::Collection(name, key) => Vec::from([name.as_bytes(), key]),
            Source::Keys(_) | Source::Node(_) => Vec::from([&b"SCAN"[..]]),
        };
        let count = self.count.to_string();
        words.extend([cursor.as_bytes(), b"COUNT", count.as_bytes()]);
        if let Some(pattern) = &self.pattern {
            words.extend([&b"MATCH"[..], pattern]);
        }
        if let Some(kind) = &self.kind {
            words.extend([&b"TYPE"[..], kind]);
        }
        Command::new(&words)
    }

    /// Whether passes that have failed are to be tried again, and new ones begun after some that
    /// came to nothing.
    pub(super) fn is_wanted(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// When it has something to do for those who wait.
    pub(super) fn due_at(&self) -> Option<Instant> {
        if self.is_wanted() { self.wakes_at() } else { None }
    }

    /// When it has something to do without an answer.
    fn wakes_at(&self) -> Option<Instant> {
        let is_idle = |pass: &&Pass| pass.failures > 0 && pass.asked.is_none();
        let passes = self.passes.iter().filter(is_idle).map(|pass| pass.not_before);
        passes.chain(self.not_before).min()
    }

    pub(in crate::cluster) fn footprint(&self) -> usize {
        self.passes.len() + self.waiting.footprint() + self.ready.len()
    }
}
