//! Users who may do less than the client would like: it works for them all the same, or says why in
//! one sentence.
//!
//! Each user of a real cluster lacks one of the commands that the client sends of its own accord.
//! Reads may go to replicas, and a slot is left on the move, so that READONLY and ASKING are sent,
//! too.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use keyslot::{Client, Error, ReplicaReads};
use keyslot_core::slot::Slot;
use keyslot_testcluster::TestCluster;
use keyslot_tests::{PROTOCOLS, options};

/// What a user may not call, and the word that an error has for it where the client cannot do
/// without.
const USERS: [(&str, Option<&str>); 8] = [
    ("hello", None),
    ("client", None),
    ("cluster", Some("NOPERM")),
    ("info", None),
    ("asking", None),
    ("readonly", None),
    ("ping", None),
    ("command", None),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_user_without_one_command_is_served_or_told_why() -> Result<()> {
    let cluster = TestCluster::start(3, 1)?;
    for node in 0..cluster.nodes().len() {
        let mut admin = cluster.connection(node)?;
        for (command, _) in USERS {
            let (user, refused) = (format!("no-{command}"), format!("-{command}"));
            admin.ok(&["ACL", "SETUSER", &user, "on", ">secret", "~*", "&*", "+@all", &refused])?;
        }
    }
    for protocol in PROTOCOLS {
        for (command, reason) in USERS {
            let given = options(&cluster.urls(), protocol)
                .username(format!("no-{command}"))
                .password("secret")
                .replica_reads(ReplicaReads::PreferReplica)
                .request_timeout(Duration::from_secs(5));
            let started = Instant::now();
            let client = Client::connect(given).await;
            if let Some(reason) = reason {
                let error = client.err().with_context(|| format!("{command} can be done without"))?;
                let text = error.to_string();
                ensure!(text.contains(reason) && text.lines().count() == 1, "{command}: {text}");
                ensure!(started.elapsed() < Duration::from_secs(6), "{command}: {:?}", started.elapsed());
                continue;
            }
            let client = client.with_context(|| format!("without {command}"))?;
            for number in 0..30 {
                let key = format!("{command}:{number}");
                client.execute(["SET", &key, "a"]).await.with_context(|| format!("SET without {command}"))?;
                client.execute(["GET", &key]).await.with_context(|| format!("GET without {command}"))?;
            }
            for report in client.health().await? {
                ensure!(report.answer.is_ok(), "without {command}: {report:?}");
            }
            client.close().await;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_asking_is_the_requests_error() -> Result<()> {
    let cluster = TestCluster::start(3, 0)?;
    for node in 0..cluster.nodes().len() {
        let mut admin = cluster.connection(node)?;
        admin.ok(&["ACL", "SETUSER", "app", "on", ">secret", "~*", "&*", "+@all", "-asking"])?;
    }
    let slot = Slot::of_key(b"moving").number();
    let from = cluster.node_of_slot(slot)?;
    cluster.start_slot_migration(slot, from, (from + 1) % 3)?;
    for protocol in PROTOCOLS {
        let given = options(&cluster.urls(), protocol).username("app").password("secret");
        let client = Client::connect(given).await?;
        let error = client.execute(["SET", "moving", "a"]).await;
        ensure!(matches!(&error, Err(Error::Server(error)) if error.code == "NOPERM"), "{error:?}");
    }
    Ok(())
}
