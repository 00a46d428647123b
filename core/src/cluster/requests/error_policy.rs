//! What to do about an error that a server answers: one table.
//!
//! Sources: Redis cluster specification ("MOVED Redirection", "ASK redirection", "Multi-keys
//! operations"), and `src/server.c` of Redis and Valkey for the passing states.

use alloc::format;

use crate::address::NodeAddr;
use crate::command::prepared::Command;
use crate::command::route::Route;
use crate::error::ServerError;
use crate::slot::Slot;

/// What the client does when a request is answered with an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cluster) enum ErrorAction {
    /// The slot is served elsewhere: remember it, and send the request there.
    FollowMoved(Slot, NodeAddr),
    /// This one key is elsewhere while its slot moves: send the request there once, after ASKING.
    FollowAsk(Slot, NodeAddr),
    /// It passes: wait a little and send the request again where it belongs then.
    WaitAndRetry,
    /// The node is not what the slot map takes it for: learn the topology anew, then as above. A
    /// read at a replica goes to the primary at once, and the replica is avoided for a while.
    RefreshAndRetry,
    /// The node wants a log-in that this connection's did not satisfy.
    Authentication,
    /// It is the command's own: the caller gets it.
    Surface,
}

/// What to do about an error with this code whose text begins so. The first row that fits decides;
/// what fits none is the caller's. An empty beginning fits every text: that code means one thing,
/// and servers, forks and proxies word it in their own ways ("Redis is loading …", "Valkey is
/// loading …"). Where one code means several things, only known words pass.
///
/// What passes was not executed, and can be executed later or elsewhere. The words are those of
/// Redis 7.0 to 8.0 and Valkey 7.2 to 9.1.
const POLICY: &[(&str, &str, ErrorAction)] = &[
    // "Multiple keys request during rehashing of slot": some of the keys have moved and some have
    // not; over when the slot has moved.
    ("TRYAGAIN", "", ErrorAction::WaitAndRetry),
    // "… is loading the dataset in memory": the node is reading its data from disk or from its
    // primary.
    ("LOADING", "", ErrorAction::RefreshAndRetry),
    // "The cluster is down", "The cluster is down and only accepts read commands", "Hash slot not
    // served": the node sees no majority, or nobody serves the slot. Others may know more.
    ("CLUSTERDOWN", "", ErrorAction::RefreshAndRetry),
    // "Link with MASTER is down …": a replica without its primary. Of a script it is said before it
    // begins.
    ("MASTERDOWN", "", ErrorAction::RefreshAndRetry),
    // "You can't write against a read only replica.", "Can not run script with write flag on
    // readonly replica": a write reached a replica. The primary was demoted, and the slot map has
    // not heard of it.
    ("READONLY", "", ErrorAction::RefreshAndRetry),
    // It was blocked on a primary that was demoted; nothing was done. With the same code somebody's
    // CLIENT UNBLOCK … ERROR ends it ("client unblocked via CLIENT UNBLOCK"), and Redis 7.0 says
    // that its stream was deleted ("the stream key no longer exists"): neither gets better by
    // itself, and a module may end what it blocks in words of its own.
    ("UNBLOCKED", "force unblock from blocking operation", ErrorAction::RefreshAndRetry),
    // "Authentication required.": the user of this connection was taken from it. NOPERM is another
    // matter: the user is known and may not do this.
    ("NOAUTH", "", ErrorAction::Authentication),
    // "… is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.", "… is busy
    // running a module command.", or a module's own words: it may last for ever, and it is the
    // caller who can end it.
    ("BUSY", "", ErrorAction::Surface),
    // "… is configured to save RDB snapshots, but it's currently unable to persist to disk …",
    // "Errors writing to the AOF file: …": somebody has to make room on a disk.
    ("MISCONF", "", ErrorAction::Surface),
    // "Not enough good replicas to write.": what the operator has asked the server to say.
    ("NOREPLICAS", "", ErrorAction::Surface),
    // "command not allowed when used memory > 'maxmemory'.": over when somebody has deleted
    // something.
    ("OOM", "", ErrorAction::Surface),
];

/// The whole of what servers say with these codes. A script can answer with any error after it has
/// written, so from one that writes only these words are believed.
const SERVERS_WORDS: &[&str] = &[
    "Multiple keys request during rehashing of slot",
    "Redis is loading the dataset in memory",
    "Valkey is loading the dataset in memory",
    "The cluster is down",
    "The cluster is down and only accepts read commands",
    "Hash slot not served",
    "Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "Link with MASTER is down, replica-serve-stale-data is set to 'no' and 'allow-stale' flag is not set on the script.",
    "You can't write against a read only replica.",
    "Can not run script with write flag on readonly replica",
    "Authentication required.",
];

/// A script's own write is refused on a replica before it has written anything, and the error names
/// the script behind these words.
const REFUSED_IN_SCRIPT: &str = "You can't write against a read only replica.";

/// Looks up what to do about the error that answers `command`. `asked` is the host of the node that
/// answered, which a redirect with an empty host means.
///
/// A redirect that cannot be read is the caller's to see, as the server's words; so is one that a
/// script may have made up, and one for another slot than that of the command's keys: it answers
/// another command, or none. Of a command that the table does not know, which of its arguments are
/// keys is a guess: its redirects are followed.
pub(in crate::cluster) fn classify(error: &ServerError, asked: &str, command: &Command) -> ErrorAction {
    let action = look_up(error, asked);
    if let ErrorAction::FollowMoved(slot, _) | ErrorAction::FollowAsk(slot, _) = &action
        && command.route != Route::Slot(*slot)
        && !command.keys_are_guessed
    {
        return ErrorAction::Surface;
    }
    if !command.is_writing_script {
        return action;
    }
    let believed = match &action {
        ErrorAction::FollowMoved(slot, _) | ErrorAction::FollowAsk(slot, _) => {
            command.route == Route::Slot(*slot)
        }
        ErrorAction::RefreshAndRetry
            if error.code == "READONLY" && error.message.starts_with(REFUSED_IN_SCRIPT) =>
        {
            true
        }
        _ => SERVERS_WORDS.contains(&error.message.as_str()),
    };
    if believed { action } else { ErrorAction::Surface }
}

/// Whether an error that is no redirect is dealt with by the client.
pub(in crate::cluster) fn passes(error: &ServerError) -> bool {
    policy(error) != ErrorAction::Surface
}

/// What the table says.
fn policy(error: &ServerError) -> ErrorAction {
    let fits = |code: &str, words: &str| error.code == code && error.message.starts_with(words);
    let row = POLICY.iter().find(|(code, words, _)| fits(code, words));
    row.map_or(ErrorAction::Surface, |(.., action)| action.clone())
}

fn look_up(error: &ServerError, asked: &str) -> ErrorAction {
    match error.code.as_str() {
        // The node knows of nobody who serves the slot: it has not heard where the other is
        // reached.
        "MOVED" | "ASK" if is_to_nowhere(error) => ErrorAction::RefreshAndRetry,
        "MOVED" => redirect(error, asked)
            .map_or(ErrorAction::Surface, |(slot, address)| ErrorAction::FollowMoved(slot, address)),
        "ASK" => redirect(error, asked)
            .map_or(ErrorAction::Surface, |(slot, address)| ErrorAction::FollowAsk(slot, address)),
        _ => policy(error),
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

/// Whether it is a redirect to port 0: `MOVED 3999 :0`.
fn is_to_nowhere(error: &ServerError) -> bool {
    let mut words = error.message.split(' ');
    let has_slot = words.next().and_then(|slot| Slot::new(slot.parse().ok()?)).is_some();
    has_slot && words.next().is_some_and(|address| address.ends_with(":0")) && words.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::ErrorAction::{Authentication, RefreshAndRetry, Surface, WaitAndRetry};
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn a_redirect_to_nowhere_passes() {
        for text in ["3999 :0", "3999 ?:0", "3999 10.0.0.1:0"] {
            assert_eq!(judged("MOVED", text), ErrorAction::RefreshAndRetry, "{text}");
        }
        for text in [":0", "16384 :0", "3999 :00 x", "3999 :", "3999 0"] {
            assert_eq!(judged("MOVED", text), ErrorAction::Surface, "{text}");
        }
        assert_eq!(judged_for(&["EVAL", "…", "1", "key"], "MOVED", "3999 :0"), ErrorAction::Surface);
    }

    fn judged(code: &str, message: &str) -> ErrorAction {
        judged_for(&["GET", "key"], code, message)
    }

    fn judged_for(command: &[&str], code: &str, message: &str) -> ErrorAction {
        let error = ServerError { code: code.to_string(), message: message.to_string() };
        classify(&error, "10.0.0.1", &Command::new(command).unwrap())
    }

    /// What servers say, what is done about it, and whether the same is done when a script that
    /// writes says so.
    const SERVERS_ERRORS: &[(&str, ErrorAction, bool)] = &[
        ("TRYAGAIN Multiple keys request during rehashing of slot", WaitAndRetry, true),
        ("TRYAGAIN slot is migrating, retry later", WaitAndRetry, false),
        ("LOADING Redis is loading the dataset in memory", RefreshAndRetry, true),
        ("LOADING Valkey is loading the dataset in memory", RefreshAndRetry, true),
        ("LOADING Another is loading the dataset in memory", RefreshAndRetry, false),
        ("CLUSTERDOWN The cluster is down", RefreshAndRetry, true),
        ("CLUSTERDOWN The cluster is down and only accepts read commands", RefreshAndRetry, true),
        ("CLUSTERDOWN Hash slot not served", RefreshAndRetry, true),
        (
            "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
            RefreshAndRetry,
            true,
        ),
        (
            "MASTERDOWN Link with MASTER is down, replica-serve-stale-data is set to 'no' and 'allow-stale' \
             flag is not set on the script.",
            RefreshAndRetry,
            true,
        ),
        ("READONLY You can't write against a read only replica.", RefreshAndRetry, true),
        ("READONLY You can't write against a read only slave.", RefreshAndRetry, false),
        ("READONLY Can not run script with write flag on readonly replica", RefreshAndRetry, true),
        (
            "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)",
            RefreshAndRetry,
            false,
        ),
        (
            "UNBLOCKED force unblock from blocking operation, instance state changed (master -> slave?)",
            RefreshAndRetry,
            false,
        ),
        ("UNBLOCKED the stream key no longer exists", Surface, true),
        ("UNBLOCKED client unblocked via CLIENT UNBLOCK", Surface, true),
        ("UNBLOCKED", Surface, true),
        ("UNBLOCKED in a module's words", Surface, true),
        ("NOAUTH Authentication required.", Authentication, true),
        (
            "NOAUTH HELLO must be called with the client already authenticated, otherwise …",
            Authentication,
            false,
        ),
        ("NOPERM User ada has no permissions to run the 'get' command", Surface, true),
        ("NOPERM No permissions to access a key", Surface, true),
        ("WRONGPASS invalid username-password pair or user is disabled.", Surface, true),
        ("DENIED Redis is running in protected mode …", Surface, true),
        (
            "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
            Surface,
            true,
        ),
        (
            "BUSY Valkey is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE.",
            Surface,
            true,
        ),
        ("BUSY Redis is busy running a module command.", Surface, true),
        ("BUSYGROUP Consumer Group name already exists", Surface, true),
        ("BUSYKEY Target key name already exists.", Surface, true),
        ("MISCONF Redis is configured to save RDB snapshots, but it's currently unable …", Surface, true),
        ("MISCONF Errors writing to the AOF file: No space left on device", Surface, true),
        ("NOREPLICAS Not enough good replicas to write.", Surface, true),
        ("OOM command not allowed when used memory > 'maxmemory'.", Surface, true),
        ("OOM allow-oom flag is not set on the script, can not run it when used memory > …", Surface, true),
        ("NOTBUSY No scripts in execution right now.", Surface, true),
        ("UNKILLABLE Sorry the script already executed write commands against the dataset.", Surface, true),
        ("REDIRECT 10.0.0.1:6379", Surface, true),
        ("NOGROUP No such key 'x' or consumer group 'y'", Surface, true),
        ("EXECABORT Transaction discarded because of previous errors.", Surface, true),
        ("ERR LOADING", Surface, true),
        ("loading Redis is loading the dataset in memory", Surface, true),
    ];

    #[test]
    fn each_of_the_servers_errors_is_told_by_its_words() {
        for (text, action, of_scripts_too) in SERVERS_ERRORS {
            let (code, message) = text.split_once(' ').unwrap_or((text, ""));
            assert_eq!(&judged(code, message), action, "{text}");
            let error = ServerError { code: code.to_string(), message: message.to_string() };
            assert_eq!(passes(&error), *action != Surface, "{text}");
            let of_script = judged_for(&["FCALL", "f", "1", "key"], code, message);
            assert_eq!(&of_script, if *of_scripts_too { action } else { &Surface }, "{text}");
        }
        let named = "You can't write against a read only replica. script: 4ca2…, on @user_script:1.";
        assert_eq!(judged_for(&["EVAL", "…", "1", "key"], "READONLY", named), RefreshAndRetry);
    }

    #[test]
    fn a_script_that_writes_cannot_ask_to_be_run_again() {
        let script = ["EVAL", "…", "1", "key"];
        let own = Slot::of_key(b"key").number();
        let moved = |slot: u16| judged_for(&script, "MOVED", &format!("{slot} 10.0.0.2:6381"));
        assert!(matches!(moved(own), ErrorAction::FollowMoved(..)));
        assert_eq!(moved(own + 1), ErrorAction::Surface);
        assert_eq!(judged_for(&script, "TRYAGAIN", "made up"), ErrorAction::Surface);
        let words = "Multiple keys request during rehashing of slot";
        assert_eq!(judged_for(&script, "TRYAGAIN", words), ErrorAction::WaitAndRetry);
        assert_eq!(judged_for(&["EVAL_RO", "…", "1", "key"], "TRYAGAIN", "x"), ErrorAction::WaitAndRetry);
    }

    #[test]
    fn a_redirect_for_another_slot_is_not_followed() {
        let own = Slot::of_key(b"key").number();
        for code in ["MOVED", "ASK"] {
            let judged = |command: &[&str], slot: u16| {
                let text = format!("{slot} 10.0.0.2:6381");
                judged_for(command, code, &text) != ErrorAction::Surface
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
            let command =
                Command::transaction(&[words.to_vec()], &crate::cluster::Scripts::default()).unwrap();
            let error = ServerError { code: "MOVED".into(), message: format!("{own} 10.0.0.2:6381") };
            classify(&error, "", &command) != ErrorAction::Surface
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
            ErrorAction::FollowMoved(slot, NodeAddr::new("10.0.0.2", 6381))
        );
        assert_eq!(
            judged("MOVED", "3999 :6381"),
            ErrorAction::FollowMoved(slot, NodeAddr::new("10.0.0.1", 6381))
        );
        assert_eq!(
            judged("MOVED", "3999 ?:6381"),
            ErrorAction::FollowMoved(slot, NodeAddr::new("10.0.0.1", 6381))
        );
        assert_eq!(judged("ASK", "3999 ::1:6381"), ErrorAction::FollowAsk(slot, NodeAddr::new("::1", 6381)));
    }

    #[test]
    fn what_cannot_be_followed_surfaces() {
        for message in
            ["", "3999", "16384 10.0.0.2:6381", "x 10.0.0.2:6381", "3999 10.0.0.2", "3999 10.0.0.2:x"]
        {
            assert_eq!(judged("MOVED", message), ErrorAction::Surface, "{message}");
        }
        for host in
            ["\x1b[2J", "a\u{9b}b", "a\tb", "b\u{fc}cher.example", "user@a", "a/b", "?a", &"a".repeat(254)]
        {
            assert_eq!(judged("MOVED", &format!("3999 {host}:6381")), ErrorAction::Surface, "{host}");
            assert_eq!(judged("ASK", &format!("3999 {host}:6381")), ErrorAction::Surface, "{host}");
        }
        assert_eq!(judged("WRONGTYPE", "…"), ErrorAction::Surface);
        assert_eq!(judged("ERR", "MOVED 3999 10.0.0.2:6381"), ErrorAction::Surface);
    }
}
