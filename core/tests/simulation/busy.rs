//! What is said to a node that runs a script: what ends the script does not wait behind it.

use std::time::Duration;

use keyslot_core::cluster::RequestId;
use keyslot_core::error::Error;
use keyslot_core::resp::ReplyNode;

use crate::lab::*;
use crate::simulator::busy::LongScripts;
use crate::simulator::server::Dialect;
use crate::simulator::world::MILLISECOND;

/// A node answers BUSY after so long.
const THRESHOLD: u64 = 20 * MILLISECOND;

fn run_scripts(lab: &mut Lab, threshold: u64) {
    for node in &mut lab.servers.nodes {
        node.manners.scripts = Some(LongScripts::after(threshold));
    }
}

/// A script that runs at node 0, and reads behind it.
fn lab_with_script(dialect: Dialect) -> (Lab, RequestId, Vec<RequestId>) {
    let mut lab = lab_with(dialect, |config, _| {
        config.request_timeout = Duration::from_secs(4);
        config.attempt_timeout = Some(Duration::from_secs(4));
    });
    run_scripts(&mut lab, THRESHOLD);
    let script = submit(&mut lab, &format!("EVAL loop 1 {}", key_at(0, 'i')));
    let reads = (0..3).map(|_| submit(&mut lab, &format!("GET {}", key_at(0, 'g')))).collect();
    wait(&mut lab, 2 * THRESHOLD);
    assert_eq!(lab.outcome(script), None, "it runs");
    (lab, script, reads)
}

fn killed(lab: &mut Lab, script: RequestId, reads: Vec<RequestId>) {
    let ended = outcome(lab, script);
    assert!(
        matches!(&ended, Err(Error::Server(error)) if error.message.contains("Script killed")),
        "{ended:?}"
    );
    for read in reads {
        assert_eq!(outcome(lab, read), bulk("g:7"), "nobody else has lost anything");
    }
    assert_eq!(lab.cluster.pending(), 0);
}

#[test]
fn a_script_is_killed_from_another_connection() {
    for hello in [true, false] {
        let (mut lab, script, reads) = lab_with_script(Dialect { hello, ..Dialect::modern() });
        let (started, before) = (lab.now(), lab.open_conns(Some(0)).len());
        assert_eq!(run(&mut lab, "SCRIPT KILL"), ok());
        let took = Duration::from_nanos(lab.now() - started);
        assert!(took.as_millis() < 100, "{took:?}");
        killed(&mut lab, script, reads);
        assert_eq!(lab.open_conns(Some(0)).len(), before + 1);
        // There is nothing to go around.
        let refused = run(&mut lab, "SCRIPT KILL");
        assert!(matches!(&refused, Err(Error::Server(error)) if error.code == "NOTBUSY"), "{refused:?}");
        assert_eq!(lab.open_conns(Some(0)).len(), before + 1);
    }
}

#[test]
fn a_node_that_runs_a_script_says_so_and_is_not_held_up() {
    let (mut lab, script, reads) = lab_with_script(Dialect::modern());
    let (started, mark) = (lab.now(), lab.sent().len());
    let stats = lab.submit_to(0, &words("FUNCTION STATS"), None);
    lab.drain();
    let stats = outcome(&mut lab, stats).unwrap();
    assert_eq!(stats.nodes[2], ReplyNode::BulkString("f".into()));
    // The next goes over the same connection.
    let kill = lab.submit_to(0, &words("SCRIPT KILL"), None);
    lab.drain();
    assert_eq!(outcome(&mut lab, kill), ok());
    assert!(lab.now() - started < 100 * MILLISECOND);
    assert!(sent_since(&lab, mark).iter().all(|(node, _)| *node == 0));
    killed(&mut lab, script, reads);
}

#[test]
fn a_script_is_killed_before_its_node_answers_anybody() {
    let mut lab = lab();
    run_scripts(&mut lab, 300 * MILLISECOND);
    let script = submit(&mut lab, &format!("EVAL loop 1 {}", key_at(0, 'i')));
    wait(&mut lab, 10 * MILLISECOND);
    let started = lab.now();
    assert_eq!(run(&mut lab, "SCRIPT KILL"), ok());
    assert!(lab.now() - started < 350 * MILLISECOND);
    killed(&mut lab, script, Vec::new());
}

#[test]
fn what_ends_a_script_is_not_held_in_the_order_of_a_slot() {
    let mut lab = lab();
    // The shard is found by its first slot, whose commands wait for one that is sent again.
    let key = (0..).map(|tag| format!("{{t{tag}}}:g:7")).find(|key| slot_of(key) == 0).unwrap();
    lab.servers.nodes[0].lies.insert(0, "TRYAGAIN Multiple keys request during rehashing of slot".into());
    let waits = submit(&mut lab, &format!("GET {key}"));
    wait(&mut lab, 5 * MILLISECOND);
    run_scripts(&mut lab, THRESHOLD);
    let script = submit(&mut lab, &format!("EVAL loop 1 {}", key_at(0, 'i')));
    wait(&mut lab, 2 * THRESHOLD);
    lab.servers.nodes[0].lies.clear();
    let started = lab.now();
    assert_eq!(run(&mut lab, "SCRIPT KILL"), ok());
    assert!(lab.now() - started < 100 * MILLISECOND);
    assert_eq!(outcome(&mut lab, waits), bulk("g:7"));
    killed(&mut lab, script, Vec::new());
}
