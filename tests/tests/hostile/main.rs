//! Servers that do anything but what is right: no request takes longer than its time-out and a
//! second, none gets another answer than the documented one, and the component's memory stays
//! within the case's bound. Afterwards the same client, or a new one where it could not connect, is
//! served by the same cluster, which is good by then.
//!
//! Each case is an entry of a table (`decoder`, `shapes`, `topology`, `redirects`, `texts`,
//! `life`): a script for the cluster, what the client does, and what must come of it. Cases run
//! beside each other, but those that are marked as heavy run alone. All failures are told together,
//! each with its case's name; `--nocapture` shows a table of all cases with times and memory.

mod case;
mod decoder;
mod deed;
mod life;
mod redirects;
mod shapes;
mod texts;
mod topology;

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Result, ensure};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use case::{Case, Seen};

/// How many cases run at the same time. Most of them wait most of the time.
const AT_ONCE: usize = 8;
/// The issue of such a test is its breadth: no fewer than this.
const CASES_MIN: usize = 100;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_a_server_sends_holds_the_client_up() -> Result<()> {
    let cases: Vec<Case> = [
        decoder::cases(),
        shapes::cases(),
        topology::cases(),
        redirects::cases(),
        texts::cases(),
        life::cases(),
    ]
    .into_iter()
    .flatten()
    .collect();
    let names: BTreeSet<_> = cases.iter().map(|case| case.name).collect();
    ensure!(names.len() == cases.len(), "two cases have one name");
    ensure!(cases.len() >= CASES_MIN, "only {} cases", cases.len());
    // One case alone, to look into it: its name, or a part of it.
    let wanted = std::env::var("KEYSLOT_HOSTILE_CASE").unwrap_or_default();
    let (heavy, light): (Vec<_>, Vec<_>) =
        cases.into_iter().filter(|case| case.name.contains(&wanted)).partition(|case| case.is_heavy);

    let mut rows = Vec::new();
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut running = JoinSet::new();
    for case in light {
        let places = Arc::clone(&places);
        running.spawn(async move {
            let _place = places.acquire_owned().await;
            let seen = case.run().await;
            (case, seen)
        });
    }
    while let Some(ended) = running.join_next().await {
        rows.push(ended?);
    }
    // What took too long among others, on a machine of few cores, is measured alone: a stall comes
    // back.
    for (case, seen) in &mut rows {
        if seen.is_late(case) {
            *seen = case.run().await;
        }
    }
    for case in heavy {
        let seen = case.run().await;
        rows.push((case, seen));
    }

    rows.sort_by_key(|(case, _)| case.name);
    println!("{}", Seen::HEAD);
    for (case, seen) in &rows {
        println!("{}", seen.row(case));
    }
    let failures: Vec<String> = rows.iter().filter_map(|(case, seen)| seen.failure(case)).collect();
    ensure!(failures.is_empty(), "{} of {} cases:\n{}", failures.len(), rows.len(), failures.join("\n"));
    Ok(())
}
