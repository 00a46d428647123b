//! Tickets from being given to their end, on a machine whose nodes never answer.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec;
use core::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::address::NodeAddr;
use crate::cluster::{Input, Output};
use crate::config::Config;

/// A driver without sockets.
struct Driver {
    cluster: Cluster,
    session: Session,
    now: Instant,
}

impl Driver {
    fn new() -> Self {
        let mut config = Config::new(vec![NodeAddr::new("10.0.0.1", 7000)]);
        // The start does not end.
        config.connect_timeout = Duration::from_secs(3_600);
        let now = Instant::default();
        Self { cluster: Cluster::new(config, now, 1), session: Session::default(), now }
    }

    fn submit(&mut self, line: &str) -> u64 {
        let words: Vec<&str> = line.split(' ').collect();
        let ticket = self.session.next_ticket();
        let command = Command::new(&words).unwrap();
        self.session.submit(&mut self.cluster, self.now, command, &Destination::Cluster);
        ticket
    }

    fn call(&mut self, index: usize) {
        let command = Command::new(&["GET", "key"]).unwrap();
        self.session.call(&mut self.cluster, self.now, index, command, &Destination::Cluster);
    }

    /// Lets requests run out of time, without asking the machine what to do.
    fn pass(&mut self, seconds: u64) {
        self.now = self.now + Duration::from_secs(seconds);
        self.cluster.handle(self.now, Input::Tick);
    }

    fn drain(&mut self) {
        loop {
            match self.cluster.poll_output() {
                Output::Done { token, result } => self.session.done(token, result),
                Output::WaitUntil(_) => return,
                _ => {}
            }
        }
    }

    fn cancel(&mut self, ranges: &[(u64, u64)]) -> Vec<u64> {
        self.session.cancel(&mut self.cluster, ranges.iter().copied())
    }

    fn completions(&mut self) -> Vec<(u64, Ended)> {
        let mut taken = Vec::new();
        self.session
            .take_completions(Portion::decoded(u64::MAX), |ticket, ended| taken.push((ticket, ended)));
        taken
    }

    fn completed(&mut self) -> Vec<u64> {
        self.completions().into_iter().map(|(ticket, _)| ticket).collect()
    }
}

fn ok() -> Ended {
    Ok(RawReply::new("+OK\r\n".into(), 1))
}

#[test]
fn a_refused_command_has_a_ticket_and_has_ended() {
    let mut driver = Driver::new();
    assert_eq!(driver.submit("GET a"), 0);
    driver.session.refuse(Error::CrossSlot("two".into()));
    assert_eq!(driver.submit("GET b"), 2);
    assert_eq!(driver.completions(), [(1, Err(Error::CrossSlot("two".into())))]);
    assert!(!driver.session.is_wait_over(), "two are under way");
}

#[test]
fn completions_come_in_the_order_of_their_ends() {
    let mut driver = Driver::new();
    let long = driver.submit("BLPOP list 1");
    let short = driver.submit("GET a");
    driver.pass(5);
    driver.drain();
    assert!(driver.session.is_wait_over(), "one has ended");
    driver.pass(1);
    driver.drain();
    assert_eq!(driver.completed(), [short, long]);
    assert!(driver.session.is_wait_over(), "none is to come");
}

#[test]
fn each_end_goes_to_its_own_command_when_the_machine_uses_its_place_again() {
    let mut driver = Driver::new();
    let first = driver.submit("GET a");
    driver.pass(5);
    // The first has ended, and nobody has heard of it. This one has its place among the requests.
    let second = driver.submit("GET b");
    driver.drain();
    assert_eq!(driver.completed(), [first]);
    driver.pass(5);
    driver.drain();
    assert_eq!(driver.completed(), [second]);
}

#[test]
fn cancelling_what_has_ended_unheard_leaves_the_next_alone() {
    let mut driver = Driver::new();
    let first = driver.submit("GET a");
    driver.pass(5);
    let second = driver.submit("GET b");
    assert_eq!(driver.cancel(&[(first, 1)]), [first]);
    driver.drain();
    assert_eq!(driver.completed(), []);
    assert_eq!(driver.cluster.pending(), 1);
    assert_eq!(driver.cancel(&[(second, 1)]), [second]);
    assert_eq!(driver.cluster.pending(), 0);
}

#[test]
fn only_what_is_under_way_is_cancelled_and_once() {
    let mut driver = Driver::new();
    for key in 0..6 {
        driver.submit(&alloc::format!("GET {key}"));
    }
    driver.session.done(Token(3), ok());
    assert_eq!(driver.cancel(&[(2, 3), (1, 2), (5, 0), (5, u64::MAX), (9, 9)]), [2, 4, 1, 5]);
    assert_eq!(driver.cancel(&[(0, u64::MAX)]), [0]);
    assert_eq!(driver.completed(), [3], "its completion comes all the same");
    assert!(driver.session.is_wait_over());
    driver.session.done(Token(4), ok());
    driver.session.done(Token(77), ok());
    assert_eq!(driver.completed(), [], "nobody waits for those");
}

#[test]
fn calls_and_tickets_go_by_each_other() {
    let mut driver = Driver::new();
    driver.call(0);
    let ticket = driver.submit("GET a");
    driver.call(1);
    driver.pass(5);
    driver.drain();
    let returned: Vec<_> = driver.session.take_returned().map(|(index, _)| index).collect();
    assert_eq!(returned, [0, 1]);
    assert_eq!(driver.session.take_returned().count(), 0);
    assert_eq!(driver.completed(), [ticket]);
}

#[test]
fn the_end_of_the_client_ends_all() {
    let mut driver = Driver::new();
    let tickets = [driver.submit("GET a"), driver.submit("GET b")];
    driver.cluster.close();
    driver.drain();
    let completions = driver.completions();
    assert_eq!(completions, tickets.map(|ticket| (ticket, Err(Error::Closed))));
}

/// Completions of replies of these sizes, as they are returned together.
fn portions(sizes: &[usize], portion: Portion) -> Vec<Vec<u64>> {
    let mut driver = Driver::new();
    for length in sizes {
        let ticket = driver.submit("GET a");
        let reply = RawReply::new(vec![b'x'; *length].into(), 0);
        driver.session.done(Token(ticket), Ok(reply));
    }
    let mut portions = Vec::new();
    loop {
        let mut taken = Vec::new();
        driver.session.take_completions(portion, |ticket, _| taken.push(ticket));
        if taken.is_empty() {
            return portions;
        }
        portions.push(taken);
    }
}

#[test]
fn one_wait_returns_a_portion_or_one_larger_reply() {
    const KIB: usize = 1 << 10;
    let decoded = |sizes: &[usize]| portions(sizes, Portion::decoded(100));
    assert_eq!(
        decoded(&[40, 60, 1, 100, 101, 99, 1, 1]),
        [vec![0, 1], vec![2], vec![3], vec![4], vec![5, 6], vec![7]]
    );
    let decoded = portions(&[16 << 20, 1, (16 << 20) + 1, 0], Portion::decoded(u64::MAX));
    assert_eq!(decoded, [vec![0], vec![1], vec![2], vec![3]]);
    let encoded = |sizes: &[usize]| portions(sizes, Portion::encoded(u64::MAX));
    assert_eq!(encoded(&[1, 64 * KIB, 1, 64 * KIB - 1, 2]), [vec![0], vec![1], vec![2, 3, 4]]);
    assert_eq!(encoded(&[63 * KIB; 20]), [(0..16).collect::<Vec<_>>(), (16..20).collect()]);
}

/// What a test does with a session.
#[derive(Clone, Debug)]
enum Step {
    Submit(u8),
    Refuse,
    /// The end of a ticket, which may not be under way.
    End(u64),
    Cancel(Vec<(u64, u64)>),
    Take(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let range = (0..80_u64, prop_oneof![0..20_u64, Just(u64::MAX)]);
    prop_oneof![
        (1..20_u8).prop_map(Step::Submit),
        Just(Step::Refuse),
        (0..80_u64).prop_map(Step::End),
        (0..80_u64).prop_map(Step::End),
        (0..80_u64).prop_map(Step::End),
        prop::collection::vec(range, 0..4).prop_map(Step::Cancel),
        (1..10_usize).prop_map(Step::Take),
    ]
}

/// What is to be of the tickets: those under way, and those that have ended.
#[derive(Default)]
struct Model {
    next: u64,
    open: BTreeSet<u64>,
    ended: VecDeque<u64>,
}

impl Model {
    fn cancel(&mut self, ranges: &[(u64, u64)]) -> Vec<u64> {
        let mut cancelled = Vec::new();
        for (first, count) in ranges {
            let within = |ticket: &u64| ticket.checked_sub(*first).is_some_and(|after| after < *count);
            let (taken, left) = self.open.iter().partition::<BTreeSet<u64>, _>(|ticket| within(ticket));
            self.open = left;
            cancelled.extend(taken);
        }
        cancelled
    }
}

proptest! {
    #[test]
    fn every_ticket_ends_once_or_is_cancelled(steps in prop::collection::vec(step(), 0..60)) {
        let mut driver = Driver::new();
        let mut model = Model::default();
        for step in steps {
            match step {
                Step::Submit(count) => {
                    for _ in 0..count {
                        prop_assert_eq!(driver.submit("GET key"), model.next);
                        model.open.insert(model.next);
                        model.next += 1;
                    }
                }
                Step::Refuse => {
                    driver.session.refuse(Error::Closed);
                    model.ended.push_back(model.next);
                    model.next += 1;
                }
                Step::End(ticket) => {
                    driver.session.done(Token(ticket), ok());
                    model.ended.extend(model.open.take(&ticket));
                }
                Step::Cancel(ranges) => {
                    let pending = driver.cluster.pending();
                    let cancelled = driver.cancel(&ranges);
                    prop_assert_eq!(driver.cluster.pending(), pending - cancelled.len());
                    prop_assert_eq!(cancelled, model.cancel(&ranges));
                }
                Step::Take(count) => {
                    // An error counts nothing, so it may come behind them.
                    let mut taken = Vec::new();
                    let room = Portion::decoded(69 * count as u64);
                    driver.session.take_completions(room, |ticket, _| taken.push(ticket));
                    prop_assert!(taken.len() >= count.min(model.ended.len()));
                    let expected: Vec<u64> = model.ended.drain(..taken.len()).collect();
                    prop_assert_eq!(taken, expected);
                }
            }
            let is_over = model.open.is_empty() || !model.ended.is_empty();
            prop_assert_eq!(driver.session.is_wait_over(), is_over);
        }
    }

    #[test]
    fn tickets_are_found_and_leave_no_more_gaps_than_there_are_tickets(
        steps in prop::collection::vec((any::<bool>(), 0..2_000_usize, 1..40_u64), 0..300),
    ) {
        let mut tickets = Tickets::default();
        let mut model = BTreeMap::new();
        let mut next = 0;
        for (is_range, chosen, count) in steps {
            for _ in 0..20 {
                let id = crate::cluster::RequestId::from(slotmap::KeyData::from_ffi(next + 1));
                tickets.add(next, id);
                model.insert(next, id);
                next += 1 + next % 3;
            }
            let ticket = *model.keys().nth(chosen % model.len()).unwrap();
            if is_range {
                let mut taken = Vec::new();
                tickets.take_range(ticket, count, |ticket, id| taken.push((ticket, id)));
                let expected: Vec<_> = model.extract_if(ticket..ticket + count, |_, _| true).collect();
                prop_assert_eq!(taken, expected);
            } else {
                prop_assert_eq!(tickets.remove(ticket), model.remove(&ticket));
                prop_assert_eq!(tickets.remove(ticket), None);
            }
            prop_assert_eq!(tickets.is_empty(), model.is_empty());
            prop_assert!(tickets.footprint() <= (2 * model.len()).max(model.len() + 32));
        }
    }
}
