//! The order against a naive model: a list of all commands, each looked at each time.

use alloc::format;
use alloc::vec::Vec;

use slotmap::SlotMap as Arena;

use super::*;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    UnderWay,
    Held,
    /// For its retry.
    Waits,
    Ended,
}

#[derive(Debug)]
struct Known {
    id: RequestId,
    serial: u64,
    slot: Slot,
    command: Command,
    keys: Vec<u8>,
    stage: Stage,
}

/// Drives an order as the requests do, and knows of every command where it is.
struct Model {
    order: Order,
    ids: Arena<RequestId, ()>,
    all: Vec<Known>,
    /// Slots whose owner has changed while commands were under way.
    drains: Vec<Slot>,
}

impl Model {
    fn new() -> Self {
        Self { order: Order::default(), ids: Arena::with_key(), all: Vec::new(), drains: Vec::new() }
    }

    fn entry(&self, index: usize) -> (Slot, Entry) {
        let own = &self.all[index];
        (own.slot, Entry::new(own.id, own.serial, &own.command))
    }

    fn of(&self, stage: Stage) -> Vec<usize> {
        (0..self.all.len()).filter(|index| self.all[*index].stage == stage).collect()
    }

    fn under_way(&self, slot: Slot) -> usize {
        self.all.iter().filter(|own| own.slot == slot && own.stage == Stage::UnderWay).count()
    }

    /// A new command with these keys of a slot; without keys it is one whose keys are not known.
    fn submit(&mut self, tag: u8, keys: Vec<u8>) {
        let words: Vec<_> = keys.iter().map(|key| format!("{{{tag}}}{key}")).collect();
        let words: Vec<&str> = ["MGET"].into_iter().chain(words.iter().map(|key| &key[..])).collect();
        let (id, serial) = (self.ids.insert(()), self.order.next());
        let slot = Slot::of_key(format!("{tag}").as_bytes());
        let command = Command::new(&words).unwrap();
        self.all.push(Known { id, serial, slot, command, keys, stage: Stage::Held });
        self.dispatch(self.all.len() - 1, false);
    }

    /// It is about to be sent to its slot's owner.
    fn dispatch(&mut self, index: usize, others_wait_for_it: bool) {
        let (slot, entry) = self.entry(index);
        let waits = self.order.may_hold(entry.id, slot) && self.order.hold_new(slot, entry);
        self.all[index].stage = if waits { Stage::Held } else { Stage::UnderWay };
        if !waits {
            assert!(
                others_wait_for_it || !self.drains.contains(&slot),
                "the old owner's commands come first"
            );
            self.goes(index);
        }
    }

    /// The promise: nothing goes while an earlier command for one of its keys waits or is held.
    fn goes(&mut self, index: usize) {
        let own = &self.all[index];
        let is_earlier = |other: &&Known| {
            let stands = matches!(other.stage, Stage::Held | Stage::Waits);
            let shares = other.keys.iter().any(|key| own.keys.contains(key));
            stands && other.slot == own.slot && other.serial < own.serial && shares
        };
        let earlier = self.all.iter().find(is_earlier);
        assert!(earlier.is_none(), "{own:?} goes before {earlier:?}");
        self.order.begin(own.slot);
    }

    fn leaves(&mut self, index: usize) {
        let slot = self.all[index].slot;
        self.order.leave(slot);
        self.all[index].stage = Stage::Held;
        if self.under_way(slot) == 0 {
            self.drains.retain(|other| *other != slot);
        }
    }

    fn end(&mut self, index: usize) {
        let before = self.all[index].stage;
        if before == Stage::UnderWay {
            self.leaves(index);
        }
        let own = &mut self.all[index];
        own.stage = Stage::Ended;
        self.order.end(own.id, Some(own.slot), before == Stage::Held);
    }

    /// It was refused for the moment, and is to be tried again.
    fn retry(&mut self, index: usize) {
        self.leaves(index);
        let (slot, entry) = self.entry(index);
        if !self.order.hold_behind(slot, entry) {
            let (slot, entry) = self.entry(index);
            self.order.block_later(slot, entry);
            self.all[index].stage = Stage::Waits;
        }
    }

    /// Its wait is over.
    fn resume(&mut self, index: usize) {
        let (slot, entry) = self.entry(index);
        self.all[index].stage = Stage::Held;
        if !self.order.hold_behind(slot, entry) {
            self.dispatch(index, true);
        }
    }

    /// It is answered with an ASK.
    fn ask(&mut self, index: usize) {
        self.leaves(index);
        let (slot, entry) = self.entry(index);
        if self.order.hold_behind(slot, entry) {
            return;
        }
        let (slot, entry) = self.entry(index);
        if !self.order.hold_asked(slot, entry) {
            self.all[index].stage = Stage::UnderWay;
            self.goes(index);
        } else if self.under_way(slot) > 0 {
            // When many were under way: then it drains, too. Looking closer would be the order
            // itself.
            self.drains.retain(|other| *other != slot);
        }
    }

    fn change_owner(&mut self, slot: Slot) {
        self.order.hold(slot);
        if self.under_way(slot) > 0 && !self.drains.contains(&slot) {
            self.drains.push(slot);
        }
    }

    fn send_released(&mut self) {
        while let Some((_, ids)) = self.order.next_released() {
            for id in ids {
                let index = self.all.iter().position(|own| own.id == id).unwrap();
                assert_eq!(self.all[index].stage, Stage::Held, "what is released was held");
                self.dispatch(index, false);
            }
        }
    }
}

#[test]
fn no_command_overtakes_an_earlier_one_for_its_key_and_none_is_left() {
    let mut overtakers = 0;
    for seed in 0..400u32 {
        let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
        let mut below = |bound: usize| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) as usize % bound
        };
        let mut model = Model::new();
        for _ in 0..300 {
            let pick = |from: &[usize], at: usize| from.get(at % from.len().max(1)).copied();
            let (under_way, held) = (model.of(Stage::UnderWay), model.of(Stage::Held));
            let waits = model.of(Stage::Waits);
            match below(10) {
                0..4 => {
                    let keys = (0..1 + below(2)).map(|_| below(4) as u8).collect();
                    model.submit(below(2) as u8, keys);
                }
                4 | 5 => pick(&under_way, below(64)).into_iter().for_each(|index| model.end(index)),
                6 => pick(&under_way, below(64)).into_iter().for_each(|index| model.retry(index)),
                7 => pick(&waits, below(64)).into_iter().for_each(|index| model.resume(index)),
                8 => pick(&under_way, below(64)).into_iter().for_each(|index| model.ask(index)),
                _ if below(3) == 0 => pick(&held, below(64)).into_iter().for_each(|index| model.end(index)),
                _ => model.change_owner(Slot::of_key(format!("{}", below(2)).as_bytes())),
            }
            model.send_released();
            let later = model.of(Stage::UnderWay).last().copied();
            overtakers += usize::from(model.of(Stage::Held).first().copied() < later);
        }
        // All that is under way ends, and with it what waits for that.
        for _ in 0..1_000 {
            let standing: Vec<_> = [Stage::UnderWay, Stage::Waits].map(|stage| model.of(stage)).concat();
            if standing.is_empty() {
                break;
            }
            standing.into_iter().for_each(|index| model.end(index));
            model.send_released();
        }
        assert_eq!(model.of(Stage::Ended).len(), model.all.len(), "seed {seed}: none is left");
        assert_eq!((model.order.held(), model.order.is_free()), (0, true), "seed {seed}: nothing is kept");
    }
    assert!(overtakers > 1_000, "commands for other keys go by: {overtakers}");
}

#[test]
fn as_many_as_may_follow_an_ask_and_two_more_for_each_that_ends() {
    let mut model = Model::new();
    for number in 0..200 {
        model.submit(0, Vec::from([number]));
    }
    // All have been sent to the old owner, which answers each with an ASK.
    for index in 0..200 {
        model.ask(index);
        model.send_released();
    }
    let first = model.of(Stage::UnderWay).len();
    assert!(first <= 2 * ASKED_MAX as usize, "{first} follow an ASK at first");
    let mut most = first;
    while let Some(index) = model.of(Stage::UnderWay).first().copied() {
        model.end(index);
        model.send_released();
        most = most.max(model.of(Stage::UnderWay).len());
    }
    assert_eq!(model.of(Stage::Ended).len(), 200);
    assert!(most > first || first == 0, "the window grows: {first} to {most}");
}
