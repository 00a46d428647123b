//! Calls on their way into the component: a queue for each caller, and the callers take turns.
//!
//! A turn is one call, or one piece of a long pipeline. A long pipeline for whose next piece there
//! is no room yet passes its turn, so that the other callers' calls go by; what its own caller asks
//! later waits behind it.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};

use super::in_flight::{Batch, InFlight, Room};
use super::submission::{CallerId, Progress, Submission};
use crate::Error;

/// With every so many calls in a queue, those whose callers have gone are taken out of it.
const TIDY_INTERVAL: usize = 1_024;

/// The calls that wait to be handed in.
#[derive(Default)]
pub(super) struct FairQueue {
    /// No queue is empty.
    queues: HashMap<CallerId, VecDeque<Submission>>,
    /// Each caller that has a queue, once: the first is next.
    turns: VecDeque<CallerId>,
}

impl FairQueue {
    pub(super) fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    /// Ends all calls of which nothing is handed in.
    pub(super) fn fail(&mut self, error: &Error) {
        for submission in self.queues.drain().flat_map(|(_, queue)| queue) {
            submission.fail(error);
        }
        self.turns.clear();
    }

    /// Puts a call behind the others of its caller.
    pub(super) fn push(&mut self, submission: Submission) {
        let caller = submission.caller;
        let queue = self.queues.entry(caller).or_insert_with(|| {
            self.turns.push_back(caller);
            VecDeque::with_capacity(1)
        });
        queue.push_back(submission);
        if queue.len().is_multiple_of(TIDY_INTERVAL) {
            queue.retain(
                |queued| !matches!(&queued.progress, Progress::New(recipient) if recipient.is_gone()),
            );
            if queue.is_empty() {
                self.queues.remove(&caller);
                self.turns.retain(|turn| *turn != caller);
            }
        }
    }

    /// Takes what is to be handed in next, by turns.
    pub(super) fn gather(&mut self, in_flight: &mut InFlight) -> Batch {
        let mut batch = Batch::default();
        // How many callers in a row have passed their turn.
        let mut passed = 0;
        while !batch.is_full() && passed < self.turns.len() {
            let Some(caller) = self.turns.pop_front() else {
                break;
            };
            let Entry::Occupied(mut queue) = self.queues.entry(caller) else {
                continue;
            };
            while queue.get().front().is_some_and(|first| in_flight.is_abandoned(first)) {
                queue.get_mut().pop_front();
            }
            let Some(submission) = queue.get_mut().front_mut() else {
                queue.remove();
                continue;
            };
            match batch.room_for(submission, in_flight) {
                Room::Now => {
                    passed = 0;
                    batch.add(submission, in_flight);
                    if submission.requests.pieces() == 0 {
                        queue.get_mut().pop_front();
                    }
                }
                Room::NotYet => passed += 1,
                // Nobody goes by, or a large call would wait for as long as there are small ones.
                Room::None => {
                    self.turns.push_front(caller);
                    break;
                }
            }
            if queue.get().is_empty() {
                queue.remove();
            } else {
                self.turns.push_back(caller);
            }
        }
        batch
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;
    use crate::Reply;
    use crate::client::recipient::{Recipient, Responder};
    use crate::client::requests::Requests;
    use crate::client::submission::Target;
    use crate::reply::Ended;

    /// The queue, and a component that takes all and answers when it is told to.
    struct Fixture {
        queue: FairQueue,
        in_flight: InFlight,
        next_ticket: u64,
        /// What was handed in and has not ended: the first ticket and the number of commands of
        /// each piece.
        under_way: VecDeque<(u64, usize)>,
    }

    impl Fixture {
        fn new() -> Self {
            let in_flight = InFlight::new(1 << 30, 1 << 28);
            Self { queue: FairQueue::default(), in_flight, next_ticket: 0, under_way: VecDeque::new() }
        }

        /// A call of so many commands, each of which has the caller's number and its own as its
        /// words.
        fn call(
            &mut self,
            caller: u64,
            count: usize,
        ) -> oneshot::Receiver<Result<Vec<Outcome>, crate::Error>> {
            let (sender, receiver): (Responder<_>, _) = oneshot::channel();
            let commands = (0..count).map(|number| [format!("caller-{caller}"), number.to_string()]);
            let requests = Requests::many(commands);
            let (caller, recipient) = (CallerId::new(caller), Recipient::Many(sender));
            self.queue.push(Submission::new(caller, Target::Cluster, requests, recipient));
            receiver
        }

        /// Hands in what there is room for. Gives of each run of commands whose they are and how
        /// many.
        fn gather(&mut self) -> Vec<(u64, usize)> {
            let mut taken = Vec::<(u64, usize)>::new();
            loop {
                let parts = self.queue.gather(&mut self.in_flight).into_parts();
                if parts.is_empty() {
                    return taken;
                }
                for part in parts {
                    let mut rest = &part.requests[..];
                    let mut words = Vec::new();
                    let mut count = 0;
                    while let Ok(Some(_)) = keyslot_core::resp::take_request(&mut rest, &mut words) {
                        let caller = str::from_utf8(words[0]).unwrap().strip_prefix("caller-").unwrap();
                        let caller = caller.parse().unwrap();
                        match taken.last_mut() {
                            Some((last, commands)) if *last == caller => *commands += 1,
                            _ => taken.push((caller, 1)),
                        }
                        count += 1;
                    }
                    self.in_flight.enter(self.next_ticket, &part);
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
                assert!(self.in_flight.complete(ticket, ended));
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
        assert!(fixture.queue.is_empty());
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
        assert!(fixture.queue.is_empty());
        for _ in 0..10 * TIDY_INTERVAL {
            drop(fixture.call(2, 1));
        }
        assert!(fixture.queue.queues.get(&CallerId::new(2)).is_none_or(|queue| queue.len() < TIDY_INTERVAL));
        assert_eq!(fixture.gather(), []);
    }

    #[test]
    fn nobody_goes_by_when_the_component_is_full() {
        let mut fixture = Fixture::new();
        let _calls: Vec<_> = (0..100).map(|caller| fixture.call(caller, 999)).collect();
        assert_eq!(fixture.gather().len(), 100);
        let _large = fixture.call(100, 1_000);
        let _small = fixture.call(101, 1);
        // 99,900 are under way.
        assert_eq!(fixture.gather(), []);
        fixture.answer();
        assert_eq!(fixture.gather(), [(100, 1_000), (101, 1)]);
    }
}
