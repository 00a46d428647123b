//! A pass's question was answered, or has failed.

use super::page::{Next, run_id_in};
use super::pass::Question;
use crate::cluster::links::ended::Driver;
use crate::topology::Role;

use crate::cluster::ids::ScanId;
use crate::cluster::machine::Cluster;
use crate::cluster::requests::request::Stage;
use crate::error::Error;
use crate::resp::RawReply;

impl Cluster {
    /// A pass's question was answered, or has failed. What follows is done by `drive_scans`.
    pub(in crate::cluster) fn on_pass(
        &mut self,
        id: ScanId,
        number: u32,
        stage: Stage,
        result: Result<RawReply, Error>,
    ) {
        let Some(scan) = self.scans.all.get_mut(id) else {
            return;
        };
        let Some(index) = scan.passes.iter().position(|pass| pass.number == number) else {
            return;
        };
        self.scans.due.push(id);
        let mut pass = scan.passes.swap_remove(index);
        let question = pass.asked.take().map_or(Question::Nothing, |(_, question)| question);
        let conn = match stage {
            Stage::OnConnection(conn) => Some(conn),
            _ => None,
        };
        let next = match result {
            // Whoever does not say which process it is has a cursor that is good for one
            // connection.
            Err(Error::Server(_)) if question == Question::Identity => {
                pass.identify("", conn);
                Ok(Next::GoesOn)
            }
            Err(error) => Err(error),
            Ok(reply) => match question {
                Question::View => scan.on_view(&mut pass, &reply),
                Question::Review => {
                    // One that is cut off does not know it, or not yet, that another has taken
                    // over.
                    let address = pass.node.as_ref();
                    let mut here = address.into_iter().flat_map(|at| self.map.members_at(at));
                    let is_replica = here.any(|(_, member)| member.role == Role::Replica);
                    scan.on_review(&pass, &reply, is_replica)
                }
                Question::Page => {
                    scan.paged_at = self.cx.now;
                    scan.on_page(&mut pass, conn, &reply)
                }
                Question::Identity | Question::Nothing => {
                    pass.identify(&run_id_in(&reply), conn);
                    Ok(Next::GoesOn)
                }
            },
        };
        match next {
            Ok(Next::GoesOn) => scan.passes.push(pass),
            Ok(Next::Ends) => scan.fruitless = 0,
            Ok(Next::EndsInVain) => match pass.half_of {
                Some(node) if question == Question::View => self.reopen(id, &node),
                _ => {
                    // The node itself says that it does not serve what a MOVED has said it would.
                    let node = pass.node.as_ref().and_then(|node| self.nodes.at(node));
                    self.map.forget_patches(|patched| Some(patched) == node);
                    self.note_fruitless(id, None);
                }
            },
            Err(error) => {
                scan.passes.push(pass);
                // An answer to something else: so would the next one be.
                if let (Error::Protocol(_), Some(conn)) = (&error, conn) {
                    self.lose(conn, error.clone(), Driver::MustClose);
                }
                self.note_failure(id, number, error);
            }
        }
    }
}
