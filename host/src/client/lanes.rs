//! Calls on their way into the component: a queue for each caller, and the callers take turns.
//!
//! A turn is one call, or one piece of a long pipeline. A long pipeline for whose next piece there
//! is no room yet passes its turn, so that the other callers' calls go by; what its own caller asks
//! later waits behind it.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};

use super::flight::{Batch, Flight, Room};
use super::requests::Requests;
use super::{Caller, Target};
use crate::Error;

/// With every so many calls in a queue, those whose callers have gone are taken out of it.
const TIDY_INTERVAL: usize = 1_024;

/// Whose call it is: the number of a clone of the client, or of a lent connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Lane(u64);

impl Lane {
    /// The worker's own.
    pub(super) const OWN: Self = Self(u64::MAX);

    pub(super) const fn new(number: u64) -> Self {
        Self(number)
    }
}

/// A call of commands, of which some may be in the component already.
pub(super) struct Run {
    pub(super) lane: Lane,
    pub(super) target: Target,
    /// Those that are still to be handed in.
    pub(super) requests: Requests,
    pub(super) progress: Progress,
}

/// How far a call has come that is not yet handed in as a whole.
pub(super) enum Progress {
    /// Nothing of it is.
    New(Caller),
    /// It has this number, and so many of its commands are.
    Begun { call: u64, commands: usize },
}

impl Run {
    pub(super) fn fail(self, error: &Error) {
        if let Progress::New(caller) = self.progress {
            caller.fail(error);
        }
    }

    /// Whether it goes in in several pieces.
    pub(super) fn is_long(&self) -> bool {
        self.requests.pieces() > 1 || matches!(self.progress, Progress::Begun { .. })
    }
}

/// The calls that wait to be handed in.
#[derive(Default)]
pub(super) struct Lanes {
    /// No queue is empty.
    queues: HashMap<Lane, VecDeque<Run>>,
    /// Each lane that has a queue, once: the first is next.
    turns: VecDeque<Lane>,
}

impl Lanes {
    pub(super) fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    /// Ends all calls of which nothing is handed in.
    pub(super) fn fail(&mut self, error: &Error) {
        for run in self.queues.drain().flat_map(|(_, queue)| queue) {
            run.fail(error);
        }
        self.turns.clear();
    }

    /// Puts a call behind the others of its caller.
    pub(super) fn push(&mut self, run: Run) {
        let lane = run.lane;
        let queue = self.queues.entry(lane).or_insert_with(|| {
            self.turns.push_back(lane);
            VecDeque::with_capacity(1)
        });
        queue.push_back(run);
        if queue.len().is_multiple_of(TIDY_INTERVAL) {
            queue.retain(|run| !matches!(&run.progress, Progress::New(caller) if caller.is_gone()));
            if queue.is_empty() {
                self.queues.remove(&lane);
                self.turns.retain(|turn| *turn != lane);
            }
        }
    }

    /// Takes what is to be handed in next, by turns.
    pub(super) fn gather(&mut self, flight: &mut Flight) -> Batch {
        let mut batch = Batch::default();
        // How many lanes in a row have passed their turn.
        let mut passed = 0;
        while !batch.is_full() && passed < self.turns.len() {
            let Some(lane) = self.turns.pop_front() else {
                break;
            };
            let Entry::Occupied(mut queue) = self.queues.entry(lane) else {
                continue;
            };
            while queue.get().front().is_some_and(|run| flight.is_abandoned(run)) {
                queue.get_mut().pop_front();
            }
            let Some(run) = queue.get_mut().front_mut() else {
                queue.remove();
                continue;
            };
            match batch.room_for(run, flight) {
                Room::Now => {
                    passed = 0;
                    batch.add(run, flight);
                    if run.requests.pieces() == 0 {
                        queue.get_mut().pop_front();
                    }
                }
                Room::NotYet => passed += 1,
                // Nobody goes by, or a large call would wait for as long as there are small ones.
                Room::None => {
                    self.turns.push_front(lane);
                    break;
                }
            }
            if queue.get().is_empty() {
                queue.remove();
            } else {
                self.turns.push_back(lane);
            }
        }
        batch
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;
    use crate::client::Answer;
    use crate::reply::Ended;
    use crate::{Options, Reply};

    /// The lanes, and a component that takes all and answers when it is told to.
    struct Fixture {
        lanes: Lanes,
        flight: Flight,
        next_ticket: u64,
        /// What was handed in and has not ended: the first ticket and the number of commands of
        /// each piece.
        under_way: VecDeque<(u64, usize)>,
    }

    impl Fixture {
        fn new() -> Self {
            let flight = Flight::new(&Options::new(["a"]));
            Self { lanes: Lanes::default(), flight, next_ticket: 0, under_way: VecDeque::new() }
        }

        /// A call of so many commands, each of which has the lane's number and its own as its
        /// words.
        fn call(&mut self, lane: u64, count: usize) -> oneshot::Receiver<Result<Vec<Outcome>, crate::Error>> {
            let (sender, receiver): (Answer<_>, _) = oneshot::channel();
            let commands = (0..count).map(|number| [format!("lane-{lane}"), number.to_string()]);
            let requests = Requests::many(commands);
            let progress = Progress::New(Caller::Many(sender));
            self.lanes.push(Run { lane: Lane(lane), target: Target::Cluster, requests, progress });
            receiver
        }

        /// Hands in what there is room for. Gives of each run of commands whose they are and how
        /// many.
        fn gather(&mut self) -> Vec<(u64, usize)> {
            let mut taken = Vec::<(u64, usize)>::new();
            loop {
                let parts = self.lanes.gather(&mut self.flight).into_parts();
                if parts.is_empty() {
                    return taken;
                }
                for part in parts {
                    let mut rest = &part.requests[..];
                    let mut words = Vec::new();
                    let mut count = 0;
                    while let Ok(Some(_)) = keyslot_core::resp::take_request(&mut rest, &mut words) {
                        let lane = str::from_utf8(words[0]).unwrap().strip_prefix("lane-").unwrap();
                        let lane = lane.parse().unwrap();
                        match taken.last_mut() {
                            Some((last, commands)) if *last == lane => *commands += 1,
                            _ => taken.push((lane, 1)),
                        }
                        count += 1;
                    }
                    self.flight.enter(self.next_ticket, &part);
                    self.under_way.push_back((self.next_ticket, count));
                    self.next_ticket += count as u64;
                }
            }
        }

        /// Answers the piece that was handed in first.
        fn answer(&mut self) {
            let (first, count) = self.under_way.pop_front().expect("something is under way");
            for ticket in first..first + count as u64 {
                let ended = Ended { result: Ok(Reply::new(Vec::new())), size: 0 };
                assert!(self.flight.land(ticket, ended));
            }
        }
    }

    type Outcome = Result<Reply, crate::Error>;

    #[test]
    fn other_callers_go_by_a_long_pipeline_and_its_own_wait_behind_it() {
        let mut fixture = Fixture::new();
        let _long = fixture.call(1, 60_000);
        let _own = fixture.call(1, 1);
        let _other = fixture.call(2, 3);
        assert_eq!(fixture.gather(), [(1, 10_000), (2, 3), (1, 20_000)]);
        let _later = fixture.call(2, 1);
        assert_eq!(fixture.gather(), [(2, 1)]);
        for _ in 0..2 {
            fixture.answer();
            assert_eq!(fixture.gather(), [(1, 10_000)]);
        }
        fixture.answer();
        assert_eq!(fixture.gather(), [(1, 10_001)]);
        assert!(fixture.lanes.is_empty());
    }

    #[test]
    fn long_pipelines_take_turns() {
        let mut fixture = Fixture::new();
        let _first = fixture.call(1, 60_000);
        assert_eq!(fixture.gather(), [(1, 40_000)]);
        // Who has nothing under way may have a piece, whatever the others have.
        let _second = fixture.call(2, 30_000);
        assert_eq!(fixture.gather(), [(2, 10_000)]);
        fixture.answer();
        assert_eq!(fixture.gather(), []);
        fixture.answer();
        assert_eq!(fixture.gather(), [(1, 10_000)]);
        fixture.answer();
        assert_eq!(fixture.gather(), [(2, 10_000)]);
        fixture.answer();
        assert_eq!(fixture.gather(), [(1, 10_000)]);
    }

    #[test]
    fn what_nobody_waits_for_is_not_handed_in() {
        let mut fixture = Fixture::new();
        let long = fixture.call(1, 60_000);
        let _behind = fixture.call(1, 1);
        fixture.gather();
        drop(long);
        assert_eq!(fixture.gather(), [(1, 1)]);
        assert!(fixture.lanes.is_empty());
        for _ in 0..10 * TIDY_INTERVAL {
            drop(fixture.call(2, 1));
        }
        assert!(fixture.lanes.queues.get(&Lane(2)).is_none_or(|queue| queue.len() < TIDY_INTERVAL));
        assert_eq!(fixture.gather(), []);
    }

    #[test]
    fn nobody_goes_by_when_the_component_is_full() {
        let mut fixture = Fixture::new();
        let _calls: Vec<_> = (0..100).map(|lane| fixture.call(lane, 999)).collect();
        assert_eq!(fixture.gather().len(), 100);
        let _large = fixture.call(100, 1_000);
        let _small = fixture.call(101, 1);
        // 99,900 are under way.
        assert_eq!(fixture.gather(), []);
        fixture.answer();
        assert_eq!(fixture.gather(), [(100, 1_000), (101, 1)]);
    }
}
