//! What is judged when the load has ended.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use keyslot::{Client, Reply};
use keyslot_core::slot::Slot;
use keyslot_terminal::table::grouped;
use keyslot_testcluster::TestCluster;

use crate::faults::{Log, RECOVERY_MAX};
use crate::large::LargeValue;
use crate::level::{self, Tolerance};
use crate::load::{Complaints, Counter, Shared};
use crate::record::{Outcome, Sample, Verdict};
use crate::report::mebibytes;

/// By how much this process's memory, the component's included, may still grow: the allocator keeps
/// what peaks have left.
const RESIDENT: Tolerance = Tolerance { percent: 10, amount: 8 << 20 };
/// The component's memory grows by whole pages and never shrinks.
const GUEST: Tolerance = Tolerance { percent: 5, amount: 1 << 20 };
/// The faults' own connections are counted, too, while they are open.
const SOCKETS: Tolerance = Tolerance { percent: 0, amount: 3 };

/// How long a call may wait for its turn, which its time-out does not count, on a machine that does
/// other things, too.
const TURN_MAX: Duration = Duration::from_secs(4);

/// How long one counter may take to be read: the cluster is whole again.
const READ_MAX: Duration = Duration::from_secs(10);

/// Compares each counter with what was acknowledged: once as its node has it, once as the client
/// reads it.
pub(crate) async fn counters(
    cluster: &TestCluster,
    client: &Client,
    counters: &[Counter],
) -> anyhow::Result<(Verdict, Vec<String>)> {
    let mut complaints = Vec::new();
    for counter in counters {
        let owner = cluster.node_of_slot(Slot::of_key(counter.key.as_bytes()).number())?;
        let reply = cluster.connection(owner)?.call(&["GET", &counter.key])?;
        let stored = match reply.nodes.first() {
            Some(keyslot_core::resp::ReplyNode::BulkString(bytes)) => {
                std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok())
            }
            // Nobody has counted yet.
            _ => Some(0),
        };
        let stored: u64 = stored.with_context(|| format!("{} is no number: {reply:?}", counter.key))?;
        let read = read(client, &counter.key).await;
        if !counter.admits(stored) || read.as_ref().ok() != Some(&stored) {
            let (least, most) = (counter.acknowledged, counter.acknowledged + counter.possibly_executed);
            let read = read.map_or_else(|error| error, |value| value.to_string());
            complaints
                .push(format!("{} is {stored}, read as {read}; it has to be {least} to {most}", counter.key));
        }
    }
    let sum = |of: fn(&Counter) -> u64| counters.iter().map(of).sum::<u64>();
    let evidence = format!(
        "{} acknowledged and {} possibly executed; {} of {} counters do not fit",
        grouped(sum(|counter| counter.acknowledged)),
        grouped(sum(|counter| counter.possibly_executed)),
        complaints.len(),
        counters.len()
    );
    Ok((
        verdict("no acknowledged INCR is lost, none runs twice", complaints.is_empty(), evidence),
        complaints,
    ))
}

/// Compares each large value with what was acknowledged.
pub(crate) async fn large_values(client: &Client, values: &mut [LargeValue]) -> (Verdict, Vec<String>) {
    let mut complaints = Vec::new();
    for value in values.iter_mut() {
        let judged = match get(client, &value.key).await {
            Ok(reply) => value.judge(reply.as_bytes()),
            Err(error) => Err(format!("{} could not be read: {error}", value.key)),
        };
        complaints.extend(judged.err());
    }
    let evidence = format!("{} of {} values do not fit", complaints.len(), values.len());
    (verdict("no large value is lost, cut or mixed up", complaints.is_empty(), evidence), complaints)
}

/// The counter's value by the client, tried again for a while.
async fn read(client: &Client, key: &str) -> Result<u64, String> {
    let reply = get(client, key).await?;
    if reply.is_null() {
        return Ok(0);
    }
    let value = reply.as_str().and_then(|text| text.parse().ok());
    value.ok_or_else(|| format!("{reply:?}"))
}

/// Reads a key, again and again for a while.
async fn get(client: &Client, key: &str) -> Result<Reply, String> {
    let started = Instant::now();
    loop {
        match client.execute(["GET", key]).await {
            Ok(reply) => return Ok(reply),
            Err(error) if started.elapsed() > READ_MAX => return Err(error.to_string()),
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// The promises about replies and calls. `hanging` is how many tasks did not end.
pub(crate) fn calls(shared: &Shared, log: &Log, hanging: usize, request_timeout: Duration) -> Vec<Verdict> {
    let checked = shared.checked.load(std::sync::atomic::Ordering::SeqCst);
    let faults = log.done();
    let slowest =
        faults.iter().filter_map(|fault| Some(fault.last_error? - fault.agreed)).fold(0.0, f64::max);
    let seconds = RECOVERY_MAX.as_secs();
    let (slowest_call, call_max) = (shared.meter.slowest(), request_timeout + TURN_MAX);
    vec![
        of_complaints("every reply is its command's", &shared.wrong, |wrong| {
            format!("{wrong} of {} replies were wrong", grouped(checked))
        }),
        of_complaints("no error but those of faults", &shared.unexpected, |count| {
            format!("{count} errors of other kinds")
        }),
        verdict("every call ends", hanging == 0, format!("{hanging} callers were still waiting at the end")),
        verdict(
            "every call ends in time",
            slowest_call <= call_max,
            format!("the slowest took {slowest_call:.1?} (at most {call_max:.1?})"),
        ),
        of_complaints("all is answered again after a fault", &log.unrecovered, |not| match not {
            0 => format!("at most {slowest:.1} s after the cluster agreed (at most {seconds} s)"),
            _ => format!("not within {seconds} s of {not} of {} faults", faults.len()),
        }),
    ]
}

/// The promises that something levels off.
pub(crate) fn levels(samples: &[Sample]) -> Vec<Verdict> {
    let column = |of: fn(&Sample) -> Option<u64>| samples.iter().map(of).collect::<Vec<_>>();
    vec![
        level::judge(
            "the process's memory levels off",
            &column(|sample| sample.resident),
            &RESIDENT,
            mebibytes,
        ),
        level::judge("the component's memory levels off", &column(|sample| sample.guest), &GUEST, mebibytes),
        level::judge("open sockets level off", &column(|sample| sample.sockets), &SOCKETS, grouped),
    ]
}

fn of_complaints(
    promise: &'static str,
    complaints: &Complaints,
    evidence: impl Fn(u64) -> String,
) -> Verdict {
    let count = complaints.count();
    verdict(promise, count == 0, evidence(count))
}

fn verdict(promise: &'static str, held: bool, evidence: String) -> Verdict {
    Verdict { promise, outcome: if held { Outcome::Held } else { Outcome::Broken }, evidence }
}
