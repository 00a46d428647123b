//! Commands that several nodes have to answer: sent to all at once, merged into one reply.
//!
//! ```text
//!   request ─ scatter ─→ parts, each a request of its own
//!                          └─ the last part ends ─→ merge ─→ the request's end
//! ```
//!
//! Parts go their own ways: each is redirected, retried and timed out like any request, and all
//! have the whole's deadline. It is not atomic. When parts fail, the error says which keys, or
//! which nodes, did what; it is "possibly executed" as soon as one part is, or has been executed.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::parts::{Gather, PartState, conclude};
use crate::cluster::ids::RequestId;
use crate::cluster::io::Output;
use crate::cluster::machine::Cluster;
use crate::cluster::requests::request::{Parent, Stage, Target};
use crate::command::find;
use crate::command::prepared::{Command, Spread};
use crate::command::route::Route;
use crate::command::split;
use crate::error::Error;
use crate::resp::RawReply;
use crate::topology::{Health, Role};

/// A part's command, where it has to go if not by its slot, whose it is, and which keys it has.
type PartPlan = (Command, Option<Target>, String, Vec<u32>);

impl Cluster {
    /// Makes the parts of a request that concerns several nodes. None when it concerns one: then it
    /// is sent whole.
    pub(super) fn scatter(&mut self, id: RequestId) -> Vec<RequestId> {
        let Some(request) = self.requests.get(id) else {
            return Vec::new();
        };
        let (deadline, serial) = (request.deadline, request.serial);
        let parts = match request.command.spread {
            Spread::None => return Vec::new(),
            Spread::Keys if !self.cx.config.split_multi_key => return Vec::new(),
            Spread::Keys => self.parts_by_slot(&request.command.clone()),
            Spread::Shards => self.parts_by_shard(&request.command.clone()),
            Spread::Nodes => self.parts_by_node(&request.command.clone()),
        };
        if parts.is_empty() {
            return Vec::new();
        }
        let states = parts.iter().map(|(_, _, name, keys)| PartState {
            id: None,
            name: name.clone(),
            keys: keys.clone(),
            outcome: None,
        });
        let gather = Gather { parts: states.collect(), open: parts.len(), size: 0 };
        self.requests.set_stage(id, Stage::Gathering);
        if let Some(request) = self.requests.get_mut(id) {
            request.gather = Some(Box::new(gather));
        }
        let mut ids = Vec::with_capacity(parts.len());
        for (index, (command, target, ..)) in parts.into_iter().enumerate() {
            let parent = Parent::Whole { id, part: u32::try_from(index).unwrap_or(u32::MAX) };
            let part = self.requests.add_part(&self.cx, command, target, serial, deadline, parent);
            if let Some(state) = self.part(id, index) {
                state.id = Some(part);
            }
            ids.push(part);
        }
        ids
    }

    fn part(&mut self, id: RequestId, index: usize) -> Option<&mut PartState> {
        self.requests.get_mut(id)?.gather.as_mut()?.parts.get_mut(index)
    }

    fn parts_by_slot(&self, command: &Command) -> Vec<PartPlan> {
        let args = command.args();
        let parts = split::split(find(&args), &args).unwrap_or_default();
        let parts = parts.into_iter().map(|part| {
            let name = String::new();
            (command.part(part.frame, Route::Slot(part.slot)), None, name, part.keys)
        });
        parts.collect()
    }

    /// One part for the primary of each shard, found by one of its slots: so it follows a failover.
    fn parts_by_shard(&self, command: &Command) -> Vec<PartPlan> {
        let parts = self.map.first_slots().into_iter().filter_map(|(owner, slot)| {
            let name = self.nodes.get(owner)?.address().to_string();
            Some((command.part(command.frame.clone(), Route::Slot(slot)), None, name, Vec::new()))
        });
        parts.collect()
    }

    /// As for the shards, and one for each replica that is well.
    fn parts_by_node(&self, command: &Command) -> Vec<PartPlan> {
        let mut parts = self.parts_by_shard(command);
        let members = self.map.topology().shards.iter().flat_map(|shard| &shard.nodes);
        let is_well = |health| matches!(health, Health::Online | Health::Unknown);
        for member in members.filter(|member| member.role == Role::Replica && is_well(member.health)) {
            let target = Some(Target::Node(member.address.clone()));
            let part = command.part(command.frame.clone(), Route::Any);
            parts.push((part, target, member.address.to_string(), Vec::new()));
        }
        parts
    }

    /// A part has ended.
    pub(in crate::cluster) fn on_part(&mut self, id: RequestId, part: u32, result: Result<RawReply, Error>) {
        let limit = self.cx.config.limits.reply_size;
        let Some(gather) = self.requests.get_mut(id).and_then(|request| request.gather.as_mut()) else {
            return;
        };
        gather.size += result.as_ref().map_or(0, RawReply::size);
        let result = match result {
            Ok(_) if gather.size > limit => Err(Error::LimitExceeded(format!(
                "the parts' replies are larger than {limit} bytes together (limit-reply-size)"
            ))),
            result => result,
        };
        let Some(state) = gather.parts.get_mut(part as usize) else {
            return;
        };
        (state.id, state.outcome) = (None, Some(result));
        gather.open -= 1;
        if gather.open > 0 {
            return;
        }
        let Some(gather) = self.requests.get_mut(id).and_then(|request| request.gather.take()) else {
            return;
        };
        let Some(request) = self.requests.get(id) else {
            return;
        };
        let chance = self.cx.random.below(gather.parts.len());
        let (token, result) = (request.token, conclude(&request.command, *gather, chance));
        self.abandon(id);
        self.cx.output(Output::Done { token, result });
    }
}
