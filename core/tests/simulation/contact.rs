//! When no node can be asked for the topology, all are dialled. That ends when there is one to ask.

use std::time::Duration;

use crate::lab::{Lab, bulk, crash, key_at, lab_with, ok, run, wait};
use crate::simulator::server::{Dialect, Reach};
use crate::simulator::world::{MILLISECOND, SECOND};

/// Asks the first node now and then for so many seconds.
fn use_first_node(lab: &mut Lab, seconds: u64) {
    for _ in 0..4 * seconds {
        assert_eq!(run(lab, &format!("GET {}", key_at(0, 'g'))), bulk("7"));
        wait(lab, 250 * MILLISECOND);
    }
}

fn connections(lab: &Lab) -> [usize; 3] {
    [0, 1, 2].map(|node| lab.open_conns(Some(node)).len())
}

/// Connections that are too old go, and come again when they are needed. After an outage of all
/// nodes, too.
#[test]
fn nodes_that_nobody_asks_are_left_alone_once_there_is_one_to_ask() {
    for outage in [false, true] {
        let mut lab = lab_with(Dialect::modern(), |config, _| {
            config.pool.lifetime_max = Duration::from_secs(2);
            config.refresh_interval = Duration::from_secs(3_600);
        });
        assert_eq!(run(&mut lab, &format!("SET {} 7", key_at(0, 'g'))), ok());
        if outage {
            (0..3).for_each(|node| crash(&mut lab, node));
            assert!(run(&mut lab, &format!("GET {}", key_at(0, 'g'))).is_err());
            (0..3).for_each(|node| lab.servers.nodes[node].reach = Reach::Up);
            wait(&mut lab, 5 * SECOND);
        }
        use_first_node(&mut lab, 8);
        // The one that is used may just have become too old.
        assert_eq!(run(&mut lab, &format!("GET {}", key_at(0, 'g'))), bulk("7"));
        assert_eq!(connections(&lab), [1, 0, 0], "outage: {outage}");
    }
}
