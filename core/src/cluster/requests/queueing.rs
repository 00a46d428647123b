//! What the servers say of a transaction before EXEC's answer, and what EXEC's answer means then.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::error_policy;
use crate::error::{Error, ServerError};
use crate::resp::RawReply;

/// So many refusals are told.
const TOLD_MAX: usize = 4;

/// How EXEC begins to say that something was wrong with itself.
const BECAUSE: &str = "Transaction discarded because of: ";

/// What the servers have said of a transaction's commands before EXEC's answer.
#[derive(Debug, Default)]
pub(in crate::cluster) struct Queueing {
    /// How many have been answered, MULTI first.
    answers: u32,
    /// The first of the commands that were refused, by their numbers from 1 on; MULTI is 0.
    refusals: Vec<(u32, ServerError)>,
    /// Something else than `+QUEUED` came: there is no transaction, and it was executed at once.
    is_executed: bool,
}

/// Why answers are no answers to a transaction, and whether the connection is in doubt for it.
#[derive(Debug, PartialEq)]
pub(super) struct Misfit {
    pub(super) error: Error,
    pub(super) in_doubt: bool,
}

impl Queueing {
    /// The answer to MULTI, or to a command after it.
    pub(super) fn note(&mut self, reply: &RawReply) {
        let number = self.answers;
        self.answers += 1;
        match reply.as_kept_error() {
            Some(error) if self.refusals.len() < TOLD_MAX => self.refusals.push((number, error)),
            Some(_) => {}
            None => {
                let expected: &[u8] = if number == 0 { b"+OK\r\n" } else { b"+QUEUED\r\n" };
                self.is_executed |= **reply.as_bytes() != *expected;
            }
        }
    }

    /// What is wrong when the server has refused MULTI, and taken the commands each for itself; and
    /// whether its answers are no answers to a transaction at all, which leaves the connection
    /// in doubt.
    fn executed_without_multi(&self) -> Option<Misfit> {
        if !self.is_executed {
            return None;
        }
        let (why, in_doubt) = match self.refusals.first() {
            Some((0, error)) => (format!("refused MULTI ({error})"), false),
            _ => (String::from("did not answer +OK and +QUEUED"), true),
        };
        let text = format!("the server {why} and has executed commands of the transaction one by one");
        Some(Misfit { error: Error::Protocol(text), in_doubt })
    }

    /// The error that EXEC has answered, with its reason where that is known.
    fn why_discarded(&self, reply: &RawReply) -> Option<ServerError> {
        let error = reply.as_kept_error()?;
        // Without MULTI there is no transaction that EXEC could end.
        if let Some((0, refusal)) = self.refusals.first() {
            return Some(refusal.clone());
        }
        if error.code != "EXECABORT" {
            return Some(error);
        }
        if let Some(reason) = error.message.strip_prefix(BECAUSE) {
            let (code, message) = reason.trim_start_matches('-').split_once(' ').unwrap_or((reason, ""));
            return Some(ServerError { code: code.into(), message: message.into() });
        }
        match self.refusals.as_slice() {
            [] => Some(error),
            // It decides what is done.
            [(_, refusal), ..] if is_passing(refusal) => Some(refusal.clone()),
            refusals => {
                let told = refusals.iter().map(|(number, refusal)| format!("command {number}: {refusal}"));
                let message = format!("{} ({})", error.message, told.collect::<Vec<_>>().join("; "));
                Some(ServerError { code: error.code, message })
            }
        }
    }
}

/// What EXEC's answer to so many commands means: an error that decides about the whole, or the
/// results. What fits no answer to a transaction is told apart.
pub(super) fn error_of_exec(
    queueing: Option<&Queueing>,
    queued: u32,
    reply: &RawReply,
) -> Result<Option<ServerError>, Misfit> {
    if let Some(misfit) = queueing.and_then(Queueing::executed_without_multi) {
        return Err(misfit);
    }
    if let Some(error) = misfit_of_exec(queued as usize, reply) {
        return Err(Misfit { error, in_doubt: true });
    }
    Ok(match queueing {
        Some(queueing) => queueing.why_discarded(reply),
        None => Queueing::default().why_discarded(reply),
    })
}

/// What is wrong with EXEC's answer, which is no error: it is null, or has one result for each
/// command.
fn misfit_of_exec(queued: usize, reply: &RawReply) -> Option<Error> {
    let root = reply.root()?;
    let results = || reply.children().take(queued + 1).count();
    let is_error = matches!(root.marker, b'-' | b'!');
    if is_error || root.is_null() || (root.marker == b'*' && results() == queued) {
        return None;
    }
    let text = format!("EXEC was answered with {}, not with {queued} results", root.kind());
    Some(Error::Protocol(text))
}

/// Whether a command was refused for what the client deals with itself.
fn is_passing(error: &ServerError) -> bool {
    matches!(error.code.as_str(), "MOVED" | "ASK") || error_policy::passes(error)
}

/// As it is kept in a request.
pub(in crate::cluster) type QueueingBox = Box<Queueing>;

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use bytes::Bytes;

    use super::*;

    fn reply(text: &'static str) -> RawReply {
        let nodes = text.bytes().filter(|byte| b"+-:*_$".contains(byte)).count();
        RawReply::new(Bytes::from_static(text.as_bytes()), nodes as u32)
    }

    /// What the whole means, when MULTI and two commands were answered so.
    fn meaning(before: &[&'static str], exec: &'static str) -> Result<Option<String>, (String, bool)> {
        let mut queueing = Queueing::default();
        before.iter().for_each(|text| queueing.note(&reply(text)));
        match error_of_exec(Some(&queueing), 2, &reply(exec)) {
            Ok(error) => Ok(error.map(|error| error.to_string())),
            Err(Misfit { error, in_doubt }) => Err((error.to_string(), in_doubt)),
        }
    }

    #[test]
    fn the_reason_of_an_abort_is_the_first_refusal_that_decides() {
        const OK: &str = "+OK\r\n";
        const QUEUED: &str = "+QUEUED\r\n";
        const ABORT: &str = "-EXECABORT Transaction discarded because of previous errors.\r\n";
        let error = |text: &str| Ok(Some(text.to_string()));
        assert_eq!(meaning(&[OK, QUEUED, QUEUED], "*2\r\n:1\r\n:2\r\n"), Ok(None));
        assert_eq!(meaning(&[OK, QUEUED, QUEUED], "*-1\r\n"), Ok(None));
        assert_eq!(meaning(&[OK, QUEUED, QUEUED], "-OOM no\r\n"), error("OOM no"));
        assert_eq!(meaning(&[OK, "-MOVED 1 a:1\r\n", "-ERR x\r\n"], ABORT), error("MOVED 1 a:1"));
        let because = "-EXECABORT Transaction discarded because of: CLUSTERDOWN Hash slot not served\r\n";
        assert_eq!(meaning(&[OK, QUEUED, QUEUED], because), error("CLUSTERDOWN Hash slot not served"));
        let told = meaning(&[OK, QUEUED, "-ERR wrong\r\n"], ABORT).unwrap().unwrap();
        assert!(told.ends_with("(command 2: ERR wrong)"), "{told}");
        let unknown = "-ERR EXEC without MULTI\r\n";
        assert_eq!(meaning(&["-NOPERM multi\r\n", "-NOPERM x\r\n"], unknown), error("NOPERM multi"));
    }

    #[test]
    fn what_is_no_answer_to_a_transaction_is_told_apart() {
        let executed = meaning(&["-NOPERM multi\r\n", "+OK\r\n", ":1\r\n"], "-ERR EXEC without MULTI\r\n");
        assert!(matches!(executed, Err((_, false))), "the connection is in order: {executed:?}");
        let odd = meaning(&["+OK\r\n", ":1\r\n", "+QUEUED\r\n"], "*2\r\n:1\r\n:2\r\n");
        assert!(matches!(odd, Err((_, true))), "{odd:?}");
        let short = meaning(&["+OK\r\n", "+QUEUED\r\n", "+QUEUED\r\n"], "*1\r\n:1\r\n");
        assert!(matches!(short, Err((_, true))), "{short:?}");
    }
}
