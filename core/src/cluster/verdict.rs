//! What to do about an error that a server answers: one table.
//!
//! Sources: Redis cluster specification ("MOVED Redirection", "ASK redirection", "Multi-keys operations"),
//! and `src/server.c` of Redis and Valkey for the passing states.

use alloc::format;

use super::request::{Command, Route};
use crate::address::NodeAddr;
use crate::error::ServerError;
use crate::slot::Slot;

/// What the client does when a request is answered with an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The slot is served elsewhere: remember it, and send the request there.
    FollowMoved(Slot, NodeAddr),
    /// This one key is elsewhere while its slot moves: send the request there once, after ASKING.
    FollowAsk(Slot, NodeAddr),
    /// It passes: wait a little and send the request again where it belongs then.
    WaitAndRetry,
    /// The node is not what the slot map takes it for: learn the topology anew, then as above.
    RefreshAndRetry,
    /// The node wants a log-in that this connection's did not satisfy.
    Authentication,
    /// It is the command's own: the caller gets it.
    Surface,
}

/// Errors that say that the command was not executed, and that it can be executed later or elsewhere.
const PASSING: &[(&str, Verdict)] = &[
    // Some of the keys have moved and some have not; over when the slot has moved.
    ("TRYAGAIN", Verdict::WaitAndRetry),
    // The node is reading its data from disk.
    ("LOADING", Verdict::RefreshAndRetry),
    // The node sees no majority, or nobody serves the slot: others may know more.
    ("CLUSTERDOWN", Verdict::RefreshAndRetry),
    // A replica without its primary.
    ("MASTERDOWN", Verdict::RefreshAndRetry),
    // A write reached a replica: the primary was demoted, and the slot map has not heard of it.
    ("READONLY", Verdict::RefreshAndRetry),
    // It was blocked on a primary that was demoted; nothing was done.
    ("UNBLOCKED", Verdict::RefreshAndRetry),
    ("NOAUTH", Verdict::Authentication),
];

/// The whole of what servers say with these codes. A script can answer with any error after it has written, so
/// from one that writes only these words are believed.
const SERVERS_WORDS: &[&str] = &[
    "Multiple keys request during rehashing of slot",
    "Redis is loading the dataset in memory",
    "Valkey is loading the dataset in memory",
    "The cluster is down",
    "The cluster is down and only accepts read commands",
    "Hash slot not served",
    "Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "You can't write against a read only replica.",
    "Authentication required.",
];

/// Looks up what to do about the error that answers `command`. `asked` is the host of the node that answered, which
/// a redirect with an empty host means.
///
/// A redirect that cannot be read is the caller's to see, as the server's words; so is one that a script may have
/// made up, and one for another slot than that of the command's keys: it answers another command, or none. Of a command
/// that the table does not know, which of its arguments are keys is a guess: its redirects are followed.
pub(super) fn judge(error: &ServerError, asked: &str, command: &Command) -> Verdict {
    let verdict = look_up(error, asked);
    if let Verdict::FollowMoved(slot, _) | Verdict::FollowAsk(slot, _) = &verdict
        && command.route != Route::Slot(*slot)
        && !command.keys_are_guessed
    {
        return Verdict::Surface;
    }
    if !command.is_writing_script {
        return verdict;
    }
    let believed = match &verdict {
        Verdict::FollowMoved(slot, _) | Verdict::FollowAsk(slot, _) => command.route == Route::Slot(*slot),
        // On a replica a script's own write is refused, and the error names the script.
        Verdict::RefreshAndRetry if error.code == "READONLY" => {
            error.message.starts_with("You can't write against a read only replica.")
        }
        _ => SERVERS_WORDS.contains(&error.message.as_str()),
    };
    if believed { verdict } else { Verdict::Surface }
}

/// Whether an error with this code says that the command can be executed later or elsewhere.
pub(super) fn passes(code: &str) -> bool {
    PASSING.iter().any(|(passing, _)| *passing == code)
}

fn look_up(error: &ServerError, asked: &str) -> Verdict {
    match error.code.as_str() {
        "MOVED" => redirect(error, asked)
            .map_or(Verdict::Surface, |(slot, address)| Verdict::FollowMoved(slot, address)),
        "ASK" => redirect(error, asked)
            .map_or(Verdict::Surface, |(slot, address)| Verdict::FollowAsk(slot, address)),
        // Somebody has said so (CLIENT UNBLOCK … ERROR).
        "UNBLOCKED" if error.message.contains("CLIENT UNBLOCK") => Verdict::Surface,
        code => PASSING
            .iter()
            .find(|(passing, _)| *passing == code)
            .map_or(Verdict::Surface, |(_, verdict)| verdict.clone()),
    }
}

/// The slot and address of `MOVED 3999 127.0.0.1:6381`.
fn redirect(error: &ServerError, asked: &str) -> Option<(Slot, NodeAddr)> {
    let mut words = error.message.split(' ');
    let slot = Slot::new(words.next()?.parse().ok()?)?;
    let address = words.next()?;
    // A node that does not know the other's preferred endpoint writes `?` for its host.
    let address = match address.strip_prefix('?').filter(|port| port.starts_with(':')) {
        Some(port) => NodeAddr::from_redirect(&format!("{asked}{port}"), asked)?,
        None => NodeAddr::from_redirect(address, asked)?,
    };
    Some((slot, address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    fn judged(code: &str, message: &str) -> Verdict {
        judged_for(&["GET", "key"], code, message)
    }

    fn judged_for(command: &[&str], code: &str, message: &str) -> Verdict {
        let error = ServerError { code: code.to_string(), message: message.to_string() };
        judge(&error, "10.0.0.1", &Command::new(command).unwrap())
    }

    #[test]
    fn a_script_that_writes_cannot_ask_to_be_run_again() {
        let script = ["EVAL", "…", "1", "key"];
        let own = Slot::of_key(b"key").number();
        let moved = |slot: u16| judged_for(&script, "MOVED", &format!("{slot} 10.0.0.2:6381"));
        assert!(matches!(moved(own), Verdict::FollowMoved(..)));
        assert_eq!(moved(own + 1), Verdict::Surface);
        assert_eq!(judged_for(&script, "TRYAGAIN", "made up"), Verdict::Surface);
        let words = "Multiple keys request during rehashing of slot";
        assert_eq!(judged_for(&script, "TRYAGAIN", words), Verdict::WaitAndRetry);
        assert_eq!(judged_for(&["EVAL_RO", "…", "1", "key"], "TRYAGAIN", "x"), Verdict::WaitAndRetry);
    }

    #[test]
    fn a_redirect_for_another_slot_is_not_followed() {
        let own = Slot::of_key(b"key").number();
        for code in ["MOVED", "ASK"] {
            let judged = |command: &[&str], slot: u16| {
                let text = format!("{slot} 10.0.0.2:6381");
                judged_for(command, code, &text) != Verdict::Surface
            };
            for command in [&["GET", "key"][..], &["SPUBLISH", "key", "x"], &["MGET", "key", "{key}"]] {
                assert!(judged(command, own) && !judged(command, own + 1), "{code} {command:?}");
            }
            // It has no slot.
            assert!(!judged(&["PING"], own));
            // Nothing is known of it.
            assert!(judged(&["NO.SUCH", "key"], own) && judged(&["NO.SUCH", "key"], own + 1));
        }
        let transaction = |words: &[&[u8]]| {
            let command = Command::transaction(&[words.to_vec()], &super::super::Scripts::default()).unwrap();
            let error = ServerError { code: "MOVED".into(), message: format!("{own} 10.0.0.2:6381") };
            judge(&error, "", &command) != Verdict::Surface
        };
        assert!(transaction(&[b"GET", b"key"]) && !transaction(&[b"GET", b"other"]));
    }

    #[test]
    fn redirects_are_taken_apart() {
        let slot = Slot::new(3999).unwrap();
        // The slot of no key that is known.
        let judged = |code: &str, message: &str| judged_for(&["NO.SUCH", "key"], code, message);
        assert_eq!(
            judged("MOVED", "3999 10.0.0.2:6381"),
            Verdict::FollowMoved(slot, NodeAddr::new("10.0.0.2", 6381))
        );
        assert_eq!(
            judged("MOVED", "3999 :6381"),
            Verdict::FollowMoved(slot, NodeAddr::new("10.0.0.1", 6381))
        );
        assert_eq!(
            judged("MOVED", "3999 ?:6381"),
            Verdict::FollowMoved(slot, NodeAddr::new("10.0.0.1", 6381))
        );
        assert_eq!(judged("ASK", "3999 ::1:6381"), Verdict::FollowAsk(slot, NodeAddr::new("::1", 6381)));
    }

    #[test]
    fn what_cannot_be_followed_surfaces() {
        for message in
            ["", "3999", "16384 10.0.0.2:6381", "x 10.0.0.2:6381", "3999 10.0.0.2", "3999 10.0.0.2:x"]
        {
            assert_eq!(judged("MOVED", message), Verdict::Surface, "{message}");
        }
        for host in
            ["\x1b[2J", "a\u{9b}b", "a\tb", "b\u{fc}cher.example", "user@a", "a/b", "?a", &"a".repeat(254)]
        {
            assert_eq!(judged("MOVED", &format!("3999 {host}:6381")), Verdict::Surface, "{host}");
            assert_eq!(judged("ASK", &format!("3999 {host}:6381")), Verdict::Surface, "{host}");
        }
        assert_eq!(judged("WRONGTYPE", "…"), Verdict::Surface);
        assert_eq!(judged("ERR", "MOVED 3999 10.0.0.2:6381"), Verdict::Surface);
    }
}
