//! Scans in a random run: begun at any time, asked on as soon as a batch has come, resumed from
//! their tokens now and then. Whatever happens meanwhile, a scan that comes to its end has returned
//! every key that was there throughout.

use std::collections::BTreeSet;

use keyslot_core::cluster::{RequestId, ScanId, ScanOptions, Subject};
use keyslot_core::resp::ReplyNode;
use keyslot_core::slot::Slot;

use super::choices::Choices;
use super::coverage::Feature;
use super::faults::Act;
use super::plan::{Kind, Plan};
use super::standing::standing_keys;
use super::world::{MILLISECOND, World};

/// How long a scan waits after an error.
const PAUSE: u64 = 100 * MILLISECOND;

/// All scans of a run.
#[derive(Debug, Default)]
pub(super) struct Scanners {
    all: Vec<Scanner>,
}

/// One scan.
#[derive(Debug)]
struct Scanner {
    /// None after its end.
    scan: Option<ScanId>,
    options: (u32, u32),
    request: Option<RequestId>,
    returned: BTreeSet<Vec<u8>>,
    /// The version of the cluster's configuration when it began.
    began_at: u64,
}

pub(super) fn plan_scans(choices: &mut Choices, plan: &mut Plan) {
    for _ in 0..choices.pick(&[0, 0, 1, 1, 2]) {
        let at = choices.below(3_000) * MILLISECOND;
        let (count, parallel) = (choices.pick(&[1, 3, 10, 1_000]), choices.pick(&[1, 1, 2, 5]));
        plan.add(Kind::Scan, vec![(at, Act::Scan { count, parallel })]);
    }
}

impl World<Act> {
    pub(super) fn begin_scan(&mut self, count: u32, parallel: u32) {
        let number = self.scanners.all.len();
        let scanner = Scanner {
            scan: None,
            options: (count, parallel),
            request: None,
            returned: BTreeSet::new(),
            began_at: self.servers.version(),
        };
        self.scanners.all.push(scanner);
        self.open(number, None);
        self.ask_on(number);
    }

    /// Nothing but its token is left of an earlier one.
    fn open(&mut self, number: usize, token: Option<Vec<u8>>) {
        let (count, parallel) = self.scanners.all[number].options;
        let options = ScanOptions { count, parallel, token, ..ScanOptions::new(Subject::Cluster) };
        // The client may be of no use.
        self.scanners.all[number].scan = self.cluster.open_scan(options).ok();
    }

    pub(super) fn ask_on(&mut self, number: usize) {
        if let Some(scan) = self.scanners.all[number].scan {
            self.scanners.all[number].request = Some(self.next_batch(scan));
            self.drain();
        }
    }

    /// Takes in what has come of the scans.
    pub(super) fn follow_scans(&mut self) {
        for number in 0..self.scanners.all.len() {
            while let Some(request) = self.scanners.all[number].request
                && let Some(outcome) = self.outcome(request).cloned()
            {
                self.scanners.all[number].request = None;
                match outcome {
                    Ok(reply) if reply.nodes == [ReplyNode::Null] => self.check_scan(number),
                    Ok(reply) => {
                        let keys = reply.nodes.iter().skip(1).filter_map(|node| match node {
                            ReplyNode::BulkString(key) => Some(key.to_vec()),
                            _ => None,
                        });
                        self.scanners.all[number].returned.extend(keys);
                        if self.choices.chance(10) {
                            self.move_scan(number);
                        }
                        self.ask_on(number);
                    }
                    Err(_) => {
                        self.coverage.count(Feature::ScanBatchFailed);
                        self.plan(self.now() + PAUSE, Act::AskOn { scanner: number });
                    }
                }
            }
        }
    }

    /// A scan's request was given up: it asks again.
    pub(super) fn forgot_batch(&mut self, request: RequestId) {
        for number in 0..self.scanners.all.len() {
            if self.scanners.all[number].request.take_if(|own| *own == request).is_some() {
                self.plan(self.now() + PAUSE, Act::AskOn { scanner: number });
            }
        }
    }

    /// It goes on as another client's would that has its token.
    fn move_scan(&mut self, number: usize) {
        let Some(scan) = self.scanners.all[number].scan else { return };
        let token = self.cluster.scan_token(scan);
        self.log(|| format!("{scan:?} is resumed"));
        self.coverage.count(Feature::ScanResumed);
        self.cluster.close_scan(scan);
        self.open(number, token);
    }

    fn check_scan(&mut self, number: usize) {
        self.end_scan(number);
        let scanner = &self.scanners.all[number];
        let has_changed = self.servers.version() != scanner.began_at;
        self.coverage.count(Feature::ScanEnded);
        self.coverage.count_if(Feature::ScanEpochsChanged, has_changed);
        let disturbed = |key: &Vec<u8>| self.servers.standing.disturbed.contains(&Slot::of_key(key).number());
        let missing = standing_keys().filter(|key| !scanner.returned.contains(key) && !disturbed(key));
        let missing: Vec<_> = missing.map(|key| key.escape_ascii().to_string()).collect();
        assert!(
            missing.is_empty(),
            "INVARIANT: every key that was there throughout is returned; scan {number} misses {missing:?}"
        );
    }

    fn end_scan(&mut self, number: usize) {
        if let Some(scan) = self.scanners.all[number].scan.take() {
            self.cluster.close_scan(scan);
            self.drain();
        }
    }

    /// Whether all scans have come to their end.
    pub(super) fn have_scans_ended(&self) -> bool {
        self.scanners.all.iter().all(|scanner| scanner.scan.is_none())
    }

    /// Ends those that have not.
    pub(super) fn end_scans(&mut self) {
        (0..self.scanners.all.len()).for_each(|number| self.end_scan(number));
    }
}
